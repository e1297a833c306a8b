"""The opponents of a harmonisation that need no network: normalisations of intensities to those of the target scanner.

Each is fitted on training scans and maps intensities alone, of a scan at a time, inside its foreground; what a network
is to be worth must do better than the best of these, on the same scans and measures.

| name | what it knows of the scan | and of the scanners |
|---|---|---|
| zscore | its mean and standard deviation | those of the target's scans, on average |
| histogram | nothing | the quantiles of all source scans and those of all target scans |
| histogram_scan | its own quantiles | those of all target scans |
| nyul | its deciles (Nyul and Udupa, MRM 42, 1072, 1999) | those of the target's scans, on average |
| n4_histogram_scan | its own quantiles after N4 bias field correction, slice by slice | those of all target scans |
| whitestripe | mean and deviation of its white matter (Shinohara et al., NeuroImage Clin 6, 9, 2014) | the target's |

Nyul's and WhiteStripe are those of the package `intensity-normalization`, of the extra "normalize", and are left out
without it. N4 is SimpleITK's; it is fitted to each slice alone, since nothing is known here of their distance.
WhiteStripe finds white matter as the last peak of T1's histogram and as the highest of other contrasts'. Quantiles are
interpolated by hand: scikit-image's `match_histograms` takes the reference as one array, and here it is many scans.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterable

import numpy as np

from tfdisent.volumes.preprocess import n4
from tfdisent.volumes.volume import Volume

LEVELS = np.linspace(0, 1, 501)  # of quantiles
N4_OFFSET = 0.1  # of the range of intensities
N4_ITERATIONS = (50, 50, 50)  # a level more fits the anatomy, on slices of 64 pixels
N4_PIXELS = 64  # along a side of the slice that N4 is fitted to
KINDS = {
    "zscore": "z-scores",
    "histogram": "matching of all scans' histogram",
    "histogram_scan": "matching of each scan's histogram",
    "n4_histogram_scan": "N4 bias field correction and matching of each scan's histogram",
    "nyul": "Nyul's landmarks",
    "whitestripe": "WhiteStripe",
}
OF_PACKAGE = ("nyul", "whitestripe")

Scan = tuple[np.ndarray, np.ndarray]  # slices (S, H, W) in [0, 1], and which pixels are foreground
Map = Callable[[np.ndarray, np.ndarray], np.ndarray]


def is_installed() -> bool:
    """Whether the package is there that Nyul's landmarks and WhiteStripe are of."""
    return importlib.util.find_spec("intensity_normalization") is not None


def normalizations(source: Iterable[Scan], target: Iterable[Scan], contrast: str = "T1") -> dict[str, Map]:
    """{name: a function of a source scan (S, H, W) in [0, 1] and its foreground, to the same as the target shows it}.

    Args:
        source, target: scans of training subjects, each gone through once.
        contrast: what they show.

    Raises:
        ValueError: a domain has no scan with foreground.
    """
    target = [scan for scan in target if scan[1].any()]
    quantiles = {
        name: [np.quantile(image[inside], LEVELS) for image, inside in scans if inside.any()]
        for name, scans in (("source", source), ("target", target))
    }
    for name, found in quantiles.items():
        if not found:
            raise ValueError(f"Expected scans of the {name} with foreground, received none.")
    pooled = {name: _pooled(found) for name, found in quantiles.items()}
    mean, spread = np.mean([(image[inside].mean(), image[inside].std()) for image, inside in target], axis=0)

    def zscore(image, inside):
        values = image[inside]
        return (image - values.mean()) / max(values.std(), 1e-6) * spread + mean

    def histogram(image, inside):
        return _matched(image, pooled["source"], pooled["target"])

    def histogram_scan(image, inside):
        return _matched(image, np.quantile(image[inside], LEVELS), pooled["target"])

    def n4_histogram_scan(image, inside):
        return histogram_scan(_without_bias(image, inside), inside)

    maps = {
        "zscore": zscore,
        "histogram": histogram,
        "histogram_scan": histogram_scan,
        "n4_histogram_scan": n4_histogram_scan,
    }
    if is_installed():
        maps |= _of_package(target, contrast)
    return maps


