"""The results of a case: which files they are, what the model makes of the inputs, and writing them."""

import contextlib
import errno
import pathlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfdisent.apply.cases import Case, check_case, is_mask_by_content, read_case
from tfdisent.apply.intensities import Scale, Stack, beyond, finished, labelled, normalized, stacked
from tfdisent.apply.model import SliceModel, as_trained, targets_of
from tfdisent.apply.options import Options
from tfdisent.familiarity import of_slices, slice_statistics
from tfdisent.files import write_json
from tfdisent.volumes import Volume, write_nifti
from tfdisent.volumes.planes import PLANES, through_planes


class Task(NamedTuple):
    """What is done to every case.

    Attributes:
        model: the model that is applied.
        targets: what it translates to, as from `chosen_targets`.
        output: folder of the results.
        options: how to do it.
        scale: range of values that images get, or None for the model's.
    """

    model: SliceModel
    targets: tuple[str | None, ...]
    output: pathlib.Path
    options: Options
    scale: Scale | None


def process(task: Task, case: Case) -> tuple[str, str]:
    """Writes the results of a case that do not exist yet, or all of them with `overwrite`.

    Returns:
        "written" or "skipped", and a text that says what was.

    Raises:
        ValueError, OSError: the case cannot be used, or a result cannot be written.
    """
    results = result_files(task, case)
    if not any(results.values()):
        return "skipped", "skipped, it lacks none of the model's targets"
    if not task.options.overwrite:
        results = {k: {name: p for name, p in files.items() if not p.exists()} for k, files in results.items()}
    wanted = {target: files for target, files in results.items() if files}
    if not wanted:
        return "skipped", "skipped, its results are there (see --overwrite)"
    started = time.monotonic()
    check_case(case, task.model)
    volumes, mask = read_case(
        case,
        task.model.inputs,
        task.options.mask,
        nan=task.options.nan,
        orientation=task.model.orientation,
        max_oblique=task.options.max_oblique,
        max_gigabytes=task.options.max_gigabytes,
    )
    if not case.is_chosen and (masks := [name for name, v in volumes.items() if is_mask_by_content(v.array)]):
        return "skipped", (
            f"skipped, {case.files[masks[0]].name} is a mask or label map: all of its values are a few whole numbers "
            "(see --masks_too)"
        )
    share, distance = _write(task, case, volumes, mask, wanted)
    names = ", ".join(path.name for files in wanted.values() for path in files.values())
    text = f"{names} ({time.monotonic() - started:.1f} s)"
    if share:
        text += (
            "\n"
            f"    {share:.1%} of its anatomy lies beyond the model's images and is 0 in the results; --pixel_spacing=0 "
            "scales slices to fit."
        )
    if distance > 1:
        known = task.model.familiar
        text += (
            "\n"
            f"    warning: it lies {distance:.1f} times as far from the {known.scans} training scans of {known.name} "
            "as the farthest of these: another scanner or contrast, for which the model was not made."
        )
    return "written", text


def result_files(task: Task, case: Case) -> dict[str | None, dict[str, pathlib.Path]]:
    """{target: {output of the model: file}} of a case; what is made whatever the target is with the first.

    A result is called after the case, the target and the output, as s1_T2_edges.nii.gz. The output "image" adds no name
    of its own; without a target either, it is the signature's.
    """
    model, found = task.model, {}
    for target in targets_of(model, task.targets, case.files):
        files = {}
        for name, output in model.outputs.items():
            if (target is None and model.targets) if output.per_target else found:
                continue
            parts = [target] if target and output.per_target else []
            parts += [name] if name != "image" else []
            ending = re.sub(r"[^\w.+-]+", "-", "_".join(parts or [model.signature]))
            files[name] = task.output / case.name.with_name(f"{case.name.name}_{ending}.nii.gz")
        found[target] = files
    return found


def is_about_output(error: Exception) -> bool:
    """Whether an error is that nothing more can be written, which the next case would meet as well."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _write(
    task: Task,
    case: Case,
    volumes: dict[str, Volume],
    mask: np.ndarray | None,
    wanted: dict[str | None, dict[str, pathlib.Path]],
) -> tuple[float, float]:
    """Runs the model for each target and writes the files.

    Returns:
        Which part of the anatomy no image reaches, and how far the scan is from those of the training, see
        `tfdisent.familiarity`: 0 where the model's card does not tell.
    """
    model, scans, seen = task.model, {}, []
    for name, volume in volumes.items():
        with _named(case.files[name]):
            scans[name] = normalized(volume, model, mask)
    stack = stacked(scans, model)
    first = next(iter(volumes))
    with _named(case.files[first]):
        for target, files in wanted.items():
            made = _through_planes(task, stack, volumes[first], target, tuple(files), seen)
            for name, path in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                result = volumes[first]._replace(array=_finished(task, stack, name, made[name]))
                if model.outputs[name].kind == "labels":
                    labels = dict(enumerate(model.outputs[name].names))
                    write_json(path.with_name(f"{path.name.removesuffix('.nii.gz')}.json"), {"labels": labels})
                write_nifti(result, path, like=case.files[first])
                share = beyond(made[name][..., 0], stack)
    return share, _distance(task, seen)


def _distance(task: Task, seen: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """How far the slices that the model saw are from those of the training; of other planes than these nobody knows."""
    familiar, planes = task.model.familiar, _planes(task)
    if familiar is None or not seen or not set(planes) <= set(task.model.planes):
        return 0.0
    found = of_slices(*map(np.concatenate, zip(*seen, strict=True)))
    return familiar.distance(found) if np.isfinite(found).all() else 0.0


def _planes(task: Task) -> Sequence[str]:
    """The planes whose slices are taken."""
    planes = task.options.planes
    return {None: task.model.planes, "all": PLANES}.get(planes, (planes,))


def _through_planes(
    task: Task,
    stack: Stack,
    volume: Volume,
    target: str | None,
    names: Sequence[str],
    seen: list[tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """{output: (S, H, W, K)} of the model for the outputs of these names; NaN where no image reaches.

    Statistics of the slices that the model saw are added to `seen`, where its card says what those of the training are.
    """
    model, options = task.model, task.options

    def function(images):
        if model.familiar is not None:
            seen.append(slice_statistics(as_trained(images, model.normalize)[..., 0]))
        made = model.run(images, target, stack.available)
        return np.concatenate([made[name] for name in names], axis=-1)

    fused = through_planes(
        stack.array,
        function,
        model.image_size,
        spacing=volume.spacing,
        pixel_spacing=model.pixel_spacing,
        planes=_planes(task),
        fusion=options.fusion,
        mask=stack.inside if options.background == "keep" else None,
        constant=stack.background,
        batch_size=options.batch_size,
    )
    ends = np.cumsum([model.outputs[name].channels for name in names])[:-1]
    return dict(zip(names, np.split(fused, ends, axis=-1), strict=True))


def _finished(task: Task, stack: Stack, name: str, made: np.ndarray) -> np.ndarray:
    keeps_background = task.options.background == "keep"
    if task.model.outputs[name].kind == "labels":
        return labelled(made, stack, keeps_background)
    return finished(made[..., 0], stack, task.model, task.scale, keeps_background)


@contextlib.contextmanager
def _named(path: pathlib.Path) -> Iterator[None]:
    """Puts the file's name before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
