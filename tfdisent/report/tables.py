"""The numbers of a run beside those of the paper, and tables as Markdown and plain text."""

import math
import re
import types
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Metric: how the papers call it, and whether less or more is better.
METRICS = {
    "frechet_distance": ("Fréchet distance (FID)", "lower"),
    "kernel_distance": ("Kernel distance (KID)", "lower"),
    "inception_score": ("Inception score (IS)", "higher"),
    "conditional_generation_accuracy": ("Conditional generation accuracy (CGAcc)", "higher"),
    "cross_image_feature_consistency": ("Cross-image feature consistency (CIFC)", "lower"),
    "cross_image_feature_consistency_relative": (
        "Cross-image feature consistency over the distance between codes",
        "lower",
    ),
    "block_gap": ("Gap between content and style in telling a factor", "higher"),
    "mutual_information_gap": ("Mutual information gap (MIG)", "higher"),
    "separated_attribute_predictability": (
        "Separated attribute predictability (SAP)",
        "higher",
    ),
    "dci_disentanglement": ("Disentanglement (of DCI)", "higher"),
    "dci_completeness": ("Completeness (of DCI)", "higher"),
    "dci_informativeness": ("Informativeness (of DCI)", "higher"),
    "disagreement_divergence": ("Disagreement divergence", "lower"),
    "label_overlap": ("Label overlap", "higher"),
    "psnr": ("PSNR", "higher"),
    "ssim": ("SSIM", "higher"),
    "mean_absolute_error": ("Mean absolute error", "lower"),
    "absolute_error_sum": ("Sum of absolute errors (L1)", "lower"),
    "dice": ("Dice", "higher"),
    "iou": ("Intersection over union", "higher"),
    "distance_correlation": ("Distance correlation", ""),
}
ARROWS = {"lower": "↓", "higher": "↑", "": ""}


class PaperValue(NamedTuple):
    """A number of a paper: as printed ("1.224 ± 0.05"), as floats, and the table it stands in."""

    printed: str
    value: float
    std: float | None
    source: str


class Table(NamedTuple):
    """A table of a paper: `rows[method][metric]` is a `PaperValue`, if it prints one."""

    name: str
    dataset: str
    metrics: tuple[str, ...]
    rows: dict[str, dict[str, PaperValue]]
    note: str


class Column(NamedTuple):
    """One method's numbers of a paper on one dataset, to stand beside a run.

    Attributes:
        heading: of the column, e.g. "DRAI on HAM10000, paper".
        values: {metric: PaperValue}.
        protocols: {metric: how the paper measured it}.
        notes: what a reader has to know before comparing.
    """

    heading: str
    values: Mapping[str, PaperValue]
    protocols: Mapping[str, str]
    notes: tuple[str, ...] = ()


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


def _transcribed(name: str, dataset: str, metrics: Sequence[str], text: str, note: str = "") -> Table:
    rows = {}
    for line in text.strip().splitlines():
        method, *cells = re.split(r"\s{2,}", line.strip())
        rows[method] = {}
        for metric, printed in zip(metrics, cells, strict=True):
            if printed == "–":
                continue
            value, _, std = printed.partition(" ± ")
            parsed = (float(value), float(std) if std else None)
            rows[method][metric] = PaperValue(printed, *parsed, name)
    return Table(name, dataset, tuple(metrics), rows, note)


_FID_IS_CGACC = ("frechet_distance", "inception_score", "conditional_generation_accuracy")
_CIFC = ("cross_image_feature_consistency",)

