"""Evaluation of segmentations of a target by misaligned modalities: Chartsias et al., IEEE TMI 2021, Sec. V, and more.

The target is the last modality. Its label maps are those of the fused anatomy, of the sources' anatomy deformed to the
target, and of the target alone; beside them always stands the cheapest opponent, the source's own labels copied to
where they are. Each is scored by Dice in two ways: of volumes, organ by organ, which empty slices cannot flatter, and
as the paper does, slice by slice with all organs in one ratio, where a slice without organs that is said to have none
scores 1.

Where the data know the displacement between modalities (the phantoms'), the field is compared with it inside the organs
of the target, and the source's true labels are warped by it. Further, whether the anatomy is there at all, whether the
same organ is in the same channel of it in all modalities, and whether the code tells the modality.
"""

import os
from collections.abc import Callable

import numpy as np
from keras import ops
from scipy import ndimage

from tfdisent import metrics as measure
from tfdisent.evaluation.entries import Results, entry, value_of
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.evaluation.slices import areas, few_at_once, rows_to_show
from tfdisent.examples import Examples, evenly
from tfdisent.report import Figure, figures

KINDS = {
    "fused": "the fused anatomy of all modalities",
    "deformed": "the sources' anatomy, deformed to the target",
    "target": "the target alone",
    "source_only": "a model that has learned from the sources alone, shown the target",
    "copy": "the first source's true labels, copied",
}


