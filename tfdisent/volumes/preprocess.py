"""What is done to volumes before they are stored: pure functions of arrays (S, H, W) and `Volume`s.

Reading gives the orientation (`tfdisent.volumes.volume`), and normalisation comes last, on the fly
(`tfdisent.data.pipeline`). Between the two are resampling, cropping, the choice of slices, bias correction, and the
statistics that normalisation needs.

Skull stripping and tissue segmentation belong to programs made for them (ROBEX, HD-BET, FSL BET and FAST), whose
results come in as files. The two functions that end in `_approximation` are for trying things out where there are none.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfdisent.volumes.volume import Volume

TISSUES = ("background", "CSF", "GM", "WM")


def resample(volume: Volume, spacing: Sequence[float], *, labels: bool = False, margin: float = 0.005) -> Volume:
    """The volume with voxels of another size, over the same field of view.

    Interpolation is linear between voxel centres and constant beyond the outermost; integers are rounded. Where voxels
    become larger they are blurred on the way (`linear_weights`), so that what is too fine for them does not come out as
    something coarse; `planes.through_planes` does the same. Labels take the nearest voxel.

    Args:
        volume: (S, H, W).
        spacing: millimetres along y, x and across slices; 0 keeps what is there.
        labels: it is a label map.
        margin: relative difference of spacing up to which an axis is left as it is.

    Returns:
        Volume of the same dtype, with its affine; it covers what the old one covered to within half a voxel.

    Raises:
        ValueError: spacing that is negative or not finite.
    """
    if len(spacing) != 3 or not all(0 <= step < math.inf for step in spacing):
        raise ValueError(f"Expected spacing to be three numbers of millimetres, 0 or more, received {tuple(spacing)}.")
    array, affine = volume.array, volume.affine.copy()
    # Axes of the array with their columns of the affine: the slices are the array's first axis.
    for axis, column, old, new in zip((1, 2, 0), (1, 0, 2), volume.spacing, spacing, strict=True):
        if not new or abs(new / old - 1) <= margin:
            continue
        length = array.shape[axis]
        ratio = float(new / old)
        new_length = max(1, round(length / ratio))
        # Both fields of view share their centre.
        first = (length - 1) / 2 - (new_length - 1) / 2 * ratio
        array = _sampled(array, axis, first + np.arange(new_length) * ratio, ratio, labels)
        affine[:3, 3] += first * affine[:3, column]
        affine[:3, column] *= ratio
    kept = volume.files if len(array) == len(volume.array) else ()
    return Volume(array, affine, kept)


def resample_in_plane(volume: Volume, spacing: float, *, labels: bool = False) -> Volume:
    """`resample` to square pixels of `spacing` millimetres; slices stay as they are."""
    return resample(volume, (spacing, spacing, 0), labels=labels)


def _sampled(array: np.ndarray, axis: int, positions: np.ndarray, step: float, labels: bool) -> np.ndarray:
    """`array` at fractional indices along one axis, `step` apart."""
    length = array.shape[axis]
    if labels:
        return array.take(np.floor(positions.clip(0, length - 1) + 0.5).astype(int), axis)
    weights, _ = linear_weights(positions, length, step)
    last = np.moveaxis(array, axis, -1).astype(np.float32) @ weights.T
    return _as_dtype(np.ascontiguousarray(np.moveaxis(last, -1, axis)), array.dtype)


def linear_weights(
    positions: np.ndarray, length: int, step: float, valid: np.ndarray | bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, length) that interpolate `length` values at fractional indices, and which of these lie inside.

    The indices are `step` apart. As in `tf.image.resize` with antialiasing, the kernel is a triangle, as wide as the
    steps where these are larger than 1; ends are not mixed with what lies beyond them, nor with values that are not
    `valid`.
    """
    distance = np.abs(positions[:, None] - np.arange(length))
    weights = np.maximum(0, 1 - distance / max(1.0, step)) * valid
    total = weights.sum(1, keepdims=True)
    inside = (positions > -0.5 - 1e-6) & (positions < length - 0.5 + 1e-6) & (total[:, 0] > 0)
    weights = np.where(inside[:, None], weights / np.where(total, total, 1), 0)
    return weights.astype(np.float32), inside


