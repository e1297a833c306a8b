"""Intensities of volumes as a model knows them from its training, and results as they are written."""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfdisent import intensity
from tfdisent.apply.cases import read_mask
from tfdisent.apply.model import SliceModel
from tfdisent.volumes import Volume, preprocess, read_nifti


class Scale(NamedTuple):
    """The intensity that is 0 to a model, and the difference from there that is 1."""

    zero: float
    unit: float


class Scan(NamedTuple):
    """A volume as a model sees it.

    Attributes:
        array: (S, H, W) float32; beyond the bounds of training what `SliceModel.run` will bound, in its own pixels.
        background: what the background of training is in it.
        anatomy: (S, H, W) bool, where it is not background by the model's rule, or inside its mask.
        inside: (S, H, W) bool, where there is no background.
    """

    array: np.ndarray
    background: float
    anatomy: np.ndarray
    inside: np.ndarray


class Stack(NamedTuple):
    """The inputs of a case as a model sees them.

    Attributes:
        array: (S, H, W, C) float32.
        background: C numbers, of each input what the background of training is in it.
        available: C of 1 and 0, whether each input is there.
        anatomy: (S, H, W) bool, of any input.
        inside: likewise.
    """

    array: np.ndarray
    background: tuple[float, ...]
    available: tuple[float, ...]
    anatomy: np.ndarray
    inside: np.ndarray


def normalized(volume: Volume, model: SliceModel, mask: np.ndarray | None = None) -> Scan:
    """A volume's intensities as in the model's training.

    Args:
        volume: (S, H, W).
        model: as from `load_model`.
        mask: (S, H, W) bool, the brain; what is outside becomes the model's background first.

    Raises:
        ValueError: there is no anatomy.
    """
    array = volume.array
    if mask is None:
        value = preprocess.background(array).value if model.foreground == "nonzero" else 0
        anatomy, inside = preprocess.foreground(array, model.foreground), array != value
        padding = value or model.background
    else:
        padding, anatomy, inside = model.background, mask, mask
        array = preprocess.apply_mask(array, mask, padding)
    scale = scale_of(volume._replace(array=array), model, mask)
    bounds = (-1, 1) if model.normalize in ("volume", "percentile") else (-np.inf, np.inf)
    scaled = (array.astype(np.float32) - np.float32(scale.zero)) / np.float32(scale.unit)
    background = float(np.clip((padding - scale.zero) / scale.unit, *bounds))
    # Dark voxels inside the brain are no background.
    return Scan(scaled, background, anatomy, ndimage.binary_fill_holes(inside))


def stacked(scans: Mapping[str, Scan], model: SliceModel) -> Stack:
    """The inputs of a case, {input: its scan}, in the order of the model's inputs.

    An input that is missing is filled with what it was in training: the lower end of the range, or 0 among z-scores.
    """
    filling = -1.0 if model.normalize in intensity.BOUNDED else 0.0
    some = next(iter(scans.values()))
    missing = np.broadcast_to(np.float32(filling), some.array.shape)
    return Stack(
        array=np.stack([scans[name].array if name in scans else missing for name in model.inputs], axis=-1),
        background=tuple(scans[name].background if name in scans else filling for name in model.inputs),
        available=tuple(float(name in scans) for name in model.inputs),
        anatomy=np.logical_or.reduce([scan.anatomy for scan in scans.values()]),
        inside=np.logical_or.reduce([scan.inside for scan in scans.values()]),
    )


def finished(
    made: np.ndarray, stack: Stack, model: SliceModel, scale: Scale | None, keeps_background: bool
) -> np.ndarray:
    """An image that `through_planes` made, (S, H, W), with values and background as they are written, float32."""
    zero, unit = scale or (Scale(0.0, 1.0) if model.normalize == "zscore" else Scale(0.5, 0.5))
    unreached = np.isnan(made)
    made = made * np.float32(unit) + np.float32(zero)
    made[unreached | ~stack.inside if keeps_background else unreached] = 0
    return made


def labelled(made: np.ndarray, stack: Stack, keeps_background: bool) -> np.ndarray:
    """The label map (S, H, W) of probabilities (S, H, W, K) that `through_planes` made: indices of the classes.

    Where no image reaches, or in the background that is kept, it is 0, the index of the background.
    """
    unreached = np.isnan(made[..., 0])
    found = made.argmax(axis=-1).astype(np.uint8 if made.shape[-1] <= 256 else np.int32)
    found[unreached | ~stack.inside if keeps_background else unreached] = 0
    return found


def beyond(made: np.ndarray, stack: Stack) -> float:
    """Which part of the anatomy the model's images did not reach, so that it is NaN in (S, H, W)."""
    return float(np.count_nonzero(np.isnan(made) & stack.anatomy) / np.count_nonzero(stack.anatomy))


def scale_of(volume: Volume, model: SliceModel, mask: np.ndarray | None = None) -> Scale:
    """How a model's training would have normalised a volume: by statistics of its anatomy, or inside its mask, in
    pixels of the model's size where that is known. Pixels of another size have other extremes.
    """
    if model.pixel_spacing:
        spacing = (*model.pixel_spacing, 0)
        if mask is not None:
            mask = preprocess.resample(volume._replace(array=mask), spacing, labels=True).array
        volume = preprocess.resample(volume, spacing)
    array = volume.array
    anatomy = preprocess.foreground(array, model.foreground) if mask is None else mask
    if not anatomy.any():
        raise ValueError(
            "it is all background. Expected anatomy where the volume (or its mask) is not 0, or, with "
            "--foreground=otsu, above a threshold."
        )
    statistics = intensity.volume_statistics(array, anatomy)
    return Scale(*map(float, intensity.scale(statistics, model.normalize, model.is_uint8)))


def scale_like(
    path: str | os.PathLike | None, mask: str | os.PathLike | None, model: SliceModel, nan: str = "fail"
) -> Scale | None:
    """The scale of the volume at `path`, inside its mask, which resulting images are given; None without one."""
    if path is None:
        if mask is not None:
            raise ValueError("--like_mask is the mask of --like: give that too.")
        return None
    path = pathlib.Path(path)
    volume = read_nifti(path, nan=nan, orientation=model.orientation, max_oblique=90)
    try:
        return scale_of(volume, model, None if mask is None else read_mask(mask, path, volume))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
