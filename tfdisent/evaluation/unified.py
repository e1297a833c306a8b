"""Evaluation of translation between modalities: Sec. 3 of Liu et al., ISBI 2021, and what a user asks beyond it.

It serves the baselines too, which translate some pairs and ask for the source. Every ordered pair of different
modalities that the model knows is translated, on the test split. Images are compared on the scale [0, 1]:
L1 (the paper's is a sum over pixels; the mean is given too), PSNR with range 1, SSIM with scikit-image's 7 x 7 window;
on the whole slice, as in the paper, and inside the brain, which is not flattered by the background.

Beyond the paper: how an affine map of intensities would do, which needs no network; whether the anatomy of two
modalities of one slice is nearer than that of two subjects; how wrong translations are in a lesion and outside; and
whether the segmentor of the paper's Table 2 finds the lesion with one real slice and the others synthesised.
"""

import itertools
import os
import pathlib
from collections.abc import Callable

import numpy as np

from tfdisent import metrics as measure
from tfdisent.downstream.judge import fit_classifier
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import entry
from tfdisent.report import Figure, figures
from tfdisent.systems.unified import Unified, anatomy_distance

TOLERANCE = 1e-3  # of images in [-1, 1]: what differs more from the corner's value is no background
SEGMENTOR_SIZE = {"filters": 16}  # a quarter of the paper's, for two CPU cores
SEGMENTOR_FIT = {"epochs": 30, "batch_size": 16}
MAX_SLICES = 1000  # for the distance of anatomies
ALONE = "T2"  # the one real slice of the paper's Sec. 3.3, where there is that modality


def evaluate_run(
    model: Unified,
    read: Callable[[str], dict],
    manifest,
    *,
    judge_directory: str | os.PathLike,
    judge_kind: str = "convnet",
    num_samples: int = 2000,
    seed: int = 0,
    log: Callable[[str], None] = lambda message: None,
) -> tuple[dict, list[Figure]]:
    """Metrics and figures of a trained model on a prepared data set.

    Args:
        model: trained; its averaged weights are used.
        read: split -> its arrays, as from `tfdisent.data.as_arrays`: image (N, H, W, M) in [-1, 1]; available (N, M),
            mask (N, H, W, 1), subject and slice_index where there are such.
        manifest: of the data.
        judge_directory: where the classifier behind the Inception score is kept.
        judge_kind: of it, see `tfdisent.downstream.judge.fit_classifier`.
        num_samples: test slices to measure, spread evenly over the split.
        seed: of pairs and of the segmentor.
        log: is told what is done.

    Returns:
        ({name: entry}, figures). Entries of pairs also have "per_pair", {"T1 to T2": value}.
    """
    names = model.config.modalities
    train, test = read("train"), _spread(read("test"), num_samples)
    with model.averaged():
        count = sum(i != j for i, j in model.pairs)
        log(f"translating {len(test['image'])} slices, {count} pairs of modalities")
        made = translations(model, test)
        results = translation_metrics(made, train, test, names)
        results |= anatomy_metrics(model, test, seed)
    log("training the classifier of modalities, unless it is kept from before")
    results |= inception(made, train, names, judge_kind, pathlib.Path(judge_directory))
    has_lesions = len(manifest.mask_labels) > 1 and "mask" in test
    if has_lesions:
        results |= lesion_metrics(made, test)
        log("training the segmentor on real images")
        results |= segmentation_metrics(made, train, test, names, seed)
    log("drawing figures")
    return results, draw_figures(model, made, test, names)


def translations(model: Unified, test: dict) -> dict[tuple[int, int], np.ndarray]:
    """{(source, target): (N, H, W)} of all pairs that the model knows, in [-1, 1]."""
    return {
        (i, j): in_batches(lambda x, i=i, j=j: translate(model, x, i, j), test["image"][..., i : i + 1], size=64)[
            ..., 0
        ]
        for i, j in model.pairs
    }


def translate(model, image, source: int, target: int):
    """Slices (B, H, W, 1) in another modality, by a model that asks for the source or by one that does not."""
    given = {"source": source} if model.needs_source else {}
    return model.translate(image, target, **given)


