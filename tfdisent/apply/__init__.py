"""Exported models of slices on whole volumes: one or several inputs of a subject to images and label maps.

    from tfdisent.apply import Options, apply

    apply("saved_models/unified-brats", "T1.nii.gz", "results", Options(target=("T2", "FLAIR")))
    apply("saved_models/mmsdnet-chaos", {"T1": "s1/T1.nii.gz", "T2": "s1/T2.nii.gz"}, "results")
    apply("saved_models/mmsdnet-chaos", "subjects.csv", "results")

`cases` finds the volumes, `model` loads a SavedModel and its card, `intensities` normalises the volumes and gives the
results their values, `results` writes them. A SavedModel is a program: apply only those whose origin you trust.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfdisent.intensity import NORMALIZATIONS
from tfdisent.messages import say

# NumPy and TensorFlow are imported where they are used, so that --help is quick.


def _option(default: Any, text: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **more})


@dataclasses.dataclass(frozen=True)
class Options:
    """How volumes are chosen, read, translated and written, and what a card lacks; each field is a flag of the command.

    Each field's metadata holds its `help`, and where there are any its `choices`, its `minimum`, or `commas` for names
    that are given as one text.
    """

    target: tuple[str, ...] = _option((), "Modality to translate to; may be repeated; 'all' is all that it knows.")
    pattern: str = _option("*", "Names of the volumes in a folder, as 'T1*' or '*_t1.nii'.")
    planes: str | None = _option(
        None,
        "Axial slices, or slices of three planes, fused; by default what the model was trained on.",
        choices=("axial", "all"),
    )
    fusion: str = _option(
        "mean",
        "How planes are fused: the mean, weighted by resolution, reduces errors most; the median follows two planes "
        "where the third fails.",
        choices=("mean", "median"),
    )
    mask: str | os.PathLike | None = _option(None, "Brain mask of the volume, or a folder of masks named as the cases.")
    background: str = _option(
        "keep",
        "What is background in the input stays 0, or gets what the model makes of it.",
        choices=("keep", "translate"),
    )
    like: str | os.PathLike | None = _option(None, "Volume whose range of values the resulting images get.")
    like_mask: str | os.PathLike | None = _option(None, "Brain mask of that volume.")
    overwrite: bool = _option(False, "Replace results that exist already.")
    on_error: str = _option("fail", "Stop at a volume that cannot be used, or leave it out.", choices=("fail", "skip"))
    nan: str = _option("fail", "Voxels that are not finite: an error, or set to 0.", choices=("fail", "zero"))
    max_oblique: float = _option(20.0, "Largest angle in degrees between a volume's axes and the body's.")
    batch_size: int = _option(16, "Slices at a time.", minimum=1)
    modalities: tuple[str, ...] = _option(
        (), "Names of the targets, in the order of training, if the card lacks them.", commas=True
    )
    normalize: str | None = _option(None, "Normalisation in training, if the card lacks it.", choices=NORMALIZATIONS)
    foreground: str | None = _option(
        None,
        "Where a volume has anatomy, if the card lacks it: where it is not 0, or above a threshold.",
        choices=("nonzero", "otsu"),
    )
    pixel_spacing: float | None = _option(
        None,
        "Millimetres of the model's pixels, if the card lacks it; 0: slices are scaled to fit.",
        minimum=0,
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, choices, minimum = getattr(self, field.name), *map(field.metadata.get, ("choices", "minimum"))
            if choices and value not in (field.default, *choices):
                raise ValueError(f"Expected {field.name} to be one of {', '.join(choices)}; received {value!r}.")
            if minimum is not None and value is not None and value < minimum:
                raise ValueError(f"Expected {field.name} >= {minimum}, received {value}.")


def apply(
    model: str | os.PathLike,
    source: str | os.PathLike | Mapping[str, str | os.PathLike],
    output: str | os.PathLike,
    options: Options | None = None,
) -> dict[str, int]:
    """Runs an exported model on volumes; results lie on the grid of the volumes that they were made from.

    Args:
        model: folder of a SavedModel, or of its versions, of which the highest is taken.
        source: a volume, a folder of volumes, or a table (.csv) with the columns subject, one for each input of the
            model and, optionally, mask; or {input: file or folder} for models of several inputs.
        output: folder of the results.
        options: how to do it.

    Returns:
        The number of cases "written", "skipped" and "failed".

    Raises:
        ValueError, OSError: what cannot be used, and how to fix it.
    """
    from tfdisent.apply.cases import assigned, check_case, find_cases, make_folder
    from tfdisent.apply.intensities import scale_like
    from tfdisent.apply.model import chosen_targets, load_model
    from tfdisent.apply.results import Task, process

    output, options = pathlib.Path(output), options or Options()
    cases = find_cases(source, output, options.pattern)
    make_folder(output)
    slice_model = load_model(
        model,
        modalities=options.modalities,
        normalize=options.normalize,
        foreground=options.foreground,
        pixel_spacing=options.pixel_spacing,
    )
    targets = chosen_targets(slice_model, options.target)
    cases = [assigned(case, slice_model.inputs) for case in cases]
    if options.on_error == "fail":  # now, and not after hours of work on other cases
        for case in cases:
            check_case(case, slice_model)
    scale = scale_like(options.like, options.like_mask, slice_model, options.nan)
    if slice_model.normalize == "slice":
        say("The model was trained on slices normalised one by one: brightness may jump between slices.")
    if slice_model.pixel_spacing is None:
        say("The model's pixel size is not known: slices are scaled to fit (see --pixel_spacing).")
    task = Task(slice_model, targets, output, options, scale)
    counts = dict.fromkeys(("written", "skipped", "failed"), 0)
    for number, case in enumerate(cases, 1):
        outcome, text = process(task, case)
        counts[outcome] += 1
        say(f"[{number}/{len(cases)}] {case.label}: {text}")
    say(f"{output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if counts["failed"] == len(cases):
        raise ValueError(f"None of the volumes in {source} could be used.")
    return counts
