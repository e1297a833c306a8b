"""Exported models of slices on whole volumes: one or several inputs of a subject to images and label maps.

    from tfdisent.apply import Options, apply

    apply("saved_models/unified-brats", "T1.nii.gz", "results", Options(target=("T2", "FLAIR")))
    apply("saved_models/mmsdnet-chaos", {"T1": "s1/T1.nii.gz", "T2": "s1/T2.nii.gz"}, "results")
    apply("saved_models/mmsdnet-chaos", "subjects.csv", "results")

`cases` finds the volumes, `model` loads a SavedModel and its card, `intensities` normalises the volumes and gives the
results their values, `results` writes them. A SavedModel is a program: apply only those whose origin you trust.
"""

import os
import pathlib
from collections.abc import Mapping

from tfdisent.apply.options import Options
from tfdisent.messages import say

__all__ = ["Options", "apply"]

# NumPy and TensorFlow are imported where they are used, so that --help is quick.


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
        The number of cases "written", "skipped" and "failed". A case that fails is told and leaves the others alone,
        unless `on_error` is "fail".

    Raises:
        ValueError, OSError: what cannot be used, and how to fix it: the model, an option, the source, all of the cases;
            or the results cannot be written.
    """
    from tfdisent.apply.cases import assigned, check_case, find_cases, make_folder
    from tfdisent.apply.intensities import scale_like
    from tfdisent.apply.model import chosen_targets, load_model
    from tfdisent.apply.results import Task, is_about_output, process

    output, options = pathlib.Path(output), options or Options()
    cases = find_cases(source, output, options.pattern, options.masks_too)
    make_folder(output)
    slice_model = load_model(
        model,
        modalities=options.modalities,
        normalize=options.normalize,
        foreground=options.foreground,
        pixel_spacing=options.pixel_spacing,
        orientation=options.orientation,
    )
    if slice_model.orientation == "as_acquired" and options.planes == "all":
        raise ValueError("--planes=all needs slices along the body's axes. Leave it out for slices as acquired.")
    targets = chosen_targets(slice_model, options.target)
    cases = [assigned(case, slice_model.inputs) for case in cases]
    for case in cases:  # now, and not after hours of work on other cases
        try:
            check_case(case, slice_model)
        except (ValueError, OSError) as error:
            if options.on_error == "fail" or len(cases) == 1:
                raise
            say(f"{case.label} will fail: {error}")
    scale = scale_like(options.like, options.like_mask, slice_model, options.nan)
    if slice_model.normalize == "slice":
        say("The model was trained on slices normalised one by one: brightness may jump between slices.")
    if slice_model.pixel_spacing is None:
        say("The model's pixel size is not known: slices are scaled to fit (see --pixel_spacing).")
    task = Task(slice_model, targets, output, options, scale)
    counts = dict.fromkeys(("written", "skipped", "failed"), 0)
    failed = []
    for number, case in enumerate(cases, 1):
        try:
            outcome, text = process(task, case)
        except Exception as error:  # whatever one file does must not end the others
            if options.on_error == "fail" or len(cases) == 1 or is_about_output(error):
                raise
            outcome, text = "failed", f"failed: {_reason(error)}"
            failed.append(f"{case.label}: {_reason(error)}")
        counts[outcome] += 1
        say(f"[{number}/{len(cases)}] {case.label}: {text}")
    say(f"{output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if len(failed) == len(cases):
        raise ValueError(f"None of the {len(cases)} cases of {source} could be used. The first: {failed[0]}")
    if failed:
        say("failed:\n" + "\n".join(f"    {text}" for text in failed))
    return counts


def _reason(error: Exception) -> str:
    """What went wrong; errors that are not told in a sentence of ours get their kind."""
    return str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}".rstrip(": ")
