"""Evaluation of anatomy and modality codes that are not to leak: Sec. 4.3 of Ouyang et al., IPMI 2021, and beyond it.

Every ordered pair of different modalities of a test slice is cross-reconstructed: the anatomy of one in the look of the
other. As in the paper's Table 1, likeness is given for each target as the mean over sources; of the centre slice, with
images in [0, 1] and range 1, on the whole slice and inside the brain. Opponents that need no network map intensities of
the source to the target's: an affine map and a lookup table.

What a user of incomplete data gets: from each subset of the modalities, the others, drawn in their typical look, and
whether the fused anatomy finds its subject.

What a network makes of the fused anatomies of a frozen model, where the data have what it is to make, labels of a
tumour or PET: with every subset of the modalities, beside networks that are given images
(`tfdisent.evaluation.missing_inputs`).

Beyond the paper's pictures, what the codes tell: the modality, by probes that are trained on half of the test subjects
and asked about the others; the subject; and how many of the margins of Eq. 2 hold between different modalities.
"""

import itertools
import math
import os
from collections.abc import Callable

import numpy as np
from keras import ops

from tfdisent import metrics as measure
from tfdisent.evaluation import missing_inputs
from tfdisent.evaluation.entries import Results, entry, value_of
from tfdisent.evaluation.intensity_maps import KINDS, intensity_maps, opponents
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.evaluation.slices import (
    available,
    brain,
    few_at_once,
    likeness,
    likeness_metrics,
    likeness_protocol,
    partners,
    pooled,
    rows_to_show,
)
from tfdisent.examples import Examples, evenly, together
from tfdisent.report import Figure, figures

PROBED_CODES = 4000
PAPER_MARGIN = 0.1  # alpha_s and alpha_z
SUBSET_SLICES = 64  # of which modalities are left out


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
    keep: str | os.PathLike | None = None,
) -> tuple[dict, list[Figure]]:
    """Metrics and figures of a trained model on a prepared data set.

    Args:
        model: trained; its averaged weights are used.
        read: split -> its examples: image (N, H, W, C) in [-1, 1], subject, available (N, M) if some are missing; mask
            (N, H, W, 1) and pet (N, H, W, 1) in [-1, 1] where the data have them.
        manifest: with the names of the labels.
        judge_directory: not used; the networks that segment and draw PET learn from each model's anatomies.
        judge_kind: "convnet" for small networks downstream, "inception" for the paper's.
        num_samples: test slices to measure, spread evenly over the split.
        seed: of the choice of codes that are probed, and of the probes.
        log: is told what is done.
        keep: folder for a segmentor of fused anatomies, of which any modality may be missing; None to keep none.

    Returns:
        ({name: entry}, figures).
    """
    results, train, test = Results(log), read("train"), read("test")
    rows = test.spread(num_samples)
    with model.averaged():
        log(f"cross-reconstructing {len(rows)} slices in {model.config.num_modalities} modalities")
        results.measure(["psnr_brain", "ssim_brain"], reconstruction_metrics, model, train, test, rows)
        log("drawing what is missing from every subset of the modalities")
        results.measure(["psnr_brain_missing", "subset_retrieval"], subset_metrics, model, train, test, rows)
        log("probing the codes")
        codes = codes_of(model, test, rows)
        results.measure(["modality_from_anatomy", "modality_from_modality_code"], leak_metrics, codes, seed)
        results.measure(["subject_retrieval", "subject_from_modality_code"], subject_metrics, codes, seed)
        results.measure(["margins_held"], margin_metrics, codes, model.config)
        results.measure(["anatomy_entropy"], entropy_metrics, codes)
        results.draw("Cross reconstruction", draw_figures, model, test, rows)
        results.draw("Codes in the plane", draw_codes, codes, model.config.modalities, seed)
        results.draw("Subsets of modalities", draw_subsets, results.metrics)
        labels = tuple(manifest.mask_labels)
        if len(labels) > 1 and "mask" in train.names and "mask" in test.names:
            log("segmenting from fused anatomies and from images, inputs missing")
            missing_inputs.measure_segmentation(results, model, train, test, labels, judge_kind, seed, keep)
        if "pet" in train.names and "pet" in test.names:
            log("drawing PET from fused anatomies and from images, inputs missing")
            missing_inputs.measure_pet(results, model, train, test, judge_kind, seed)
    return results.metrics, results.figures


