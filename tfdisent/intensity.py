"""What is known of the intensities of a volume, and the normalisations that are made of it.

Statistics are arrays or tensors (..., 8), in the order of `INTENSITY`. NumPy is imported where it is used: commands
take the names of the normalisations from here, and answer --help before anything heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# The statistics of a volume's foreground that a record holds, in their order.
INTENSITY = (
    "min",
    "max",
    "mean",
    "std",
    "percentile_0.5",
    "percentile_1",
    "percentile_99",
    "percentile_99.5",
)
# By the range of the volume, by its percentiles 0.5 to 99.5, by the range of each slice; or to mean 0 and standard
# deviation 1.
NORMALIZATIONS = ("volume", "percentile", "slice", "zscore")
BOUNDED = ("volume", "percentile", "slice")  # those whose images end in [-1, 1]
LEAST_SHARE = 1e-6  # a range that is a smaller share of the values is rounding: the image is constant
_PERCENTILES = tuple(float(name.removeprefix("percentile_")) for name in INTENSITY if name.startswith("percentile_"))


def volume_statistics(array: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """`INTENSITY` of an array of any shape, inside a mask of the same shape if given.

    Integers of up to 16 bits are counted by value, which is exact and much faster than sorting.

    Returns:
        (8,) float32: minimum, maximum, mean, standard deviation (of the population), percentiles (interpolated
        linearly).

    Raises:
        ValueError: the mask is empty.
    """
    import numpy as np

    values = array.ravel() if mask is None else array[mask]
    if not values.size:
        raise ValueError("the foreground is empty, so there are no intensity statistics")
    if values.dtype == np.float16:
        values = values.astype(np.float32)  # in which percentiles are interpolated
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        low, high = int(values.min()), int(values.max())
        counts = np.bincount((values - np.asarray(low, values.dtype)).view(f"u{values.itemsize}"))
        levels = np.arange(low, high + 1, dtype=np.float64)
        mean = counts @ levels / values.size
        std = math.sqrt(counts @ (levels - mean) ** 2 / values.size)
        percentiles = _counted_percentiles(levels, counts)
    else:
        low, high, mean = values.min(), values.max(), values.mean(dtype=np.float64)
        std = values.std(dtype=np.float64)  # float32 has no square of what is below 1e-19 or above 1e19
        percentiles = np.percentile(values, _PERCENTILES)
    return np.array([low, high, mean, std, *percentiles], np.float32)


def intensity_statistics(image: np.ndarray, foreground: np.ndarray | None = None) -> np.ndarray:
    """`volume_statistics` of each channel of `image` (..., C), inside `foreground` (...) if given: (C, 8)."""
    import numpy as np

    return np.stack([volume_statistics(image[..., channel], foreground) for channel in range(image.shape[-1])])


def _counted_percentiles(levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`np.percentile` of levels[i] repeated counts[i] times."""
    import numpy as np

    below = np.cumsum(counts)
    ranks = np.array(_PERCENTILES) / 100 * (below[-1] - 1)
    lower, upper = (levels[np.searchsorted(below, rank, side="right")] for rank in (np.floor(ranks), np.ceil(ranks)))
    return lower + (ranks - np.floor(ranks)) * (upper - lower)


def statistic(statistics: Any, name: str) -> Any:
    """One of the statistics, by its name in `INTENSITY`: (...) of `statistics` (..., 8)."""
    return statistics[..., INTENSITY.index(name)]


def bounds(statistics: Any, normalize: str) -> tuple[Any, Any]:
    """The intensities that "volume" and "percentile" bring to -1 and 1; for "slice", which knows no volume, its range.

    Args:
        statistics: (..., 8), array or tensor.
        normalize: one of `BOUNDED`.
    """
    names = ("percentile_0.5", "percentile_99.5") if normalize == "percentile" else ("min", "max")
    low, high = (statistic(statistics, name) for name in names)
    return low, high


def divisor(spread: Any, low: Any, high: Any, where: Callable | None = None) -> Any:
    """What a normalisation divides by: `spread` (a range, a standard deviation) of intensities from `low` to `high`.

    Where an image is constant, so that there is nothing but rounding, it is the size of its values, or 1 if that is 0:
    the result is defined, and of the same size whatever the intensities' unit.

    Args:
        spread, low, high: arrays, or tensors with their library's `where`.
    """
    if where is None:
        import numpy as np

        where = np.where
    size = where(abs(low) > abs(high), abs(low), abs(high))
    return where(spread > LEAST_SHARE * size, spread, where(size > 0, size, 1.0))


def scale(statistics: Any, normalize: str, is_uint8: bool = False) -> tuple[Any, Any]:
    """How a normalisation maps intensities: `normalized = (intensity - zero) / unit`.

    Args:
        statistics: (..., 8) array.
        normalize: one of `NORMALIZATIONS`; "slice" is taken as "volume" without its rule for uint8.
        is_uint8: images are stored as uint8, whose range is 0 to 255 for "volume".

    Returns:
        (zero, unit), each (...) float64: the intensity that becomes 0, and how much more becomes 1. A constant volume
        becomes -1, or 0 by "zscore".
    """
    import numpy as np

    statistics = np.asarray(statistics, np.float64)
    if normalize == "zscore":
        unit = divisor(statistic(statistics, "std"), statistic(statistics, "min"), statistic(statistics, "max"))
        return statistic(statistics, "mean"), unit
    low, high = bounds(statistics, normalize)
    if is_uint8 and normalize == "volume":
        low, high = np.zeros_like(low), np.full_like(high, 255)
    unit = divisor(high - low, low, high) / 2
    return low + unit, unit
