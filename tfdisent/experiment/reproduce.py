"""Repeats a table or a figure of a paper: python -m train.reproduce --paper=drai --table=3 --seeds=3

It trains what the table or figure compares, one model and seed after the other, and prints it beside the paper's
figures. Runs lie in <run_dir>/<dataset>-<preset>/<model>-seed<seed> (default run_dir: runs/reproduce-<paper>) and serve
all tables and figures: what is trained and evaluated is not repeated, and what was stopped continues. The result is
written to <run_dir>/table-3.md and table-3.html after every run, so that it can be watched.

Without --dataset, phantoms stand for the paper's data; --dataset=lidc --raw_dir=DIR takes the real ones. All other
flags of training (--preset, --steps, --set, ...) are handed to every run.
"""

import importlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from typing import Any, NamedTuple

from absl import app, flags

from tfdisent import papers
from tfdisent.experiment import run

FLAGS = flags.FLAGS
flags.DEFINE_enum("paper", "drai", list(papers.NAMES), "Whose tables and figures.")
flags.DEFINE_integer("table", None, "Number of the table.")
flags.DEFINE_integer("figure", None, "Number of the figure.")
flags.DEFINE_string(
    "seeds",
    None,
    "How many seeds, 0 and up, or which, separated by commas; default: 3 for a table, 1 for a figure.",
)

# Handed to every run if given.
PASSED_ON = (
    "data_dir raw_dir preset steps epochs batch_size devices mixed_precision set data checkpoint_every "
    "sample_every judge num_samples"
).split()


class Case(NamedTuple):
    """One model on one data set with one seed."""

    dataset: str
    model: str
    seed: int
    folder: pathlib.Path

    def __str__(self) -> str:
        return f"{self.model} on {self.dataset}, seed {self.seed}"


def reproduce() -> int:
    """Trains, prints and writes; returns the exit status, 1 if a run failed."""
    if (FLAGS.table is None) == (FLAGS.figure is None):
        raise ValueError("Give --table or --figure, and one of them.")
    for name, instead in (
        ("seed", "give --seeds"),
        ("export_dir", "nothing is exported here"),
        ("judge_dir", "all runs on a data set share theirs"),
    ):
        if FLAGS[name].present:
            raise ValueError(f"--{name} is of a single run; {instead}.")
    seeds = parse_seeds(FLAGS.seeds or ("3" if FLAGS.table is not None else "1"))
    paper = papers.paper_of(FLAGS.paper)
    if FLAGS.table is not None:
        result = Table(paper, _known(paper.tables, FLAGS.table, "table"))
    else:
        result = Figure(paper, _known(paper.figures, FLAGS.figure, "figure"))

    out = pathlib.Path(FLAGS.run_dir or f"runs/reproduce-{FLAGS.paper}").expanduser()
    out.mkdir(parents=True, exist_ok=True)
    cases = [
        Case(dataset, model, seed, run_folder(out, dataset) / f"{model}-seed{seed}")
        for dataset, models in result.compared().items()
        for model in models
        for seed in seeds
    ]
    done = sum(is_finished(case.folder) for case in cases)
    run.say(f"{_what()} of {FLAGS.paper}: {len(cases)} runs, {done} of them done before")
    failed = []
    for number, case in enumerate(cases, 1):
        run.say(f"\n[{number}/{len(cases)}] {case}")
        if is_finished(case.folder):
            run.say("done before")
        elif not train(case):
            failed.append(case)
        else:
            result.write(out, cases, failed)
    run.say("\n" + result.write(out, cases, failed))
    for case in failed:
        run.say(f"failed: {case}; the same command tries it again")
    return 1 if failed else 0


def parse_seeds(text: str) -> list[int]:
    """Seeds from a count, "3" for 0, 1, 2, or from a list, "0,7" (and "7," for a list of one).

    Raises:
        ValueError: not whole numbers, none at all, below 0, or one given twice.
    """
    try:
        listed = "," in text
        seeds = [int(part) for part in text.split(",") if part.strip()] if listed else range(int(text))
    except ValueError:
        raise ValueError(f"Expected --seeds=3 or --seeds=0,1,2, received {text!r}.") from None
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if twice:
        raise ValueError(
            f"--seeds={text} names {', '.join(map(str, twice))} more than once: the same run would count twice."
        )
    if not seeds or min(seeds) < 0:
        raise ValueError(f"Expected --seeds of at least one seed, none below 0; received {text!r}.")
    return list(seeds)


def datasets_of(paper: papers.Paper, papers_data: tuple[str, ...]) -> dict[str, str]:
    """Data set by the paper's: those of --dataset, or the phantoms that stand for them.

    Raises:
        ValueError: for one that is neither the paper's nor imitates it.
    """
    if not FLAGS["dataset"].present:
        return {paper.phantoms[data]: data for data in papers_data}
    chosen = {}
    for name in FLAGS.dataset.split(","):
        data = paper.data.get(name)
        if data not in papers_data:
            fitting = sorted(n for n, d in paper.data.items() if d in papers_data)
            raise ValueError(
                f"The paper's {_what().lower()} is on {' and '.join(papers_data)}: expected --dataset of "
                f"{', '.join(fitting)}; received {name!r}."
            )
        if name in chosen:
            raise ValueError(f"--dataset={FLAGS.dataset} names {name} more than once.")
        chosen[name] = data
    return chosen


