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
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfdisent import metrics as measure
from tfdisent.downstream.judge import fit_classifier
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import Results, entry
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
    unit,
)
from tfdisent.examples import HELD_BYTES, Examples, evenly, together
from tfdisent.report import Figure, figures
from tfdisent.systems.unified import Unified, anatomy_distance

SEGMENTOR_SIZE = {"filters": 16}  # a quarter of the paper's, for two CPU cores
SEGMENTOR_FIT = {"epochs": 30, "batch_size": 16}
MAX_SLICES = 1000  # for the distance of anatomies
AFFINE_SLICES = 500  # of each pair
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
    names, results = model.config.modalities, Results(log)
    train, test = read("train"), read("test")
    rows = test.spread(num_samples)
    with model.averaged():
        count = sum(i != j for i, j in model.pairs)
        log(f"translating {len(rows)} slices, {count} pairs of modalities")
        translated = Translations(model, test, rows)
        results.measure(["ssim_brain"], translation_metrics, translated, train, names)
        results.measure(["anatomy_distance_ratio"], anatomy_metrics, model, test, rows, seed)
        log("training the classifier of modalities, unless it is there already")
        judged = pathlib.Path(judge_directory) / "modality"
        results.measure(["inception_score"], inception, translated, train, names, judge_kind, judged)
        if len(manifest.mask_labels) > 1 and "mask" in test.names:
            results.measure(["mean_absolute_error_lesion"], lesion_metrics, translated)
            log("training the segmentor on real images")
            results.measure(["dice"], segmentation_metrics, translated, train, names, seed)
        log("drawing figures")
        results.draw("Every modality from every other", draw_figures, translated, names)
    return results.metrics, results.figures


class Translations:
    """Test slices with their translations, (batch, {(source, target): (B, H, W)}), which can be gone through again.

    Up to `HELD_BYTES` of translations are kept; more are made again each time.

    Args:
        model: with its averaged weights.
        test: the split.
        rows: the slices of it that are measured.
    """

    def __init__(self, model: Unified, test: Examples, rows: np.ndarray):
        self.model, self.test, self.rows = model, test, rows
        self._kept: list | None = None

    def __iter__(self) -> Iterator[tuple[dict, dict[tuple[int, int], np.ndarray]]]:
        if self._kept is not None:
            yield from self._kept
            return
        height, width, _ = self.test.image_shape
        fits = 4 * height * width * len(self.model.pairs) * len(self.rows) <= HELD_BYTES
        kept = []
        for batch in self.test.batches(self.rows):
            made = translations(self.model, batch)
            if fits:
                kept.append((batch, made))
            yield batch, made
        self._kept = kept if fits else None


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


def translation_metrics(translated: Translations, train: Examples, names: tuple[str, ...]) -> dict:
    """L1, PSNR and SSIM of all pairs, on the slice and inside the brain; and the SSIM of an affine map."""
    maps = affine_maps(train, translated.model.pairs)
    scores, affine, pixels = {}, {}, np.prod(translated.test.image_shape[:2])
    for test, made in translated:
        inside, there = brain(test["image"]), available(test)
        for (i, j), image in made.items():
            rows = np.flatnonzero(there[:, i] & there[:, j])
            if i == j or not len(rows):
                continue
            pair, truth = f"{names[i]} to {names[j]}", test["image"][rows, ..., j]
            scores.setdefault(pair, []).append(likeness(image[rows], truth, inside[rows]))
            if (i, j) in maps:
                slope, offset = maps[i, j]
                mapped = np.clip(slope * unit(test["image"][rows, ..., i]) + offset, 0, 1)
                affine.setdefault(pair, []).append(measure.ssim(mapped, unit(truth), 1.0, inside[rows]))
    scores = {pair: together(found) for pair, found in scores.items()}
    results = likeness_metrics(scores)
    protocol = (
        f"{likeness_protocol('ssim_brain', f'{len(scores)} ordered pairs')}; of the best affine map of intensities of "
        f"the pair, fitted inside the brain on at most {AFFINE_SLICES} slices of the training split"
    )
    alone = [pair for pair in scores if pair not in affine]
    if alone:
        reason = f"no training slice has both modalities of {', '.join(alone)}"
        means = {pair: np.nanmean(np.concatenate(found)) for pair, found in affine.items()}
        results["ssim_brain_affine"] = entry(None, 0, protocol, reason=reason, per_pair=means)
    else:
        results["ssim_brain_affine"] = pooled({pair: np.concatenate(found) for pair, found in affine.items()}, protocol)
    results["absolute_error_sum"] = pooled(
        {pair: found["mean_absolute_error"] * pixels for pair, found in scores.items()},
        f"sum over the {pixels} pixels of a slice, images in [0, 1]; the paper's L1, to judge by its size",
    )
    return results