def translation_metrics(made: dict, train: dict, test: dict, names: tuple[str, ...]) -> dict:
    """L1, PSNR and SSIM of all pairs, on the slice and inside the brain; the latter of an affine map too."""
    regions = {"": None, "_brain": brain(test["image"])}
    values = {}
    for (i, j), image in made.items():
        rows = np.flatnonzero(_available(test)[:, i] * _available(test)[:, j])
        if i == j or not len(rows):
            continue
        pair = f"{names[i]} to {names[j]}"
        truth, ours = unit(test["image"][rows, ..., j]), unit(image[rows])
        for ending, region in regions.items():
            inside = None if region is None else region[rows]
            scores = {
                "mean_absolute_error": measure.mean_absolute_error(ours, truth, inside),
                "psnr": measure.psnr(ours, truth, 1.0, inside),
                "ssim": measure.ssim(ours, truth, 1.0, inside),
            }
            for name, score in scores.items():
                values.setdefault(name + ending, {})[pair] = score
        slope, offset = affine_map(train, i, j)
        mapped = np.clip(slope * unit(test["image"][rows, ..., i]) + offset, 0, 1)
        values.setdefault("ssim_brain_affine", {})[pair] = measure.ssim(mapped, truth, 1.0, regions["_brain"][rows])
    pixels = np.prod(test["image"].shape[1:3])
    results = {}
    for name, by_pair in values.items():
        where = "inside the brain" if "brain" in name else "on the whole slice"
        how = "7 x 7 window, " if "ssim" in name else ""
        what = (
            "; of the best affine map of intensities of the pair, fitted inside the brain on the training split"
            if name.endswith("affine")
            else ""
        )
        protocol = f"{where}, images in [0, 1], {how}mean over slices and {len(by_pair)} ordered pairs{what}"
        results[name] = pooled(by_pair, protocol)
    total = {pair: score * pixels for pair, score in values["mean_absolute_error"].items()}
    results["absolute_error_sum"] = pooled(
        total,
        f"sum over the {pixels} pixels of a slice, images in [0, 1]; the paper's L1, as its size tells",
    )
    return results


def affine_map(train: dict, source: int, target: int) -> tuple[float, float]:
    """Slope and offset of the least-squares map of intensities in [0, 1] inside the brain, on the training split."""
    rows = np.flatnonzero(_available(train)[:, source] * _available(train)[:, target])
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 500)).astype(int)]
    image = train["image"][rows]
    inside = brain(image)
    slope, offset = np.polyfit(unit(image[..., source])[inside], unit(image[..., target])[inside], 1)
    return float(slope), float(offset)


def anatomy_metrics(model, test: dict, seed: int) -> dict:
    """How near the anatomies of two modalities of one slice are, over those of two subjects in one modality."""
    if not hasattr(model, "encode"):
        return {}
    whole = np.flatnonzero(_available(test).all(axis=1))
    if len(whole) < 2:
        reason = f"{len(whole)} test slices have all modalities; it takes 2"
        return {"anatomy_distance_ratio": entry(None, 0, "", reason=reason)}
    rows = np.random.default_rng(seed).permutation(whole)[:MAX_SLICES]
    names, all_levels = model.config.modalities, model.config.disentangle_skips

    def distances(image, other):
        anatomy = [model.encode(image[..., k : k + 1]) for k in range(len(names))]
        elsewhere = [model.encode(other[..., k : k + 1]) for k in range(len(names))]
        of_subjects = [anatomy_distance(one, two, all_levels) for one, two in zip(anatomy, elsewhere, strict=True)]
        return {"": sum(of_subjects) / len(names)} | {
            f"{names[i]} and {names[j]}": anatomy_distance(anatomy[i], anatomy[j], all_levels)
            for i, j in itertools.combinations(range(len(names)), 2)
        }

    found = in_batches(distances, test["image"][rows], test["image"][partners(test, rows)], size=32)
    between = float(np.mean(found.pop("")))
    ratios = {pair: float(np.mean(values)) / between for pair, values in found.items()}
    protocol = (
        f"mean absolute difference of the codes Enc of two modalities of a slice, over that of two subjects' slices in "
        f"one modality; {len(rows)} slices, mean over {len(ratios)} pairs; 0: modality is not in the anatomy, 1: as "
        "much as the subject is"
    )
    value = float(np.mean(list(ratios.values())))
    return {"anatomy_distance_ratio": entry(value, len(rows), protocol) | {"per_pair": ratios}}


def partners(test: dict, rows: np.ndarray) -> np.ndarray:
    """For each of these slices another subject's, at the nearest position where positions are known."""
    subject = test.get("subject", np.arange(len(test["image"])))
    position = test.get("slice_index", np.zeros(len(test["image"]))).reshape(len(test["image"]))
    chosen = []
    for k, row in enumerate(rows):
        others = np.flatnonzero(subject[rows] != subject[row])
        if not len(others):
            others = np.delete(np.arange(len(rows)), k)
        near = np.abs(position[rows[others]] - position[row])
        best = others[near == near.min()]
        chosen.append(rows[best[k % len(best)]])
    return np.array(chosen)


