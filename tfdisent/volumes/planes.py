"""Whole volumes through functions of slices: in one plane, or in three that are fused.

    result = through_planes(volume, model, (128, 128), spacing=scan.spacing, pixel_spacing=1.6)

A model of slices sees each alone, so that what it makes may jump from one to the next. Seen in
another plane these jumps are streaks, which slices of that plane do not follow: the average of the
planes has a third of them (multi-view fusion, as Ren et al., IEEE TMI, name for `harmonize`). It
takes a model that knows slices of all three planes; one that was trained on axial ones alone may
do so much worse on the others that it is better to use `planes=("axial",)`.

Volumes are (S, H, W) in the order of `tfdisent.volumes.volume`: from inferior to superior, anterior
to posterior, right to left. Slices of each plane are shown as a radiologist sees them: axial ones
with anterior up, coronal and sagittal ones with superior up; the patient's right, or anterior, is
on the left.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from tfdisent.volumes.volume import Volume

# The volume's axes that a plane's slices, rows and columns run along.
_AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}
PLANES = tuple(_AXES)
FUSIONS = ("mean", "median")


def through_planes(
    volume: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    image_size: tuple[int, int],
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    pixel_spacing: float | tuple[float, float] | None = None,
    planes: Sequence[str] = PLANES,
    fusion: str = "mean",
    mask: np.ndarray | None = None,
    constant: float = -1.0,
    batch_size: int = 16,
    margin: float = 0.005,
) -> np.ndarray:
    """A function of slices, applied to all slices of a volume, in each plane, and fused.

    Slices are brought to square pixels of `pixel_spacing` by linear interpolation (antialiased
    where pixels are larger than voxels), cut or filled up around their middle to `image_size`, and
    the results brought back onto the voxels in the same way. Where voxel and pixel are of one size,
    nothing is interpolated, and a function that changes nothing gives the volume back exactly.

    "mean" weights each plane by its resolution: for each of the image's two axes by how much of a
    voxel one pixel is, at most 1. Coronal and sagittal slices of an axial scan with gaps of three
    pixels are interpolated to three times what was measured, and count a third of an axial one.
    It is the default, since it lessens independent errors most. "median" gives each of three planes
    one vote: it follows the other two where one plane fails, and lessens noise a little less.

    Args:
        volume: (S, H, W), float.
        function: (B, h, w) float32 -> (B, h, w), with B up to `batch_size`.
        image_size: h and w.
        spacing: millimetres along y, x and across slices, as `Volume.spacing`.
        pixel_spacing: millimetres of a pixel that `function` expects, or of its rows and columns.
            None: so that axial slices just fit into the image, and more where another plane needs
            it.
        planes: some of `PLANES`. Those whose slices have only one row or column (of a volume of one
            slice) are left out if there is another.
        fusion: of `FUSIONS`. Where fewer than three planes reach, it is the mean.
        mask: (S, H, W), bool: where an answer is wanted. Slices without are not computed. The image
            lies around the middle of the mask along axes where it would cut it off otherwise.
        constant: value of what is filled up around a slice.
        batch_size: slices at a time.
        margin: relative difference of voxel and pixel that is taken for none.

    Returns:
        (S, H, W) float32. Voxels that no plane reaches, in slices not computed or beyond the
        borders of the images, are NaN.

    Raises:
        ValueError: an argument is out of range, or `function` returns another shape or NaN.
    """
    _check(volume, image_size, spacing, pixel_spacing, planes, fusion, mask, batch_size)
    y, x, z = (float(step) for step in spacing)
    voxel = {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}
    chosen = [plane for plane in planes if min(as_slices(volume, plane).shape[1:]) > 1]
    results, weights = [], []
    for plane in chosen or planes:
        slices = as_slices(volume, plane).astype(np.float32, copy=False)
        wanted = np.ones(slices.shape, bool) if mask is None else as_slices(mask, plane)
        if pixel_spacing is None:
            pixel = max(
                _fitting(volume.shape[1:], voxel["axial"], image_size),
                _fitting(slices.shape[1:], voxel[plane], image_size),
            )
            pixels = (pixel, pixel)
        else:
            pixels = np.broadcast_to(np.asarray(pixel_spacing, float), 2).tolist()
        axes = [
            _Axis(length, ratio, size, needed, margin)
            for length, ratio, size, needed in zip(
                slices.shape[1:],
                [pixel / step for pixel, step in zip(pixels, voxel[plane], strict=True)],
                image_size,
                (wanted.any((0, 2)), wanted.any((0, 1))),
                strict=True,
            )
        ]
        result = _through_slices(slices, function, axes, wanted.any((1, 2)), constant, batch_size)
        results.append(_as_volume(result, plane))
        weights.append(math.prod(min(1.0, axis.ratio) for axis in axes))
    return _fused(results, weights, fusion)


def as_slices(volume: np.ndarray, plane: str) -> np.ndarray:
    """A view of a volume (S, H, W) as the slices of one of `PLANES`, (N, rows, columns)."""
    slices = volume.transpose(_AXES[plane])
    return slices if plane == "axial" else slices[:, ::-1]


def seen_in(volume: Volume, plane: str) -> Volume:
    """The volume whose slices are those of a plane, and its affine: a view, nothing is interpolated."""
    if plane == "axial":
        return volume
    columns = volume.affine[:3, :3].T[[2, 1, 0]]  # one for each of the array's axes
    across, rows, along = columns[list(_AXES[plane])]
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along, -rows, across], axis=1)
    affine[:3, 3] = volume.affine[:3, 3] + (len(volume.array) - 1) * rows
    return Volume(as_slices(volume.array, plane), affine)


def extent(values: Sequence[float], plane: str) -> tuple[float, float]:
    """Of the rows and the columns of a plane's slices, from values of the volume's axes S, H and W."""
    _, rows, columns = _AXES[plane]
    return values[rows], values[columns]


def slice_inconsistency(
    volume: np.ndarray, reference: np.ndarray, *, mask: np.ndarray | None = None, axis: int = 0
) -> float:
    """How differently a volume changes from slice to slice than the truth does.

    The mean of abs((v[k+1] - v[k]) - (r[k+1] - r[k])) over neighbouring voxels of two slices. An
    error that is the same in all slices leaves it 0; a gain of its own in each does not.

    Args:
        volume, reference: (S, H, W), on one grid and of one scale, which is the result's too.
        mask: (S, H, W), bool; both neighbours are inside.
        axis: across which slices: 0 for axial, 1 for coronal, 2 for sagittal ones.

    Raises:
        ValueError: the shapes differ, or there are no neighbours.
    """
    if volume.shape != reference.shape or (mask is not None and mask.shape != volume.shape):
        shapes = [array.shape for array in (volume, reference, mask) if array is not None]
        raise ValueError(f"Expected volumes of one shape, received {', '.join(map(str, shapes))}.")
    error = np.abs(np.diff(volume.astype(np.float64) - reference, axis=axis))
    if mask is not None:
        first, last = (np.arange(error.shape[axis]) + offset for offset in (0, 1))
        error = error[mask.take(first, axis) & mask.take(last, axis)]
    if not error.size:
        raise ValueError("Expected two neighbouring slices (inside the mask), received none.")
    return float(error.mean())


class _Axis:
    """One axis of slices, and of the images that they become.

    `ratio` is a pixel in voxels. `there` (pixels, voxels) and `back` (voxels, pixels) are the
    weights of the interpolation; their rows are 0 beyond the borders of what they interpolate,
    where `pixels_inside` and `voxels_inside` are False.
    """

    def __init__(self, length: int, ratio: float, size: int, needed: np.ndarray, margin: float):
        self.ratio = ratio = 1.0 if abs(ratio - 1) <= margin else ratio
        first = (length - 1) / 2 - (size - 1) / 2 * ratio
        ends = np.flatnonzero(needed)[[0, -1]] if needed.any() else (first, first)
        border = first - ratio / 2
        if ends[0] - 0.5 < border or ends[1] + 0.5 > border + size * ratio:
            first = (ends[0] + ends[1]) / 2 - (size - 1) / 2 * ratio
        if ratio == 1:
            first = int(first)  # whole voxels, cut and filled up as `preprocess.crop_or_pad` does
        pixels = first + np.arange(size) * ratio
        voxels = (np.arange(length) - first) / ratio
        self.there, self.pixels_inside = _linear(pixels, length, ratio)
        self.back, self.voxels_inside = _linear(voxels, size, 1 / ratio, self.pixels_inside)


def _linear(
    positions: np.ndarray, length: int, step: float, valid: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, length) that interpolate `length` values at fractional indices, `step` apart, and
    which of these lie inside. As in `tf.image.resize` with antialiasing, the kernel is a triangle,
    as wide as the steps where these are larger than 1, and ends are not mixed with what lies beyond
    them, nor with values that are not `valid`.
    """
    distance = np.abs(positions[:, None] - np.arange(length))
    weights = np.maximum(0, 1 - distance / max(1.0, step)) * valid
    total = weights.sum(1, keepdims=True)
    inside = (positions > -0.5 - 1e-6) & (positions < length - 0.5 + 1e-6) & (total[:, 0] > 0)
    weights = np.where(inside[:, None], weights / np.where(total, total, 1), 0)
    return weights.astype(np.float32), inside


