"""Compares harmonisations on travelling subjects: tfdisent travelling --run_dir=RUN,RUN [--dataset=NAME --raw_dir=DIR]

Travelling subjects were scanned on several scanners. Each run, doing nothing and normalisations of intensities bring
their scans to the runs' target; then volumes of tissues are compared over scanners (coefficient of variation, ICC(2, 1)
of Shrout and Fleiss), and images with the subject's own scan on the target, after a rigid registration where grids
differ. No run may have been trained on one of the subjects.

The data are those of the first run, whose test subjects may be such, or a data set of one's own in which subjects have
one name on all scanners, and each scanner its name of the training as domain. In a table (--dataset=manifest) a subject
has a session for each scan:

    subject,session,domain,modality,image,label
    t01,1,Verio,T1,t01/verio.nii.gz,
    t01,2,Aera,T1,t01/aera.nii.gz,

In BIDS the column site of sub-01/sub-01_sessions.tsv says it. A table, its numbers and a page are written to
travelling.md, travelling.json and travelling.html in --output_dir.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfdisent import experiment
from tfdisent.commands import training
from tfdisent.commands.command import Command, UsageError, assignments, load_frameworks, require_none, run_command


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_list(
        "run_dir",
        [],
        "Folders of trained runs to one target, separated by commas; a folder of runs from several sources, as "
        "--sources of the training makes it, is one method.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "dataset", None, "Where the travelling subjects are. Default: that of the first run.", flag_values=values
    )
    flags.DEFINE_string("split", None, "Of the data set; default: all splits.", flag_values=values)
    flags.DEFINE_enum(
        "registration",
        "auto",
        ["auto", "identity", "rigid"],
        "Whether a subject's scans are registered before images are compared: where their grids differ, never, or "
        "always, as scans need it that lie on one grid and not in one place.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "output_dir",
        None,
        "Folder of the results; default: travelling-<dataset> in the first of --run_dir.",
        flag_values=values,
    )
    training.define_data(values, None, " Default: that of the first run.")


def execute(given: Any, others: Sequence[str]) -> None:
    """Measures as the flags say."""
    require_none(others)
    if not given.run_dir:
        raise UsageError("Give --run_dir, the folders of trained runs.")
    load_frameworks(given)
    experiment.benchmark(
        given.run_dir,
        dataset=given.dataset,
        data_dir=given.data_dir,
        raw_dir=given.raw_dir,
        data=assignments("data", given.data),
        split=given.split,
        registration=given.registration,
        output=given.output_dir,
    )


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent travelling", text, define, execute), argv)