def inception(made: dict, train: dict, names, kind: str, directory: pathlib.Path) -> dict:
    """Inception score of the translated images, on a classifier of modalities: at most their number."""
    images, labels = train["image"], np.repeat(np.arange(len(names)), len(train["image"]))
    shown = np.concatenate([images[..., k : k + 1] for k in range(len(names))])
    there = np.concatenate([_available(train)[:, k] for k in range(len(names))]) > 0
    judge = fit_classifier(
        shown[there],
        labels[there],
        len(names),
        kind=kind,
        epochs=3,
        directory=directory / "modality",
    )
    logits = np.concatenate([judge.logits(image[..., None]) for (i, j), image in made.items() if i != j])
    protocol = f"translated slices, all pairs; the classifier tells modalities, so at most {len(names)}"
    return {"inception_score": entry(measure.inception_score(logits), len(logits), protocol, judge.description)}


def lesion_metrics(made: dict, test: dict) -> dict:
    """Mean absolute error inside the lesions and in the rest of the brain of the slices that have one."""
    lesion = test["mask"][..., 0] > 0
    elsewhere = brain(test["image"]) & ~lesion
    inside, outside = [], []
    for (i, j), image in made.items():
        there = (_available(test)[:, i] * _available(test)[:, j] > 0) & lesion.any(axis=(1, 2))
        if i == j or not there.any():
            continue
        truth, ours = unit(test["image"][there, ..., j]), unit(image[there])
        inside.append(measure.mean_absolute_error(ours, truth, lesion[there]))
        outside.append(measure.mean_absolute_error(ours, truth, elsewhere[there]))
    if not inside:
        reason = "no test slice has a lesion"
        return {"mean_absolute_error_lesion": entry(None, 0, "", reason=reason)}
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    slices = "slices with a lesion, images in [0, 1], all pairs"
    return {
        "mean_absolute_error_lesion": entry(np.nanmean(inside), len(inside), f"inside it; {slices}"),
        "mean_absolute_error_elsewhere": entry(
            np.nanmean(outside), len(outside), f"in the rest of the brain; {slices}"
        ),
    }


def segmentation_metrics(made: dict, train: dict, test: dict, names, seed: int) -> dict:
    """Table 2: Dice of the lesion, segmented from one real slice and the others synthesised; and its bounds.

    The segmentor has learnt on real images of all modalities; another, for one real slice alone, on that modality.
    """
    there = _available(train).all(axis=1)
    masks = train["mask"][..., 0] > 0
    if not masks[there].any():
        reason = "no training slice with all modalities has a lesion"
        return {"dice": entry(None, 0, "", reason=reason)}
    whole = np.flatnonzero(_available(test).all(axis=1))
    if not len(whole):
        return {"dice": entry(None, 0, "", reason="no test slice has all modalities")}
    image, truth = test["image"][whole], test["mask"][whole][..., 0] > 0
    count = len(names)

    def scored(channels, *others):
        """Of a segmentor trained on these channels: on the test slices, and on others in their place."""
        segmentor = Segmentor((*image.shape[1:3], len(channels)), seed=seed, **SEGMENTOR_SIZE)
        segmentor.fit(train["image"][there][..., channels], masks[there], seed=seed, **SEGMENTOR_FIT)
        return [segmentor.score(x, truth) for x in (image[..., channels], *others)]

    completed = {
        names[i]: np.stack([image[..., j] if i == j else made[i, j][whole] for j in range(count)], axis=-1)
        for i in range(count)
        if all(i == j or (i, j) in made for j in range(count))
    }
    real, *synthesised = scored(range(count), *completed.values())
    alone = names.index(ALONE) if ALONE in names else 0
    how = (
        f"Dice of each slice with smooth 1, mean; segmentor of {SEGMENTOR_SIZE['filters']} filters, trained on real "
        "images"
    )
    results = {
        "dice_real": entry(np.mean(real), len(whole), f"{how}; {count} real slices: the bound above"),
        "dice_alone": entry(
            np.mean(scored([alone])[0]),
            len(whole),
            f"{how}; one real slice alone, {names[alone]}: the bound below",
        ),
    }
    if completed:
        by_source = {name: float(np.mean(score)) for name, score in zip(completed, synthesised, strict=True)}
        results["dice"] = entry(
            np.mean(list(by_source.values())),
            len(completed) * len(whole),
            f"{how}; one real slice and {count - 1} synthesised, mean over the real one's modality",
        ) | {"per_modality": by_source}
    return results


