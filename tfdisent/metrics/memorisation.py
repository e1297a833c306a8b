"""Whether a generator copies its training images.

Distances are root mean squared differences: of pixels, in the images' units, or of features where pixels are not enough
(a shifted copy is far away in pixels). A turned or mirrored copy is far away in both, so that images are to be given in
all symmetries that training may have turned them by (`symmetries`).
"""

import itertools
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
    (distances, nearest, turned), (held_out_distances, _, _) = _nearest((generated, held_out), train)
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
    ((distances, indices, _),) = _nearest([[queries]], references, batch)
    return distances, indices


def _nearest(
    sets: Sequence[Sequence[np.ndarray]], references: np.ndarray | Callable[[], Iterable[np.ndarray]], batch: int = 256
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """As `nearest_distances` for several sets of queries, each in several versions, in one pass over the references.

    Returns:
        For each set the distance (Q,) of the nearest version of each query, the reference it is near to, and which
        version that is.
    """
    sets = [[_rows("queries", version) for version in versions] for versions in sets]
    found = [(np.full(count, np.inf), np.zeros(count, int), np.zeros(count, int)) for count in map(_count, sets)]
    first, centre = 0, None
    for block in references() if callable(references) else [references]:
        block = _rows("references", block)
        for queries in itertools.chain.from_iterable(sets):
            _check_alike(queries, block)
        if centre is None:
            # A common shift leaves distances as they are; around 0 the squares are small, and so is what cancels.
            centre = block.reshape(len(block), -1).mean(axis=0, dtype=np.float64)
        for others in _batches(block.reshape(len(block), -1), batch):
            shifted = others - centre
            held = _Block(others, first, centre, shifted, np.sum(shifted**2, axis=1))
            for versions, best in zip(sets, found, strict=True):
                for which, queries in enumerate(versions):
                    for start in range(0, len(queries), batch):
                        part = slice(start, start + batch)
                        _improve([of[part] for of in best], which, queries[part], held)
            first += len(others)
    if not first:
        raise ValueError("Expected references to compare with, received none.")
    return found


class _Block(NamedTuple):
    """References (B, D), the number of the first, their centre (D,), and what lies around it with its squared norms."""

    rows: np.ndarray
    first: int
    centre: np.ndarray
    shifted: np.ndarray
    lengths: np.ndarray


def _improve(best: Sequence[np.ndarray], which: int, queries: np.ndarray, block: _Block) -> None:
    """Enters in `best`, distances, references and versions, the queries that are nearer to one of the block."""
    distances, indices, versions = best
    rows = queries.reshape(len(queries), -1)
    around = rows - block.centre
    own = np.sum(around**2, axis=1)[:, None]
    squares = own - 2 * (around @ block.shifted.T) + block.lengths
    # Rounding changes the difference of two of these by no more than this.
    error = 4 * np.finfo(np.float64).eps * rows.shape[1] * (own + block.lengths.max())
    least = np.minimum(squares.min(axis=1, keepdims=True), rows.shape[1] * distances[:, None] ** 2)
    candidates = squares <= least + error
    for row in np.flatnonzero(candidates.any(axis=1)):
        among = np.flatnonzero(candidates[row])
        exact = np.sqrt(np.mean((block.rows[among].astype(np.float64) - rows[row]) ** 2, axis=1))
        if exact.min() < distances[row]:
            distances[row], indices[row], versions[row] = exact.min(), block.first + among[exact.argmin()], which


def _count(versions: Sequence[np.ndarray]) -> int:
    """How many there are of each version."""
    counts = {len(version) for version in versions}
    if len(counts) != 1:
        raise ValueError(f"Expected versions of the same images, received {sorted(counts)} of them.")
    return counts.pop()


def _check_alike(queries: np.ndarray, references: np.ndarray) -> None:
    if references.shape[1:] != queries.shape[1:]:
        raise ValueError(
            f"Expected queries and references to have rows of one shape, received {queries.shape[1:]} and "
            f"{references.shape[1:]}."
        )
    if (queries.dtype.kind == "f") != (references.dtype.kind == "f"):
        raise ValueError(
            f"Expected queries and references to have one range of values, received {queries.dtype} and "
            f"{references.dtype}. Scale both alike."
        )


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
