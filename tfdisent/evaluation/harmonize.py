"""Evaluation of harmonisation between two scanners: Sec. III of Ren et al., IEEE TMI 2021, and an audit beyond it.

The paper: distances between harmonised and target slices on features of a multitask autoencoder (Table IV), with their
floor between target slices; Dice and intersection over union of nets that were trained on each scanner's real slices
after the fact (Table V), and the share of the gap between them that harmonisation recovers; how much noise on what was
made changes the way back (Eq. 6 and 7).

The audit, on the test subjects' source scans, which training never saw on either scanner: the error to the same
subject's target scan, where there is one, beside its floor (the target scan without noise and bias, which a phantom
has) and what normalisations of intensities reach (`tfdisent.evaluation.normalizations`); whether a classifier still
tells the scanner, one that was trained on real slices and ones that were trained anew on harmonised ones; whether local
contrast and each lesion's contrast keep their sign; volumes of tissues, and how strongly they follow atrophy; where
boundaries of layers are known (retina_phantom), how far nets find them from their place; whether the test scans are as
those of the training (`tfdisent.familiarity`).

Images are compared on the scale [0, 1] inside the foreground, scan by scan, each scan with the same weight.
"""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from tfdisent import metrics as measure
from tfdisent.downstream.classifier import ImageClassifier
from tfdisent.downstream.judge import fit_domain_autoencoder
from tfdisent.downstream.segmentation import Segmentor
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import Results, entry
from tfdisent.evaluation.normalizations import KINDS, OF_PACKAGE, Map, normalizations, normalized
from tfdisent.evaluation.protocol import Evaluation
from tfdisent.evaluation.slices import areas, available, brain, rows_to_show
from tfdisent.examples import Examples, evenly
from tfdisent.familiarity import FEWEST_SCANS, Familiar, of_slices, slice_statistics
from tfdisent.intensity import bounds
from tfdisent.report import Figure, figures
from tfdisent.systems.harmonize import DOMAINS, HarmonizeConfig