def centre(image: np.ndarray, config) -> np.ndarray:
    """The centre slice of each modality, (N, H, W, M), of images with neighbours (N, H, W, C)."""
    return image[..., config.neighbours :: 1 + 2 * config.neighbours]


def reconstructed(model, batch: dict) -> np.ndarray:
    """(N, M, M, H, W): the centre slice of each anatomy in each look."""
    made = ops.convert_to_numpy(model.cross_reconstruct(batch["image"], there(batch, model.config)))
    return made[..., model.config.neighbours]


def there(batch: dict, config) -> np.ndarray:
    """Which modalities there are, (N, M) of 0 and 1."""
    return np.asarray(batch.get("available", np.ones((len(batch["image"]), config.num_modalities))), "float32")


# --- reconstruction ---


def reconstruction_metrics(model, train: Examples, test: Examples, rows: np.ndarray) -> dict:
    """Likeness of cross reconstructions by target, and what maps of intensities reach."""
    config = model.config
    pairs = list(itertools.permutations(range(config.num_modalities), 2))
    maps = intensity_maps(train, pairs, lambda batch: centre(batch["image"], config))
    kinds = ("", *maps)
    scores = {kind: {name: [] for name in config.modalities} for kind in kinds}
    for batch in few_at_once(test, rows):
        truth, exists = centre(batch["image"], config), there(batch, config) > 0
        inside, made = brain(truth), reconstructed(model, batch)
        for i, j in pairs:
            some = exists[:, i] & exists[:, j]
            if not some.any():
                continue
            shown = {"": made[some, i, j]}
            shown |= opponents(maps, (i, j), truth[some, ..., i], truth[some, ..., j], inside[some])
            for kind, image in shown.items():
                found = likeness(image, truth[some, ..., j], inside[some])
                scores[kind][config.modalities[j]].append(found)
    joined = {
        kind: {name: together(parts) for name, parts in by_target.items() if parts}
        for kind, by_target in scores.items()
    }
    results = likeness_metrics(joined[""], per="target", parts="targets, each from all other modalities")
    for kind in maps:
        for metric in ("psnr_brain", "ssim_brain"):
            by_target = {name: found[metric] for name, found in joined[kind].items()}
            how = likeness_protocol(metric, f"{len(by_target)} targets")
            what = f"{how}; of {KINDS[kind]} of each pair, fitted on training slices"
            results[f"{metric}_{kind}"] = pooled(by_target, what, "target")
    return results