def draw_figures(model, made: dict, test: dict, names: tuple[str, ...]) -> list[Figure]:
    """The paper's Fig. 2, every modality from every other, for the slice with the most of lesion or brain; Fig. 3."""
    size = (test["mask"][..., 0] > 0 if "mask" in test else brain(test["image"])).sum(axis=(1, 2))
    size = size * _available(test).all(axis=1)
    row = int(np.argmax(size))
    sources = np.moveaxis(test["image"][row], -1, 0)[..., None]
    blank = np.full_like(sources[0], -1)
    groups = {"given": np.stack([blank, *sources])}
    for j, name in enumerate(names):
        column = [made[i, j][row][..., None] if (i, j) in made else blank for i in range(len(names))]
        groups[name] = np.stack([sources[j], *column])
    result = [
        Figure(
            "Every modality from every other",
            "At the left the real slice that was given, in the row the modalities made of it; the top row is the "
            "truth. Every column should look like its top, lesion included.",
            figures.columns_grid(groups),
            "paper Fig. 2",
        )
    ]
    pair = max((i, j) for i, j in made if i != j and i == min(made)[0])
    rows = _different(size, test.get("subject", np.zeros(len(size))))
    truth, ours = test["image"][rows][..., pair[1], None], made[pair][rows][..., None]
    error = np.clip(np.abs(truth - ours), 0, 1) * 2 - 1
    result.append(
        Figure(
            "Truth and error",
            f"{names[pair[0]]} to {names[pair[1]]}; the error from black, none, to white, half of the range.",
            figures.columns_grid(
                {
                    names[pair[0]]: test["image"][rows][..., pair[0], None],
                    "translated": ours,
                    "truth": truth,
                    "error": error,
                }
            ),
            "paper Fig. 3",
        )
    )
    return result


def _different(size: np.ndarray, subject: np.ndarray, count: int = 4) -> np.ndarray:
    """Rows to show: the slice with the most of each subject, and of few subjects some of their others."""
    order = np.argsort(-size, kind="stable")
    _, first = np.unique(subject[order], return_index=True)
    rows = order[np.sort(first)][:count]
    others = np.setdiff1d(np.flatnonzero(size >= size.max() / 2), rows)
    more = np.linspace(0, len(others) - 1, min(len(others), count - len(rows))).astype(int)
    return np.concatenate([rows, others[more]])


def sample_grid(model: Unified, shown: dict) -> np.ndarray:
    """A picture of training's progress: a modality, others made from it, and their truths; uint8 RGB."""
    image, names = shown["image"][:4], model.config.modalities
    source = model.pairs[0][0]
    groups = {names[source]: image[..., source : source + 1]}
    with model.averaged():
        for i, j in model.pairs:
            if i == source:
                made = in_batches(lambda x, j=j: translate(model, x, source, j), groups[names[source]])
                groups[f"made {names[j]}"] = made
                groups[f"true {names[j]}"] = image[..., j : j + 1]
    return figures.columns_grid(groups)


def headline(metrics: dict) -> str:
    """The result in words, from the metrics."""
    value = {name: np.nan if e["value"] is None else e["value"] for name, e in metrics.items()}
    lines = [
        f"Inside the brain, translations have SSIM {value['ssim_brain']:.3f} and PSNR {value['psnr_brain']:.1f} dB "
        f"over all ordered pairs; the best affine map of intensities reaches SSIM {value['ssim_brain_affine']:.3f}."
    ]
    if "anatomy_distance_ratio" in value:
        lines.append(
            f"The anatomy of two modalities of a slice is {value['anatomy_distance_ratio']:.2f} times as far apart as "
            "that of two subjects."
        )
    if "mean_absolute_error_elsewhere" in value:
        lines.append(
            f"The mean absolute error is {value['mean_absolute_error_lesion']:.3f} inside lesions and "
            f"{value['mean_absolute_error_elsewhere']:.3f} in the rest of the brain."
        )
    if "dice_real" in value and "dice" in value:
        lines.append(
            f"A segmentor finds lesions with Dice {value['dice']:.3f} from one real slice and the others "
            f"synthesised, {value['dice_real']:.3f} from all real ones."
        )
    return "\n".join(lines)


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"target": f"one-hot: {', '.join(manifest.modalities)}"}


def brain(image: np.ndarray) -> np.ndarray:
    """Pixels (N, H, W) where any modality of images (N, H, W, M) is not as in the corner, of skull-stripped images.

    Their background is one value, which need not be the lowest: resampling makes some lower ones at borders.
    """
    return (np.abs(image - image[:, :1, :1]) > TOLERANCE).any(axis=-1)


def unit(image: np.ndarray) -> np.ndarray:
    """Images of [-1, 1] in [0, 1]."""
    return (np.asarray(image, np.float64) + 1) / 2


def pooled(by_pair: dict[str, np.ndarray], protocol: str) -> dict:
    """An entry with the mean over pairs of the means over slices, and each pair's."""
    means = {pair: float(np.nanmean(score)) for pair, score in by_pair.items()}
    count = sum(map(len, by_pair.values()))
    return entry(np.mean(list(means.values())), count, protocol) | {"per_pair": means}


def _available(arrays: dict) -> np.ndarray:
    image = arrays["image"]
    return np.asarray(arrays.get("available", np.ones((len(image), image.shape[-1]))), np.float32)


def _spread(arrays: dict, most: int) -> dict:
    count = len(arrays["image"])
    rows = np.linspace(0, count - 1, min(count, most)).astype(int)
    return {name: values[rows] for name, values in arrays.items()}