def _as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float values as `dtype`; integers are rounded and kept in range."""
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        values = np.rint(values).clip(ends.min, ends.max)
    return values.astype(dtype)


def crop_or_pad(
    array: np.ndarray,
    size: tuple[int, int],
    *,
    constant: float = 0,
    centre: tuple[float, float] | None = None,
) -> np.ndarray:
    """The last two axes of `array` (..., H, W) cropped or padded to `size`.

    Args:
        array: slice, volume or label map.
        size: new height and width.
        constant: value of the padding.
        centre: row and column (fractional indices) that come to lie in the middle; by default the array's middle, with
            an odd pixel at the end, so that cropping undoes padding.
    """
    source, target = [], []
    for axis, length in enumerate(size):
        old = array.shape[array.ndim - 2 + axis]
        start = int((old - length) / 2) if centre is None else math.floor(centre[axis] - (length - 1) / 2 + 0.5)
        low, high = max(start, 0), max(min(start + length, old), 0)
        source.append(slice(low, max(low, high)))
        target.append(slice(min(low - start, length), min(max(low, high) - start, length)))
    inside = array[..., source[0], source[1]]
    if inside.shape[-2:] == tuple(size):
        return inside
    padded = np.full((*array.shape[:-2], *size), constant, array.dtype)
    padded[..., target[0], target[1]] = inside
    return padded


def foreground(array: np.ndarray, method: str = "nonzero") -> np.ndarray:
    """Where there is anatomy: bool, of the shape of `array`.

    Args:
        array: image of one modality.
        method: "nonzero" for images whose background was set to one value (skull-stripped data): 0, or the one that
            `background` finds where nothing is 0; "otsu" for images as scanned: above the threshold that separates two
            classes best.
    """
    if method == "nonzero":
        return array != background(array).value
    if method == "otsu":
        return array > _otsu_threshold(array)
    raise ValueError(f"Expected foreground to be 'nonzero' or 'otsu', received {method!r}.")


class Background(NamedTuple):
    """The value of an image's background, and its share of the voxels."""

    value: float
    share: float


