"""Runs the benchmarks: python -m benchmarks.run [--only=step,pipeline,...] [--json=FILE]

Each case runs in a fresh process and prints one line; at the end comes a Markdown table of all. Run it on an otherwise
idle machine. Keras's backends are those that are installed.
"""

import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any, NamedTuple

from absl import app, flags

from benchmarks import machine
from benchmarks.process import run_python

BENCHMARKS = ("help_time", "fid", "preparation", "pipeline", "translation", "margin", "harmonize", "mmsdnet", "step")
PAPER = {"steps": 2, "seconds": 20.0, "train_twice": False}

FLAGS = flags.FLAGS
flags.DEFINE_list("only", list(BENCHMARKS), f"Which benchmarks, of {', '.join(BENCHMARKS)}.")
flags.DEFINE_string("json", None, "File for all numbers and the machine's facts.")
flags.DEFINE_float("minutes", 10.0, "Cases that do not end within this time are given up.", lower_bound=0.0)
flags.register_validator(
    "only",
    lambda names: names and set(names) <= set(BENCHMARKS),
    message=f"expected some of {', '.join(BENCHMARKS)}",
)


class Case(NamedTuple):
    """One row of the table.

    Attributes:
        benchmark: name for --only.
        name: what is measured, in words.
        function: "module:function" in `benchmarks`.
        limit: seconds after which it is given up, on two cores several times what it needs.
        arguments: of the function.
        backend: of Keras.
    """

    benchmark: str
    name: str
    function: str
    limit: float
    arguments: dict[str, Any]
    backend: str = "tensorflow"


def cases(folder: str) -> list[Case]:
    """All cases, the cheap ones first; `folder` holds the data that they make."""
    here = {"folder": folder}
    found = [
        Case("help_time", "python -m train.drai --help", "help_time:measure", 60, {}),
        Case("fid", "frechet_distance, twice 5000 x 768", "fid:measure", 120, {}),
        Case("preparation", "skin_phantom, drawn at 64 x 64", "preparation:skin_phantom", 120, here),
        Case("preparation", "ham10000, JPEG of 600 x 450", "preparation:ham10000", 120, {}),
    ]
    for words, cropped in (("55 of 192 x 160", True), ("all of 240 x 240", False)):
        name = f"brats, four modalities, {words}, one process"
        found.append(Case("preparation", name, "volumes:preparation", 120, {"cropped": cropped}))
    found.append(Case("pipeline", "load, 192 x 160 x 4 int16, batch 32", "volumes:reading", 90, {}))
    for augment in ("symmetry", "flip,crop"):
        name = f"load, 64 x 64, batch 32, {augment}"
        found.append(Case("pipeline", name, "pipeline:measure", 90, here | {"augment": augment}))
    for model in ("tcmgan", "unified"):
        for dtype in ("float32", "bfloat16"):
            name = f"{model}, 128 x 128, batch 8, {dtype}"
            arguments = {"model": model, "dtype": dtype}
            found.append(Case("translation", name, "translation:measure", 120, arguments))
    for dtype in ("float32", "bfloat16"):
        name = f"margin, 160 x 192, 7 slices, batch 2, {dtype}"
        found.append(Case("margin", name, "margin:measure", 240, {"dtype": dtype}))
    for benchmark, words in (("harmonize", "128 x 128, batch 2"), ("mmsdnet", "192 x 192, batch 6")):
        for dtype in ("float32", "bfloat16"):
            for backend in backends():
                name = f"{words}, {backend}, {dtype}"
                found.append(Case(benchmark, name, f"{benchmark}:measure", 300, {"dtype": dtype}, backend))
    found.append(Case("step", "quick, engine, float32", "engine:measure", 90, {}))
    for words, limit, settings in (
        ("quick", 90, {"preset": "quick"}),
        ("paper widths, one pass", 150, {"preset": "paper"} | PAPER),
    ):
        for dtype in ("float32", "bfloat16"):
            for backend in backends():
                name = f"{words}, {backend}, {dtype}"
                arguments = settings | {"dtype": dtype}
                found.append(Case("step", name, "step:measure", limit, arguments, backend))
    return found


def backends() -> list[str]:
    """Keras's backends that are installed."""
    return [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]


def run(case: Case, limit: float) -> dict[str, Any]:
    """Runs a case in a fresh process: its row, with `error` where it failed or passed the limit."""
    row = {"benchmark": case.benchmark, "case": case.name, "arguments": case.arguments}
    if limit <= 0:
        return row | {"error": "not started: the time is over"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "result.json"
        command = ["-m", "benchmarks.case", case.function, json.dumps(case.arguments), str(file)]
        environment = os.environ | {"KERAS_BACKEND": case.backend}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        error = run_python(command, environment, limit)
        result = {"error": error} if error else json.loads(file.read_text(encoding="utf-8"))
    return row | result | {"wall": time.perf_counter() - start}


HEADER = ("benchmark", "case", "result", "first", "time against", "peak memory")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table as texts."""
    if "error" in row:
        return row["benchmark"], row["case"], row["error"], "", "", ""
    first = "" if row["first"] is None else f"{row['first']:.2f} s"
    against = "" if row["ratio"] is None else f"{row['ratio']:.2f} x {row['against']}"
    value = f"{row['value']:.3g}" if row["value"] < 1000 else f"{row['value']:.0f}"
    return (
        row["benchmark"],
        row["case"],
        f"{value} {row['unit']}",
        first,
        against,
        f"{row['peak_mib']:.0f} MiB" + ("" if row["against_mib"] is None else f" against {row['against_mib']:.0f}"),
    )


def table(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The machine in a sentence, and the rows in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    devices = ", ".join([f"{facts['cpu']} ({' '.join(facts['instructions'])})", *facts["gpus"]])
    lines = [
        f"{facts['date']}, commit {facts['commit']}; {devices}; {facts['cores']} cores, {facts['memory_gib']} GiB, "
        f"load {facts['load']} at the start; {facts['system']}; Python {facts['python']}, {versions}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---" * len(HEADER) + "|",
    ]
    return "\n".join(lines + ["| " + " | ".join(cells(row)) + " |" for row in rows])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags of the form --name=value, received {argv[1:]}.")
    facts, rows = machine.facts(), []
    deadline = time.monotonic() + 60 * FLAGS.minutes
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(folder):
            if case.benchmark in FLAGS.only:
                rows.append(run(case, min(case.limit, deadline - time.monotonic())))
                print(": ".join(filter(None, cells(rows[-1]))), flush=True)
    print("\n" + table(rows, facts))
    if FLAGS.json:
        content = json.dumps({"machine": facts, "rows": rows}, indent=1)
        pathlib.Path(FLAGS.json).write_text(content + "\n", encoding="utf-8")
    if any("error" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
