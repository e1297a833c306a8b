"""Travelling subjects: what a harmonisation is worth where the same subjects were scanned on several scanners.

Every method brings the scans of all scanners to the target's, whose own scans stay as they are: one that does nothing,
the normalisations of `tfdisent.evaluation.normalizations`, and models. Of each method, over subjects that none of them
was trained on:

| name | what | best |
|---|---|---|
| volume_variation | standard deviation over scanners of a tissue's volume, by its mean; mean over subjects | 0 |
| volume_icc | how far volumes tell subjects apart and not scanners: ICC(2, 1), two-way random, absolute agreement | 1 |
| image_error | mean absolute difference to the subject's scan on the target, images in [0, 1] | 0 |

Volumes are those of one segmentor, trained on the target's real training slices, for every method. Scans are compared
where they lie if their grids agree, and after a rigid registration if not; the motion is found once, from scans as they
are, and serves all methods. Variation alone can be had by making all subjects alike, which the correlation shows.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tfdisent import metrics as measure
from tfdisent.evaluation.entries import entry
from tfdisent.evaluation.harmonize import TISSUES, harmonized
from tfdisent.evaluation.normalizations import Map, normalized
from tfdisent.evaluation.slices import available, brain
from tfdisent.examples import Examples, evenly
from tfdisent.familiarity import Familiar, scan_statistics
from tfdisent.report import Figure, figures
from tfdisent.report.tables import format_value
from tfdisent.volumes.registration import register_rigid

REGISTRATIONS = ("auto", "identity", "rigid")
ICC_FORM = "2,1"
FEWEST_SUBJECTS = 5  # of which a correlation is told; of two or three it can be anything
TITLES = {
    "volume_variation": "Variation of volumes",
    "volume_icc": "ICC(2, 1) of volumes",
    "image_error": "Image error",
}
NAMES = tuple(TITLES)
HEADINGS = ("Method", *(f"{title} {arrow}" for title, arrow in zip(TITLES.values(), "↓↑↓", strict=True)))

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]  # a scan (S, H, W) in [-1, 1] and its foreground to the same


class Method(NamedTuple):
    """How scans of other scanners are brought to the target's.

    Attributes:
        title: its name in print.
        changes: {scanner: its function}, of all scanners but the target.
    """

    title: str
    changes: Mapping[str, Change]


def nothing(scanners: Sequence[str]) -> Method:
    """The method that leaves all scans as they are."""
    return Method("Not harmonised", dict.fromkeys(scanners, lambda image, inside: image))


def by_map(title: str, maps: Mapping[str, Map]) -> Method:
    """A normalisation of intensities, by its map for each scanner."""
    return Method(title, {scanner: functools.partial(normalized, known) for scanner, known in maps.items()})


def by_model(title: str, models: Mapping[str, object]) -> Method:
    """Harmonisation by a trained model for each scanner, with its averaged weights."""

    def change(model, image, inside):
        with model.averaged():
            return harmonized(model, image[..., None])[..., 0]

    return Method(title, {scanner: functools.partial(change, model) for scanner, model in models.items()})


# --- subjects and their scans ---


class Scan(NamedTuple):
    """A scan: image (S, H, W) in [-1, 1], place (S,) of each slice, millimetres along y, x and across slices."""

    image: np.ndarray
    place: np.ndarray
    spacing: np.ndarray


class Travellers:
    """The subjects of a data set that were scanned on two or more of some scanners.

    Args:
        examples: of the data set, with `subject`, `domain` and `key`.
        manifest: of the data set.
        modality: the contrast that is harmonised.
        scanners: names of domains.

    Attributes:
        subjects: those with scans on two of the scanners or more, sorted.
        repeated: scans that are left out, since a subject has an earlier one on the same scanner, or other planes.
    """

    def __init__(self, examples: Examples, manifest, modality: str, scanners: Sequence[str]):
        self.examples, self.scanners = examples, tuple(scanners)
        self.channel = manifest.modalities.index(modality)
        shape = np.array(manifest.image_shape[:2]) / examples.image_shape[:2]
        self._pixel = np.array([*shape, 1.0])  # of those stored
        domain, there = examples["domain"].reshape(-1), available(examples)[:, self.channel]
        stack = np.array([_text(key).rpartition("/")[0] for key in examples["key"].tolist()], object)
        subject = np.array([_text(name) for name in examples["subject"].tolist()], object)
        found: dict[tuple[str, str], dict[str, list[int]]] = {}
        for row in np.flatnonzero(there):
            scanner = manifest.domains[domain[row]]
            if scanner in self.scanners:
                found.setdefault((subject[row], scanner), {}).setdefault(stack[row], []).append(row)
        self._rows = {key: stacks[min(stacks)] for key, stacks in found.items()}
        self.repeated = sum(len(stacks) - 1 for stacks in found.values())
        names = [name for name, _ in self._rows]
        self.subjects = sorted({name for name in names if names.count(name) > 1})

    def scans(self, subject: str) -> dict[str, Scan]:
        """{scanner: its scan of the subject}, of the scanners that it was on."""
        return {
            scanner: self._scan(self._rows[subject, scanner])
            for scanner in self.scanners
            if (subject, scanner) in self._rows
        }

    def _scan(self, rows: list[int]) -> Scan:
        found = self.examples.take(rows)
        place = np.asarray(found.get("slice_index", np.arange(len(rows)))).reshape(-1)
        order = np.argsort(place, kind="stable")
        spacing = found.get("spacing", np.zeros((len(rows), 3)))[0] * self._pixel
        return Scan(found["image"][order][..., self.channel], place[order], spacing)


def _text(name) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


# --- measuring ---


class Measured(NamedTuple):
    """Numbers of each method.

    Attributes:
        volumes: {title: (N, K, L)}, of N subjects on K scanners the volumes of L labels, NaN where there is no scan; {}
            without a segmentor.
        errors: {title: {scanner: of each subject the error to its target scan}}.
        unregistered: scans that could not be registered, and why.
        statistics: {scanner: of each scan those by which it is compared with the training's, `tfdisent.familiarity`}.
    """

    volumes: dict[str, np.ndarray]
    errors: dict[str, dict[str, list[float]]]
    unregistered: list[str]
    statistics: dict[str, list[np.ndarray]]


def measured(
    travellers: Travellers,
    methods: Sequence[Method],
    target: str,
    segmentor=None,
    num_labels: int = 0,
    registration: str = "auto",
) -> Measured:
    """Goes once through the scans of all travelling subjects.

    Args:
        travellers: the subjects.
        methods: with a function for each of their scanners but the target.
        target: the scanner that scans are brought to.
        segmentor: of the target's scans, or None.
        num_labels: of its labels, the background included.
        registration: one of `REGISTRATIONS`: "auto" registers where grids differ, "rigid" always, "identity" never.
    """
    shape = (len(travellers.subjects), len(travellers.scanners), max(0, num_labels - 1))
    volumes = {method.title: np.full(shape, np.nan) for method in methods} if segmentor is not None else {}
    errors: dict[str, dict[str, list[float]]] = {method.title: {} for method in methods}
    unregistered, statistics = [], {}
    for n, subject in enumerate(travellers.subjects):
        scans = travellers.scans(subject)
        truth = scans.get(target)
        for scanner, scan in scans.items():
            inside, k = brain(scan.image[..., None]), travellers.scanners.index(scanner)
            if not inside.any():
                continue
            statistics.setdefault(scanner, []).append(scan_statistics(scan.image))
            if scanner == target:
                of_target = volumes_of(segmentor, scan.image, scan.spacing, num_labels) if volumes else None
                for found in volumes.values():
                    found[n, k] = of_target
                continue
            onto = None
            if truth is not None:
                try:
                    onto = motion(truth, scan, registration)
                except (ValueError, RuntimeError) as error:
                    unregistered.append(str(error).strip().rpartition("\n")[2])
            for method in methods:
                made = method.changes[scanner](scan.image, inside)
                if volumes:
                    volumes[method.title][n, k] = volumes_of(segmentor, made, scan.spacing, num_labels)
                if onto is not None:
                    error = error_to(truth, onto(made), onto(inside.astype(np.float32)))
                    errors[method.title].setdefault(scanner, []).append(error)
    return Measured(volumes, errors, unregistered, statistics)


def unlike(found: Measured, familiar: Mapping[str, Familiar | None]) -> list[str]:
    """A sentence for each scanner whose scans are farther from its training scans than any of these; by scanner."""
    lines = []
    for scanner, known in familiar.items():
        of_scans = [one for one in found.statistics.get(scanner, []) if np.isfinite(one).all()]
        distance = np.median([known.distance(one) for one in of_scans]) if known and of_scans else 0.0
        if distance > 1:
            lines.append(
                f"Scans of {scanner} lie {distance:.1f} times as far from the training scans of that name as the "
                "farthest of these: it may be another scanner, protocol or preparation."
            )
    return lines


def volumes_of(segmentor, image: np.ndarray, spacing: np.ndarray, num_labels: int) -> np.ndarray:
    """Volumes (L,) of labels in a scan (S, H, W), in millilitres; in pixels where the spacing is not known."""
    counts = np.bincount(segmentor.predict(image[..., None]).ravel(), minlength=num_labels)[1:num_labels]
    return counts * (np.prod(spacing, dtype=float) / 1000 if (np.asarray(spacing) > 0).all() else 1.0)


def motion(fixed: Scan, moving: Scan, registration: str = "auto") -> Callable[[np.ndarray], np.ndarray]:
    """What brings a volume on the grid of one scan onto that of another; identity where it is not to be registered.

    Raises:
        ValueError: grids differ, and what is asked for is the identity; or there is too little to register.
        RuntimeError: the registration found no overlap.
    """
    agree = np.array_equal(fixed.place, moving.place) and fixed.image.shape == moving.image.shape
    agree = agree and np.allclose(fixed.spacing, moving.spacing, rtol=1e-3)
    if registration == "rigid" or (registration == "auto" and not agree):
        return register_rigid(fixed.image, moving.image, fixed.spacing, moving.spacing)
    if not agree:
        raise ValueError(
            f"Expected scans of a subject on one grid for --registration=identity, received {moving.image.shape} and "
            f"{fixed.image.shape} of {moving.spacing.round(3)} and {fixed.spacing.round(3)} mm. Give auto or rigid."
        )
    return lambda volume: volume


def error_to(truth: Scan, image: np.ndarray, inside: np.ndarray) -> float:
    """Mean absolute difference, images in [0, 1], where both scans have foreground; NaN if they have none in common."""
    both = brain(truth.image[..., None]) & (inside > 0.5) & np.isfinite(image)
    return float(np.abs(image - truth.image)[both].mean() / 2) if both.any() else float("nan")


# --- entries, tables, figures ---


def method_metrics(found: Measured, title: str, scanners: Sequence[str], labels: Sequence[str]) -> dict[str, dict]:
    """Entries of one method, {name: entry}; `labels` with the background first."""
    return volume_metrics(found, title, scanners, labels) | error_metrics(found, title)


def volume_metrics(found: Measured, title: str, scanners: Sequence[str], labels: Sequence[str]) -> dict[str, dict]:
    """How volumes vary over scanners, and how far they tell subjects apart."""
    names = NAMES[:2]
    if title not in found.volumes:
        reason = "there are no label maps of the target among the training slices, to train a segmentor on"
        return {name: entry(None, 0, "", reason=reason) for name in names}
    volumes = found.volumes[title]
    variation = {label: _mean(measure.coefficient_of_variation(volumes[:, :, k])) for k, label in enumerate(labels[1:])}
    whole = volumes[np.isfinite(volumes).all(axis=(1, 2))]
    many = len(whole) >= FEWEST_SUBJECTS
    correlation = {
        label: measure.intraclass_correlation(whole[:, :, k], ICC_FORM) if many else np.nan
        for k, label in enumerate(labels[1:])
    }
    of = "volumes by the target's segmentor, mean over tissues"
    return {
        names[0]: _of_tissues(
            variation, len(volumes), f"standard deviation over {len(scanners)} scanners over the mean, of {of}"
        ),
        names[1]: _of_tissues(
            correlation,
            len(whole),
            f"ICC(2, 1), two-way random, absolute agreement, of {of}; subjects on all of {', '.join(scanners)}",
            ""
            if many
            else f"it takes {FEWEST_SUBJECTS} subjects on all of {', '.join(scanners)}, and there are {len(whole)}",
        ),
    }


def _of_tissues(by_label: dict[str, float], number: int, protocol: str, reason: str = "") -> dict:
    """An entry with the mean over tissues, or over all labels where none is a tissue; and each label's."""
    tissues = [value for label, value in by_label.items() if label.lower() in TISSUES] or list(by_label.values())
    value = _mean(tissues)
    reason = reason or ("" if np.isfinite(value) else "the segmentor finds none of the labels")
    return entry(None if reason else value, number, protocol, reason=reason, per_label=by_label)


def error_metrics(found: Measured, title: str) -> dict[str, dict]:
    """The error to the target scan."""
    by_scanner = {scanner: _mean(values) for scanner, values in found.errors[title].items()}
    values = [value for errors in found.errors[title].values() for value in errors if np.isfinite(value)]
    left_out = f"; {len(found.unregistered)} scans could not be registered" if found.unregistered else ""
    return {
        NAMES[2]: entry(
            np.mean(values) if values else None,
            len(values),
            "mean absolute difference to the subject's scan on the target, where both have foreground, images in "
            f"[0, 1], mean over scans{left_out}",
            std=np.std(values, ddof=1) if len(values) > 1 else None,
            reason="" if values else (found.unregistered or ["no subject has a scan on the target"])[0],
            per_scanner=by_scanner,
        )
    }


def _mean(values) -> float:
    values = np.asarray(values, float)
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def table(results: Mapping[str, Mapping[str, Mapping]]) -> list[list[str]]:
    """Cells, headings first, of {title: {name: entry}}."""
    return [list(HEADINGS), *([title, *(_cell(of[name]) for name in NAMES)] for title, of in results.items())]


def label_table(results: Mapping[str, Mapping[str, Mapping]], name: str) -> list[list[str]]:
    """Cells, headings first, of each label or scanner of a metric; [] where it has none."""
    parts = dict.fromkeys(
        part for of in results.values() for key, values in of[name].items() if key.startswith("per_") for part in values
    )
    if not parts:
        return []
    lines = [["Method", *parts]]
    for title, of in results.items():
        values = next(values for key, values in of[name].items() if key.startswith("per_"))
        lines.append([title, *("–" if values.get(part) is None else format_value(values[part]) for part in parts)])
    return lines


def _cell(found: Mapping) -> str:
    return "–" if found["value"] is None else format_value(found["value"], found["std"])


def draw_travellers(travellers: Travellers, methods: Sequence[Method], target: str, count: int = 3) -> list[Figure]:
    """For each scanner the middle slices of some subjects, by every method, beside the target's slice."""
    shown, numbered = [], ", ".join(f"{k} {method.title}" for k, method in enumerate(methods, 1))
    for scanner in travellers.scanners:
        subjects = [
            name
            for name in travellers.subjects
            if scanner != target and {scanner, target} <= set(_on(travellers, name))
        ]
        rows = [
            _columns(travellers.scans(name), scanner, methods, target) for name in evenly(np.array(subjects), count)
        ]
        if not rows:
            continue
        groups = {heading: np.stack([row[heading] for row in rows]) for heading in rows[0]}
        shown.append(
            Figure(
                f"From {scanner} to {target}",
                f"The middle slice of {len(rows)} subjects on {scanner}, as each method brings it to {target}, and the "
                f"subject's own slice on that scanner, which was not registered for this picture. {numbered}.",
                figures.columns_grid(groups),
            )
        )
    return shown


def _on(travellers: Travellers, subject: str) -> list[str]:
    return [scanner for name, scanner in travellers._rows if name == subject]


def _columns(scans: dict[str, Scan], scanner: str, methods: Sequence[Method], target: str) -> dict[str, np.ndarray]:
    image = scans[scanner].image
    inside, middle = brain(image[..., None]), len(image) // 2
    columns = {  # by numbers, as titles are wider than pictures
        str(k): method.changes[scanner](image, inside)[middle][..., None] for k, method in enumerate(methods, 1)
    }
    truth = scans[target].image
    return columns | {target: truth[len(truth) // 2][..., None]}


def headline(results: Mapping[str, Mapping[str, Mapping]]) -> str:
    """Which method is best by each measure, in words."""
    lines = []
    for name, what, best in zip(
        NAMES,
        (
            "Volumes vary least over scanners by",
            "Volumes tell subjects apart best by",
            "The error to the target is least by",
        ),
        (min, max, min),
        strict=True,
    ):
        values = {title: of[name]["value"] for title, of in results.items() if of[name]["value"] is not None}
        if len(values) > 1:
            first = best(values, key=values.get)
            others = ", ".join(f"{title} {values[title]:.3g}" for title in values if title != first)
            lines.append(f"{what} {first}: {values[first]:.3g} ({others}).")
    return "\n".join(lines) or "Nothing could be measured: see the reasons below."
