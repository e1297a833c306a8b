"""Measures a trained run again: tfdisent evaluate --run_dir=DIR [--dataset=NAME --num_samples=N --judge=KIND]

The run's metrics.json and report.html are replaced; on another data set they are written to <run_dir>/on-<dataset>, on
another split than the test's, as `--split=val`, to <run_dir>/on-<split>.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands import training
from tfdisent.commands.command import Command, UsageError, assignments, load_frameworks, require_none, run_command
from tfdisent.experiment import catalogue


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "Folder of the trained run.", flag_values=values)
    flags.DEFINE_string(
        "dataset", None, "Another data set; `--dataset=help` lists them. Default: that of the run.", flag_values=values
    )
    flags.DEFINE_string("split", "test", "What is measured on, as val, to choose settings by.", flag_values=values)
    training.define_data(values, None, " Default: that of the run.")
    training.define_measuring(values)
    training.define_judge_dir(values)
    training.define_select(values, None, " Default: those of the run.")


def execute(given: Any, others: Sequence[str]) -> None:
    """Measures as the flags say."""
    require_none(others)
    if given.dataset == "help":
        print(catalogue.about())
        return
    if not given.run_dir:
        raise UsageError("Give --run_dir, the folder of a trained run.")
    load_frameworks(given)
    run = experiment.open_run(
        given.run_dir,
        dataset=given.dataset,
        data_dir=given.data_dir,
        raw_dir=given.raw_dir,
        data=assignments("data", given.data) or None,
        judge=given.judge,
        judge_dir=given.judge_dir,
        num_samples=given.num_samples,
        select=given.select,
    )
    experiment.require_all_measured(experiment.evaluate(run, given.split))


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent evaluate", text, define, execute), argv)
