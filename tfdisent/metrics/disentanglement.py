"""How well content and style are kept apart, measured from codes, factors and predictions alone.

DRAI is Havaei et al., Conditional generation of medical images via disentangled adversarial inference,
https://arxiv.org/abs/2012.04764.
"""

from typing import NamedTuple

import numpy as np


def cross_image_feature_consistency(
    content_a: np.ndarray,
    content_aa: np.ndarray,
    style_a: np.ndarray,
    style_aa: np.ndarray,
    content_b: np.ndarray,
    content_bb: np.ndarray,
    style_b: np.ndarray,
    style_bb: np.ndarray,
) -> dict[str, float]:
    """Cross-image feature consistency (CIFC), an error of pairs of images (I_a, I_b); 0 is perfect.

    Hybrids `I_ab = G(c_a, z_b)` and `I_ba = G(c_b, z_a)` are encoded again and swapped back,
    `I_aa = G(c(I_ab), z(I_ba))` and `I_bb = G(c(I_ba), z(I_ab))`; then (DRAI, Eq. 19)

        CIFC = E_(a,b) |z_a - z_aa| + |c_a - c_aa| + |z_b - z_bb| + |c_b - c_bb|

    where c and z are the inferred codes. The paper does not name its norm: here |.| is the mean absolute difference
    over a code's entries. It scales with the codes (codes that collapse to a point score 0), so report the relative
    value beside it.

    Args:
        content_a, content_b: (N, C), codes of the originals; pairs drawn at random.
        content_aa, content_bb: (N, C), codes of the reconstructions.
        style_a, style_b, style_aa, style_bb: (N, S), the style codes of the same images.

    Returns:
        value: CIFC.
        std: its standard deviation over pairs.
        relative: CIFC divided by what it would be if I_aa were I_b and I_bb were I_a, so 1 is as bad as another image's
            codes; nan when all codes are one point.
        content, style: the two codes' shares of `value`.

    Raises:
        ValueError: shapes do not match or values are not finite.
    """
    content_a, content_aa, content_b, content_bb = _same_shape(
        content_a=content_a, content_aa=content_aa, content_b=content_b, content_bb=content_bb
    )
    style_a, style_aa, style_b, style_bb = _same_shape(
        style_a=style_a, style_aa=style_aa, style_b=style_b, style_bb=style_bb
    )
    if len(content_a) != len(style_a):
        raise ValueError(
            f"Expected as many content codes as style codes, received {len(content_a)} and {len(style_a)}."
        )
    content = _distance(content_a, content_aa) + _distance(content_b, content_bb)
    style = _distance(style_a, style_aa) + _distance(style_b, style_bb)
    pairs = content + style
    other = 2 * np.mean(_distance(content_a, content_b) + _distance(style_a, style_b))
    return {
        "value": float(pairs.mean()),
        "std": float(pairs.std()),
        "relative": float(pairs.mean() / other) if other > 0 else float("nan"),
        "content": float(content.mean()),
        "style": float(style.mean()),
    }


