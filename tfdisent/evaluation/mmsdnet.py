"""Evaluation of segmentations of a target by misaligned modalities: Chartsias et al., IEEE TMI 2021, Sec. V, and more.

The target is the last modality. Its label maps are those of the fused anatomy, of the sources' anatomy deformed to the
target, and of the target alone; beside them always stands the cheapest opponent, the source's own labels copied to
where they are. Each is scored by Dice in two ways: of volumes, organ by organ, which empty slices cannot flatter, and
as the paper does, slice by slice with all organs in one ratio, where a slice without organs that is said to have none
scores 1.

Where the data know the displacement between modalities (the phantoms'), the field is compared with it inside the organs
of the target, and the source's true labels are warped by it, beside two opponents: the mean displacement of the
training subjects, and a registration of each slice without a network, by B-splines and, where ANTsPy is installed, by
SyN as in the paper. What alignment brings the Dice of anatomies tells
that are left where they are.

Further, whether the anatomy is there at all, whether the same organ is in the same channel of it in all modalities, and
whether the code tells the modality; how far anatomy and code depend on each other, and what each tells of the slice
(Liu et al., BMVC 2021); and whether a slice takes on the look of another modality with the mean code of that, as its
true twin has it where the displacement is known, better than by a lookup table.
"""

import functools
import os
from collections.abc import Callable

import numpy as np
from keras import ops
from scipy import ndimage

from tfdisent import metrics as measure
from tfdisent.evaluation.entries import Results, entry, value_of
from tfdisent.evaluation.intensity_maps import intensity_maps
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.evaluation.registration import knows_syn, register, register_by_syn
from tfdisent.evaluation.slices import areas, dice_of, few_at_once, rows_to_show, unit
from tfdisent.examples import Examples, evenly
from tfdisent.report import Figure, figures

KINDS = {
    "fused": "the fused anatomy of all modalities",
    "deformed": "the sources' anatomy, deformed to the target",
    "fused_unaligned": "the fused anatomy of all modalities, each left where it is",
    "deformed_unaligned": "the sources' anatomy, left where it is",
    "target": "the target alone",
    "source_only": "a model that has learned from the sources alone, shown the target",
    "copy": "the first source's true labels, copied",
    "register": "the first source's true labels, carried by a registration without a network",
}

