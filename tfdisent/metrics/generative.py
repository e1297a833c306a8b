"""Quality of generated images, from features and logits of a classifier of real images.

Fréchet distance, kernel distance and Inception score are computed by TF-GAN in float64; the protocol is that of Havaei
et al. (DRAI, https://arxiv.org/abs/2012.04764), Sec. III-C. Values can be compared only between runs with the same
classifier (`tfdisent.downstream.judge`) and the same number of images: the Fréchet distance between two samples of one
distribution is not 0, but falls as 1 / N. So each distance is to be read beside its floor, that between two sets of
real images, of as many images and in the same shares of classes.

| measure | what it is for | what it does not see |
|---|---|---|
| Fréchet distance | one number for quality and variety, comparable with papers | copies; its bias at small N |
| kernel distance | the same without that bias, with a standard error | copies; much where features differ a little |
| maximum mean discrepancy | the same under a kernel that sees all moments | copies |
| density | fidelity: whether images lie where real ones do | missing kinds; above 1 where images crowd |
| coverage | variety: the share of real images that some generated one is near to | copies |
| Inception score | sure and balanced classes, comparable with papers | everything within a class |
| CGAcc | whether an image shows the class that was asked for | everything else |
| memorisation | copies of training images | quality |

None but the Inception score and CGAcc, which take a softmax, depends on the unit of the features, if not as it says;
none on the order of images.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from tfdisent.metrics import _tfgan


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Returns the Fréchet distance (FID) between two sets of features, each taken as a Gaussian.

    `|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))` with means m and unbiased covariances C (Heusel et al. 2017,
    https://arxiv.org/abs/1706.08500; DRAI Sec. III-C.2). It is symmetric, at least 0 up to rounding, and in squared
    units of the features: features times s have s^2 times the distance.

    Args:
        features_a: (N, D), one row per image.
        features_b: (M, D); M may differ from N.

    Raises:
        ValueError: not 2-D, widths differ, fewer than 2 rows, values not finite.

    Warns:
        UserWarning: a set has no more rows than columns; its covariance is then singular and the value biased upward.
    """
    features_a, features_b = _feature_pair(features_a, features_b)
    for name, features in (("features_a", features_a), ("features_b", features_b)):
        num_samples, width = features.shape
        if num_samples <= width:
            warnings.warn(
                f"{name}: N={num_samples} samples for D={width} features: covariance is singular, value biased upward. "
                f"Take more than {width} images, or kernel_distance, which is unbiased at any N.",
                UserWarning,
                stacklevel=2,
            )
    # TF-GAN takes eigenvalues below 1e-10 for 0, so the features' scale has to be 1, whatever their unit.
    scale = float(np.sqrt((features_a.var(axis=0) + features_b.var(axis=0)).mean() / 2)) or 1.0
    with _tfgan.on_cpu() as tfgan:
        value = tfgan.frechet_classifier_distance_from_activations(features_a / scale, features_b / scale)
    return scale**2 * float(value)


