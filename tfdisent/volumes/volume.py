"""A volume: an array of one fixed orientation with its place in the patient, and what every reader checks of it.

Two orientations: "canonical" turns and mirrors the axes to the nearest ones of the body, and `max_oblique` bounds how
far they are from these; "as_acquired" keeps the slices, rows and columns of the file, for stacks that follow an organ
(cardiac short axis). Nothing is interpolated in either: the affine says how the slices lie.

Values are kept in the smallest type that holds them exactly: int16 stays int16, float64 becomes float32. What a header
promises is compared with what the file can hold before any memory is taken. Bad input is a ValueError or OSError that
names the file, the cause and the fix. No text of a header (names, dates, descriptions) reaches a volume or an error.
"""

import contextlib
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from nibabel import orientations

MAX_GIGABYTES = 1.0  # of a file's voxels, unpacked, in the type of the file
MAX_OBLIQUE = 20.0  # degrees
ORIENTATIONS = ("canonical", "as_acquired")
LPS = orientations.axcodes2ornt("LPS")  # the canonical order of axes, as nibabel describes it
GET_IT_AGAIN = "Get the file again."


class Volume(NamedTuple):
    """One scan.

    `array` is (S, H, W). From `read_nifti`, `read_volume` and `canonical` its slices run from inferior to superior, its
    rows from anterior to posterior, and its columns from the patient's right to left, unless it was read as acquired.
    `affine` (4, 4) takes (column, row, slice) indices to millimetres right, anterior and superior, as nibabel's does.
    `files` are a DICOM series' files in the order of the slices.
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
    def directions(self) -> np.ndarray:
        """(3, 3) float32: unit vectors (right, anterior, superior) along which columns, rows and slices are counted."""
        axes = self.affine[:3, :3]
        return (axes / np.sqrt((axes**2).sum(0))).T.astype(np.float32)

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
    return _turned(volume, orientations.ornt_transform(orientations.io_orientation(volume.affine), LPS))


def canonical_header(header: Header) -> Header:
    """What `canonical` makes of the volume that a header promises."""
    turn = orientations.ornt_transform(orientations.io_orientation(header.affine), LPS)
    shape = np.array(header.shape[::-1])
    x, y, z = shape[np.argsort(turn[:, 0])].tolist()
    return header._replace(shape=(z, y, x), affine=header.affine @ orientations.inv_ornt_aff(turn, shape))


def aligned(volume: Volume, affine: np.ndarray) -> Volume:
    """The volume with its axes in the order and direction of those of `affine` (4, 4), to which they are parallel."""
    return _turned(volume, turn_between(volume.affine, affine))


def turn_between(affine: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How axes of one affine become those of another, as nibabel describes it. It is told by the axes themselves, not
    by those of the body that they are near to, so that it holds at any angle.
    """
    return orientations.io_orientation(np.linalg.inv(other) @ affine)


def _turned(volume: Volume, turn: np.ndarray) -> Volume:
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


def check_size(path: pathlib.Path, shape: Iterable[int], itemsize: float, max_gigabytes: float) -> None:
    """Raises ValueError where voxels that a header promises are none, or more than are allowed."""
    shape = tuple(shape)
    if min(shape) < 1:
        raise ValueError(f"{path} has the shape {shape}, expected 1 voxel or more along each axis. {GET_IT_AGAIN}")
    gigabytes = math.prod(shape) * itemsize / 1e9
    if gigabytes > max_gigabytes:
        raise ValueError(
            f"{path} has the shape {shape}, which takes {gigabytes:.3g} GB, at most {max_gigabytes:g} are read. Get it "
            "again if this is not its size; else raise max_gigabytes."
        )


@contextlib.contextmanager
def enough_memory(path: pathlib.Path) -> Iterator[None]:
    """Names the file where there is not enough memory for it."""
    try:
        yield
    except MemoryError as error:
        raise OSError(f"There is not enough memory to read {path}. Use fewer workers, or leave it out.") from error


def check_affine(path: pathlib.Path, affine: np.ndarray) -> None:
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    if not (np.isfinite(affine).all() and 0 < lengths.min() and lengths.max() < 1e4):
        raise ValueError(
            f"{path} has voxels of {tuple(lengths.tolist())} mm, expected positive numbers. Correct the affine in its "
            "header."
        )
    axes = affine[:3, :3] / lengths
    cosines = [float(axes[:, one] @ axes[:, other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    widest = max(cosines, key=abs)
    if abs(widest) > _MAX_COSINE:
        raise ValueError(
            f"{path} has axes at {math.degrees(math.acos(max(-1.0, min(1.0, widest)))):.1f} degrees, expected right "
            "angles: its gantry was tilted, or an affine registration is in its header. Resample it, e.g. with "
            "nibabel.processing.resample_to_output."
        )


_MAX_COSINE = 0.02  # between axes: about a degree, which headers lose by rounding


def check_orientation(orientation: str) -> None:
    if orientation not in ORIENTATIONS:
        raise ValueError(f"Expected orientation to be one of {', '.join(ORIENTATIONS)}, received {orientation!r}.")


def check_oblique(path: pathlib.Path, affine: np.ndarray, max_oblique: float) -> None:
    """Raises ValueError where axes are farther than `max_oblique` degrees from the ones of the body."""
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(0))
    nearest = orientations.io_orientation(affine)[:, 0].astype(int)
    angle = math.degrees(math.acos(min(1.0, np.abs(axes[nearest, range(3)]).min())))
    if angle > max_oblique:
        raise ValueError(
            f"{path} is oblique: its axes are {angle:.0f} degrees off those of the body, at most {max_oblique:.0f} are "
            "allowed. orientation=as_acquired takes its own slices, as they are; or resample it onto the body's axes, "
            f"e.g. with nibabel.processing.resample_to_output. (max_oblique={math.ceil(angle)} would cut it along "
            "whichever of its axes is nearest, maybe across its slices.)"
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
