"""A SavedModel that turns slices into slices, and what its card says of it."""

import json
import os
import pathlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdisent.familiarity import Familiar
from tfdisent.intensity import BOUNDED, NORMALIZATIONS, divisor
from tfdisent.messages import without_startup_noise

# TensorFlow is imported where it is used, since it takes seconds.

KINDS = ("image", "labels")
MISSING = "missing"  # the target that stands for those inputs that a case lacks


class Output(NamedTuple):
    """What a model makes.

    Attributes:
        kind: "image", or "labels" for probabilities of classes.
        names: of the classes, of which the first is the background; of an image the modalities that it may be in.
        per_target: whether it is another one for each target; if not, it is made and written once.
    """

    kind: str
    names: tuple[str, ...] = ()
    per_target: bool = True

    @property
    def channels(self) -> int:
        """Number of its channels: one for an image, one a class for labels."""
        return len(self.names) if self.kind == "labels" else 1


class SliceModel(NamedTuple):
    """A signature of a SavedModel, and what its card says of it.

    Attributes:
        run: (stack (B, h, w, C), target=None, available=None) -> {output: (B, h, w, K)}; target is one of `targets`, or
            None; available says of each of the C inputs whether it is there, by default all are. Images are normalised
            by their volume; `run` bounds them as training did, and where it normalised by "slice", does so.
        signature: its name.
        image_size: h and w.
        inputs: names of the channels of a stack.
        outputs: {name: what it is}.
        targets: what it translates to; empty if it takes no target.
        takes_missing: whether inputs may be missing.
        normalize: one of `NORMALIZATIONS`.
        foreground: "nonzero" or "otsu": where volumes' intensity statistics are taken.
        is_uint8: whether images were stored as uint8, with the range 0 to 255.
        pixel_spacing: millimetres of its pixels along rows and columns, or None if not known.
        planes: the planes whose slices it was trained on.
        orientation: one of `tfdisent.volumes.ORIENTATIONS`: slices along the body's axes, or as acquired.
        background: the value outside of brain masks in training.
        familiar: training scans, which scans are compared to; None where the card has none.
    """

    run: Callable[..., dict[str, np.ndarray]]
    signature: str
    image_size: tuple[int, int]
    inputs: tuple[str, ...]
    outputs: dict[str, Output]
    targets: tuple[str, ...]
    takes_missing: bool
    normalize: str
    foreground: str = "nonzero"
    is_uint8: bool = False
    pixel_spacing: tuple[float, float] | None = None
    planes: tuple[str, ...] = ("axial",)
    orientation: str = "canonical"
    background: float = 0.0
    familiar: Familiar | None = None


def load_model(
    path: str | os.PathLike,
    *,
    modalities: Sequence[str] = (),
    normalize: str | None = None,
    foreground: str | None = None,
    pixel_spacing: float | None = None,
    orientation: str | None = None,
) -> SliceModel:
    """The default signature of an export, with what its `card.json` says; arguments take precedence over the card.

    A SavedModel is a program, and loading and running it may do anything that a program can: load only those whose
    origin you trust.

    Of the card it reads `signatures` (the first is taken), `inputs` and `outputs` (by default one image each), of
    `config` (or else `data`) `modalities` and `normalize`, and of `data` `pixel_spacing` (millimetres of the model's
    pixels, one number or two), `foreground`, `background`, `image_dtype`, and what slices it was trained on, `planes`
    and `orientation`; and `familiar`, see `tfdisent.familiarity`.

    The signature takes `image` (B, h, w, C), with a channel for each of the card's inputs; optionally `target`, one-hot
    codes (B, T); and optionally `available` (B, C), 1 for each input that is there and 0 for one that is missing. It
    returns the card's outputs: images (B, h, w, 1), and probabilities of the classes (B, h, w, K).

    Args:
        path: folder of the SavedModel, or of its versions, of which the highest is taken.
        modalities: names of the targets.
        normalize: one of `NORMALIZATIONS`.
        foreground: "nonzero" or "otsu".
        pixel_spacing: millimetres, 0 to scale slices to fit.
        orientation: "canonical" or "as_acquired".

    Raises:
        OSError: not a SavedModel, or damaged.
        ValueError: its default signature does not fit the card's inputs and outputs, or the card lacks something that
            was not given either.
    """
    path = _version_folder(pathlib.Path(path))
    card = _card(path)
    config, data = card.get("config", {}), card.get("data", {})
    normalize = _normalization(path, normalize or config.get("normalize") or data.get("normalize"))
    inputs, outputs = _inputs_and_outputs(path, card)
    name = next(iter(card.get("signatures", {})), "serving_default")
    function = _function(path, _saved(path), name, outputs)
    image_size = _image_size(path, name, function, inputs, outputs)
    taken = _tensors(function)
    declared = next((output.names for output in outputs.values() if output.kind == "image" and output.names), ())
    names = modalities or declared or config.get("modalities") or data.get("modalities") or ()
    targets = _targets(path, names, taken["target"].shape[-1] if "target" in taken else 0)
    if pixel_spacing is None:
        pixel_spacing = data.get("pixel_spacing")
    return SliceModel(
        run=_runner(path, function, tuple(outputs), targets, normalize),
        signature=name,
        image_size=image_size,
        inputs=inputs,
        outputs=outputs,
        targets=targets,
        takes_missing="available" in taken,
        normalize=normalize,
        foreground=foreground or data.get("foreground", "nonzero"),
        is_uint8=data.get("image_dtype") == "uint8",
        pixel_spacing=_pair(path, pixel_spacing) if pixel_spacing else None,
        planes=tuple(data.get("planes", ("axial",))),
        orientation=orientation or data.get("orientation", "canonical"),
        background=float(data.get("background", 0.0)),
        familiar=_familiar(path, card),
    )