OPPONENTS = {
    "shift": "the mean displacement of the training subjects' organs, for every slice",
    "register": "each slice's registration by mutual information, an affine transform and B-splines (SimpleITK)",
    "register_syn": "each slice's registration by mutual information, an affine transform and SyN (ANTsPy)",
}
CHECKED = 60  # slices, of whole subjects, that are segmented by statistics of batches
CORRELATED = 120  # slices whose anatomies are held at once
FITTED = 200  # training slices that small decoders and mean codes are made from
PIXELS = 150  # of a slice, that a decoder of the anatomy makes
CODE_PIXELS = 1000  # of a slice, that a decoder of the code makes
WINDOW = 5  # pixels along each side of the anatomy that a pixel is made from
EXTREME = 3.0  # of a code's dimension, in standard deviations of the prior


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
        seed: not used; what is drawn is always the same.
        log: is told what is done.

    Returns:
        ({name: entry}, figures).
    """
    results, test, train = Results(log), read("test"), read("train")
    rows = labelled_rows(test, num_samples)
    names = tuple(manifest.mask_labels)
    with model.averaged():
        log(f"segmenting {len(rows)} slices of {manifest.modalities[-1]}")
        results.measure(["dice_copy"], dice_metrics, model, test, rows, names)
        if hasattr(model, "align"):
            few = labelled_rows(test, CHECKED)
            results.measure(["dice_target_batch_statistics"], batch_statistics_metrics, model, test, few, names)
            log("aligning and encoding them")
            results.measure(["field_error_relative", "dice_warped_truth"], alignment_metrics, model, test, rows, names)
            results.measure(
                ["dice_register", "field_error_relative_register"], opponent_metrics, train, test, rows, names
            )
            results.measure(["dice_register_syn"], syn_metrics, test, rows, names)
            results.measure(["empty_anatomy_share", "modality_from_z"], anatomy_metrics, model, test, rows, names)
            if model.config.candidates > 1:
                results.measure(["pair_weight_of_nearest"], pair_metrics, model, test, rows)
            log("what anatomy and code tell of each other and of the slice")
            results.measure(["distance_correlation"], dependence_metrics, model, test, rows)
            results.measure(["information_over_bias_content"], information_metrics, model, train, test, rows)
            results.measure(["modality_swap_error"], swap_metrics, model, train, test, rows)
            results.draw("Anatomy", draw_anatomy, model, test, rows)
            results.draw("Alignment", draw_alignment, model, test, rows)
        results.draw("Label maps", draw_labels, model, test, rows)
        if hasattr(model, "align"):
            if model.config.candidates > 1:
                results.draw("Pair weights", draw_pairs, model, test, rows)
            results.draw("Reconstruction", draw_reconstruction, model, test, rows)
            results.draw("Latent arithmetic", draw_codes, model, test, rows)
            results.draw("Modality exchanged", draw_exchanged, model, train, test, rows)
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


def unaligned_maps(model, batch: dict) -> dict[str, np.ndarray]:
    """{kind: (N, H, W)}: what the model says of the target without its transformer, of anatomies where they are."""
    *others, own = (model.anatomy(ops.convert_to_tensor(one), i) for i, one in enumerate(slices_of(model, batch)))
    source = functools.reduce(ops.maximum, others)
    maps = {"fused_unaligned": ops.maximum(source, own), "deformed_unaligned": source}
    return {kind: ops.convert_to_numpy(model.segment(one)).argmax(-1) for kind, one in maps.items()}


# --- segmentation ---


def dice_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Dice of every label map of the target."""
    counts, subject = {}, []
    for batch in few_at_once(test, rows):
        truth = batch["mask"][..., -1]
        maps = label_maps(model, batch) | (unaligned_maps(model, batch) if hasattr(model, "align") else {})
        for kind, labels in maps.items():
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
    numbers = [str(k + 1) for k in range(len(members))]  # in the order of their names, which are not told
    return {
        f"dice_{kind}": entry(
            there.mean() if len(there) else None,
            len(there),
            f"of {about}, of volumes: mean over organs that are there or are said to be, then over test subjects",
            std=there.std() if len(there) else None,
            reason="" if len(there) else "no test subject has an organ",
            per_class=by_class,
            subjects=dict(zip(numbers, each, strict=True)),
        ),
        f"dice_slices_{kind}": entry(
            paper.mean(),
            len(slices),
            f"of {about}, of slices with organs in one ratio, 1 where none is and none is found; mean over slices, "
            "then over test subjects",
            std=paper.std(),
            subjects=dict(zip(numbers, paper, strict=True)),
        ),
    }