def _fitting(shape: Sequence[int], voxel: Sequence[float], image_size: Sequence[int]) -> float:
    """The pixel, in millimetres, with which a slice just fits into an image."""
    return max(length * step / size for length, step, size in zip(shape, voxel, image_size, strict=True))


def _through_slices(
    slices: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    axes: Sequence[_Axis],
    wanted: np.ndarray,
    constant: float,
    batch_size: int,
) -> np.ndarray:
    """Slices (N, rows, columns) through `function`; NaN where there is no answer."""
    rows, columns = axes
    outside = constant * ~np.outer(rows.pixels_inside, columns.pixels_inside).astype(bool)
    unreached = ~np.outer(rows.voxels_inside, columns.voxels_inside)
    result = np.full(slices.shape, np.nan, np.float32)
    indices = np.flatnonzero(wanted)
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        images = rows.there @ slices[batch] @ columns.there.T + outside.astype(np.float32)
        answer = np.asarray(function(images))
        if answer.shape != images.shape:
            raise ValueError(
                f"Expected function to return images of shape {images.shape}, as it was given; received {answer.shape}."
            )
        if not np.isfinite(answer).all():
            raise ValueError("Expected function to return finite values, received NaN or infinity.")
        result[batch] = rows.back @ answer.astype(np.float32, copy=False) @ columns.back.T
        result[batch[:, None], unreached] = np.nan
    return result


