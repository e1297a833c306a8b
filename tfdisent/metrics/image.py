"""Likeness of images to their truth: mean absolute error, PSNR and SSIM, one value per image.

What a value means depends on the range, the window and the region: report them beside it. Take the mean over images
with `np.nanmean`, which leaves out images whose mask is empty.
"""

from collections.abc import Callable, Sequence

import numpy as np

# The constants of Wang et al.: C1 = (K1 range)^2, C2 = (K2 range)^2.
K1, K2 = 0.01, 0.03


def mean_absolute_error(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Returns the mean of |a - b| over each image's pixels and channels, in the images' units; 0 for equal images.

    Papers also report the sum: the "L1" of Liu et al. (ISBI 2021), Table 1, fits the mean for images in [0, 1] times H
    x W.

    Args:
        a, b: finite numbers (N, H, W) or (N, H, W, C).
        mask: booleans, or 0 and 1, (N, H, W): the pixels that count; by default all of them.

    Returns:
        (N,) float64; NaN where a mask is empty.

    Raises:
        ValueError: shapes differ, values are not finite, or a mask holds other numbers.
    """
    return _per_image(lambda x, y: np.abs(x - y), *_checked(a, b, mask))


def psnr(
    a: np.ndarray,
    b: np.ndarray,
    data_range: float | np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the peak signal-to-noise ratio, 10 log10(data_range^2 / mean squared error), in dB; infinite if equal.

    Equals scikit-image's `peak_signal_noise_ratio` of each image.

    Args:
        a, b: finite numbers (N, H, W) or (N, H, W, C).
        data_range: the range that values can have, 2 for images in [-1, 1]; one number or one per image (N,). With the
            range that an image happens to have, values of different images cannot be compared.
        mask: booleans, or 0 and 1, (N, H, W): the pixels that the mean is taken over.

    Returns:
        (N,) float64; NaN where a mask is empty.

    Raises:
        ValueError: as `mean_absolute_error`, or data_range is not positive and finite.
    """
    a, b, masks = _checked(a, b, mask)
    data_range = _data_range(data_range, len(a))
    error = _per_image(lambda x, y: (x - y) ** 2, a, b, masks)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / error)


def ssim(
    a: np.ndarray,
    b: np.ndarray,
    data_range: float | np.ndarray,
    mask: np.ndarray | None = None,
    *,
    window_size: int | None = None,
    sigma: float | None = None,
    sample_covariance: bool = True,
) -> np.ndarray:
    """Returns the structural similarity, mean over each image's pixels and channels, in [-1, 1]; 1 for equal images.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 13, 600
    (2004), Eq. 13, https://doi.org/10.1109/TIP.2003.819861; K1 = 0.01, K2 = 0.03. A pixel counts when its whole window
    lies in the image, a border of half a window is left out.

    Equals scikit-image's `structural_similarity` of each image. The defaults are its defaults: a uniform window of
    7 x 7 with the sample covariance, NP / (NP - 1). The window of Wang et al., 11 x 11 Gaussian, is
    `sigma=1.5, sample_covariance=False`. The two give different values.

    Args:
        a, b: finite numbers (N, H, W) or (N, H, W, C).
        data_range: the range that values can have, 2 for images in [-1, 1]; one number or one per image (N,). Through
            K1 and K2 it decides how much dark, flat regions count.
        mask: booleans, or 0 and 1, (N, H, W): the pixels whose SSIM is averaged. Their windows reach over its edge.
            Pixels in the border do not count here either, so that a mask of the whole image changes nothing.
        window_size: side of the uniform window in pixels, odd, 3 or more; 7 if neither it nor sigma is given.
        sigma: in pixels, of a Gaussian window, cut at 3.5 sigma, in place of the uniform one.
        sample_covariance: variances and covariance with NP - 1 in place of NP, the pixels in the window.

    Returns:
        (N,) float64; NaN where a mask is empty.

    Raises:
        ValueError: as `psnr`, or the window is impossible or larger than the images.
    """
    a, b, masks = _checked(a, b, mask)
    data_range = _data_range(data_range, len(a))
    weights = _window(window_size, sigma)
    if min(a.shape[1:3]) < len(weights):
        raise ValueError(
            f"Expected a window within the images: SSIM's window of {len(weights)} x {len(weights)} does not fit into "
            f"images of shape {a.shape}. Choose a smaller window_size or sigma, and name it beside the value."
        )
    num_pixels = len(weights) ** 2
    correction = num_pixels / (num_pixels - 1) if sample_covariance else 1.0
    reach = len(weights) // 2
    masks = [None if m is None else m[reach:-reach, reach:-reach] for m in masks]

    def similarity(x, y, peak):
        return _similarity(x, y, peak, weights, correction)

    return _per_image(similarity, a, b, masks, data_range)