PAPERS = {
    # Havaei et al.: Conditional generation of medical images via disentangled adversarial inference,
    # Medical Image Analysis 2021, https://arxiv.org/abs/2012.04764. Methods and digits as printed, but
    # for "DRAI=DAI+selfReg+MIReg+featureCycle", which is DRAI here as in the other tables. Table III,
    # which has a column for each data set, is split in two.
    "drai": {
        "I": _transcribed(
            "Table I",
            "LIDC",
            _FID_IS_CGACC,
            """
            cInfoGAN     0.283 ± 0.06   1.366 ± 0.02   0.740 ± 0.02
            cAAVE        0.181 ± 0.03   1.424 ± 0.01   0.809 ± 0.02
            D-cInfoGAN   0.333 ± 0.06   1.342 ± 0.09   0.645 ± 0.04
            D-cAAVE      0.378 ± 0.03   1.371 ± 0.04   0.597 ± 0.07
            DAI          0.106 ± 0.02   1.423 ± 0.05   0.773 ± 0.03
            DRAI         0.089 ± 0.02   1.422 ± 0.03   0.773 ± 0.02
            """,
        ),
        "II": _transcribed(
            "Table II",
            "HAM10000",
            _FID_IS_CGACC,
            """
            cInfoGAN     1.351 ± 0.33   1.326 ± 0.03   0.647 ± 0.04
            cAAVE        3.566 ± 0.56   1.371 ± 0.01   0.651 ± 0.02
            D-cInfoGAN   1.684 ± 0.42   1.449 ± 0.03   0.654 ± 0.06
            D-cAAVE      4.893 ± 0.99   1.321 ± 0.01   0.578 ± 0.01
            DAI          1.327 ± 0.06   1.304 ± 0.01   0.656 ± 0.02
            DRAI         1.224 ± 0.05   1.300 ± 0.01   0.630 ± 0.02
            """,
            "Table VI prints another CGAcc for the same DRAI, 0.618 ± 0.011.",
        ),
        "III-HAM10000": _transcribed(
            "Table III",
            "HAM10000",
            _CIFC,
            """
            D-cInfoGAN   1.201 ± 0.17
            D-cVAE       1.354 ± 0.03
            DAI          0.256 ± 0.01
            DRAI         0.210 ± 0.01
            """,
        ),
        "III-LIDC": _transcribed(
            "Table III",
            "LIDC",
            _CIFC,
            """
            D-cInfoGAN   1.625 ± 0.11
            D-cVAE       1.944 ± 0.02
            DAI          1.096 ± 0.28
            DRAI         0.456 ± 0.06
            """,
            "Table V prints 0.456 ± 0.069 for DRAI.",
        ),
        "IV": _transcribed(
            "Table IV",
            "LIDC",
            ("disagreement_divergence", "label_overlap"),
            """
            Pixel Matched      2.42           35.27
            D-cInfoGAN         2.566 ± 0.04   33.850 ± 1.19
            D-cVAE             2.961 ± 0.08   35.010 ± 0.96
            DAI+selfReg+MIReg  1.826 ± 0.05   52.325 ± 3.87
            DAI+featureCycle   1.458 ± 0.11   59.173 ± 3.16
            DAI+MIReg          1.928 ± 0.26   54.909 ± 1.82
            DAI+selfReg        1.791 ± 0.26   56.589 ± 3.59
            DAI                1.687 ± 0.32   54.780 ± 5.02
            DRAI               1.575 ± 0.04   53.359 ± 2.94
            """,
            "Label overlap in percent; top 3 by content code.",
        ),
        "V": _transcribed(
            "Table V",
            "LIDC",
            _FID_IS_CGACC + _CIFC,
            """
            DAI                0.106 ± 0.02   1.423 ± 0.052   0.773 ± 0.031   1.096 ± 0.284
            DRAI               0.089 ± 0.02   1.422 ± 0.030   0.773 ± 0.016   0.456 ± 0.069
            DAI+selfReg+MIReg  0.176 ± 0.06   1.433 ± 0.018   0.760 ± 0.015   0.554 ± 0.185
            DAI+featureCycle   0.221 ± 0.07   1.383 ± 0.039   0.708 ± 0.037   0.913 ± 0.074
            DAI+MIReg          0.154 ± 0.04   1.411 ± 0.028   0.746 ± 0.041   0.747 ± 0.226
            DAI+selfReg        0.208 ± 0.05   1.433 ± 0.033   0.780 ± 0.014   0.781 ± 0.203
            """,
        ),
        "VI": _transcribed(
            "Table VI",
            "HAM10000",
            (  # as the numbers show, not as the heading says; see the note
                "frechet_distance",
                "conditional_generation_accuracy",
                "inception_score",
                "cross_image_feature_consistency",
            ),
            """
            DAI                1.327 ± 0.06    0.656 ± 0.02    1.304 ± 0.01   0.256 ± 0.01
            DRAI               1.224 ± 0.050   0.618 ± 0.011   1.300 ± 0.01   0.210 ± 0.01
            DAI+selfReg+MIReg  1.350 ± 0.12    0.683 ± 0.02    1.299 ± 0.01   0.233 ± 0.01
            DAI+featureCycle   1.367 ± 0.12    0.690 ± 0.01    1.296 ± 0.01   0.311 ± 0.01
            DAI+MIReg          1.298 ± 0.12    0.647 ± 0.04    1.290 ± 0.02   0.228 ± 0.01
            DAI+selfReg        1.347 ± 0.14    0.653 ± 0.03    1.295 ± 0.01   0.219 ± 0.04
            """,
            "The paper's heading has IS and CGAcc the other way round: the columns are swapped "
            "relative to Table II, and no Inception score is below 1.",
        ),
    },
    # Liu et al.: A unified conditional disentanglement framework for multimodal brain MR image translation, ISBI 2021,
    # https://arxiv.org/abs/2101.05434. "Proposed" is the unified framework, "- disen" it without Eq. 5.
    "unified": {
        "1": _transcribed(
            "Table 1",
            "BraTS'18",
            ("absolute_error_sum", "ssim", "psnr", "inception_score"),
            """
            12xPix2Pix        171.3 ± 0.4   0.9206 ± 0.0013   24.12 ± 0.02   15.65 ± 0.16
            4xTCMGAN          –             –                 –              –
            Proposed - disen  159.8 ± 0.3   0.9594 ± 0.0016   25.21 ± 0.02   18.10 ± 0.13
            Proposed          157.2 ± 0.2   0.9625 ± 0.0012   25.92 ± 0.01   18.54 ± 0.15
            """,
            "What is summed in L1 is not said; its size fits a sum over the 128 x 128 pixels of a slice in [0, 1]. "
            "The figures of 4xTCMGAN are not legible in the copy at hand.",
        ),
        "2": _transcribed(
            "Table 2",
            "BraTS'18",
            ("dice",),
            """
            12xPix2Pix            0.7436 ± 0.0017
            4xTCMGAN              0.7673 ± 0.0014
            Proposed - disen      0.7791 ± 0.0013
            Proposed              0.7862 ± 0.0015
            Original 4 modalities  0.8142 ± 0.0012
            """,
            "From one real slice of any modality and three synthesised ones. From one real T2 slice alone: 0.7404.",
        ),
    },
}

