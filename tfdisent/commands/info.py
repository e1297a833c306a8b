"""Describes a run folder, an exported model or a data set: tfdisent info RUN|MODEL|DATASET

A data set is given as a prepared folder or by name; `tfdisent prepare --dataset=help` lists the names.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands.command import Command, UsageError, quiet, run_command


def define(values: flags.FlagValues) -> None:
    """Defines no flags: what to describe is given as arguments."""


def execute(given: Any, others: Sequence[str]) -> None:
    """Prints a description of each argument."""
    if not others:
        raise UsageError("Give a run folder, an exported model, or a data set.")
    with quiet(given):
        texts = [experiment.describe(what) for what in others]
    print("\n\n".join(texts))


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent info", text, define, execute), argv)
