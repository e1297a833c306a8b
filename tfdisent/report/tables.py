"""The numbers of a run beside those of a paper, and tables as Markdown and plain text."""

import math
import re
import types
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdisent.papers import Paper, Table, Value

# {metric: (what it is called in print, whether lower or higher is better)}
METRICS = {
    "frechet_distance": ("Fréchet distance (FID)", "lower"),
    "frechet_distance_untrained": ("Fréchet distance of the untrained model", ""),
    "frechet_distance_floor": ("Fréchet distance of real images, its floor", ""),
    "kernel_distance": ("Kernel distance (KID)", "lower"),
    "kernel_distance_floor": ("Kernel distance of real images, its floor", ""),
    "maximum_mean_discrepancy": ("Maximum mean discrepancy (MMD)", "lower"),
    "maximum_mean_discrepancy_floor": ("Maximum mean discrepancy of real images, its floor", ""),
    "density": ("Density: how deep images lie among real ones", "higher"),
    "density_floor": ("Density of real images", ""),
    "coverage": ("Coverage: share of real images with a generated one near", "higher"),
    "coverage_floor": ("Coverage by real images", ""),
    "inception_score": ("Inception score (IS)", "higher"),
    "conditional_generation_accuracy": ("Conditional generation accuracy (CGAcc)", "higher"),
    "memorisation_ratio": ("Memorisation: distance to training images over that of test images", ""),
    "memorisation_share_closer": ("Memorisation: share of images very near to a training image", "lower"),
    "memorisation_ratio_features": ("Memorisation: the same of features", ""),
    "memorisation_share_closer_features": ("Memorisation: share of images whose features are very near", "lower"),
    "cross_image_feature_consistency": ("Cross-image feature consistency (CIFC)", "lower"),
    "cross_image_feature_consistency_relative": (
        "Cross-image feature consistency over the distance between codes",
        "lower",
    ),
    "cross_image_feature_consistency_standardised": ("Cross-image feature consistency of standardised codes", "lower"),
    "hybrid_class_accuracy": ("Hybrids with the class of their content image", "higher"),
    "hybrid_class_accuracy_other_class": (
        "Hybrids with the class of their content image, of images of two classes",
        "higher",
    ),
    "reconstruction_class_accuracy": ("Reconstructions with the class of their image", "higher"),
    "reconstruction_mean_absolute_error": ("Mean absolute error of reconstructions", "lower"),
    "hybrid_position_r2_style": ("Position of a hybrid's lesion follows the style image, R2", "higher"),
    "hybrid_position_r2_content": ("Position of a hybrid's lesion follows the content image, r2", "lower"),
    "class_from_content": ("Class read from content", "higher"),
    "class_from_style": ("Class read from style", "lower"),
    "factors_from_content": ("Factors read from content, R2", ""),
    "factors_from_style": ("Factors read from style, R2", ""),
    "block_gap": ("Gap between content and style in telling a factor", "higher"),
    "mutual_information_gap": ("Mutual information gap (MIG)", "higher"),
    "separated_attribute_predictability": ("Separated attribute predictability (SAP)", "higher"),
    "dci_disentanglement": ("Disentanglement (of DCI)", "higher"),
    "dci_completeness": ("Completeness (of DCI)", "higher"),
    "dci_informativeness": ("Informativeness (of DCI)", "higher"),
    "disagreement_divergence": ("Disagreement divergence", "lower"),
    "disagreement_divergence_style": ("Disagreement divergence by style", ""),
    "disagreement_divergence_pixels": ("Disagreement divergence by pixels", ""),
    "label_overlap": ("Label overlap", "higher"),
    "label_overlap_style": ("Label overlap by style", ""),
    "label_overlap_pixels": ("Label overlap by pixels", ""),
    "psnr": ("PSNR", "higher"),
    "psnr_brain": ("PSNR inside the brain", "higher"),
    "ssim": ("SSIM", "higher"),
    "ssim_brain": ("SSIM inside the brain", "higher"),
    **{
        f"{name}_{kind}": (f"{label}, of {what}", "")
        for kind, what in (("affine", "the best affine map"), ("lookup", "a lookup table"))
        for name, label in (
            ("ssim_brain", "SSIM inside the brain"),
            ("psnr_brain", "PSNR inside the brain"),
            ("absolute_error_sum", "Sum of absolute errors"),
            ("mean_absolute_error_lesion", "Mean absolute error inside lesions"),
            ("mean_absolute_error_elsewhere", "Mean absolute error in the rest of the brain"),
            ("mean_absolute_error_opposite", "Mean absolute error opposite of lesions"),
            ("dice", "Dice with slices"),
        )
    },
    "mean_absolute_error": ("Mean absolute error", "lower"),
    "mean_absolute_error_brain": ("Mean absolute error inside the brain", "lower"),
    "mean_absolute_error_lesion": ("Mean absolute error inside lesions", "lower"),
    "mean_absolute_error_elsewhere": ("Mean absolute error in the rest of the brain", "lower"),
    "mean_absolute_error_opposite": ("Mean absolute error in healthy tissue opposite of lesions", "lower"),
    "absolute_error_sum": ("Sum of absolute errors (L1)", "lower"),
    "anatomy_distance_ratio": ("Distance of anatomy codes: two modalities over two subjects", "lower"),
    "error_to_truth": ("Error to the true target scan", "lower"),
    "error_to_truth_source": ("Error to the true target scan, without harmonisation", ""),
    "error_to_truth_floor": ("Error to the true target scan by noise and bias alone, its floor", ""),
    **{
        f"{name}{kind}": (f"{label}, of {what}", "")
        for kind, what in (
            ("zscore", "z-scores"),
            ("histogram", "matching of all scans' histogram"),
            ("histogram_scan", "matching of each scan's histogram"),
            ("nyul", "Nyul's landmarks"),
            ("whitestripe", "WhiteStripe"),
        )
        for name, label in (
            ("error_to_truth_", "Error to the true target scan"),
            ("dice_target_on_", "Dice of the target's segmentor"),
            ("iou_target_on_", "Intersection over union of the target's segmentor"),
            ("generalized_dice_target_on_", "Generalised Dice of the target's segmentor"),
        )
    },
    **{
        f"{name}{ending}": (f"{label}, {what}", "")
        for ending, what in (
            ("_source_on_source", "the source's segmentor on source scans"),
            ("_target_on_target", "the target's segmentor on target scans"),
            ("_target_on_source", "the target's segmentor on source scans"),
        )
        for name, label in (
            ("dice", "Dice"),
            ("iou", "Intersection over union"),
            ("generalized_dice", "Generalised Dice"),
        )
    },
    "generalized_dice": ("Generalised Dice", "higher"),
    "tissue_gap_recovered": ("Tissues: share of the gap between segmentors that is recovered", "higher"),
    "lesion_gap_recovered": ("Lesions: share of the gap between segmentors that is recovered", "higher"),
    "lesion_sign_flips": ("Lesions whose contrast changes its sign", "lower"),
    "lesion_contrast_ratio": ("Contrast of lesions after over before", ""),
    "lesion_contrast_ratio_truth": ("Contrast of lesions on the target over before", ""),
    "lesion_count_ratio": ("Number of lesions found after over before", ""),
    "local_contrast_correlation": ("Correlation of local contrast with the source's", "higher"),
    "tissue_volume_change": ("Change of tissues' volumes", "lower"),
    "atrophy_effect_ratio": ("Effect of atrophy after over before", ""),
    "noise_sensitivity": ("Sensitivity of the way back to noise, S_MSE", "lower"),
    "noise_similarity": ("Likeness of the way back under noise, S_SSIM", "higher"),
    "scanner_accuracy": ("Scanner told from real slices", ""),
    "scanner_accuracy_frozen": ("Scanner told from harmonised slices", "lower"),
    "scanner_accuracy_retrained": ("Scanner told from harmonised slices, trained on such", "lower"),
    "extractor_accuracy": ("Scanner told by the autoencoder behind KID and FID", ""),
    "kernel_distance_source": ("Kernel distance (KID) without harmonisation", ""),
    "frechet_distance_source": ("Fréchet distance (FID) without harmonisation", ""),
    "dice": ("Dice", "higher"),
    **{
        f"dice_{way}{kind}": (f"Dice {of}of {about}", better)
        for way, of in (("", ""), ("slices_", "per slice "))
        for kind, about, better in (
            ("fused", "the fused anatomy", "higher"),
            ("deformed", "the source's anatomy, deformed", "higher"),
            ("target", "the target alone", "higher"),
            ("source_only", "a model of the source alone", "higher"),
            ("copy", "the source's labels, copied", ""),
            ("register", "the source's labels, registered", ""),
            ("register_syn", "the source's labels, registered by SyN", ""),
            ("fused_unaligned", "the fused anatomy without alignment", ""),
            ("deformed_unaligned", "the source's anatomy without alignment", ""),
        )
    },
    "dice_target_batch_statistics": ("Dice of the target alone, statistics of batches", ""),
    "dice_warped_truth": ("Dice of the source's true labels, warped by the field", "higher"),
    "dice_warped_truth_shift": ("Dice of the source's true labels, warped by the mean displacement", ""),
    "dice_slices_warped_truth": ("Dice per slice of the source's true labels, warped by the field", "higher"),
    "dice_slices_warped_truth_shift": (
        "Dice per slice of the source's true labels, warped by the mean displacement",
        "",
    ),
    "field_error_relative": ("Error of the field over the displacement", "lower"),
    "field_error_relative_shift": ("Error of the mean displacement over the displacement", ""),
    "field_error_relative_register": ("Error of a registration over the displacement", ""),
    "field_error_relative_register_syn": ("Error of a registration by SyN over the displacement", ""),
    "empty_anatomy_share": ("Pixels without anatomy", "lower"),
    "organs_in_one_channel": ("Organs in one channel in all modalities", "higher"),
    "modality_from_z": ("Modality read from z", "higher"),
    **{
        f"{metric}_{given}{kind}": (f"{label}, {of}{what}", "" if kind else "higher")
        for kind, what in (
            ("", ""),
            ("_zero", ", of images with 0 for missing ones"),
            ("_avg", ", of images with means for missing ones"),
            ("_dropout", ", of images, learnt with some missing"),
            ("_fused_dropout", ", learnt with some missing"),
        )
        for given, of in (
            ("all_inputs", "all inputs"),
            ("subsets", "mean over subsets"),
            *((f"missing_{name}", f"{name} missing") for name in ("T1", "T1ce", "T2", "FLAIR")),
        )
        for metric, label in (("dice", "Dice"), ("pet_psnr", "PSNR of PET"), ("pet_ssim", "SSIM of PET"))
    },
    "dice_real": ("Dice from real slices alone", ""),
    "dice_alone": ("Dice from one real slice alone", ""),
    "iou": ("Intersection over union", "higher"),
    "distance_correlation": ("Distance correlation", ""),
    "distance_correlation_image_content": ("Distance correlation of image and content", ""),
    "distance_correlation_image_style": ("Distance correlation of image and style", ""),
    "information_over_bias_content": ("Information over bias of the content", "higher"),
    "information_over_bias_style": ("Information over bias of the style", "higher"),
    "modality_swap_error": ("Difference from the true twin with the other modality's code", "lower"),
    "modality_swap_error_lookup": ("Difference from the true twin by a lookup table", ""),
    "modality_swap_error_unchanged": ("Difference from the true twin of the slice as it is", ""),
    "pair_weight_of_nearest": ("Weight of the nearest candidate", "higher"),
    "modality_from_anatomy": ("Modality read from the anatomy", "lower"),
    "modality_from_modality_code": ("Modality read from its code", "higher"),
    "subject_retrieval": ("Subjects found in another modality by anatomy", "higher"),
    "subject_from_modality_code": ("Subject read from the modality's code", "lower"),
    "margins_held": ("Margins held", "higher"),
    "anatomy_entropy": ("Entropy of the anatomy's channels", ""),
}
BEST = "(best)"
# What values are given in, where that is not their own name.
UNITS = {"psnr": "dB", "pet_psnr": "dB", "label_overlap": "%"}
# Heading of a group of metrics in a report: how their names begin.
GROUPS = {
    "Generated images": ("frechet", "kernel", "maximum_mean", "density", "coverage", "inception", "conditional"),
    "Copies of training images": ("memorisation",),
    "Hybrids and reconstructions": ("hybrid", "reconstruction", "cross_image", "modality_swap"),
    "Likeness to the truth": ("psnr", "ssim", "mean_absolute", "absolute", "error_to_truth", "pet_"),
    "Segmentation": ("dice", "iou", "generalized_dice", "tissue_gap", "lesion_gap", "field_error"),
    "What harmonisation must keep": ("lesion_", "local_contrast", "tissue_volume", "atrophy", "noise"),
    "What harmonisation must remove": ("scanner", "extractor"),
    "Codes": (
        *("anatomy", "empty_anatomy", "organs", "modality", "subject", "margins", "class_from", "factors_from"),
        *("block", "mutual", "separated", "dci", "distance_correlation", "information_over_bias", "pair_weight"),
    ),
    "Retrieval": ("disagreement", "label_overlap"),
}
ARROWS = {"lower": "↓", "higher": "↑", "": ""}


