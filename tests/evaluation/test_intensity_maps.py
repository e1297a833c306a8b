"""Maps of intensities: what a line and a table reach that are fitted to slices whose contrasts are known functions."""

import numpy as np
import pytest

from tfdisent.evaluation.intensity_maps import BINS, intensity_maps, opponents
from tfdisent.examples import Examples

PAIRS = [(0, 1), (1, 0)]


def slices(function, count=6, size=16, **more):
    """Slices in two contrasts, the second a function of the first, which is uniform in [0, 1]; a border of -1."""
    first = np.random.default_rng(0).uniform(0, 1, (count, size, size))
    image = 2 * np.stack([first, function(first)], axis=-1) - 1
    image[:, :2] = image[:, -2:] = -1
    return {"image": image.astype("float32"), **more}


def test_an_affine_contrast_is_mapped_exactly_by_a_line_and_closely_by_a_table():
    maps = intensity_maps(Examples.of(slices(lambda x: 0.8 - 0.5 * x)), PAIRS)
    values = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(maps["affine"][0, 1](values), 0.8 - 0.5 * values, atol=1e-6)
    np.testing.assert_allclose(maps["lookup"][0, 1](values), 0.8 - 0.5 * values, atol=1 / BINS)
    np.testing.assert_allclose(maps["affine"][1, 0](0.8 - 0.5 * values), values, atol=1e-5)


def test_a_contrast_that_turns_around_is_mapped_by_the_table_alone():
    maps = intensity_maps(Examples.of(slices(lambda x: np.abs(2 * x - 1))), PAIRS)
    values = np.linspace(0.02, 0.98, 49)
    truth = np.abs(2 * values - 1)
    assert np.abs(maps["lookup"][0, 1](values) - truth).max() < 3 / BINS
    assert np.abs(maps["affine"][0, 1](values) - truth).mean() > 0.2


def test_a_map_of_a_constant_contrast_is_the_mean_whatever_it_is_asked():
    data = slices(lambda x: x)
    inside = data["image"][..., 0] > -1
    data["image"][..., 0][inside] = 0.0
    maps = intensity_maps(Examples.of(data), PAIRS)
    mean = (data["image"][..., 1][inside].mean(dtype=float) + 1) / 2
    for kind in ("affine", "lookup"):
        np.testing.assert_allclose(maps[kind][0, 1](np.array([0.0, 0.5, 1.0])), mean, atol=1e-6)


def test_batches_and_slices_without_both_contrasts_change_nothing(monkeypatch):
    data = slices(lambda x: x**2, count=8)
    whole = intensity_maps(Examples.of({name: values[:4] for name, values in data.items()}), PAIRS)
    wrong = data["image"].copy()
    wrong[4:, ..., 1] *= -1
    there = np.ones((8, 2), "float32")
    there[4:, 1] = 0
    monkeypatch.setattr("tfdisent.examples.LARGEST_BATCH", 3)
    streamed = intensity_maps(Examples.of({"image": wrong, "available": there}), PAIRS)
    values = np.linspace(0, 1, 21)
    for kind, by_pair in whole.items():
        np.testing.assert_allclose(streamed[kind][0, 1](values), by_pair[0, 1](values), atol=1e-9)


def test_a_pair_that_no_slice_has_has_no_map():
    there = np.tile(np.array([[1, 0]], "float32"), (6, 1))
    assert intensity_maps(Examples.of(slices(lambda x: x, available=there)), PAIRS) == {"affine": {}, "lookup": {}}


def test_opponents_are_given_the_background():
    data = slices(lambda x: 1 - x)["image"]
    maps = intensity_maps(Examples.of({"image": data}), PAIRS)
    inside = (data != -1).any(axis=-1)
    for _, made in opponents(maps, (0, 1), data[..., 0], data[..., 1], inside):
        assert (made[~inside] == -1).all()
        assert np.abs(made - data[..., 1]).max() < 3 / BINS
    assert list(opponents(maps, (0, 0), data[..., 0], data[..., 0], inside)) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_neighbours_are_mapped_by_what_is_shown(channels):
    wide = np.repeat(slices(lambda x: 1 - x)["image"], channels, axis=-1)
    maps = intensity_maps(Examples.of({"image": wide}), PAIRS, lambda batch: batch["image"][..., ::channels])
    assert maps["affine"][0, 1](np.array([0.25])) == pytest.approx(0.75, abs=1e-6)
