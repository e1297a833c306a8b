"""A volume: an array of one fixed orientation with its place in the patient, and what every reader checks of it.

Axes are turned and mirrored to the nearest canonical ones; nothing is interpolated. A volume that was acquired
obliquely therefore stays oblique: its slices are those of the file, its affine says how they lie. `max_oblique` bounds
that angle.

Values are kept in the smallest type that holds them exactly: int16 stays int16, float64 becomes float32. What a header
promises is compared with what the file can hold before any memory is taken. Bad input is a ValueError or OSError that
names the file, the cause and the fix. No text of a header (names, dates, descriptions) reaches a volume or an error.
"""

import math
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from nibabel import orientations

MAX_VOXELS = 2**30  # of a file; more is taken for a damaged header
MAX_OBLIQUE = 20.0  # degrees
LPS = orientations.axcodes2ornt("LPS")  # the canonical order of axes, as nibabel describes it
GET_IT_AGAIN = "Get the file again."


class Volume(NamedTuple):
    """One scan.

    `array` is (S, H, W). From `read_nifti`, `read_volume` and `canonical` its slices run from inferior to superior, its
    rows from anterior to posterior, and its columns from the patient's right to left. `affine` (4, 4) takes (column,
    row, slice) indices to millimetres right, anterior and superior, as nibabel's does. `files` are a DICOM series'
    files in the order of the slices.
    """

    array: np.ndarray
    affine: np.ndarray
    files: tuple[pathlib.Path, ...] = ()

    @property
    def spacing(self) -> np.ndarray:
        """(3,) float32: millimetres along rows' (y) and columns' (x) direction, and across slices."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(0))
        return np.array([y, x, z], np.float32)

    @property
    def positions(self) -> np.ndarray:
        """(S,) float64: where the slices lie along their normal, in millimetres."""
        columns, rows, slices = self.affine[:3, :3].T
        normal = np.cross(columns, rows)
        normal *= np.sign(normal @ slices) / np.linalg.norm(normal)
        return normal @ self.affine[:3, 3] + np.arange(len(self.array)) * (normal @ slices)


class Header(NamedTuple):
    """What a volume will be, known without reading it: `shape` (S, H, W) and `affine` of the volume, and whether its
    type is one of whole numbers.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    is_integer: bool

    @property
    def spacing(self) -> np.ndarray:
        """(3,) float32: as `Volume.spacing`."""
        return Volume(np.empty(0), self.affine).spacing


def canonical(volume: Volume) -> Volume:
    """The volume with its axes turned to the nearest canonical ones: slices from inferior to superior, rows from
    anterior to posterior, columns from right to left.

    Label maps on the same grid follow with the same affine: `canonical(volume._replace(array=mask))`.
    """
    turn = orientations.ornt_transform(orientations.io_orientation(volume.affine), LPS)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.array.T.shape)
    array = orientations.apply_orientation(volume.array.T, turn).T
    # The files of the slices stay in order where the slices are still the first axis.
    files = volume.files[:: int(turn[2, 1])] if turn[2, 0] == 2 else ()
    return Volume(np.ascontiguousarray(array), affine, files)


def grid_difference(
    shape: tuple[int, ...],
    affine: np.ndarray,
    other_shape: tuple[int, ...],
    other_affine: np.ndarray,
) -> str:
    """How two grids differ, in words; empty when they are one to within a tenth of a voxel at each corner. Shapes are
    in the order of the affines' columns.
    """
    if tuple(shape) != tuple(other_shape):
        return f"its shape is {tuple(shape)}, expected {tuple(other_shape)}"
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in shape])).reshape(3, -1)
    moved = (affine - other_affine)[:3] @ np.vstack([corners, np.ones(8)])
    distance = np.sqrt((moved**2).sum(0)).max()
    voxel = np.sqrt((other_affine[:3, :3] ** 2).sum(0)).min()
    return "" if distance < 0.1 * voxel else f"its corners lie up to {distance:.3g} mm elsewhere"


