"""Functions with known effects, through the planes of volumes."""

import numpy as np
import pytest
import tensorflow as tf

from tfdisent.volumes import Volume
from tfdisent.volumes.planes import (
    PLANES,
    as_slices,
    extent,
    seen_in,
    slice_inconsistency,
    through_planes,
)


def identity(images):
    return images


def smooth(shape, seed=0):
    """Waves of 15 voxels or longer in every direction, in [-1, 1]."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    volume = sum(np.sin(grid @ random.uniform(-0.24, 0.24, 3) + random.uniform(0, 6)) for _ in range(6))
    return (volume / 6).astype(np.float32)


def noise(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def random_gains(sigma, seed=0):
    """A function that multiplies each slice by a gain of its own, and the list of all gains."""
    random, gains = np.random.default_rng(seed), []

    def function(images):
        drawn = 1 + sigma * random.normal(size=len(images))
        gains.extend(drawn)
        return images * drawn[:, None, None]

    return function, gains


def only_in(plane, order, other, function=identity):
    """`other` in the slices of one plane (planes are gone through in `order`), else `function`."""
    calls = iter(order)
    return lambda images: (other if next(calls) == plane else function)(images)


# --- views ---


@pytest.mark.parametrize("plane", PLANES)
def test_a_voxel_lies_at_the_same_place_in_every_plane(plane):
    """The volume holds its own millimetres to the right, to the front and upwards."""
    affine = np.array([[-0.9, 0.1, 0.2, 80], [0.1, -1.1, 0.3, 90], [0.0, 0.2, 3.0, -40], [0, 0, 0, 1]])
    s, h, w = np.meshgrid(*[np.arange(n) for n in (5, 7, 6)], indexing="ij")
    places = np.stack([w, h, s, np.ones_like(s)], axis=-1) @ affine.T
    for axis in range(3):
        seen = seen_in(Volume(places[..., axis], affine), plane)
        n, rows, columns = np.meshgrid(*[np.arange(k) for k in seen.array.shape], indexing="ij")
        index = np.stack([columns, rows, n, np.ones_like(n)], axis=-1)
        np.testing.assert_allclose((index @ seen.affine.T)[..., axis], seen.array)
    assert extent((5, 7, 6), plane) == seen.array.shape[1:]


# --- there and back ---


@pytest.mark.parametrize("planes", [("axial",), ("coronal",), PLANES])
@pytest.mark.parametrize("shape", [(8, 12, 10), (7, 11, 5), (9, 12, 11)])
@pytest.mark.parametrize("image_size", [(12, 12), (16, 13), (31, 20)])
def test_without_resampling_the_identity_gives_the_volume_back_exactly(shape, image_size, planes):
    volume = noise(shape)
    result = through_planes(volume, identity, image_size, pixel_spacing=1, planes=planes)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, volume)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.9, 1.1, 3.0), (2.0, 0.7, 1.3)])
@pytest.mark.parametrize("pixel_spacing", [None, 0.8, (0.9, 0.7)])
@pytest.mark.parametrize("planes", [("axial",), PLANES])
def test_with_resampling_it_gives_back_what_is_smooth(spacing, pixel_spacing, planes):
    volume = smooth((31, 40, 37))
    size = (128, 128)
    options = {"spacing": spacing, "pixel_spacing": pixel_spacing, "planes": planes}
    result = through_planes(volume, identity, size, **options)
    error = np.abs(result - volume)
    assert error.max() < 0.2 and error.mean() < 0.01  # of ends the kernel sees one side only
    assert error[1:-1, 1:-1, 1:-1].max() < 0.05
    assert np.isfinite(result).all()


def test_larger_pixels_blur_but_do_not_shift():
    volume = smooth((40, 40, 40))
    ramp = np.broadcast_to(np.linspace(-1, 1, 40, dtype=np.float32), (40, 40, 40))
    for array, tolerance in ((volume, 0.15), (ramp, 1e-5), (ramp.transpose(2, 0, 1), 1e-5)):
        result = through_planes(array, identity, (20, 20))
        inner = (slice(4, -4),) * 3
        np.testing.assert_allclose(result[inner], array[inner], atol=tolerance)


def test_a_resized_slice_is_what_training_would_see():
    volume, seen = noise((3, 30, 30)), []
    through_planes(volume, lambda x: seen.append(x) or x, (16, 16), planes=("axial",))
    expected = tf.image.resize(volume[..., None], (16, 16), antialias=True)[..., 0]
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    through_planes(volume, lambda x: seen.append(x) or x, (64, 64), planes=("axial",))
    expected = tf.image.resize(volume[..., None], (64, 64), antialias=True)[..., 0]
    np.testing.assert_allclose(seen[1], expected, atol=1e-5)


def test_slices_are_cut_and_filled_up_around_their_middle_as_in_preparation():
    from tfdisent.volumes.preprocess import crop_or_pad

    volume, seen = noise((2, 11, 24)), []
    options = {"pixel_spacing": 1, "planes": ("axial",), "constant": -3}
    result = through_planes(volume, lambda x: seen.append(x) or x, (16, 15), **options)
    np.testing.assert_array_equal(seen[0], crop_or_pad(volume, (16, 15), constant=-3))
    assert np.isnan(result[:, :, :4]).all() and np.isnan(result[:, :, 19:]).all()
    np.testing.assert_array_equal(result[:, :, 4:19], volume[:, :, 4:19])


def test_what_the_mask_needs_is_not_cut_off():
    volume, mask = noise((4, 40, 40)), np.zeros((4, 40, 40), bool)
    mask[1:3, 2:12, 29:39] = True
    calls = []
    options = {"pixel_spacing": 1, "mask": mask, "planes": ("axial",)}
    result = through_planes(volume, lambda x: calls.append(len(x)) or x, (16, 16), **options)
    np.testing.assert_array_equal(result[mask], volume[mask])
    assert calls == [2] and np.isnan(result[[0, 3]]).all()


def test_slices_of_every_plane_are_the_right_way_up():
    volume = np.zeros((6, 8, 10), np.float32)
    volume[5, 4, 5], volume[3, 0, 5], volume[3, 4, 0] = 1, 2, 3  # superior, anterior, right
    seen = {}
    for plane in PLANES:

        def function(images, plane=plane):
            seen[plane] = images
            return images

        through_planes(volume, function, (10, 10), pixel_spacing=1, planes=(plane,))

    def at(plane, value):
        return np.argwhere(as_slices(volume, plane) == value)[0].tolist()

    assert at("axial", 2)[1] == 0 and at("axial", 3)[2] == 0  # anterior up, right on the left
    assert at("coronal", 1)[1] == 0 and at("coronal", 3)[2] == 0  # superior up
    assert at("sagittal", 1)[1] == 0 and at("sagittal", 2)[2] == 0  # anterior on the left
    for plane in PLANES:
        assert seen[plane].max() == 3
        assert len(seen[plane]) == len(as_slices(volume, plane))


def test_pixels_keep_their_aspect_where_voxels_are_anisotropic():
    """A ball of 20 mm is one in the images of every plane."""
    z, y, x = np.meshgrid(np.arange(12) * 4.0, np.arange(48), np.arange(24) * 2.0, indexing="ij")
    radius = np.sqrt((z - 22) ** 2 + (y - 23.5) ** 2 + (x - 23) ** 2)
    ball = (1 - radius / 10).astype(np.float32)  # its edge is where it is 0
    for plane in PLANES:
        seen = []
        options = {"spacing": (1, 2, 4), "pixel_spacing": 0.5, "planes": (plane,)}
        through_planes(ball, lambda x, seen=seen: seen.append(x) or x, (96, 96), **options)
        rows, columns = np.where(np.concatenate(seen).max(0) > 0)
        assert abs(np.ptp(rows) - 38) <= 3 and abs(np.ptp(columns) - 38) <= 3


@pytest.mark.parametrize("shape", [(1, 12, 10), (12, 1, 10), (12, 10, 1)])
def test_a_volume_of_one_slice_goes_through_its_own_plane_alone(shape):
    volume, calls = noise(shape), []
    result = through_planes(volume, lambda x: calls.append(len(x)) or x, (12, 12), pixel_spacing=1)
    np.testing.assert_array_equal(result, volume)
    assert calls == [1]


def test_batches_are_not_larger_than_asked_for_and_make_no_difference():
    volume, sizes = smooth((9, 10, 11)), []
    one, all_at_once = (
        through_planes(volume, lambda x: sizes.append(len(x)) or x**2, (16, 16), batch_size=size) for size in (4, 100)
    )
    assert max(sizes[:-3]) == 4 and sizes[-3:] == [9, 10, 11]
    np.testing.assert_allclose(one, all_at_once, atol=1e-6)


# --- fusion ---


@pytest.mark.parametrize("fusion", ["mean", "median"])
def test_an_intensity_map_does_the_same_in_all_planes(fusion):
    volume = noise((10, 12, 11))
    result = through_planes(volume, lambda x: np.sin(2 * x), (12, 12), pixel_spacing=1, fusion=fusion)
    np.testing.assert_allclose(result, np.sin(2 * volume), atol=1e-6)


def test_the_mean_of_three_planes_has_a_third_of_the_inconsistency_and_of_the_variance():
    volume = np.ones((60, 60, 60), np.float32)
    alone, _ = random_gains(0.1)
    fused, gains = random_gains(0.1)
    options = {"pixel_spacing": 1, "constant": 0}
    axial = through_planes(volume, alone, (60, 60), planes=("axial",), **options)
    both = through_planes(volume, fused, (60, 60), **options)
    before = [slice_inconsistency(axial, volume, axis=axis) for axis in range(3)]
    after = [slice_inconsistency(both, volume, axis=axis) for axis in range(3)]
    assert before[0] > 0.08 and before[1:] == [0, 0]
    np.testing.assert_allclose(after[0], before[0] / 3, rtol=1e-4)
    # What it takes from one direction it gives to the others, to each what it had in its own plane.
    own = [np.abs(np.diff(gains[60 * k : 60 * (k + 1)])).mean() for k in range(3)]
    np.testing.assert_allclose(after, np.array(own) / 3, rtol=1e-4)
    assert both.var() == pytest.approx(np.var(gains) / 3, rel=0.1)


def test_the_median_of_three_planes_lessens_inconsistency_almost_as_much():
    """Of independent normal errors a, a', b, c: E abs(med(a, b, c) - med(a', b, c)) is the integral of 4 F^2 (1 - F)^2,
    and E abs(a - a') that of 2 F (1 - F).
    """
    from scipy.stats import norm

    x = np.linspace(-8, 8, 4001)
    spread = norm.cdf(x) * (1 - norm.cdf(x))
    factor = (4 * spread**2).sum() / (2 * spread).sum()
    assert factor == pytest.approx(0.35, abs=0.02)
    volume = np.ones((60, 60, 60), np.float32)
    options = {"pixel_spacing": 1, "constant": 0}
    ratios = []
    for seed in range(6):
        axial, fused = (
            through_planes(volume, random_gains(0.1, seed)[0], (60, 60), **more, **options)
            for more in ({"planes": ("axial",)}, {"fusion": "median"})
        )
        ratios.append(slice_inconsistency(fused, volume) / slice_inconsistency(axial, volume))
    assert np.mean(ratios) == pytest.approx(factor, rel=0.05)


def test_one_failing_plane_is_outvoted_by_the_median_and_averaged_by_the_mean():
    volume = smooth((20, 20, 20))
    options = {"pixel_spacing": 1, "batch_size": 20}
    for plane in PLANES:
        median, mean = (
            through_planes(volume, only_in(plane, PLANES, lambda x: x + 0.9), (20, 20), fusion=f, **options)
            for f in ("median", "mean")
        )
        np.testing.assert_array_equal(median, volume)
        np.testing.assert_allclose(mean, volume + 0.3, atol=1e-6)


def test_planes_count_by_their_resolution():
    """Slices 3 pixels apart: coronal and sagittal images are interpolated, and weigh a third."""
    volume = np.zeros((20, 48, 48), np.float32)
    shares = []
    for plane in PLANES:
        function = only_in(plane, PLANES, np.ones_like)
        options = {"spacing": (1, 1, 3), "pixel_spacing": 1, "batch_size": 99}
        result = through_planes(volume, function, (64, 64), **options)
        shares.append(result[10, 24, 24])
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=1e-5)


def test_of_planes_that_do_not_reach_a_voxel_the_others_answer():
    """20 of 40 columns are in axial and coronal images, all in sagittal ones."""
    volume = smooth((20, 20, 40))
    fail = only_in("sagittal", PLANES, lambda x: x + 0.3)
    for fusion in ("mean", "median"):
        result = through_planes(volume, fail, (20, 20), pixel_spacing=1, batch_size=40, fusion=fusion)
        np.testing.assert_allclose(result[..., :10], volume[..., :10] + 0.3, atol=1e-6)
        expected = volume[..., 10:30] + (0.1 if fusion == "mean" else 0)
        np.testing.assert_allclose(result[..., 10:30], expected, atol=1e-6)
        fail = only_in("sagittal", PLANES, lambda x: x + 0.3)


# --- stacks ---


def test_each_channel_of_a_stack_goes_through_as_it_does_alone():
    volumes = [smooth((13, 20, 17), seed) for seed in range(3)]
    options = {"spacing": (0.9, 1.1, 3.0), "pixel_spacing": 1.2}
    for fusion in ("mean", "median"):
        for constants in ((-1, 0, 5), (2, 2, 2)):
            together = through_planes(
                np.stack(volumes, -1), np.sin, (24, 16), fusion=fusion, constant=constants, **options
            )
            for volume, constant, result in zip(volumes, constants, np.moveaxis(together, -1, 0), strict=True):
                alone = through_planes(volume, np.sin, (24, 16), fusion=fusion, constant=constant, **options)
                np.testing.assert_array_equal(result, alone)


def test_a_function_of_two_channels_may_make_three_and_sees_the_same_voxels_in_both():
    one, other = noise((9, 12, 10)), noise((9, 12, 10), 1)
    images = []

    def function(stack):
        images.append(stack)
        a, b = stack[..., 0], stack[..., 1]
        return np.stack([a + b, a - b, a * b], axis=-1)

    result = through_planes(np.stack([one, other], -1), function, (12, 12), pixel_spacing=1)
    assert result.shape == (9, 12, 10, 3) and result.dtype == np.float32
    np.testing.assert_allclose(result, np.stack([one + other, one - other, one * other], -1), atol=1e-6)
    assert {stack.shape[1:] for stack in images} == {(12, 12, 2)}


def test_probabilities_of_three_planes_are_averaged_and_still_sum_to_one():
    """Sure of the second class in axial slices, of the first in the others: 2/3 to 1/3."""
    stack = np.zeros((8, 8, 8, 2), np.float32)

    def of_class(number):
        return lambda images: np.broadcast_to(np.eye(3)[number], (*images.shape[:3], 3))

    function = only_in("axial", PLANES, of_class(1), of_class(0))
    result = through_planes(stack, function, (8, 8), pixel_spacing=1)
    np.testing.assert_allclose(result, np.broadcast_to([2 / 3, 1 / 3, 0], result.shape), atol=1e-6)


def test_of_a_stack_too_slices_without_mask_are_not_computed():
    stack, mask, calls = noise((4, 40, 40, 2)), np.zeros((4, 40, 40), bool), []
    mask[1:3, 2:12, 29:39] = True
    options = {"pixel_spacing": 1, "mask": mask, "planes": ("axial",)}
    result = through_planes(stack, lambda x: calls.append(len(x)) or x[..., ::-1], (16, 16), **options)
    np.testing.assert_array_equal(result[mask], stack[mask][..., ::-1])
    assert calls == [2] and np.isnan(result[[0, 3]]).all()


# --- the measure ---


def test_an_error_common_to_all_slices_is_no_inconsistency():
    truth = smooth((8, 9, 10))
    assert slice_inconsistency(truth, truth) == 0
    pattern = noise((9, 10))
    assert slice_inconsistency(truth + pattern, truth) == pytest.approx(0, abs=1e-6)
    steps = np.array([0, 1, 1, 0, 3, 3, 3, 3], np.float32)[:, None, None]
    assert slice_inconsistency(truth + steps, truth) == pytest.approx(5 / 7, rel=1e-5)
    assert slice_inconsistency(truth + steps, truth, axis=1) == pytest.approx(0, abs=1e-6)
    mask = np.zeros(truth.shape, bool)
    mask[4:6] = True
    assert slice_inconsistency(truth + steps, truth, mask=mask) == pytest.approx(0, abs=1e-6)


def test_without_neighbours_there_is_no_inconsistency():
    one = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(ValueError, match="two neighbouring slices"):
        slice_inconsistency(one, one)
    with pytest.raises(ValueError, match="one shape, received"):
        slice_inconsistency(one, one[0])


# --- mistakes ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": np.zeros((4, 4), np.float32)}, "a volume .S, H, W. of floats"),
        ({"volume": np.zeros((4, 4, 4), np.int16)}, "of floats, received .* of int16"),
        ({"planes": ("axial", "oblique")}, "planes among axial, coronal, sagittal"),
        ({"planes": ()}, "planes among"),
        ({"fusion": "sum"}, "mean, median, received 'sum'"),
        ({"spacing": (1, 1, 0)}, "three positive numbers"),
        ({"pixel_spacing": -1}, "pixel_spacing to be positive"),
        ({"image_size": (0, 8)}, "image_size"),
        ({"mask": np.ones((4, 4, 5), bool)}, "mask of bool on the volume's grid"),
        ({"function": lambda x: x[:, 1:]}, "images of shape .*, as it was given; received"),
        ({"function": lambda x: x * np.nan}, "finite values"),
        ({"constant": (0, 1)}, "constant to be one number, received"),
        ({"volume": np.zeros((4, 4, 4, 2), np.float32), "constant": (0, 1, 2)}, "one number or 2, received"),
        ({"volume": np.zeros((4, 4, 4, 2), np.float32), "function": lambda x: x[..., 0]}, "8, 8, K.; received"),
        ({"volume": np.zeros((4, 4, 4, 2), np.float32), "mask": np.zeros((4, 4, 4), bool)}, "received an empty one"),
    ],
)
def test_wrong_arguments_are_told(change, message):
    volume = np.zeros((4, 4, 4), np.float32)
    arguments = {"volume": volume, "function": identity, "image_size": (8, 8), **change}
    with pytest.raises(ValueError, match=message):
        through_planes(**arguments)
