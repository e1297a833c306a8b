"""Tasks whose inputs may be missing: Sec. 4.4 of Ouyang et al., IPMI 2021, Table 2 and Fig. 5, and all subsets.

A network learns a task, to segment a tumour or to draw PET, from slices of the training split that have all modalities.
Of test slices every subset of the modalities is then given to it. What it is given, and what stands for a missing
modality, differs (`KINDS`); all networks have the same widths, batches and steps, and all but their input is one:

| ending | learns from | of a missing modality |
|---|---|---|
| none: ours | the fused anatomies of all modalities, by the frozen model | fused without it |
| `_zero` | images | 0: a constant, which is 0 after the network's standardisation |
| `_avg` | images (the same network) | the mean of the training slices at this position |
| `_dropout` | images of a random subset of the modalities, drawn for each slice and step | 0 |
| `_fused_dropout` | fused anatomies of such a subset | fused without it |

The first three are the paper's. The last two are what a user would do who knows that inputs will be missing; without
`_dropout` beside it, that a fused anatomy suffers less would say little of the anatomy.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from tfdisent.downstream.pet import PETSynthesizer
from tfdisent.downstream.segmentation import NVNet, Segmentor
from tfdisent.evaluation.entries import Results, entry
from tfdisent.evaluation.slices import brain, dice_of, few_at_once, likeness, rows_to_show
from tfdisent.examples import Examples, Selection, evenly
from tfdisent.report import Figure, figures

BACKGROUND = -1.0
STEPS, BATCH, MOST_EPOCHS = 600, 16, 30  # of every network: whole epochs, and one at least
FILTERS = {"convnet": 16, "inception": 32}  # of segmentors: Segmentor's, and NVNet's as in its paper
PET_FILTERS = {"convnet": 16, "inception": 64}
LESION_WEIGHT = 5.0  # of a pixel of the tumour over one of the background, as in the public code
NOTHING = "no test slice has what is looked for, nor is it found"
MOST_SLICES = 400  # of whole test subjects
MOST_POSITIONS = 64  # at which means of training slices are kept


class Kind(NamedTuple):
    """What a network of a task is given.

    Attributes:
        about: it in words.
        learner: name of the network, which two kinds may share.
        fused: anatomies of the model, not images.
        dropout: it learns from random subsets of the modalities.
        average: of a missing modality it is given the mean of training slices.
    """

    about: str
    learner: str
    fused: bool = False
    dropout: bool = False
    average: bool = False


KINDS = {
    "": Kind("from the fused anatomies of the frozen model", "fused", fused=True),
    "_zero": Kind("from images, 0 in place of missing ones", "images"),
    "_avg": Kind("from images, the mean of training slices there in place of missing ones", "images", average=True),
    "_dropout": Kind("from images, learnt with random subsets missing", "images_dropout", dropout=True),
    "_fused_dropout": Kind("from fused anatomies, learnt of random subsets", "fused_dropout", fused=True, dropout=True),
}

KEPT = "fused_dropout"  # the learner that serves users, who have some of the modalities


class Inputs:
    """What the networks of a task are given, of slices with any of the modalities missing.

    Args:
        model: with the verbs of `tfdisent.systems.margin.Margin`, and its averaged weights.
        train: the training split.
        columns: what a slice must have besides the image: "mask" or "pet".

    Attributes:
        known: indices of the modalities that some training slice has; no subset has another one.
        rows: training slices that have all of these.
        subsets: all of them but the empty one, the smaller first, tuples of indices.
    """

    def __init__(self, model, train: Examples, columns: Sequence[str]):
        self.model, self.train, self.columns = model, train, tuple(columns)
        self.names = model.config.modalities
        there = _available(train, len(self.names))
        self.known = tuple(np.flatnonzero(there.any(axis=0)).tolist())
        self.rows = np.flatnonzero(there[:, self.known].all(axis=1) & bool(self.known))
        sizes = range(1, len(self.known) + 1)
        self.subsets = [some for size in sizes for some in itertools.combinations(self.known, size)]
        self._means: dict[int, np.ndarray] | None = None
        self._anatomies: Selection | None = None

    @property
    def missing(self) -> dict[str, tuple[int, ...]]:
        """{modality: the subset of all others}, where there are others."""
        all_but = {k: tuple(i for i in self.known if i != k) for k in self.known}
        return {self.names[k]: others for k, others in all_but.items() if others}

    def name(self, some: tuple[int, ...]) -> str:
        """A subset in print, "T1+FLAIR"."""
        return "+".join(self.names[i] for i in some)

    def exists(self, count: int, some: tuple[int, ...]) -> np.ndarray:
        """That `count` slices have this subset, (count, M) of 0 and 1."""
        return np.tile(np.isin(np.arange(len(self.names)), some), (count, 1)).astype("float32")

    def shape(self, kind: Kind) -> tuple[int, int, int]:
        """Shape of what a network is given, (H, W, C)."""
        height, width, channels = self.train.image_shape
        return (height, width, 3 * self.model.config.anatomy_channels if kind.fused else channels)

    def given(self, kind: Kind, batch: dict, some: tuple[int, ...]) -> np.ndarray:
        """What a network is given of test slices, (N, H, W, C), of which only this subset is there."""
        exists = self.exists(len(batch["image"]), some)
        if kind.fused:
            anatomy = self.model.encode_all(batch["image"], exists)["anatomy"]
            return ops.convert_to_numpy(self.model.fuse(anatomy, exists))
        return self._filled(batch["image"], exists, self._average(batch) if kind.average else BACKGROUND)

    # --- for learning ---

    def selection(self, kind: Kind) -> Selection:
        """Training slices: images, or the anatomies of all modalities as channels, which `change` fuses."""
        columns = ("image", *self.columns)
        if not kind.fused:
            return self.train.select(self.rows, columns=columns)
        if self._anatomies is None:

            def encoded(batch: dict) -> dict:
                image = batch["image"]
                found = self.model.encode_all(image, self.exists(len(image), self.known))["anatomy"]
                flat = np.moveaxis(ops.convert_to_numpy(found), 1, 3).reshape(*image.shape[:3], -1)  # (N, H, W, M * S)
                return {**batch, "image": flat}

            self._anatomies = self.train.mapped(encoded).select(self.rows, columns=columns)
        return self._anatomies

    def change(self, kind: Kind) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        """What becomes of a batch of the selection, (N, H, W, K): what the network is to learn from."""

        def changed(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
            whole = self.exists(len(image), self.known)
            chosen = [self.subsets[k] for k in random.integers(len(self.subsets), size=len(image))]
            some = np.concatenate([self.exists(1, one) for one in chosen]) if kind.dropout else whole
            if not kind.fused:
                return self._filled(image, some, BACKGROUND)
            anatomy = image.reshape(*image.shape[:3], len(self.names), -1)
            return ops.convert_to_numpy(self.model.fuse(np.moveaxis(anatomy, 3, 1), some))

        return changed

    @property
    def epochs(self) -> int:
        """How often a network sees each training slice."""
        return int(np.clip(round(STEPS * BATCH / max(1, len(self.rows))), 1, MOST_EPOCHS))

    # --- what stands for a missing modality ---

    def _filled(self, image: np.ndarray, exists: np.ndarray, instead) -> np.ndarray:
        there = np.repeat(exists, image.shape[-1] // len(self.names), axis=1)[:, None, None] > 0
        return np.where(there, image, instead).astype("float32")

    def _average(self, batch: dict) -> np.ndarray:
        """The mean of training slices at the positions of test slices, (N, H, W, C)."""
        if self._means is None:
            position = _positions(self.train.table, len(self.train))[self.rows]
            self._bins = np.unique(evenly(np.unique(position), MOST_POSITIONS))
            sums: dict[int, np.ndarray] = {}
            counts: dict[int, int] = {}
            for part in self.train.batches(self.rows):
                for k, image in zip(self._bin(part), part["image"], strict=True):
                    sums[k] = sums.get(k, 0.0) + image.astype("float64")
                    counts[k] = counts.get(k, 0) + 1
            self._means = {k: (total / counts[k]).astype("float32") for k, total in sums.items()}
        return np.stack([self._means[k] for k in self._bin(batch)])

    def _bin(self, batch: dict) -> list[int]:
        """The nearest of the positions at which means are kept, of each slice."""
        position = _positions(batch, len(batch["image"]))
        return np.abs(position[:, None] - self._bins).argmin(axis=1).tolist()


def _available(examples: Examples, number: int) -> np.ndarray:
    """Which modalities of which slices are there, bool (N, M); all of them where the data do not say."""
    return np.asarray(examples.get("available", np.ones((len(examples), number)))) > 0


def _positions(columns: dict, count: int) -> np.ndarray:
    return np.asarray(columns.get("slice_index", np.zeros(count))).reshape(count).astype(int)


def measured_rows(test: Examples, inputs: Inputs) -> np.ndarray:
    """Test slices that have all known modalities, of whole subjects, at most `MOST_SLICES` or one subject."""
    there = _available(test, len(inputs.names))[:, inputs.known]
    rows = np.flatnonzero(there.all(axis=1))
    subject = test.get("subject", np.arange(len(test)))[rows]
    every = np.unique(subject)
    chosen = evenly(every, max(1, MOST_SLICES * len(every) // max(1, len(rows))))
    return rows[np.isin(subject, chosen)]


def entries_of(metric: str, scores: dict, inputs: Inputs, count: int, protocol: str, parts: Callable) -> dict:
    """Entries of a metric: of all inputs, of each missing one, and of all subsets.

    Args:
        metric: the beginning of their names.
        scores: {(kind, subset): value}.
        inputs: of the task.
        count: slices or subjects behind each value.
        protocol: how it was measured.
        parts: (kind, subset) -> what an entry has of its parts.
    """
    results = {}
    wanted = {"_all_inputs": inputs.known} | {f"_missing_{name}": some for name, some in inputs.missing.items()}
    unknown = [name for k, name in enumerate(inputs.names) if k not in inputs.known]
    for ending, kind in KINDS.items():
        how = f"{protocol}; {kind.about}"
        for end, some in wanted.items():
            what = f"{how}; given {inputs.name(some)}"
            value, reason = scores[ending, some], "" if np.isfinite(scores[ending, some]) else NOTHING
            results[f"{metric}{end}{ending}"] = entry(value, count, what, reason=reason, **parts(ending, some))
        for name in unknown:
            results[f"{metric}_missing_{name}{ending}"] = entry(None, 0, how, reason=f"no training slice has {name}")
        by_subset = {inputs.name(some): scores[ending, some] for some in inputs.subsets}
        mean = _mean(list(by_subset.values()))
        what, reason = f"{how}; mean over {len(by_subset)} subsets of the modalities", "" if mean == mean else NOTHING
        results[f"{metric}_subsets{ending}"] = entry(mean, count, what, reason=reason, per_subset=by_subset)
    return results


def given_to_each(inputs: Inputs, test: Examples, rows: np.ndarray, networks: dict) -> Iterator:
    """Of every small batch of test slices: (batch, {(kind, subset): what its network gives})."""
    for batch in few_at_once(test, rows):
        made = {}
        for some in inputs.subsets:
            given = {}
            for ending, kind in KINDS.items():
                filled = kind.average and some != inputs.known  # of nothing that is missing the mean is not needed
                if (kind.fused, filled) not in given:
                    given[kind.fused, filled] = inputs.given(kind._replace(average=filled), batch, some)
                made[ending, some] = networks[kind.learner].predict(given[kind.fused, filled])
        yield batch, made


class Task(NamedTuple):
    """What is made of the inputs.

    Attributes:
        column: of the records, that holds the truth.
        metrics: beginnings of the names of its metrics; the last is shown subset by subset.
        title: of its figures.
        about: that last metric in words.
    """

    column: str
    metrics: tuple[str, ...]
    title: str
    about: str


def _measure(results: Results, task: Task, inputs: Inputs, test: Examples, fit: Callable, compute: Callable) -> None:
    """Adds the entries and figures of a task, by `fit() -> networks` and `compute(rows, networks) -> entries`."""
    rows, chief = measured_rows(test, inputs), [f"{metric}_all_inputs" for metric in task.metrics]
    if not len(inputs.rows) or not len(rows):
        return _leave_out(results, task, inputs, "it takes training and test slices that have all modalities")
    networks = results.attempt(chief, fit)
    if networks:
        results.measure(chief, compute, rows, networks)
        results.draw(f"{task.title} with inputs missing", draw_task, task, inputs, test, rows, networks)
        results.draw(f"{task.title} by subset", draw_subsets, task, results.metrics)


def _leave_out(results: Results, task: Task, inputs: Inputs, reason: str) -> None:
    for metric in task.metrics:
        ends = ("_all_inputs", *(f"_missing_{name}" for name in inputs.names))
        results.metrics |= {f"{metric}{end}": entry(None, 0, "", reason=reason) for end in ends}


# --- segmentation ---

SEGMENTATION = Task("mask", ("dice",), "Segmentation", "Dice of the tumour")
REGIONS = {  # of BraTS, by what our labels are called
    "WT": ("necrosis", "oedema", "enhancing"),
    "TC": ("necrosis", "enhancing"),
    "ET": ("enhancing",),
}


def measure_segmentation(
    results: Results,
    model,
    train: Examples,
    test: Examples,
    labels: tuple[str, ...],
    judge_kind: str,
    seed: int,
    keep: str | os.PathLike | None = None,
) -> None:
    """Adds how well a tumour is found with every subset of the modalities, or why that cannot be told.

    Args:
        results: to add to.
        model: trained, with the verbs of `tfdisent.systems.margin.Margin`.
        train, test: with mask (N, H, W, 1).
        labels: what the mask's numbers are called, the background first.
        judge_kind: "convnet" for `Segmentor`, "inception" for the paper's `NVNet`.
        seed: of the networks.
        keep: folder for the segmentor that `KEPT` names, to be exported with the model.
    """
    inputs = Inputs(model, train, ("mask",))
    masks = (batch["mask"] for batch in train.batches(inputs.rows))
    if len(inputs.rows) and not any(mask.any() for mask in masks):
        return _leave_out(results, SEGMENTATION, inputs, "no training slice with all modalities has a label")

    def fit():
        segmentors = fitted_segmentors(inputs, labels, judge_kind, seed, results.log)
        if keep is not None:
            segmentors[KEPT].save(keep)
        return segmentors

    def compute(rows, segmentors):
        return segmentation_metrics(inputs, test, rows, labels, segmentors)

    _measure(results, SEGMENTATION, inputs, test, fit, compute)


def fitted_segmentors(
    inputs: Inputs, labels: tuple[str, ...], judge_kind: str, seed: int, log: Callable
) -> dict[str, Segmentor]:
    """A segmentor for each way of learning, {learner: trained}: `Segmentor`, or the paper's `NVNet` for "inception".

    Images are standardised by the network, which makes it blind to a scanner's gain; shares of an anatomy have none.
    """

    def make(kind: Kind) -> Segmentor:
        shape, size = inputs.shape(kind), {"filters": FILTERS[judge_kind], "seed": seed}
        if judge_kind == "inception":
            return NVNet(shape, len(labels) - 1, **size)
        return Segmentor(shape, len(labels) - 1, standardize=not kind.fused, **size)

    return _fitted(inputs, make, seed, log, class_weights=[1.0] + [LESION_WEIGHT] * (len(labels) - 1))


def _fitted(inputs: Inputs, make: Callable[[Kind], object], seed: int, log: Callable, **settings) -> dict:
    """{learner: network}, each trained for the same steps."""
    found = {}
    for kind in KINDS.values():
        if kind.learner not in found:
            network = found[kind.learner] = make(kind)
            how = {"epochs": inputs.epochs, "batch_size": BATCH, "change": inputs.change(kind), "seed": seed}
            report = network.fit(inputs.selection(kind), **how, **settings)
            log(f"{type(network).__name__} {kind.about}: loss {report['loss']:.3f} after {report['steps']} steps")
    return found


def segmentation_metrics(
    inputs: Inputs, test: Examples, rows: np.ndarray, labels: tuple[str, ...], segmentors: dict[str, Segmentor]
) -> dict:
    """Dice of the tumour's classes from every subset of the modalities, `dice_all_inputs`, `dice_missing_T1`, ...

    Of volumes, which are all measured slices of a subject: mean over subjects that have the class, or are said to, then
    over classes, as in the paper. BraTS's nested regions beside them, where the labels are its own.
    """
    regions = {name: (k,) for k, name in enumerate(labels) if k}
    nested = {name: of for name, of in REGIONS.items() if set(of) <= set(labels)}
    regions |= {f"region {name}": tuple(labels.index(part) for part in of) for name, of in nested.items()}
    counts, subject = {}, []
    for batch, made in given_to_each(inputs, test, rows, segmentors):
        truth = batch["mask"][..., 0]
        for key, predicted in made.items():
            counts.setdefault(key, []).append(_areas(predicted, truth, regions))
        subject.append(batch.get("subject", batch["row"]))
    subject = np.concatenate(subject)
    members = [subject == one for one in np.unique(subject)]
    dice = {}
    for key, parts in counts.items():
        of_slices = np.concatenate(parts)
        volumes = dice_of(np.stack([of_slices[those].sum(axis=0) for those in members]))  # NaN: nowhere
        dice[key] = {name: _mean(column) for name, column in zip(regions, volumes.T, strict=True)}
    classes = [name for name in labels[1:] if np.isfinite([found[name] for found in dice.values()]).any()]
    scores = {key: _mean([found[name] for name in classes]) for key, found in dice.items()}

    def parts(ending: str, some: tuple[int, ...]) -> dict:
        found = dice[ending, some]
        by_region = {name: found[f"region {name}"] for name in nested}
        return {"per_class": {name: found[name] for name in labels[1:]}} | ({"per_region": by_region} if nested else {})

    network = next(iter(segmentors.values()))
    protocol = (
        f"Dice of volumes, mean over {len(members)} test subjects, then over {', '.join(classes)}; "
        f"{type(network).__name__} of {network.filters} filters, {inputs.epochs} epochs of {len(inputs.rows)} slices"
    )
    return entries_of("dice", scores, inputs, len(members), protocol, parts)


def _mean(values: Sequence[float]) -> float:
    """Of those values that there are; NaN where there is none."""
    there = np.asarray(values, float)[np.isfinite(values)]
    return float(there.mean()) if len(there) else np.nan


def _areas(predicted: np.ndarray, truth: np.ndarray, regions: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Pixels in common, of the prediction and of the truth, of each region of each slice: (N, regions, 3)."""
    found = []
    for labels in regions.values():
        ours, theirs = np.isin(predicted, labels), np.isin(truth, labels)
        found.append([part.sum((1, 2)) for part in (ours & theirs, ours, theirs)])
    return np.array(found, float).transpose(2, 0, 1)


