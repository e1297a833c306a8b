"""Evaluation of translation between modalities: Sec. 3 of Liu et al., ISBI 2021, and what a user asks beyond it.

Every ordered pair of different modalities that the model knows is translated, on the test split. Baselines are measured
alike; they translate some of the pairs and are told the source. Images are compared on the scale [0, 1]: L1 (the
paper's is a sum over pixels; the mean is given too), PSNR with range 1, SSIM with scikit-image's 7 x 7 window. Each is
given on the whole slice, as in the paper, and inside the brain, where the background does not raise it.

Beyond the paper: what maps of intensities reach, which need no network (`tfdisent.evaluation.intensity_maps`), beside
every likeness, error and Dice; whether the anatomy codes of two modalities of one slice are nearer to each other than
those of two subjects, level by level, and whether a linear probe reads the modality from them; how large the error is
in a lesion, in each of its parts, outside, and in healthy tissue opposite of it, where a model may draw lesions that it
learnt by heart; and whether the segmentor of the paper's Table 2 finds the lesion from one real slice and synthesised
others.
"""

import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from keras import ops

from tfdisent import metrics as measure
from tfdisent.downstream.judge import fit_classifier
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import Results, entry, values_of
from tfdisent.evaluation.intensity_maps import KINDS, intensity_maps, opponents
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
from tfdisent.examples import HELD_BYTES, Examples, together
from tfdisent.report import Figure, figures
from tfdisent.systems.unified import Unified, anatomy_distance

SEGMENTOR_SIZE = {"filters": 16}  # a quarter of the paper's, for two CPU cores
SEGMENTOR_FIT = {"epochs": 30, "batch_size": 16}
MAX_SLICES = 1000  # for the distance of anatomies
TREND_SLICES = 64  # that are translated at times in training
PROBED_SLICES = 600  # whose codes are probed for their modality, in all of their modalities


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
        log("fitting maps of intensities, which need no network")
        maps = results.attempt(["ssim_brain_lookup"], intensity_maps, train, model.pairs) or {}
        results.measure(["ssim_brain"], translation_metrics, translated, maps, names)
        results.measure(["anatomy_distance_ratio"], anatomy_metrics, model, test, rows, seed)
        results.measure(["modality_from_anatomy"], probe_metrics, model, test, rows, seed)
        log("training the classifier of modalities, unless it is there already")
        judged = pathlib.Path(judge_directory) / "modality"
        results.measure(["inception_score"], inception, translated, train, names, judge_kind, judged)
        if len(manifest.mask_labels) > 1 and "mask" in test.names:
            results.measure(
                ["mean_absolute_error_lesion"], lesion_metrics, translated, maps, tuple(manifest.mask_labels)
            )
            log("training segmentors on real images")
            results.measure(["dice"], segmentation_metrics, translated, maps, train, names, seed)
        log("drawing figures")
        results.draw("Every modality from every other", draw_figures, translated, names, ends_of(manifest))
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