def subset_metrics(model, train: Examples, test: Examples, rows: np.ndarray) -> dict:
    """Of each subset of the modalities, what is drawn of the others, and how often what is fused finds its subject.

    The opponent is the mean of the lookup tables of all that there are.
    """
    config, every = model.config, range(model.config.num_modalities)
    rows = evenly(rows[available(test)[rows].all(axis=1)], SUBSET_SLICES)
    if not len(rows):
        reason = "no test slice has all modalities"
        return {name: entry(None, 0, "", reason=reason) for name in ("psnr_brain_missing", "subset_retrieval")}
    subsets = [some for size in range(1, len(every)) for some in itertools.combinations(every, size)]
    tables = intensity_maps(train, list(itertools.permutations(every, 2)), lambda x: centre(x["image"], config))[
        "lookup"
    ]
    looks = ops.convert_to_numpy(model.typical_codes.mean)
    scores = {kind: {some: [] for some in subsets} for kind in ("", "_lookup")}
    found, subject = {some: [] for some in (*subsets, tuple(every))}, []
    for batch in few_at_once(test, rows):
        truth = centre(batch["image"], config)
        inside = brain(truth)
        subject.append(batch.get("subject", batch["row"]))
        images = ops.split(ops.convert_to_tensor(batch["image"]), len(every), axis=-1)
        alone = [ops.convert_to_numpy(model.anatomy(image, i)) for i, image in enumerate(images)]
        for some, parts in found.items():
            anatomy = np.mean([alone[i] for i in some], axis=0)
            anatomy *= ops.convert_to_numpy(model.foreground(ops.concatenate([images[i] for i in some], axis=-1)))
            parts.append(windows(anatomy, config.pool_size)[0])
            missing = [j for j in every if j not in some]
            if not missing:
                continue
            made = ops.convert_to_numpy(model.decode(anatomy, np.tile(looks[missing], (len(truth), 1))))
            made = made[..., config.neighbours].reshape(len(truth), len(missing), *truth.shape[1:3])
            for k, j in enumerate(missing):
                shown = {"": made[:, k]}
                by_table = [dict(opponents({"": tables}, (i, j), truth[..., i], truth[..., j], inside)) for i in some]
                known = [one[""] for one in by_table if one]
                shown |= {"_lookup": np.mean(known, axis=0)} if known else {}
                for kind, image in shown.items():
                    scores[kind][some].append(likeness(image, truth[..., j], inside))
    names = {some: "+".join(config.modalities[i] for i in some) for some in found}
    results = {}
    for kind, of in (("", ""), ("_lookup", f"; of the mean of {KINDS['lookup']} from each that there is")):
        for metric in ("psnr_brain", "ssim_brain"):
            by_subset = {names[some]: together(parts)[metric] for some, parts in scores[kind].items() if parts}
            how = likeness_protocol(metric, f"the missing modalities of {len(subsets)} subsets, in their typical look")
            results[f"{metric}_missing{kind}"] = pooled(by_subset, how + of, "subset")
    codes, subject = {names[some]: np.concatenate(parts) for some, parts in found.items()}, np.concatenate(subject)
    of_all = codes.pop(names[tuple(every)])
    hits = {name: subject == subject[np.argmax(_cosines(code, of_all), axis=1)] for name, code in codes.items()}
    protocol = (
        "share of slices whose mean anatomy over a subset of the modalities is most similar, by the cosine of f, to "
        f"that of a slice of the same subject over all modalities; random slices: "
        f"{np.mean(subject[:, None] == subject[None]):.3f}"
    )
    return results | {"subset_retrieval": pooled(hits, protocol, "subset")}


# --- codes ---


