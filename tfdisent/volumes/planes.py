"""Whole volumes through functions of slices: in one plane, or in three that are fused.

    result = through_planes(volume, model, (128, 128), spacing=scan.spacing, pixel_spacing=1.6)

A model of slices sees each slice alone, so its results may jump from one slice to the next. In another plane these
jumps are streaks across the slices, which a model does not reproduce there: the mean of three planes has a third of
them (multi-view fusion, which Ren et al., IEEE TMI, use for `harmonize`). The model must have been trained on slices of
all three planes; one that was trained on axial slices alone may do so much worse on the others that `planes=("axial",)`
is the better choice.

Volumes are (S, H, W) in the order of `tfdisent.volumes.volume`: from inferior to superior, anterior to posterior, right
to left. Stacks of C volumes on one grid are (S, H, W, C). Slices of each plane are shown as a radiologist sees them:
axial ones with anterior up, coronal and sagittal ones with superior up; the patient's right, or anterior, is on the
left.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from tfdisent.volumes.preprocess import linear_weights
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
    """Applies a function of slices to all slices of a volume or stack, in each plane, and fuses the results.

    Slices are brought to square pixels of `pixel_spacing` by linear interpolation (antialiased where pixels are larger
    than voxels) and cropped or padded around their middle to `image_size`; the results are brought back onto the voxels
    in the same way. Where voxel and pixel have the same size, nothing is interpolated, and the identity gives the
    volume back exactly.

    "mean" weights each plane by its resolution: for each of the image's two axes by how much of a voxel one pixel is,
    at most 1. Coronal and sagittal slices of an axial scan with gaps of three pixels are interpolated to three times
    what was measured, and count a third of an axial one. It is the default, since it reduces independent errors most.
    "median" gives each of three planes one vote: it follows the other two where one plane fails, and reduces noise a
    little less. Channels are fused one by one, so that the mean of probabilities still sums to 1.

    Args:
        volume: (S, H, W), or a stack (S, H, W, C); floats.
        function: for a volume (B, h, w) float32 -> (B, h, w); for a stack (B, h, w, C) -> (B, h, w, K), with any number
            K of channels; B is at most `batch_size`.
        image_size: h and w.
        spacing: millimetres along y, x and across slices, as `Volume.spacing`.
        pixel_spacing: millimetres of a pixel that `function` expects, or of its rows and columns. None: so that axial
            slices just fit into the image, and larger where another plane needs it.
        planes: some of `PLANES`. Those whose slices have only one row or column (of a volume of one slice) are left out
            if there is another.
        fusion: one of `FUSIONS`. Where fewer than three planes reach a voxel, it is the mean.
        mask: (S, H, W), bool: where a result is wanted. Slices outside of it are not computed. Along axes where the
            image would cut the mask off, it is centred on the mask.
        constant: value of the padding around a slice; for a stack, one number or C of them.
        batch_size: slices at a time.
        margin: relative difference of voxel and pixel up to which nothing is interpolated.

    Returns:
        (S, H, W), or (S, H, W, K) for a stack; float32. Voxels that no plane reaches, in slices not computed or beyond
        the borders of the images, are NaN.

    Raises:
        ValueError: an argument is out of range, or `function` returns another shape or NaN.
    """
    _check(volume, image_size, spacing, pixel_spacing, planes, fusion, mask, constant, batch_size)
    y, x, z = (float(step) for step in spacing)
    voxel = {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}
    is_stack = volume.ndim == 4
    stack = volume if is_stack else volume[..., None]
    chosen = [plane for plane in planes if min(as_slices(stack, plane).shape[1:3]) > 1]
    results, weights = [], []
    for plane in chosen or planes:
        slices = as_slices(stack, plane).astype(np.float32, copy=False)
        wanted = np.ones(slices.shape[:3], bool) if mask is None else as_slices(mask, plane)
        if pixel_spacing is None:
            pixel = max(
                _fitting(stack.shape[1:3], voxel["axial"], image_size),
                _fitting(slices.shape[1:3], voxel[plane], image_size),
            )
            pixels = (pixel, pixel)
        else:
            pixels = np.broadcast_to(np.asarray(pixel_spacing, float), 2).tolist()
        axes = [
            _Axis(length, ratio, size, needed, margin)
            for length, ratio, size, needed in zip(
                slices.shape[1:3],
                [pixel / step for pixel, step in zip(pixels, voxel[plane], strict=True)],
                image_size,
                (wanted.any((0, 2)), wanted.any((0, 1))),
                strict=True,
            )
        ]
        of_stacks = function if is_stack else _on_single_channel(function)
        result = _through_slices(slices, of_stacks, axes, wanted.any((1, 2)), constant, batch_size)
        results.append(_as_volume(result, plane))
        weights.append(math.prod(min(1.0, axis.ratio) for axis in axes))
    fused = _fused(results, weights, fusion)
    return fused if is_stack else fused[..., 0]


def as_slices(volume: np.ndarray, plane: str) -> np.ndarray:
    """A view of a volume (S, H, W) or stack (S, H, W, C) as the slices of one of `PLANES`, (N, rows, columns[, C])."""
    slices = volume.transpose(_axes(volume, plane))
    return slices if plane == "axial" else slices[:, ::-1]


def _axes(array: np.ndarray, plane: str) -> tuple[int, ...]:
    return _AXES[plane] + tuple(range(3, array.ndim))


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
    """The values of a plane's rows and columns, of the values of the volume's axes S, H and W."""
    _, rows, columns = _AXES[plane]
    return values[rows], values[columns]


def slice_inconsistency(
    volume: np.ndarray, reference: np.ndarray, *, mask: np.ndarray | None = None, axis: int = 0
) -> float:
    """How differently a volume and the truth change from slice to slice.

    The mean of abs((v[k+1] - v[k]) - (r[k+1] - r[k])) over neighbouring voxels of two slices. It is 0 for an error that
    is the same in all slices, but not for an intensity gain that differs between them.

    Args:
        volume, reference: (S, H, W), on one grid and in the same units, which are the result's too.
        mask: (S, H, W), bool; counted are neighbours that are both inside.
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

    `ratio` is the size of a pixel in voxels. `there` (pixels, voxels) and `back` (voxels, pixels) are the weights of
    the interpolation; their rows are 0 beyond the borders of what they interpolate, where `pixels_inside` and
    `voxels_inside` are False.
    """

    def __init__(self, length: int, ratio: float, size: int, needed: np.ndarray, margin: float):
        self.ratio = ratio = 1.0 if abs(ratio - 1) <= margin else ratio
        first = (length - 1) / 2 - (size - 1) / 2 * ratio
        ends = np.flatnonzero(needed)[[0, -1]] if needed.any() else (first, first)
        border = first - ratio / 2
        if ends[0] - 0.5 < border or ends[1] + 0.5 > border + size * ratio:
            first = (ends[0] + ends[1]) / 2 - (size - 1) / 2 * ratio
        if ratio == 1:
            first = int(first)  # whole voxels, as `preprocess.crop_or_pad` crops and pads
        pixels = first + np.arange(size) * ratio
        voxels = (np.arange(length) - first) / ratio
        self.there, self.pixels_inside = linear_weights(pixels, length, ratio)
        self.back, self.voxels_inside = linear_weights(voxels, size, 1 / ratio, self.pixels_inside)


def _fitting(shape: Sequence[int], voxel: Sequence[float], image_size: Sequence[int]) -> float:
    """The size of a pixel, in millimetres, with which a slice just fits into an image."""
    return max(length * step / size for length, step, size in zip(shape, voxel, image_size, strict=True))


def _through_slices(
    slices: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    axes: Sequence[_Axis],
    wanted: np.ndarray,
    constant: float | Sequence[float],
    batch_size: int,
) -> np.ndarray:
    """Slices (N, rows, columns, C) through `function`, (N, rows, columns, K); NaN where there is no result."""
    rows, columns = axes
    outside = ~np.outer(rows.pixels_inside, columns.pixels_inside).astype(bool)
    padding = np.reshape(np.asarray(constant, np.float32), (-1, 1, 1)) * outside
    unreached = ~np.outer(rows.voxels_inside, columns.voxels_inside)
    result = np.full((*slices.shape[:3], 1), np.nan, np.float32)
    indices = np.flatnonzero(wanted)
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        images = rows.there @ _channels_first(slices[batch]) @ columns.there.T + padding
        answer = np.asarray(function(np.moveaxis(images, 1, -1)))
        if answer.ndim != 4 or answer.shape[:3] != (len(batch), *images.shape[2:]):
            raise ValueError(
                f"Expected function to return images of shape ({len(batch)}, {images.shape[2]}, {images.shape[3]}, K); "
                f"received {answer.shape}."
            )
        if not np.isfinite(answer).all():
            raise ValueError("Expected function to return finite values, received NaN or infinity.")
        made = rows.back @ _channels_first(answer.astype(np.float32, copy=False)) @ columns.back.T
        made[..., unreached] = np.nan
        if start == 0:
            result = np.full((*slices.shape[:3], made.shape[1]), np.nan, np.float32)
        result[batch] = np.moveaxis(made, 1, -1)
    return result


def _on_single_channel(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of images (B, h, w) as one of stacks (B, h, w, 1)."""

    def of_stacks(images):
        answer = np.asarray(function(images[..., 0]))
        if answer.shape != images.shape[:3]:
            raise ValueError(
                f"Expected function to return images of shape {images.shape[:3]}, as it was given; received "
                f"{answer.shape}."
            )
        return answer[..., None]

    return of_stacks