def background(array: np.ndarray) -> Background:
    """What is background in an image whose background has one value.

    That is 0, unless hardly a voxel is 0 and another value is common: of volumes that were brought to mean 0 after
    skull stripping, for example, the background is some negative number.
    """
    share = np.count_nonzero(array == 0) / array.size
    if share >= _RARE:
        return Background(0.0, share)
    # What a tenth of the voxels have is the commonest of any large sample of them.
    values, counts = np.unique(array.ravel()[:: max(1, array.size // 100_000)], return_counts=True)
    commonest = values[counts.argmax()]
    its_share = np.count_nonzero(array == commonest) / array.size
    if its_share < _COMMON or np.ptp(values) == 0:
        return Background(0.0, share)
    return Background(float(commonest), its_share)


_RARE, _COMMON = 0.01, 0.1  # shares of the voxels


def _otsu_threshold(array: np.ndarray) -> float:
    # The brightest half percent (vessels, fat) would stretch the classes.
    low, high = float(array.min()), float(np.percentile(array[:: max(1, len(array) // 32)], 99.5))
    if high <= low:
        return low
    counts, edges = np.histogram(array, 256, (low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.nan_to_num(between[:-1]).argmax()])


def select_slices(
    counts: np.ndarray, min_foreground: int = 0, slice_range: tuple[int, int] | None = None
) -> np.ndarray:
    """Indices of the slices to keep.

    Args:
        counts: (S,) or (M, S) pixels of foreground in each slice (of each modality).
        min_foreground: how many a slice must have, in every modality.
        slice_range: first and last slice, both included.
    """
    counts = np.atleast_2d(counts)
    keep = (counts >= min_foreground).all(0)
    if slice_range is not None:
        first, last = slice_range
        keep[: max(0, first)] = False
        keep[max(0, last + 1) :] = False
    return np.flatnonzero(keep)


def slice_counts(mask: np.ndarray) -> np.ndarray:
    """(S,) non-zero pixels of each slice."""
    return np.array([np.count_nonzero(plane) for plane in mask])


def apply_mask(array: np.ndarray, mask: np.ndarray, background: float = 0) -> np.ndarray:
    """`array` inside `mask`, `background` outside of it; shapes and dtype of `array`.

    Raises:
        ValueError: the shapes differ.
    """
    if array.shape != mask.shape:
        raise ValueError(f"the mask has shape {mask.shape}, its image {array.shape}")
    return np.where(mask, array, np.asarray(background, array.dtype))


def n4(
    volume: Volume,
    mask: np.ndarray | None = None,
    *,
    shrink: int = 4,
    iterations: Sequence[int] = (50, 50, 50, 50),
) -> Volume:
    """N4 bias field correction (Tustison et al., IEEE TMI 29, 1310, 2010), by SimpleITK.

    Args:
        volume: MR image with values above 0 in the mask.
        mask: (S, H, W), where the field is fitted; by default the foreground by Otsu's threshold.
        shrink: the field, which is smooth, is fitted to every `shrink`-th voxel along each axis; along short ones to
            more, so that two are left.
        iterations: at each level of the field's resolution.

    Returns:
        The volume divided by the field, in its dtype.

    Raises:
        ValueError: the mask is empty, or N4 fails.
    """
    import SimpleITK as sitk

    mask = foreground(volume.array, "otsu") if mask is None else mask.astype(bool)
    mask = mask & (volume.array > 0)
    if not mask.any():
        raise ValueError("N4 needs voxels above 0 inside the mask, and there are none")
    # N4 needs two voxels along each axis: an axis of one is doubled.
    twice = [(0, int(length == 1)) for length in volume.array.shape]
    image = sitk.GetImageFromArray(np.pad(volume.array.astype(np.float32), twice, "edge"))
    y, x, z = volume.spacing.tolist()
    image.SetSpacing((x, y, z))
    where = sitk.GetImageFromArray(np.pad(mask.astype(np.uint8), twice, "edge"))
    where.SetSpacing((x, y, z))
    factors = [max(1, min(shrink, length // 2)) for length in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(iterations))
    corrector.SetNumberOfThreads(1)  # one process a core, and the same result for any of them
    try:
        corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(where, factors))
        log_field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    except RuntimeError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise ValueError(f"N4 cannot correct a volume of {volume.array.shape} voxels ({reason})") from error
    field = np.exp(log_field[tuple(map(slice, volume.array.shape))])
    return volume._replace(array=_as_dtype(volume.array / field, volume.array.dtype))


def neighbour_slices(array: np.ndarray, index: int, neighbours: int = 1) -> np.ndarray:
    """Slice `index` of `array` (S, H, W) among its neighbours: (H, W, 2 `neighbours` + 1), from below to above. Beyond
    the ends the outermost slice is repeated.
    """
    indices = np.arange(index - neighbours, index + neighbours + 1).clip(0, len(array) - 1)
    return np.stack([array[i] for i in indices], axis=-1)


def candidate_partners(volume: Volume, other: Volume, num_candidates: int = 3) -> np.ndarray:
    """For each slice of one volume the slices of another that lie nearest, by their positions in the scanner.

    Returns:
        (S, num_candidates) int64 indices into `other`, the nearest first, of two equally near the lower one; where
        `other` has fewer slices, the last is repeated.
    """
    distances = np.abs(volume.positions[:, None] - other.positions)
    nearest = np.argsort(distances.round(3), axis=1, kind="stable")
    return nearest[:, np.arange(num_candidates).clip(0, len(other.array) - 1)]


def skull_strip_approximation(volume: Volume) -> np.ndarray:
    """A rough brain mask of an MR image of the head, for trying things out: bool (S, H, W).

    What is bright and lies deeper than the scalp and most of the skull is opened until bridges break; the largest piece
    is closed and its holes are filled. It leaves eyes, dura or vessels in and may cut the poles of the brain. Use
    ROBEX, HD-BET or BET for results.
    """
    import SimpleITK as sitk
    from scipy import ndimage

    y, x, z = volume.spacing.tolist()

    def image(mask: np.ndarray):
        made = sitk.GetImageFromArray(mask.astype(np.uint8))
        made.SetSpacing((x, y, z))
        return made

    def shrunk(mask, millimetres: float):
        """The mask without what lies within `millimetres` of its border; grown where that is negative."""
        distance = sitk.SignedMaurerDistanceMap(
            mask, squaredDistance=False, useImageSpacing=True, insideIsPositive=True
        )
        return distance >= millimetres

    def largest(mask):
        return sitk.RelabelComponent(sitk.ConnectedComponent(mask)) == 1

    threshold = _otsu_threshold(volume.array)
    head = shrunk(shrunk(image(volume.array > threshold / 2), -6), 6)
    # Slice by slice: the skull is open below, and often at the end of the field of view above.
    planes = sitk.GetArrayFromImage(head)
    head = image(np.stack([ndimage.binary_fill_holes(plane) for plane in planes]))
    deep = shrunk(head, _SCALP) & image(volume.array > 0.6 * threshold)
    core = largest(shrunk(deep, 3.0))
    brain = shrunk(shrunk(core, -9.0), 6.0) & shrunk(head, _SCALP - 3)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(brain)).astype(bool)


_SCALP = 9.0  # millimetres of scalp and skull that cover a brain everywhere, or almost


def tissue_segmentation_approximation(volume: Volume, mask: np.ndarray, *, contrast: str = "T1") -> np.ndarray:
    """Three tissues inside a brain mask by intensity alone, for trying things out.

    K-means (scikit-learn) on the intensities, in the order of their means: CSF, GM, WM in T1, the reverse in T2. It
    knows neither partial volume nor neighbours nor bias field (correct it with `n4` before). Use FSL FAST or SPM for
    results.

    Args:
        volume: MR image, bias-corrected.
        mask: (S, H, W), the brain.
        contrast: "T1" or "T2".

    Returns:
        (S, H, W) uint8, indices into `TISSUES`.

    Raises:
        ValueError: unknown contrast, or fewer than three grey levels inside the mask.
    """
    from sklearn.cluster import KMeans

    if contrast not in ("T1", "T2"):
        raise ValueError(f"Expected contrast to be 'T1' or 'T2', received {contrast!r}.")
    mask = mask.astype(bool)
    values = volume.array[mask].astype(np.float64)
    if values.size == 0 or len(np.unique(values)) < 3:
        raise ValueError("tissue segmentation needs three grey levels inside the mask")
    # A sample of the voxels will do for three means, without the tails.
    sample = np.sort(values)[:: max(1, values.size // 20_000)]
    sample = sample[len(sample) // 100 : len(sample) - len(sample) // 200]
    starts = np.percentile(sample, (10, 50, 90))[:, None]
    means = np.sort(KMeans(3, init=starts, n_init=1).fit(sample[:, None]).cluster_centers_.ravel())
    tissues = 1 + np.digitize(values, (means[:-1] + means[1:]) / 2)
    found = np.zeros(volume.array.shape, np.uint8)
    found[mask] = tissues if contrast == "T1" else 4 - tissues
    return found