def _similarity(x, y, data_range: float, weights, correction: float) -> np.ndarray:
    """SSIM of every window that lies within two images."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _windowed(x, weights), _windowed(y, weights)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = correction * (_windowed(x * y, weights) - product)
    variances = correction * (_windowed(x * x + y * y, weights) - squares)  # of x and y, their sum
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def _windowed(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means over windows: (H, W, ...) -> (H - K + 1, W - K + 1, ...)."""
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        count = len(values) - len(weights) + 1
        total = weights[0] * values[:count]
        for start in range(1, len(weights)):
            total += weights[start] * values[start : start + count]
        values = np.moveaxis(total, 0, axis)
    return values


def _window(window_size: int | None, sigma: float | None) -> np.ndarray:
    """Weights (K,) along one axis, K odd; their sum is 1."""
    if sigma is None:
        window_size = 7 if window_size is None else window_size
        if window_size < 3 or window_size % 2 != 1:
            raise ValueError(f"Expected window_size to be odd, 3 or more, received {window_size}.")
        return np.full(int(window_size), 1 / window_size)
    if window_size is not None:
        raise ValueError(
            f"Expected either window_size (uniform) or sigma (Gaussian), received window_size={window_size} and "
            f"sigma={sigma}."
        )
    if not 0 < sigma < np.inf or int(3.5 * sigma + 0.5) < 1:
        raise ValueError(f"Expected sigma to be finite and 0.15 pixels or more, received {sigma}.")
    reach = int(3.5 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


def _per_image(function: Callable, a, b, masks, *arguments) -> np.ndarray:
    """Means (N,) of `function(x, y, ...)` over channels and the pixels inside the mask; NaN where there are none.

    x and y are one pair of images in float64; one entry of each further argument is passed with them.
    """
    means = np.full(len(a), np.nan)
    for k, (x, y, inside, *own) in enumerate(zip(a, b, masks, *arguments, strict=True)):
        values = function(x.astype(np.float64), y.astype(np.float64), *own)
        values = values if inside is None else values[inside]
        if values.size:
            means[k] = values.mean()
    return means


def _checked(a, b, mask) -> tuple[np.ndarray, np.ndarray, Sequence]:
    """The two sets of images as arrays, and for each pair its mask (H, W) or None."""
    a, b = _images("a", a), _images("b", b)
    if a.shape != b.shape:
        raise ValueError(f"Expected a and b to have the same shape, received {a.shape} and {b.shape}.")
    return a, b, [None] * len(a) if mask is None else _mask(mask, a.shape[:3])


def _images(name: str, images) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim not in (3, 4) or 0 in images.shape[1:] or images.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected {name} to be real numbers (N, H, W) or (N, H, W, C), received {images.dtype} of shape "
            f"{images.shape}."
        )
    finite = np.isfinite(images)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=tuple(range(1, images.ndim))))
        raise ValueError(
            f"Expected {name} to be finite, received {np.count_nonzero(~finite)} values that are not, the first in "
            f"image {bad[0]}."
        )
    return images


def _mask(mask, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"Expected mask to be {shape}, one per image, received shape {mask.shape}.")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"Expected mask to hold booleans, or 0 and 1, received {mask.dtype} from {mask.min()} to {mask.max()}. Of "
            "label maps: mask == label."
        )
    return mask.astype(bool)


def _data_range(data_range, num_images: int) -> np.ndarray:
    """The range of each image, (N,) float64."""
    data_range = np.asarray(data_range, dtype=np.float64)
    if data_range.shape not in ((), (num_images,)):
        raise ValueError(
            f"Expected data_range to be one number or one per image ({num_images},), received shape {data_range.shape}."
        )
    if not (np.isfinite(data_range) & (data_range > 0)).all():
        raise ValueError(
            f"Expected data_range to be positive and finite, received {data_range.min()} to {data_range.max()}."
        )
    return np.broadcast_to(data_range, (num_images,))