# --- PET ---

PET = Task("pet", ("pet_psnr", "pet_ssim"), "PET", "SSIM of PET")


def measure_pet(results: Results, model, train: Examples, test: Examples, judge_kind: str, seed: int) -> None:
    """Adds how well PET is drawn with every subset of the modalities, or why that cannot be told.

    Args:
        results, model, judge_kind, seed: as of `measure_segmentation`.
        train, test: with pet (N, H, W, 1) in [-1, 1].
    """
    inputs = Inputs(model, train, ("pet",))

    def fit():
        return fitted_synthesizers(inputs, judge_kind, seed, results.log)

    def compute(rows, networks):
        return pet_metrics(inputs, test, rows, networks)

    _measure(results, PET, inputs, test, fit, compute)


def fitted_synthesizers(inputs: Inputs, judge_kind: str, seed: int, log: Callable) -> dict[str, PETSynthesizer]:
    """A network that draws PET for each way of learning, {learner: trained}."""

    def make(kind: Kind) -> PETSynthesizer:
        return PETSynthesizer(inputs.shape(kind), filters=PET_FILTERS[judge_kind], seed=seed)

    return _fitted(inputs, make, seed, log)


def pet_metrics(inputs: Inputs, test: Examples, rows: np.ndarray, networks: dict[str, PETSynthesizer]) -> dict:
    """PSNR and SSIM of PET from every subset, `pet_psnr_all_inputs`, `pet_ssim_missing_T1`, ...; and in the brain."""
    scores: dict[tuple, dict[str, list]] = {}
    for batch, made in given_to_each(inputs, test, rows, networks):
        truth, inside = batch["pet"][..., 0], brain(batch["image"])
        for key, image in made.items():
            found = scores.setdefault(key, {})
            for name, values in likeness(image, truth, inside).items():
                found.setdefault(name, []).append(values)
    means = {
        key: {name: _mean(np.concatenate(values)) for name, values in found.items()} for key, found in scores.items()
    }
    results = {}
    for metric in ("psnr", "ssim"):
        protocol = (
            f"{metric.upper()} of PET, on the whole slice, images in [0, 1], mean over slices; attention U-Net of "
            f"{networks['fused'].filters} filters, {inputs.epochs} epochs of {len(inputs.rows)} slices"
        )

        def parts(ending: str, some: tuple[int, ...], metric=metric) -> dict:
            return {"per_region": {"brain": means[ending, some][f"{metric}_brain"]}}

        values = {key: found[metric] for key, found in means.items()}
        results |= entries_of(f"pet_{metric}", values, inputs, len(rows), protocol, parts)
    return results


