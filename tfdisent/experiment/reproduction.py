"""A table or a figure of a paper, repeated: what it compares is trained and shown beside the paper's numbers.

Runs lie in <run_dir>/<dataset>-<preset>/<model>-seed<seed> and serve all tables and figures of the paper: what is
trained and evaluated is not repeated, and what was stopped continues. Each is trained by a process of its own. The
result is written after every run.

Methods are trained for equally many steps. A step of one takes longer than one of another; at equal minutes, each is
trained once more, in <model>-minutes-seed<seed>, for as many steps as it does in the time that the paper's own method
took, by the pace of its first training.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

from tfdisent import files, papers, report
from tfdisent import metrics as measure
from tfdisent.experiment import catalogue
from tfdisent.experiment.folder import environment, figure_file, is_finished
from tfdisent.experiment.settings import Settings, flags_of
from tfdisent.messages import INTERRUPTED, PARENT, STOPPED, Stopped, say
from tfdisent.report import tables

EQUAL = ("steps", "minutes")  # what trainings have in common
LENGTHS = {"training_steps": "steps", "training_minutes": "minutes"}  # columns of every table
MINUTES = (
    "Each network was trained for as many steps as it does in the time that the paper's own took, by the pace of its "
    "training of equal steps; how long trainings took depends on what else the machine did."
)
Values = dict[str, dict[int, float]]  # {metric: {seed or fold: value}}


class Case(NamedTuple):
    """One method on one data set, prepared with some options, with one seed."""

    dataset: str
    model: str
    seed: int
    folder: pathlib.Path
    options: tuple[str, ...] = ()
    steps: int | None = None  # in place of those that all have

    def __str__(self) -> str:
        options = f" ({', '.join(self.options)})" if self.options else ""
        steps = f", {self.steps} steps" if self.steps else ""
        return f"{self.model} on {self.dataset}{options}, seed {self.seed}{steps}"


@dataclasses.dataclass(frozen=True)
class Request:
    """What is repeated, and how.

    Attributes:
        paper: whose table or figure.
        kind: "table" or "figure".
        number: of the table or figure.
        datasets: {our data set: the paper's}.
        seeds: of the runs.
        folder: of the results and the runs.
        training: fields of `Settings` that all runs share.
        equal: what trainings have in common, "steps" or "minutes".
    """

    paper: papers.Paper
    kind: str
    number: int
    datasets: dict[str, str]
    seeds: list[int]
    folder: pathlib.Path
    training: dict[str, Any]
    equal: str = "steps"

    @property
    def name(self) -> str:
        """What it is called in print, "Table 3"."""
        return f"{self.kind.capitalize()} {self.number}"

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"{self.paper.name.upper()}, {self.name.lower()} of the paper{self.manner}"

    @property
    def manner(self) -> str:
        """What follows a title where trainings are not of equal steps."""
        return ", at equal minutes" if self.equal == "minutes" else ""

    @property
    def path(self) -> pathlib.Path:
        """Where the result is written, without its ending."""
        return self.folder / f"{self.kind}-{self.number}{'-minutes' if self.equal == 'minutes' else ''}"

    def cases(self, compared: dict[str, list[tuple[str, tuple[str, ...]]]]) -> list[Case]:
        """The runs that are needed, from what is compared on each data set: methods, and options of the data."""
        return [
            Case(dataset, model, seed, self._folder(dataset, model, options, seed), options)
            for dataset, made in compared.items()
            for model, options in made
            for seed in (range(self.folds_of(dataset)) if self.folds_of(dataset) else self.seeds)
        ]

    def at_equal_minutes(self, cases: list[Case]) -> list[Case]:
        """The same runs with steps of their own, by the paces of those that are done; the paper's own stay as they are.

        A run is left out, and said to be, whose pace is not known, its own or that of the paper's method.
        """
        found, own = [], [case for case in cases if case.model == self.paper.name]
        for case in cases:
            if case in own:
                found.append(case)
                continue
            alike = [other for other in own if (other.dataset, other.seed) == (case.dataset, case.seed)]
            fitting = [other for other in alike if other.options == case.options] or alike
            lengths = [length(run) for run in (case, *fitting[:1]) if is_finished(run.folder)]
            if len(lengths) == 2 and all(seconds > 0 for _, seconds in lengths):
                (steps, taken), (_, wanted) = lengths
                folder = self._folder(case.dataset, f"{case.model}-minutes", case.options, case.seed)
                found.append(case._replace(folder=folder, steps=max(1, round(steps * wanted / taken))))
            else:
                say(f"left out at equal minutes, for want of a finished run that tells the pace: {case}")
        return found

    def result(self) -> "Table | Figure":
        """What shows the runs."""
        return (Table if self.kind == "table" else Figure)(self)

    def folds_of(self, dataset: str) -> int:
        """How many folds are cross-validated on a data set; 0 where runs differ in their seeds alone."""
        variant = self.paper.variants.get(dataset)
        return variant.folds if variant else 0

    def runs_of(self, dataset: str) -> str:
        """What the runs of a method on a data set differ in."""
        return "folds" if self.folds_of(dataset) else "seeds"

    def _runs_on(self, dataset: str) -> pathlib.Path:
        """Where the runs on a data set lie: those of another preset or length apart."""
        length = "".join(f"-{name}{self.training[name]}" for name in ("steps", "epochs") if self.training.get(name))
        return self.folder / f"{dataset}-{self.training.get('preset', 'quick')}{length}"

    def _folder(self, dataset: str, model: str, options: tuple[str, ...], seed: int) -> pathlib.Path:
        """Of one run."""
        return self._runs_on(dataset) / "-".join([model, *options, f"{self.runs_of(dataset)[:-1]}{seed}"])

    def settings(self, case: Case) -> Settings:
        """Settings of one run; its judges are shared by all runs on the data set, but for folds, which train others."""
        variant, training = self.paper.variants.get(case.dataset), dict(self.training)
        if variant:
            training["changes"] = {**training.get("changes", {}), **variant.changes}
        if self.folds_of(case.dataset):
            training["data"] = {**training.get("data", {}), "fold": str(case.seed)}
        training["data"] = {**training.get("data", {}), **dict(one.split("=", 1) for one in case.options)}
        if case.steps:
            training |= {"steps": case.steps, "epochs": None}
        return Settings(
            system=self.paper.name,
            model=case.model,
            dataset=variant.dataset if variant else case.dataset,
            seed=case.seed,
            run_dir=str(case.folder),
            judge_dir=None if self.folds_of(case.dataset) else str(case.folder.parent / "judges"),
            export=False,
            **training,
        )

    def command(self, case: Case) -> str:
        """The command that repeats it again, with the flags that all runs share with `case`."""
        own = {"model": None, "seed": 0, "run_dir": None, "judge_dir": None, "export": True}
        own |= {name: self.training.get(name, {}) for name in ("changes", "data")}
        variants = self.paper.variants
        names = dict.fromkeys(variants[name].dataset if name in variants else name for name in self.datasets)
        shared = flags_of(dataclasses.replace(self.settings(case._replace(steps=None)), **own))
        return shlex.join(
            [
                *("tfdisent", "reproduce", f"--paper={self.paper.name}", f"--{self.kind}={self.number}"),
                f"--dataset={','.join(names)}",
                f"--seeds={','.join(map(str, self.seeds))}{',' * (len(self.seeds) == 1)}",
                f"--run_dir={self.folder}",
                *[f"--equal={self.equal}"] * (self.equal != EQUAL[0]),
                *(flag for flag in shared if not flag.startswith("--dataset=")),
            ]
        )


def reproduce(
    paper: str,
    *,
    table: int | None = None,
    figure: int | None = None,
    seeds: str | int | None = None,
    dataset: str | None = None,
    run_dir: str | None = None,
    equal: str = "steps",
    **training: Any,
) -> list[Case]:
    """Trains what a table or a figure compares, prints it beside the paper's, and writes it as a page.

    Args:
        paper: name of the system.
        table, figure: number of the one to repeat.
        seeds: how many, 0 and up, or which, separated by commas; by default 3 for a table and 1 for a figure.
        dataset: data sets in place of the phantoms that stand for the paper's data, separated by commas.
        run_dir: folder of the results and the runs; by default runs/reproduce-<paper>.
        equal: what trainings have in common, "steps"; or "minutes" too, in a second result beside the first.
        **training: fields of `Settings` for every run.

    Returns:
        The runs that failed; another call tries them again.

    Raises:
        ValueError: there is no such table, figure, data set or setting; nothing is trained then.
        Stopped: by a signal, which the run in progress got too; it has saved its state.
        BlockingIOError: another process has the folder, naming it.
    """
    if (table is None) == (figure is None):
        raise ValueError("Give --table or --figure, and one of them.")
    kind, number = ("table", table) if table is not None else ("figure", figure)
    facts, seeds = catalogue.paper(paper), parse_seeds(str(seeds or (3 if kind == "table" else 1)))
    known = facts.tables if kind == "table" else facts.figures
    if number not in known:
        raise ValueError(f"--{kind}={number} is none of {paper}'s. Known ones are: {', '.join(map(str, known))}.")
    asked = tuple(part.data for part in known[number]) if kind == "table" else known[number].data
    folder = pathlib.Path(run_dir or f"runs/reproduce-{paper}").expanduser()
    chosen = datasets_of(facts, asked, dataset, f"{kind} {number}")
    request = Request(facts, kind, number, chosen, seeds, folder, training)
    cases = request.cases(request.result().compared())
    if equal not in EQUAL:
        raise ValueError(f"Expected --equal of {' or '.join(EQUAL)}, received {equal!r}.")
    if equal == "minutes" and not {paper} < {case.model for case in cases}:
        raise ValueError(f"Nothing is held against {paper} in its {kind} {number}: leave out --equal=minutes.")
    for case in cases:
        request.settings(case)  # their checks, before the first is trained

    with files.locked(folder, "reproduction"):
        failed = _trained_and_written(request, cases)
        if equal == "minutes":
            again = dataclasses.replace(request, equal=equal)
            failed += _trained_and_written(again, again.at_equal_minutes(cases))
        return failed


def _trained_and_written(request: Request, cases: list[Case]) -> list[Case]:
    """Trains what is missing and writes the result after each run; returns the runs that failed."""
    done, result = sum(is_finished(case.folder) for case in cases), request.result()
    say(f"{request.name} of {request.paper.name}{request.manner}: {len(cases)} runs, {done} of them done before")
    failed = []
    for position, case in enumerate(cases, 1):
        say(f"\n[{position}/{len(cases)}] {case}")
        if is_finished(case.folder):
            say("done before")
        elif not train(request.settings(case)):
            failed.append(case)
        else:
            result.write(cases, failed)
    say("\n" + result.write(cases, failed))
    for case in failed:
        say(f"failed: {case}; the same command tries it again")
    return failed


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


def datasets_of(paper: papers.Paper, asked: tuple[str, ...], given: str | None, what: str) -> dict[str, str]:
    """{our data set: the paper's}: those that are given, or the phantoms that stand for the paper's.

    Args:
        paper: whose data.
        asked: the paper's data sets that are wanted.
        given: our data sets, separated by commas; one with several of the paper's experiments stands for all of them.
        what: "table 3", for messages.

    Raises:
        ValueError: one that is given is neither the paper's nor imitates it, or is given twice.
    """
    ours = {name: data for name, data in paper.data.items() if data in asked}
    variants = {name: variant for name, variant in paper.variants.items() if variant.data in asked}
    fitting = ", ".join(sorted({*ours, *(variant.dataset for variant in variants.values())}))
    if given is None:
        chosen = {paper.phantoms[data]: data for data in asked if data in paper.phantoms}
        if not chosen:
            raise ValueError(f"No phantom stands for the data of the paper's {what}: give --dataset={fitting}.")
        return chosen
    chosen = {}
    for name in given.split(","):
        found = {one: variant.data for one, variant in variants.items() if variant.dataset == name}
        found |= {name: ours[name]} if name in ours else {}
        if not found:
            raise ValueError(
                f"The paper's {what} is on {' and '.join(asked)}: expected --dataset of {fitting}; received {name!r}."
            )
        if found.keys() & chosen.keys():
            raise ValueError(f"--dataset={given} names {name} more than once.")
        chosen |= found
    return chosen


def train(settings: Settings) -> bool:
    """Runs one training command as a user would, to its end; returns whether it succeeded.

    A signal that stops this process is passed to the run, which saves its state; then `Stopped` is raised. When this
    process is killed the run saves its state and ends too.
    """
    command = [sys.executable, "-m", "tfdisent", "train", settings.system, *flags_of(settings)]
    started, stopped = [], []

    def pass_on(number, frame):
        stopped.append(number)
        for process in started:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        started.append(subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}))
        if stopped:  # while it was being started
            started[0].send_signal(stopped[0])
        status = started[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not stopped and status in (STOPPED, INTERRUPTED):
        stopped = [signal.SIGTERM if status == STOPPED else signal.SIGINT]
    if stopped:
        raise Stopped("stopped; the same command continues there", stopped[0])
    return status == 0


def averaged(metrics: list[Values]) -> Values:
    """{metric: {seed: mean over models}}, of the metrics and seeds that all of them have."""
    return {name: {seed: value / len(metrics) for seed, value in of.items()} for name, of in summed(metrics).items()}


def summed(metrics: list[Values]) -> Values:
    """{metric: {seed: sum over models}}, of the metrics and seeds that all of them have."""
    first, *others = metrics
    return {
        name: {
            seed: sum(one[name][seed] for one in metrics) for seed in values if all(seed in one[name] for one in others)
        }
        for name, values in first.items()
        if all(name in one for one in others)
    }


def finished(cases: list[Case], model: str, dataset: str, options: tuple[str, ...]) -> dict[int, Case]:
    """{seed: run}, of the finished runs of a method on data with these options."""
    wanted = (model, dataset, options)
    return {
        case.seed: case
        for case in cases
        if (case.model, case.dataset, case.options) == wanted and is_finished(case.folder)
    }


def metrics_of(runs: dict[int, Case], ending: str = "") -> Values:
    """{metric: {seed: value}}, without their names' ending; NaN where a run could not compute it."""
    found = {seed: tables.numbers(_metrics(run), ending) for seed, run in runs.items()}
    names = dict.fromkeys(name for metrics in found.values() for name in metrics)
    return {name: {seed: metrics.get(name, float("nan")) for seed, metrics in found.items()} for name in names}


def lengths_of(runs: dict[int, Case]) -> Values:
    """{"training_steps", "training_minutes": {seed: value}}; NaN where no checkpoint tells."""
    found = {seed: length(run) for seed, run in runs.items()}
    steps, minutes = LENGTHS
    return {
        steps: {seed: done for seed, (done, _) in found.items()},
        minutes: {seed: seconds / 60 for seed, (_, seconds) in found.items()},
    }


def length(run: Case) -> tuple[float, float]:
    """Steps and seconds of a training; NaN where no checkpoint tells."""
    states = sorted((run.folder / "checkpoints").glob("step-*/state.json"))
    state = files.read_json(states[-1]) if states else {}
    return state.get("step", float("nan")), state.get("seconds", float("nan"))


class Table:
    """A table of the paper: which methods on which data, and how it is written."""

    def __init__(self, request: Request):
        self.request, paper = request, request.paper
        self.tables = [
            (dataset, table)
            for dataset, data in request.datasets.items()
            for table in paper.tables[request.number]
            if table.data == data
        ]
        self.titles = tables.row_titles(paper, titles_of(paper))

    def compared(self) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
        """Methods and options of the data by data set, each once, in the table's order."""
        made = {dataset: {} for dataset, _ in self.tables}
        for dataset, table in self.tables:
            rows = map(self.request.paper.rows.get, table.rows)
            made[dataset] |= dict.fromkeys((model, row.options) for row in rows for model in row.methods)
        return {dataset: list(pairs) for dataset, pairs in made.items()}

    def write(self, cases: list[Case], failed: list[Case]) -> str:
        """Writes Markdown and HTML of what is done so far; returns it as text for a terminal."""
        request = self.request
        shown, written, sections = [], [], []
        for dataset, table in self.tables:
            results = self.results(table, dataset, cases)
            lines, notes = self._compared_with_paper(dataset, table, cases, results)
            notes += [f"Failed: {case}." for case in failed if case.dataset == dataset]
            heading = f"{table.name} of the paper, on {dataset}"
            parts = [report.Section(heading, lines, notes), *self._differences(heading, dataset, table, results)]
            for part in parts:
                bullets = "".join(f"- {note}\n" for note in part.notes)
                shown.append(f"{part.heading}\n\n{tables.text(part.lines)}\n{bullets}")
                written.append(f"## {part.heading}\n\n{tables.markdown(part.lines)}\n{bullets}")
            sections += parts
        command = request.command(cases[0])
        path = request.path.with_suffix(".md")
        files.write_text(path, f"# {request.title}\n\n" + "\n".join(written) + f"\n```\n{command}\n```\n")
        page = report.write_comparison(
            path.with_suffix(".html"),
            title=request.title,
            summary=summary(request, cases),
            sections=sections,
            environment=environment(),
            command=command,
        )
        return "\n".join(shown) + f"\nwritten: {path}, {page}"

    def _compared_with_paper(
        self, dataset: str, table: papers.Table, cases: list[Case], results: dict[str, Values]
    ) -> tuple[list[list[str]], list[str]]:
        """The table's cells, headings first, and notes."""
        titles = self.titles
        results = {
            row: {metric: list(values.values()) for metric, values in found.items()} for row, found in results.items()
        }
        notes = [
            *(tables.order(table, results, metric, titles) for metric in table.metrics if len(results) > 1),
            *self._best_against_second(table, dataset, cases),
            *protocols(table, dataset, cases),
            *([MINUTES] if self.request.equal == "minutes" else []),
            f"The paper's figures are of {table.data}. {table.note}".strip(),
            *tables.renamed({row: titles[row] for row in table.rows}),
        ]
        return tables.comparison(table, results, self._also(table), titles, self.request.runs_of(dataset)), notes

    def _also(self, table: papers.Table) -> dict[str, str]:
        """Columns that the paper does not have, {metric: heading}."""
        also = self.request.paper.also
        return dict(also[metric] for metric in table.metrics if metric in also) | LENGTHS

    def _differences(
        self, heading: str, dataset: str, table: papers.Table, results: dict[str, Values]
    ) -> list[report.Section]:
        """How far the other methods lie from the paper's own, where two runs of both have the same seed or fold."""
        runs = self.request.runs_of(dataset)
        lines = tables.differences(table, results, self._held_against(table), self._also(table), self.titles, runs)
        note = (
            f"Differences of runs with the same {runs[:-1]}: their mean ± standard deviation. Of so few {runs} "
            "no test is made. Steps and minutes tell whether the trainings were equally long."
        )
        return [report.Section(f"{heading}: paired differences", lines, [note])] if lines else []

    def _held_against(self, table: papers.Table) -> dict[str, str]:
        """{row: the row of the paper's own method that it is held against}."""
        rows = self.request.paper.rows
        own = [name for name in table.rows if rows[name] == papers.Row((self.request.paper.name,))]
        usual = own[0] if len(own) == 1 else None
        held = {name: rows[name].ours or usual for name in table.rows}
        return {name: ours for name, ours in held.items() if ours in table.rows and ours != name}

    def results(self, table: papers.Table, dataset: str, cases: list[Case]) -> dict[str, Values]:
        """{row: {metric: {seed: value}}} of the rows of which a run is done."""
        results = {}
        for name in table.rows:
            row = self.request.paper.rows[name]
            runs = [finished(cases, model, dataset, row.options) for model in row.methods]
            if found := averaged([metrics_of(one, row.ending) for one in runs]):
                # A row of several networks costs the trainings of all.
                lengths = {} if row.ending else summed([lengths_of(one) for one in runs])
                results[name] = found | lengths
        return results

    def _best_against_second(self, table: papers.Table, dataset: str, cases: list[Case]) -> list[str]:
        """Whether the best of all cells is better than the second one, where runs keep the scores of subjects."""
        cells = {}
        for name in table.rows:
            row = self.request.paper.rows[name]
            cases_of = [finished(cases, model, dataset, row.options).values() for model in row.methods]
            runs = [_metrics(case) for those in cases_of for case in those]
            for metric in table.metrics:
                each = [run[f"{metric}{row.ending}"].get("subjects") for run in runs if f"{metric}{row.ending}" in run]
                if metric in table.rows[name] and each and all(one and one.keys() == each[0].keys() for one in each):
                    label = f"{self.titles[name]} ({tables.short_label(metric).rstrip(' ↑↓')})"
                    cells[label] = np.mean([list(map(_number, one.values())) for one in each], axis=0)
        cells = {label: scores for label, scores in cells.items() if np.isfinite(scores).any()}
        if len(cells) < 2 or len(set(map(len, cells.values()))) > 1:
            return []
        best, second = sorted(cells, key=lambda label: -np.nanmean(cells[label]))[:2]
        found = measure.paired_permutation_test(cells[best], cells[second])
        return [
            f"Best is {best}, by {found.difference:.3f} over {second}: p = {found.p:.3g} in a paired permutation test "
            f"of {found.n} test subjects, each by its mean over runs."
        ]


class Figure:
    """A figure of the paper: the same picture of each method."""

    def __init__(self, request: Request):
        self.request = request
        self.figure = request.paper.figures[request.number]
        self.titles = titles_of(request.paper)

    def compared(self) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
        """Methods and options of the data by data set."""
        made = [(model, self.figure.options) for model in self.figure.methods]
        return dict.fromkeys(self.request.datasets, made)

    def write(self, cases: list[Case], failed: list[Case]) -> str:
        """Writes a page with the pictures of what is done so far; returns what was written, for a terminal."""
        request, prefix = self.request, figure_file(self.figure.heading)
        sections = []
        for case in cases:
            found = sorted((case.folder / "figures").glob(f"{prefix}*.png"))
            if is_finished(case.folder) and found:
                source = f"paper Fig. {request.number}, on {request.datasets[case.dataset]}"
                name = f"{self.titles[case.model]} on {case.dataset}, seed {case.seed}"
                pictures = [report.Figure(name, "", path.read_bytes(), source) for path in found]
                sections.append(report.Section(name, figures=pictures))
            elif is_finished(case.folder):
                note = "Not defined for this model: it infers no content."
                sections.append(report.Section(str(case), notes=[note]))
        sections += [report.Section(f"Failed: {case}") for case in failed]
        page = report.write_comparison(
            request.path.with_suffix(".html"),
            title=request.title,
            summary=summary(request, cases),
            sections=sections,
            environment=environment(),
            command=request.command(cases[0]),
        )
        return f"written: {page}"


def titles_of(paper: papers.Paper) -> dict[str, str]:
    """{method: its name in print} of all that a paper compares."""
    return {method.name: method.title for method in catalogue.methods(paper.name)}


def protocols(table: papers.Table, dataset: str, cases: list[Case]) -> list[str]:
    """How the metrics of a table were measured here, a sentence each, from the first finished run that has them."""
    sentences = {}
    for case in cases:
        if case.dataset == dataset and is_finished(case.folder):
            metrics = _metrics(case)
            for name in dict.fromkeys(key.partition("/")[0] for key in table.metrics):
                if name in metrics and name not in sentences:
                    entry = metrics[name]
                    by = "" if entry["extractor"] == "none" else f"; {entry['extractor']}"
                    label = tables.METRICS.get(name, (name.replace("_", " ").capitalize(), ""))[0]
                    sentences[name] = f"{label} here: {entry['protocol']}{by}."
    return list(sentences.values())


def summary(request: Request, cases: list[Case]) -> str:
    """What was trained, in words."""
    configs = [
        json.loads((case.folder / "config.json").read_text())["config"] for case in cases if is_finished(case.folder)
    ]
    text = f"{len(configs)} of {len(cases)} runs are done."
    if configs:
        preset = request.settings(cases[0]).preset
        sizes = ", ".join(sorted({str(config["image_size"]) for config in configs}))
        steps = ", ".join(sorted({str(config["steps"]) for config in configs}))
        text += f" Preset {preset}: images of {sizes} pixels, {steps} steps of {configs[0]['batch_size']} images."
    return (
        f"{text} Where several seeds are done, values are their mean and standard deviation.\n"
        "\n"
        "Data, image size, length of training and the network behind FID, IS and CGAcc are not the paper's unless "
        "said: compare the order of the methods rather than the numbers."
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _metrics(case: Case) -> dict:
    return json.loads((case.folder / "metrics.json").read_text())
