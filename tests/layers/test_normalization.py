import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import check_layer, gradients, run_compiled, to_numpy
from tfdisent.layers import GroupwiseBatchNormalization, InstanceNormalization, SpatialModulation, SpectralNormalization


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Instance normalisation


def test_instance_normalization_passes_the_layer_checks():
    check_layer(InstanceNormalization, (2, 4, 5, 3), (2, 4, 5, 3), num_trainable=2)
    check_layer(
        lambda: InstanceNormalization(epsilon=1e-5, center=False, scale=False),
        (2, 6, 3),
        (2, 6, 3),
        num_trainable=0,
    )


def test_instance_normalization_equals_the_formula():
    x = 5 + 3 * normal(2, 4, 6, 3)
    gamma, beta = normal(2, 3, seed=1)
    layer = InstanceNormalization(epsilon=0.1)
    layer.build(x.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    exact = x.astype("float64")
    mean, variance = exact.mean((1, 2), keepdims=True), exact.var((1, 2), keepdims=True)
    expected = gamma * (exact - mean) / np.sqrt(variance + 0.1) + beta
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)


def test_instance_normalization_of_constant_images_is_beta():
    layer = InstanceNormalization()
    outputs = to_numpy(layer(np.full((2, 4, 4, 3), 7.0, "float32")))
    np.testing.assert_array_equal(outputs, 0)
    np.testing.assert_array_equal(to_numpy(layer(normal(2, 1, 1, 3))), 0)


def test_instance_normalization_keeps_float32_statistics_under_mixed_precision():
    # The mean of 4096 bfloat16 values near 100 is off by whole units when summed in bfloat16.
    x = np.float32(100) + normal(1, 64, 64, 2)
    rounded = ops.cast(x, "bfloat16")
    exact = InstanceNormalization()(ops.cast(rounded, "float32"))
    mixed = InstanceNormalization(dtype="mixed_bfloat16")(rounded)
    assert keras.backend.standardize_dtype(mixed.dtype) == "bfloat16"
    expected = ops.cast(ops.cast(exact, "bfloat16"), "float32")
    np.testing.assert_array_equal(to_numpy(ops.cast(mixed, "float32")), to_numpy(expected))


def test_instance_normalization_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="`epsilon` must be greater than 0"):
        InstanceNormalization(epsilon=0)
    with pytest.raises(ValueError, match=r"channels. Received shape: \(2, 3\)"):
        InstanceNormalization()(normal(2, 3))


# Spectral normalisation


def dense(**options):
    return SpectralNormalization(keras.layers.Dense(4), **options)


def matrix(layer):
    kernel = to_numpy(layer.normalized_kernel()[0])
    return kernel.reshape(-1, kernel.shape[-1])


def spectral_norm(array):
    return np.linalg.svd(array.astype("float64"), compute_uv=False)[0]


