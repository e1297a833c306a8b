"""What `benchmarks.device` found, in tables."""

import itertools
import re
from typing import Any

import numpy as np

from benchmarks.three_steps import largest_difference, result_file

# Dense TFLOP/s of cards, by a pattern of their names, from NVIDIA's data sheets, in the order of PRECISIONS.
PEAKS = {
    r"H200|H100 80GB HBM3": (67.0, 494.0, 989.0),
    r"H100 PCIe": (51.0, 378.0, 756.0),
    r"A100": (19.5, 156.0, 312.0),
}
PRECISIONS = ("float32", "TF32", "bfloat16")
LIKE_CPU = 1e-5  # largest difference of weights after three steps
STEP_HEADER = (
    "step of",
    "backend",
    "precision",
    "batch",
    "images/s",
    "ms",
    "peak memory",
    "GFLOP an image",
    "TFLOP/s",
    "share of peak",
)


def agreements(folder: str, names: list[str], batch_norms: list[bool]) -> list[dict[str, Any]]:
    """Differences between the weights that each two processes came to; one that is too large is an error."""
    rows = []
    for batch_norm, (one, other) in itertools.product(batch_norms, itertools.combinations(names, 2)):
        files = [result_file(folder, name, batch_norm) for name in (one, other)]
        if all(file.exists() for file in files):
            ours, theirs = (dict(np.load(file)) for file in files)
            difference, moved = largest_difference(ours, theirs), float(ours["moved"])
            pair = f"{one}, {other}"
            row = {"section": "agreement", "pair": pair, "batch_norm": batch_norm, "difference": difference}
            if not (difference < LIKE_CPU and moved > 1e-2):
                row["error"] = f"{pair}: weights that moved by {moved:.2g} differ by {difference:.2g}"
            rows.append(row)
    return rows


def peaks(cards: list[str], given: list[float]) -> dict[str, float]:
    """TFLOP/s by precision of the first card, as given or by its name; empty where it is not known."""
    if given:
        return dict(zip(PRECISIONS, given, strict=True))
    for pattern, values in PEAKS.items():
        if cards and re.search(pattern, cards[0]):
            return dict(zip(PRECISIONS, values, strict=True))
    return {}


def with_shares(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[dict[str, Any]]:
    """Adds to each step, and to a training, its images/s, its TFLOP/s and their share of the card's peak.

    The operations are those that PyTorch counts, of products and convolutions alone; or those that XLA counts, where
    PyTorch is not there.
    """
    counted = {}
    for backend in ("jax", "torch"):
        counted |= {row["system"]: row["flops"] for row in rows if row.get("flops") and row["backend"] == backend}
    result = []
    for row in rows:
        if "step" in row:
            row = row | {"images/s": row["batch_size"] / row["step"]}
        if "images/s" in row and row["system"] in counted:
            row = row | {"TFLOP/s": row["images/s"] * row.get("passes", 1) * counted[row["system"]] / 1e12}
            if row["precision"] in peak:
                row["share"] = row["TFLOP/s"] / peak[row["precision"]]
        result.append(row)
    return result


def markdown(facts: dict[str, Any], rows: list[dict[str, Any]], peak: dict[str, float], seconds: float) -> str:
    """All that was found, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    devices = f"{', '.join(facts['gpus']) or 'no GPU'}; {facts['cpu']}, {facts['cores']} cores"
    lines = [
        f"{facts['date']}, commit {facts['commit']}; {devices}; Python {facts['python']}, {versions}; {seconds:.0f} s "
        "in all."
    ]
    if peak:
        lines += ["", "Peaks, TFLOP/s: " + ", ".join(f"{name} {value:g}" for name, value in peak.items()) + "."]
    pairs = [row for row in rows if "pair" in row]
    lines += _table(
        ("three steps on", "batch norm", "largest difference of weights", "agree"), map(_agreement_cells, pairs)
    )
    lines += _table(STEP_HEADER, [_step_cells(row) for row in rows if row["section"] == "steps" and "precision" in row])
    for row in rows:
        if "losses" in row:
            lines += _training_lines(row)
    measures = [item for row in rows for item in row.get("measures", {}).items()]
    lines += _table(("measure", "value"), [(name, _number(value)) for name, value in measures])
    lines.append("")
    for row in rows:
        if "what" in row:
            values = [f"{name} {value:.3g}" for name, value in row.items() if name not in ("section", "what")]
            lines.append(f"* {row['section']}: {', '.join([row['what'], *values])}")
    for row in rows:
        if "error" in row:
            names = [row[name] for name in ("section", "system", "backend", "precision") if name in row]
            lines.append(f"* FAILED: {' '.join(names)}: {row['error']}")
    return "\n".join(lines).strip() + "\n"


def _agreement_cells(row: dict[str, Any]) -> tuple[str, ...]:
    batch_norm, agree = ("yes" if yes else "no" for yes in (row["batch_norm"], "error" not in row))
    return row["pair"], batch_norm, f"{row['difference']:.2g}", agree


def _step_cells(row: dict[str, Any]) -> tuple[str, ...]:
    cells = (row["system"], row["backend"], row["precision"], str(row["batch_size"]))
    if "step" not in row:
        return *cells, row["error"], *("" for _ in STEP_HEADER[len(cells) + 1 :])
    return (
        *cells,
        f"{row['images/s']:.4g}",
        f"{1e3 * row['step']:.3g}",
        f"{row['memory'] / 2**20:.0f} MiB" if row["memory"] else "",
        f"{row['flops'] / 1e9:.3g}" if row["flops"] else "",
        f"{row['TFLOP/s']:.3g}" if "TFLOP/s" in row else "",
        f"{row['share']:.1%}" if "share" in row else "",
    )


def _training_lines(row: dict[str, Any]) -> list[str]:
    speed = f"{row['steps']} steps of {row['passes']} passes, {row['images/s']:.4g} images/s"
    if "TFLOP/s" in row:
        speed += f", {row['TFLOP/s']:.3g} TFLOP/s"
    if "share" in row:
        speed += f" ({row['share']:.1%} of the peak)"
    first = f"the first step after {row['seconds until the first step']:.0f} s"
    losses = ", ".join(f"{name} {_number(value)}" for name, value in row["losses"].items())
    return [
        "",
        f"DRAI trained by fit on {row['backend']} in {row['precision']}: {speed}, {first}.",
        "",
        f"Losses, mean of the last epoch: {losses}.",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(header: tuple[str, ...], rows) -> list[str]:
    rows = ["| " + " | ".join(row) + " |" for row in rows]
    return ["", "| " + " | ".join(header) + " |", "|---" * len(header) + "|", *rows] if rows else []