def kernel_distance(
    features_a: np.ndarray, features_b: np.ndarray, *, max_block_size: int | None = None
) -> tuple[float, float]:
    """Returns the kernel distance (KID): squared maximum mean discrepancy under the kernel `(x.y / D + 1)^3`.

    For independent draws it is unbiased at any N, so that it lies around 0 where the distributions are equal (Binkowski
    et al. 2018, https://arxiv.org/abs/1801.01401). Sets whose classes have equal shares are no such draws: they are
    more alike than chance would make them, and the estimate lies below 0. Compare it with that between two real sets.

    TF-GAN estimates it in `ceil(max(N, M) / max_block_size)` blocks. Rows are shuffled first, with a fixed seed,
    because blocks of features that are sorted by class would give wrong estimates.

    Args:
        features_a: (N, D), one row per image.
        features_b: (M, D); M may differ from N.
        max_block_size: rows per block at most; a smaller one is faster and gives a better `std` and a noisier mean. By
            default what makes 50 blocks or more, of at most 1024, and no block of fewer than 2 of either set.

    Returns:
        mean and std: the estimate and its standard error over blocks; the latter is nan if there is one block.

    Raises:
        ValueError: not 2-D, widths differ, values not finite, or fewer than 2 rows in some block.
    """
    features_a, features_b = _feature_pair(features_a, features_b)
    fewer, more = sorted((len(features_a), len(features_b)))
    if max_block_size is None:
        max_block_size = min(1024, -(-more // min(50, fewer // 2)))
    num_blocks = -(-more // max_block_size)
    if min(len(features_a), len(features_b)) < 2 * num_blocks:
        raise ValueError(
            f"Expected 2 rows or more of each set in each of its {num_blocks} blocks, received {len(features_a)} and "
            f"{len(features_b)} rows. Take sets of similar size, or a larger max_block_size than {max_block_size}."
        )
    rng = np.random.default_rng(0)
    with _tfgan.on_cpu() as tfgan:
        mean, std = tfgan.kernel_classifier_distance_and_std_from_activations(
            tfgan.tf.constant(rng.permutation(features_a)),
            tfgan.tf.constant(rng.permutation(features_b)),
            max_block_size=max_block_size,
        )
    return float(mean), float(std)


def maximum_mean_discrepancy(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Returns the squared maximum mean discrepancy under a Gaussian kernel, unbiased for independent draws.

    The kernel is `exp(-|x - y|^2 / (2 s^2))`, with s the median distance between two of `features_a`, so that the
    features' unit does not matter. Like Jayasumana et al., Rethinking FID, CVPR 2024, https://arxiv.org/abs/2401.09603,
    who take CLIP's features and a fixed s; a Gaussian kernel sees all moments, and needs no Gaussian features.

    Args:
        features_a: (N, D), one row per image; the real ones, which set the scale.
        features_b: (M, D); M may differ from N.

    Returns:
        Around 0 for sets of one distribution, at most 2.

    Raises:
        ValueError: not 2-D, widths differ, values not finite, fewer than 2 rows, or all of `features_a` are equal.
    """
    from scipy.spatial.distance import pdist

    features_a, features_b = _feature_pair(features_a, features_b)
    some = features_a[np.linspace(0, len(features_a) - 1, min(len(features_a), 1000)).astype(int)]
    scale = float(np.median(pdist(some, "sqeuclidean")))
    if not scale > 0:
        raise ValueError("Expected features_a to differ: the median distance between two of them is 0.")

    def mean_kernel(one, other, same):
        total = sum(np.exp(-rows / (2 * scale)).sum() for _, rows in _squared_distances(one, other))
        return (total - len(one)) / (len(one) * (len(one) - 1)) if same else total / (len(one) * len(other))

    within = mean_kernel(features_a, features_a, True) + mean_kernel(features_b, features_b, True)
    return float(within - 2 * mean_kernel(features_a, features_b, False))


def density_and_coverage(real: np.ndarray, generated: np.ndarray, *, neighbours: int = 5) -> tuple[float, float]:
    """Returns density, how deep generated images lie among real ones, and coverage, how many of those have one near.

    A real image's ball reaches to its `neighbours`-th nearest real image. Density is the mean number of balls that a
    generated image lies in, divided by `neighbours`; coverage is the share of balls with a generated image. Of two sets
    of one distribution density is 1 on average and coverage 1 - 2^-neighbours about (.97 for 5).

    Source: Naeem et al., Reliable fidelity and diversity metrics for generative models, ICML 2020, Eq. 4 and 6,
    https://arxiv.org/abs/2002.09797. Their package `prdc` gives the same; it holds all distances at once, in eight
    processes, and has had no release since 2020.

    Args:
        real: (N, D), one row per image, N above `neighbours`.
        generated: (M, D).

    Raises:
        ValueError: not 2-D, widths differ, values not finite, fewer than 2 rows, or too few for the neighbours.
    """
    real, generated = _feature_pair(real, generated)
    if not 1 <= neighbours < len(real):
        raise ValueError(
            f"Expected neighbours from 1 to {len(real) - 1}, one less than the real images, received {neighbours}."
        )
    # The distance 0 to itself is the first.
    radius = np.concatenate(
        [np.partition(rows, neighbours)[:, neighbours] for _, rows in _squared_distances(real, real)]
    )
    inside = [rows <= radius[first : first + len(rows), None] for first, rows in _squared_distances(real, generated)]
    density = sum(int(part.sum()) for part in inside) / (neighbours * len(generated))
    return density, float(np.concatenate([part.any(axis=1) for part in inside]).mean())


def _squared_distances(rows: np.ndarray, others: np.ndarray, block: int = 256) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first row, squared Euclidean distances (B, M)) of some rows (N, D) to all others (M, D)."""
    from scipy.spatial.distance import cdist

    for first in range(0, len(rows), block):
        yield first, cdist(rows[first : first + block], others, "sqeuclidean")


def inception_score(logits: np.ndarray) -> float:
    """Returns the Inception score, `exp(E_x KL(p(y|x) || p(y)))`, between 1 and the number of classes K.

    It is computed over the whole set at once, not in 10 splits (Salimans et al. 2016, https://arxiv.org/abs/1606.03498;
    DRAI Sec. III-C.3).

    Args:
        logits: (N, K), a classifier's outputs before the softmax.

    Raises:
        ValueError: not 2-D or not finite.
    """
    logits = _matrix("logits", logits, min_rows=1)
    # A probability that underflows to 0 in every row would give 0 * inf; exp(-700) stays above 0.
    logits = np.maximum(logits, logits.max(axis=1, keepdims=True) - 700.0)
    with _tfgan.on_cpu() as tfgan:
        return float(tfgan.classifier_score_from_logits(logits))


def conditional_generation_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of generated images that a classifier of real images finds to be of their condition, in [0, 1].

    This is the conditional generation accuracy, CGAcc, of DRAI, Sec. III-C.4.

    Args:
        logits: (N, K), the classifier's outputs on the generated images.
        labels: (N,) integers in [0, K), the condition that each image was generated with.

    Raises:
        ValueError: shapes do not match, or labels are not integers in range.
    """
    logits = _matrix("logits", logits, min_rows=1)
    labels = np.asarray(labels)
    if labels.shape != logits.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Expected labels to be {len(logits)} integers, one per row of logits, received shape {labels.shape} of "
            f"{labels.dtype}. One-hot conditions: pass condition.argmax(axis=1)."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"Expected labels to lie in [0, {logits.shape[1]}), the columns of logits, received {labels.min()} to "
            f"{labels.max()}."
        )
    return float(np.mean(logits.argmax(axis=1) == labels))


def _feature_pair(features_a, features_b) -> tuple[np.ndarray, np.ndarray]:
    features_a = _matrix("features_a", features_a, min_rows=2)
    features_b = _matrix("features_b", features_b, min_rows=2)
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(
            "Expected both sets to come from one extractor, with rows of the same width, received shapes "
            f"{features_a.shape} and {features_b.shape}."
        )
    return features_a, features_b


def _matrix(name: str, values, *, min_rows: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < min_rows or values.shape[1] < 1:
        raise ValueError(
            f"Expected {name} to be (N, D) with N >= {min_rows}, one row per image, received shape {values.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected {name} to be finite, received nan or inf in {len(bad)} of {len(values)} rows, first in row "
            f"{bad[0]}. Look at the images behind them."
        )
    return values