def distance_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Distance correlation of two sets of codes, in [0, 1].

    It is 0 for independent codes and 1 for codes that are equal up to a shift, a rotation and a scale. It detects
    nonlinear dependence, also between codes of different widths (Szekely, Rizzo and Bakirov 2007, Def. 3-5,
    https://arxiv.org/abs/0803.4101). This is the V-statistic: at finite N it is above 0 for independent codes too, the
    more so the wider they are. Takes N x N memory (200 MB at N = 5000).

    Args:
        a: (N, A) or (N,).
        b: (N, B) or (N,).

    Returns:
        The correlation; 0 when one side is constant.

    Raises:
        ValueError: lengths differ, fewer than 2 rows, or values are not finite.
    """
    a, b = _columns("a", a), _columns("b", b)
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"Expected a and b to have the same length, 2 or more, received {len(a)} and {len(b)}.")
    a, b = _centred(_distances(a)), _centred(_distances(b))
    variances = np.mean(a * a) * np.mean(b * b)
    if variances <= 0:
        return 0.0
    return float(np.sqrt(max(np.mean(a * b), 0.0) / np.sqrt(variances)))


class Dependence(NamedTuple):
    """How far two sets of codes depend on each other, beside what sets that do not depend score by chance.

    Attributes:
        correlation: bias-corrected distance correlation, in [-1, 1]; about 0 for independent sets of any width, and
            below 0 by chance.
        floor: the 95th percentile of it over permutations, which break any dependence; below it, there is no evidence.
        p: share of the permutations, the identity among them, that score as much or more.
        uncorrected: `distance_correlation`, as papers print it.
        uncorrected_floor: its mean over the same permutations: what it would be of independent sets.
    """

    correlation: float
    floor: float
    p: float
    uncorrected: float
    uncorrected_floor: float


def dependence(a: np.ndarray, b: np.ndarray, *, permutations: int = 200, seed: int = 0) -> Dependence:
    """Distance correlation without its bias, and its floor.

    Szekely and Rizzo, Partial distance correlation with methods for dissimilarities, Annals of Statistics 2014, Sec. 2,
    https://arxiv.org/abs/1310.2926: of distances that are centred so that their mean products have no bias it estimates
    the square of the distance correlation. Given here is the root of it with its sign, on the scale of
    `distance_correlation`, which for wide codes and few of them is near 1 whatever they are. Takes N x N memory.

    Args:
        a: (N, A) or (N,), N >= 4.
        b: (N, B) or (N,).
        permutations: of b against a.
        seed: of the permutations.

    Returns:
        All 0, and p = 1, where a side has no distances: it is constant.

    Raises:
        ValueError: lengths differ, fewer than 4 rows, or values are not finite.
    """
    a, b = _columns("a", a), _columns("b", b)
    if len(a) != len(b) or len(a) < 4:
        raise ValueError(f"Expected a and b to have the same length, 4 or more, received {len(a)} and {len(b)}.")
    a, b = _distances(a), _distances(b)
    draw = np.random.default_rng(seed)
    orders = [np.arange(len(a)), *(draw.permutation(len(a)) for _ in range(permutations))]
    scores = {}
    for name, centred in (("corrected", _unbiased), ("uncorrected", _centred)):
        x, y = centred(a), centred(b)
        scale = np.sqrt(np.sum(x * x) * np.sum(y * y))
        if scale <= 1e-12 * max(1.0, np.sum(a * a) * np.sum(b * b)) ** 0.5:
            return Dependence(0.0, 0.0, 1.0, 0.0, 0.0)
        squares = np.array([np.sum(x * y[np.ix_(order, order)]) for order in orders]) / scale
        scores[name] = np.sign(squares) * np.sqrt(np.abs(squares))
    corrected, uncorrected = scores["corrected"], scores["uncorrected"]
    chance = slice(1, None) if permutations else slice(None)
    return Dependence(
        correlation=float(corrected[0]),
        floor=float(np.quantile(corrected[chance], 0.95)),
        p=float(np.mean(corrected >= corrected[0] - 1e-12)),
        uncorrected=float(uncorrected[0]),
        uncorrected_floor=float(uncorrected[chance].mean()),
    )


def information_over_bias(
    codes: np.ndarray, values: np.ndarray, test_codes: np.ndarray, test_values: np.ndarray
) -> float:
    """How much more of an image a decoder makes from a code than from a constant: 1 is nothing, more is better.

    Information over bias (IOB) of Liu, Thermos, Valvano, Chartsias, O'Neil and Tsaftaris, Measuring the biases and
    effectiveness of content-style disentanglement, BMVC 2021, https://arxiv.org/abs/2008.12378: the mean squared error
    on test images of a decoder that is trained on ones in place of the code, over that of the same decoder trained on
    the code. Their public code trains convolutional networks. Here

    * the decoder is ridge regression, whose penalty is chosen by leaving one training row out: it takes seconds, and
      has neither a length of training nor a seed that results could depend on;
    * the decoder of ones is the mean of the training values, which is the best that a constant input allows.

    Values are therefore to be compared among models that are measured here, not with the paper's.

    Args:
        codes: (N, F), of training; what the decoder sees of an image, or of a pixel of it.
        values: (N, P) or (N,), what it is to make.
        test_codes: (T, F).
        test_values: (T, P) or (T,).

    Returns:
        The ratio; infinite where the code tells all.

    Raises:
        ValueError: shapes do not match, values are not finite, or the test values are what the constant gives.
    """
    from sklearn.linear_model import RidgeCV

    codes, values = _columns("codes", codes), _columns("values", values)
    test_codes, test_values = _columns("test_codes", test_codes), _columns("test_values", test_values)
    shapes = [one.shape for one in (codes, values, test_codes, test_values)]
    if (
        len(codes) != len(values)
        or len(test_codes) != len(test_values)
        or shapes[:2]
        != [
            (len(codes), test_codes.shape[1]),
            (len(codes), test_values.shape[1]),
        ]
    ):
        raise ValueError(f"Expected codes with values, and test ones of the same widths, received shapes {shapes}.")
    mean = values.mean(axis=0)
    bias = np.mean((test_values - mean) ** 2)
    if bias <= 0:
        raise ValueError("Expected test values that differ from the training values' mean, received none.")
    train = np.arange(len(codes))
    scaled = _standardised(np.concatenate([codes, test_codes]), train)
    decoder = RidgeCV(alphas=np.logspace(-3, 5, 9)).fit(scaled[train], values - mean)
    made = mean + decoder.predict(scaled[len(codes) :]).reshape(test_values.shape)
    error = np.mean((test_values - made) ** 2)
    return float(bias / error) if error > 0 else float("inf")


def coefficient_of_determination(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns R^2, the coefficient of determination, per column, and its mean over columns.

    `1 - sum (true - predicted)^2 / sum (true - mean)^2`: 1 is perfect, 0 is as good as the mean, negative is worse.

    Args:
        true: (N, F) or (N,).
        predicted: the same shape.

    Raises:
        ValueError: shapes differ, values are not finite, or a column of `true` is constant, where R^2 is undefined.
    """
    true, predicted = _regression_pair(true, predicted)
    residual = np.sum((true - predicted) ** 2, axis=0)
    scores = 1.0 - residual / np.sum((true - true.mean(axis=0)) ** 2, axis=0)
    return scores, float(scores.mean())


def squared_correlation(true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the squared Pearson correlation per column, in [0, 1], and its mean over columns.

    It is insensitive to offset, scale and sign. A constant column of `predicted` scores 0.

    Args:
        true: (N, F) or (N,).
        predicted: the same shape.

    Raises:
        ValueError: as for `coefficient_of_determination`.
    """
    true, predicted = _regression_pair(true, predicted)
    true, predicted = true - true.mean(axis=0), predicted - predicted.mean(axis=0)
    spread = np.sum(true**2, axis=0) * np.sum(predicted**2, axis=0)
    covariance = np.sum(true * predicted, axis=0)
    scores = np.divide(covariance**2, spread, out=np.zeros_like(spread), where=spread > 0)
    return scores, float(scores.mean())


def linear_probe_accuracy(
    codes: np.ndarray, labels: np.ndarray, *, seed: int = 0, train: np.ndarray | None = None
) -> float:
    """Returns the accuracy with which logistic regression predicts the label from a code, in [0, 1].

    It is fitted on one half and scored on the other; the halves are stratified by label, unless `train` says which is
    which. Chance is the share of the most frequent label.

    Args:
        codes: (N, D).
        labels: (N,) integers, 2 or more of each label that occurs.
        seed: seed of the split.
        train: (N,) bool, the codes to fit on, with two labels or more; the others are scored. For codes that must not
            be on both sides, as those of one subject.

    Raises:
        ValueError: lengths differ, values are not finite, or without `train` a label occurs once.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    codes, labels = _columns("codes", codes), np.asarray(labels)
    if labels.shape != (len(codes),):
        raise ValueError(f"Expected labels to have shape ({len(codes)},), one per code, received {labels.shape}.")
    if train is None:
        values, counts = np.unique(labels, return_counts=True)
        if len(values) < 2 or counts.min() < 2:
            raise ValueError(
                f"Expected two labels or more for a probe, each twice or more, received labels {values.tolist()}, "
                f"{counts.tolist()} times."
            )
        fitted, scored = train_test_split(np.arange(len(codes)), test_size=0.5, stratify=labels, random_state=seed)
    else:
        fitted, scored = np.flatnonzero(train), np.flatnonzero(~train)
    codes = _standardised(codes, fitted)
    probe = LogisticRegression(max_iter=5000).fit(codes[fitted], labels[fitted])
    return float(probe.score(codes[scored], labels[scored]))


def linear_probe_r2(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, float]:
    """Returns R^2 of ridge regression of each factor from a code, per factor, and the mean.

    It is fitted on one half and scored on the other; the ridge is chosen in the first half by leave-one-out.

    Args:
        codes: (N, D), N >= 4.
        factors: (N, F) or (N,).
        seed: seed of the split.

    Raises:
        ValueError: lengths differ, values are not finite, or a factor is constant in the second half.
    """
    from sklearn.linear_model import RidgeCV

    codes, factors = _columns("codes", codes), _columns("factors", factors)
    if len(codes) != len(factors) or len(codes) < 4:
        raise ValueError(
            f"Expected codes and factors to have the same length, 4 or more, received {len(codes)} and {len(factors)}."
        )
    train, test = np.array_split(np.random.default_rng(seed).permutation(len(codes)), 2)
    codes = _standardised(codes, train)
    probe = RidgeCV(alphas=np.logspace(-3, 4, 15)).fit(codes[train], factors[train])
    return coefficient_of_determination(factors[test], probe.predict(codes[test]).reshape(len(test), -1))


def _columns(name: str, values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"Expected {name} to be finite and (N, D) or (N,), received shape {values.shape}, "
            f"{np.count_nonzero(~np.isfinite(values))} values not finite."
        )
    return values


def _same_shape(**codes) -> list[np.ndarray]:
    arrays = {name: _columns(name, values) for name, values in codes.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Expected codes of one kind to have one shape, received {shapes}.")
    return list(arrays.values())


def _regression_pair(true, predicted) -> tuple[np.ndarray, np.ndarray]:
    true, predicted = _same_shape(true=true, predicted=predicted)
    constant = np.flatnonzero(np.ptp(true, axis=0) == 0)
    if len(constant):
        raise ValueError(
            f"Column {constant[0]} of the true values is constant over {len(true)} rows: there is nothing to explain. "
            "Leave it out."
        )
    return true, predicted


def _standardised(codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    std = codes[train].std(axis=0)
    return (codes - codes[train].mean(axis=0)) / np.where(std > 0, std, 1.0)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.mean(np.abs(a - b), axis=1)


def _distances(points: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(points, points)


def _centred(distances: np.ndarray) -> np.ndarray:
    mean = distances.mean(axis=0)
    return distances - mean - mean[:, None] + mean.mean()


def _unbiased(distances: np.ndarray) -> np.ndarray:
    """Centred so that the mean of products of two of them over N (N - 3) is an unbiased distance covariance."""
    count, total = len(distances), distances.sum(axis=0)
    centred = distances - (total + total[:, None]) / (count - 2) + total.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(centred, 0.0)
    return centred