def chosen_targets(model: SliceModel, names: Sequence[str]) -> tuple[str | None, ...]:
    """The targets of these names, each once; (None,) for a model that takes no target, or, where none is named, for
    what a model makes whatever the target. "missing" stays as it is, see `targets_of`.
    """
    if not model.targets:
        if names:
            raise ValueError(f"Leave out --target={names[0]}: the model's {model.signature} has no targets.")
        return (None,)
    known = ", ".join(model.targets)
    if not names and any(not output.per_target for output in model.outputs.values()):
        return (None,)
    if not names:
        raise ValueError(f"Give --target, once or more often, of {known}; or --target=all.")
    if MISSING in names and MISSING not in model.targets:
        if len(names) > 1 or not set(model.targets) <= set(model.inputs):
            raise ValueError(
                f"--target={MISSING} stands alone, for a model whose targets are among its inputs. This one takes "
                f"{', '.join(model.inputs)}; name targets of {known}."
            )
        return (MISSING,)
    if "all" in names and "all" not in model.targets:
        names = model.targets
    if unknown := [name for name in names if name not in model.targets]:
        raise ValueError(f"Unknown --target={unknown[0]}. The model was trained on {known}.")
    return tuple(dict.fromkeys(names))


def targets_of(model: SliceModel, chosen: tuple[str | None, ...], given: Container[str]) -> tuple[str | None, ...]:
    """The targets of a case of which inputs are `given`: those that were chosen, or, of "missing", the others.

    The first stands for what is made whatever the target, and is None where nothing else is wanted.
    """
    if chosen != (MISSING,) or MISSING in model.targets:
        return chosen
    return tuple(name for name in model.targets if name not in given) or (None,)


def _runner(
    path: pathlib.Path, function: Any, outputs: Sequence[str], targets: Sequence[str], normalize: str
) -> Callable[..., dict[str, np.ndarray]]:
    """The signature as `SliceModel.run`."""
    import tensorflow as tf

    takes_available = "available" in _tensors(function)

    def run(stack, target=None, available=None):
        given = {"image": tf.constant(as_trained(stack, normalize), tf.float32)}
        if targets:
            index = targets.index(target) if target else 0  # any, for what is made whatever the target
            given["target"] = tf.one_hot([index] * len(stack), len(targets))
        if takes_available:
            available = np.ones(stack.shape[-1]) if available is None else available
            given["available"] = tf.constant(np.tile(available, (len(stack), 1)), tf.float32)
        try:
            made = function(**given)
            return {name: made[name].numpy() for name in outputs}
        except tf.errors.ResourceExhaustedError as error:
            raise OSError(f"There is not enough memory for {len(stack)} slices. Lower --batch_size.") from error
        except tf.errors.OpError as error:
            raise OSError(f"{path} stopped: {error.message.partition(chr(10))[0]}") from error

    return run