TISSUES = ("csf", "gm", "wm", "grey", "white", "grey matter", "white matter")  # classes that are no lesion, lower case
SEGMENTOR_SIZE = {"filters": 16}  # a quarter of the usual one's, for two CPU cores
SEGMENTOR_FIT = {"epochs": 40, "batch_size": 16}
LESION_WEIGHT = 4.0  # of lesions in the segmentors' cross entropy, where all else has 1; the paper's on MS-SEG
AUTOENCODER = {"filters": 16, "num_blocks": 2, "epochs": 30}
LEAST_ACCURACY = 0.95  # of telling the scanner of real slices, for a network to judge harmonised ones
PROBES = 5  # classifiers that are trained anew on harmonised slices, with a seed each
PROBE_FIT = {"steps": 400, "batch_size": 32, "augment": ("symmetry",)}  # noise and sharpness are the scanners' own
PROBE_SLICES = 500  # of each scanner
FAMILIAR_SCANS = 200  # of each scanner, whose distance to the training's is measured
FITTED_SCANS = 20  # of each scanner, that normalisations are fitted on
NOISE = (0.1, 0.2, 0.3, 0.4, 0.5)  # standard deviations of Eq. 6 and 7, of images in [-1, 1]
NOISY_SLICES = 200
LESION_PIXELS = 4  # of the smallest lesion whose contrast is measured
BOUNDARIES = 4  # of layers, that are measured
LEAST_GAP = 0.02  # of Dice, of which a share can be recovered
LEAST_SUBJECTS = 8  # for an effect of atrophy
LARGEST_ERROR = 0.3  # of the intensity range, the end of the error maps' colours


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
        model: trained; its averaged weights are used.
        read: split -> its examples: image (N, H, W, C) in [-1, 1], domain, subject; mask (N, H, W, 1), slice_index,
            factors and `clean` where the data have them.
        manifest: of the data set.
        judge_directory: where the autoencoder is kept.
        judge_kind: "convnet" for one of two CPU cores' size, "inception" for that of the paper.
        num_samples: test slices of each domain to measure, of whole subjects spread evenly over the split.
        seed: of judges and noise.
        log: is told what is done.

    Returns:
        ({name: entry}, figures).
    """
    config, results = model.config, Results(log)
    train, test = (Slices(read(split), config) for split in ("train", "test"))
    labels = tuple(manifest.mask_labels)
    with model.averaged():
        log("fitting normalisations of intensities, which need no network")
        maps = results.attempt(["error_to_truth_histogram_scan"], fitted_normalizations, train, config) or {}
        log("training a segmentor on each scanner's real slices")
        segmentors = results.attempt(["dice"], fitted_segmentors, train, labels, seed) or {}
        log("harmonising the test scans")
        chosen = test.subjects(num_samples)
        scans = results.attempt(["error_to_truth"], measured_scans, model, test, chosen, maps, segmentors, manifest)
        if scans is not None:
            results.measure(["error_to_truth"], error_metrics, scans, maps)
            results.measure(["dice", "tissue_gap_recovered", "lesion_gap_recovered"], overlap_metrics, scans, labels)
            results.measure(["lesion_sign_flips"], lesion_metrics, scans, labels)
            results.measure(["local_contrast_correlation"], contrast_metrics, scans)
            results.measure(["tissue_volume_change", "atrophy_effect_ratio"], volume_metrics, scans, labels)
        if "boundaries" in test.examples.names:
            log("training a segmentor of layers on each scanner's real slices")
            nets = results.attempt(["boundary_distance"], fitted_layers, train, seed) or {}
            results.measure(["boundary_distance"], boundary_metrics, model, nets, test, chosen)
        found = results.attempt(["scanner_distance"], familiarity_metrics, train, test, chosen, tuple(manifest.domains))
        results.metrics |= found or {}
        if warning := unlike(found or {}):
            log(f"warning: {warning}")
        log("adding noise to what was made")
        results.measure(["noise_sensitivity"], noise_metrics, model, test, chosen, seed)
        log(f"training {PROBES + 1} classifiers of scanners")
        results.measure(
            ["scanner_accuracy_frozen", "scanner_accuracy_retrained"], scanner_metrics, model, train, test, chosen, seed
        )
        log("training the autoencoder behind the distances, unless it is there already")
        directory = pathlib.Path(judge_directory) / "autoencoder"
        size = {} if judge_kind == "inception" else AUTOENCODER
        results.measure(["kernel_distance"], distance_metrics, model, train, test, chosen, seed, size, directory)
        log("drawing figures")
        results.draw("Harmonised slices", draw_slices, model, test, chosen, segmentors, labels)
        results.draw("Noise on what was made", draw_noise, model, test, chosen, seed)
    return results.metrics, results.figures


# --- slices of two scanners ---


class Slices:
    """A split by scanner and subject, of the one contrast that is harmonised.

    Args:
        examples: the split.
        config: of the model.

    Attributes:
        rows: {"source", "target": numbers of the slices}.
    """

    def __init__(self, examples: Examples, config: HarmonizeConfig):
        self.examples, self.config = examples, config
        self.channel = config.modalities.index(config.modality)
        domain, there = examples["domain"].reshape(len(examples)), available(examples)[:, self.channel]
        self.rows = {
            name: np.flatnonzero((domain == config.domains.index(getattr(config, name))) & there) for name in DOMAINS
        }
        self.subject = examples.get("subject", np.arange(len(examples)))
        position = examples.get("slice_index")
        self.position = np.arange(len(examples)) if position is None else position.reshape(len(examples))

    def subjects(self, num_slices: int) -> dict[str, list]:
        """{"source", "target": subjects with at most about this many slices}, one or more, spread evenly.

        Those on both scanners come first, as they have a truth.
        """
        known = {name: np.unique(self.subject[rows]) for name, rows in self.rows.items()}
        both = np.intersect1d(known["source"], known["target"])
        chosen = {}
        for name, subjects in known.items():
            each = max(1, -(-len(self.rows[name]) // max(1, len(subjects))))
            most = max(1, num_slices // each)
            first = evenly(both, most)
            chosen[name] = [*first, *evenly(np.setdiff1d(subjects, both), most - len(first))]
        return chosen

    def of(self, name: str, subjects=None) -> np.ndarray:
        """Numbers of the slices of a domain, of some subjects or all."""
        rows = self.rows[name]
        return rows if subjects is None else rows[np.isin(self.subject[rows], subjects)]

    def statistics(self, rows: np.ndarray) -> dict:
        """{subject: statistics (F,) of its scan}, of all slices `rows`, which are of one scanner."""
        parts: dict = {}
        for batch in self.examples.batches(rows):
            found, pixels = slice_statistics(batch["image"][..., self.channel])
            subjects = self.subject[batch["row"]]
            for subject in np.unique(subjects):
                those = subjects == subject
                parts.setdefault(subject, []).append((found[those], pixels[those]))
        return {
            subject: of_slices(*map(np.concatenate, zip(*several, strict=True))) for subject, several in parts.items()
        }

    def scan(self, name: str, subject) -> dict[str, np.ndarray] | None:
        """The slices of a subject on a scanner in the order of positions, image (S, H, W, 1), mask (S, H, W), clean
        (S, H, W) in [-1, 1]; None where there are none.
        """
        rows = self.of(name, [subject])
        if not len(rows):
            return None
        rows = rows[np.argsort(self.position[rows], kind="stable")]
        found = self.examples.take(rows)
        one = slice(self.channel, self.channel + 1)
        found["image"] = found["image"][..., one]
        if "mask" in found:
            found["mask"] = found["mask"][..., 0]
        if "clean" in found:
            low, high = (value[..., one][:, None, None] for value in bounds(found["intensity"], self.config.normalize))
            found["clean"] = np.clip(2 * (found["clean"][..., one] - low) / (high - low) - 1, -1, 1)[..., 0]
        return found

    def selection(self, rows: np.ndarray, columns: tuple[str, ...] = ("image",), change: Callable | None = None):
        """Slices for a network, (N, H, W, 1); `change` is applied to those of the source, a batch at a time."""
        is_source = np.zeros(len(self.examples), bool)
        is_source[self.rows["source"]] = True
        examples = self.examples if change is None else _with_changed(self.examples, change, is_source, self.channel)
        channels = [self.channel] if change is None else None
        return examples.select(rows, channels, columns)


def _with_changed(examples: Examples, change: Callable, is_changed: np.ndarray, channel: int) -> Examples:
    """Examples of one channel, of which some are changed; which ones is known by their keys, in any order."""
    keys = examples["key"]
    changed = set(keys[is_changed].tolist())

    def one(batch: dict) -> dict:
        image = np.asarray(batch["image"])[..., channel : channel + 1].copy()
        some = np.array([key in changed for key in batch["key"].tolist()], bool)
        if some.any():
            image[some] = change(image[some])
        return {**batch, "image": image}

    return examples.mapped(one)


def lesions_of(labels: tuple[str, ...]) -> list[int]:
    """Which of the labels, the background first, are no tissue."""
    return [k for k, name in enumerate(labels) if k and name.lower() not in TISSUES]


def harmonized(model, image: np.ndarray, to: str = "target") -> np.ndarray:
    """Slices (N, H, W, 1) as the other domain shows them."""
    return np.clip(in_batches(lambda x: model.harmonize(x, to)["image"], image, size=32), -1, 1)


# --- whether scans are as those of the training ---


def familiar_source(train: Slices) -> Familiar | None:
    """The training scans of the source, to which others are compared; None where there are too few."""
    subjects = evenly(np.unique(train.subject[train.rows["source"]]), FAMILIAR_SCANS)
    statistics = np.array([one for one in train.statistics(train.of("source", subjects)).values()])
    statistics = statistics[np.isfinite(statistics).all(axis=1)] if len(statistics) else statistics
    return Familiar.of(statistics, train.config.source) if len(statistics) >= FEWEST_SCANS else None


def familiarity_metrics(train: Slices, test: Slices, chosen: dict, domains: tuple[str, ...]) -> dict:
    """How far the test scans of every scanner of the data are from the training scans of the source."""
    name, familiar = "scanner_distance", familiar_source(train)
    if familiar is None:
        reason = f"it takes {FEWEST_SCANS} training scans of the source"
        return {name: entry(None, 0, "", reason=reason)}
    domain = test.examples["domain"].reshape(len(test.examples))
    there = available(test.examples)[:, test.channel]
    distances = {}
    for k, scanner in enumerate(domains):
        rows = np.flatnonzero((domain == k) & there)
        if scanner == test.config.source:
            rows = test.of("source", chosen["source"])
        subjects = evenly(np.unique(test.subject[rows]), FAMILIAR_SCANS)
        found = test.statistics(rows[np.isin(test.subject[rows], subjects)]).values()
        distances[scanner] = [familiar.distance(one) for one in found if np.isfinite(one).all()]
    medians = {scanner: np.median(found) for scanner, found in distances.items() if found}
    own = distances[test.config.source]
    return {
        name: entry(
            medians.get(test.config.source),
            len(own),
            f"Mahalanobis's distance of test scans of {familiar.name} to {familiar.scans} training scans, by quantiles "
            "of intensity and the strength of noise, over the largest one of a training scan that is left out; median "
            "over scans, above 1 they are unlike the training's; of every scanner of the data",
            reason="" if own else "there is no test scan of the source",
            per_domain=medians,
        )
    }


def unlike(metrics: dict) -> str:
    """A sentence where the test scans are not as those of the training; "" where they are, or nobody knows."""
    distance = metrics.get("scanner_distance", {}).get("value")
    if distance is None or distance <= 1:
        return ""
    return (
        f"The test scans lie {distance:.1f} times as far from the training scans as the farthest of these: they are of "
        "another scanner or contrast, for which the model was not made."
    )


# --- judges that are trained on real slices ---


def fitted_normalizations(train: Slices, config: HarmonizeConfig) -> dict[str, Map]:
    """Normalisations to the target, fitted on training scans."""

    def scans(name: str) -> Iterator:
        for subject in evenly(np.unique(train.subject[train.rows[name]]), FITTED_SCANS):
            image = train.scan(name, subject)["image"]
            yield (image[..., 0].astype(np.float64) + 1) / 2, brain(image)

    return normalizations(scans("source"), scans("target"), config.modality)


def fitted_segmentors(
    train: Slices, labels: tuple[str, ...], seed: int, names: tuple[str, ...] = DOMAINS
) -> dict[str, Segmentor]:
    """A segmentor of each of some domains, on its real slices; a domain without any label has none."""
    weights = [LESION_WEIGHT if k in lesions_of(labels) else 1.0 for k in range(len(labels))]
    found, examples = {}, train.examples.mapped(lambda batch: {**batch, "mask": batch["mask"][..., 0]})
    if "mask" not in train.examples.names:
        return {}
    for name in names:
        labelled = train.examples.get("labelled")
        rows = train.rows[name] if labelled is None else train.rows[name][labelled[train.rows[name]] > 0]
        if len(rows) and any(batch["mask"].any() for batch in examples.batches(rows)):
            found[name] = _fitted(train, examples, rows, weights, seed)
    return found


def fitted_layers(train: Slices, seed: int) -> dict[str, Segmentor]:
    """A segmentor of each domain, of what lies between the boundaries that are measured; {} of data without them."""
    if "boundaries" not in train.examples.names:
        return {}
    height = train.examples.image_shape[0]

    def with_layers(batch: dict) -> dict:
        return {**batch, "mask": layers_between(batch["boundaries"][:, measured_boundaries(batch)], height)}

    examples = train.examples.mapped(with_layers)
    weights = [1.0] * (1 + min(BOUNDARIES, train.examples.take([0])["boundaries"].shape[1]))
    return {name: _fitted(train, examples, rows, weights, seed) for name, rows in train.rows.items() if len(rows)}


def _fitted(train: Slices, examples: Examples, rows: np.ndarray, weights: list[float], seed: int) -> Segmentor:
    """A segmentor of masks (N, H, W), one of whose labels weighs as much as another or more."""
    # Not standardised: gain and offset of a scanner are part of what is to be harmonised.
    segmentor = Segmentor(
        (*train.examples.image_shape[:2], 1), len(weights) - 1, standardize=False, seed=seed, **SEGMENTOR_SIZE
    )
    slices = examples.select(rows, [train.channel], ("image", "mask"))
    segmentor.fit(slices, class_weights=weights, seed=seed, **SEGMENTOR_FIT)
    return segmentor


def measured_boundaries(batch: dict) -> np.ndarray:
    """Which of the boundaries are measured: the first, the last, and some between, as thin layers have few pixels."""
    return evenly(np.arange(batch["boundaries"].shape[1]), BOUNDARIES)


def layers_between(boundaries: np.ndarray, height: int) -> np.ndarray:
    """Label maps (N, H, W), uint8, of boundaries (N, K, W) in rows: how many of them lie above each pixel."""
    rows = np.arange(height)[:, None]
    return (rows > np.asarray(boundaries, np.float64)[:, :, None]).sum(axis=1, dtype=np.uint8)


def boundaries_between(layers: np.ndarray, count: int) -> np.ndarray:
    """Rows (N, K, W) of the boundaries of label maps (N, H, W), the inverse of `layers_between` to half a pixel."""
    return np.stack([(layers <= k).sum(axis=1) - 0.5 for k in range(count)], axis=1)


# --- what is kept of each scan ---


@dataclasses.dataclass
class Measured:
    """Numbers of each test scan; a kind is "harmonized", "source" (as it was) or a normalisation.

    Attributes:
        error: {kind, or "floor": of each scan whose truth is known, the mean absolute error}.
        areas: {(segmentor, kind): of each scan (L, 3): pixels in both, predicted, true}; the kind "target" is the real
            target scan.
        correlation: {kind, or "target": of each scan, that of its local contrast with the source scan's}.
        lesions: of each lesion, its label and its contrast in the source scan, its standard error, the contrast after,
            and that in the true target scan, NaN where that is not known.
        counts: of each scan, lesions that are true, found before and found after.
        volumes: {"true", "before", "after": of each scan (L,): shares of the foreground}.
        atrophy: of each scan; empty where it is not known.
        num_scans, num_slices: of the source.
    """

    error: dict[str, list] = dataclasses.field(default_factory=dict)
    areas: dict[tuple[str, str], list] = dataclasses.field(default_factory=dict)
    correlation: dict[str, list] = dataclasses.field(default_factory=dict)
    lesions: list[tuple] = dataclasses.field(default_factory=list)
    counts: list[tuple] = dataclasses.field(default_factory=list)
    volumes: dict[str, list] = dataclasses.field(default_factory=dict)
    atrophy: list[float] = dataclasses.field(default_factory=list)
    num_scans: int = 0
    num_slices: int = 0


def measured_scans(
    model, test: Slices, chosen: dict, maps: dict[str, Map], segmentors: dict[str, Segmentor], manifest
) -> Measured:
    """Goes once through the chosen test scans of both scanners."""
    found, labels = Measured(), tuple(manifest.mask_labels)
    lesion_labels = lesions_of(labels)
    names = tuple(manifest.factor_names)
    for subject in chosen["source"]:
        scan = test.scan("source", subject)
        image, inside = scan["image"], brain(scan["image"])
        if not inside.any():
            continue
        found.num_scans += 1
        found.num_slices += len(image)
        shown = {"harmonized": harmonized(model, image)[..., 0], "source": image[..., 0]}
        shown |= {kind: normalized(of_kind, image[..., 0], inside) for kind, of_kind in maps.items()}
        true_target = _paired(scan, test.scan("target", subject))
        if true_target:
            _add_errors(found, shown, scan, true_target, inside)
        found.correlation.setdefault("harmonized", []).append(
            contrast_correlation(image[..., 0], shown["harmonized"], inside)
        )
        if "mask" not in scan:
            continue
        truth = scan["mask"]
        predicted = _add_areas(found, shown, truth, segmentors, len(labels))
        found.volumes.setdefault("true", []).append(_shares(truth, inside, len(labels)))
        for when, kind in (("before", ("source", "source")), ("after", ("target", "harmonized"))):
            if kind in predicted:
                found.volumes.setdefault(when, []).append(_shares(predicted[kind], inside, len(labels)))
        if "atrophy" in names and "factors" in scan:
            found.atrophy.append(float(scan["factors"][0, names.index("atrophy")]))
        for label in lesion_labels:
            after, there = (
                list(lesion_contrasts(image[..., 0], other, truth, label, inside))
                for other in (
                    shown["harmonized"],
                    true_target["image"][..., 0] if true_target else image[..., 0] * np.nan,
                )
            )
            found.lesions += [(label, *one, true) for one, (_, _, true) in zip(after, there, strict=True)]
        if lesion_labels and len(segmentors) == 2:
            several = (truth, predicted["source", "source"], predicted["target", "harmonized"])
            found.counts.append(tuple(_count(np.isin(labelled, lesion_labels)) for labelled in several))
    for subject in chosen["target"]:
        scan = test.scan("target", subject)
        if "mask" in scan and "target" in segmentors:
            of_scan = areas(segmentors["target"].predict(scan["image"]), scan["mask"], len(labels)).sum(axis=0)
            found.areas.setdefault(("target", "target"), []).append(of_scan)
    return found


def _paired(scan: dict, truth: dict | None) -> dict | None:
    """The true target scan, if it shows the same slices."""
    is_paired = truth is not None and np.array_equal(truth.get("slice_index"), scan.get("slice_index"))
    return truth if is_paired else None


def _add_errors(found: Measured, shown: dict, scan: dict, truth: dict, inside: np.ndarray) -> None:
    there = truth["image"][..., 0]
    for kind, image in shown.items():
        found.error.setdefault(kind, []).append(np.abs(image - there)[inside].mean() / 2)
    if "clean" in truth:
        found.error.setdefault("floor", []).append(np.abs(truth["clean"] - there)[inside].mean() / 2)
    correlation = contrast_correlation(scan["image"][..., 0], there, inside)
    found.correlation.setdefault("target", []).append(correlation)


def _add_areas(found: Measured, shown: dict, truth: np.ndarray, segmentors: dict, number: int) -> dict:
    """Adds the overlaps of each segmentor's labels; returns {(segmentor, kind): its label maps}."""
    predicted = {}
    for name, segmentor in segmentors.items():
        for kind in ("source",) if name == "source" else tuple(shown):
            predicted[name, kind] = segmentor.predict(shown[kind][..., None])
            found.areas.setdefault((name, kind), []).append(areas(predicted[name, kind], truth, number).sum(axis=0))
    return predicted


def _shares(labels: np.ndarray, inside: np.ndarray, number: int) -> np.ndarray:
    return np.bincount(labels[inside].astype(int), minlength=number)[1:number] / inside.sum()


def _count(mask: np.ndarray) -> int:
    return sum(int((sizes >= LESION_PIXELS).sum()) for _, sizes in map(_parts, mask))


def _parts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of a slice's mask (H, W): their numbers from 1, and the pixels of each."""
    parts, _ = ndimage.label(mask)
    return parts, np.bincount(parts.ravel())[1:]


def lesion_contrasts(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, label: int, inside: np.ndarray
) -> Iterator[tuple[float, float, float]]:
    """Of each lesion, a connected part of a slice, its mean less that of the 2 pixels around it that are no lesion.

    Args:
        before, after: the same slices (S, H, W), in [-1, 1].
        labels: (S, H, W); `label` is that of the lesions.
        inside: (S, H, W), the foreground.

    Yields:
        Contrast before, its standard error, and contrast after, as shares of the intensity range.
    """
    for k in range(len(labels)):
        parts, sizes = _parts(labels[k] == label)
        for part in np.flatnonzero(sizes >= LESION_PIXELS) + 1:
            lesion = parts == part
            around = ndimage.binary_dilation(lesion, iterations=2) & (labels[k] != label) & inside[k]
            if around.sum() < LESION_PIXELS:
                continue
            contrast = [(image[k][lesion].mean() - image[k][around].mean()) / 2 for image in (before, after)]
            variance = [before[k][where].var() / where.sum() for where in (lesion, around)]
            yield contrast[0], np.sqrt(sum(variance)) / 2, contrast[1]


def contrast_correlation(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> float:
    """Correlation inside the foreground of what is left of slices (S, H, W) without their blur of 3 pixels.

    1 where every edge is as it was, -1 where contrast is inverted; offset, gain and slow changes do not matter.
    """

    def local(image):
        return (image - ndimage.gaussian_filter(image, (0, 3, 3)))[inside]

    return _correlation(local(before.astype(np.float64)), local(after.astype(np.float64)))


def _correlation(one, two) -> float:
    """Pearson's; 0 where one of the two is constant."""
    return float(np.corrcoef(one, two)[0, 1]) if min(np.std(one), np.std(two)) > 1e-9 else 0.0


# --- entries ---


def error_metrics(scans: Measured, maps: dict) -> dict:
    """The error to the true target scan, of the model, of doing nothing, of normalisations, and its floor."""
    what = {
        "": ("harmonized", "of harmonised scans"),
        "_source": ("source", "of source scans as they are"),
        **{f"_{kind}": (kind, f"of {named}, fitted on training scans") for kind, named in KINDS.items()},
        "_floor": ("floor", "of target scans without noise and bias"),
    }
    how = "mean absolute error to the same subject's scan on the target scanner, in the foreground, images in [0, 1], "
    results = {}
    for ending, (kind, named) in what.items():
        errors, reason = scans.error.get(kind, []), ""
        if not errors:
            reason = "no test subject is on both scanners, at the same positions"
            if scans.error and kind in OF_PACKAGE:
                reason = "the package intensity-normalization is missing: pip install 'tfdisent[normalize]'"
            elif scans.error and kind == "floor":
                reason = "the data have no scans without noise and bias; brain_phantom has, with --data=clean=true"
        results[f"error_to_truth{ending}"] = entry(
            np.mean(errors) if errors else None,
            len(errors),
            f"{how}{named}, mean over scans",
            std=np.std(errors) if len(errors) > 1 else None,
            reason=reason,
        )
    return results


def overlap_metrics(scans: Measured, labels: tuple[str, ...]) -> dict:
    """Table V: overlaps of segmentors that were trained on either scanner; the share of the gap that is recovered."""
    rows = {
        "": (("target", "harmonized"), "the target's segmentor on harmonised scans"),
        "_source_on_source": (("source", "source"), "the source's segmentor on source scans"),
        "_target_on_target": (("target", "target"), "the target's segmentor on target scans"),
        "_target_on_source": (("target", "source"), "the target's segmentor on source scans as they are"),
        **{
            f"_target_on_{kind}": (("target", kind), f"the target's segmentor on source scans by {named}")
            for kind, named in KINDS.items()
            if ("target", kind) in scans.areas
        },
    }
    if not any(key in scans.areas for key, _ in rows.values()):
        reason = "there are no label maps in the training slices of both scanners or in the test slices"
        names = ("dice", "iou", "tissue_gap_recovered", "lesion_gap_recovered")
        return {name: entry(None, 0, "", reason=reason) for name in names}
    results, means = {}, {}
    for ending, (key, named) in rows.items():
        if key not in scans.areas:
            scanner = key[0] if key != ("target", "target") else "test target"
            reason = f"there are no label maps of the {scanner} scanner"
            results |= {f"{name}{ending}": entry(None, 0, "", reason=reason) for name in ("dice", "iou")}
            continue
        both, predicted, true = np.moveaxis(np.array(scans.areas[key], float), -1, 0)  # (scans, L)
        with np.errstate(invalid="ignore", divide="ignore"):
            scores = {"dice": 2 * both / (predicted + true), "iou": both / (predicted + true - both)}
            # The generalised Dice of the paper's figures: labels by the inverse square of their size.
            weight = np.where(true > 0, 1 / true**2, 0)
            generalized = 2 * (weight * both).sum(1) / (weight * (predicted + true)).sum(1)
        for name, found in scores.items():
            found[true == 0] = np.nan  # a scan that has none of a label says nothing of it
            by_label = {
                label: np.nanmean(found[:, k]) if np.isfinite(found[:, k]).any() else None
                for k, label in enumerate(labels[1:])
            }
            known = [score for score in by_label.values() if score is not None]
            results[f"{name}{ending}"] = entry(
                np.mean(known) if known else None,
                len(found),
                f"{named}, trained on its real training slices; of each scan as a whole, mean over scans that have the "
                "label, then over labels",
                reason="" if known else "no test scan has a label",
                per_label={label: score if score is not None else np.nan for label, score in by_label.items()},
            )
            if name == "dice":
                means[ending] = by_label
        if np.isfinite(generalized).any():
            results[f"generalized_dice{ending}"] = entry(
                np.nanmean(generalized),
                len(generalized),
                f"{named}; generalised Dice of each scan as a whole, labels weighted by the inverse square of their "
                "size, mean over scans",
            )
    for kind, is_meant in (("tissue", True), ("lesion", False)):
        wanted = [label for label in labels[1:] if (label.lower() in TISSUES) == is_meant]
        results[f"{kind}_gap_recovered"] = _gap(means, wanted, kind)
    return results


def _gap(means: dict, labels: list[str], kind: str) -> dict:
    """The share of the gap between segmentors that harmonisation recovers, for some labels together."""
    ends = {"": None, "_source_on_source": None, "_target_on_source": None}
    for ending in ends:
        found = [means.get(ending, {}).get(label) for label in labels]
        found = [value for value in found if value is not None]
        ends[ending] = np.mean(found) if found else None
    if any(value is None for value in ends.values()):
        return entry(None, 0, "", reason=f"there are no {kind} labels that both scanners' training slices have")
    ours, best, worst = ends[""], ends["_source_on_source"], ends["_target_on_source"]
    protocol = (
        f"(target's segmentor on harmonised - on source scans) / (source's segmentor - target's on source scans), of "
        f"the mean Dice of {', '.join(labels)}: ({ours:.3f} - {worst:.3f}) / ({best:.3f} - {worst:.3f})"
    )
    if best - worst < LEAST_GAP:
        reason = f"there is no gap: Dice is {best:.3f} by the source's segmentor and {worst:.3f} by the target's"
        return entry(None, 0, protocol, reason=reason)
    others = {
        ending.removeprefix("_target_on_"): np.mean([found[label] for label in labels if found[label] is not None])
        for ending, found in means.items()
        if ending.removeprefix("_target_on_") in KINDS
    }
    shares = {kind: (value - worst) / (best - worst) for kind, value in others.items()}
    return entry((ours - worst) / (best - worst), len(labels), protocol, **({"per_opponent": shares} if shares else {}))


def lesion_metrics(scans: Measured, labels: tuple[str, ...]) -> dict:
    """Whether lesions keep the sign of their contrast, and whether as many are found."""
    clear = [(before, after, true) for _, before, error, after, true in scans.lesions if abs(before) > 2 * error]
    protocol = (
        f"share of lesions of {LESION_PIXELS} pixels or more, connected in a slice, whose contrast to the 2 pixels "
        f"around has another sign in the harmonised scan; of {len(scans.lesions)} lesions those whose contrast in the "
        "source scan is above 2 standard errors"
    )
    reason = "" if clear else "the test scans have no lesion whose contrast is clear"
    flips = [np.sign(before) != np.sign(after) for before, after, _ in clear]
    results = {
        "lesion_sign_flips": entry(np.mean(flips) if clear else None, len(clear), protocol, reason=reason),
    }
    if clear:
        before, after, true = np.array(clear).T
        known = np.isfinite(true)
        for ending, contrast, of in (("", after, "harmonised"), ("_truth", true, "true target")):
            there = known if ending else np.full(len(clear), True)
            slope = float(before[there] @ contrast[there] / (before[there] @ before[there])) if there.any() else None
            what = f"slope of lesions' contrast in the {of} scans over that in the source scans, through the origin"
            reason = "" if there.any() else "no test subject was scanned on both scanners"
            results[f"lesion_contrast_ratio{ending}"] = entry(slope, int(there.sum()), what, reason=reason)
    if scans.counts:
        true, before, after = np.array(scans.counts, float).sum(0)
        results["lesion_count_ratio"] = entry(
            after / before if before else None,
            len(scans.counts),
            f"lesions found in harmonised scans by the target's segmentor ({after:.0f}) over those found in source "
            f"scans by the source's ({before:.0f}); {true:.0f} are there",
            reason="" if before else "the source's segmentor finds no lesion",
        )
    return results


def contrast_metrics(scans: Measured) -> dict:
    """Whether edges keep their contrast."""
    found, true = scans.correlation.get("harmonized", []), scans.correlation.get("target", [])
    beside = f"; that of the true target scans is {np.mean(true):.3f}" if true else ""
    protocol = f"correlation of slices less their blur of 3 pixels, in the foreground, with the source's{beside}"
    worst = {"lowest scan": np.min(found)} if found else {}
    return {
        "local_contrast_correlation": entry(
            np.mean(found) if found else None,
            len(found),
            protocol,
            reason="" if found else "there is no test scan of the source",
            **({"per_scan": worst} if found else {}),
        )
    }


def volume_metrics(scans: Measured, labels: tuple[str, ...]) -> dict:
    """Volumes of tissues before and after, and how they follow atrophy."""
    names = ("tissue_volume_change", "atrophy_effect_ratio")
    tissues = [k for k, name in enumerate(labels[1:]) if name.lower() in TISSUES]
    if not tissues or not {"before", "after"} <= scans.volumes.keys():
        reason = "there are no tissues among the labels, or a scanner has no label maps"
        return {name: entry(None, 0, "", reason=reason) for name in names}
    true, before, after = (np.array(scans.volumes[when]) for when in ("true", "before", "after"))
    change = {
        labels[1 + k]: np.mean(np.abs(after[:, k] - before[:, k]) / np.maximum(before[:, k], 1e-6)) for k in tissues
    }
    results = {
        names[0]: entry(
            np.mean(list(change.values())),
            len(before),
            "absolute change of a tissue's volume, from the source's segmentor on source scans to the target's on "
            "harmonised ones, over the former; mean over scans and tissues",
            per_label=change,
        )
    }
    fluid = [k for k in tissues if labels[1 + k].lower() == "csf"]
    if len(scans.atrophy) < LEAST_SUBJECTS or not fluid:
        reason = f"it takes {LEAST_SUBJECTS} test subjects whose atrophy is known, and there are {len(scans.atrophy)}"
        return results | {names[1]: entry(None, len(scans.atrophy), "", reason=reason)}
    effect = [_correlation(scans.atrophy, volumes[:, fluid[0]]) for volumes in (true, before, after)]
    protocol = (
        "correlation of atrophy with CSF's share of the brain, by the target's segmentor on harmonised scans "
        f"({effect[2]:.3f}) over that by the source's on source scans ({effect[1]:.3f}); of the true labels it is "
        f"{effect[0]:.3f}"
    )
    is_there = abs(effect[1]) > 1e-3
    results[names[1]] = entry(
        effect[2] / effect[1] if is_there else None,
        len(scans.atrophy),
        protocol,
        reason="" if is_there else "the source scans show no effect",
    )
    return results


def boundary_metrics(model, nets: dict[str, Segmentor], test: Slices, chosen: dict) -> dict:
    """How far boundaries of layers are from the true ones, by nets that were trained on either scanner."""
    cases = {
        "": ("target", "source", lambda image: harmonized(model, image), "the target's net on harmonised scans"),
        "_source_on_source": ("source", "source", None, "the source's net on source scans"),
        "_target_on_source": ("target", "source", None, "the target's net on source scans as they are"),
        "_target_on_target": ("target", "target", None, "the target's net on target scans"),
    }
    results = {}
    for ending, (net, name, change, named) in cases.items():
        found = []
        for subject in chosen[name] if net in nets else []:
            scan = test.scan(name, subject)
            truth = scan["boundaries"][:, measured_boundaries(scan)]
            image = scan["image"] if change is None else change(scan["image"])
            made = boundaries_between(nets[net].predict(image), truth.shape[1])
            found.append(measure.boundary_distance(made, truth).mean(axis=0))
        means = np.mean(found, axis=0) if found else []
        results[f"boundary_distance{ending}"] = entry(
            np.mean(means) if found else None,
            len(found),
            f"{named}, trained on its real training slices: mean absolute distance to the true row, in pixels, mean "
            "over columns, slices, scans and boundaries, counted from above",
            reason="" if found else "there are no boundaries of the scanner's training slices, or no test scan",
            per_boundary={str(k + 1): value for k, value in enumerate(means)},
        )
    return results


def noise_metrics(model, test: Slices, chosen: dict, seed: int) -> dict:
    """Eq. 6 and 7: how much noise on harmonised slices changes what is made of them on the way back."""
    names = ("noise_sensitivity", "noise_similarity")
    rows = evenly(test.of("source", chosen["source"]), NOISY_SLICES)
    if not len(rows):
        return {name: entry(None, 0, "", reason="there is no test slice of the source") for name in names}
    random, squared, alike = np.random.default_rng(seed), {s: [] for s in NOISE}, {s: [] for s in NOISE}
    for _, columns in test.selection(rows).batches(64):
        made = harmonized(model, columns["image"])
        back = harmonized(model, made, "source")
        for sigma in NOISE:
            noisy = made + sigma * random.normal(size=made.shape).astype(np.float32)
            other = in_batches(lambda x: model.harmonize(x, "source")["image"], noisy, size=32)
            squared[sigma] += list(np.mean((other - back) ** 2, axis=(1, 2, 3)))
            alike[sigma] += list(measure.ssim(other[..., 0], back[..., 0], 2.0))
    where = f"images in [-1, 1], {len(rows)} slices, mean over slices and standard deviations of noise"
    return {
        name: entry(
            np.mean([np.mean(values) for values in found.values()]),
            len(rows),
            f"{what} of F(G(x) + noise) and F(G(x)); {where}",
            per_noise={f"{sigma:g}": np.mean(values) for sigma, values in found.items()},
        )
        for name, what, found in (
            (names[0], "Eq. 6, S_MSE: mean squared difference", squared),
            (names[1], "Eq. 7, S_SSIM: SSIM, 7 x 7 window, range 2,", alike),
        )
    }


def scanner_metrics(model, train: Slices, test: Slices, chosen: dict, seed: int) -> dict:
    """Whether classifiers tell harmonised slices of the source from real ones of the target."""
    names = ("scanner_accuracy_frozen", "scanner_accuracy_retrained")
    rows = [evenly(train.rows[name], PROBE_SLICES) for name in DOMAINS]
    asked = [evenly(test.of(name, chosen[name]), PROBE_SLICES) for name in DOMAINS]
    if not all(map(len, rows + asked)):
        reason = "it takes slices of both scanners in the training and the test split"
        return {name: entry(None, 0, "", reason=reason) for name in names}

    def both(slices, several, change=None):
        number = np.repeat([0, 1], list(map(len, several)))
        return slices.selection(np.concatenate(several), change=change), number

    def trained(change, one_seed) -> ImageClassifier:
        images, domain = both(train, rows, change)
        judge = ImageClassifier(2, images.shape[1:], kind="convnet", seed=one_seed)
        judge.fit(images, domain, seed=one_seed, **PROBE_FIT)
        return judge

    def accuracy(judge, change) -> float:
        images, domain = both(test, asked, change)
        right = judge.logits(images).argmax(axis=1) == domain
        return float(np.mean([right[domain == k].mean() for k in (0, 1)]))

    def change(image):
        return harmonized(model, image)

    real, number = trained(None, seed), sum(map(len, asked))
    known = accuracy(real, None)
    shares = f"{len(rows[0])} and {len(rows[1])} training slices, asked about {len(asked[0])} and {len(asked[1])} test"
    results = {
        "scanner_accuracy": entry(
            known, number, f"a classifier of real source and target slices, on both; {shares}; chance is .5"
        )
    }
    if known <= LEAST_ACCURACY:
        reason = f"a classifier tells the scanner of {known:.0%} of real slices alone: it says too little of others"
        return results | {name: entry(None, number, "", reason=reason) for name in names}
    retrained = [accuracy(trained(change, seed + k), change) for k in range(PROBES)]
    return results | {
        names[0]: entry(
            accuracy(real, change),
            number,
            f"a classifier of real slices, which tells {known:.1%} of such, on harmonised source and real target "
            f"slices; {shares}; chance is .5",
        ),
        names[1]: entry(
            np.mean(retrained),
            number,
            f"classifiers of harmonised source and real target slices, {PROBES} seeds; {shares}; chance is .5, and 1 "
            "says that the two are still told apart with certainty",
            std=np.std(retrained, ddof=1),
        ),
    }


def distance_metrics(model, train: Slices, test: Slices, chosen: dict, seed: int, size: dict, directory) -> dict:
    """Table IV: distances to target slices on features of an autoencoder, and the floor between target slices."""
    rows = {name: train.rows[name] for name in DOMAINS}
    asked = {name: test.of(name, chosen[name]) for name in DOMAINS}
    if min(map(len, (*rows.values(), *asked.values()))) < 2:
        reason = "it takes slices of both scanners in the training and the test split"
        return {"kernel_distance": entry(None, 0, "", reason=reason)}
    domain = np.repeat([0, 1], [len(rows[name]) for name in DOMAINS])
    images = train.selection(np.concatenate([rows[name] for name in DOMAINS]))
    judge = fit_domain_autoencoder(images, domain, seed=seed, directory=directory, **size)
    told = [judge.told(test.selection(asked[name])) == k for k, name in enumerate(DOMAINS)]
    accuracy = float(np.mean([right.mean() for right in told]))
    target = judge.features(test.selection(asked["target"]))
    shown = {
        "": judge.features(test.selection(asked["source"], change=lambda image: harmonized(model, image))),
        "_source": judge.features(test.selection(asked["source"])),
        "_floor": judge.features(train.selection(evenly(rows["target"], len(asked["source"])))),
    }
    what = {"": "harmonised", "_source": "source", "_floor": "training slices of the target"}
    results = {
        "extractor_accuracy": entry(
            accuracy,
            sum(map(len, asked.values())),
            "share of real test slices whose scanner the autoencoder tells, mean over scanners; its features are used "
            f"above {LEAST_ACCURACY}",
        )
    }
    reason = ""
    if accuracy <= LEAST_ACCURACY:
        reason = (
            f"the autoencoder tells the scanner of {accuracy:.0%} of real slices alone: its features say too little"
        )
    for ending, features in shown.items():
        against = f"{what[ending]} and test slices of the target, {len(features)} and {len(target)}"
        value, error = measure.kernel_distance(features, target) if not reason else (None, None)
        results[f"kernel_distance{ending}"] = entry(
            value, len(features), f"KID of {against}", judge.description, error, reason
        )
        few = min(len(features), len(target)) <= features.shape[1]
        why = reason or (f"it takes more slices than the {features.shape[1]} features" if few else "")
        results[f"frechet_distance{ending}"] = entry(
            None if why else measure.frechet_distance(features, target),
            len(features),
            f"FID of {against}",
            judge.description,
            reason=why,
        )
    return results


# --- figures ---


def _shown_scans(test: Slices, chosen: dict, count: int) -> dict[str, np.ndarray]:
    """A slice each of some subjects, with the most of lesion or foreground."""
    parts = []
    for subject in evenly(np.array(chosen["source"]), count):
        scan, other = test.scan("source", subject), test.scan("target", subject)
        inside = brain(scan["image"])
        mask = scan.get("mask", np.zeros(inside.shape, np.uint8))
        size = inside.sum((1, 2)) + 20 * (mask == mask.max()).sum((1, 2)) * bool(mask.any())
        row = rows_to_show(size, np.zeros(len(size)), 1)[0]
        missing = figures.missing(*inside.shape[1:])
        has_truth = other is not None and len(other["image"]) == len(inside)
        truth = other["image"][row] if has_truth else missing
        parts.append({"image": scan["image"][row], "mask": mask[row], "truth": truth, "is_true": has_truth})
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def draw_slices(model, test: Slices, chosen: dict, segmentors: dict, labels: tuple[str, ...]) -> list[Figure]:
    """Source, harmonised, true target and error; and label maps before and after."""
    shown = _shown_scans(test, chosen, 4)
    made = harmonized(model, shown["image"])
    error = np.abs(made - shown["truth"]) / 2 * shown["is_true"][:, None, None, None]
    picture = figures.columns_grid(
        {
            model.config.source: shown["image"],
            "harmonised": made,
            model.config.target: shown["truth"],
            "error": figures.error_colours(error, LARGEST_ERROR),
            "way back": harmonized(model, made, "source"),
        }
    )
    result = [
        Figure(
            "Harmonised slices",
            f"Slices of {model.config.source}, as {model.config.target} would show them, the same subject's real slice "
            "on that scanner where there is one (striped: none), the difference of the two as a share of the intensity "
            "range, and what is made of the harmonised slice on the way back. Anatomy must be that of the first "
            "column, grey values and noise those of the third.",
            figures.with_colour_bar(picture, "share", LARGEST_ERROR),
            "paper Fig. 6 to 8",
        )
    ]
    if len(segmentors) < 2 or not shown["mask"].any():
        return result

    result.append(
        Figure(
            "Segmentation after harmonisation",
            "Label maps: the true one, that of the source's segmentor on the source slice, of the target's segmentor "
            "on the same slice, and of the latter on the harmonised one. Labels: "
            f"{figures.label_legend(labels[1:])}.",
            figures.columns_grid(
                {
                    model.config.source: shown["image"],
                    "true": figures.label_colours(shown["mask"]),
                    "source net": figures.label_colours(segmentors["source"].predict(shown["image"])),
                    "target net": figures.label_colours(segmentors["target"].predict(shown["image"])),
                    "harmonised": made,
                    "its target net": figures.label_colours(segmentors["target"].predict(made)),
                }
            ),
            "paper Fig. 6 to 8",
        )
    )
    return result


def draw_noise(model, test: Slices, chosen: dict, seed: int) -> list[Figure]:
    """The paper's Fig. 9b: the way back under noise on what was made."""
    image, random = _shown_scans(test, chosen, 3)["image"], np.random.default_rng(seed)
    made = harmonized(model, image)
    groups = {model.config.source: image, "harmonised": made, "way back": harmonized(model, made, "source")}
    for sigma in (0.1, 0.2, 0.5):
        noisy = made + sigma * random.normal(size=made.shape).astype(np.float32)
        groups[f"noise {sigma:g}"] = in_batches(lambda x: model.harmonize(x, "source")["image"], noisy)
    return [
        Figure(
            "Noise on what was made",
            "The way back from harmonised slices, as they are and with Gaussian noise of standard deviation .1, .2 and "
            ".5 on them (images in [-1, 1]). The last columns should look like the third: where they fall apart, the "
            "way back was hidden in what the eye does not see.",
            figures.columns_grid(groups),
            "paper Fig. 9b",
        )
    ]


def sample_grid(model, shown: dict) -> np.ndarray:
    """A picture of training's progress: slices of the source, harmonised, and on the way back; uint8 RGB."""
    config = model.config
    channel = config.modalities.index(config.modality)
    domain = np.asarray(shown["domain"]).reshape(-1)
    groups = {}
    for own, other in itertools.permutations(DOMAINS):
        rows = np.flatnonzero(domain == config.domains.index(getattr(config, own)))[:4]
        if len(rows) < 1:
            continue
        image = np.resize(shown["image"][rows][..., channel : channel + 1], (4, *shown["image"].shape[1:3], 1))
        with model.averaged():
            made = harmonized(model, image, other)
            groups |= {getattr(config, own): image, f"as {getattr(config, other)}": made}
            groups |= {f"{own} again": harmonized(model, made, own)}
    return figures.columns_grid(groups)


def headline(metrics: dict) -> str:
    """The result in words, of the metrics that have a value."""
    value = {name: found["value"] for name, found in metrics.items() if found["value"] is not None}
    lines = [unlike(metrics)] if unlike(metrics) else []
    if {"error_to_truth", "error_to_truth_source"} <= value.keys():
        theirs = {kind: value[f"error_to_truth_{kind}"] for kind in KINDS if f"error_to_truth_{kind}" in value}
        line = (
            f"The error to the true target scan is {value['error_to_truth']:.3f}, without harmonisation "
            f"{value['error_to_truth_source']:.3f}"
        )
        if theirs:
            best = min(theirs, key=theirs.get)
            beaten = "which the model beats" if value["error_to_truth"] < theirs[best] else "which it does not beat"
            line += f"; the best normalisation without a network ({KINDS[best]}) has {theirs[best]:.3f}, {beaten}"
        if "error_to_truth_floor" in value:
            line += f"; noise and bias alone make {value['error_to_truth_floor']:.3f}"
        lines.append(f"{line}.")
    gaps = [
        f"{value[f'{kind}_gap_recovered']:.0%} of {kind}s"
        for kind in ("tissue", "lesion")
        if f"{kind}_gap_recovered" in value
    ]
    if gaps:
        lines.append(f"Of the gap between segmentors of the two scanners it recovers {' and '.join(gaps)}.")
    if "lesion_sign_flips" in value:
        lines.append(
            f"{value['lesion_sign_flips']:.1%} of {metrics['lesion_sign_flips']['n']} lesions change the sign of their "
            "contrast."
        )
    if {"scanner_accuracy_frozen", "scanner_accuracy_retrained"} <= value.keys():
        lines.append(
            f"A classifier of real slices tells the scanner of harmonised ones with accuracy "
            f"{value['scanner_accuracy_frozen']:.2f}, one that is trained on harmonised ones with "
            f"{value['scanner_accuracy_retrained']:.2f}."
        )
    return "\n".join(lines) or "Nothing could be measured: see the reasons below."


def card_values(manifest) -> dict[str, str]:
    """What the exported model's inputs hold, for its card."""
    return {"image": f"slices of one scanner, of {' or '.join(manifest.domains[:2])}; see the signature"}


def familiar(model, read: Callable[[str], Examples]) -> Familiar | None:
    """The training scans of the source, for the exported model's card."""
    return familiar_source(Slices(read("train"), model.config))


EVALUATION = Evaluation(evaluate_run, sample_grid, headline, card_values, familiar=familiar)