def run_folder(out: pathlib.Path, dataset: str) -> pathlib.Path:
    """Where the runs on a data set lie: those of another preset or length apart."""
    length = f"-steps{FLAGS.steps}" if FLAGS.steps else f"-epochs{FLAGS.epochs}" if FLAGS.epochs else ""
    return out / f"{dataset}-{FLAGS.preset}{length}"


def is_finished(folder: pathlib.Path) -> bool:
    """Whether a run is trained and evaluated: its metrics are there, which go when it is to train on."""
    return (folder / "metrics.json").is_file()


def train(case: Case) -> bool:
    """Runs one training command as a user would, to its end; returns whether it succeeded.

    A signal that stops this command is handed on, so that the run saves its state; then this command leaves too.
    """
    command = [sys.executable, "-m", f"train.{FLAGS.paper}", f"--model={case.model}"]
    command += [f"--dataset={case.dataset}", f"--seed={case.seed}", f"--run_dir={case.folder}"]
    command += [f"--judge_dir={case.folder.parent / 'judges'}", "--noexport"]
    for name in PASSED_ON:
        if FLAGS[name].present:
            values = FLAGS[name].value if isinstance(FLAGS[name].value, list) else [FLAGS[name].value]
            command += [f"--{name}={value}" for value in values]
    process = subprocess.Popen(command)
    stopped = []

    def hand_on(number, frame):
        stopped.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped or status == run.STOPPED:
        run.say("stopped; the same command continues there")
        sys.exit(run.STOPPED)
    return status == 0


