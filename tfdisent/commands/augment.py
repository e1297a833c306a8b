"""Fills up rare classes with synthetic images from a trained run: tfdisent augment --run_dir=DIR

The images are written to --augment_dir as a prepared data set. report-augmentation.html in the run's folder compares
classifiers trained on real images, real and synthetic ones, real ones with repetition, and synthetic ones alone.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands import training
from tfdisent.commands.command import Command, UsageError, load_frameworks, require_none, run_command


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("run_dir", None, "Folder of the trained run.", flag_values=values)
    flags.DEFINE_integer(
        "augment_to",
        None,
        "Images of each class, real and synthetic together; default: as many as the most frequent class has.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "augment_dir", None, "Folder of the synthetic images; default: <run_dir>/synthetic.", flag_values=values
    )
    flags.DEFINE_integer("seed", None, "Of conditions, style and noise; default: that of the run.", flag_values=values)
    training.define_data_dirs(values, None, " Default: that of the run.")


def execute(given: Any, others: Sequence[str]) -> None:
    """Writes images as the flags say."""
    require_none(others)
    if not given.run_dir:
        raise UsageError("Give --run_dir, the folder of a trained run.")
    load_frameworks(given)
    run = experiment.open_run(given.run_dir, data_dir=given.data_dir, raw_dir=given.raw_dir)
    experiment.augment(run, per_class=given.augment_to, output=given.augment_dir, seed=given.seed)


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent augment", text, define, execute), argv)
