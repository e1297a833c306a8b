"""Disentanglement against known factors, such as those of phantoms: MIG, DCI, SAP and the block gap.

Where the definitions come from:

    MIG   Chen, Li, Grosse and Duvenaud 2018, Isolating sources of disentanglement in variational
          autoencoders, https://arxiv.org/abs/1802.04942
    DCI   Eastwood and Williams 2018, A framework for the quantitative evaluation of disentangled
          representations, ICLR, https://openreview.net/forum?id=By-7dz-AZ
    SAP   Kumar, Sattigeri and Balakrishnan 2018, Variational inference of disentangled latent
          concepts from unlabeled observations, https://arxiv.org/abs/1711.00848

with the estimation of Locatello et al. 2019, Challenging common assumptions in the unsupervised learning of
disentangled representations, https://arxiv.org/abs/1811.12359 (histograms of 20 bins, trees fitted on one part of the
data and scored on the other), except where a docstring says so.

These three ask for one *entry* of a code per factor. A content and a style vector may be kept apart perfectly and yet
be rotated within themselves, which lowers all three; `block_gap` is insensitive to such rotations and asks for one
*vector* per factor.

A factor counts as discrete when it has at most 20 distinct values (MIG: at most `num_bins`), and as continuous
otherwise. All of these numbers are biased at finite N, each in its own way: compare models at equal N and equal widths
of their codes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tfdisent.metrics.disentanglement import (
    _columns,
    coefficient_of_determination,
    linear_probe_accuracy,
    linear_probe_r2,
    squared_correlation,
)

MOST_VALUES = 20  # distinct values of a discrete factor, and no more than a quarter of the rows
FEWEST_ROWS = 20  # with fewer, half of the rows are too few to estimate anything of a factor with several values


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, as `dci` returns them.

    disentanglement: 1 where each code entry serves one factor, 0 where it serves all alike.
    completeness: 1 where each factor is served by one entry, 0 where by all alike.
    informativeness: how well the factors are predicted on the second half, mean of `scores`.
    importance: (D, F), of code entry d for factor f; columns sum to 1, or are 0 where nothing was learned.
    scores: (F,), accuracy of discrete and R^2 of continuous factors on the second half.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    scores: np.ndarray


class BlockGap(NamedTuple):
    """The gaps between blocks, as `block_gap` returns them.

    per_factor: (F,), the score of the best block less that of the second best, in [0, 1].
    mean: mean of `per_factor`.
    best: F names, the best block of each factor; None where no block predicts anything.
    scores: {block: (F,)} in [0, 1].
    """

    per_factor: np.ndarray
    mean: float
    best: tuple[str | None, ...]
    scores: dict[str, np.ndarray]


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, num_bins: int = 20) -> tuple[np.ndarray, float]:
    """Mutual information gap (MIG) between the two entries of the code that tell most about a factor, in [0, 1].

        MIG_f = (I(z_j1; v_f) - I(z_j2; v_f)) / H(v_f),  I(z_j1; v_f) >= I(z_j2; v_f) >= all others

    1: one entry determines the factor and no other tells anything about it; 0: two entries tell the same. Codes and
    factors with more than `num_bins` distinct values are cut into that many bins of equal width between their extremes;
    others are taken as they are. A histogram overestimates the information by about (bins - 1)^2 / 2 N nats whatever
    the code, which mostly cancels in the gap.

    Args:
        codes: (N, D), D >= 2, N >= 20; a useful estimate takes hundreds of rows or more.
        factors: (N, F) or (N,).
        num_bins: 2 or more.

    Returns:
        (F,) gaps and their mean.

    Raises:
        ValueError: lengths differ, values are not finite, a factor is constant, or there are fewer than 20 rows, 2
            entries or 2 bins.
    """
    if num_bins < 2:
        raise ValueError(f"Expected num_bins to be 2 or more, received {num_bins}.")
    codes, factors = _codes_and_factors(codes, factors, least_width=2)
    codes = [_binned(column, num_bins) for column in codes.T]
    factors = [_binned(column, num_bins) for column in factors.T]
    information = np.array([[_mutual_information(z, v) for v in factors] for z in codes])
    gaps = _gap(information) / [_entropy(v) for v in factors]
    return gaps, float(gaps.mean())


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness (DCI), by the importances of random forests.

    With P[d] the importances of entry d over the factors, scaled to sum 1, the disentanglement of entry d is
    `1 - H(P[d]) / log F`; the entries are weighted by their share of all importance. The completeness of a factor is
    `1 - H / log D` of its column, scaled to sum 1; all factors have equal weight.

    One forest per factor is fitted on a random half and scored on the other: 30 trees of depth 8, all entries tried at
    each split, each tree on half of the rows. Random forests are one of the paper's two choices; Locatello et al. boost
    trees, which takes as many times longer as a discrete factor has values. One core takes at most 1 s per factor at
    N = 5000, D = 48.

    Importances sum to 1 even where a forest learned noise: read `importance` together with `scores`.

    Args:
        codes: (N, D), D >= 2, N >= 20.
        factors: (N, F), F >= 2: with a single factor, disentanglement is not defined.
        seed: seed of the halves and the forests.

    Raises:
        ValueError: lengths differ, values are not finite, a factor is constant (a continuous one also in the second
            half), or there are fewer than 20 rows, 2 entries or 2 factors.
    """
    codes, factors = _codes_and_factors(codes, factors, least_width=2)
    if factors.shape[1] < 2:
        raise ValueError(
            f"Expected 2 factors or more, received shape {factors.shape}: DCI needs 2 factors to tell which an entry "
            "serves."
        )
    train, test = np.array_split(np.random.default_rng(seed).permutation(len(codes)), 2)
    forests = [_forest(codes[train], column[train], codes[test], column[test], seed) for column in factors.T]
    importance = np.stack([weights for weights, _ in forests], axis=1)
    scores = np.array([score for _, score in forests])
    return DCI(
        _disentanglement(importance),
        _completeness(importance),
        float(scores.mean()),
        importance,
        scores,
    )


