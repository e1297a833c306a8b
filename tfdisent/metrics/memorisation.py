"""Does a generator copy its training images?

Distances are root mean squared differences: of pixels, in the images' units, or of features where
pixels say too little (a shifted copy is far away in pixels).
"""

from typing import NamedTuple

import numpy as np


class Memorisation(NamedTuple):
    """What `memorisation` returns; G generated, M held-out images.

    ratio: median distance of the generated images to their nearest training image over that of the
        held-out images. 1: as far from the training images as new images are; near 0: copies;
        nan where half of the held-out images are in the training images too.
    share_closer: share of the generated images that lie closer to a training image than `threshold`.
    expected_share: the share that chance gives new images of the same distribution.
    threshold: the 1st percentile of the held-out images' distances.
    copies: (top, 2) integers, pairs of a generated image and its nearest training image, the
        closest pair first.
    distances: (G,), of each generated image to its nearest training image.
    held_out_distances: (M,), of each held-out image likewise.
    """

    ratio: float
    share_closer: float
    expected_share: float
    threshold: float
    copies: np.ndarray
    distances: np.ndarray
    held_out_distances: np.ndarray


def memorisation(
    generated: np.ndarray,
    held_out: np.ndarray,
    train: np.ndarray,
    *,
    percentile: float = 1.0,
    top: int = 16,
) -> Memorisation:
    """How close generated images come to training images, beside images never trained on.

    "Close" means nothing by itself: where all images of a kind look alike, an honest sample is
    close to some training image too, and the more of these there are, the closer. Held-out images
    of the same distribution, which the model has never seen, say how close is usual. They have to
    be new indeed: other patients, other lesions; images that are in `train` too make copying
    pass for usual.

    The share is calibrated to `percentile` whatever the distribution, as the threshold is the
    order statistic that a new image undercuts with that probability. With few held-out images it
    is their smallest distance, undercut with probability 1 / (M + 1): see `expected_share`. Its
    standard error is about sqrt(p (1 - p) (1 / G + 1 / M)) with p the expected share.

    A generator whose images are blurred, or noisy, moves the ratio without copying less, or more:
    look at the pairs in `copies`.

    Args:
        generated: (G, ...), images or features, of the shape and range of the others.
        held_out: (M, ...).
        train: (N, ...).
        percentile: of the held-out distances, in (0, 100).
        top: pairs to return in `copies`, at most G.

    Raises:
        ValueError: as for `nearest_distances`; `percentile` or `top` out of range.
    """
    if not 0 < percentile < 100 or top < 1:
        raise ValueError(f"percentile must lie in (0, 100) and top be 1 or more; got {percentile} and {top}.")
    distances, nearest = nearest_distances(generated, train)
    held_out_distances, _ = nearest_distances(held_out, train)
    # Position p (M + 1) among the ordered distances: a new one falls below it with probability p.
    threshold = np.percentile(held_out_distances, percentile, method="weibull")
    usual = np.median(held_out_distances)
    closest = np.argsort(distances, kind="stable")[:top]
    return Memorisation(
        ratio=float(np.median(distances) / usual) if usual > 0 else float("nan"),
        share_closer=float(np.mean(distances < threshold)),
        expected_share=max(percentile / 100, 1 / (len(held_out_distances) + 1)),
        threshold=float(threshold),
        copies=np.stack([closest, nearest[closest]], axis=1),
        distances=distances,
        held_out_distances=held_out_distances,
    )


def nearest_distances(
    queries: np.ndarray, references: np.ndarray, *, batch: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest reference of each query by root mean squared difference over all values.

    Exact: |q|^2 - 2 q r + |r|^2, which loses digits where q is close to r, only says which
    references can be the nearest; their distances are taken from the differences. 2000 queries and
    5000 references of 64 x 64 x 3 take some 10 s on one core.

    Args:
        queries: (Q, ...), images or features, integers or floats.
        references: (N, ...), the same shape and range.
        batch: rows taken at once. Memory beside the arguments: 32 bytes x batch x (N + D), D the
            number of values of one row, and 1 byte per value while they are checked.

    Returns:
        distances: (Q,) float64, in the units of the values; 0 for an equal one.
        indices: (Q,) into the references; the lowest of equally near ones.

    Raises:
        ValueError: shapes do not fit, values are not finite, nothing to compare, one is integer and
            the other float (so that ranges would differ), or batch < 1.
    """
    queries, references = _rows("queries", queries), _rows("references", references)
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"queries and references must have rows of one shape; got {queries.shape[1:]} and {references.shape[1:]}."
        )
    if (queries.dtype.kind == "f") != (references.dtype.kind == "f"):
        raise ValueError(
            f"queries and references must have one range of values; got {queries.dtype} and "
            f"{references.dtype}. Scale both alike."
        )
    if batch < 1:
        raise ValueError(f"batch must be 1 or more; got {batch}.")
    queries = queries.reshape(len(queries), -1)
    references = references.reshape(len(references), -1)
    # Distances stay the same when all is shifted; around 0 the squares are small, and so is
    # what cancels.
    centre = references.mean(axis=0, dtype=np.float64)
    lengths = np.concatenate([np.sum((rows - centre) ** 2, axis=1) for rows in _batches(references, batch)])
    distances, indices = np.empty(len(queries)), np.empty(len(queries), int)
    for first in range(0, len(queries), batch):
        rows = queries[first : first + batch] - centre
        squares = np.concatenate([rows @ (others - centre).T for others in _batches(references, batch)], axis=1)
        own = np.sum(rows**2, axis=1)[:, None]
        squares = own - 2 * squares + lengths
        # Rounding moves the difference of two of these by no more than this.
        error = 4 * np.finfo(np.float64).eps * rows.shape[1] * (own + lengths.max())
        candidates = squares <= squares.min(axis=1, keepdims=True) + error
        for row, among in enumerate(candidates, start=first):
            distances[row], indices[row] = _nearest(queries[row], references, among, batch)
    return distances, indices


def _nearest(query: np.ndarray, references: np.ndarray, among: np.ndarray, batch: int):
    """The exact distance to the nearest of the references that a mask names, and its index."""
    among = np.flatnonzero(among)
    exact = np.concatenate(
        [np.mean((references[part].astype(np.float64) - query) ** 2, axis=1) for part in _batches(among, batch)]
    )
    return np.sqrt(exact.min()), among[exact.argmin()]


def _batches(rows: np.ndarray, batch: int):
    return (rows[first : first + batch] for first in range(0, len(rows), batch))


def _rows(name: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim < 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{name} must be finite and (N, ...), one image or code per row, none empty; got shape "
            f"{values.shape}, {np.count_nonzero(~np.isfinite(values))} values not finite."
        )
    return values
