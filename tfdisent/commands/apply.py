"""Runs an exported model of slices on whole volumes.

    tfdisent apply --model=saved_models/unified-brats/1 --input=T1.nii.gz --output=results --target=T2 --target=FLAIR

writes results/T1_T2.nii.gz and results/T1_FLAIR.nii.gz on the grid of T1.nii.gz: same shape, order of axes and affine.
(In a checkout, python -m tfdisent.apply is the same command.) A folder as input is searched for .nii and .nii.gz,
subfolders included, and the output has its subfolders. Masks and label maps among them (gt.nii.gz, seg, label, or a few
whole numbers as values) are left out. Results that exist are left as they are, so the same command resumes where it was
stopped. A file that cannot be used leaves the others alone: it is listed at the end, and the exit status is 1.

A SavedModel is code: running one may do anything that a program can, such as reading or deleting your files. Run only
models that you trust.

A model of several inputs takes them by name, as files of one case, or as folders whose files have the same name but for
the input's:

    tfdisent apply --model=MODEL --input=T1=s1/T1.nii.gz --input=T2=s1/T2.nii.gz --output=results
    tfdisent apply --model=MODEL --input=T1=scans --input=T2=scans --output=results     scans/s1_T1.nii.gz, s1_T2.nii.gz
    tfdisent apply --model=MODEL --input=subjects.csv --output=results

A table (.csv) has the columns subject, one for each input and, optionally, mask; its paths are relative to its folder,
and an empty cell is a missing input. The inputs of a case must be on one grid; each is normalised by itself. An input
may be missing if the model was made for that. A label map is written with the names of its labels in a .json file
beside it.

Volumes must be prepared as those of training were (skull-stripped, bias-corrected, ...). They are normalised here as
the model's card says, and resampled to its pixels and back; details finer than these pixels are lost.

A model of slices may jump from one slice to the next. With --planes=all it sees the slices of three planes, whose mean
has a third of the jumps, in three times the time. The model must know such slices: one that was trained on axial slices
alone loses more on the others than it gains, and may take one contrast for another there. By default the planes are
those of training. Of labels the probabilities are fused, and then the likeliest label is taken.

A translated contrast has no units: values are float32, and 0 to 1 is what in training was the range of a volume (its
minimum to maximum, or percentile 0.5 to 99.5); a model of z-scores gives z-scores. With --like they are brought into
the range of another volume, such as a scan of that contrast by the same protocol. The background of the input (what is
0 and reaches its border) is 0.
"""

import dataclasses
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from tfdisent.apply import Options, apply
from tfdisent.commands.command import Command, require_none, run_command

REQUIRED = {
    "model": "Folder of a SavedModel, or of its versions.",
    "input": "Volume (.nii, .nii.gz), folder of volumes, or table (.csv); NAME=PATH, once for each input, for a model "
    "of several.",
    "output": "Folder of the results.",
}


def define(values: flags.FlagValues) -> None:
    """Defines the command's flags: those of the files, and one for each field of `Options`."""
    for name, text in REQUIRED.items():
        define_string = flags.DEFINE_multi_string if name == "input" else flags.DEFINE_string
        define_string(name, None, text, flag_values=values)
    for field in dataclasses.fields(Options):
        _define_option(field, values)


def execute(given: Any, others: Sequence[str]) -> int:
    """Applies the model as the flags say; returns 1 if a case failed."""
    require_none(others)
    for name, text in REQUIRED.items():
        if not given[name].value:
            raise ValueError(f"Give --{name}: {text}")
    options = {field.name: given[field.name].value for field in dataclasses.fields(Options)}
    counts = apply(given.model, sources(given.input), given.output, Options(**options))
    return 1 if counts["failed"] else 0


def sources(texts: Sequence[str]) -> str | Mapping[str, str]:
    """The source that --input gives: a path, or {name: path} where it is given as NAME=PATH.

    Raises:
        ValueError: several without names, or two of one name.
    """
    if len(texts) == 1 and (pathlib.Path(texts[0]).exists() or "=" not in texts[0]):
        return texts[0]
    named: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ValueError(f"Expected --input=NAME=PATH for each of several inputs, received --input={text}.")
        if name in named:
            raise ValueError(f"Expected --input={name}=PATH once, received {named[name]} and {path}.")
        named[name] = path
    return named


def _define_option(field: dataclasses.Field, values: flags.FlagValues) -> None:
    name, default, text, choices = field.name, field.default, field.metadata["help"], field.metadata.get("choices")
    types = typing.get_args(field.type) or (field.type,)
    if choices:
        flags.DEFINE_enum(name, default, choices, text, flag_values=values)
    elif isinstance(default, tuple):
        define_names = flags.DEFINE_list if field.metadata.get("commas") else flags.DEFINE_multi_string
        define_names(name, list(default), text, flag_values=values)
    elif bool in types:
        flags.DEFINE_bool(name, default, text, flag_values=values)
    elif int in types or float in types:
        define_number = flags.DEFINE_integer if int in types else flags.DEFINE_float
        define_number(name, default, text, lower_bound=field.metadata.get("minimum"), flag_values=values)
    else:
        flags.DEFINE_string(name, default, text, flag_values=values)


def run(argv: Sequence[str] | None = None, text: str = __doc__) -> None:
    """Runs the command on arguments, by default those of the process, and ends the process."""
    run_command(Command("tfdisent apply", text, define, execute), argv)