def _as_volume(slices: np.ndarray, plane: str) -> np.ndarray:
    """Undoes `as_slices`."""
    slices = slices if plane == "axial" else slices[:, ::-1]
    return slices.transpose(np.argsort(_AXES[plane]))


def _fused(results: list[np.ndarray], weights: list[float], fusion: str) -> np.ndarray:
    """Volumes with NaN where they have no answer, as one."""
    if len(results) == 1:
        return np.ascontiguousarray(results[0])
    # A running mean, which leaves values that agree as they are.
    fused, total = np.zeros((2, *results[0].shape), np.float32)
    for result, weight in zip(results, weights, strict=True):
        there = np.isfinite(result)
        total += np.float32(weight) * there
        share = np.divide(np.float32(weight), total, out=np.zeros_like(total), where=there)
        fused += share * np.where(there, result - fused, np.float32(0))
    fused[total == 0] = np.nan
    if fusion == "median" and len(results) == 3:
        one, two, three = results
        middle = np.maximum(np.minimum(one, two), np.minimum(np.maximum(one, two), three))
        np.copyto(fused, middle, where=np.isfinite(middle))
    return fused


def _check(volume, image_size, spacing, pixel_spacing, planes, fusion, mask, batch_size) -> None:
    if volume.ndim != 3 or volume.dtype.kind != "f" or not volume.size:
        raise ValueError(f"Expected a volume (S, H, W) of floats, received {volume.shape} of {volume.dtype}.")
    if mask is not None and (mask.shape != volume.shape or mask.dtype != bool):
        raise ValueError(
            f"Expected a mask of bool on the volume's grid {volume.shape}, received {mask.dtype} of {mask.shape}."
        )
    if len(image_size) != 2 or min(image_size) < 1 or batch_size < 1:
        raise ValueError(
            f"Expected image_size of two numbers of pixels and batch_size >= 1, received {image_size} and {batch_size}."
        )
    if len(spacing) != 3 or not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"Expected spacing of three positive numbers of millimetres, received {spacing}.")
    if pixel_spacing is not None and not all(0 < step < math.inf for step in np.atleast_1d(pixel_spacing)):
        raise ValueError(f"Expected pixel_spacing to be positive millimetres or None, received {pixel_spacing}.")
    if not planes or not set(planes) <= set(PLANES) or len(set(planes)) < len(planes):
        raise ValueError(f"Expected planes among {', '.join(PLANES)}, received {planes}.")
    if fusion not in FUSIONS:
        raise ValueError(f"Expected fusion to be one of {', '.join(FUSIONS)}, received {fusion!r}.")