def separated_attribute_predictability(codes: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, float]:
    """Separated attribute predictability (SAP): the gap between the two entries that predict a factor best, in [0, 1].

    An entry's score is its squared correlation with a continuous factor; for a discrete factor with K values it is the
    balanced accuracy of the nearest class mean, which is a linear classifier with K - 1 thresholds. (The paper fits
    thresholds too; Locatello et al. use a linear support vector machine, one value against the rest, which on one entry
    cannot single out the middle one of three ordered values.) All rows are used both to fit and to score, as only K
    numbers are fitted. As chance scores 1 / K, the gap of a discrete factor is at most 1 - 1 / K.

    Args:
        codes: (N, D), D >= 2, N >= 20.
        factors: (N, F) or (N,).

    Returns:
        (F,) gaps and their mean.

    Raises:
        ValueError: lengths differ, values are not finite, a factor is constant, or there are fewer than 20 rows or 2
            entries.
    """
    codes, factors = _codes_and_factors(codes, factors, least_width=2)
    gaps = np.array([_gap(_entry_scores(codes, column)) for column in factors.T])
    return gaps, float(gaps.mean())


def block_gap(blocks: Mapping[str, np.ndarray], factors: np.ndarray, seed: int = 0) -> BlockGap:
    """How much better the best of several vector codes predicts each factor than the second best.

    A block's score for a factor is that of a linear probe, fitted on one half and scored on the other: R^2
    (`linear_probe_r2`) for a continuous factor; for a discrete one the accuracy (`linear_probe_accuracy`), scaled to be
    0 at chance, the share of the most frequent value, and 1 when always right. Both are clipped at 0. A gap of 1: one
    block determines the factor and no other tells anything linearly; 0: two blocks tell the same, or none tells
    anything, which `scores` distinguishes.

    Args:
        blocks: {name: (N, D)}, two or more, of any widths; here {"content": ..., "style": ...}.
        factors: (N, F) or (N,), N >= 20. Rows whose value of a discrete factor occurs once are left out for this
            factor: they cannot be in both halves.
        seed: seed of the halves.

    Raises:
        ValueError: there are fewer than two blocks or 20 rows, lengths differ, values are not finite, or a factor is
            constant (a continuous one also in the second half).
    """
    if len(blocks) < 2:
        raise ValueError(f"Expected two blocks or more, such as content and style, received {list(blocks)}.")
    for name, codes in blocks.items():
        _codes_and_factors(codes, factors, name=name)
    factors = _columns("factors", factors)
    scores = {
        name: np.array([_probe_score(codes, column, seed) for column in factors.T]) for name, codes in blocks.items()
    }
    table = np.stack(list(scores.values()))
    names = list(scores)
    best = tuple(
        names[index] if top > 0 else None for index, top in zip(table.argmax(axis=0), table.max(axis=0), strict=True)
    )
    gaps = _gap(table)
    return BlockGap(gaps, float(gaps.mean()), best, scores)


