import numpy as np
import pytest

from tfdisent.intensity import INTENSITY, bounds, divisor, intensity_statistics, scale, statistic, volume_statistics


def by_numpy(values):
    values = values.astype(np.float64)
    percentiles = np.percentile(values, (0.5, 1, 99, 99.5))
    return [values.min(), values.max(), values.mean(), values.std(), *percentiles]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float16, np.float32])
def test_statistics_are_those_of_numpy_inside_the_mask(dtype):
    random = np.random.default_rng(0)
    ends = (-100, 100) if np.dtype(dtype).kind != "u" else (0, 200)
    array = random.integers(*ends, (5, 20, 30)).astype(dtype)
    mask = random.random(array.shape) < 0.3
    found = volume_statistics(array, mask)
    assert found.dtype == np.float32 and found.shape == (len(INTENSITY),)
    np.testing.assert_allclose(found, by_numpy(array[mask]), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(volume_statistics(array), by_numpy(array), atol=1e-4)
    with pytest.raises(ValueError, match="foreground is empty"):
        volume_statistics(array, np.zeros_like(mask))


def test_statistics_hold_at_the_ends_of_the_integers():
    array = np.array([[[-(2**15), 2**15 - 1]]], np.int16)
    found = volume_statistics(array)
    np.testing.assert_allclose(found[:4], [-32768, 32767, -0.5, 32767.5])
    assert (volume_statistics(np.full((1, 2, 2), 7, np.int16))[4:] == 7).all()


def test_statistics_are_those_of_the_foreground():
    image = np.array([[[-100.0], [1.0]], [[3.0], [5.0]]])
    got = intensity_statistics(image, image[..., 0] > 0)
    np.testing.assert_allclose(got[0, :3], [1, 5, 3])
    with pytest.raises(ValueError, match="foreground is empty"):
        intensity_statistics(image, image[..., 0] > 9)


def test_each_channel_has_its_own_statistics():
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    expected = [by_numpy(image[..., channel]) for channel in range(3)]
    np.testing.assert_allclose(intensity_statistics(image), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "normalize, low, high",
    [("volume", 10, 90), ("slice", 10, 90), ("percentile", 20, 60), ("zscore", 30, 70)],
)
def test_a_scale_brings_the_ends_of_a_normalisation_to_minus_one_and_one(normalize, low, high):
    statistics = np.array([10, 90, 50, 20, 20, 25, 55, 60], np.float32)
    for found in (statistics, np.stack([statistics] * 3)):
        zero, unit = scale(found, normalize)
        np.testing.assert_allclose(
            [(low - zero) / unit, (high - zero) / unit], [-np.ones_like(zero), np.ones_like(zero)]
        )
    assert scale(statistics, normalize, is_uint8=True) == (
        (127.5, 127.5) if normalize == "volume" else (zero[0], unit[0])
    )
    if normalize != "zscore":
        assert bounds(statistics, normalize) == (low, high)


@pytest.mark.parametrize("size", [0, 7, -7, 1e-30, 1e-12, 1e12, 1e30])
def test_a_constant_volume_becomes_the_lowest_value_or_the_mean_and_its_background_stays_small(size):
    for normalize, expected in (("volume", -1), ("percentile", -1), ("slice", -1), ("zscore", 0)):
        zero, unit = scale(volume_statistics(np.full((2, 2, 2), size, np.float32)), normalize)
        assert (np.float32(size) - zero) / unit == pytest.approx(expected)
        assert abs(0 - zero) / unit <= 3


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-6, 1, 1e6, 1e12, 1e30])
def test_statistics_and_scales_go_with_the_unit_of_the_intensities(size):
    values = np.random.default_rng(0).normal(3, 1, (4, 5, 6))
    values = (values * size).astype(np.float32)
    np.testing.assert_allclose(volume_statistics(values), by_numpy(values), rtol=1e-6)
    for normalize in ("volume", "percentile", "slice", "zscore"):
        zero, unit = scale(volume_statistics(values), normalize)
        found = (values.astype(np.float64) - zero) / unit
        if normalize == "zscore":
            assert found.mean() == pytest.approx(0, abs=1e-5) and found.std() == pytest.approx(1, rel=1e-5)
        elif normalize != "percentile":
            assert found.min() == pytest.approx(-1) and found.max() == pytest.approx(1)


def test_a_range_of_nothing_but_rounding_is_none():
    np.testing.assert_array_equal(
        divisor(np.array([0.5, 1e-7, 0.0]), np.array([-3, 2, 0]), 2 * np.ones(3)), [0.5, 2, 2]
    )
    assert divisor(0.0, 0.0, 0.0) == 1


def test_statistics_are_found_by_their_names():
    statistics = np.arange(16.0).reshape(2, 8)
    assert statistic(statistics, "std").tolist() == [3, 11]