def translation_metrics(translated: Translations, maps: dict, names: tuple[str, ...]) -> dict:
    """L1, PSNR and SSIM of all pairs, on the slice and inside the brain; and what maps of intensities reach."""
    scores, pixels = {}, np.prod(translated.test.image_shape[:2])
    theirs = {(metric, kind): {} for metric in COMPARED for kind in maps}
    for test, made in translated:
        inside, there = brain(test["image"]), available(test)
        for (i, j), image in made.items():
            rows = np.flatnonzero(there[:, i] & there[:, j])
            if i == j or not len(rows):
                continue
            pair, source, truth = f"{names[i]} to {names[j]}", *(test["image"][rows, ..., k] for k in (i, j))
            scores.setdefault(pair, []).append(likeness(image[rows], truth, inside[rows]))
            for kind, mapped in opponents(maps, (i, j), source, truth, inside[rows]):
                for metric, compare in COMPARED.items():
                    found = compare(unit(mapped), unit(truth), inside[rows])
                    theirs[metric, kind].setdefault(pair, []).append(found)
    scores = {pair: together(found) for pair, found in scores.items()}
    results = likeness_metrics(scores)
    summed = f"sum over the {pixels} pixels of a slice, images in [0, 1]; the paper's L1, to judge by its size"
    results["absolute_error_sum"] = pooled(
        {pair: found["mean_absolute_error"] * pixels for pair, found in scores.items()}, summed
    )
    for (metric, kind), found in theirs.items():
        found = {pair: np.concatenate(parts) for pair, parts in found.items()}
        how = summed if metric == "absolute_error_sum" else likeness_protocol(metric, f"{len(scores)} ordered pairs")
        protocol = f"{how}; of {KINDS[kind]} of the pair, fitted inside the brain on slices of the training split"
        alone = [pair for pair in scores if pair not in found]
        if alone:
            reason = f"no training slice has both modalities of {', '.join(alone)}"
            means = {pair: np.nanmean(parts) for pair, parts in found.items()}
            results[f"{metric}_{kind}"] = entry(None, 0, protocol, reason=reason, per_pair=means)
        else:
            results[f"{metric}_{kind}"] = pooled(found, protocol)
    return results


# What maps of intensities are compared by: of slices in [0, 1] and the brain's pixels, (N,).
COMPARED = {
    "ssim_brain": lambda made, truth, inside: measure.ssim(made, truth, 1.0, inside),
    "psnr_brain": lambda made, truth, inside: measure.psnr(made, truth, 1.0, inside),
    "absolute_error_sum": lambda made, truth, inside: np.abs(made - truth).sum(axis=(1, 2)),
}


def anatomy_metrics(model, test: Examples, rows: np.ndarray, seed: int) -> dict:
    """The distance of the anatomy codes of two modalities of a slice, divided by that of two subjects' slices.

    Of each level by itself, as their scales differ, and then the mean. A level where nothing differs says nothing.
    """
    if not hasattr(model, "encode"):
        return {}
    whole = rows[available(test)[rows].all(axis=1)]
    if len(whole) < 2:
        reason = f"it takes 2 test slices with all modalities, and there are {len(whole)}"
        return {"anatomy_distance_ratio": entry(None, 0, "", reason=reason)}
    rows = np.random.default_rng(seed).permutation(whole)[: min(MAX_SLICES, test.holdable(("image",)))]
    names = model.config.modalities
    image = test.take(rows, ("image",))["image"]
    subject = test.get("subject", np.arange(len(test)))
    position = test.get("slice_index", np.zeros(len(test))).reshape(len(test))
    others = np.argsort(rows)[np.searchsorted(np.sort(rows), partners(subject, position, rows))]

    def distances(image, other):
        anatomy = [model.encode(image[..., k : k + 1]) for k in range(len(names))]
        elsewhere = [model.encode(other[..., k : k + 1]) for k in range(len(names))]
        found = {}
        for level in sorted(anatomy[0]):
            codes, others = ([{level: one[level]} for one in several] for several in (anatomy, elsewhere))
            found[level, ""] = sum(map(anatomy_distance, codes, others)) / len(names)
            for i, j in itertools.combinations(range(len(names)), 2):
                found[level, f"{names[i]} and {names[j]}"] = anatomy_distance(codes[i], codes[j])
        return found

    parts = [
        in_batches(distances, image[start : start + 32], image[others[start : start + 32]])
        for start in range(0, len(rows), 32)
    ]
    means = {key: float(np.mean(values)) for key, values in together(parts).items()}
    levels = [level for level, pair in means if not pair and any(means[key] for key in means if key[0] == level)]
    pairs = [pair for level, pair in means if level == levels[0] and pair] if levels else []
    equal = [level for level in levels if not means[level, ""] > 0]
    if equal or not levels:
        reason = f"the anatomy codes of different subjects are equal{' at ' * bool(equal)}{', '.join(equal)}"
        return {"anatomy_distance_ratio": entry(None, len(rows), "", reason=reason)}
    ratio = {(level, pair): means[level, pair] / means[level, ""] for level in levels for pair in pairs}
    protocol = (
        "mean absolute difference of the codes Enc of two modalities of a slice, divided by that of two subjects' "
        f"slices in one modality, at each level; {len(rows)} slices, mean over {len(pairs)} pairs and {len(levels)} "
        "levels; at 0 the anatomy code does not depend on the modality, at 1 as much as on the subject"
    )
    return {
        "anatomy_distance_ratio": entry(
            np.mean(list(ratio.values())),
            len(rows),
            protocol,
            per_level={level: np.mean([ratio[level, pair] for pair in pairs]) for level in levels},
            per_pair={pair: np.mean([ratio[level, pair] for level in levels]) for pair in pairs},
        )
    }


