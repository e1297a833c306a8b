"""Evaluation of translation between modalities: Sec. 3 of Liu et al., ISBI 2021, and what a user asks beyond it.

Every ordered pair of different modalities that the model knows is translated, on the test split. Baselines are measured
alike; they translate some of the pairs and are told the source. Images are compared on the scale [0, 1]: L1 (the
paper's is a sum over pixels; the mean is given too), PSNR with range 1, SSIM with scikit-image's 7 x 7 window. Each is
given on the whole slice, as in the paper, and inside the brain, where the background does not raise it.

Beyond the paper: what an affine map of intensities reaches, which needs no network; whether the anatomy codes of two
modalities of one slice are nearer to each other than those of two subjects; how large the error is in a lesion and
outside; and whether the segmentor of the paper's Table 2 finds the lesion from one real slice and synthesised others.
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
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.evaluation.slices import (
    available,
    brain,
    likeness,
    likeness_metrics,
    likeness_protocol,
    partners,
    pooled,
    rows_to_show,
    spread,
    unit,
)
from tfdisent.examples import Examples
from tfdisent.report import Figure, figures
from tfdisent.systems.unified import Unified, anatomy_distance

SEGMENTOR_SIZE = {"filters": 16}  # a quarter of the paper's, for two CPU cores
SEGMENTOR_FIT = {"epochs": 30, "batch_size": 16}
MAX_SLICES = 1000  # for the distance of anatomies
ALONE = "T2"  # the one real slice of the paper's Sec. 3.3, where there is that modality


def evaluate_run(
    model: Unified,
    read: Callable[[str], Examples],
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
        read: split -> its examples: image (N, H, W, M) in [-1, 1]; available (N, M), mask (N, H, W, 1), subject and
            slice_index where the data have them.
        manifest: of the data set.
        judge_directory: where the classifier behind the Inception score is kept.
        judge_kind: of that classifier, see `tfdisent.downstream.judge.fit_classifier`.
        num_samples: test slices to measure, spread evenly over the split.
        seed: of the choice of slices and of the segmentor.
        log: is told what is done.

    Returns:
        ({name: entry}, figures). Entries of pairs also have "per_pair", {"T1 to T2": value}.
    """
    names = model.config.modalities
    train, test = (part.take(np.arange(len(part))) for part in map(read, ("train", "test")))
    test = spread(test, num_samples)
    with model.averaged():
        count = sum(i != j for i, j in model.pairs)
        log(f"translating {len(test['image'])} slices, {count} pairs of modalities")
        made = translations(model, test)
        results = translation_metrics(made, train, test, names)
        results |= anatomy_metrics(model, test, seed)
    log("training the classifier of modalities, unless it is there already")
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
    """L1, PSNR and SSIM of all pairs, on the slice and inside the brain; and the SSIM of an affine map."""
    inside = brain(test["image"])
    scores, affine = {}, {}
    for (i, j), image in made.items():
        rows = np.flatnonzero(available(test)[:, i] & available(test)[:, j])
        if i == j or not len(rows):
            continue
        pair, truth = f"{names[i]} to {names[j]}", test["image"][rows, ..., j]
        scores[pair] = likeness(image[rows], truth, inside[rows])
        slope, offset = affine_map(train, i, j)
        mapped = np.clip(slope * unit(test["image"][rows, ..., i]) + offset, 0, 1)
        affine[pair] = measure.ssim(mapped, unit(truth), 1.0, inside[rows])
    results = likeness_metrics(scores)
    protocol = likeness_protocol("ssim_brain", f"{len(affine)} ordered pairs")
    results["ssim_brain_affine"] = pooled(
        affine,
        f"{protocol}; of the best affine map of intensities of the pair, fitted inside the brain on the training split",
    )
    pixels = np.prod(test["image"].shape[1:3])
    results["absolute_error_sum"] = pooled(
        {pair: found["mean_absolute_error"] * pixels for pair, found in scores.items()},
        f"sum over the {pixels} pixels of a slice, images in [0, 1]; the paper's L1, to judge by its size",
    )
    return results


def affine_map(train: dict, source: int, target: int) -> tuple[float, float]:
    """Slope and offset of the least-squares map of intensities in [0, 1] inside the brain, on the training split."""
    rows = np.flatnonzero(available(train)[:, source] & available(train)[:, target])
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 500)).astype(int)]
    image = train["image"][rows]
    inside = brain(image)
    slope, offset = np.polyfit(unit(image[..., source])[inside], unit(image[..., target])[inside], 1)
    return float(slope), float(offset)


def anatomy_metrics(model, test: dict, seed: int) -> dict:
    """The distance of the anatomy codes of two modalities of a slice, divided by that of two subjects' slices."""
    if not hasattr(model, "encode"):
        return {}
    whole = np.flatnonzero(available(test).all(axis=1))
    if len(whole) < 2:
        reason = f"it takes 2 test slices with all modalities, and there are {len(whole)}"
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
        "mean absolute difference of the codes Enc of two modalities of a slice, divided by that of two subjects' "
        f"slices in one modality; {len(rows)} slices, mean over {len(ratios)} pairs; at 0 the anatomy code does not "
        "depend on the modality, at 1 as much as on the subject"
    )
    value = float(np.mean(list(ratios.values())))
    return {"anatomy_distance_ratio": entry(value, len(rows), protocol, per_pair=ratios)}