def codes_of(model, test: Examples, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of each slice in each modality that there is, with N of them.

    Returns:
        anatomy (N, D): maxima and means of the windows of f; pooled (N, D / 2), the maxima alone, which are f; code
        (N, code_dim); share (N, S), the mean of each channel of the anatomy in the brain; modality (N,); slice (N,),
        the number of the slice; subject (N,), numbers; position (N,).
    """
    config, parts = model.config, []
    for batch in few_at_once(test, rows):
        exists = there(batch, config)
        found = {k: ops.convert_to_numpy(v) for k, v in model.encode_all(batch["image"], exists).items()}
        inside = brain(centre(batch["image"], config))
        count = len(exists)
        subject = batch.get("subject", batch["row"])
        position = np.asarray(batch.get("slice_index", np.zeros(count))).reshape(count)
        for i in range(config.num_modalities):
            some = np.flatnonzero(exists[:, i] > 0)
            anatomy = found["anatomy"][some, i]
            highest, mean = windows(anatomy, config.pool_size)
            weight = inside[some][..., None]
            parts.append(
                {
                    "anatomy": np.concatenate([highest, mean], axis=1),
                    "pooled": highest,
                    "code": found["code"][some, i],
                    "share": (anatomy * weight).sum((1, 2)) / np.maximum(weight.sum((1, 2)), 1),
                    "modality": np.full(len(some), i),
                    "slice": batch["row"][some],
                    "subject": subject[some],
                    "position": position[some],
                }
            )
    found = together(parts)
    _, found["subject"] = np.unique(found["subject"], return_inverse=True)  # numbers, as classifiers take them
    return found


def windows(anatomy: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Maxima and means of the windows of anatomies (N, H, W, S), each (N, S * H * W / size ** 2)."""
    count, height, width, channels = anatomy.shape
    split = anatomy.reshape(count, height // size, size, width // size, size, channels)
    flat = (count, channels * (height // size) * (width // size))
    return split.max((2, 4)).reshape(flat), split.mean((2, 4)).reshape(flat)


def probes(codes: np.ndarray, labels: np.ndarray, train: np.ndarray, seed: int) -> dict[str, float]:
    """Accuracy of a linear and of a network's classification of codes (N, D) that were not `train` (N,) bool.

    Both are trained until their loss no longer falls.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = make_pipeline(StandardScaler(), MLPClassifier((64,), alpha=1e-3, max_iter=2000, random_state=seed))
    return {
        "linear": measure.linear_probe_accuracy(codes, labels, train=train),
        "network": float(network.fit(codes[train], labels[train]).score(codes[~train], labels[~train])),
    }


def leak_metrics(codes: dict, seed: int) -> dict:
    """How well the modality is told from the anatomy, which should be at chance, and from the code of the modality."""
    names = ("modality_from_anatomy", "modality_from_modality_code")
    subjects = np.unique(codes["subject"])
    labels, number = codes["modality"], len(np.unique(codes["modality"]))
    if len(subjects) < 2 or number < 2:
        reason = f"it takes 2 test subjects and 2 modalities, and there are {len(subjects)} and {number}"
        return {name: entry(None, 0, "", reason=reason) for name in names}
    chosen = np.random.default_rng(seed).permutation(len(labels))[:PROBED_CODES]
    train = np.isin(codes["subject"], subjects[::2])
    chance = np.bincount(labels[chosen][~train[chosen]]).max() / (~train[chosen]).sum()
    results = {}
    for name, kind in zip(names, ("anatomy", "code"), strict=True):
        found = probes(codes[kind][chosen], labels[chosen], train[chosen], seed)
        protocol = (
            f"the better of a linear probe and a network of 64 units, trained on {train[chosen].sum()} codes of half "
            f"of the test subjects and asked about the others'; chance is {chance:.3f}"
        )
        results[name] = entry(max(found.values()), int((~train[chosen]).sum()), protocol, per_probe=found)
    return results


def subject_metrics(codes: dict, seed: int) -> dict:
    """Whether the anatomy finds its subject in another modality; and whether the code of the modality tells it."""
    names, subjects = ("subject_retrieval", "subject_from_modality_code"), np.unique(codes["subject"])
    if len(subjects) < 2:
        reason = f"it takes 2 test subjects, and there are {len(subjects)}"
        return {name: entry(None, 0, "", reason=reason) for name in names}
    hits = []
    for i, j in itertools.permutations(np.unique(codes["modality"]), 2):
        ask, search = (np.flatnonzero(codes["modality"] == k) for k in (i, j))
        found = search[np.argmax(_cosines(codes["pooled"][ask], codes["pooled"][search]), axis=1)]
        hits.append(codes["subject"][ask] == codes["subject"][found])
    hits = np.concatenate(hits) if hits else np.zeros(0)
    chance = float(np.mean([np.mean(codes["subject"] == one) for one in codes["subject"]]))
    results = {
        names[0]: entry(
            hits.mean() if len(hits) else None,
            len(hits),
            "share of slices whose most similar one in another modality, by the cosine of f(s), is of the same "
            f"subject; random slices: {chance:.3f}",
            reason="" if len(hits) else "there is one modality",
        )
    }
    # Slices of every subject are in both halves, or the subject could not be told.
    order = np.random.default_rng(seed).permutation(np.unique(codes["slice"]))
    train = np.isin(codes["slice"], order[::2])
    known = np.isin(codes["subject"], np.unique(codes["subject"][train]))
    if len(np.unique(codes["subject"][train])) < 2 or not (known & ~train).any():
        results[names[1]] = entry(None, 0, "", reason="subjects have one slice each")
        return results
    found = probes(codes["code"][known], codes["subject"][known], train[known], seed)
    protocol = (
        f"the better of a linear probe and a network of 64 units, trained on half of the slices of {len(subjects)} "
        f"test subjects and asked about the others; random: {chance:.3f}"
    )
    results[names[1]] = entry(max(found.values()), int((known & ~train).sum()), protocol, per_probe=found)
    return results


def margin_metrics(codes: dict, config) -> dict:
    """Share of the margins of Eq. 2 that hold, for i other than j: for i = j none of the modality's can."""
    apart = {"anatomy": [], "modality": []}
    at = {(row, k): n for n, (row, k) in enumerate(zip(codes["slice"], codes["modality"], strict=True))}
    for i in np.unique(codes["modality"]):
        own = np.flatnonzero(codes["modality"] == i)
        if len(np.unique(codes["subject"][own])) < 2:
            continue
        other = partners(codes["subject"], codes["position"], own)
        for p, q in zip(own, other, strict=True):
            for j in np.unique(codes["modality"]):
                n = at.get((codes["slice"][p], j))
                if n is None or j == i:
                    continue
                s, z = codes["pooled"], codes["code"]
                apart["anatomy"].append(_cosine(s[p], s[n]) - _cosine(s[p], s[q]))
                apart["modality"].append(_cosine(z[p], z[q]) - _cosine(z[p], z[n]))
    if not apart["anatomy"]:
        return {"margins_held": entry(None, 0, "", reason="it takes 2 test subjects with 2 modalities")}
    margins = {"anatomy": config.anatomy_margin, "modality": config.modality_margin}
    shares = {name: float(np.mean(np.array(apart[name]) >= margin)) for name, margin in margins.items()}
    of_paper = {f"{name} at {PAPER_MARGIN}": float(np.mean(np.array(v) >= PAPER_MARGIN)) for name, v in apart.items()}
    protocol = (
        f"share of margins of {config.anatomy_margin} and {config.modality_margin} that hold between two modalities of "
        "a slice and one of another subject at the nearest position; mean of anatomy and modality; and of the paper's "
        f"margins, {PAPER_MARGIN}"
    )
    parts = {"per_code": shares, "per_code_by_paper": of_paper}
    return {"margins_held": entry(np.mean(list(shares.values())), len(apart["anatomy"]), protocol, **parts)}


def entropy_metrics(codes: dict) -> dict:
    """How evenly the channels of the anatomy are used in the brain, 0 for one channel alone, a collapsed anatomy: over
    all slices, and in each, which is the lower where channels tell slices apart in place of tissues.
    """

    def entropy(share):
        share = share / max(share.sum(), 1e-12)
        return -sum(part * math.log(part) for part in share if part > 0) / math.log(len(share))

    share = codes["share"].mean(axis=0)
    protocol = "entropy of the mean shares of the channels inside the brain over that of equal shares"
    parts = {f"channel {k}": part for k, part in enumerate(share / max(share.sum(), 1e-12))}
    each = np.mean([entropy(one) for one in codes["share"]])
    return {
        "anatomy_entropy": entry(entropy(share), len(codes["share"]), protocol, per_channel=parts),
        "anatomy_entropy_per_slice": entry(each, len(codes["share"]), f"{protocol}, of each slice; mean over slices"),
    }


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return a @ b.T


# --- figures ---


def draw_figures(model, test: Examples, rows: np.ndarray) -> list[Figure]:
    """The paper's Fig. 2 and 4 for one slice: its anatomies channel by channel, and every anatomy in every look."""
    config = model.config
    few = test.take(evenly(rows, 40))
    size = brain(centre(few["image"], config)).sum((1, 2)) * (there(few, config) > 0).all(1)
    row = rows_to_show(size, few.get("subject", few["row"]), 1)[:1]
    batch = {name: values[row] for name, values in few.items()}
    names, image = config.modalities, np.moveaxis(centre(batch["image"], config)[0], -1, 0)[..., None]
    anatomy = ops.convert_to_numpy(model.encode_all(batch["image"], there(batch, config))["anatomy"])[0]
    channels = {f"part {k}": 2 * anatomy[..., k : k + 1] - 1 for k in range(anatomy.shape[-1])}
    made, blank = reconstructed(model, batch)[0], np.full_like(image[0], -1)
    groups = {"given": np.stack([blank, *image])}
    groups |= {name: np.stack([image[j], *made[:, j, ..., None]]) for j, name in enumerate(names)}
    return [
        Figure(
            "Anatomy by modality",
            f"Rows: {', '.join(names)} of one slice, and the channels of its anatomy. Where no modality leaks, the "
            "rows are alike.",
            figures.columns_grid({"slice": image, **channels}),
            "paper Fig. 2",
        ),
        Figure(
            "Cross reconstruction",
            "Top row: the real slices. Left column: the slice that the anatomy is taken from. The rest: this anatomy "
            "in the look of the column, which should be the top of the column; on the diagonal it is the slice itself.",
            figures.columns_grid(groups),
            "paper Fig. 4",
        ),
    ]


def draw_codes(codes: dict, names: tuple[str, ...], seed: int) -> list[Figure]:
    """The paper's Fig. 3: both codes in the plane, coloured by modality."""
    if len(codes["modality"]) < 4:
        return []
    return [
        Figure(
            "Codes in the plane",
            "t-SNE of anatomies, f(s), at the left (content), and of modality codes, z, at the right (style), coloured "
            "by modality. Anatomies should not cluster by modality, codes should.",
            figures.tsne_figure(codes["pooled"], codes["code"], codes["modality"], names, seed=seed, max_points=600),
            "paper Fig. 3",
        )
    ]


def draw_subsets(metrics: dict) -> list[Figure]:
    """What `subset_metrics` found, a row for each subset."""
    columns = {
        "subject": "subset_retrieval",
        "SSIM": "ssim_brain_missing",
        "SSIM of tables": "ssim_brain_missing_lookup",
    }
    parts = {label: metrics.get(name, {}).get("per_subset", {}) for label, name in columns.items()}
    subsets = list(parts["subject"])
    if not subsets:
        return []
    values = [[np.nan if (v := by.get(some)) is None else v for by in parts.values()] for some in subsets]
    return [
        Figure(
            "Subsets of modalities",
            "For each subset of the modalities: how often its mean anatomy finds the subject, and SSIM inside the "
            "brain of the other modalities, drawn from it in their typical look, beside the mean of lookup tables.",
            figures.matrix(np.array(values), subsets, list(parts)),
        )
    ]


def sample_grid(model, shown: dict) -> np.ndarray:
    """A picture of training's progress: slices, and their anatomy in every look; uint8 RGB."""
    few, config = {name: values[:4] for name, values in shown.items()}, model.config
    with model.averaged():
        made = reconstructed(model, few)
    image = centre(few["image"], config)
    groups = {config.modalities[0]: image[..., :1]}
    for j, name in enumerate(config.modalities[1:], 1):
        groups |= {f"made {name}": made[:, 0, j, ..., None], f"true {name}": image[..., j : j + 1]}
    return figures.columns_grid(groups)


def headline(metrics: dict) -> str:
    """The result in words, from the metrics."""

    def number(name, digits=3):
        value = value_of(metrics, name)
        return "an unknown value" if value is None else f"{value:.{digits}f}"

    return (
        f"Cross reconstructions have PSNR {number('psnr_brain', 1)} dB and SSIM {number('ssim_brain')} inside the "
        f"brain; a lookup table of intensities reaches {number('psnr_brain_lookup', 1)} dB and "
        f"{number('ssim_brain_lookup')}.\n"
        f"The modality is told from the anatomy with accuracy {number('modality_from_anatomy')}, from the modality's "
        f"code with {number('modality_from_modality_code')}.\n"
        f"The anatomy finds its subject in another modality in {number('subject_retrieval')} of the cases; "
        f"{number('margins_held')} of the margins hold."
    )


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    names = ", ".join(manifest.modalities)
    return {
        "target": f"one-hot: {names}",
        "available": f"1 for each of {names} that is there, 0 for one that is missing",
        "anatomy": "shares of the anatomy's channels, which sum to 1; of `complete` the background's before them; of "
        "`fuse` their maxima, means and minima",
        "labels": f"probabilities: {', '.join(manifest.mask_labels)}",
        "code": "how a modality looks",
    }


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values, keeps_segmentor=True)