def probe_metrics(model, test: Examples, rows: np.ndarray, seed: int) -> dict:
    """How often a linear probe reads the modality from the anatomy codes of subjects that it was not trained on."""
    if not hasattr(model, "encode"):
        return {}
    names, name = model.config.modalities, "modality_from_anatomy"
    rows = np.random.default_rng(seed).permutation(rows)[:PROBED_SLICES]
    subject = test.get("subject", np.arange(len(test)))
    parts = []
    for batch in test.batches(rows):
        for k in range(len(names)):
            some = available(batch)[:, k]
            if some.any():
                found = in_batches(lambda x: _statistics(model.encode(x)), batch["image"][some][..., [k]], size=64)
                parts.append(found | {"modality": np.full(some.sum(), k), "subject": subject[batch["row"][some]]})
    codes = together(parts) if parts else {}
    known = np.unique(codes["subject"]) if parts else []
    trained = np.isin(codes["subject"], known[::2]) if parts else np.zeros(0, bool)
    if not parts or any(len(np.unique(codes["modality"][half])) < 2 for half in (trained, ~trained)):
        reason = "it takes two modalities in each half of the test subjects"
        return {name: entry(None, 0, "", reason=reason)}
    labels, levels = codes["modality"], [level for level in codes if level.startswith("level_")]

    def read(values):
        return measure.linear_probe_accuracy(values, labels, train=trained)

    by_level = {level: read(codes[level]) for level in levels}
    together_read = read(np.concatenate([codes[level] for level in levels], axis=1))
    chance = np.bincount(labels[~trained]).max() / (~trained).sum()
    protocol = (
        "share of slices whose modality a linear probe reads from means and standard deviations of all features of the "
        f"anatomy, trained on {trained.sum()} codes of half of the test subjects and asked about the others'; chance "
        f"is {chance:.3f}, and a stronger probe may read more"
    )
    return {name: entry(together_read, int((~trained).sum()), protocol, per_level=by_level)}


def _statistics(anatomy: dict) -> dict:
    """Means and standard deviations over the map of each level's features, (N, 2 C)."""
    return {
        level: ops.concatenate([ops.mean(values, axis=(1, 2)), ops.std(values, axis=(1, 2))], axis=-1)
        for level, values in anatomy.items()
    }


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