class Column(NamedTuple):
    """One method's numbers of a paper on one dataset, to stand beside a run.

    Attributes:
        heading: heading of the column, e.g. "DRAI on HAM10000, paper".
        values: {metric: Value}.
        protocols: {metric: how the paper measured it}.
        notes: what a reader has to know before comparing.
    """

    heading: str
    values: Mapping[str, Value]
    protocols: Mapping[str, str]
    notes: tuple[str, ...] = ()


class Part(NamedTuple):
    """A part of a metric (an organ, a modality, a pair) of a run, every cell as text, as in `Row`."""

    name: str
    value: str
    computed: bool
    paper: str
    source: str


class Row(NamedTuple):
    """One metric of a run, every cell as text; `computed` says whether there is a finite value."""

    name: str
    label: str
    value: str
    computed: bool
    paper: str
    source: str
    n: str
    extractor: str
    protocol: str
    paper_protocol: str
    parts: tuple[Part, ...] = ()
    group: str = "Other"


def paper_column(paper: Paper, dataset: str, method: str, title: str = "") -> Column | None:
    """Returns all that a paper's tables print for a method on the data that a data set is or imitates.

    Args:
        paper: whose tables are read.
        dataset: name of the data set, e.g. "ham10000".
        method: name of the method, e.g. "dcavae".
        title: what the method is called in print; default: as the paper does.

    Returns:
        The column, or None where the paper has no numbers of this method on this data.
    """
    data = paper.data.get(dataset)
    printed = {row for tables in paper.tables.values() for table in tables if table.data == data for row in table.rows}
    rows = [
        row
        for row, made in paper.rows.items()
        if row in printed and made.methods == (method,) and not made.ending and not made.options
    ]
    if not rows:
        return None
    title, columns = title or rows[0], [row_column(paper, data, row) for row in rows]
    notes = [note for column in columns for note in column.notes]
    return Column(
        heading=f"{title} on {data}, paper",
        values={name: value for column in columns for name, value in column.values.items()},
        protocols={name: text for column in columns for name, text in column.protocols.items()},
        notes=tuple(dict.fromkeys([*notes, *renamed(dict.fromkeys(rows, title))])),
    )


