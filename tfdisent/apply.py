"""An exported model of slices on whole volumes.

    python -m tfdisent.apply --model=saved_models/unified-brats/1 --input=T1.nii.gz --output=results \
        --target=T2 --target=FLAIR

writes results/T1_T2.nii.gz and results/T1_FLAIR.nii.gz, on the grid of T1.nii.gz: same shape, order
of axes and affine. A folder as input is searched, subfolders included, for .nii and .nii.gz, and the
output has its subfolders. What is there already is left as it is, so that the same command goes on
where it was stopped.

Volumes must be prepared as those of training were (skull-stripped, bias-corrected, ...). They are
normalised here as the model's card says, and resampled to its pixels and back; details finer than
those are lost.

A model of slices makes jumps from one slice to the next. With --planes=all it sees the slices of
three planes, whose mean has a third of the jumps, in three times the time. It takes a model that
knows such slices: one that was trained on axial ones alone does worse on the others than it gains,
and it may take one contrast for another there. By default the planes are those of training.

A translated contrast has no units: values are float32, and 0 to 1 is what in training was the range
of a volume (its minimum to maximum, or percentile 0.5 to 99.5); a model of z-scores gives z-scores.
With --like they are brought into the range of another volume, such as a scan of that contrast by
the same protocol. The background of the input (what is 0 and reaches its border) is 0.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging

from tfdisent.intensity import NORMALIZATIONS

# TensorFlow and what needs it are imported where they are used, so that --help is quick.

FLAGS = flags.FLAGS
# What a user can mend: told in one message, without a traceback.
USER_ERRORS = (ValueError, OSError, ArithmeticError)
STOPPED = 143  # exit status after SIGTERM, as shells count it


class SliceModel(NamedTuple):
    """A signature that turns images into images, and what its card says of them.

    Attributes:
        run: (images (B, h, w), target) -> (B, h, w); target is one of `targets`, or None. Images
            are normalised by their volume; where training did it by "slice", `run` does.
        signature: its name.
        image_size: h and w.
        targets: what it translates to; empty if it does not ask.
        normalize: one of `NORMALIZATIONS`.
        foreground: "nonzero" or "otsu": where volumes' intensity statistics are taken.
        is_uint8: of images stored as uint8, whose range is 0 to 255.
        pixel_spacing: millimetres of its pixels along rows and columns, or None if not known.
        planes: whose slices it was trained on.
        background: the value outside of brain masks in training.
    """

    run: Callable
    signature: str
    image_size: tuple[int, int]
    targets: tuple[str, ...]
    normalize: str
    foreground: str = "nonzero"
    is_uint8: bool = False
    pixel_spacing: tuple[float, float] | None = None
    planes: tuple[str, ...] = ("axial",)
    background: float = 0.0


class Scale(NamedTuple):
    """The intensity that is 0 to a model, and how much more is 1."""

    zero: float
    unit: float


class Scan(NamedTuple):
    """A volume as a model sees it.

    `array` (S, H, W) is float32; `background` is what the model's has become in it. `anatomy` is where its
    statistics were taken, `inside` where there is no background: both bool, (S, H, W).
    """

    array: Any
    background: float
    anatomy: Any
    inside: Any


def define_flags() -> None:
    """The command's flags, defined when it is run, so that other commands can have the same."""
    flags.DEFINE_string("model", None, "Folder of a SavedModel, or of its versions.")
    flags.DEFINE_string("input", None, "Volume (.nii, .nii.gz), or a folder of volumes.")
    flags.DEFINE_string("output", None, "Folder of the results.")
    flags.DEFINE_multi_string("target", [], "Modality to translate to; may be repeated; 'all' is all that it knows.")
    flags.DEFINE_string("pattern", "*", "Names of the volumes in a folder, as 'T1*' or '*_t1.nii'.")
    flags.DEFINE_enum(
        "planes",
        None,
        ["axial", "all"],
        "Axial slices, or those of three planes, fused; by default what the model was trained on.",
    )
    flags.DEFINE_enum(
        "fusion",
        "mean",
        ["mean", "median"],
        "Of the planes: the mean, weighted by resolution, lessens errors most; the median follows "
        "two planes where the third fails.",
    )
    flags.DEFINE_string("mask", None, "Brain mask of the volume, or a folder of masks named as the volumes.")
    flags.DEFINE_enum(
        "background",
        "keep",
        ["keep", "translate"],
        "What is background in the input stays 0, or gets what the model makes of it.",
    )
    flags.DEFINE_string("like", None, "Volume whose range of values the results get.")
    flags.DEFINE_string("like_mask", None, "Brain mask of that volume.")
    flags.DEFINE_bool("overwrite", False, "Write anew what is there already.")
    flags.DEFINE_enum("on_error", "fail", ["fail", "skip"], "Stop at a volume that cannot be used, or go on.")
    flags.DEFINE_enum("nan", "fail", ["fail", "zero"], "Voxels that are not finite.")
    flags.DEFINE_float("max_oblique", 20.0, "Largest angle in degrees between a volume's axes and the body's.")
    flags.DEFINE_integer("batch_size", 16, "Slices at a time.", lower_bound=1)
    flags.DEFINE_list("modalities", [], "Names of the targets, in the order of training.")
    flags.DEFINE_enum("normalize", None, NORMALIZATIONS, "Normalisation in training, if the card lacks it.")
    flags.DEFINE_enum(
        "foreground",
        None,
        ["nonzero", "otsu"],
        "Where a volume has anatomy, if the card lacks it: where it is not 0, or above a threshold.",
    )
    flags.DEFINE_float(
        "pixel_spacing",
        None,
        "Millimetres of the model's pixels, if the card lacks it; 0: slices are scaled to fit.",
        lower_bound=0,
    )


