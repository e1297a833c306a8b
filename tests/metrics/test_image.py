import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tfdisent import metrics

GAUSSIAN = {"sigma": 1.5, "sample_covariance": False}
GAUSSIAN_OF_SKIMAGE = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
}


def _pairs(kind, shape=(3, 40, 33)):
    """Two batches of images in [-1, 1], alike but not equal."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, *shape))
    if kind == "smooth":
        a, b = (ndimage.gaussian_filter(x, 4, axes=(1, 2)) * 8 for x in (a, b))
    elif kind == "dark":  # where the constants decide
        a, b = a * 1e-3, b * 1e-3
    elif kind == "brain":  # exactly flat outside
        outside = np.hypot(*np.mgrid[-1:1:40j, -1:1:33j]) > 0.8
        a, b = (np.where(outside, -1, ndimage.gaussian_filter(x, 1, axes=(1, 2))) for x in (a, b))
    return a.clip(-1, 1), (0.8 * a + 0.2 * b).clip(-1, 1)


def _skimage_ssim(a, b, data_range, **options):
    options = {"data_range": data_range, **options}
    return np.array([structural_similarity(x, y, **options) for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("kind", ["random", "smooth", "dark", "brain"])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({}, {}),
        (GAUSSIAN, GAUSSIAN_OF_SKIMAGE),
        ({"sigma": 0.8}, {"gaussian_weights": True, "sigma": 0.8}),
        ({"window_size": 11, "sample_covariance": False}, {"win_size": 11}),
    ],
)
def test_ssim_equals_that_of_scikit_image(kind, ours, theirs):
    if "win_size" in theirs:
        theirs = {**theirs, "use_sample_covariance": False}
    a, b = _pairs(kind)
    values = metrics.ssim(a, b, 2.0, **ours)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, _skimage_ssim(a, b, 2.0, **theirs), rtol=0, atol=1e-9)


def test_of_images_with_channels_is_the_mean_over_them():
    a, b = _pairs("random", (2, 20, 24, 3))
    values = metrics.ssim(a, b, 2.0)
    np.testing.assert_allclose(values, _skimage_ssim(a, b, 2.0, channel_axis=-1), atol=1e-9)
    by_channel = [metrics.ssim(a[..., k], b[..., k], 2.0) for k in range(3)]
    np.testing.assert_allclose(values, np.mean(by_channel, axis=0))
    by_channel = [metrics.mean_absolute_error(a[..., k], b[..., k]) for k in range(3)]
    np.testing.assert_allclose(metrics.mean_absolute_error(a, b), np.mean(by_channel, axis=0))
    np.testing.assert_allclose(metrics.psnr(a, b, 2.0)[0], peak_signal_noise_ratio(a[0], b[0], data_range=2.0))


def test_equal_those_of_scikit_image_on_real_slices(shared_data):
    nibabel = pytest.importorskip("nibabel")
    files = sorted((shared_data / "ms_mni").rglob("*FLAIR*.nii*"))[:2]
    assert files
    slices = []
    for file in files:
        volume = np.asarray(nibabel.load(file).dataobj, np.float64)
        middle = volume.shape[2] // 2
        slices += [volume[:, :, middle], volume[:, :, middle + 3]]
    a, b = np.stack(slices[::2]), np.stack(slices[1::2])
    data_range = np.ptp(a, axis=(1, 2))
    ours, wang = metrics.ssim(a, b, data_range), metrics.ssim(a, b, data_range, **GAUSSIAN)
    signal = metrics.psnr(a, b, data_range)
    for k, peak in enumerate(data_range):
        pair = a[k : k + 1], b[k : k + 1], peak
        assert abs(ours[k] - _skimage_ssim(*pair)[0]) < 1e-6
        assert abs(wang[k] - _skimage_ssim(*pair, **GAUSSIAN_OF_SKIMAGE)[0]) < 1e-6
        assert abs(signal[k] - peak_signal_noise_ratio(a[k], b[k], data_range=peak)) < 1e-6


def test_equal_images_have_no_error_infinite_psnr_and_ssim_one():
    a, _ = _pairs("brain")
    np.testing.assert_array_equal(metrics.mean_absolute_error(a, a), 0)
    np.testing.assert_array_equal(metrics.psnr(a, a, 2.0), np.inf)
    np.testing.assert_array_equal(metrics.ssim(a, a, 2.0), 1)
    np.testing.assert_array_equal(metrics.ssim(a, a, 2.0, **GAUSSIAN), 1)


def test_a_constant_shift_is_the_error_and_gives_the_psnr_of_its_square():
    a, _ = _pairs("random")
    np.testing.assert_allclose(metrics.mean_absolute_error(a, a + 0.25), 0.25)
    np.testing.assert_allclose(metrics.psnr(a, a - 0.1, 1.0), 20)  # 10 log10(1 / 0.01)
    np.testing.assert_allclose(metrics.psnr(a, a - 0.1, 10.0), 40)


def test_ssim_of_flat_images_is_that_of_their_means():
    values = metrics.ssim(np.full((1, 9, 9), 0.2), np.full((1, 9, 9), 0.6), 1.0)
    np.testing.assert_allclose(values, (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))


def test_ssim_of_waves_and_their_negative_is_minus_one_but_for_the_constant():
    waves = np.tile(np.sin(2 * np.pi * np.arange(21) / 7), (1, 21, 1))  # mean 0 in every window
    variance, c2 = 0.5 * 49 / 48, 0.03**2
    expected = (c2 - 2 * variance) / (c2 + 2 * variance)
    np.testing.assert_allclose(metrics.ssim(waves, -waves, 1.0), expected)


def test_ssim_depends_on_values_and_range_by_their_ratio_alone():
    a, b = _pairs("random")
    np.testing.assert_allclose(metrics.ssim(1e4 * a, 1e4 * b, 2e4), metrics.ssim(a, b, 2.0))
    assert (metrics.ssim(a, b, 20.0) > metrics.ssim(a, b, 2.0)).all()


def test_a_range_per_image_is_that_of_the_image():
    a, b = _pairs("random")
    ranges = np.array([1.0, 2.0, 3.0])
    for function in (metrics.ssim, metrics.psnr):
        one_by_one = [function(a[k : k + 1], b[k : k + 1], ranges[k])[0] for k in range(3)]
        np.testing.assert_array_equal(function(a, b, ranges), one_by_one)


def test_whole_numbers_are_not_computed_in_their_own_type():
    a, b = np.full((1, 8, 8), 250, np.uint8), np.full((1, 8, 8), 255, np.uint8)
    np.testing.assert_array_equal(metrics.mean_absolute_error(a, b), 5)
    np.testing.assert_array_equal(metrics.mean_absolute_error(b, a), 5)
    expected = metrics.ssim(a.astype(float), b.astype(float), 255)
    np.testing.assert_array_equal(metrics.ssim(a, b, 255), expected)


def test_inside_a_mask_only_its_pixels_count():
    a, b = _pairs("random")
    mask = np.zeros(a.shape, np.uint8)
    mask[:, 10:20, 12:20] = 1
    changed = np.where(mask, b, b + 1)
    error = np.abs(a - b)[:, 10:20, 12:20].mean(axis=(1, 2))
    np.testing.assert_allclose(metrics.mean_absolute_error(a, changed, mask), error)
    np.testing.assert_array_equal(metrics.psnr(a, changed, 2.0, mask), metrics.psnr(a, b, 2.0, mask))


def test_ssim_inside_a_mask_is_the_mean_of_scikit_images_map_there():
    a, b = _pairs("random")
    mask = np.hypot(*np.mgrid[-1:1:40j, -1:1:33j]) < 0.7
    values = metrics.ssim(a, b, 2.0, np.stack([mask] * 3))
    for k in range(3):
        _, similarity = structural_similarity(a[k], b[k], data_range=2.0, full=True)
        np.testing.assert_allclose(values[k], similarity[mask].mean(), atol=1e-9)


def test_a_mask_of_everything_changes_nothing():
    a, b = _pairs("random", (2, 20, 20, 2))
    mask = np.ones(a.shape[:3], bool)
    np.testing.assert_allclose(metrics.ssim(a, b, 2.0, mask), metrics.ssim(a, b, 2.0))
    np.testing.assert_allclose(metrics.psnr(a, b, 2.0, mask), metrics.psnr(a, b, 2.0))
    np.testing.assert_allclose(metrics.mean_absolute_error(a, b, mask), metrics.mean_absolute_error(a, b))


def test_an_empty_mask_gives_nan_for_its_image_alone():
    a, b = _pairs("random")
    mask = np.ones(a.shape, bool)
    mask[1] = False
    for values in (
        metrics.mean_absolute_error(a, b, mask),
        metrics.psnr(a, b, 2.0, mask),
        metrics.ssim(a, b, 2.0, mask),
    ):
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    border = np.zeros(a.shape, bool)
    border[:, :3] = True  # where no window fits
    assert np.isnan(metrics.ssim(a, b, 2.0, border)).all()


def test_no_images_give_no_values():
    none = np.zeros((0, 16, 16))
    assert metrics.mean_absolute_error(none, none).shape == (0,)
    assert metrics.psnr(none, none, 1.0).shape == (0,)
    assert metrics.ssim(none, none, 1.0).shape == (0,)


def test_an_image_of_the_windows_size_has_one_window():
    a, b = _pairs("random", (2, 7, 7))
    np.testing.assert_allclose(metrics.ssim(a, b, 2.0), _skimage_ssim(a, b, 2.0), atol=1e-9)


IMAGES = np.zeros((2, 16, 16))
NAN = np.where(np.arange(2)[:, None, None] == 1, np.nan, IMAGES)


@pytest.mark.parametrize(
    "a, b, mask, message",
    [
        (IMAGES, IMAGES[:1], None, r"same shape, received \(2, 16, 16\) and \(1, 16, 16\)"),
        (IMAGES[0], IMAGES[0], None, r"\(N, H, W\) or \(N, H, W, C\), received float64 of shape"),
        (3.0, 3.0, None, r"\(N, H, W\)"),
        (IMAGES.astype(complex), IMAGES, None, "real numbers"),
        (IMAGES[:, :0], IMAGES[:, :0], None, r"\(N, H, W\)"),
        (IMAGES, NAN, None, "b to be finite, received 256 values that are not, the first in image 1"),
        (NAN, IMAGES, IMAGES, "a to be finite"),  # outside of the mask too
        (IMAGES, IMAGES, IMAGES[0], r"mask to be \(2, 16, 16\)"),
        (IMAGES, IMAGES, IMAGES + 2, "mask to hold booleans, or 0 and 1, received float64 from 2.0"),
    ],
)
def test_images_and_masks_that_do_not_fit_are_refused(a, b, mask, message):
    with pytest.raises(ValueError, match=message):
        metrics.mean_absolute_error(a, b, mask)
    with pytest.raises(ValueError, match=message):
        metrics.psnr(a, b, 1.0, mask)
    with pytest.raises(ValueError, match=message):
        metrics.ssim(a, b, 1.0, mask)


@pytest.mark.parametrize("data_range", [0, -1.0, np.nan, np.inf, [1.0, 0.0], [1.0, 1.0, 1.0]])
def test_an_impossible_range_is_refused(data_range):
    for function in (metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="data_range to be"):
            function(IMAGES, IMAGES, data_range)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"window_size": 17}, "window of 17 x 17 does not fit into images of shape"),
        ({"sigma": 3.0}, "window of 23 x 23 does not fit"),
        ({"window_size": 8}, "window_size to be odd, 3 or more, received 8"),
        ({"window_size": 7.5}, "to be odd"),
        ({"window_size": 1}, "3 or more, received 1"),
        ({"sigma": 0.1}, "sigma to be finite and 0.15 pixels or more, received 0.1"),
        ({"sigma": np.nan}, "sigma to be finite"),
        ({"sigma": 1.5, "window_size": 11}, r"window_size \(uniform\) or sigma \(Gaussian\)"),
    ],
)
def test_an_impossible_window_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        metrics.ssim(IMAGES, IMAGES, 1.0, **options)