def normalized(normalize: Map, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """A scan (S, H, W) in [-1, 1] as a normalisation shows it; pixels that are not `inside` stay as they are."""
    if not inside.any():
        return image
    made = np.clip(normalize((np.asarray(image, np.float64) + 1) / 2, inside), 0, 1)
    return np.where(inside, 2 * made - 1, image).astype(np.float32)


def _pooled(quantiles: list[np.ndarray]) -> np.ndarray:
    """Quantiles of the values of all scans together, each scan with the same weight."""
    return np.quantile(np.concatenate(quantiles), LEVELS)


def _matched(image: np.ndarray, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Intensities by their place among the quantiles `own` as `wanted` has them."""
    distinct, first = np.unique(own, return_index=True)
    last = len(own) - 1 - np.unique(own[::-1], return_index=True)[1]
    levels = (LEVELS[first] + LEVELS[last]) / 2  # many pixels of one value are in the middle of their places
    return np.interp(np.interp(image, distinct, levels), LEVELS, wanted)


def _without_bias(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Slices divided by the field that N4 finds in each; one in which there is nothing to find stays as it is."""

    def corrected(one: np.ndarray, where: np.ndarray) -> np.ndarray:
        if not where.any() or np.ptp(one[where]) == 0:
            return one
        # N4 works on logarithms, which N4_OFFSET keeps from those of nearly nothing.
        volume = Volume(one[None].astype(np.float32) + N4_OFFSET, np.eye(4))
        try:
            found = n4(volume, where[None], shrink=max(1, min(one.shape) // N4_PIXELS), iterations=N4_ITERATIONS)
        except ValueError:  # too few pixels of foreground
            return one
        field = volume.array[0] / found.array[0]
        # N4 leaves the scale of a field open; of all slices it has to be the same.
        return volume.array[0] / field * np.exp(np.log(field[where]).mean()) - N4_OFFSET

    return np.stack([corrected(*slice_and_place) for slice_and_place in zip(image, inside, strict=True)])


def _of_package(target: list[Scan], contrast: str) -> dict[str, Map]:
    from intensity_normalization.adapters.images import NumpyImageAdapter
    from intensity_normalization.domain.models import Modality
    from intensity_normalization.normalizers.individual.whitestripe import WhiteStripeNormalizer
    from intensity_normalization.normalizers.population.nyul import NyulNormalizer

    images, masks = ([NumpyImageAdapter(array) for array in arrays] for arrays in zip(*target, strict=True))
    ends = np.mean([np.percentile(image[inside], (1, 99)) for image, inside in target], axis=0)
    landmarks = NyulNormalizer(output_min_value=ends[0], output_max_value=ends[1]).fit_population(images, masks)
    modality = Modality.T1 if contrast in ("T1", "T1ce") else Modality.T2

    def stripe(image, inside) -> WhiteStripeNormalizer:
        # Its density of all pixels takes minutes for a volume; of these it is as smooth.
        places = np.flatnonzero(inside)
        some = np.zeros(inside.shape, bool)
        some.flat[places[:: max(1, len(places) // 5000)]] = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return WhiteStripeNormalizer(modality=modality).fit(NumpyImageAdapter(image), NumpyImageAdapter(some))

    def mean_and_spread(image, inside) -> tuple[float, float]:
        zero, one = stripe(image, inside).transform(NumpyImageAdapter(np.array([0.0, 1.0]))).get_data()
        return -zero / (one - zero), 1 / (one - zero)

    mean, spread = np.mean([mean_and_spread(*scan) for scan in target], axis=0)

    def nyul(image, inside):
        return landmarks.transform(NumpyImageAdapter(image), NumpyImageAdapter(inside)).get_data()

    def whitestripe(image, inside):
        own_mean, own_spread = mean_and_spread(image, inside)
        return (image - own_mean) / own_spread * spread + mean

    return {"nyul": nyul, "whitestripe": whitestripe}
