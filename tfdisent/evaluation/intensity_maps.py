"""The opponents of a translation that need no network: functions of intensity alone, fitted on the training split.

A contrast that is nearly a function of another is translated by a table of a few numbers. What a network is to be worth
must do better than the best of these, on the same slices and measures.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfdisent.evaluation.slices import available, brain, unit
from tfdisent.examples import Examples, evenly

BINS = 128  # of the lookup table
SLICES = 500  # of each pair, at most, that maps are fitted on
KINDS = {"affine": "the best affine map of intensities", "lookup": f"a lookup table of {BINS} intensities"}

Map = Callable[[np.ndarray], np.ndarray]


def intensity_maps(
    train: Examples,
    pairs: Sequence[tuple[int, int]],
    shown: Callable[[dict], np.ndarray] = lambda batch: batch["image"],
) -> dict[str, dict[tuple[int, int], Map]]:
    """Maps of intensities of each pair of modalities, least squares inside the brain, streamed.

    "affine" is a slope and an offset. "lookup" is the mean of the target's intensities in each of `BINS` bins of the
    source's, interpolated between their middles. Both take and give intensities in [0, 1].

    Args:
        train: slices (N, H, W, C) in [-1, 1], and available (N, M) where some modalities are missing.
        pairs: (source, target), indices of modalities.
        shown: a batch -> its slices (N, H, W, M), where there are other channels too.

    Returns:
        {kind: {pair: function}}; a pair of which no slice has both modalities has none.
    """
    there = available(train)
    chosen = {(i, j): evenly(np.flatnonzero(there[:, i] & there[:, j]), SLICES) for i, j in pairs if i != j}
    sums = {pair: np.zeros(5) for pair in chosen}
    tables = {pair: np.zeros((2, BINS)) for pair in chosen}
    for batch in train.batches(np.concatenate([*chosen.values(), np.array([], int)])):
        image = shown(batch)
        inside = brain(image)
        for pair, rows in chosen.items():
            among = np.isin(batch["row"], rows)
            x, y = (unit(image[among][..., k])[inside[among]] for k in pair)
            sums[pair] += len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum()
            bins = np.clip((x * BINS).astype(int), 0, BINS - 1)
            tables[pair] += np.bincount(bins, minlength=BINS), np.bincount(bins, y, BINS)
    maps = {kind: {} for kind in KINDS}
    for pair, (count, *moments) in sums.items():
        if count:
            maps["affine"][pair] = _affine(*(moment / count for moment in moments))
            maps["lookup"][pair] = _lookup(*tables[pair])
    return maps


def opponents(
    maps: dict[str, dict[tuple[int, int], Map]], pair: tuple[int, int], source: np.ndarray, truth: np.ndarray, inside
) -> Iterator[tuple[str, np.ndarray]]:
    """(kind, slices (N, H, W) in [-1, 1]) that each map of a pair makes of slices `source` of it.

    The background is given to them, as the truth has it in its corner.
    """
    for kind, by_pair in maps.items():
        if pair in by_pair:
            made = 2 * np.clip(by_pair[pair](unit(source)), 0, 1) - 1
            yield kind, np.where(inside, made, truth[:, :1, :1])


def _affine(x: float, y: float, xx: float, xy: float) -> Map:
    """From the means of x, y, x x and x y."""
    variance = xx - x**2
    slope = (xy - x * y) / variance if variance > 1e-12 else 0.0
    return lambda values: slope * values + (y - slope * x)


def _lookup(count: np.ndarray, total: np.ndarray) -> Map:
    filled = np.flatnonzero(count)
    middles, means = (filled + 0.5) / BINS, total[filled] / count[filled]
    return lambda values: np.interp(values, middles, means)