def main(argv: list[str]) -> None:
    """Runs the command; a mistake of the user's ends in one message and status 1."""
    del argv
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else dozens of lines that say nothing
    # As an exception, so that the file being written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    try:
        for name in ("model", "input", "output"):
            if not FLAGS[name].value:
                raise ValueError(f"Give --{name}: {FLAGS[name].help}")
        options = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Options)}
        known = {name: FLAGS[name].value for name in ("modalities", "normalize", "foreground", "pixel_spacing")}
        apply(FLAGS.model, FLAGS.input, FLAGS.output, Options(**options), **known)
    except USER_ERRORS as error:
        if logging.get_verbosity() >= logging.DEBUG:
            raise
        sys.exit(f"error: {error}")


@dataclasses.dataclass(frozen=True)
class Options:
    """How volumes are chosen, read, translated and written: the flags of these names."""

    target: Sequence[str] = ()
    pattern: str = "*"
    planes: str | None = None
    fusion: str = "mean"
    mask: str | os.PathLike | None = None
    background: str = "keep"
    like: str | os.PathLike | None = None
    like_mask: str | os.PathLike | None = None
    overwrite: bool = False
    on_error: str = "fail"
    nan: str = "fail"
    max_oblique: float = 20.0
    batch_size: int = 16


def apply(
    model: str | os.PathLike,
    source: str | os.PathLike,
    output: str | os.PathLike,
    options: Options | None = None,
    **known,
) -> dict[str, int]:
    """What the command does.

    Args:
        model: --model.
        source: --input.
        output: --output.
        options: the flags that are of the volumes.
        **known: arguments of `load_model`.

    Returns:
        Number of volumes "written", "skipped" and "failed".

    Raises:
        ValueError, OSError: what cannot be used, and the mend.
    """
    source, output, options = pathlib.Path(source), pathlib.Path(output), options or Options()
    paths = find_volumes(source, output, options.pattern)
    _make_folder(output)
    slice_model = load_model(model, **known)
    targets = chosen_targets(slice_model, options.target)
    scale = _scale_like(options, slice_model)
    if slice_model.normalize == "slice":
        say("The model knows no range of volumes, but of each slice: their brightness may jump.")
    if slice_model.pixel_spacing is None:
        say("The model's pixel size is not known: slices are scaled to fit (see --pixel_spacing).")
    counts = dict.fromkeys(("written", "skipped", "failed"), 0)
    for number, path in enumerate(paths, 1):
        where = path.relative_to(source if source.is_dir() else source.parent)
        prefix = f"[{number}/{len(paths)}] {where}"
        results = {}
        for target in targets:
            ending = re.sub(r"[^\w.+-]+", "-", target or slice_model.signature)
            result = output / where.with_name(f"{_stem(where)}_{ending}.nii.gz")
            if options.overwrite or not result.exists():
                results[target] = result
        if not results:
            counts["skipped"] += 1
            say(f"{prefix}: skipped, its results are there (see --overwrite)")
            continue
        started = time.monotonic()
        try:
            beyond = _write_results(slice_model, path, where, results, options, scale)
        except (ValueError, OSError) as error:
            if options.on_error == "fail":
                raise
            counts["failed"] += 1
            say(f"{prefix}: failed: {error}")
            continue
        counts["written"] += 1
        names = ", ".join(result.name for result in results.values())
        say(f"{prefix}: {names} ({time.monotonic() - started:.1f} s)")
        if beyond:
            say(
                f"    {beyond:.1%} of its anatomy lies beyond the model's images and is 0 in the "
                "results; --pixel_spacing=0 scales slices to fit."
            )
    say(f"{output}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if counts["failed"] == len(paths):
        raise ValueError(f"None of the volumes in {source} could be used.")
    return counts


def _write_results(
    model: SliceModel,
    path: pathlib.Path,
    where: pathlib.Path,
    results: dict[str | None, pathlib.Path],
    options: Options,
    scale: Scale | None,
) -> float:
    """Translates one file to each target, and writes the results.

    Returns:
        Which part of its anatomy the model's images did not reach.
    """
    from tfdisent.volumes import read_nifti, write_nifti
    from tfdisent.volumes.planes import PLANES, through_planes

    volume = read_nifti(path, nan=options.nan, max_oblique=options.max_oblique)
    mask = _read_mask(options.mask, where, volume) if options.mask else None
    keeps = options.background == "keep"
    planes = {None: model.planes, "all": PLANES}.get(options.planes, (options.planes,))
    try:
        scan = normalized(volume.array, model, mask)
        for target, result in results.items():
            made = through_planes(
                scan.array,
                functools.partial(model.run, target=target),
                model.image_size,
                spacing=volume.spacing,
                pixel_spacing=model.pixel_spacing,
                planes=planes,
                fusion=options.fusion,
                mask=scan.inside if keeps else None,
                constant=scan.background,
                batch_size=options.batch_size,
            )
            made, beyond = finished(made, scan, model, scale, keeps)
            result.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(volume._replace(array=made), result, like=path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return beyond


# --- intensities ---


def normalized(array, model: SliceModel, mask=None) -> Scan:
    """A volume's intensities as in the model's training.

    Args:
        array: (S, H, W).
        model: as from `load_model`.
        mask: (S, H, W) bool, the brain; what is outside becomes the model's background first.

    Raises:
        ValueError: there is no anatomy.
    """
    import numpy as np
    from scipy import ndimage

    from tfdisent.volumes.preprocess import apply_mask, foreground

    if mask is None:
        anatomy, inside = foreground(array, model.foreground), array != 0
    else:
        array, anatomy, inside = apply_mask(array, mask, model.background), mask, mask
    scale = scale_of(array, anatomy, model)
    bounds = (-1, 1) if model.normalize in ("volume", "percentile") else (-np.inf, np.inf)
    scaled = (array.astype(np.float32) - np.float32(scale.zero)) / np.float32(scale.unit)
    background = float(np.clip((model.background - scale.zero) / scale.unit, *bounds))
    # Dark voxels inside the brain are no background.
    return Scan(scaled.clip(*bounds), background, anatomy, ndimage.binary_fill_holes(inside))


def finished(made, scan: Scan, model: SliceModel, scale: Scale | None, keeps_background: bool):
    """What `through_planes` made, with values and background as they are written.

    Returns:
        (S, H, W) float32, and which part of the anatomy was not reached and is 0.
    """
    import numpy as np

    zero, unit = scale or (Scale(0.0, 1.0) if model.normalize == "zscore" else Scale(0.5, 0.5))
    unreached = np.isnan(made)
    made = made * np.float32(unit) + np.float32(zero)
    made[unreached | ~scan.inside if keeps_background else unreached] = 0
    beyond = np.count_nonzero(unreached & scan.anatomy) / np.count_nonzero(scan.anatomy)
    return made, float(beyond)


def scale_of(array, anatomy, model: SliceModel) -> Scale:
    """How a model's training would have normalised a volume, by statistics inside its anatomy."""
    from tfdisent.intensity import INTENSITY, volume_statistics

    if not anatomy.any():
        raise ValueError(
            "it is all background. Expected anatomy where the volume (or its mask) is not 0, or, "
            "with --foreground=otsu, above a threshold."
        )
    found = dict(zip(INTENSITY, volume_statistics(array, anatomy).tolist(), strict=True))
    if model.normalize == "zscore":
        return Scale(found["mean"], max(found["std"], 1e-6))
    low, high = found["min"], found["max"]
    if model.normalize == "percentile":
        low, high = found["percentile_0.5"], found["percentile_99.5"]
    elif model.normalize == "volume" and model.is_uint8:
        low, high = 0.0, 255.0
    return Scale((low + high) / 2, max((high - low) / 2, 5e-7))


def _scale_like(options: Options, model: SliceModel) -> Scale | None:
    """The scale of the volume that results are to be like."""
    if options.like is None:
        if options.like_mask is not None:
            raise ValueError("--like_mask is the mask of --like: give that too.")
        return None
    from tfdisent.volumes import read_nifti
    from tfdisent.volumes.preprocess import foreground

    volume = read_nifti(options.like, nan=options.nan, max_oblique=90)
    if options.like_mask is None:
        anatomy = foreground(volume.array, model.foreground)
    else:
        anatomy = _read_mask(options.like_mask, pathlib.Path(options.like), volume)
    try:
        return scale_of(volume.array, anatomy, model)
    except ValueError as error:
        raise ValueError(f"{options.like}: {error}") from error


# --- the model ---


def load_model(
    path: str | os.PathLike,
    *,
    modalities: Sequence[str] = (),
    normalize: str | None = None,
    foreground: str | None = None,
    pixel_spacing: float | None = None,
) -> SliceModel:
    """The default signature of an export, with what its `card.json` says; arguments come first.

    Of the card it reads `signatures` (the first is taken), of `config` (or else `data`)
    `modalities` and `normalize`, and of `data` `pixel_spacing` (millimetres of the model's pixels,
    one number or two), `foreground`, `background`, `planes` (whose slices it was trained on) and `image_dtype`.

    Args:
        path: folder of the SavedModel, or of its versions, of which the highest is taken.
        modalities: names of the targets.
        normalize: one of `NORMALIZATIONS`.
        foreground: "nonzero" or "otsu".
        pixel_spacing: millimetres, 0 to scale slices to fit.

    Raises:
        OSError: not a SavedModel, or damaged.
        ValueError: its default signature is not from images of one channel to such images, or
            the card lacks something that was not given either.
    """
    path = _version_folder(pathlib.Path(path))
    card = _card(path)
    config, data = card.get("config", {}), card.get("data", {})
    normalize = normalize or config.get("normalize") or data.get("normalize")
    if normalize not in NORMALIZATIONS:
        said = "says" if normalize else "does not say"
        raise ValueError(
            f"The card of {path} {said} how intensities were normalised in training (config.normalize"
            f"{f' is {normalize!r}' if normalize else ''}). Give --normalize={'|'.join(NORMALIZATIONS)}."
        )
    import numpy as np
    import tensorflow as tf

    try:
        saved = tf.saved_model.load(str(path))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{path} is a damaged SavedModel ({reason}). Export it again.") from error
    name = next(iter(card.get("signatures", {})), "serving_default")
    function, image_size, num_targets = _image_to_image(path, saved, name)

    def run(images, target=None):
        if normalize == "slice":
            low, high = (f(images, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
            images = 2 * (images - low) / np.maximum(high - low, 1e-6) - 1
        inputs = {"image": tf.constant(images[..., None], tf.float32)}
        if targets:
            inputs["target"] = tf.one_hot([targets.index(target)] * len(images), len(targets))
        try:
            return function(**inputs)["image"][..., 0].numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise OSError(f"There is no memory for {len(images)} slices. Lower --batch_size.") from error
        except tf.errors.OpError as error:
            raise OSError(f"{path} stopped: {error.message.partition(chr(10))[0]}") from error

    names = modalities or config.get("modalities") or data.get("modalities") or ()
    targets = _targets(path, names, num_targets)
    if pixel_spacing is None:
        pixel_spacing = data.get("pixel_spacing")
    return SliceModel(
        run=run,
        signature=name,
        image_size=image_size,
        targets=targets,
        normalize=normalize,
        foreground=foreground or data.get("foreground", "nonzero"),
        is_uint8=data.get("image_dtype") == "uint8",
        pixel_spacing=_pair(path, pixel_spacing) if pixel_spacing else None,
        planes=tuple(data.get("planes", ("axial",))),
        background=float(data.get("background", 0.0)),
    )


def chosen_targets(model: SliceModel, names: Sequence[str]) -> tuple[str | None, ...]:
    """The targets of these names, each once; (None,) of a model that does not ask for one."""
    if not model.targets:
        if names:
            raise ValueError(f"Leave out --target={names[0]}: the model's {model.signature} has no targets.")
        return (None,)
    known = ", ".join(model.targets)
    if not names:
        raise ValueError(f"Give --target, once or more often, of {known}; or --target=all.")
    if "all" in names and "all" not in model.targets:
        names = model.targets
    if unknown := [name for name in names if name not in model.targets]:
        raise ValueError(f"Unknown --target={unknown[0]}. The model was trained on {known}.")
    return tuple(dict.fromkeys(names))


def _version_folder(path: pathlib.Path) -> pathlib.Path:
    if (path / "saved_model.pb").is_file():
        return path
    versions = [p for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    if not versions:
        raise FileNotFoundError(
            f"{path} is not a SavedModel: it has no saved_model.pb, nor has a version in it. Give "
            "--model a folder as of saved_models/, which every training command writes."
        )
    return max(versions, key=lambda p: int(p.parent.name)).parent


def _card(path: pathlib.Path) -> dict:
    """What card.json says; nothing if there is none, as of models from elsewhere."""
    try:
        card = json.loads((path / "card.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path / 'card.json'} is damaged ({error}). Export it again.") from error
    parts = ("data", "config", "signatures")
    if not isinstance(card, dict) or not all(isinstance(card.get(p, {}), dict) for p in parts):
        raise ValueError(f"{path / 'card.json'} is not a model's card. Export the model again.")
    return card


def _image_to_image(path: pathlib.Path, saved, name: str):
    """The signature, the size of its images, and the number of its targets."""
    signatures = getattr(saved, "signatures", {})
    offers = "; ".join(
        f"{key}({', '.join(sorted(_inputs(function)))}) -> {', '.join(sorted(function.structured_outputs))}"
        for key, function in signatures.items()
        if key != "serving_default" or len(signatures) == 1
    )
    if name not in signatures:
        raise ValueError(f"{path} has no signature {name!r}. It offers: {offers or 'none'}.")
    function = signatures[name]
    inputs, outputs = _inputs(function), function.structured_outputs
    if not {"image"} <= set(inputs) <= {"image", "target"} or "image" not in outputs:
        raise ValueError(
            f"The default signature of {path} does not turn images into images: expected image, and "
            f"target at most, to image. It offers: {offers}."
        )
    shape, made = (tuple(tensor.shape[1:]) for tensor in (inputs["image"], outputs["image"]))
    if len(shape) != 3 or None in shape or shape[-1] != 1 or made != shape:
        raise ValueError(
            f"{name} of {path} turns images of shape {shape} into {made}, expected one size of one "
            "channel, as (128, 128, 1). Volumes of several modalities or with neighbouring slices "
            "as channels are not for this command."
        )
    num_targets = inputs["target"].shape[-1] if "target" in inputs else 0
    return function, shape[:2], num_targets


def _inputs(function) -> dict:
    return function.structured_input_signature[1]


def _targets(path: pathlib.Path, names: Sequence[str], count: int) -> tuple[str, ...]:
    if count and len(names) != count:
        said = ", ".join(map(str, names)) or "none"
        raise ValueError(
            f"{path} translates to {count} modalities, and the names given for them are: {said}. "
            "Give --modalities=NAME,NAME,... in the order of training."
        )
    return tuple(map(str, names[:count]))


def _pair(path: pathlib.Path, pixel_spacing) -> tuple[float, float]:
    numbers = pixel_spacing if isinstance(pixel_spacing, list | tuple) else [pixel_spacing] * 2
    valid = all(isinstance(n, int | float) and 0 < n < 1000 for n in numbers)
    if len(numbers) != 2 or not valid:
        raise ValueError(
            f"The card of {path} has data.pixel_spacing {pixel_spacing!r}, expected millimetres. Give --pixel_spacing."
        )
    return float(numbers[0]), float(numbers[1])


# --- files ---


def find_volumes(source: pathlib.Path, output: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """The NIfTI files to work on; hidden ones and those in `output` are left out.

    Raises:
        OSError: there is no such file or folder, or no such volume in it.
        ValueError: results would come to lie among the inputs, or two of one name.
    """
    if not source.exists():
        raise FileNotFoundError(f"--input={source} does not exist.")
    folder = source if source.is_dir() else source.parent
    if output.resolve() in (source.resolve(), folder.resolve()):
        raise ValueError(
            f"--output={output} is the input, or its folder. Give a folder of its own, so that no "
            "result is taken for a scan."
        )
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output={output} is a file. Give a folder.")
    if source.is_file():
        return [source]
    done = output.resolve()
    found = [
        path
        for path in sorted(source.rglob(pattern))
        if path.name.endswith((".nii", ".nii.gz"))
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and done not in path.resolve().parents
    ]
    if not found:
        raise FileNotFoundError(f"No .nii or .nii.gz file in {source} is named as --pattern={pattern!r}.")
    names: dict[pathlib.Path, pathlib.Path] = {}
    for path in found:
        other = names.setdefault(path.with_name(_stem(path)), path)
        if other != path:
            raise ValueError(f"Results of {other} and {path} would have one name. Rename one.")
    return found


def _make_folder(output: pathlib.Path) -> None:
    """Makes the folder, and finds out now whether it can be written to."""
    probe = output / f".{os.getpid()}.probe"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"Cannot write to --output={output}: {error}.") from error


def _read_mask(masks: str | os.PathLike, where: pathlib.Path, volume):
    """The mask of a volume as bool (S, H, W), checked to lie on its grid."""
    from tfdisent.volumes import grid_difference, read_nifti

    path = pathlib.Path(masks)
    if path.is_dir():
        names = [where.with_name(_stem(where) + ending) for ending in (".nii.gz", ".nii")]
        path = next((path / name for name in names if (path / name).is_file()), path / where)
    mask = read_nifti(path, labels=True, max_oblique=90)
    if problem := grid_difference(mask.array.T.shape, mask.affine, volume.array.T.shape, volume.affine):
        raise ValueError(f"The mask {path} is not on the grid of {where}: {problem}.")
    return mask.array > 0


def _stem(path: pathlib.Path) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", path.name)


def say(message: str) -> None:
    """A line of progress, at once."""
    print(message, flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
