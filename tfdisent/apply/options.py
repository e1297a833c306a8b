"""How a model is applied to volumes; the command's flags are made from it."""

import dataclasses
import os
from typing import Any

from tfdisent.intensity import NORMALIZATIONS


def _option(default: Any, text: str, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, **more})


@dataclasses.dataclass(frozen=True)
class Options:
    """How volumes are chosen, read, translated and written, and what a card lacks; each field is a flag of the command.

    Each field's metadata holds its `help`, and where there are any its `choices`, its `minimum`, or `commas` for names
    that are given as one text.
    """

    target: tuple[str, ...] = _option(
        (),
        "Modality to translate to; may be repeated; 'all' is all that it knows, 'missing' those that a case lacks. "
        "Without one a model that makes label maps too makes these alone.",
    )
    pattern: str = _option("*", "Names of the volumes in a folder, as 'T1*' or '*_t1.nii'.")
    masks_too: bool = _option(
        False, "Apply the model to masks and label maps in a folder too; by default they are left out."
    )
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
    on_error: str = _option(
        "skip",
        "What to do at a volume that cannot be used: go on with the others, list it, and end with exit status 1; or "
        "stop.",
        choices=("skip", "fail"),
    )
    nan: str = _option("fail", "Voxels that are not finite: an error, or set to 0.", choices=("fail", "zero"))
    orientation: str | None = _option(
        None,
        "Which slices the model sees: along the body's axes, or those of the file as acquired; by default what it was "
        "trained on.",
        choices=("canonical", "as_acquired"),
    )
    max_oblique: float = _option(
        20.0, "Largest angle in degrees between a volume's axes and the body's, where slices are along these."
    )
    max_gigabytes: float = _option(1.0, "Largest volume, unpacked, that is read.", minimum=0)
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
            if isinstance(field.default, tuple):  # one name is given as text, names as any sequence
                object.__setattr__(self, field.name, (value,) if isinstance(value, str) else tuple(value))
