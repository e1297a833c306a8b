import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import check_layer, gradients, run_compiled, to_numpy
from tfdisent.layers import GaussianSampling, GradientReversal, StraightThroughOneHot, StraightThroughRounding


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_stochastic_layers_pass_the_layer_checks():
    check_layer(
        lambda: GaussianSampling(seed=3),
        [(2, 5), (2, 5)],
        (2, 5),
        num_trainable=0,
        num_non_trainable=1,
    )
    check_layer(lambda: GradientReversal(0.3), (2, 4, 4, 3), (2, 4, 4, 3), num_trainable=0)
    check_layer(StraightThroughRounding, (2, 4, 4, 3), (2, 4, 4, 3), num_trainable=0)
    check_layer(StraightThroughOneHot, (2, 4, 4, 3), (2, 4, 4, 3), num_trainable=0)


def test_gaussian_samples_have_the_given_mean_and_variance():
    mean = np.tile(np.array([-1, 0, 2], "float32"), (40000, 1))
    log_variance = np.tile(np.log(np.array([0.25, 1, 9], "float32")), (40000, 1))
    samples = to_numpy(GaussianSampling(seed=0)([mean, log_variance]))
    # Five standard errors of a mean and of a variance over 40000 draws.
    np.testing.assert_allclose((samples.mean(0) - mean[0]) / [0.5, 1, 3], 0, atol=0.025)
    np.testing.assert_allclose(samples.var(0) / [0.25, 1, 9], 1, atol=0.036)
    assert np.all(np.abs(np.corrcoef(samples.T)[np.triu_indices(3, 1)]) < 0.025)


def test_gaussian_sampling_is_exact_for_given_noise():
    mean, log_variance, noise = normal(3, 4, 5)
    outputs = GaussianSampling()([mean, log_variance], noise=noise)
    expected = mean + np.exp(log_variance / 2) * noise
    np.testing.assert_allclose(to_numpy(outputs), expected, rtol=1e-5, atol=1e-6)


def test_gaussian_sampling_takes_noise_in_a_functional_model():
    mean, log_variance, noise = keras.Input((4,)), keras.Input((4,)), keras.Input((4,))
    samples = GaussianSampling()([mean, log_variance], noise=noise)
    model = keras.Model([mean, log_variance, noise], samples)
    zeros = np.zeros((2, 4), "float32")
    np.testing.assert_array_equal(to_numpy(model([zeros, zeros, zeros + 3])), 3)


def test_gaussian_sampling_draws_anew_at_each_call_and_repeats_with_its_seed():
    zeros = np.zeros((2, 8), "float32")
    first, second = GaussianSampling(seed=5), GaussianSampling(seed=5)
    draws = [to_numpy(first([zeros, zeros])) for _ in range(2)]
    assert not np.array_equal(*draws)
    np.testing.assert_array_equal(to_numpy(second([zeros, zeros])), draws[0])
    compiled = GaussianSampling(seed=5)
    for draw in draws:
        outputs = run_compiled(lambda: compiled([zeros, zeros]), compiled.variables)
        np.testing.assert_allclose(to_numpy(outputs), draw, rtol=1e-5, atol=1e-6)


def test_gaussian_sampling_passes_the_gradient_to_mean_and_variance():
    mean, log_variance = keras.Variable(normal(4)), keras.Variable(normal(4, seed=1))
    noise = normal(4, seed=2)
    layer = GaussianSampling()
    found = gradients(
        lambda: ops.sum(layer([mean.value, log_variance.value], noise=noise)),
        [mean, log_variance],
    )
    np.testing.assert_array_equal(found[0], 1)
    expected = noise * np.exp(to_numpy(log_variance) / 2) / 2
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 0.3])
def test_gradient_reversal_is_the_identity_with_a_reversed_gradient(scale):
    values, weights = 1e3 * normal(50), normal(50, seed=1)
    x = keras.Variable(values)
    layer = GradientReversal(scale)
    np.testing.assert_array_equal(to_numpy(layer(values)), values)
    (found,) = gradients(lambda: ops.sum(ops.multiply(layer(x.value), weights)), [x])
    np.testing.assert_allclose(found, -scale * weights, rtol=1e-6)


def test_gradient_reversal_refuses_a_negative_scale():
    with pytest.raises(ValueError, match="`scale` must be 0 or more. Received: -1"):
        GradientReversal(-1)


def test_straight_through_rounding_rounds_exactly_and_passes_the_gradient():
    values = np.concatenate([10 * normal(200), [-0.5, 0.0, 0.5, 1.5, 0.7]]).astype("float32")
    weights = normal(205, seed=1)
    x = keras.Variable(values)
    layer = StraightThroughRounding()
    np.testing.assert_array_equal(to_numpy(layer(values)), np.round(values))
    (found,) = gradients(lambda: ops.sum(ops.multiply(layer(x.value), weights)), [x])
    np.testing.assert_array_equal(found, weights)


def test_straight_through_one_hot_takes_the_largest_channel_and_passes_the_gradient():
    values, weights = normal(50, 4), normal(50, 4, seed=1)
    values[0] = 0.1  # rounding would leave no channel; of equal ones the first
    x = keras.Variable(values)
    layer = StraightThroughOneHot()
    found = to_numpy(layer(values))
    np.testing.assert_array_equal(found, np.eye(4)[values.argmax(-1)])
    np.testing.assert_array_equal(found[0], [1, 0, 0, 0])
    (gradient,) = gradients(lambda: ops.sum(ops.multiply(layer(x + 0.0), weights)), [x])
    np.testing.assert_array_equal(gradient, weights)