LAYERS = {
    "dense": (lambda: keras.layers.Dense(4), (2, 5), (2, 4)),
    "conv1d": (lambda: keras.layers.Conv1D(4, 3, padding="causal"), (2, 6, 3), (2, 6, 4)),
    "conv2d": (lambda: keras.layers.Conv2D(4, 3, strides=2), (2, 7, 7, 3), (2, 3, 3, 4)),
    "conv2d_transpose": (
        lambda: keras.layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
        (2, 3, 3, 3),
        (2, 6, 6, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_spectral_normalization_passes_the_layer_checks(name):
    factory, input_shape, output_shape = LAYERS[name]
    check_layer(
        lambda: SpectralNormalization(factory()),
        input_shape,
        output_shape,
        num_trainable=2,
        num_non_trainable=1,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_largest_singular_value_tends_to_one_and_the_raw_kernel_stays(name):
    factory, input_shape, _ = LAYERS[name]
    layer = SpectralNormalization(factory(), power_iterations=5)
    layer.build(input_shape)
    raw = 3 * normal(*layer.layer.kernel.shape, seed=3)
    layer.layer.kernel.assign(raw)
    x = normal(*input_shape)
    for _ in range(60):
        layer(x, training=True)
    layer(x)
    assert spectral_norm(matrix(layer)) == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(to_numpy(layer.layer.kernel), raw)


def test_layer_runs_with_the_normalized_kernel_and_its_own_bias_and_activation():
    layer = SpectralNormalization(keras.layers.Dense(4, activation="relu"))
    layer.build((None, 5))
    layer.layer.bias.assign(normal(4, seed=1))
    x = normal(3, 5)
    expected = np.maximum(x @ matrix(layer) + to_numpy(layer.layer.bias), 0)
    np.testing.assert_allclose(to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-6)


def test_embedding_rows_are_divided_by_the_norm_of_the_table():
    layer = SpectralNormalization(keras.layers.Embedding(6, 3))
    indices = np.array([[0, 5, 2]], "int32")
    layer.build(indices.shape)
    outputs = to_numpy(layer(indices, training=False))
    np.testing.assert_allclose(outputs, matrix(layer)[indices], rtol=1e-6)


def test_u_moves_in_training_only_and_both_modes_give_the_same_output():
    layer = dense()
    x = normal(3, 5)
    layer.build(x.shape)
    before = to_numpy(layer.u)
    inference = to_numpy(layer(x))
    np.testing.assert_array_equal(to_numpy(layer.u), before)
    training = to_numpy(layer(x, training=True))
    np.testing.assert_array_equal(training, inference)
    assert np.linalg.norm(to_numpy(layer.u)) == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(to_numpy(layer.u), before)


def test_three_power_iterations_equal_three_calls():
    x = normal(3, 5)
    once, thrice = dense(), dense(power_iterations=3)
    for layer in (once, thrice):
        layer.build(x.shape)
        layer.layer.kernel.assign(normal(5, 4, seed=2))
        layer.u.assign(normal(4, seed=3))
    for _ in range(3):
        outputs = once(x, training=True)
    np.testing.assert_allclose(to_numpy(thrice(x, training=True)), to_numpy(outputs), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(thrice.u), to_numpy(once.u), rtol=1e-5, atol=1e-7)


def test_gradient_goes_through_sigma_with_u_and_v_constant():
    layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False))
    x, weights = normal(3, 5), normal(3, 4, seed=1)
    layer.build(x.shape)
    kernel, u = (to_numpy(v).astype("float64") for v in (layer.layer.kernel, layer.u))
    (found,) = gradients(lambda: ops.sum(ops.multiply(layer(x, training=True), weights)), [layer.layer.kernel])
    v = kernel @ u / np.linalg.norm(kernel @ u)
    u = kernel.T @ v / np.linalg.norm(kernel.T @ v)
    sigma = v @ kernel @ u
    outer = x.T.astype("float64") @ weights
    expected = outer / sigma - np.sum(outer * kernel) / sigma**2 * np.outer(v, u)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_gradient_of_a_converged_layer_equals_finite_differences_of_the_exact_norm():
    layer = SpectralNormalization(keras.layers.Conv2D(3, 2, use_bias=False))
    x, weights = normal(2, 3, 3, 2), normal(2, 2, 2, 3, seed=1)
    layer.build(x.shape)
    raw = normal(2, 2, 2, 3, seed=2)
    raw[..., 0] *= 3  # well separated singular values: quick convergence
    layer.layer.kernel.assign(raw)
    for _ in range(50):
        layer(x, training=True)
    (found,) = gradients(lambda: ops.sum(ops.multiply(layer(x), weights)), [layer.layer.kernel])

    patches = np.zeros((2, 2, 2, 2, 2, 2))  # batch, row, column, kernel row and column, channel
    for row, column in np.ndindex(2, 2):
        patches[:, row, column] = x[:, row : row + 2, column : column + 2]
    outer = np.einsum("bijklc,bijo->klco", patches, weights)

    def loss(kernel):
        return np.sum(outer * kernel) / spectral_norm(kernel.reshape(-1, 3))

    expected = np.zeros(raw.shape)
    for index in np.ndindex(*raw.shape):
        step = np.zeros(raw.shape)
        step[index] = 1e-5
        expected[index] = (loss(raw + step) - loss(raw - step)) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_compiled_training_equals_eager_training():
    x = normal(3, 5)
    eager, compiled = dense(), dense()
    for layer in (eager, compiled):
        layer.build(x.shape)
        layer.layer.kernel.assign(normal(5, 4, seed=2))
        layer.u.assign(normal(4, seed=3))
    for _ in range(3):
        expected = eager(x, training=True)
        outputs = run_compiled(lambda x: compiled(x, training=True), compiled.variables, x)
    np.testing.assert_allclose(to_numpy(outputs), to_numpy(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_numpy(compiled.u), to_numpy(eager.u), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(to_numpy(compiled.layer.kernel), normal(5, 4, seed=2))


def test_layer_sees_values_of_an_outer_scope():
    layer = dense()
    x = normal(3, 5)
    layer.build(x.shape)
    kernel, bias = normal(5, 4, seed=4), normal(4, seed=5)
    with keras.StatelessScope([(layer.layer.kernel, kernel), (layer.layer.bias, bias)]) as scope:
        inside = layer(x, training=True)
        new_u = scope.get_current_value(layer.u)
    layer.layer.kernel.assign(kernel)
    layer.layer.bias.assign(bias)
    np.testing.assert_array_equal(to_numpy(inside), to_numpy(layer(x, training=True)))
    np.testing.assert_array_equal(to_numpy(new_u), to_numpy(layer.u))


def test_zero_kernel_stays_zero_and_recovers():
    layer = SpectralNormalization(keras.layers.Dense(4, kernel_initializer="zeros"))
    x = normal(3, 5)
    layer.build(x.shape)
    before = to_numpy(layer.u)
    np.testing.assert_array_equal(to_numpy(layer(x, training=True)), 0)
    np.testing.assert_array_equal(to_numpy(layer.u), before)
    (gradient,) = gradients(lambda: ops.sum(layer(x, training=True)), [layer.layer.kernel])
    assert np.all(np.isfinite(gradient))
    layer.layer.kernel.assign(normal(5, 4))
    for _ in range(60):
        layer(x, training=True)
    assert spectral_norm(matrix(layer)) == pytest.approx(1, abs=1e-4)


def test_sigma_is_float32_under_mixed_precision():
    x = normal(3, 5)
    plain = dense()
    mixed = SpectralNormalization(keras.layers.Dense(4, dtype="mixed_bfloat16"))
    for layer in (plain, mixed):
        layer.build(x.shape)
        layer.layer.kernel.assign(normal(5, 4, seed=2))
        layer.u.assign(normal(4, seed=3))
        outputs = layer(x, training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert mixed.u.dtype == "float32"
    np.testing.assert_array_equal(to_numpy(mixed.u), to_numpy(plain.u))


def test_spectral_normalization_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="`power_iterations` must be 1 or more. Received: 0"):
        dense(power_iterations=0)
    with pytest.raises(ValueError, match="needs a layer with a `kernel`.*Received: Dropout"):
        SpectralNormalization(keras.layers.Dropout(0.1)).build((None, 5))
    with pytest.raises(ValueError, match="would be lost"):
        SpectralNormalization(keras.layers.Dense(4, activity_regularizer="l2"))


# Batch normalisation by group


def of_group(k, num, groups=2):
    return np.repeat(np.eye(groups, dtype="float32")[[k]], num, axis=0)


def groupwise(channels=3, groups=2, **settings):
    layer = GroupwiseBatchNormalization(**settings)
    layer.build([(None, 4, 5, channels), (None,), (None, groups)])
    return layer


def test_groupwise_batch_normalization_passes_the_layer_checks():
    check_layer(
        GroupwiseBatchNormalization, [(2, 4, 5, 3), (2,), (2, 2)], (2, 4, 5, 3), num_trainable=2, num_non_trainable=2
    )


def test_in_training_a_group_is_normalised_by_its_examples_that_count():
    x, layer = 5 + 3 * normal(4, 4, 5, 3), groupwise()
    weight = np.array([1, 0, 1, 1], "float32")
    received = to_numpy(layer([x, weight, of_group(1, 4)], training=True))
    there = x[weight > 0].astype("float64")
    expected = (x - there.mean((0, 1, 2))) / np.sqrt(there.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(received, expected, atol=1e-4)
    np.testing.assert_allclose(to_numpy(layer.moving_mean)[1], 0.1 * there.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.moving_variance)[1], 0.9 + 0.1 * there.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(layer.moving_mean)[0], 0)
    np.testing.assert_array_equal(to_numpy(layer.moving_variance)[0], 1)


def test_in_inference_each_group_is_normalised_by_its_own_averages():
    x, layer = normal(2, 4, 5, 3), groupwise(momentum=0.0)
    for k, shift in enumerate((0, 7)):
        layer([shift + x, np.ones(2, "float32"), of_group(k, 2)], training=True)
    one, two = (layer([shift + x, np.ones(2, "float32"), of_group(k, 2)]) for k, shift in enumerate((0, 7)))
    np.testing.assert_allclose(to_numpy(one), to_numpy(two), atol=1e-4)
    exact = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(to_numpy(one), exact, atol=1e-4)


@pytest.mark.parametrize("filler", [0.0, 1e30, np.nan])
def test_examples_of_weight_zero_have_no_part_in_what_others_become_or_in_the_averages(filler):
    x, weight = normal(3, 4, 5, 3), np.array([1, 0, 1], "float32")
    other = x.copy()
    other[1] = filler
    found = []
    for images in (x, other):
        layer = groupwise()
        made = to_numpy(layer([images, weight, of_group(0, 3)], training=True))
        found.append([made[[0, 2]], to_numpy(layer.moving_mean), to_numpy(layer.moving_variance)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_batch_in_which_nothing_counts_moves_no_average_and_is_normalised_by_them():
    layer = groupwise()
    x = [normal(2, 4, 5, 3), np.zeros(2, "float32"), of_group(0, 2)]
    np.testing.assert_array_equal(to_numpy(layer(x, training=True)), to_numpy(layer(x)))
    np.testing.assert_array_equal(to_numpy(layer.moving_mean), 0)
    np.testing.assert_array_equal(to_numpy(layer.moving_variance), 1)


@pytest.mark.parametrize("settings", [{"momentum": 1.0}, {"epsilon": 0.0}])
def test_what_a_groupwise_batch_normalization_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match="momentum"):
        GroupwiseBatchNormalization(**settings)


def test_spatial_modulation_serves_several_features_with_one_map_in_turn():
    features = np.arange(24, dtype="float32").reshape(4, 1, 2, 3)
    gain, shift = np.ones((2, 1, 2, 3), "float32"), np.zeros((2, 1, 2, 3), "float32")
    gain[1], shift[1] = -1.0, 7.0
    found = to_numpy(SpatialModulation()([features, gain, shift]))
    np.testing.assert_array_equal(found[:2], 2 * features[:2])
    np.testing.assert_array_equal(found[2:], 7.0)