def _channels_first(images: np.ndarray) -> np.ndarray:
    """Images (B, rows, columns, C) as (B, C, rows, columns), whose rows and columns products are over."""
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _as_volume(slices: np.ndarray, plane: str) -> np.ndarray:
    """Undoes `as_slices`."""
    slices = slices if plane == "axial" else slices[:, ::-1]
    return slices.transpose(np.argsort(_axes(slices, plane)))


def _fused(results: list[np.ndarray], weights: list[float], fusion: str) -> np.ndarray:
    """Volumes as one; each has NaN where it has no result."""
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


def _check(volume, image_size, spacing, pixel_spacing, planes, fusion, mask, constant, batch_size) -> None:
    if volume.ndim not in (3, 4) or volume.dtype.kind != "f" or not volume.size:
        raise ValueError(
            f"Expected a stack (S, H, W, C) or a volume (S, H, W) of floats, received {volume.shape} of {volume.dtype}."
        )
    grid = volume.shape[:3]
    if mask is not None and (mask.shape != grid or mask.dtype != bool):
        raise ValueError(f"Expected a mask of bool on the volume's grid {grid}, received {mask.dtype} of {mask.shape}.")
    if mask is not None and volume.ndim == 4 and not mask.any():
        raise ValueError("Expected a mask that says where results of the stack are wanted, received an empty one.")
    if np.size(constant) not in (1, *volume.shape[3:]):
        channels = "one number" if volume.ndim == 3 else f"one number or {volume.shape[3]}"
        raise ValueError(f"Expected constant to be {channels}, received {constant}.")
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