def batch_statistics_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Dice of the target alone with the statistics of batches, as in training, beside the running ones.

    Where they differ, running statistics are not those of the target: one modality has won them.
    """
    few, last = test.take(rows), model.config.num_modalities - 1
    image = slices_of(model, few)[last]
    order, maps = np.random.default_rng(0).permutation(len(rows)), {}
    # A copy: on PyTorch the array is the variable's own memory.
    held = [(one, np.array(ops.convert_to_numpy(one))) for net in model.networks for one in net.non_trainable_variables]
    for name, training in (("running statistics", False), ("statistics of batches", True)):
        maps[name] = np.zeros(image.shape[:3], int)
        for places in np.array_split(order, -(-len(order) // model.config.batch_size)):
            anatomy = model.anatomy(ops.convert_to_tensor(image[places]), last, training=training)
            maps[name][places] = ops.convert_to_numpy(model.segmentor(anatomy, training=training)).argmax(-1)
    for variable, value in held:
        variable.assign(value)
    subject, truth = few.get("subject", rows), few["mask"][..., -1]
    counts = {name: areas(labels, truth, len(names)) for name, labels in maps.items()}
    dice = {name: overlap("target", one, subject, names[1:])["dice_target"] for name, one in counts.items()}
    found = dice["statistics of batches"]
    return {
        "dice_target_batch_statistics": entry(
            found["value"],
            len(rows),
            f"as dice_target, by the statistics of batches of {model.config.batch_size} slices, as in training; on the "
            "same slices it should be within .02 of that by running statistics",
            reason=found.get("reason", ""),
            per_statistics={name: one["value"] for name, one in dice.items()},
        )
    }


# --- alignment ---


def slices_of(model, batch: dict) -> list[np.ndarray]:
    """The slice (N, H, W, 1) in each modality; of several candidates of the first modality the first."""
    first = batch["image"].shape[-1] - model.config.num_modalities
    places = [0, *(first + i for i in range(1, model.config.num_modalities))]
    return [np.asarray(batch["image"][..., k : k + 1], "float32") for k in places]


def masks_of(model, batch: dict) -> list[np.ndarray]:
    """The label map (N, H, W) of each slice of `slices_of`."""
    first = batch["mask"].shape[-1] - model.config.num_modalities
    return [batch["mask"][..., k] for k in (0, *(first + i for i in range(1, model.config.num_modalities)))]


def aligned(model, batch: dict) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The anatomy of each modality (N, H, W, C), and the first one deformed to the last, with its field."""
    anatomy = [model.anatomy(ops.convert_to_tensor(one), i) for i, one in enumerate(slices_of(model, batch))]
    found = model.align(anatomy[0], anatomy[-1])
    return [ops.convert_to_numpy(one) for one in anatomy], {k: ops.convert_to_numpy(v) for k, v in found.items()}


def warped(image: np.ndarray, field: np.ndarray, order: int) -> np.ndarray:
    """An image (H, W) at pixel + field (H, W, 2), by a spline of this order; beyond the edge 0, as the transformer."""
    return ndimage.map_coordinates(image, np.moveaxis(field, -1, 0) + np.indices(image.shape), order=order, cval=0)


def same_place(batch: dict) -> np.ndarray:
    """(N,), where the displacement leads to the slice that is there: the first candidate is of the same position."""
    if "partner_distance" not in batch:
        return np.ones(len(batch["image"]), bool)
    return batch["partner_distance"][:, 0] < 1e-3


def alignment_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """What the model's field is worth."""
    return field_metrics(lambda batch: aligned(model, batch)[1]["field"], test, rows, names)