# --- figures ---


def draw_subsets(task: Task, metrics: dict) -> list[Figure]:
    """The task's last metric, a row for each subset, by what the network is given."""
    columns = {
        "fused": "",
        "fused, dropout": "_fused_dropout",
        "zero": "_zero",
        "average": "_avg",
        "images, dropout": "_dropout",
    }
    found = {
        label: metrics.get(f"{task.metrics[-1]}_subsets{of}", {}).get("per_subset", {}) for label, of in columns.items()
    }
    subsets = list(found["fused"])
    if not subsets:
        return []
    values = [[np.nan if (v := by.get(some)) is None else v for by in found.values()] for some in subsets]
    told = "; ".join(f"{label}: {KINDS[of].about}" for label, of in columns.items())
    caption = f"{task.about} from each subset of the modalities. {told[0].upper()}{told[1:]}."
    return [Figure(f"{task.title} by subset", caption, figures.matrix(np.array(values), subsets, list(columns)))]


def draw_task(task: Task, inputs: Inputs, test: Examples, rows: np.ndarray, networks: dict) -> list[Figure]:
    """Label maps or PET of a few slices with much of a lesion, from all inputs and without each."""
    few, config = test.take(evenly(rows, 60)), inputs.model.config
    lesion = few["mask"][..., 0] > 0 if "mask" in few else np.zeros(few["image"].shape[:3], bool)
    size = lesion.sum((1, 2)) if lesion.any() else brain(few["image"]).sum((1, 2))
    chosen = rows_to_show(size, few.get("subject", few["row"]), 4)[:4]
    batch = {name: values[chosen] for name, values in few.items()}
    last = inputs.known[-1]
    image = batch["image"][..., config.neighbours :: 1 + 2 * config.neighbours][..., last]

    def picture(values):
        return figures.label_colours(values, image) if task is SEGMENTATION else values[..., None]

    def made(some, *endings):
        kinds = [KINDS[ending] for ending in endings]
        return np.stack([picture(networks[k.learner].predict(inputs.given(k, batch, some))) for k in kinds], axis=1)

    columns = {inputs.names[last]: image[..., None], "truth": picture(batch[task.column][..., 0])}
    columns["all inputs"] = made(inputs.known, "", "_zero")
    columns |= {f"without {name}": made(some, "", "_avg", "_dropout") for name, some in inputs.missing.items()}
    caption = (
        f"Test slices and the truth. Of all inputs: {KINDS[''].about}, and from images. Without a modality: "
        f"{KINDS[''].about}; {KINDS['_avg'].about}; {KINDS['_dropout'].about}."
    )
    source = "paper Fig. 5" if task is PET else ""
    return [Figure(f"{task.title} with inputs missing", caption, figures.columns_grid(columns), source)]