def lesion_metrics(translated: Translations, maps: dict, labels: tuple[str, ...]) -> dict:
    """Mean absolute errors in the slices that have a lesion: in it and its parts, elsewhere, and opposite of it."""
    scores = {}
    for test, made in translated:
        mask, inside = test["mask"][..., 0], brain(test["image"])
        lesion = mask > 0
        regions = {"lesion": lesion, "elsewhere": inside & ~lesion, "opposite": mirrored(lesion, inside) & ~lesion}
        regions |= {f"lesion/{label}": mask == k for k, label in enumerate(labels) if k}
        for (i, j), image in made.items():
            there = available(test)[:, i] & available(test)[:, j] & lesion.any(axis=(1, 2))
            if i == j or not there.any():
                continue
            source, truth = (test["image"][there, ..., k] for k in (i, j))
            shown = {"": image[there]}
            shown |= {f"_{kind}": one for kind, one in opponents(maps, (i, j), source, truth, inside[there])}
            for kind, one in shown.items():
                for region, where in regions.items():
                    error = measure.mean_absolute_error(unit(one), unit(truth), where[there])
                    scores.setdefault((region, kind), []).append(error)
    if not scores:
        reason = "no test slice with two modalities has a lesion"
        return {"mean_absolute_error_lesion": entry(None, 0, "", reason=reason)}
    scores = {key: np.concatenate(found) for key, found in scores.items()}
    means = {key: np.nanmean(found) if np.isfinite(found).any() else np.nan for key, found in scores.items()}
    results = {}
    for kind in ("", *(f"_{kind}" for kind in maps)):
        for region, where in LESION_REGIONS.items():
            if (region, kind) not in scores:
                continue
            found = scores[region, kind]
            of = f"; of {KINDS[kind[1:]]}, fitted on the training split" if kind else ""
            parts = {label: means[f"lesion/{label}", kind] for label in labels[1:]} if region == "lesion" else {}
            results[f"mean_absolute_error_{region}{kind}"] = entry(
                means[region, kind],
                int(np.isfinite(found).sum()),
                f"{where}; slices with a lesion, images in [0, 1], all pairs{of}",
                reason="" if np.isfinite(found).any() else "no slice has such pixels",
                **({"per_part": parts} if len(parts) > 1 else {}),
            )
    return results


LESION_REGIONS = {
    "lesion": "inside it",
    "elsewhere": "in the rest of the brain",
    "opposite": "in healthy tissue that mirrors the lesion about the brain's middle column, to be held against the "
    "error in the rest of the brain: it is the higher the more lesions are drawn where there are none",
}