def row_column(paper: Paper, data: str, row: str) -> Column:
    """Returns all that a paper's tables print in one of their rows, on one data set.

    Where two tables print the same number differently, the first counts.

    Args:
        paper: whose tables are read.
        data: the data set as the paper calls it, e.g. "HAM10000".
        row: as printed, e.g. "DRAI", "DAI+selfReg".

    Raises:
        ValueError: no table on that data set has such a row.
    """
    tables = [table for tables in paper.tables.values() for table in tables]
    found = [table for table in tables if table.data == data and row in table.rows]
    if not found:
        known = sorted({(table.data, name) for table in tables for name in table.rows})
        raise ValueError(f"Expected one of {known}, received {(data, row)}.")
    values = {}
    for table in reversed(found):
        values |= table.rows[row]
    return Column(
        heading=f"{row} on {data}, paper",
        values=dict(sorted(values.items(), key=lambda item: _rank(item[0]))),
        protocols={name: text for name, text in paper.protocols.items() if name in values},
        notes=(*paper.notes, *(f"{table.name}: {table.note}" for table in found if table.note)),
    )


def row_titles(paper: Paper, titles: Mapping[str, str]) -> dict[str, str]:
    """Returns what each row of a paper's tables is called here, by the row as printed.

    That is the row's own title, or else that of its one method, so that a method has one name everywhere.

    Args:
        paper: whose rows are named.
        titles: {method: its title}.
    """
    return {
        row: made.title or (titles[made.methods[0]] if len(made.methods) == 1 and not made.ending else row)
        for row, made in paper.rows.items()
    }