# How the papers measured, by metric, and what a reader has to know before comparing.
_CLASSIFIER = (
    "InceptionV3 to mixed3, average pooling and a dense layer, fine-tuned on the data set (Sec. III-C says on the "
    "label, III-G on 7 lesion types, or 5 nodule sizes of LIDC)"
)
PROTOCOLS = {
    "drai": {
        "frechet_distance": f"5000 generated images; {_CLASSIFIER}",
        "inception_score": "5000 generated images; the classifier of the FID",
        "conditional_generation_accuracy": "the classifier of the FID on generated images",
        "cross_image_feature_consistency": "test pairs, Eq. 19; norm and scale are not stated",
        "disagreement_divergence": "nodules of median malignancy 3 as queries, top 3",
        "label_overlap": "nodules of median malignancy 3 as queries, top 3, in percent",
    },
    "unified": {
        "absolute_error_sum": "85 test subjects; range and what is summed are not stated",
        "ssim": "85 test subjects; range, window and region are not stated",
        "psnr": "85 test subjects; range and region are not stated",
        "inception_score": "the network is not stated; 15 to 18 is more than the modalities allow to expect",
        "dice": "whole tumour, one real slice and three synthesised",
    },
}
NOTES = {
    "drai": (
        "The paper's ± is the standard deviation over 4 training seeds.",
        "Fréchet distances and Inception scores compare only when data, extractor and number of images are the same.",
    ),
    "unified": (
        "What the paper's ± is over is not said.",
        "Errors and likeness compare only when data, image size, range and region are the same.",
    ),
}


def paper_column(paper: str, dataset: str, method: str) -> Column:
    """Returns all that a paper's tables print for one method on one dataset.

    Where two tables print the same number differently, the first counts.

    Args:
        paper: a key of `PAPERS`.
        dataset: as in its tables, e.g. "HAM10000".
        method: as in its tables, e.g. "DRAI", "DAI+selfReg".

    Raises:
        ValueError: the paper has no such method on that dataset.
    """
    tables = PAPERS[paper].values()
    found = [table for table in tables if table.dataset == dataset and method in table.rows]
    if not found:
        known = sorted({(table.dataset, name) for table in tables for name in table.rows})
        raise ValueError(f"Expected one of {known}, received {(dataset, method)}.")
    values = {}
    for table in reversed(found):
        values |= table.rows[method]
    return Column(
        heading=f"{method} on {dataset}, paper",
        values={name: values[name] for name in METRICS if name in values},
        protocols={name: text for name, text in PROTOCOLS[paper].items() if name in values},
        notes=(
            *NOTES[paper],
            *(f"{table.name}: {table.note}" for table in found if table.note),
        ),
    )


