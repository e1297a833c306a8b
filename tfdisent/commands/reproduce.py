"""Repeats a table or a figure of a paper: tfdisent reproduce --paper=drai --table=3 --seeds=3

It trains what the table or figure compares, one model and seed after the other, and prints it beside the paper's
numbers. Runs lie in <run_dir>/<dataset>-<preset>/<model>-seed<seed> and serve all tables and figures: what is trained
and evaluated is not repeated, and what was stopped continues. The result is written to <run_dir>/table-3.md and
table-3.html after every run, so that it can be watched.

Without --dataset, phantoms stand for the paper's data; --dataset=lidc --raw_dir=DIR takes the real ones. The flags of
training (--preset, --steps, --set, ...) are those of every run.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands import training
from tfdisent.commands.command import Command, load_frameworks, require_none, run_command
from tfdisent.experiment import catalogue


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_enum("paper", "drai", catalogue.SYSTEMS, "Whose tables and figures.", flag_values=values)
    flags.DEFINE_integer("table", None, "Number of the table.", flag_values=values)
    flags.DEFINE_integer("figure", None, "Number of the figure.", flag_values=values)
    flags.DEFINE_string(
        "seeds",
        None,
        "How many seeds, 0 and up, or which, separated by commas; default: 3 for a table, 1 for a figure. Data that a "
        "paper cross-validates, as msseg, have a run for each fold instead.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "dataset",
        None,
        "Data sets in place of phantoms, separated by commas; `--dataset=help` lists them.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "run_dir", None, "Folder of the results and the runs; default: runs/reproduce-<paper>.", flag_values=values
    )
    flags.DEFINE_enum(
        "equal",
        "steps",
        ("steps", "minutes"),
        "What trainings have in common; with 'minutes', a second result beside that of equal steps.",
        flag_values=values,
    )
    training.define_data(values)
    training.define_training(values)
    training.define_measuring(values)


def execute(given: Any, others: Sequence[str]) -> int:
    """Trains and writes as the flags say; returns 1 if a run failed."""
    require_none(others)
    if given.dataset == "help":
        print(catalogue.about(tuple(catalogue.paper(given.paper).data)))
        return 0
    load_frameworks(given)
    failed = experiment.reproduce(
        given.paper,
        table=given.table,
        figure=given.figure,
        seeds=given.seeds,
        dataset=given.dataset,
        run_dir=given.run_dir,
        equal=given.equal,
        **training.training_settings(given),
    )
    return 1 if failed else 0


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent reproduce", text, define, execute), argv)