def affine_maps(train: Examples, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[float, float]]:
    """Slope and offset of each pair's least-squares map of intensities in [0, 1] inside the brain, on training slices.

    A pair of which no slice has both modalities has none.
    """
    there = available(train)
    chosen = {(i, j): evenly(np.flatnonzero(there[:, i] & there[:, j]), AFFINE_SLICES) for i, j in pairs if i != j}
    sums = {pair: np.zeros(5) for pair in chosen}
    for batch in train.batches(np.concatenate([*chosen.values(), np.array([], int)])):
        inside = brain(batch["image"])
        for pair, rows in chosen.items():
            among = np.isin(batch["row"], rows)
            x, y = (unit(batch["image"][among][..., k])[inside[among]] for k in pair)
            sums[pair] += len(x), x.sum(), y.sum(), (x * x).sum(), (x * y).sum()
    maps = {}
    for pair, (count, x, y, xx, xy) in sums.items():
        if count:
            variance = xx / count - (x / count) ** 2
            slope = (xy / count - x * y / count**2) / variance if variance > 1e-12 else 0.0
            maps[pair] = (float(slope), float((y - slope * x) / count))
    return maps


def anatomy_metrics(model, test: Examples, rows: np.ndarray, seed: int) -> dict:
    """The distance of the anatomy codes of two modalities of a slice, divided by that of two subjects' slices."""
    if not hasattr(model, "encode"):
        return {}
    whole = rows[available(test)[rows].all(axis=1)]
    if len(whole) < 2:
        reason = f"it takes 2 test slices with all modalities, and there are {len(whole)}"
        return {"anatomy_distance_ratio": entry(None, 0, "", reason=reason)}
    rows = np.random.default_rng(seed).permutation(whole)[: min(MAX_SLICES, test.holdable(("image",)))]
    names, all_levels = model.config.modalities, model.config.disentangle_skips
    image = test.take(rows, ("image",))["image"]
    subject = test.get("subject", np.arange(len(test)))
    position = test.get("slice_index", np.zeros(len(test))).reshape(len(test))
    others = np.argsort(rows)[np.searchsorted(np.sort(rows), partners(subject, position, rows))]

    def distances(image, other):
        anatomy = [model.encode(image[..., k : k + 1]) for k in range(len(names))]
        elsewhere = [model.encode(other[..., k : k + 1]) for k in range(len(names))]
        of_subjects = [anatomy_distance(one, two, all_levels) for one, two in zip(anatomy, elsewhere, strict=True)]
        return {"": sum(of_subjects) / len(names)} | {
            f"{names[i]} and {names[j]}": anatomy_distance(anatomy[i], anatomy[j], all_levels)
            for i, j in itertools.combinations(range(len(names)), 2)
        }

    parts = [
        in_batches(distances, image[start : start + 32], image[others[start : start + 32]])
        for start in range(0, len(rows), 32)
    ]
    found = together(parts)
    between = float(np.mean(found.pop("")))
    if not between > 0:
        reason = "the anatomy codes of different subjects are equal"
        return {"anatomy_distance_ratio": entry(None, len(rows), "", reason=reason)}
    ratios = {pair: float(np.mean(values)) / between for pair, values in found.items()}
    protocol = (
        "mean absolute difference of the codes Enc of two modalities of a slice, divided by that of two subjects' "
        f"slices in one modality; {len(rows)} slices, mean over {len(ratios)} pairs; at 0 the anatomy code does not "
        "depend on the modality, at 1 as much as on the subject"
    )
    value = float(np.mean(list(ratios.values())))
    return {"anatomy_distance_ratio": entry(value, len(rows), protocol, per_pair=ratios)}


def inception(translated: Translations, train: Examples, names, kind: str, directory: pathlib.Path) -> dict:
    """Inception score of the translated images by a classifier of modalities; it is at most their number."""
    there = available(train)
    rows = [np.flatnonzero(there[:, k]) for k in range(len(names))]
    labels = np.repeat(np.arange(len(names)), list(map(len, rows)))
    known = [name for name, found in zip(names, rows, strict=True) if len(found)]
    if len(known) < 2:
        reason = f"it takes training slices of two modalities, and there are those of {', '.join(known) or 'none'}"
        return {"inception_score": entry(None, 0, "", reason=reason)}
    shown = train.select(np.concatenate(rows), labels[:, None])
    judge = fit_classifier(shown, labels, len(names), kind=kind, epochs=3, directory=directory)
    logits = [
        judge.logits(image[available(test)[:, i]][..., None])
        for test, made in translated
        for (i, j), image in made.items()
        if i != j and available(test)[:, i].any()
    ]
    if not logits:
        return {"inception_score": entry(None, 0, "", reason="no test slice has a modality to translate")}
    logits = np.concatenate(logits)
    protocol = f"translated slices, all pairs; of a classifier of modalities, so at most {len(names)}"
    return {"inception_score": entry(measure.inception_score(logits), len(logits), protocol, judge.description)}