def _codes_and_factors(codes, factors, *, least_width: int = 1, name: str = "codes") -> tuple[np.ndarray, np.ndarray]:
    codes, factors = _columns(name, codes), _columns("factors", factors)
    if len(codes) != len(factors) or len(codes) < FEWEST_ROWS:
        raise ValueError(
            f"Expected {name} and factors to have the same length, {FEWEST_ROWS} or more, received {len(codes)} and "
            f"{len(factors)}."
        )
    if codes.shape[1] < least_width:
        raise ValueError(
            f"Expected {name} to have {least_width} entries or more, between which there can be a gap, received shape "
            f"{codes.shape}."
        )
    constant = np.flatnonzero(np.ptp(factors, axis=0) == 0)
    if len(constant):
        raise ValueError(f"Factor {constant[0]} is constant over {len(factors)} rows: it tells nothing. Leave it out.")
    return codes, factors


def _gap(scores: np.ndarray) -> np.ndarray:
    """The largest less the second largest along the first axis."""
    ordered = np.sort(scores, axis=0)
    return ordered[-1] - ordered[-2]


def _discrete(factor: np.ndarray) -> bool:
    return len(np.unique(factor)) <= min(MOST_VALUES, len(factor) // 4)


def _binned(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Indices (N,) of the bins that the values fall into, from 0."""
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) <= num_bins:
        return index
    edges = np.linspace(distinct[0], distinct[-1], num_bins + 1)
    return np.searchsorted(edges[1:-1], values, side="right")


def _entropy(bins: np.ndarray) -> float:
    """Entropy of a distribution over bins, in nats."""
    counts = np.bincount(bins)
    share = counts[counts > 0] / len(bins)
    return float(-np.sum(share * np.log(share)))


def _mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    return _entropy(a) + _entropy(b) - _entropy(a * (b.max() + 1) + b)


def _forest(codes, factor, test_codes, test_factor, seed) -> tuple[np.ndarray, float]:
    """Importances (D,) of the code's entries for a factor, and the score on the test rows."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    settings = {
        "n_estimators": 30,
        "max_depth": 8,
        "max_features": None,
        "max_samples": max(10, len(factor) // 2),
        "random_state": seed,
    }
    if _discrete(np.concatenate([factor, test_factor])):
        # Classes must be integers to scikit-learn; the factor's values may be any numbers.
        values, labels = np.unique(np.concatenate([factor, test_factor]), return_inverse=True)
        forest = RandomForestClassifier(**settings).fit(codes, labels[: len(factor)])
        score = np.mean(forest.predict(test_codes) == labels[len(factor) :])
    else:
        forest = RandomForestRegressor(**settings).fit(codes, factor)
        _, score = coefficient_of_determination(test_factor, forest.predict(test_codes))
    return forest.feature_importances_, float(score)


def _concentration(importance: np.ndarray, axis: int) -> np.ndarray:
    """1 minus the entropy along an axis divided by its largest possible value; 0 where all importances are 0."""
    from scipy.special import entr

    total = importance.sum(axis=axis, keepdims=True)
    share = np.divide(importance, total, out=np.zeros_like(importance), where=total > 0)
    entropy = entr(share).sum(axis=axis) / np.log(importance.shape[axis])
    return np.where(total.squeeze(axis) > 0, 1 - entropy, 0.0)


def _disentanglement(importance: np.ndarray) -> float:
    weights = importance.sum(axis=1)
    if weights.sum() == 0:
        return 0.0
    return float(np.average(_concentration(importance, axis=1), weights=weights))


def _completeness(importance: np.ndarray) -> float:
    return float(_concentration(importance, axis=0).mean())


def _entry_scores(codes: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """How well each entry of the code alone predicts a factor, (D,)."""
    if not _discrete(factor):
        return squared_correlation(np.repeat(factor[:, None], codes.shape[1], axis=1), codes)[0]
    values, labels = np.unique(factor, return_inverse=True)
    classes = [labels == k for k in range(len(values))]
    scores = []
    for entry in codes.T:
        means = np.array([entry[members].mean() for members in classes])
        nearest = np.abs(entry[:, None] - means).argmin(axis=1)
        scores.append(np.mean([np.mean(nearest[m] == k) for k, m in enumerate(classes)]))
    return np.array(scores)


def _probe_score(codes: np.ndarray, factor: np.ndarray, seed: int) -> float:
    """How well a linear probe predicts a factor from a code: 0 is no better than chance, 1 is always right."""
    if not _discrete(factor):
        return max(linear_probe_r2(codes, factor, seed=seed)[1], 0.0)
    _, labels, counts = np.unique(factor, return_inverse=True, return_counts=True)
    repeated = counts[labels] > 1
    codes, labels = np.asarray(codes)[repeated], labels[repeated]
    accuracy = linear_probe_accuracy(codes, labels, seed=seed)
    chance = np.bincount(labels).max() / len(labels)
    return max((accuracy - chance) / (1 - chance), 0.0)
