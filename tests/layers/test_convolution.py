import keras
import numpy as np
import pytest

from tests.checks import check_layer, to_numpy
from tfdisent.layers import CondConv2D, UpsampleConv2D


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


# Conditional convolution


def conditional(num_conditions=2, shape=(2, 6, 6, 3), **settings):
    """A layer with weights of its own, and images."""
    layer = CondConv2D(4, 3, **settings)
    layer.build([shape, (1, num_conditions)])
    random = np.random.default_rng(0)
    layer.set_weights([random.normal(size=w.shape) for w in layer.weights])
    return layer, random.normal(size=shape).astype("float32")


@pytest.mark.parametrize("strides", [1, 2])
def test_a_conditional_convolution_is_one_whose_kernel_is_the_sum_of_its_experts_by_their_shares(strides):
    layer, images = conditional(strides=strides)
    kernel, bias, route_kernel, route_bias = layer.get_weights()
    plain = keras.layers.Conv2D(4, 3, strides, padding="same")
    plain.build(images.shape)
    for k in range(2):
        share = 1 / (1 + np.exp(-(route_kernel[k] + route_bias)))
        plain.set_weights([np.tensordot(share, kernel, 1), bias])
        one, two = layer([images, np.eye(2)[[k]]]), plain(images)
        np.testing.assert_allclose(to_numpy(one), to_numpy(two), atol=1e-5)


def test_scalar_routing_sees_the_number_of_the_condition_from_one():
    layer, images = conditional(routing="scalar", num_conditions=3)
    kernel, bias, route_kernel, route_bias = layer.get_weights()
    assert route_kernel.shape == (1, 3)
    plain = keras.layers.Conv2D(4, 3, padding="same")
    plain.build(images.shape)
    share = 1 / (1 + np.exp(-(3 * route_kernel[0] + route_bias)))
    plain.set_weights([np.tensordot(share, kernel, 1), bias])
    np.testing.assert_allclose(to_numpy(layer([images, np.eye(3)[[2]]])), to_numpy(plain(images)), atol=1e-5)


def test_kernels_are_mixed_once_a_call_whatever_the_number_of_images(monkeypatch):
    layer, _ = conditional()
    kernels = []
    real = keras.ops.conv
    monkeypatch.setattr(
        keras.ops, "conv", lambda x, kernel, *a, **k: kernels.append(kernel) or real(x, kernel, *a, **k)
    )
    layer([np.zeros((7, 6, 6, 3), "float32"), np.repeat(np.eye(2)[[0]], 7, axis=0)])
    assert [tuple(kernel.shape) for kernel in kernels] == [(3, 3, 3, 4)]


def test_each_expert_starts_as_a_convolution_of_its_own_would():
    layer = CondConv2D(64, 3)
    layer.build([(None, 8, 8, 64), (None, 2)])
    alone = np.sqrt(2 / (9 * 64 + 9 * 64))
    np.testing.assert_allclose(to_numpy(layer.kernel).std(axis=(1, 2, 3, 4)), alone, rtol=0.05)


@pytest.mark.parametrize("initializer", ["glorot_uniform", keras.initializers.HeNormal(seed=3)])
def test_experts_start_with_values_of_their_own_which_the_seed_decides(initializer):
    kernels = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        layer = CondConv2D(8, 3, kernel_initializer=initializer)
        layer.build([(None, 8, 8, 8), (None, 2)])
        kernels.append(to_numpy(layer.kernel))
    np.testing.assert_array_equal(*kernels)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        correlation = np.corrcoef(kernels[0][one].ravel(), kernels[0][other].ravel())[0, 1]
        assert abs(correlation) < 0.2


@pytest.mark.parametrize("routing", ["one_hot", "scalar"])
def test_a_conditional_convolution_behaves_as_a_layer(routing):
    check_layer(lambda: CondConv2D(5, 3, 2, routing=routing), [(2, 4, 6, 3), (2, 2)], (2, 2, 3, 5), num_trainable=4)


@pytest.mark.parametrize("settings", [{"filters": 0}, {"num_experts": 0}, {"routing": "embedding"}])
def test_what_a_conditional_convolution_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CondConv2D(**{"filters": 2, "kernel_size": 3, **settings})