def check_voxels(path: pathlib.Path, shape: Iterable[int]) -> None:
    shape = tuple(shape)
    if min(shape) < 1 or math.prod(shape) > MAX_VOXELS:
        raise ValueError(f"{path} has the shape {shape}, expected 1 to {MAX_VOXELS} voxels. {GET_IT_AGAIN}")


def check_affine(path: pathlib.Path, affine: np.ndarray) -> None:
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    if not (np.isfinite(affine).all() and 0 < lengths.min() and lengths.max() < 1e4):
        raise ValueError(
            f"{path} has voxels of {tuple(lengths.tolist())} mm, expected positive numbers. Correct the affine in its "
            "header."
        )
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.1:
        raise ValueError(f"{path} has an affine whose axes lie in a plane. Correct its header.")


def check_oblique(path: pathlib.Path, affine: np.ndarray, max_oblique: float) -> None:
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(0))
    cosines = np.abs(axes).max(0)
    angle = math.degrees(math.acos(min(1.0, cosines.min())))
    if angle > max_oblique:
        raise ValueError(
            f"{path} is oblique: its axes are {angle:.0f} degrees off the canonical ones, at most {max_oblique:.0f} "
            "are allowed. Raise max_oblique to take its slices as they are, or resample it, e.g. with "
            "nibabel.processing.resample_to_output."
        )


def in_smallest_type(path: pathlib.Path, array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """`array` times slope plus intercept, in this machine's byte order and in the smallest type that holds it: integers
    of up to 16 bits where whole numbers stay whole and fit, else float32.
    """
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
        raise ValueError(f"{path} has the scale {slope} x + {intercept}. {GET_IT_AGAIN}")
    is_scaled = (slope, intercept) != (1, 0)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a value that becomes infinite is found by `finite`
            if is_scaled:
                array = array * slope + intercept
            return array.astype(np.float32, copy=False)
    if not is_scaled and array.dtype.itemsize <= 2:
        return array
    if slope.is_integer() and intercept.is_integer():
        ends = [int(end) * int(slope) + int(intercept) for end in (array.min(), array.max())]
        for kind in (np.int16, np.uint16):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                if is_scaled:
                    array = array.astype(np.int64) * int(slope) + int(intercept)
                return array.astype(kind)
    # float64 between: the scale of 32-bit integers can be tiny and their values huge.
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


def finite(path: pathlib.Path, array: np.ndarray, nan: str) -> np.ndarray:
    if nan not in ("fail", "zero"):
        raise ValueError(f"Expected nan to be 'fail' or 'zero', received {nan!r}.")
    # A sum is finite only if all its terms are; the reverse holds unless it overflows.
    if array.dtype.kind != "f" or math.isfinite(array.sum(dtype=np.float64)):
        return array
    finite = np.isfinite(array)
    if nan == "zero":
        return np.where(finite, array, np.float32(0))
    raise ValueError(
        f"{path} has {array.size - np.count_nonzero(finite)} of {array.size} voxels that are not finite. Set them to 0 "
        "with nan=zero, or fix the file."
    )


def as_labels(path: pathlib.Path, array: np.ndarray) -> np.ndarray:
    """Whole numbers as uint8, or int32 where they need it. What was scaled may be off by rounding errors."""
    whole = array
    if array.dtype.kind == "f":
        whole = np.rint(finite(path, array, "fail"))
        if (distance := float(np.abs(whole - array).max())) > 1e-3:
            raise ValueError(
                f"{path} is not a label map: it has values {distance:.3g} away from whole numbers. Resample label maps "
                "by nearest neighbours."
            )
    if not (-(2**31) <= whole.min() and whole.max() < 2**31):
        raise ValueError(f"{path} is not a label map: it has values up to {whole.max()}.")
    fits = whole.min() >= 0 and whole.max() <= 255
    return whole.astype(np.uint8 if fits else np.int32, copy=False)