def metric_table(metrics: Mapping[str, Mapping], paper: Column | None = None) -> list[Row]:
    """Returns the metrics of a run (the content of metrics.json) beside the paper's.

    A value that is missing, NaN or infinite becomes "not computed: " and why: the entry's `reason`
    where it has one. Metrics that only the paper has come last.
    """
    paper = paper or Column("", {}, {})
    missing = {"reason": "this run did not measure it"}
    entries = {**metrics, **{name: missing for name in paper.values if name not in metrics}}
    rows = []
    for name, entry in entries.items():
        label, better = METRICS.get(name, (name.replace("_", " ").capitalize(), ""))
        value, computed = _value(entry)
        printed = paper.values.get(name)
        rows.append(
            Row(
                name=name,
                label=f"{label} {ARROWS[better]}".strip(),
                value=value,
                computed=computed,
                paper=printed.printed if printed else "",
                source=printed.source if printed else "",
                n="" if entry.get("n") is None else str(entry["n"]),
                extractor=str(entry.get("extractor") or ""),
                protocol=str(entry.get("protocol") or ""),
                paper_protocol=paper.protocols.get(name, ""),
            )
        )
    return rows


def to_markdown(rows: Sequence[Row]) -> str:
    """Returns a metric table as Markdown."""
    return markdown(_as_text(rows))


def to_text(rows: Sequence[Row]) -> str:
    """Returns a metric table in aligned columns for a terminal."""
    return text(_as_text(rows))


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
    """How a metric is called in a narrow column, with an arrow to where it is better."""
    label, better = METRICS.get(metric, (metric.replace("_", " "), ""))
    short = re.search(r"\(([A-Z]\w+)\)$", label)
    return f"{short[1] if short else label} {ARROWS[better]}".strip()


def comparison(
    table: Table,
    results: Mapping[str, Mapping[str, Sequence[float]]],
    also: Mapping[str, str] = types.MappingProxyType({}),
) -> list[list[str]]:
    """Returns a table of a paper with our values beside its own, as cells, headings first.

    Args:
        table: of the paper.
        results: {row: {metric: values, one for each seed}}; a row or metric that is not there, or has no finite value,
            shows a dash. Several values are shown as mean and standard deviation (of a sample, n - 1).
        also: {metric: heading}, columns of ours that the paper has not.
    """
    head = ["Method"]
    for metric in table.metrics:
        head += [f"{short_label(metric)} here", "paper"]
    lines = [[*head, *also.values(), "seeds"]]
    for row, printed in table.rows.items():
        ours = results.get(row, {})
        line = [row]
        for metric in table.metrics:
            paper = printed.get(metric)
            line += [spread(ours.get(metric, ())), paper.printed if paper else "–"]
        line += [spread(ours.get(metric, ())) for metric in also]
        lines.append([*line, str(max(map(len, ours.values()), default=0))])
    return lines


def order(table: Table, results: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str:
    """Returns the rows that both have, best first, here and in the paper, as a sentence."""
    ours = {
        row: float(np.mean(values[metric]))
        for row, values in results.items()
        if metric in table.rows.get(row, ()) and np.isfinite(values.get(metric, np.nan)).all()
    }
    sign = -1 if METRICS[metric][1] == "higher" else 1
    here = sorted(ours, key=lambda row: sign * ours[row])
    paper = sorted(ours, key=lambda row: sign * table.rows[row][metric].value)
    same = "as in the paper" if here == paper else f"in the paper {', '.join(paper)}"
    return f"{short_label(metric).split()[0]}, best first: {', '.join(here)}; {same}."


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
    try:
        number = float(value)
    except (TypeError, ValueError):
        return f"not computed: {entry.get('reason') or f'the value is {value}'}", False
    if not math.isfinite(number):
        return f"not computed: {entry.get('reason') or f'the value is {number}'}", False
    return format_value(number, entry.get("std")), True


def _as_text(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["Metric", "This run", "Paper", "n", "Extractor"]]
    for row in rows:
        paper = f"{row.paper} ({row.source})" if row.paper else ""
        lines.append([row.label, row.value, paper, row.n, row.extractor])
    return [[" ".join(cell.split()) for cell in line] for line in lines]


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(letter) else 1 for letter in text)
