"""What evaluations of systems for aligned slices share: the brain, available modalities, likeness, means over parts.

Examples and batches of them hold image (N, H, W, M) in [-1, 1] with a channel for each modality, available (N, M) where
some are missing, subject and slice_index where they are known.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from tfdisent import metrics as measure
from tfdisent.evaluation.entries import entry
from tfdisent.examples import Examples, evenly

TOLERANCE = 1e-3  # of images in [-1, 1]: a pixel that differs more from the corner's value is no background
AT_ONCE = 16  # slices of a small batch
LIKENESS = ("mean_absolute_error", "psnr", "ssim")


def brain(image: np.ndarray) -> np.ndarray:
    """Pixels (N, H, W) of skull-stripped images (N, H, W, M) in which any modality differs from the image's corner.

    The background has one value, which need not be the lowest: resampling makes pixels at borders lower.
    """
    return (np.abs(image - image[:, :1, :1]) > TOLERANCE).any(axis=-1)


def unit(image: np.ndarray) -> np.ndarray:
    """Images of [-1, 1] on the scale [0, 1], float64."""
    return (np.asarray(image, np.float64) + 1) / 2


def available(arrays: Mapping[str, np.ndarray] | Examples) -> np.ndarray:
    """Which modalities of which slices are there, bool (N, M); all of them where the data do not say."""
    given = arrays.get("available")
    if given is None:
        whole = isinstance(arrays, Examples)
        given = np.ones((len(arrays), arrays.image_shape[-1]) if whole else arrays["image"].shape[::3])
    return np.asarray(given) > 0


def few_at_once(test: Examples, rows: np.ndarray) -> Iterator[dict]:
    """Batches of some slices, as small as a model that makes much of each is to see them."""
    for whole in test.batches(rows):
        for start in range(0, len(whole["image"]), AT_ONCE):
            yield {name: values[start : start + AT_ONCE] for name, values in whole.items()}


def areas(predicted: np.ndarray, truth: np.ndarray, labels: int) -> np.ndarray:
    """Pixels in common, of the prediction and of the truth, of each organ of each slice: (N, labels - 1, 3)."""
    organs = range(1, labels)
    found = [[(predicted == k) & (truth == k), predicted == k, truth == k] for k in organs]
    return np.array([[part.sum((1, 2)) for part in parts] for parts in found], float).transpose(2, 0, 1)


def dice_of(counts: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Dice of areas (..., 3): (...,); `empty` where there is nothing in either."""
    common, one, other = np.moveaxis(counts, -1, 0)
    return np.divide(2 * common, one + other, out=np.full(common.shape, empty), where=one + other > 0)


def partners(subject: np.ndarray, position: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """For each of the slices `rows` one of another subject, at the nearest position.

    Args:
        subject, position: (N,), of all slices.
        rows: (K,), numbers of slices, among which partners are looked for.
    """
    chosen = []
    for k, row in enumerate(rows):
        others = np.flatnonzero(subject[rows] != subject[row])
        if not len(others):
            others = np.delete(np.arange(len(rows)), k)
        near = np.abs(position[rows[others]] - position[row])
        best = others[near == near.min()]
        chosen.append(rows[best[k % len(best)]])
    return np.array(chosen)


def rows_to_show(size: np.ndarray, subject: np.ndarray, count: int = 4) -> np.ndarray:
    """Slices for a figure: of each subject the one with the largest `size`; where subjects are few, others of theirs.

    Args:
        size: (N,), of what is to be seen, such as pixels of lesion.
        subject: (N,), the subject of each slice.
        count: the most slices to return.
    """
    order = np.argsort(-size, kind="stable")
    _, first = np.unique(subject[order], return_index=True)
    rows = order[np.sort(first)][:count]
    others = np.setdiff1d(np.flatnonzero(size >= size.max() / 2), rows)
    return np.concatenate([rows, evenly(others, count - len(rows))])


def likeness(ours: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    """How alike images are, slice by slice, on the whole slice and inside the brain.

    Args:
        ours, truth: (N, H, W) in [-1, 1]; they are compared on the scale [0, 1].
        inside: (N, H, W), the pixels of the brain, or of whatever is not flattered by the background.

    Returns:
        {name: (N,)}: `mean_absolute_error`, `psnr` (range 1) and `ssim` (scikit-image's 7 x 7 window) of the slice, and
        the same with the ending `_brain`.
    """
    ours, truth = unit(ours), unit(truth)
    scores = {}
    for ending, region in (("", None), ("_brain", inside)):
        scores[f"mean_absolute_error{ending}"] = measure.mean_absolute_error(ours, truth, region)
        scores[f"psnr{ending}"] = measure.psnr(ours, truth, 1.0, region)
        scores[f"ssim{ending}"] = measure.ssim(ours, truth, 1.0, region)
    return scores


def likeness_metrics(
    scores: Mapping[str, Mapping[str, np.ndarray]], per: str = "pair", parts: str = "ordered pairs"
) -> dict[str, dict]:
    """Entries of metrics.json from the likeness of several parts, each entry the mean over parts.

    Args:
        scores: {part: what `likeness` gives for it}, a part being a pair of modalities, a modality, a domain, ...
        per: what a part is, in one word.
        parts: what the parts are, in words, for the protocol.
    """
    names = [f"{name}{ending}" for ending in ("", "_brain") for name in LIKENESS]
    return {
        name: pooled(
            {part: found[name] for part, found in scores.items()},
            likeness_protocol(name, f"{len(scores)} {parts}"),
            per,
        )
        for name in names
    }


def likeness_protocol(name: str, over: str) -> str:
    """How a metric of `likeness` is measured, in words; `over` says what the mean is over, besides slices."""
    where = "inside the brain" if "brain" in name else "on the whole slice"
    how = "7 x 7 window, " if "ssim" in name else ""
    return f"{where}, images in [0, 1], {how}mean over slices and {over}"


def pooled(by_part: Mapping[str, np.ndarray], protocol: str, per: str = "pair") -> dict:
    """An entry of metrics.json with the mean over parts of their means over slices, and each part's mean.

    Args:
        by_part: {part: (N,) scores of slices}, NaN where a slice has none.
        protocol: how it was measured.
        per: what a part is: "pair", "organ", "modality"; the parts' means lie in the entry's `per_<per>`.
    """
    means = {part: _mean(scores) for part, scores in by_part.items()}
    count = sum(map(len, by_part.values()))
    empty = [part for part, mean in means.items() if np.isnan(mean)]
    if not means or empty:
        reason = f"no test slice to measure for {', '.join(empty) or f'any {per}'}"
        return entry(None, count, protocol, reason=reason, **{f"per_{per}": means})
    return entry(np.mean(list(means.values())), count, protocol, **{f"per_{per}": means})


def _mean(scores: np.ndarray) -> float:
    there = scores[~np.isnan(scores)]
    return float(np.mean(there)) if len(there) else np.nan
