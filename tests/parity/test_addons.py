"""Our layers and averages against numbers that TensorFlow Addons computed.

addons.npz is written by recompute.py in TensorFlow Addons' own environment. Conventions: their
`InstanceNormalization` has the axis, epsilon and formula of ours. Their `SpectralNormalization`
keeps u as one row (1, columns) and, in training, overwrites the kernel with kernel / sigma; ours
keeps u as a vector and returns kernel / sigma, so its outputs and u are compared, and their
overwritten kernel with `normalized_kernel()`. Their SWA averages after the steps
`start_averaging + k * average_period`, counted from 0; ours when `update()` is called.
"""

import pathlib

import keras
import numpy as np
import pytest

from tests.checks import to_numpy
from tfdisent.layers import InstanceNormalization, SpectralNormalization
from tfdisent.training.averaging import StochasticWeightAveraging


@pytest.fixture(scope="module")
def stored():
    with np.load(pathlib.Path(__file__).with_name("addons.npz")) as file:
        return dict(file)


def case(stored, name):
    prefix = name + "/"
    return {key.removeprefix(prefix): x for key, x in stored.items() if key.startswith(prefix)}


def assert_equal(ours, theirs):
    np.testing.assert_allclose(to_numpy(ours), theirs, rtol=1e-6, atol=1e-6)


def test_numbers_come_from_the_last_tensorflow_addons(stored):
    assert str(stored["addons"]) == "0.23.0"
    assert str(stored["tensorflow"]) == "2.15.1"


def test_instance_normalization(stored):
    theirs = case(stored, "instance_normalization")
    layer = InstanceNormalization()
    assert layer.epsilon == theirs["epsilon"]
    layer.build(theirs["inputs"].shape)
    layer.gamma.assign(theirs["gamma"])
    layer.beta.assign(theirs["beta"])
    assert_equal(layer(theirs["inputs"]), theirs["outputs"])
    plain = InstanceNormalization(epsilon=1e-5, center=False, scale=False)
    assert_equal(plain(theirs["inputs"]), theirs["plain_outputs"])


SPECTRAL = {
    "dense": lambda: keras.layers.Dense(4, use_bias=False),
    "convolution": lambda: keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
    "transposed_convolution": lambda: keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False),
}


@pytest.mark.parametrize("name", SPECTRAL)
def test_spectral_normalization(stored, name):
    theirs = case(stored, f"spectral_normalization_{name}")
    layer = SpectralNormalization(SPECTRAL[name]())
    layer.build(theirs["inputs"].shape)
    layer.layer.kernel.assign(theirs["kernel"])
    layer.u.assign(theirs["u"][0])
    assert_equal(layer.normalized_kernel()[0], theirs["normalized_kernel"])
    assert_equal(layer(theirs["inputs"], training=True), theirs["outputs"])
    assert_equal(layer.u, theirs["new_u"][0])


def test_stochastic_weight_averaging(stored):
    theirs = case(stored, "stochastic_weight_averaging")
    start, period = int(theirs["start_averaging"]), int(theirs["average_period"])
    weights = keras.Variable(np.zeros((4, 3), "float32"))
    average = StochasticWeightAveraging([weights])
    for step, value in enumerate(theirs["trajectory"]):
        weights.assign(value)
        if step >= start and (step - start) % period == 0:
            average.update()
        if step >= start:
            assert_equal(average.variables[1], theirs["averages"][step])