def as_trained(stack: np.ndarray, normalize: str) -> np.ndarray:
    """Slices (B, h, w, C) of a normalised volume as training saw them: bounded, or normalised one by one."""
    if normalize == "slice":
        low, high = (f(stack, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
        return 2 * (stack - low) / divisor(high - low, low, high) - 1
    return np.clip(stack, -1, 1) if normalize in BOUNDED else stack


# --- the card ---


def _version_folder(path: pathlib.Path) -> pathlib.Path:
    if (path / "saved_model.pb").is_file():
        return path
    versions = [p for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    if not versions:
        raise FileNotFoundError(
            f"{path} is not a SavedModel: it has no saved_model.pb, nor has a version in it. Give --model a folder of "
            "saved_models/, to which every training command writes."
        )
    return max(versions, key=lambda p: int(p.parent.name)).parent


def _card(path: pathlib.Path) -> dict:
    """What card.json says; {} if there is none, as for models from elsewhere."""
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


def _familiar(path: pathlib.Path, card: dict) -> Familiar | None:
    """The training scans that the card describes, if it does."""
    if "familiar" not in card:
        return None
    try:
        return Familiar.from_card(card["familiar"])
    except ValueError as error:
        raise ValueError(f"In the card of {path} familiar is damaged: {error}. Export the model again.") from None


def _normalization(path: pathlib.Path, name: str | None) -> str:
    if name in NORMALIZATIONS:
        return name
    problem = (
        f"In the card of {path} the normalisation of training (config.normalize) is {name!r}: it is unknown."
        if name
        else f"The card of {path} does not say how intensities were normalised in training (config.normalize)."
    )
    raise ValueError(f"{problem} Give --normalize={'|'.join(NORMALIZATIONS)}.")


def _inputs_and_outputs(path: pathlib.Path, card: dict) -> tuple[tuple[str, ...], dict[str, Output]]:
    """What the card says of inputs and outputs; older cards say nothing, of models from one image to one image."""
    inputs = card.get("inputs", ["image"])
    outputs = card.get("outputs", {"image": {"kind": "image"}})
    if not _are_names(inputs) or not inputs:
        raise ValueError(
            f"The card of {path} has inputs {inputs!r}, expected a list of different names. Export the model again."
        )
    if not isinstance(outputs, Mapping) or not outputs or not all(map(_is_output, outputs.values())):
        raise ValueError(
            f"The card of {path} has outputs {outputs!r}, expected {{name: {{'kind': 'image' or 'labels', 'names': "
            "[...], 'per_target': true or false}}, with two names or more for labels. Export the model again."
        )
    return tuple(inputs), {
        name: Output(output["kind"], tuple(output.get("names", ())), output.get("per_target", True))
        for name, output in outputs.items()
    }


def _is_output(output: Any) -> bool:
    if not isinstance(output, Mapping) or output.get("kind") not in KINDS or not _are_names(output.get("names", [])):
        return False
    if not isinstance(output.get("per_target", True), bool):
        return False
    return output["kind"] == "image" or len(output.get("names", [])) > 1


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names)


def _targets(path: pathlib.Path, names: Sequence[str], count: int) -> tuple[str, ...]:
    if count and len(names) != count:
        said = ", ".join(map(str, names)) or "none"
        raise ValueError(
            f"{path} translates to {count} modalities, and the names given for them are: {said}. Give "
            "--modalities=NAME,NAME,... in the order of training."
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


# --- the signature ---


def _saved(path: pathlib.Path) -> Any:
    """What TensorFlow loads from the folder of a SavedModel."""
    with without_startup_noise():
        import tensorflow as tf

    try:
        return tf.saved_model.load(str(path))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise OSError(f"{path} is a damaged SavedModel ({reason}). Export it again.") from error


def _function(path: pathlib.Path, saved: Any, name: str, outputs: Mapping[str, Output]) -> Any:
    """The signature of this name, which turns images into the outputs."""
    signatures = getattr(saved, "signatures", {})
    offers = "; ".join(
        f"{key}({', '.join(sorted(_tensors(function)))}) -> {', '.join(sorted(function.structured_outputs))}"
        for key, function in signatures.items()
        if key != "serving_default" or len(signatures) == 1
    )
    if name not in signatures:
        raise ValueError(f"{path} has no signature {name!r}. It offers: {offers or 'none'}.")
    function = signatures[name]
    fits = {"image"} <= set(_tensors(function)) <= {"image", "target", "available"}
    if not fits or not set(outputs) <= set(function.structured_outputs):
        raise ValueError(
            f"The default signature of {path} does not turn images into images: expected image, with target and "
            f"available at most, to {', '.join(outputs)}. It offers: {offers}."
        )
    return function


def _tensors(function: Any) -> dict:
    """The named inputs of a signature."""
    return function.structured_input_signature[1]


def _image_size(
    path: pathlib.Path, name: str, function: Any, inputs: Sequence[str], outputs: Mapping[str, Output]
) -> tuple[int, int]:
    """Height and width of the signature's images, whose shapes are as the card says."""
    shape = tuple(_tensors(function)["image"].shape[1:])
    made = {key: tuple(function.structured_outputs[key].shape[1:]) for key in outputs}
    size = shape[:2]
    fits = len(shape) == 3 and None not in shape and shape[2] == len(inputs)
    if not fits or any(made[key] != (*size, output.channels) for key, output in outputs.items()):
        raise ValueError(
            f"{name} of {path} turns images of shape {shape} into {', '.join(map(str, made.values()))}, expected one "
            f"size, and one channel for each input ({', '.join(inputs)}), image and class that its card names. Export "
            "the model with its inputs and outputs in the card."
        )
    vector = _tensors(function).get("available")
    if vector is not None and tuple(vector.shape[1:]) != (len(inputs),):
        raise ValueError(
            f"{name} of {path} takes available of shape {tuple(vector.shape[1:])}, expected ({len(inputs)},): one "
            "number for each input. Export the model again."
        )
    return size