def renamed(titles: Mapping[str, str]) -> list[str]:
    """Returns a sentence, in a list, that names the rows with another name here than in the paper; or an empty list.

    Args:
        titles: {row as printed: what it is called here}.
    """
    others = [f"{title} is called {row}" for row, title in titles.items() if row != title]
    return [f"In the paper, {', '.join(others)}."] if others else []


def numbers(metrics: Mapping[str, Mapping], ending: str = "") -> dict[str, float]:
    """Returns the values of metrics.json by the keys that tables use: {"dice": 0.8, "dice/liver": 0.9}.

    Args:
        metrics: the content of metrics.json.
        ending: of the entries' names that are wanted; keys go without it, as the metrics of a table do.

    Returns:
        {key: value}; NaN where the run could not compute it.
    """
    values = {}
    for name, entry in metrics.items():
        if name.endswith(ending):
            key = name.removesuffix(ending)
            values[key] = _number(entry.get("value"))
            values |= {f"{key}/{part}": _number(value) for part, value in parts(entry).items()}
    return values


def parts(entry: Mapping) -> dict[str, Any]:
    """Returns the values of an entry's parts (organs, modalities, pairs, ...): of all its mappings named "per_...".

    Where two mappings have a part of the same name, the first counts.
    """
    found = {}
    for name, values in entry.items():
        if name.startswith("per_") and isinstance(values, Mapping):
            found |= {part: value for part, value in values.items() if part not in found}
    return found