def inception(made: dict, train: dict, names, kind: str, directory: pathlib.Path) -> dict:
    """Inception score of the translated images by a classifier of modalities; it is at most their number."""
    images, labels = train["image"], np.repeat(np.arange(len(names)), len(train["image"]))
    shown = np.concatenate([images[..., k : k + 1] for k in range(len(names))])
    there = np.concatenate([available(train)[:, k] for k in range(len(names))])
    judge = fit_classifier(
        shown[there],
        labels[there],
        len(names),
        kind=kind,
        epochs=3,
        directory=directory / "modality",
    )
    logits = np.concatenate([judge.logits(image[..., None]) for (i, j), image in made.items() if i != j])
    protocol = f"translated slices, all pairs; of a classifier of modalities, so at most {len(names)}"
    return {"inception_score": entry(measure.inception_score(logits), len(logits), protocol, judge.description)}


def lesion_metrics(made: dict, test: dict) -> dict:
    """Mean absolute error inside the lesions and in the rest of the brain of the slices that have one."""
    lesion = test["mask"][..., 0] > 0
    elsewhere = brain(test["image"]) & ~lesion
    inside, outside = [], []
    for (i, j), image in made.items():
        there = available(test)[:, i] & available(test)[:, j] & lesion.any(axis=(1, 2))
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

    The segmentor is trained on real images of all modalities; the one for the lower bound, which gets one real slice
    alone, on that modality.
    """
    there = available(train).all(axis=1)
    masks = train["mask"][..., 0] > 0
    if not masks[there].any():
        reason = "no training slice with all modalities has a lesion"
        return {"dice": entry(None, 0, "", reason=reason)}
    whole = np.flatnonzero(available(test).all(axis=1))
    if not len(whole):
        return {"dice": entry(None, 0, "", reason="no test slice has all modalities")}
    image, truth = test["image"][whole], test["mask"][whole][..., 0] > 0
    count = len(names)

    def scored(channels, *others):
        """Dice of a segmentor trained on these channels: on the real test slices, then on each of `others`."""
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
        "dice_real": entry(np.mean(real), len(whole), f"{how}; {count} real slices: the upper bound"),
        "dice_alone": entry(
            np.mean(scored([alone])[0]),
            len(whole),
            f"{how}; one real slice alone, {names[alone]}: the lower bound",
        ),
    }
    if completed:
        by_source = {name: float(np.mean(score)) for name, score in zip(completed, synthesised, strict=True)}
        results["dice"] = entry(
            np.mean(list(by_source.values())),
            len(completed) * len(whole),
            f"{how}; one real slice and {count - 1} synthesised, mean over the real one's modality",
            per_modality=by_source,
        )
    return results


def draw_figures(model, made: dict, test: dict, names: tuple[str, ...]) -> list[Figure]:
    """The paper's Fig. 2, every modality from every other, for the slice with the most of lesion or brain; Fig. 3."""
    size = (test["mask"][..., 0] > 0 if "mask" in test else brain(test["image"])).sum(axis=(1, 2))
    size = size * available(test).all(axis=1)
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
            "Left column: the real slice that the model was given. The rest of the row: the other contrasts that it "
            "synthesised from that slice. Top row: the real contrasts. Each synthesised slice should look like the top "
            "of its column, lesions included.",
            figures.columns_grid(groups),
            "paper Fig. 2",
        )
    ]
    pair = max((i, j) for i, j in made if i != j and i == min(made)[0])
    rows = rows_to_show(size, test.get("subject", np.zeros(len(size))))
    truth, ours = test["image"][rows][..., pair[1], None], made[pair][rows][..., None]
    error = np.clip(np.abs(truth - ours), 0, 1) * 2 - 1
    result.append(
        Figure(
            "Truth and error",
            f"{names[pair[0]]} translated to {names[pair[1]]}, beside the real slice. Error map: black is no error, "
            "white an error of half the intensity range or more.",
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
            f"The anatomy codes of two modalities of a slice are {value['anatomy_distance_ratio']:.2f} times as far "
            "apart as those of two subjects."
        )
    if "mean_absolute_error_elsewhere" in value:
        lines.append(
            f"The mean absolute error is {value['mean_absolute_error_lesion']:.3f} inside lesions and "
            f"{value['mean_absolute_error_elsewhere']:.3f} in the rest of the brain."
        )
    if "dice_real" in value and "dice" in value:
        lines.append(
            f"A segmentor finds lesions with Dice {value['dice']:.3f} from one real slice and the others synthesised, "
            f"{value['dice_real']:.3f} from all real ones."
        )
    return "\n".join(lines)


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"target": f"one-hot: {', '.join(manifest.modalities)}"}


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values)
