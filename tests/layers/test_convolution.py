import keras
import numpy as np
import pytest

from tests.checks import check_layer
from tfdisent.layers import UpsampleConv2D


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (1, 5, 7, 2), (2, 1, 1, 4)])
def test_it_equals_nearest_upsampling_followed_by_a_convolution(shape, use_bias):
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    layer = UpsampleConv2D(6, use_bias=use_bias, kernel_initializer="normal")
    layer.build(shape)
    pair = keras.layers.Conv2D(6, 3, padding="same", use_bias=use_bias)
    enlarged = keras.layers.UpSampling2D(2, interpolation="nearest")(images)
    pair.build(enlarged.shape)
    weights = [np.random.default_rng(1).standard_normal(w.shape) for w in layer.weights]
    layer.set_weights(weights)
    pair.set_weights(weights)

    one, two = (keras.ops.convert_to_numpy(x) for x in (layer(images), pair(enlarged)))
    np.testing.assert_allclose(one, two, atol=2e-5)


def test_it_behaves_as_a_layer():
    check_layer(lambda: UpsampleConv2D(5), (2, 4, 6, 3), (2, 8, 12, 5), num_trainable=2)


def test_filters_below_one_are_refused():
    with pytest.raises(ValueError, match="filters"):
        UpsampleConv2D(0)