def lesion_metrics(translated: Translations) -> dict:
    """Mean absolute error inside the lesions and in the rest of the brain of the slices that have one."""
    inside, outside = [], []
    for test, made in translated:
        lesion = test["mask"][..., 0] > 0
        elsewhere = brain(test["image"]) & ~lesion
        for (i, j), image in made.items():
            there = available(test)[:, i] & available(test)[:, j] & lesion.any(axis=(1, 2))
            if i == j or not there.any():
                continue
            truth, ours = unit(test["image"][there, ..., j]), unit(image[there])
            inside.append(measure.mean_absolute_error(ours, truth, lesion[there]))
            outside.append(measure.mean_absolute_error(ours, truth, elsewhere[there]))
    if not inside:
        reason = "no test slice with two modalities has a lesion"
        return {"mean_absolute_error_lesion": entry(None, 0, "", reason=reason)}
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    slices = "slices with a lesion, images in [0, 1], all pairs"
    return {
        "mean_absolute_error_lesion": entry(np.nanmean(inside), len(inside), f"inside it; {slices}"),
        "mean_absolute_error_elsewhere": entry(
            np.nanmean(outside), len(outside), f"in the rest of the brain; {slices}"
        ),
    }


def segmentation_metrics(translated: Translations, train: Examples, names, seed: int) -> dict:
    """Table 2: Dice of the lesion, segmented from one real slice and the others synthesised; and its bounds.

    The segmentor is trained on real images of all modalities; the one for the lower bound, which gets one real slice
    alone, on that modality.
    """
    learnt = np.flatnonzero(available(train).all(axis=1))
    if not any((batch["mask"][..., 0] > 0).any() for batch in train.batches(learnt)):
        reason = "no training slice with all modalities has a lesion"
        return {"dice": entry(None, 0, "", reason=reason)}
    number = int(available(translated.test)[translated.rows].all(axis=1).sum())
    if not number:
        return {"dice": entry(None, 0, "", reason="no test slice has all modalities")}
    count = len(names)
    alone = names.index(ALONE) if ALONE in names else 0
    lesions = train.mapped(lambda batch: {**batch, "mask": batch["mask"][..., 0] > 0})

    def trained(channels):
        segmentor = Segmentor((*train.image_shape[:2], len(channels)), seed=seed, **SEGMENTOR_SIZE)
        segmentor.fit(lesions.select(learnt, channels, ("image", "mask")), seed=seed, **SEGMENTOR_FIT)
        return segmentor

    of_all, of_one = trained(range(count)), trained([alone])
    real, single, synthesised = [], [], {}
    for test, made in translated:
        whole = np.flatnonzero(available(test).all(axis=1))
        if not len(whole):
            continue
        image, truth = test["image"][whole], test["mask"][whole][..., 0] > 0
        real.append(of_all.score(image, truth))
        single.append(of_one.score(image[..., [alone]], truth))
        for i in range(count):
            if all(i == j or (i, j) in made for j in range(count)):
                channels = [image[..., j] if i == j else made[i, j][whole] for j in range(count)]
                synthesised.setdefault(names[i], []).append(of_all.score(np.stack(channels, axis=-1), truth))
    how = (
        f"Dice of each slice with smooth 1, mean; segmentor of {SEGMENTOR_SIZE['filters']} filters, trained on "
        f"{len(learnt)} slices of real images"
    )
    results = {
        "dice_real": entry(np.mean(np.concatenate(real)), number, f"{how}; {count} real slices: the upper bound"),
        "dice_alone": entry(
            np.mean(np.concatenate(single)),
            number,
            f"{how}; one real slice alone, {names[alone]}: the lower bound",
        ),
    }
    if synthesised:
        by_source = {name: float(np.mean(np.concatenate(score))) for name, score in synthesised.items()}
        results["dice"] = entry(
            np.mean(list(by_source.values())),
            len(synthesised) * number,
            f"{how}; one real slice and {count - 1} synthesised, mean over the real one's modality",
            per_modality=by_source,
        )
    return results


