"""Whether a generator copies its training images.

Distances are root mean squared differences: of pixels, in the images' units, or of features where pixels are not enough
(a shifted copy is far away in pixels). A turned or mirrored copy is far away in both, so that images are to be given in
all symmetries that training may have turned them by (`symmetries`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Memorisation(NamedTuple):
    """The result of `memorisation` for G generated and M held-out images.

    ratio: median distance of the generated images to their nearest training image, divided by that of the held-out
        images. 1: as far from the training images as new images are; near 0: copies; nan if half of the held-out images
        are among the training images too.
    share_closer: share of the generated images that are closer to a training image than `threshold`.
    expected_share: the share that new images of the same distribution have by chance.
    threshold: the 1st percentile of the held-out images' distances.
    copies: (top, 2) integers, pairs of a generated image and its nearest training image, the closest pair first.
    turned: (top,) integers, in which of its versions each of these generated images is so near; 0 where there is one.
    distances: (G,), the distance of each generated image to its nearest training image.
    held_out_distances: (M,), the distance of each held-out image to its nearest training image.
    """

    ratio: float
    share_closer: float
    expected_share: float
    threshold: float
    copies: np.ndarray
    turned: np.ndarray
    distances: np.ndarray
    held_out_distances: np.ndarray


def symmetries(images: np.ndarray) -> list[np.ndarray]:
    """Images (N, H, W, ...) as they are, mirrored and turned: 8 versions of square ones, 4 of others.

    They are those of `tfdisent.data.augment.symmetry`, or `flip`.
    """
    turns = (images, np.swapaxes(images, 1, 2)) if images.shape[1] == images.shape[2] else (images,)
    return [turned[:, ::up_down, ::across] for turned in turns for up_down in (1, -1) for across in (1, -1)]


def memorisation(
    generated: np.ndarray | Sequence[np.ndarray],
    held_out: np.ndarray | Sequence[np.ndarray],
    train: np.ndarray | Callable[[], Iterable[np.ndarray]],
    *,
    percentile: float = 1.0,
    top: int = 16,
) -> Memorisation:
    """Compares how close generated images are to training images with how close new images are.

    A distance means nothing by itself: where all images of a kind look alike, a sample that is no copy is also close to
    some training image, the more so the more of these there are. Held-out images of the same distribution, which the
    model has never seen, show how close is usual. They must be new, of other patients and other lesions: images that
    are in `train` too would make copies look usual.

    The share is calibrated to `percentile` whatever the distribution, because the threshold is the order statistic that
    a new image falls below with that probability. With few held-out images the threshold is their smallest distance,
    which a new image falls below with probability 1 / (M + 1): see `expected_share`. The standard error of the share is
    about sqrt(p (1 - p) (1 / G + 1 / M)) with p the expected share.

    Blur or noise in generated images changes the ratio without more or less copying: look at the pairs in `copies`.

    Args:
        generated: (G, ...), images or features, of the shape and range of the others; or several versions of them,
            each such an array, as `symmetries` gives them: a distance is that of the nearest version.
        held_out: (M, ...), in as many versions.
        train: (N, ...), or a function that gives them in blocks, as of `nearest_distances`.
        percentile: the percentile of the held-out distances that is the threshold, in (0, 100).
        top: number of pairs to return in `copies`, at most G.

    Raises:
        ValueError: as for `nearest_distances`; `percentile` or `top` out of range.
    """
    if not 0 < percentile < 100 or top < 1:
        raise ValueError(
            f"Expected percentile to lie in (0, 100) and top to be 1 or more, received {percentile} and {top}."
        )
    generated, held_out = ([one] if isinstance(one, np.ndarray) else list(one) for one in (generated, held_out))
    if len(generated) != len(held_out):
        raise ValueError(
            f"Expected generated and held_out in as many versions, received {len(generated)} and {len(held_out)}."
        )
    distances, nearest, turned = _nearest_version(generated, train)
    held_out_distances, _, _ = _nearest_version(held_out, train)
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
        turned=turned[closest],
        distances=distances,
        held_out_distances=held_out_distances,
    )


def _nearest_version(versions: Sequence[np.ndarray], train) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance (G,) of the nearest version of each image, the training image it is near to, and which version it is."""
    found = [nearest_distances(version, train) for version in versions]
    distances, nearest = (np.stack(parts) for parts in zip(*found, strict=True))
    which = distances.argmin(axis=0)
    rows = np.arange(len(which))
    return distances[which, rows], nearest[which, rows], which


