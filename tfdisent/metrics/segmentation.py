"""Overlap of segmentations, Dice and intersection over union, per case and per label; distance of layers' boundaries.

A case is one entry along the first axis: slices (N, H, W) give values per slice, volumes (N, D, H, W) values per
volume. The two differ; so do labels scored one by one or pooled, and the values of a case without any foreground. What
the papers do:

    unified     per slice, `smooth=1`, mean over slices: a slice without tumour that is predicted empty scores 1
    mmsdnet     organs pooled (`pooled=True`) and one by one, per slice, mean over slices, then over volumes; `empty=1`
    margin      mean over the three tumour labels; the paper does not say what empty ones count
    harmonize   Dice and IoU per label; the paper does not say what empty ones count
"""

from collections.abc import Sequence

import numpy as np


def dice(
    a: np.ndarray,
    b: np.ndarray,
    labels: Sequence[int] | None = None,
    *,
    pooled: bool = False,
    smooth: float = 0.0,
    empty: float = np.nan,
) -> np.ndarray:
    """Returns the Dice coefficient, (2 |A and B| + smooth) / (|A| + |B| + smooth), in [0, 1]; the F1 score of pixels.

    Args:
        a, b: label maps or binary masks, integers or booleans (N, ...).
        labels: the labels to score one by one; others count as background. None: everything but 0 is one foreground.
        pooled: sum intersections and sizes over the labels before the division. A pixel of label 1 that is called 2 is
            wrong here, and right for `labels=None`.
        smooth: pixels that are added to numerator and denominator, 0 or more. Above 0, values of small structures are
            drawn towards 1, and two empty masks give 1.
        empty: the value where both are empty and `smooth` is 0: NaN (undefined, to be left out of means by
            `np.nanmean`), 1 (nothing was there and nothing was found) or 0.

    Returns:
        float64: (N, L) with labels, (N,) with `labels=None` or `pooled`.

    Raises:
        ValueError: shapes differ, values are not integers, labels are empty, repeated or no integers, smooth is
            negative, or empty is another number.
    """
    intersection, size_a, size_b = _counts(a, b, labels, pooled)
    return _ratio(2 * intersection, size_a + size_b, smooth, empty)


def iou(
    a: np.ndarray,
    b: np.ndarray,
    labels: Sequence[int] | None = None,
    *,
    pooled: bool = False,
    smooth: float = 0.0,
    empty: float = np.nan,
) -> np.ndarray:
    """Returns the intersection over union (Jaccard index), (|A and B| + smooth) / (|A or B| + smooth), in [0, 1].

    Arguments, result and errors as `dice`; for each value Dice = 2 IoU / (1 + IoU) where smooth is 0.
    """
    intersection, size_a, size_b = _counts(a, b, labels, pooled)
    return _ratio(intersection, size_a + size_b - intersection, smooth, empty)


def boundary_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the mean absolute distance of boundaries over the columns of each case, in rows (pixels), 0 or more.

    Args:
        a, b: (N, K, W), of K boundaries the row in each of W columns, as layers of the retina have them; columns with a
            NaN in either are left out.

    Returns:
        float64 (N, K); NaN where no column is left.

    Raises:
        ValueError: shapes differ, or are others.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"Expected a and b to be (N, K, W), of one shape, received {a.shape} and {b.shape}.")
    distance = np.abs(a - b)
    there = np.isfinite(distance)
    total, count = np.where(there, distance, 0).sum(axis=-1), there.sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _counts(a, b, labels, pooled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of pixels in both A and B, in A, and in B: (N,) or (N, L) float64."""
    a, b = _label_map("a", a), _label_map("b", b)
    if a.shape != b.shape:
        raise ValueError(f"Expected a and b to have the same shape, received {a.shape} and {b.shape}.")
    if labels is None:
        if pooled:
            raise ValueError("pooled=True sums over labels: name them, labels=(1, 2, ...).")
        pairs = [(a != 0, b != 0)]
    else:
        pairs = [(a == label, b == label) for label in _labels(labels)]
    axes = tuple(range(1, a.ndim))
    counts = np.array(
        [[np.count_nonzero(m, axis=axes) for m in (x & y, x, y)] for x, y in pairs], np.float64
    )  # (L, 3, N)
    if labels is None or pooled:
        return tuple(counts.sum(axis=0))
    return tuple(counts.transpose(1, 2, 0))


def _ratio(above: np.ndarray, below: np.ndarray, smooth: float, empty: float) -> np.ndarray:
    if not 0 <= smooth < np.inf:
        raise ValueError(f"Expected smooth to be 0 or more, and finite, received {smooth}.")
    if not (np.isnan(empty) or empty in (0, 1)):
        raise ValueError(f"Expected empty to be NaN, 1 or 0, received {empty}.")
    undefined = np.full(below.shape, empty, np.float64)
    return np.divide(above + smooth, below + smooth, out=undefined, where=below + smooth > 0)


def _label_map(name: str, labels) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim < 2:
        raise ValueError(f"Expected {name} to be (N, ...), cases first, received shape {labels.shape}.")
    if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Expected {name} to be integer labels or booleans, received {labels.dtype}. Of probabilities: values > "
            "0.5, or argmax."
        )
    return labels


def _labels(labels) -> list[int]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not 0 < len(labels) == len(np.unique(labels)):
        raise ValueError(f"Expected labels to be a sequence of different integers, one or more, received {labels!r}.")
    return labels.tolist()
