"""Whether a scan looks like those that a model was trained on: a distance that an unseen scanner or contrast has.

A scan is described by numbers of its slices: quantiles of the intensities in the foreground, and how strong its noise
and finest structure are. Mahalanobis's distance to the training scans (covariance by Ledoit and Wolf, Journal of
Multivariate Analysis 88, 365, 2004, which a few scans allow) is divided by a threshold: the largest distance that a
training scan has to the others, when it is left out of mean and covariance. Of N training scans and a new one from the
same scanner the new one is the farthest, with a distance above 1, once in about N + 1.

    familiar = Familiar.of(np.stack([scan_statistics(scan) for scan in training]), "scanner_b")
    familiar.distance(scan_statistics(scan))        # 0.4: as they are; 6.0: another scanner or contrast

What has the histogram and the noise of the training scans is not told from them, whatever it shows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of quantiles
NUM_STATISTICS = len(LEVELS) + 1
FEWEST_SCANS = 4
_BACKGROUND = 1e-3  # pixels that differ less from the slice's corner are background
_FEWEST_PIXELS = 16  # of a slice's foreground


class Familiar(NamedTuple):
    """Training scans of a scanner, as distances are measured from them.

    Attributes:
        name: of the scanner.
        mean: (F,), of their statistics.
        precision: (F, F), inverse of the covariance.
        threshold: the largest distance of a training scan that was left out.
        scans: number of the training scans.
    """

    name: str
    mean: np.ndarray
    precision: np.ndarray
    threshold: float
    scans: int

    @classmethod
    def of(cls, statistics: np.ndarray, name: str = "") -> "Familiar":
        """From the statistics (N, F) of N training scans.

        Raises:
            ValueError: fewer than `FEWEST_SCANS` scans, another shape, or values that are not finite.
        """
        statistics = np.asarray(statistics, np.float64)
        is_table = statistics.ndim == 2 and np.isfinite(statistics).all()
        if not is_table or len(statistics) < FEWEST_SCANS:
            raise ValueError(
                f"Expected finite statistics (N, F) of {FEWEST_SCANS} training scans or more, received shape "
                f"{statistics.shape}."
            )
        left_out = [_distance(one, *_spread(np.delete(statistics, k, axis=0))) for k, one in enumerate(statistics)]
        return cls(name, *_spread(statistics), max(max(left_out), 1e-6), len(statistics))

    def distance(self, statistics: np.ndarray) -> float:
        """The distance of a scan's statistics (F,); above 1 it is farther off than any training scan."""
        return _distance(np.asarray(statistics, np.float64), self.mean, self.precision) / self.threshold

    def to_card(self) -> dict[str, Any]:
        """As plain values, for a model's card."""
        return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in self._asdict().items()}

    @classmethod
    def from_card(cls, content: Mapping[str, Any]) -> "Familiar":
        """Undoes `to_card`. Raises a ValueError where the content is another."""
        try:
            mean, precision = (np.array(content[name], np.float64) for name in ("mean", "precision"))
            found = cls(str(content["name"]), mean, precision, float(content["threshold"]), int(content["scans"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"it is not as `Familiar.to_card` gives it ({error!r})") from None
        sizes = mean.shape == (NUM_STATISTICS,) and precision.shape == (NUM_STATISTICS,) * 2
        if not sizes or not found.threshold > 0 or not np.isfinite(precision).all() or not np.isfinite(mean).all():
            raise ValueError(f"expected {NUM_STATISTICS} finite statistics and a threshold above 0")
        return found


def slice_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics (N, F) of slices (N, H, W) in [-1, 1], and the pixels (N,) of their foreground.

    Those of a slice of hardly any foreground are NaN.
    """
    images = np.asarray(images, np.float64)
    found = np.full((len(images), NUM_STATISTICS), np.nan)
    pixels = np.zeros(len(images), int)
    for k, image in enumerate(images):
        inside = np.abs(image - image[0, 0]) > _BACKGROUND
        pixels[k] = inside.sum()
        if pixels[k] < _FEWEST_PIXELS:
            continue
        core = ndimage.binary_erosion(inside)  # the border with the background is no structure of the image
        fine = (image - ndimage.uniform_filter(image, 3))[core if core.any() else inside]
        found[k, :-1] = np.quantile(image[inside], LEVELS)
        found[k, -1] = np.log(fine.std() + 1e-3)
    return found, pixels


def of_slices(statistics: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Statistics (F,) of a scan from those of its slices: the mean over those of at least half the largest foreground.

    So the first and last slices of a scan, and how far it reaches, matter little. NaN of a scan without foreground.
    """
    chosen = (pixels >= max(_FEWEST_PIXELS, pixels.max(initial=0) / 2)) & np.isfinite(statistics).all(axis=1)
    return statistics[chosen].mean(axis=0) if chosen.any() else np.full(NUM_STATISTICS, np.nan)


def scan_statistics(images: np.ndarray) -> np.ndarray:
    """Statistics (F,) of a scan (S, H, W) in [-1, 1]; NaN of one without foreground."""
    return of_slices(*slice_statistics(images))


def _spread(statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision; statistics that do not vary at all keep a little of it."""
    from sklearn.covariance import ledoit_wolf

    mean, scale = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-3)
    # On one scale, since the covariance is shrunk towards a multiple of the identity.
    covariance, _ = ledoit_wolf((statistics - mean) / scale, assume_centered=True)
    covariance += 1e-3 * np.eye(len(mean))
    return mean, np.linalg.inv(covariance) / np.outer(scale, scale)


def _distance(one: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> float:
    off = one - mean
    return float(np.sqrt(max(0.0, off @ precision @ off)))