def averaged(metrics: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """{metric: mean over models of each seed's values}, of the metrics and seeds that all of them have."""
    first, *others = metrics
    return {
        # Seeds are run in order: what a model has not reached yet is left out.
        name: [sum(values) / len(metrics) for values in zip(*(m[name] for m in metrics), strict=False)]
        for name in first
        if all(name in m for m in others)
    }


def metrics_of(cases: list[Case], model: str, dataset: str, ending: str = "") -> dict[str, list[float]]:
    """{metric: values of the finished seeds}, without their names' ending; NaN where a run could not compute it."""
    from tfdisent.report import tables

    runs = [
        tables.numbers(json.loads((case.folder / "metrics.json").read_text()), ending)
        for case in cases
        if (case.model, case.dataset) == (model, dataset) and is_finished(case.folder)
    ]
    names = dict.fromkeys(name for metrics in runs for name in metrics)
    return {name: [metrics.get(name, float("nan")) for metrics in runs] for name in names}


def titles_of(paper: str) -> dict[str, str]:
    """{method: what it is called in print} of all that a paper compares."""
    methods = importlib.import_module(f"tfdisent.baselines.{paper}").METHODS
    return {method.name: method.title for method in methods}


class Table:
    """A table of the paper: which models on which data, and how it is written."""

    def __init__(self, paper: papers.Paper, tables: tuple[papers.Table, ...]):
        self.paper = paper
        chosen = datasets_of(paper, tuple(dict.fromkeys(table.data for table in tables)))
        self.tables = [(name, table) for name, data in chosen.items() for table in tables if table.data == data]

    def compared(self) -> dict[str, list[str]]:
        """Models by data set, each once, in the table's order."""
        models = {dataset: {} for dataset, _ in self.tables}
        for dataset, table in self.tables:
            models[dataset] |= dict.fromkeys(model for row in table.rows for model in self.paper.rows[row].methods)
        return {dataset: list(names) for dataset, names in models.items()}

    def write(self, out: pathlib.Path, cases: list[Case], failed: list[Case]) -> str:
        """Writes Markdown and HTML of what is done so far; returns it as text for a terminal."""
        from tfdisent import report
        from tfdisent.report import tables

        shown, written, sections = [], [], []
        titles = tables.row_titles(self.paper, titles_of(self.paper.name))
        for dataset, table in self.tables:
            results = self.results(table, dataset, cases)
            ours = [self.paper.also[m] for m in table.metrics if m in self.paper.also]
            lines = tables.comparison(table, results, dict(ours), titles)
            heading = f"{table.name} of the paper, on {dataset}"
            notes = [
                *(tables.order(table, results, metric, titles) for metric in table.metrics if len(results) > 1),
                *protocols(table, dataset, cases),
                f"The paper's figures are of {table.data}. {table.note}".strip(),
                *tables.renamed({row: titles[row] for row in table.rows}),
                *(f"Failed: {case}." for case in failed if case.dataset == dataset),
            ]
            bullets = "".join(f"- {note}\n" for note in notes)
            shown.append(f"{heading}\n\n{tables.text(lines)}\n{bullets}")
            written.append(f"## {heading}\n\n{tables.markdown(lines)}\n{bullets}")
            sections.append(report.Section(heading, lines, notes))
        name = f"table-{FLAGS.table}"
        text = f"# {title()}\n\n" + "\n".join(written) + f"\n```\n{command()}\n```\n"
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        page = report.write_comparison(
            out / f"{name}.html",
            title=title(),
            summary=summary(cases),
            sections=sections,
            environment=run.environment(),
            command=command(),
        )
        return "\n".join(shown) + f"\nwritten: {out / name}.md, {page}"

    def results(self, table: papers.Table, dataset: str, cases: list[Case]) -> dict:
        """{row: {metric: values over seeds}} of the rows of which a run is done."""
        results = {}
        for row in table.rows:
            made = self.paper.rows[row]
            found = averaged([metrics_of(cases, model, dataset, made.ending) for model in made.methods])
            if found:
                results[row] = found
        return results


class Figure:
    """A figure of the paper: the same picture of each model."""

    def __init__(self, paper: papers.Paper, figure: papers.Figure):
        data, self.models, self.heading = figure
        self.datasets = datasets_of(paper, data)
        self.titles = titles_of(paper.name)

    def compared(self) -> dict[str, list[str]]:
        """Models by data set."""
        return {dataset: list(self.models) for dataset in self.datasets}

    def write(self, out: pathlib.Path, cases: list[Case], failed: list[Case]) -> str:
        """Writes a page with the pictures of what is done so far; returns what was written, for a terminal."""
        from tfdisent import report

        prefix = run.figure_file(self.heading)
        sections = []
        for case in cases:
            found = sorted((case.folder / "figures").glob(f"{prefix}*.png"))
            if is_finished(case.folder) and found:
                source = f"paper Fig. {FLAGS.figure}, on {self.datasets[case.dataset]}"
                name = f"{self.titles[case.model]} on {case.dataset}, seed {case.seed}"
                pictures = [report.Figure(name, "", path.read_bytes(), source) for path in found]
                sections.append(report.Section(name, figures=pictures))
            elif is_finished(case.folder):
                note = "Not defined for this model: it infers no content."
                sections.append(report.Section(str(case), notes=[note]))
        sections += [report.Section(f"Failed: {case}") for case in failed]
        page = report.write_comparison(
            out / f"figure-{FLAGS.figure}.html",
            title=title(),
            summary=summary(cases),
            sections=sections,
            environment=run.environment(),
            command=command(),
        )
        return f"written: {page}"


def protocols(table: papers.Table, dataset: str, cases: list[Case]) -> list[str]:
    """How the metrics of a table were measured here, a sentence each, from the first finished run that has them."""
    told = {}
    for case in cases:
        if case.dataset == dataset and is_finished(case.folder):
            metrics = json.loads((case.folder / "metrics.json").read_text())
            for name in dict.fromkeys(key.partition("/")[0] for key in table.metrics):
                if name in metrics and name not in told:
                    entry = metrics[name]
                    by = "" if entry["extractor"] == "none" else f"; {entry['extractor']}"
                    told[name] = f"{name.replace('_', ' ').capitalize()} here: {entry['protocol']}{by}."
    return list(told.values())


def summary(cases: list[Case]) -> str:
    """What was trained, in words."""
    configs = [
        json.loads((case.folder / "config.json").read_text())["config"] for case in cases if is_finished(case.folder)
    ]
    text = f"{len(configs)} of {len(cases)} runs are done."
    if configs:
        sizes = ", ".join(sorted({str(config["image_size"]) for config in configs}))
        steps = ", ".join(sorted({str(config["steps"]) for config in configs}))
        text += f" Preset {FLAGS.preset}: images of {sizes} pixels, {steps} steps of {configs[0]['batch_size']} images."
    return (
        text + " Where several seeds are done, values are their mean and standard deviation.\n\n"
        "Data, image size, length of training and the network behind FID, IS and CGAcc are not the paper's unless "
        "said: compare the order of the methods rather than the numbers."
    )


def title() -> str:
    """Of the page."""
    return f"{FLAGS.paper.upper()}, {_what().lower()} of the paper"


def command() -> str:
    """The command that makes it again."""
    return shlex.join(["python", "-m", "train.reproduce", *sys.argv[1:]])


def _what() -> str:
    return f"Table {FLAGS.table}" if FLAGS.table is not None else f"Figure {FLAGS.figure}"


def _known(numbers: dict, number: int, kind: str) -> Any:
    if number not in numbers:
        known = ", ".join(map(str, numbers))
        raise ValueError(f"--{kind}={number} is none of {FLAGS.paper}'s. Known ones are: {known}.")
    return numbers[number]


def main(argv):
    """Entry point of the command line."""
    if len(argv) > 1:
        raise app.UsageError(f"Expected flags of the form --name=value, received {argv[1:]}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = reproduce()
    except run.USER_ERRORS as error:
        sys.exit(f"error: {error}")
    sys.exit(status)