def draw_figures(translated: Translations, names: tuple[str, ...]) -> list[Figure]:
    """The paper's Fig. 2, every modality from every other, for the slice with the most of lesion or brain; Fig. 3."""
    model, test = translated.model, translated.test
    size = np.concatenate(
        [
            (batch["mask"][..., 0] > 0 if "mask" in batch else brain(batch["image"])).sum(axis=(1, 2))
            for batch in test.batches(translated.rows)
        ]
    )
    there = available(test)[translated.rows]
    whole = there.all(axis=1)
    row = int(np.argmax((size + 1) * (whole if whole.any() else there.sum(axis=1))))
    shown = test.take(translated.rows[[row]])
    made = translations(model, shown)
    sources = np.moveaxis(shown["image"][0], -1, 0)[..., None]
    blank = np.full_like(sources[0], -1)
    groups = {"given": np.stack([blank, *sources])}
    for j, name in enumerate(names):
        is_made = [(i, j) in made and there[row, i] for i in range(len(names))]
        column = [made[i, j][0][..., None] if is_made[i] else blank for i in range(len(names))]
        groups[name] = np.stack([sources[j], *column])
    result = [
        Figure(
            "Every modality from every other",
            "Left column: the real slice that the model was given. The rest of the row: the other contrasts that it "
            "synthesised from that slice. Top row: the real contrasts. Each synthesised slice should look like the top "
            "of its column, lesions included."
            + ("" if there[row].all() else " Black: contrasts that this slice does not have."),
            figures.columns_grid(groups),
            "paper Fig. 2",
        )
    ]
    # From the first source to the last target, of slices with all modalities; else any pair that a slice has both of.
    pairs = sorted((pair for pair in model.pairs if pair[0] != pair[1]), key=lambda pair: (pair[0], -pair[1]))
    pairs = [pair for pair in pairs if there[:, pair].all(axis=1).any()]
    if not pairs:
        return result
    source, target = pairs[0]
    fitting = whole if whole.any() else there[:, pairs[0]].all(axis=1)
    subject = test.get("subject", np.zeros(len(test)))[translated.rows]
    places = np.flatnonzero(fitting)
    rows = places[rows_to_show(size[places], subject[places])]
    shown = test.take(translated.rows[rows])
    truth, ours = (
        shown["image"][..., target, None],
        in_batches(lambda x: translate(model, x, source, target), shown["image"][..., source : source + 1]),
    )
    error = np.clip(np.abs(truth - ours), 0, 1) * 2 - 1
    result.append(
        Figure(
            "Truth and error",
            f"{names[source]} translated to {names[target]}, beside the real slice. Error map: black is no error, "
            "white an error of half the intensity range or more.",
            figures.columns_grid(
                {
                    names[source]: shown["image"][..., source, None],
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
    """The result in words, of the metrics that have a value."""
    value = {name: found["value"] for name, found in metrics.items() if found["value"] is not None}
    lines = []
    if "ssim_brain" in value:
        line = f"Inside the brain, translations have SSIM {value['ssim_brain']:.3f}"
        if "psnr_brain" in value:
            line += f" and PSNR {value['psnr_brain']:.1f} dB"
        line += " over all ordered pairs"
        if "ssim_brain_affine" in value:
            line += f"; the best affine map of intensities reaches SSIM {value['ssim_brain_affine']:.3f}"
        lines.append(f"{line}.")
    else:
        reason = metrics.get("ssim_brain", {}).get("reason", "it was not measured")
        lines.append(f"How well it translates could not be measured: {reason}.")
    if "anatomy_distance_ratio" in value:
        lines.append(
            f"The anatomy codes of two modalities of a slice are {value['anatomy_distance_ratio']:.2f} times as far "
            "apart as those of two subjects."
        )
    if {"mean_absolute_error_elsewhere", "mean_absolute_error_lesion"} <= value.keys():
        lines.append(
            f"The mean absolute error is {value['mean_absolute_error_lesion']:.3f} inside lesions and "
            f"{value['mean_absolute_error_elsewhere']:.3f} in the rest of the brain."
        )
    if {"dice_real", "dice"} <= value.keys():
        lines.append(
            f"A segmentor finds lesions with Dice {value['dice']:.3f} from one real slice and the others synthesised, "
            f"{value['dice_real']:.3f} from all real ones."
        )
    return "\n".join(lines)


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"target": f"one-hot: {', '.join(manifest.modalities)}"}


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values)