def opponent_metrics(train: Examples, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """What fields are worth that take no network; the mean displacement only where the true one is known."""

    found = registered_metrics(register, "register", test, rows, names)
    if "displacement" in test.names:
        shift = mean_displacement(train)
        found |= field_metrics(
            lambda batch: np.broadcast_to(shift, batch["displacement"].shape), test, rows, names, "_shift"
        )
    return found


def syn_metrics(test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """What the fields of the paper's registration are worth, or that it is not installed."""
    if knows_syn():
        return registered_metrics(register_by_syn, "register_syn", test, rows, names)
    reason = "ANTsPy is not installed: pip install 'tfdisent[register]'"
    return {"dice_register_syn": entry(None, 0, f"as dice_register, by {OPPONENTS['register_syn']}", reason=reason)}


def registered_metrics(by: Callable, name: str, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """What the fields of a registration of each slice are worth, in entries that end in its name."""

    def registered(batch: dict) -> np.ndarray:
        image = batch["image"].astype("float32")
        return np.stack([by(one[..., 0], one[..., -1]) for one in image])

    found = field_metrics(registered, test, rows, names, f"_{name}")
    # What the paper calls "register".
    return found | {f"dice_{way}{name}": found.pop(f"dice_{way}warped_truth_{name}") for way in ("", "slices_")}


def field_metrics(
    field_of: Callable[[dict], np.ndarray], test: Examples, rows: np.ndarray, names: tuple[str, ...], ending: str = ""
) -> dict:
    """Error of fields inside the organs of the target, over that of no displacement; Dice of warped true labels.

    Args:
        field_of: a batch -> fields (N, H, W, 2), pixels along rows and columns.
        test, rows, names: the slices, and the names of the labels.
        ending: of the entries' names, "_" and one of `OPPONENTS`.
    """
    errors, counts, subject = [], {"field": [], "truth": []}, []
    for batch in few_at_once(test, rows):
        fields = {"field": field_of(batch)}
        source, target = batch["mask"][..., 0], batch["mask"][..., -1]
        if "displacement" in batch:
            field, known = fields["field"], batch["displacement"].astype("float32")
            inside = (target > 0) & same_place(batch)[:, None, None]
            lengths = (np.linalg.norm(one, axis=-1) * inside for one in (field - known, known, field))
            errors.append(np.stack([inside.sum((1, 2)), *(one.sum((1, 2)) for one in lengths)], axis=1))
            fields["truth"] = known
        for name, by in fields.items():
            moved = np.stack([warped(one, place, 0) for one, place in zip(source, by, strict=True)])
            counts[name].append(areas(moved, target, len(names)))
        subject.append(batch.get("subject", batch["row"]))
    subject = np.concatenate(subject)
    dice = {k: overlap("copy", np.concatenate(v), subject, names[1:]) for k, v in counts.items() if v}
    by = f"the field of {OPPONENTS[ending[1:]]}" if ending else "the field"
    best = value_of(dice.get("truth", {}), "dice_copy")
    ideal = "" if best is None else f"; warped by the true displacement {best:.3f}"
    pixels, error, none, length = np.concatenate(errors).sum(axis=0) if errors else np.zeros(4)
    relative = error / none if none > 0 else None
    unknown = "the data do not know the displacement between their modalities"
    reason = unknown if not errors else "nothing is displaced inside the organs of the test slices"
    return {
        f"field_error_relative{ending}": entry(
            relative,
            int(pixels),
            f"length of the error of {by} over that of the true displacement, sums over pixels of the target's organs; "
            "1 is no alignment at all",
            reason="" if relative is not None else reason,
            per_length={
                "error, pixels": error / max(pixels, 1),
                "displacement, pixels": none / max(pixels, 1),
                "field, pixels": length / max(pixels, 1),
            }
            if errors
            else {},
        ),
        f"dice_warped_truth{ending}": {
            **dice["field"]["dice_copy"],
            "protocol": f"of the source's true labels warped by {by}, as dice_copy{ideal}",
        },
        f"dice_slices_warped_truth{ending}": {
            **dice["field"]["dice_slices_copy"],
            "protocol": f"of the source's true labels warped by {by}, as dice_slices_copy",
        },
    }


def mean_displacement(train: Examples) -> np.ndarray:
    """(2,), of the target's organs on training slices; 0 where there are none."""
    total, count = np.zeros(2), 0
    for batch in few_at_once(train, train.spread(FITTED)):
        inside = (batch["mask"][..., -1] > 0) & same_place(batch)[:, None, None]
        total, count = total + batch["displacement"][inside].sum(axis=0, dtype=float), count + inside.sum()
    return total / max(count, 1)


# --- anatomy and codes ---


def encoded(model, batch: dict) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Of each modality the slices (N, H, W, 1), their anatomies (N, H, W, C) and mean codes (N, K)."""
    images = slices_of(model, batch)
    tensors = [ops.convert_to_tensor(one) for one in images]
    anatomy = [model.anatomy(one, i) for i, one in enumerate(tensors)]
    codes = [model.moments(*pair)[0] for pair in zip(anatomy, tensors, strict=True)]
    return images, [ops.convert_to_numpy(one) for one in anatomy], [ops.convert_to_numpy(one) for one in codes]


def gathered(model, examples: Examples, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """`encoded` of a few slices, for each modality: slices (N, H, W), anatomies (N, H, W, C), mean codes (N, K)."""
    parts = [encoded(model, batch) for batch in few_at_once(examples, rows)]
    kinds = zip(*parts, strict=True)
    images, anatomy, codes = ([np.concatenate(one) for one in zip(*kind, strict=True)] for kind in kinds)
    return [(image[..., 0], one, code) for image, one, code in zip(images, anatomy, codes, strict=True)]


def anatomy_metrics(model, test: Examples, rows: np.ndarray, names: tuple[str, ...]) -> dict:
    """Whether the anatomy is there, whether modalities have an organ in one channel, and whether z tells them."""
    config = model.config
    empty, codes, subject = [], [], []
    held = np.zeros((config.num_modalities, len(names), config.anatomy_channels))  # pixels of a label in a channel
    for batch in few_at_once(test, rows):
        _, anatomy, code = encoded(model, batch)
        empty.append(np.stack([(one.max(-1) < 0.5).mean((1, 2)) for one in anatomy], axis=1))
        codes.append(np.stack(code, axis=1))
        for i, mask in enumerate(masks_of(model, batch)):
            for k in range(len(names)):
                held[i, k] += anatomy[i][mask == k].sum(axis=0)
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


def weights_of_pairs(model, batch: dict) -> np.ndarray:
    """(N, candidates), as the balancer weights them."""
    slices = [ops.convert_to_tensor(batch["image"][..., k : k + 1]) for k in range(batch["image"].shape[-1])]
    *others, own = (model.anatomy(one, model.config.channel_modalities[k]) for k, one in enumerate(slices))
    return ops.convert_to_numpy(model.pair_weights([model.deformed(one, own) for one in others], own))


def pair_metrics(model, test: Examples, rows: np.ndarray) -> dict:
    """The weight of the candidate that belongs to the target's slice, and of others by how far off they are."""
    weights, distances = [], []
    for batch in few_at_once(test, rows):
        weights.append(weights_of_pairs(model, batch))
        distances.append(batch["partner_distance"])
    weights, distances = np.concatenate(weights), np.concatenate(distances).round(1)
    nearest = distances.argmin(axis=1)[:, None]
    chosen = np.take_along_axis(weights, nearest, axis=1)
    return {
        "pair_weight_of_nearest": entry(
            chosen.mean(),
            len(weights),
            f"weight of the nearest of {weights.shape[1]} candidates, mean over test slices; by chance "
            f"{1 / weights.shape[1]:.3f}",
            std=chosen.std(),
            per_distance={f"{one:g} mm off": weights[distances == one].mean() for one in np.unique(distances)},
        )
    }


# --- content and style ---


def dependence_metrics(model, test: Examples, rows: np.ndarray) -> dict:
    """Distance correlation of anatomy and code (paper, Sec. V-F), and of each with the slice: Liu et al.'s DC."""
    parts = gathered(model, test, evenly(rows, CORRELATED))
    by_name = dict(zip(model.config.modalities, parts, strict=True))
    by_name["all modalities"] = tuple(np.concatenate(kind) for kind in zip(*parts, strict=True))
    pairs = {
        "distance_correlation": ("anatomy", "code"),
        "distance_correlation_image_content": ("slice", "anatomy"),
        "distance_correlation_image_style": ("slice", "code"),
    }
    if len(parts[0][0]) < 4:
        reason = f"it takes 4 test slices, and there are {len(parts[0][0])}"
        return {name: entry(None, 0, "", reason=reason) for name in pairs}
    results = {}
    for name, (one, other) in pairs.items():
        found = {}
        for modality, (image, anatomy, code) in by_name.items():
            of = {"slice": image, "anatomy": anatomy, "code": code}
            flat = (of[kind].reshape(len(image), -1) for kind in (one, other))
            found[modality] = measure.dependence(*flat)
        each = [found[modality] for modality in model.config.modalities]
        results[name] = entry(
            np.mean([one.correlation for one in each]),
            len(parts[0][0]),
            f"of {one} and {other}, without its bias, mean over modalities; its floor is the 95th percentile over 200 "
            "permutations; uncorrected is what papers print, and by chance its mean over permutations",
            per_modality={modality: one.correlation for modality, one in found.items()},
            per_floor={f"{modality}, floor": one.floor for modality, one in found.items()},
            per_uncorrected={f"{modality}, uncorrected": one.uncorrected for modality, one in found.items()},
            per_chance={f"{modality}, uncorrected by chance": one.uncorrected_floor for modality, one in found.items()},
        )
    return results


def information_metrics(model, train: Examples, test: Examples, rows: np.ndarray) -> dict:
    """Liu et al.'s IOB: how much more of a slice a small decoder makes from its anatomy, or its code, than from none.

    A pixel is made from the anatomy in a window around it and the mean training slice there, and from the code by its
    entries and their products; both decoders are ridge regressions of what the slice has beyond the mean training
    slice, see `metrics.information_over_bias`.
    """
    ours, theirs = gathered(model, train, train.spread(FITTED)), gathered(model, test, evenly(rows, CORRELATED))
    draw = np.random.default_rng(0)
    found = {"content": {}, "style": {}}
    for name, part, asked in zip(model.config.modalities, ours, theirs, strict=True):
        mean = part[0].mean(axis=0)
        pixels = np.sort(draw.permutation(mean.size)[:CODE_PIXELS])
        content, style = [], []
        for image, anatomy, code in (part, asked):
            rest = (image - mean).reshape(len(image), -1)
            places = draw.integers(0, mean.size, (len(image), PIXELS))
            seen = np.column_stack([windows(anatomy, places), mean.ravel()[places].ravel()])
            content += [seen, np.take_along_axis(rest, places, axis=1).ravel()]
            products = (code[:, :, None] * code[:, None])[:, *np.triu_indices(code.shape[1])]
            style += [np.hstack([code, products]), rest[:, pixels]]
        found["content"][name] = measure.information_over_bias(*content)
        found["style"][name] = measure.information_over_bias(*style)
    sees = {
        "content": f"the anatomy's {WINDOW} x {WINDOW} pixels around a pixel, and that mean there",
        "style": "the code and its products",
    }
    return {
        f"information_over_bias_{kind}": entry(
            np.mean(list(values.values())),
            len(theirs[0][0]),
            f"squared error of the mean of {len(ours[0][0])} training slices over that of ridge regression on "
            f"{sees[kind]}, on test slices, mean over modalities; 1: it tells nothing",
            per_modality=values,
        )
        for kind, values in found.items()
    }


def windows(anatomy: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Anatomies (N, H, W, C) around pixels (N, P), numbers of them: (N * P, WINDOW * WINDOW * C); 0 beyond the edge."""
    count, _, width, _ = anatomy.shape
    margin = WINDOW // 2
    padded = np.pad(anatomy, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    row, column = places // width, places % width
    which = np.arange(count)[:, None]
    shifts = [(y, x) for y in range(WINDOW) for x in range(WINDOW)]
    return np.concatenate([padded[which, row + y, column + x] for y, x in shifts], axis=-1).reshape(places.size, -1)


def twins(batch: dict) -> np.ndarray:
    """(N, H, W, 2): the source where the target shows it, by the true displacement, and the target."""
    source, target = batch["image"][..., 0].astype("float32"), batch["image"][..., -1].astype("float32")
    moved = [warped(one + 1, place, 1) - 1 for one, place in zip(source, batch["displacement"], strict=True)]
    return np.stack([np.stack(moved), target], axis=-1)


def swapped(model, batch: dict, codes: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Slices of the one modality with the mean code of the other, where the target is.

    Returns:
        {"source": the target's anatomy as the source, "target": the source's as the target, warped by the true
        displacement, "own": the target's anatomy with its own code; each (N, H, W) in [-1, 1]}.
    """
    _, anatomy, own = encoded(model, batch)

    def made(one: np.ndarray, code: np.ndarray) -> np.ndarray:
        code = np.broadcast_to(code, (len(one), code.shape[-1])).astype("float32")
        return ops.convert_to_numpy(model.reconstruct(ops.convert_to_tensor(one), ops.convert_to_tensor(code)))[..., 0]

    places = batch["displacement"]
    moved = [warped(one + 1, by, 1) - 1 for one, by in zip(made(anatomy[0], codes[-1]), places, strict=True)]
    return {"source": made(anatomy[-1], codes[0]), "target": np.stack(moved), "own": made(anatomy[-1], own[-1])}


def mean_codes(model, train: Examples) -> list[np.ndarray]:
    """(K,), the mean code of the training slices in each modality."""
    return [code.mean(axis=0) for _, _, code in gathered(model, train, train.spread(FITTED))]


def lookups(train: Examples) -> dict:
    """Lookup tables of intensities, fitted on true twins of the training split: {(from, to): function}."""
    known = train.mapped(lambda batch: {**batch, "available": np.repeat(same_place(batch)[:, None], 2, axis=1)})
    return intensity_maps(known, [(0, 1), (1, 0)], twins)["lookup"]


def swap_metrics(model, train: Examples, test: Examples, rows: np.ndarray) -> dict:
    """Whether a slice takes on the look of the other modality with the mean code of that (paper, Sec. V-F.2).

    Compared with the true twin, beside a lookup table that was fitted on true twins of the training split, and the
    slice as it is. The decoded slice of the target with its own code says what the decoder can do at best.
    """
    names = model.config.modalities
    tables = lookups(train) if "displacement" in test.names else {}
    if not tables:
        return {"modality_swap_error": entry(None, 0, "", reason="the data do not know the true twins of slices")}
    codes = mean_codes(model, train)
    parts = {"": [], "_lookup": [], "_unchanged": []}
    own = []
    for batch in few_at_once(test, rows):
        pair, found = unit(twins(batch)), {k: unit(v) for k, v in swapped(model, batch, codes).items()}
        inside = np.stack([warped(np.ones(by.shape[:2]), by, 1) > 0.99 for by in batch["displacement"]])
        there = same_place(batch)

        def error(made, truth, inside=inside, there=there):
            return measure.mean_absolute_error(made[there], truth[there], inside[there])

        source, target = pair[..., 0], pair[..., 1]
        parts[""].append([error(found["source"], source), error(found["target"], target)])
        tabled = tables[1, 0](target), tables[0, 1](source)
        parts["_lookup"].append([error(tabled[0], source), error(tabled[1], target)])
        parts["_unchanged"].append([error(target, source), error(source, target)])
        own.append(error(found["own"], target))
    about = {
        "": "the decoder with the mean code of the other modality's training slices",
        "_lookup": "a lookup table of intensities, fitted on true twins of the training split",
        "_unchanged": "the slice as it is",
    }
    ways = (f"{names[-1]} to {names[0]}", f"{names[0]} to {names[-1]}")
    results = {}
    for ending, values in parts.items():
        each = np.concatenate(values, axis=1).mean(axis=1)
        results[f"modality_swap_error{ending}"] = entry(
            each.mean(),
            sum(len(one[0]) for one in values),
            f"mean absolute difference from the true twin, in [0, 1], of {about[ending]}, mean of both directions",
            per_direction=dict(zip(ways, each, strict=True)),
        )
    own = np.concatenate(own)
    results["reconstruction_error"] = entry(
        own.mean(), len(own), f"mean absolute difference, in [0, 1], of {names[-1]} decoded with its own code"
    )
    return results


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
    image = np.stack([one[0, ..., 0] for one in slices_of(model, batch)])
    moved = warped(image[0] + 1, found["field"][0], 1) - 1
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


def draw_pairs(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """What the paper's Fig. 5 is about: candidates, the nearest first, and what the balancer makes them weigh."""
    batch, names = shown(test, rows, 4), model.config.modalities
    weights, order = weights_of_pairs(model, batch), np.argsort(batch["partner_distance"], axis=1, kind="stable")
    columns = {names[-1]: slices_of(model, batch)[-1]}
    for k, places in enumerate(order.T):
        columns[f"{names[0]}, no. {k + 1}"] = batch["image"][np.arange(len(places)), ..., places][..., None]
    told = [", ".join(f"{one:.2f}" for one in each) for each in np.take_along_axis(weights, order, axis=1)]
    return [
        Figure(
            "Pair weights",
            f"Test slices of {names[-1]} and their candidates of {names[0]}, the nearest first; beside each row the "
            "weights of these, in this order.",
            figures.columns_grid(columns, names=told),
            "paper Fig. 5",
        )
    ]


def draw_reconstruction(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """The paper's Fig. 6: slices of each modality, and what the decoder makes of anatomy and code."""
    batch, names = shown(test, rows, 4), model.config.modalities
    columns = {}
    for name, image, anatomy, code in zip(names, *encoded(model, batch), strict=True):
        made = model.reconstruct(ops.convert_to_tensor(anatomy), ops.convert_to_tensor(code))
        columns |= {name: image, f"{name} decoded": ops.convert_to_numpy(made)}
    text = f"Test slices, and what the decoder makes of the anatomy and the code of each: {', '.join(names)}."
    return [Figure("Reconstruction", text, figures.columns_grid(columns), "paper Fig. 6")]


def draw_codes(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """The paper's Fig. 7: one dimension of z after the other, from one end of the prior to the other."""
    batch, name = shown(test, rows, 1), model.config.modalities[-1]
    _, anatomy, codes = encoded(model, batch)
    steps = np.linspace(-EXTREME, EXTREME, 7)
    count = codes[-1].shape[1]
    walks = np.tile(codes[-1][0], (count, len(steps), 1))
    for k in range(count):
        walks[k, :, k] = steps
    repeated = np.repeat(anatomy[-1][:1], len(steps), axis=0)
    made = np.stack(
        [
            ops.convert_to_numpy(model.reconstruct(ops.convert_to_tensor(repeated), ops.convert_to_tensor(walk)))
            for walk in walks.astype("float32")
        ]
    )  # (K, steps, H, W, 1)
    centred = made - made.mean(axis=1, keepdims=True)
    along = (centred * (steps / np.linalg.norm(steps))[:, None, None, None]).sum(axis=1)
    spread = np.linalg.norm(centred, axis=1)
    correlation = np.divide(along, spread, out=np.zeros_like(along), where=spread > 1e-6)
    difference = np.abs(made[:, -1] - made[:, 0])
    image = np.repeat(slices_of(model, batch)[-1][:1], count, axis=0)
    columns = {name: figures.to_uint8(image)}
    columns |= {f"{step:g}": figures.to_uint8(made[:, k]) for k, step in enumerate(steps)}
    columns["correlation"] = figures.error_colours(np.abs(correlation), 1)
    columns["difference"] = figures.error_colours(difference, 2)
    return [
        Figure(
            "Latent arithmetic",
            f"A slice of {name} decoded with its own code, of which one dimension after the other, by row, goes from "
            f"{-EXTREME:g} to {EXTREME:g}. Then how far each pixel follows it, the size of its correlation with the "
            "dimension, from 0 to 1, and the size of the difference of both ends, of at most 2.",
            figures.columns_grid(columns, names=[f"z {k}" for k in range(count)]),
            "paper Fig. 7",
        )
    ]


def draw_exchanged(model, train: Examples, test: Examples, rows: np.ndarray) -> list[Figure]:
    """Slices in the look of the other modality, beside their true twins and what a lookup table makes of them."""
    tables = lookups(train) if "displacement" in test.names else {}
    if not tables:
        return []
    batch, names = shown(test, rows, 4), model.config.modalities
    found, pair = swapped(model, batch, mean_codes(model, train)), twins(batch)
    columns = {}
    for (one, other), kind in (((1, 0), "source"), ((0, 1), "target")):
        begin, end = (names[-1] if k else names[0] for k in (one, other))
        columns |= {
            begin: pair[..., one],
            f"{begin} as {end}": found[kind],
            f"true {end}": pair[..., other],
            f"{end} by table": 2 * np.clip(tables[one, other](unit(pair[..., one])), 0, 1) - 1,
        }
    return [
        Figure(
            "Modality exchanged",
            f"Slices of {names[-1]} decoded with the mean code of {names[0]}, and the other way round, where "
            f"{names[-1]} is; beside each its true twin, and a lookup table of intensities.",
            figures.columns_grid({name: image[..., None] for name, image in columns.items()}),
            "",
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
    if "modality_swap_error" in metrics:
        lines.append(
            f"With the mean code of the other modality a slice differs from its true twin by "
            f"{number('modality_swap_error')} (a lookup table {number('modality_swap_error_lookup')}, the slice as it "
            f"is {number('modality_swap_error_unchanged')}); the distance correlation of anatomy and code is "
            f"{number('distance_correlation')}."
        )
    if "field_error_relative" in metrics:
        lines.append(
            f"Inside the organs the field's error is {number('field_error_relative')} of the displacement, that of a "
            f"registration {number('field_error_relative_register')}; the source's true labels, warped by them, "
            f"have a Dice of {number('dice_warped_truth')} and {number('dice_register')}."
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
