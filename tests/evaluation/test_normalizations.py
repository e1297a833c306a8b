"""Normalisations that need no network: each undoes the difference that it is made for, and none touches the rest."""

import numpy as np
import pytest

from tfdisent.evaluation import normalizations as known
from tfdisent.evaluation.normalizations import normalizations, normalized

needs_package = pytest.mark.skipif(not known.is_installed(), reason="the extra normalize is not installed")


def scan(seed, gain=1.0, offset=0.0, gamma=1.0, slices=3):
    """Three tissues, the brightest the most frequent, as white matter is on T1; zero outside of a square."""
    random = np.random.default_rng(seed)
    image = np.zeros((slices, 24, 24))
    inside = np.zeros(image.shape, bool)
    inside[:, 3:21, 3:21] = True
    tissue = random.choice([0.2, 0.4, 0.6], p=[0.2, 0.35, 0.45], size=int(inside.sum()))
    values = tissue + 0.02 * random.normal(size=tissue.size)
    image[inside] = gain * np.clip(values, 0.01, 1) ** gamma + offset
    return image, inside


def fitted(**of_source):
    source, target = ([scan(100 + k, **how) for k in range(4)] for how in (of_source, {}))
    return normalizations(iter(source), iter(target))


def error(maps, name, **of_source):
    image, inside = scan(1, **of_source)
    truth, _ = scan(1)
    made = (normalized(maps[name], 2 * image - 1, inside) + 1) / 2
    assert np.array_equal(made[~inside], image[~inside].astype(np.float32))
    return np.abs(made - truth)[inside].mean()


LINEAR = {"gain": 0.6, "offset": 0.1}
CURVED = {"gamma": 0.35}


@pytest.mark.parametrize("name", ["zscore", "histogram", "histogram_scan", "n4_histogram_scan"])
def test_a_gain_and_an_offset_are_undone(name):
    assert error(fitted(**LINEAR), name, **LINEAR) < 0.015 < 0.1 < np.abs(scan(1, **LINEAR)[0] - scan(1)[0]).max()


@pytest.mark.parametrize(("name", "least", "most"), [("zscore", 0.012, 0.1), ("histogram", 0, 0.01)])
def test_a_curve_is_undone_by_histograms_and_not_by_z_scores(name, least, most):
    assert least < error(fitted(**CURVED), name, **CURVED) < most


def test_a_scan_of_its_own_gain_is_matched_by_its_own_histogram_and_not_by_that_of_all_scans():
    maps, odd = fitted(), {"gain": 0.7}
    assert error(maps, "histogram_scan", **odd) < 0.015 < 0.08 < error(maps, "histogram", **odd)


def test_a_bias_field_is_undone_after_n4_alone_and_slices_without_foreground_pass():
    image, inside = scan(1)
    field = np.linspace(0.7, 1.3, 24)
    maps, truth = fitted(), image.copy()
    inside[2], image[2] = False, 0
    errors = {
        name: np.abs((normalized(maps[name], 2 * image * field - 1, inside) + 1) / 2 - truth)[inside].mean()
        for name in ("histogram_scan", "n4_histogram_scan")
    }
    assert errors["n4_histogram_scan"] < 0.5 * errors["histogram_scan"]


def test_n4_leaves_the_scale_between_slices():
    image, inside = scan(1)
    image[1] *= np.linspace(0.5, 1.5, 24)
    found = known._without_bias(image, inside)
    levels = [np.exp(np.log(one[where] + 0.1).mean()) for one, where in zip(found, inside, strict=True)]
    expected = [np.exp(np.log(one[where] + 0.1).mean()) for one, where in zip(image, inside, strict=True)]
    np.testing.assert_allclose(levels, expected, rtol=1e-3)


@needs_package
@pytest.mark.parametrize("name", ["nyul", "whitestripe"])
def test_the_package_s_two_undo_a_gain_and_an_offset(name):
    assert error(fitted(**LINEAR), name, **LINEAR) < 0.03


def test_without_the_package_its_two_are_left_out(monkeypatch):
    monkeypatch.setattr(known, "is_installed", lambda: False)
    assert set(fitted()) == {"zscore", "histogram", "histogram_scan", "n4_histogram_scan"}


def test_equal_intensities_keep_one_value_and_an_empty_scan_stays():
    image, inside = scan(0)
    flat = np.where(inside, 0.3, 0)
    for name, normalize in fitted().items():
        if name not in known.OF_PACKAGE:
            made = normalized(normalize, 2 * flat - 1, inside)
            assert np.isfinite(made).all() and np.ptp(made[inside]) == 0, name
            assert np.array_equal(normalized(normalize, image, np.zeros_like(inside)), image)


def test_a_domain_without_foreground_is_refused():
    empty = (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool))
    with pytest.raises(ValueError, match="of the source with foreground"):
        normalizations([empty], [scan(0)])