def metric_table(metrics: Mapping[str, Mapping], paper: Column | None = None) -> list[Row]:
    """Returns the metrics of a run (the content of metrics.json) beside the paper's.

    A value that is missing, NaN or infinite becomes "not computed: " and the reason, which is the entry's `reason`
    where it has one. The parts of an entry are listed with it. Rows come in the order of `GROUPS`, and within a group
    in that of `metrics`, opponents and floors beside what they are held against; the paper's alone come last.
    """
    paper = paper or Column("", {}, {})
    missing = {"reason": "this run did not measure it"}
    entries = {**metrics, **{name: missing for name in map(_entry_name, paper.values) if name not in metrics}}
    rows = [_row(name, entry, paper) for name, entry in entries.items()]
    groups, bases = [*GROUPS, "Other"], [_base(row.name) for row in rows]
    return sorted(rows, key=lambda row: (groups.index(row.group), bases.index(_base(row.name))))


def _base(name: str) -> str:
    """The metric that an opponent's or a floor's stands beside."""
    opponents = "affine|avg|dropout|floor|fused_dropout|lookup|register(_syn)?|shift|unaligned|unchanged|untrained|zero"
    return re.sub(f"_({opponents})$", "", name)


def _row(name: str, entry: Mapping, paper: Column) -> Row:
    value, computed = _value(entry)
    return Row(
        name=name,
        label=" ".join(filter(None, _label(name))),
        value=value + _unit(name) * computed,
        computed=computed,
        **_printed(paper, name),
        n="" if entry.get("n") is None else str(entry["n"]),
        extractor="" if entry.get("extractor") in (None, "none") else str(entry["extractor"]),
        protocol=str(entry.get("protocol") or ""),
        paper_protocol=paper.protocols.get(name, ""),
        parts=_parts(name, entry, paper),
        group=next((group for group, starts in GROUPS.items() if name.startswith(starts)), "Other"),
    )


def _unit(name: str) -> str:
    return next((f" {unit}" for start, unit in UNITS.items() if name.startswith(start)), "")


def _parts(name: str, entry: Mapping, paper: Column) -> tuple[Part, ...]:
    measured = parts(entry)
    in_paper = [key.partition("/")[2] for key in paper.values if key.startswith(f"{name}/")]
    listed = []
    for part in dict.fromkeys([*measured, *in_paper]):
        value, computed = _value({"value": measured[part]} if part in measured else {"reason": "not measured here"})
        listed.append(Part(part, value + _unit(name) * computed, computed, **_printed(paper, f"{name}/{part}")))
    return tuple(listed)


def _printed(paper: Column, key: str) -> dict[str, str]:
    value = paper.values.get(key)
    return {"paper": value.printed, "source": value.source} if value else {"paper": "", "source": ""}