def evaluate_run(
    model,
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
        model: trained, an `MMSDNet` or what it is compared with; its averaged weights are used.
        read: split -> its examples: image (N, H, W, M) in [-1, 1], mask (N, H, W, M), subject, and displacement (N, H,
            W, 2) where it is known.
        manifest: with the names of the labels.
        judge_directory, judge_kind: not used; no network judges.
        num_samples: test slices to measure: of whole subjects, spread evenly over the split, and of one at least.
        seed: not used; nothing is drawn.
        log: is told what is done.

    Returns:
        ({name: entry}, figures).
    """
    results, test = Results(log), read("test")
    rows = labelled_rows(test, num_samples)
    names = tuple(manifest.mask_labels)
    with model.averaged():
        log(f"segmenting {len(rows)} slices of {manifest.modalities[-1]}")
        results.measure(["dice_copy"], dice_metrics, model, test, rows, names)
        if hasattr(model, "align"):
            log("aligning and encoding them")
            results.measure(["field_error_relative", "dice_warped_truth"], field_metrics, model, test, rows, names)
            results.measure(["empty_anatomy_share", "modality_from_z"], anatomy_metrics, model, test, rows, names)
            results.draw("Anatomy", draw_anatomy, model, test, rows)
            results.draw("Alignment", draw_alignment, model, test, rows)
        results.draw("Label maps", draw_labels, model, test, rows)
    return results.metrics, results.figures


def labelled_rows(test: Examples, most: int) -> np.ndarray:
    """Numbers of at most `most` labelled slices, or of one subject: all those of some subjects."""
    labelled = test.get("labelled")
    rows = (
        np.arange(len(test)) if labelled is None else np.flatnonzero(np.asarray(labelled).reshape(len(test), -1)[:, 0])
    )
    if not len(rows):
        raise ValueError("Expected test slices with labels; there are none. Evaluate on a split that has them.")
    subject = test.get("subject", np.arange(len(test)))[rows]
    known = np.unique(subject)
    chosen = evenly(known, max(1, most * len(known) // len(rows)))
    return rows[np.isin(subject, chosen)]


def label_maps(model, batch: dict) -> dict[str, np.ndarray]:
    """{kind: (N, H, W)}: what the model says of the target, and the copy."""
    found = {k: ops.convert_to_numpy(v).argmax(-1) for k, v in model.predictions(batch["image"]).items()}
    return {**found, "copy": batch["mask"][..., 0].astype(int)}


# --- segmentation ---


def dice_of(counts: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Dice of areas (..., 3): (...,); `empty` where there is nothing in either."""
    common, one, other = np.moveaxis(counts, -1, 0)
    return np.divide(2 * common, one + other, out=np.full(common.shape, empty), where=one + other > 0)


def dice_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Dice of every label map of the target."""
    counts, subject = {}, []
    for batch in few_at_once(test, rows):
        truth = batch["mask"][..., -1]
        for kind, labels in label_maps(model, batch).items():
            counts.setdefault(kind, []).append(areas(labels, truth, len(names)))
        subject.append(batch.get("subject", batch["row"]))
    subject = np.concatenate(subject)
    results = {}
    for kind, parts in counts.items():
        results |= overlap(kind, np.concatenate(parts), subject, names[1:])
    return results


def overlap(kind: str, counts: np.ndarray, subject: np.ndarray, organs: tuple[str, ...]) -> dict:
    """Entries of one kind of label map, from areas (N, organs, 3) of slices."""
    members = [subject == one for one in np.unique(subject)]
    volumes = np.stack([dice_of(counts[those].sum(axis=0)) for those in members])  # NaN: nowhere
    each = np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in volumes])
    there = each[np.isfinite(each)]
    by_class = {
        name: np.nanmean(column) if np.isfinite(column).any() else np.nan
        for name, column in zip(organs, volumes.T, strict=True)
    }
    slices = dice_of(counts.sum(axis=1), empty=1.0)
    paper = np.array([slices[those].mean() for those in members])
    about = KINDS[kind]
    return {
        f"dice_{kind}": entry(
            there.mean() if len(there) else None,
            len(there),
            f"of {about}, of volumes: mean over organs that are there or are said to be, then over test subjects",
            std=there.std() if len(there) else None,
            reason="" if len(there) else "no test subject has an organ",
            per_class=by_class,
        ),
        f"dice_slices_{kind}": entry(
            paper.mean(),
            len(slices),
            f"of {about}, of slices with organs in one ratio, 1 where none is and none is found; mean over slices, "
            "then over test subjects",
            std=paper.std(),
        ),
    }


# --- alignment ---


def channels(batch: dict, config) -> list[int]:
    """The channel of each modality; of several candidates of the first modality the first."""
    first = batch["image"].shape[-1] - config.num_modalities
    return [0, *(first + i for i in range(1, config.num_modalities))]


def aligned(model, batch: dict) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The anatomy of each modality (N, H, W, C), and the first one deformed to the last, with its field."""
    places = channels(batch, model.config)
    anatomy = [model.anatomy(ops.convert_to_tensor(batch["image"][..., k : k + 1]), i) for i, k in enumerate(places)]
    found = model.align(anatomy[0], anatomy[-1])
    return [ops.convert_to_numpy(one) for one in anatomy], {k: ops.convert_to_numpy(v) for k, v in found.items()}


def warped(image: np.ndarray, field: np.ndarray, order: int) -> np.ndarray:
    """An image (H, W) at pixel + field (H, W, 2), by a spline of this order; beyond the edge 0, as the transformer."""
    return ndimage.map_coordinates(image, np.moveaxis(field, -1, 0) + np.indices(image.shape), order=order, cval=0)


def field_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Error of the field inside the organs of the target, over that of no displacement; Dice of warped true labels."""
    if "displacement" not in test.names:
        reason = "the data do not know the displacement between their modalities"
        return {name: entry(None, 0, "", reason=reason) for name in ("field_error_relative", "dice_warped_truth")}
    errors, counts, ideal, subject = [], [], [], []
    for batch in few_at_once(test, rows):
        field, known = aligned(model, batch)[1]["field"], batch["displacement"].astype("float32")
        source, target = batch["mask"][..., 0], batch["mask"][..., -1]
        inside = target > 0
        if "partner_distance" in batch:  # the displacement leads to the slice at the same position
            inside &= (batch["partner_distance"][:, 0] < 1e-3)[:, None, None]
        lengths = (np.linalg.norm(one, axis=-1) * inside for one in (field - known, known, field))
        errors.append(np.stack([inside.sum((1, 2)), *(one.sum((1, 2)) for one in lengths)], axis=1))
        for found, by in ((counts, field), (ideal, known)):
            moved = np.stack([warped(one, place, 0) for one, place in zip(source, by, strict=True)])
            found.append(areas(moved, target, len(names)))
        subject.append(batch.get("subject", batch["row"]))
    pixels, error, none, length = np.concatenate(errors).sum(axis=0)
    subject, organs = np.concatenate(subject), names[1:]
    best = overlap("copy", np.concatenate(ideal), subject, organs)["dice_copy"]["value"]
    found = overlap("copy", np.concatenate(counts), subject, organs)["dice_copy"]
    protocol = "of the source's true labels warped by the field, of volumes, as dice_copy"
    protocol += "" if best is None else f"; warped by the true displacement {best:.3f}"
    relative = error / none if none > 0 else None
    return {
        "field_error_relative": entry(
            relative,
            int(pixels),
            "length of the field's error over that of the true displacement, sums over pixels of the target's organs; "
            "1 is no alignment at all",
            reason="" if relative is not None else "nothing is displaced inside the organs of the test slices",
            per_length={
                "error, pixels": error / max(pixels, 1),
                "displacement, pixels": none / max(pixels, 1),
                "field, pixels": length / max(pixels, 1),
            },
        ),
        "dice_warped_truth": {**found, "protocol": protocol},
    }


# --- anatomy and codes ---


def anatomy_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Whether the anatomy is there, whether modalities have an organ in one channel, and whether z tells them."""
    config = model.config
    empty, codes, subject = [], [], []
    held = np.zeros((config.num_modalities, len(names), config.anatomy_channels))  # pixels of a label in a channel
    for batch in few_at_once(test, rows):
        anatomy = aligned(model, batch)[0]
        empty.append(np.stack([(one.max(-1) < 0.5).mean((1, 2)) for one in anatomy], axis=1))
        places = channels(batch, config)
        images = (ops.convert_to_tensor(batch["image"][..., k : k + 1]) for k in places)
        moments = (model.moments(ops.convert_to_tensor(one), image) for one, image in zip(anatomy, images, strict=True))
        codes.append(np.stack([ops.convert_to_numpy(mean) for mean, _ in moments], axis=1))
        for i, place in enumerate(places):
            for k in range(len(names)):
                held[i, k] += anatomy[i][batch["mask"][..., place] == k].sum(axis=0)
        subject.append(batch.get("subject", batch["row"]))
    empty = np.concatenate(empty)
    return {
        "empty_anatomy_share": entry(
            empty.mean(),
            empty.size,
            "share of pixels that are in no channel of the anatomy, mean over slices and modalities",
            per_modality=dict(zip(config.modalities, empty.mean(axis=0), strict=True)),
        ),
        "organs_in_one_channel": organ_channels(held, names),
        "modality_from_z": modality_from_z(np.concatenate(codes), np.concatenate(subject)),
    }


def organ_channels(held: np.ndarray, names: tuple[str, ...]) -> dict:
    """Whether most of an organ is in the same channel in all modalities, from its pixels (M, labels, channels)."""
    there = [k for k in range(1, len(names)) if (held[:, k].sum(axis=1) > 0).all()]
    same = {names[k]: float(len(set(held[:, k].argmax(axis=1).tolist())) == 1) for k in there}
    return entry(
        np.mean(list(same.values())) if same else None,
        len(same),
        "share of organs whose most frequent channel of the anatomy is the same in all modalities",
        reason="" if same else "no organ is there in all modalities",
        per_class=same,
    )


def modality_from_z(codes: np.ndarray, subject: np.ndarray) -> dict:
    """How well a linear probe tells the modality from codes (N, M, K), and from each of their dimensions."""
    count, many, width = codes.shape
    known = np.unique(subject)
    if len(known) < 2:
        return entry(None, 0, "", reason="it takes 2 test subjects")
    train = np.repeat(np.isin(subject, known[::2]), many)
    flat, labels = codes.reshape(-1, width), np.tile(np.arange(many), count)
    each = {
        f"dimension {k}": measure.linear_probe_accuracy(flat[:, k], labels, train=train)
        for k in range(width)
        if np.ptp(flat[train, k]) > 0
    }
    return entry(
        measure.linear_probe_accuracy(flat, labels, train=train),
        int((~train).sum()),
        f"logistic regression trained on {train.sum()} codes of half of the test subjects, asked about the others'; "
        f"chance is {1 / many:.3f}",
        per_dimension=each,
    )


# --- figures ---


def shown(test: Examples, rows: np.ndarray, count: int) -> dict:
    """Slices for a figure: those with most of the organs."""
    few = test.take(evenly(rows, 60))
    chosen = rows_to_show((few["mask"][..., -1] > 0).sum((1, 2)), few.get("subject", few["row"]), count)[:count]
    return {name: values[chosen] for name, values in few.items()}


def draw_anatomy(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """The channels of the anatomies of one slice, as in the paper's Fig. 1 and 3."""
    batch, names = shown(test, rows, 1), model.config.modalities
    anatomy, found = aligned(model, batch)
    maps = np.stack([*(one[0] for one in anatomy), found["anatomy"][0]])  # (M + 1, H, W, C)
    image = np.moveaxis(batch["image"][0][..., channels(batch, model.config)], -1, 0)
    moved = warped(image[0], found["field"][0], 1)
    slices = np.stack([*image, moved])[..., None]
    shares = {str(k): 2 * maps[..., k : k + 1] - 1 for k in range(maps.shape[-1])}
    return [
        Figure(
            "Anatomy",
            f"Rows: {', '.join(names)} of one slice and the channels of their anatomies; at last {names[0]} deformed "
            f"to {names[-1]}. An organ should be in the same channel in all rows.",
            figures.columns_grid({"slice": slices, **shares}, names=(*names, f"{names[0]} deformed")),
            "paper Fig. 3",
        )
    ]


def draw_alignment(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """Where the field takes the source, beside where it should."""
    batch, names = shown(test, rows, 4), model.config.modalities
    field = aligned(model, batch)[1]["field"]
    fields, largest = {"field": field}, float(np.linalg.norm(field, axis=-1).max())
    if "displacement" in batch:
        fields["truth"] = batch["displacement"].astype("float32")
        largest = max(largest, float(np.linalg.norm(fields["truth"], axis=-1).max()))
    source, labels = batch["image"][..., 0], batch["mask"].astype(int)
    columns = {
        names[-1]: figures.label_colours(labels[..., -1], batch["image"][..., -1]),
        names[0]: figures.label_colours(labels[..., 0], source),
    }
    for name, by in fields.items():
        image, mask = (
            np.stack([warped(one, place, order) for one, place in zip(values, by, strict=True)])
            for values, order in ((source, 1), (labels[..., 0], 0))
        )
        columns[f"by {name}"] = figures.label_colours(mask, image)
    largest = max(largest, 1e-6)
    lengths = {name: np.linalg.norm(by, axis=-1, keepdims=True) for name, by in fields.items()}
    columns |= {name: figures.error_colours(length, largest) for name, length in lengths.items()}
    columns = {name: figures.to_uint8(image) for name, image in columns.items()}
    return [
        Figure(
            "Alignment",
            f"{names[-1]} and {names[0]} with their true labels, {names[0]} warped by the field"
            + (" and by the true displacement, and how long both are." if len(fields) > 1 else ", and how long it is."),
            figures.with_colour_bar(figures.columns_grid(columns), "pixels", largest),
            "",
        )
    ]


def draw_labels(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """The paper's Fig. 4: label maps of the target beside the truth."""
    batch = shown(test, rows, 4)
    image, name = batch["image"][..., -1], model.config.modalities[-1]
    maps = {"truth": batch["mask"][..., -1].astype(int), **label_maps(model, batch)}
    columns = {name: figures.label_colours(np.zeros_like(maps["truth"]), image)}
    columns |= {kind.replace("_", " "): figures.label_colours(labels, image) for kind, labels in maps.items()}
    return [
        Figure(
            "Label maps",
            f"Test slices of {name}, their true labels, and "
            + "; ".join(f"{k}: {KINDS[k]}" for k in list(maps)[1:])
            + ".",
            figures.columns_grid(columns),
            "paper Fig. 4",
        )
    ]


def sample_grid(model, shown: dict) -> np.ndarray:
    """A picture of training's progress: slices of the target, their true labels, and those that the model gives."""
    few = {name: values[:4] for name, values in shown.items()}
    with model.averaged():
        maps = {"truth": few["mask"][..., -1].astype(int), **label_maps(model, few)}
    image = few["image"][..., -1]
    return figures.columns_grid({kind: figures.label_colours(labels, image) for kind, labels in maps.items()})


def headline(metrics: dict) -> str:
    """The result in words, from the metrics."""

    def number(name):
        value = value_of(metrics, name)
        return "unknown" if value is None else f"{value:.3f}"

    parts = [f"of {about} {number(f'dice_{kind}')}" for kind, about in KINDS.items() if f"dice_{kind}" in metrics]
    lines = [f"Dice with the target's labels, of volumes: {'; '.join(parts)}."]
    if "field_error_relative" in metrics:
        lines.append(
            f"Inside the organs the field's error is {number('field_error_relative')} of the displacement; the "
            f"source's true labels, warped by it, have a Dice of {number('dice_warped_truth')}."
        )
    if "empty_anatomy_share" in metrics:
        lines.append(
            f"{number('empty_anatomy_share')} of the pixels have no anatomy; {number('organs_in_one_channel')} of the "
            f"organs are in one channel in all modalities; the modality is told from z with accuracy "
            f"{number('modality_from_z')}."
        )
    return "\n".join(lines)


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    names = ", ".join(manifest.modalities)
    return {
        "image": f"a channel for each of {names}; of `segment_target` {manifest.modalities[-1]} alone",
        "anatomy": "shares of the anatomy's channels, which sum to 1",
        "code": "how a modality looks",
        "labels": f"probabilities of {', '.join(manifest.mask_labels)} in {manifest.modalities[-1]}",
    }


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values)
