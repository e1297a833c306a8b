"""The thin-plate transformer: its field is SciPy's, its direction and axes are as documented."""

import keras
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from tests.checks import array, check_layer
from tfdisent.layers import ThinPlateTransformer


def made(height, width, points=5):
    layer = ThinPlateTransformer(points)
    layer.build([(None, height, width, 1), (None, points**2, 2)])
    return layer


def sampled(layer, inputs):
    """The warped image alone."""
    return array(layer(inputs)[0])


def image(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def constant(down, right, size=1):
    """Offsets (size, 25, 2) that are the same everywhere."""
    return np.broadcast_to(np.float32([down, right]), (size, 25, 2))


def coordinates(rows, columns):
    axes = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return np.stack(axes, -1).reshape(-1, 2)


@pytest.mark.parametrize("height, width, points", [(16, 16, 5), (12, 20, 5), (9, 7, 3)])
def test_the_field_is_scipys_thin_plate_spline(height, width, points):
    offsets = image(2, points**2, 2) * 0.2
    field = array(made(height, width, points).field(offsets)) / (height - 1, width - 1)
    for one, given in zip(field.reshape(2, -1, 2), offsets, strict=True):
        spline = RBFInterpolator(coordinates(points, points), given, kernel="thin_plate_spline")
        np.testing.assert_allclose(one, spline(coordinates(height, width)), atol=2e-5)


def test_without_offsets_the_image_stays():
    x = image(2, 8, 11, 3)
    np.testing.assert_allclose(sampled(made(8, 11), [x, constant(0, 0, 2)]), x, atol=1e-6)


@pytest.mark.parametrize("rows, columns", [(2, 0), (0, 3), (-1, 2)])
def test_the_output_is_the_image_at_pixel_plus_field_and_zero_outside(rows, columns):
    height, width = 9, 12
    x = image(1, height, width, 2)
    output = sampled(made(height, width), [x, constant(rows / (height - 1), columns / (width - 1))])
    expected = np.zeros_like(x)
    for r in range(height):
        for c in range(width):
            if 0 <= r + rows < height and 0 <= c + columns < width:
                expected[0, r, c] = x[0, r + rows, c + columns]
    np.testing.assert_allclose(output, expected, atol=1e-5)


def test_a_control_point_moves_what_is_near_it_and_is_met():
    layer = made(17, 17)
    offsets = np.zeros((1, 25, 2), "float32")
    offsets[0, 5 * 1 + 3] = 0.0, 0.125  # second row, fourth column: pixel 4, 12
    field = array(layer.field(offsets))[0]
    np.testing.assert_allclose(field[4, 12], [0, 2], atol=1e-4)
    np.testing.assert_allclose(field[::4, ::4].reshape(25, 2).sum(0), [0, 2], atol=1e-3)
    assert np.abs(field[..., 0]).max() < 1e-4


def test_a_place_far_outside_gives_zero():
    assert np.all(sampled(made(8, 8), [image(1, 8, 8, 1), constant(1e12, -1e12)]) == 0)


def test_examples_are_warped_each_by_its_own_offsets():
    layer, x = made(8, 8), image(2, 8, 8, 1)
    offsets = np.concatenate([constant(0, 0), constant(1 / 7, 0)])
    both = sampled(layer, [x, offsets])
    for k in range(2):
        np.testing.assert_allclose(both[k : k + 1], sampled(layer, [x[k : k + 1], offsets[k : k + 1]]), atol=1e-6)


def test_a_gradient_on_the_offsets_finds_a_known_shift():
    y, x = np.mgrid[:16, :16]
    blob = np.exp(-((y - 7) ** 2 + (x - 7) ** 2) / 18)[None, ..., None].astype("float32")
    moved = np.exp(-((y - 8) ** 2 + (x - 5) ** 2) / 18)[None, ..., None].astype("float32")
    picture, told = keras.Input((16, 16, 1)), keras.Input((1,))
    offsets = keras.layers.Reshape((25, 2))(keras.layers.Dense(50, kernel_initializer="zeros")(told))
    transformer = ThinPlateTransformer()
    model = keras.Model([picture, told], transformer([picture, offsets])[0])
    chosen = keras.Model(told, offsets)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    for _ in range(40):
        model.train_on_batch([blob, np.ones((1, 1))], moved)
    field = array(transformer.field(chosen(np.ones((1, 1), "float32"))))[0]
    # What went one pixel down and two to the left is looked at one up and two to the right.
    np.testing.assert_allclose(field[5:11, 3:9].mean((0, 1)), [-1, 2], atol=0.3)


def test_bad_sizes_and_offsets_are_refused():
    with pytest.raises(ValueError, match="must be 2 or more"):
        ThinPlateTransformer(1)
    with pytest.raises(ValueError, match=r"offsets \(B, 25, 2\)"):
        ThinPlateTransformer().build([(None, 8, 8, 1), (None, 16, 2)])
    with pytest.raises(ValueError, match="known height"):
        ThinPlateTransformer().build([(None, None, 8, 1), (None, 25, 2)])


def test_it_passes_the_layer_checks():
    shapes = [(2, 8, 8, 3), (2, 25, 2)]
    check_layer(ThinPlateTransformer, shapes, [(2, 8, 8, 3), (2, 8, 8, 2)], num_trainable=0)


def test_the_config_makes_the_layer_again():
    assert ThinPlateTransformer.from_config(ThinPlateTransformer(4).get_config()).points == 4