def _entry_name(key: str) -> str:
    return key.partition("/")[0]


def _label(key: str) -> tuple[str, str]:
    """The name in print of a metric or of a part of it, and an arrow to where it is better."""
    name, _, part = key.partition("/")
    label, better = METRICS.get(name, (name.replace("_", " ").capitalize(), ""))
    return f"{label}, {part}" if part else label, ARROWS[better]


def _rank(key: str) -> int:
    """The place of a metric in the order of `METRICS`."""
    return list(METRICS).index(_entry_name(key))


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns cells, headings first, as a Markdown table."""
    head, *rest = lines
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rest)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def text(lines: Sequence[Sequence[str]]) -> str:
    """Returns cells, headings first, in aligned columns."""
    widths = [max(map(_width, cells)) for cells in zip(*lines, strict=True)]
    head, *rest = lines
    lines = [head, ["-" * width for width in widths], *rest]
    return "".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def short_label(metric: str) -> str:
    """Returns what a metric is called in a narrow column, with an arrow to where it is better."""
    return " ".join(filter(None, (_short_name(metric), _label(metric)[1])))


def _short_name(metric: str) -> str:
    name, _, part = metric.partition("/")
    label = METRICS[name][0] if name in METRICS else name.replace("_", " ")
    short = re.search(r"\(([A-Z]\w+)\)$", label)
    label = short[1] if short else label
    return f"{label}, {part}" if part else label


def comparison(
    table: Table,
    results: Mapping[str, Mapping[str, Sequence[float]]],
    also: Mapping[str, str] = types.MappingProxyType({}),
    titles: Mapping[str, str] = types.MappingProxyType({}),
    runs: str = "seeds",
) -> list[list[str]]:
    """Returns a table of a paper with our values beside its own, as cells, headings first.

    Args:
        table: of the paper.
        results: {row: {metric: values, one for each run}}; a row or metric that is not there, or has no finite value,
            shows a dash. Several values are shown as mean and standard deviation (of a sample, n - 1); `BEST` marks
            the row that is better than all others by more than their spread.
        also: {metric: heading}, columns of ours that the paper does not have.
        titles: {row: what it is called here}, see `row_titles`; default: as printed.
        runs: what the runs of a row differ in, the heading of their number: "seeds", "folds".
    """
    head = ["Method"]
    for metric in table.metrics:
        head += [f"{short_label(metric)} here", "paper"]
    lines = [[*head, *also.values(), runs]]
    best = {metric: _best(results, metric) for metric in table.metrics}
    for row, printed in table.rows.items():
        ours = results.get(row, {})
        line = [titles.get(row, row)]
        for metric in table.metrics:
            paper = printed.get(metric)
            mark = f" {BEST}" if row == best[metric] else ""
            line += [spread(ours.get(metric, ())) + mark, paper.printed if paper else "–"]
        line += [spread(ours.get(metric, ())) for metric in also]
        lines.append([*line, str(max(map(len, ours.values()), default=0))])
    return lines


def differences(
    table: Table,
    results: Mapping[str, Mapping[str, Mapping[int, float]]],
    against: Mapping[str, str],
    also: Mapping[str, str] = types.MappingProxyType({}),
    titles: Mapping[str, str] = types.MappingProxyType({}),
    runs: str = "seeds",
) -> list[list[str]]:
    """Returns how far rows lie from another one, run by run, as cells, headings first.

    Args:
        table: of the paper.
        results: {row: {metric: {seed or fold: value}}}.
        against: {row: the one that it is held against}.
        also: {metric: heading}, columns of ours that the paper does not have.
        titles: {row: what it is called here}, see `row_titles`; default: as printed.
        runs: what the runs of a row differ in, the heading of their number: "seeds", "folds".

    Returns:
        A line for each row that has two runs in common with the other one, or nothing if none has: of each metric the
        mean of its differences, row minus other, and their standard deviation (of a sample, n - 1). `(n = 2)` is beside
        it where fewer runs have it than the line's last cell says.
    """
    lines = []
    for row, other in against.items():
        pairs = {name: _pairs(results, row, other, name) for name in (*table.metrics, *also)}
        most = max(map(len, pairs.values()))
        if most > 1:
            cells = [_difference(found, most) for found in pairs.values()]
            lines.append([f"{titles.get(row, row)} − {titles.get(other, other)}", *cells, str(most)])
    return [["Difference", *map(short_label, table.metrics), *also.values(), runs], *lines] if lines else []


def _pairs(results: Mapping, row: str, other: str, metric: str) -> list[float]:
    """Differences, row minus other, of the runs in which both have a finite value."""
    one, two = (results.get(name, {}).get(metric, {}) for name in (row, other))
    found = [one[run] - two[run] for run in one if run in two]
    return [value for value in found if math.isfinite(value)]


def _difference(found: Sequence[float], most: int) -> str:
    if len(found) < 2:
        return "–"
    mean, std = float(np.mean(found)), float(np.std(found, ddof=1))
    text = format_value(mean, std) if std > 1e-9 else f"{mean:.4g} ± 0"  # but for rounding
    return "+" * (mean > 0) + text + f" (n = {len(found)})" * (len(found) < most)


def order(
    table: Table,
    results: Mapping[str, Mapping[str, Sequence[float]]],
    metric: str,
    titles: Mapping[str, str] = types.MappingProxyType({}),
) -> str:
    """Returns a sentence with the order of the rows, best first, here and in the paper, of rows that both have.

    Rows whose means lie within the spread over runs are not told apart, and one run ranks nothing.
    """
    ours = {
        row: np.asarray(values[metric], float)
        for row, values in results.items()
        if metric in table.rows.get(row, ()) and np.isfinite(values.get(metric, np.nan)).all()
    }
    sign = -1 if METRICS[_entry_name(metric)][1] == "higher" else 1
    paper = sorted(ours, key=lambda row: sign * table.rows[row][metric].value)
    names = {row: titles.get(row, row) for row in ours}
    in_paper = ", ".join(names[row] for row in paper)
    if any(len(values) < 2 for values in ours.values()):
        why = "as one run of a method says nothing of its spread"
        return f"{_short_name(metric)}: not ranked, {why}; in the paper {in_paper}."
    groups: list[list[str]] = []
    for row in sorted(ours, key=lambda row: sign * ours[row].mean()):
        if groups and _alike(ours[groups[-1][-1]], ours[row]):
            groups[-1].append(row)
        else:
            groups.append([row])
    groups = [sorted(group, key=paper.index) for group in groups]
    said = ", ".join(" ~ ".join(names[row] for row in group) for group in groups)
    said += " (~: within the spread over runs)" if "~" in said else ""
    same = "as in the paper" if sum(groups, []) == paper else f"in the paper {in_paper}"
    return f"{_short_name(metric)}, best first: {said}; {same}."


def _best(results: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str | None:
    """The row that is better than all others by more than their spread over runs; None if there is none."""
    better = METRICS.get(_entry_name(metric), ("", ""))[1]
    found = {row: np.asarray(values[metric], float) for row, values in results.items() if len(values.get(metric, ()))}
    if not better or len(found) < 2 or any(len(runs) < 2 or not np.isfinite(runs).all() for runs in found.values()):
        return None
    first, *others = sorted(found, key=lambda row: found[row].mean() * (-1 if better == "higher" else 1))
    return None if any(_alike(found[first], found[other]) for other in others) else first


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the means of two methods' runs differ by no more than the runs of the two spread together."""
    return abs(one.mean() - other.mean()) <= math.hypot(one.std(ddof=1), other.std(ddof=1))


def spread(values: Sequence[float]) -> str:
    """Returns "mean ± standard deviation" of values, one of them as it is, none as a dash."""
    values = [value for value in values if value is not None and math.isfinite(value)]
    if not values:
        return "–"
    return format_value(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def format_value(value: float, std: float | None = None) -> str:
    """Returns a value with four significant digits, or with the decimals of two digits of `std`."""
    if std is None or not math.isfinite(std) or std <= 0:
        return f"{value:.4g}"
    decimals = min(6, max(0, 1 - math.floor(math.log10(std))))
    return f"{value:.{decimals}f} ± {std:.{decimals}f}"


def _value(entry: Mapping) -> tuple[str, bool]:
    value = entry.get("value")
    number = _number(value)
    if not math.isfinite(number):
        return f"not computed: {entry.get('reason') or f'the value is {value}'}", False
    return format_value(number, entry.get("std")), True


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(letter) else 1 for letter in text)
