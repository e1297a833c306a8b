"""Exported models of slices on whole volumes: one or several inputs of a subject to images and label maps.

    from tfdisent.apply import Options, apply

    apply("saved_models/unified-brats", "T1.nii.gz", "results", Options(target=("T2", "FLAIR")))
    apply("saved_models/mmsdnet-chaos", {"T1": "s1/T1.nii.gz", "T2": "s1/T2.nii.gz"}, "results")
    apply("saved_models/mmsdnet-chaos", "subjects.csv", "results")

`cases` finds the volumes, `model` loads a SavedModel and its card, `intensities` normalises the volumes and gives the
results their values. A SavedModel is a program: apply only those whose origin you trust.
"""

import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfdisent.intensity import NORMALIZATIONS
from tfdisent.messages import say

if TYPE_CHECKING:
    from tfdisent.apply.cases import Case
    from tfdisent.apply.intensities import Scale
    from tfdisent.apply.model import SliceModel

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
    if options.on_error == "fail":  # before hours of work on the cases before it
        for case in cases:
            check_case(case, slice_model)
    scale = scale_like(options.like, options.like_mask, slice_model, options.nan)
    if slice_model.normalize == "slice":
        say("The model was trained on slices normalised one by one: brightness may jump between slices.")
    if slice_model.pixel_spacing is None:
        say("The model's pixel size is not known: slices are scaled to fit (see --pixel_spacing).")
    counts = dict.fromkeys(("written", "skipped", "failed"), 0)
    for number, case in enumerate(cases, 1):
        prefix = f"[{number}/{len(cases)}] {case.label}"
        results = _results(output, case, slice_model, targets, options.overwrite)
        if not results:
            counts["skipped"] += 1
            say(f"{prefix}: skipped, its results are there (see --overwrite)")
            continue
        started = time.monotonic()
        try:
            check_case(case, slice_model)
            beyond = _write_results(slice_model, case, results, options, scale)
        except (ValueError, OSError) as error:
            if options.on_error == "fail":
                raise
            counts["failed"] += 1
            say(f"{prefix}: failed: {error}")
            continue
        counts["written"] += 1
        names = ", ".join(path.name for paths in results.values() for path in paths.values())
        say(f"{prefix}: {names} ({time.monotonic() - started:.1f} s)")
        if beyond:
            say(
                f"    {beyond:.1%} of its anatomy lies beyond the model's images and is 0 in the results; "
                "--pixel_spacing=0 scales slices to fit."
            )
    say(f"{output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if counts["failed"] == len(cases):
        raise ValueError(f"None of the volumes in {source} could be used.")
    return counts


def _results(
    output: pathlib.Path,
    case: "Case",
    model: "SliceModel",
    targets: tuple[str | None, ...],
    overwrite: bool,
) -> dict[str | None, dict[str, pathlib.Path]]:
    """{target: {output of the model: file}} of what is to be written for a case; empty if all of it exists."""
    results = {}
    for target in targets:
        paths = {}
        for name in model.outputs:
            # An output called "image" goes by the target, or by what the model does.
            parts = ([target] if target else []) + ([name] if name != "image" else [])
            ending = re.sub(r"[^\w.+-]+", "-", "_".join(parts or [model.signature]))
            path = output / case.name.with_name(f"{case.name.name}_{ending}.nii.gz")
            if overwrite or not path.exists():
                paths[name] = path
        if paths:
            results[target] = paths
    return results


def _write_results(
    model: "SliceModel",
    case: "Case",
    results: dict[str | None, dict[str, pathlib.Path]],
    options: Options,
    scale: "Scale | None",
) -> float:
    """Runs the model on a case for each target, and writes the results.

    Returns:
        Which part of the anatomy the model's images did not reach.
    """
    from tfdisent.apply.cases import read_case
    from tfdisent.apply.intensities import beyond, finished, labelled, stacked
    from tfdisent.files import write_json
    from tfdisent.volumes import write_nifti

    volumes, mask = read_case(case, model.inputs, options.mask, nan=options.nan, max_oblique=options.max_oblique)
    first = next(name for name in model.inputs if name in volumes)
    like = case.files[first]
    keeps = options.background == "keep"
    try:
        stack = stacked({name: volume.array for name, volume in volumes.items()}, model, mask)
        for target, paths in results.items():
            made = _through_planes(model, stack, volumes[first].spacing, target, tuple(paths), options)
            for name, path in paths.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                if model.outputs[name].kind == "labels":
                    array = labelled(made[name], stack, keeps)
                    names = dict(enumerate(model.outputs[name].names))
                    write_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json"), {"labels": names})
                else:
                    array = finished(made[name][..., 0], stack, model, scale, keeps)
                write_nifti(volumes[first]._replace(array=array), path, like=like)
                share = beyond(made[name][..., 0], stack)
    except ValueError as error:
        raise ValueError(f"{like}: {error}") from error
    return share


def _through_planes(model, stack, spacing, target, names, options) -> dict[str, Any]:
    """{output: (S, H, W, K)} of a model, for the outputs of these names; NaN where no image reaches."""
    import numpy as np

    from tfdisent.volumes.planes import PLANES, through_planes

    def function(images):
        made = model.run(images, target, stack.available)
        return np.concatenate([made[name] for name in names], axis=-1)

    fused = through_planes(
        stack.array,
        function,
        model.image_size,
        spacing=spacing,
        pixel_spacing=model.pixel_spacing,
        planes={None: model.planes, "all": PLANES}.get(options.planes, (options.planes,)),
        fusion=options.fusion,
        mask=stack.inside if options.background == "keep" else None,
        constant=stack.background,
        batch_size=options.batch_size,
    )
    ends = np.cumsum([model.outputs[name].channels for name in names])[:-1]
    return dict(zip(names, np.split(fused, ends, axis=-1), strict=True))