def nearest_distances(
    queries: np.ndarray, references: np.ndarray | Callable[[], Iterable[np.ndarray]], *, batch: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest reference of each query by root mean squared difference over all values.

    Distances are exact: |q|^2 - 2 q r + |r|^2, which loses digits where q is close to r, only selects the references
    that can be the nearest; their distances are computed from the differences. 2000 queries and 5000 references of 64 x
    64 x 3 take about 10 s on one core.

    Args:
        queries: (Q, ...), images or features, integers or floats.
        references: (N, ...), the same shape and range; or a function that gives them in blocks (B, ...), for those that
            memory does not hold.
        batch: number of rows that are processed at once. Memory besides the arguments: 32 bytes x batch x (batch + D),
            with D the number of values of one row, and 1 byte per value while they are checked.

    Returns:
        distances: (Q,) float64, in the units of the values; 0 for an equal reference.
        indices: (Q,) into the references; the lowest of equally near ones.

    Raises:
        ValueError: shapes do not match, values are not finite, there is nothing to compare, one is integer and the
            other float (so that ranges would differ), or batch < 1.
    """
    if batch < 1:
        raise ValueError(f"Expected batch to be 1 or more, received {batch}.")
    shape, queries = np.shape(queries)[1:], _rows("queries", queries)
    blocks = references() if callable(references) else [references]
    distances, indices = np.full(len(queries), np.inf), np.zeros(len(queries), int)
    first, centre = 0, None
    for block in blocks:
        block = _rows("references", block)
        if block.shape[1:] != shape:
            raise ValueError(
                f"Expected queries and references to have rows of one shape, received {shape} and {block.shape[1:]}."
            )
        if (queries.dtype.kind == "f") != (block.dtype.kind == "f"):
            raise ValueError(
                f"Expected queries and references to have one range of values, received {queries.dtype} and "
                f"{block.dtype}. Scale both alike."
            )
        if centre is None:
            # A common shift leaves distances as they are; around 0 the squares are small, and so is what cancels.
            queries = queries.reshape(len(queries), -1)
            centre = block.reshape(len(block), -1).mean(axis=0, dtype=np.float64)
        for others in _batches(block.reshape(len(block), -1), batch):
            shifted = others - centre
            lengths = np.sum(shifted**2, axis=1)
            for start in range(0, len(queries), batch):
                rows = queries[start : start + batch] - centre
                own = np.sum(rows**2, axis=1)[:, None]
                squares = own - 2 * (rows @ shifted.T) + lengths
                # Rounding changes the difference of two of these by no more than this.
                error = 4 * np.finfo(np.float64).eps * rows.shape[1] * (own + lengths.max())
                best = rows.shape[1] * distances[start : start + batch, None] ** 2
                candidates = squares <= np.minimum(squares.min(axis=1, keepdims=True), best) + error
                for row in np.flatnonzero(candidates.any(axis=1)):
                    among = np.flatnonzero(candidates[row])
                    exact = np.sqrt(np.mean((others[among].astype(np.float64) - queries[start + row]) ** 2, axis=1))
                    if exact.min() < distances[start + row]:
                        distances[start + row] = exact.min()
                        indices[start + row] = first + among[exact.argmin()]
            first += len(others)
    if not first:
        raise ValueError("Expected references to compare with, received none.")
    return distances, indices


def _batches(rows: np.ndarray, batch: int):
    return (rows[first : first + batch] for first in range(0, len(rows), batch))


def _rows(name: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim < 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"Expected {name} to be finite and (N, ...), one image or code per row, none empty, received shape "
            f"{values.shape}, {np.count_nonzero(~np.isfinite(values))} values not finite."
        )
    return values