def mirrored(lesion: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Pixels of the brain (N, H, W) at the other side of its middle column from the lesion's."""
    columns, result = np.arange(lesion.shape[2]), np.zeros_like(lesion)
    for k, (one, where) in enumerate(zip(lesion, inside, strict=True)):
        if where.any():
            weight = where.sum(axis=0)
            opposite = np.round(2 * (weight * columns).sum() / weight.sum() - columns).astype(int)
            known = (opposite >= 0) & (opposite < len(columns))
            result[k][:, known] = one[:, opposite[known]]
    return result & inside


def segmentation_metrics(translated: Translations, maps: dict, train: Examples, names, seed: int) -> dict:
    """Table 2: Dice of the lesion, segmented from one real slice and the others synthesised; and its bounds.

    The segmentor is trained on real images of all modalities; those for the lower bound, which get one real slice
    alone, each on one modality. Source by source the two can be compared.
    """
    learnt = np.flatnonzero(available(train).all(axis=1))
    if not any((batch["mask"][..., 0] > 0).any() for batch in train.batches(learnt)):
        reason = "no training slice with all modalities has a lesion"
        return {"dice": entry(None, 0, "", reason=reason)}
    number = int(available(translated.test)[translated.rows].all(axis=1).sum())
    if not number:
        return {"dice": entry(None, 0, "", reason="no test slice has all modalities")}
    count = len(names)
    lesions = train.mapped(lambda batch: {**batch, "mask": batch["mask"][..., 0] > 0})

    def trained(channels):
        segmentor = Segmentor((*train.image_shape[:2], len(channels)), seed=seed, **SEGMENTOR_SIZE)
        segmentor.fit(lesions.select(learnt, channels, ("image", "mask")), seed=seed, **SEGMENTOR_FIT)
        return segmentor

    of_all, of_one = trained(range(count)), [trained([k]) for k in range(count)]
    found: dict[str, dict[str, Overlaps]] = {}

    def add(kind, source, segmentor, channels, truth, subject):
        found.setdefault(kind, {}).setdefault(source, Overlaps()).add(segmentor.predict(channels), truth, subject)

    for test, made in translated:
        whole = np.flatnonzero(available(test).all(axis=1))
        if not len(whole):
            continue
        image, truth, inside = test["image"][whole], test["mask"][whole][..., 0] > 0, brain(test["image"][whole])
        subject = test["subject"][whole] if "subject" in test else test["row"][whole]
        add("real", "", of_all, image, truth, subject)
        for i in range(count):
            add("alone", names[i], of_one[i], image[..., [i]], truth, subject)
            shown = {"": {j: made[i, j][whole] for j in range(count) if (i, j) in made}}
            for j in range(count):
                if j != i:
                    for kind, one in opponents(maps, (i, j), image[..., i], image[..., j], inside):
                        shown.setdefault(kind, {})[j] = one
            for kind, others in shown.items():
                if others.keys() | {i} == set(range(count)):
                    channels = [image[..., j] if i == j else others[j] for j in range(count)]
                    add(kind, names[i], of_all, np.stack(channels, axis=-1), truth, subject)
    how = (
        f"Dice of each slice with smooth 1, mean; segmentor of {SEGMENTOR_SIZE['filters']} filters, trained on "
        f"{len(learnt)} slices of real images, of subjects that the translator learnt from too"
    )
    one_real = f"{how}; one real slice and {count - 1}"
    what = {
        "real": f"{how}; {count} real slices: the upper bound",
        "alone": f"{how}; one real slice alone, by a segmentor of its modality: the lower bound, mean over modalities",
        "": f"{one_real} synthesised, mean over the real one's modality",
        **{kind: f"{one_real} made by {named}, mean over the real one's modality" for kind, named in KINDS.items()},
    }
    results = {}
    for kind, by_source in found.items():
        cuts = {
            cut: np.mean([getattr(overlaps, cut) for overlaps in by_source.values()])
            for cut in ("slices", "lesions", "volumes")
        }
        by_modality = {name: overlaps.slices for name, overlaps in by_source.items() if name}
        results["_".join(filter(None, ("dice", kind)))] = entry(
            cuts["slices"],
            len(by_source) * number,
            what[kind],
            **({"per_modality": by_modality} if by_modality else {}),
            per_cut={"slices with a lesion": cuts["lesions"], "subjects as wholes": cuts["volumes"]},
        )
    return results


class Overlaps:
    """Predictions of slices against the truth, of which areas are kept: means of Dice, (2 I + 1) / (A + B + 1)."""

    def __init__(self):
        self._areas: list[np.ndarray] = []
        self._subjects: list[np.ndarray] = []

    def add(self, predicted: np.ndarray, truth: np.ndarray, subject: np.ndarray) -> None:
        """Adds slices (N, H, W) of subjects (N,)."""
        predicted, truth = predicted > 0, truth > 0
        self._areas.append(np.stack([both.sum(axis=(1, 2)) for both in (predicted & truth, predicted, truth)], axis=1))
        self._subjects.append(subject)

    @property
    def slices(self) -> float:
        """Of each slice; 1 where there is no lesion and none is found."""
        return float(self._dice(np.concatenate(self._areas)).mean())

    @property
    def lesions(self) -> float:
        """Of each slice with a lesion; NaN where none has."""
        areas = np.concatenate(self._areas)
        some = areas[:, 2] > 0
        return float(self._dice(areas[some]).mean()) if some.any() else np.nan

    @property
    def volumes(self) -> float:
        """Of all slices of a subject together, mean over subjects with a lesion; NaN where none has."""
        subjects, place = np.unique(np.concatenate(self._subjects), return_inverse=True)
        areas = np.zeros((len(subjects), 3))
        np.add.at(areas, place.reshape(-1), np.concatenate(self._areas))
        some = areas[:, 2] > 0
        return float(self._dice(areas[some]).mean()) if some.any() else np.nan

    @staticmethod
    def _dice(areas: np.ndarray) -> np.ndarray:
        both, predicted, truth = areas.T
        return (2 * both + 1) / (predicted + truth + 1)


LARGEST_ERROR = 0.5  # of the intensity range, the end of the error maps' colours


def ends_of(manifest) -> tuple[str, str]:
    """What lies at the left and the right of a slice, for figures: the patient's R and L where that is certain."""
    options = getattr(manifest, "options", {})
    canonical = options.get("orientation", "canonical") == "canonical"
    return ("R", "L") if canonical and "sagittal" not in options.get("planes", ()) else ("", "")


def draw_figures(translated: Translations, names: tuple[str, ...], ends: tuple[str, str] = ("", "")) -> list[Figure]:
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
    blank, absent = np.ones_like(sources[0]), figures.missing(*sources.shape[1:3])
    sources = np.where(there[row][:, None, None, None], sources, absent)
    groups = {"given": np.stack([blank, *sources])}
    for j, name in enumerate(names):
        is_made = [(i, j) in made and there[row, i] for i in range(len(names))]
        column = [made[i, j][0][..., None] if is_made[i] else absent for i in range(len(names))]
        groups[name] = np.stack([sources[j], *column])
    marked = " R and L are the patient's right and left." if any(ends) else ""
    result = [
        Figure(
            "Every modality from every other",
            "Left column: the real slice that the model was given. The rest of the row: the other contrasts that it "
            "synthesised from that slice. Top row: the real contrasts. Each synthesised slice should look like the top "
            f"of its column, lesions included. Striped: what this slice or the model does not have.{marked}",
            figures.columns_grid(groups, names=["real", *(f"from {name}" for name in names)], ends=ends),
            "paper Fig. 2",
            f"A table of slices of one brain. Top row: real {', '.join(names)}. Below, one row for each of them: the "
            "real slice, then each contrast that the model made from it.",
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
    error = np.abs(truth - ours) / 2
    picture = figures.columns_grid(
        {
            f"real {names[source]}": shown["image"][..., source, None],
            f"made {names[target]}": ours,
            f"real {names[target]}": truth,
            "error": figures.error_colours(error, LARGEST_ERROR),
        },
        ends=ends,
    )
    result.append(
        Figure(
            "Truth and error",
            f"{names[source]} translated to {names[target]}, beside the real slice, of {len(rows)} slices. Error map: "
            f"absolute difference as a share of the intensity range; black is none.{marked}",
            figures.with_colour_bar(picture, "share", LARGEST_ERROR),
            "paper Fig. 3",
            f"{len(rows)} rows of four slices: real {names[source]}, the {names[target]} made from it, the real "
            f"{names[target]}, and where the two differ; the largest difference is {error.max():.2f} of the range.",
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
        lines.append(f"{line}.")
        if "ssim_brain_lookup" in value:
            lines.append(against_lookup(value))
    else:
        reason = metrics.get("ssim_brain", {}).get("reason", "it was not measured")
        lines.append(f"How well it translates could not be measured: {reason}.")
    if "anatomy_distance_ratio" in value:
        lines.append(
            f"The anatomy codes of two modalities of a slice are {value['anatomy_distance_ratio']:.2f} times as far "
            "apart as those of two subjects."
        )
    if "modality_from_anatomy" in value:
        lines[-1] += f" A linear probe reads the modality from them in {value['modality_from_anatomy']:.0%} of cases."
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


def against_lookup(value: dict[str, float]) -> str:
    """Whether the model beats a table of intensities, which needs no network, in words."""
    ours, theirs = value["ssim_brain"], value["ssim_brain_lookup"]
    beaten = "which the model beats" if ours > theirs else "which the model does not beat"
    line = f"A lookup table of intensities of each pair, without any network, reaches SSIM {theirs:.3f}, {beaten}"
    lesion = "mean_absolute_error_lesion"
    if {lesion, f"{lesion}_lookup"} <= value.keys():
        line += f"; in lesions its error is {value[f'{lesion}_lookup']:.3f}"
    return f"{line}."


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"target": f"one-hot: {', '.join(manifest.modalities)}"}


def trend(model, val: Examples) -> dict[str, float]:
    """The likeness of translations inside the brain, of a few slices spread over the validation split."""
    with model.averaged():
        found = translation_metrics(Translations(model, val, val.spread(TREND_SLICES)), {}, model.config.modalities)
    return values_of(found, ["ssim_brain", "mean_absolute_error_brain"])


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values, trend=trend)
