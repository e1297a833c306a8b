import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import sklearn.metrics
from keras import ops

from tfdisent.losses import (
    absolute_error,
    binary_cross_entropy,
    cosine_similarity,
    dice_loss,
    field_roughness,
    gaussian_kl,
    gaussian_nll,
    least_squares,
    margin_similarity,
    mutual_information,
    soft_dice,
    softmax_cross_entropy,
    weighted_mean,
)

EVERY_LOSS = {
    "binary_cross_entropy": lambda a, b: binary_cross_entropy(a, 1.0),
    "softmax_cross_entropy": softmax_cross_entropy,
    "least_squares": lambda a, b: least_squares(a, 1.0),
    "absolute_error": absolute_error,
    "gaussian_kl": gaussian_kl,
    "gaussian_nll": lambda a, b: gaussian_nll(a, b, a),
    "cosine_similarity": cosine_similarity,
    "margin_similarity": lambda a, b: margin_similarity(a, -b, b, margin=2.0),
    "mutual_information": lambda a, b: mutual_information(*(x[:, :, None, None] for x in (a, b))),
    "dice_loss": lambda a, b: dice_loss(*(abs(x)[:, :, None, None] for x in (a, b))),
}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4, 4, 2)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_least_squares_is_the_mean_squared_distance_to_the_target(shape, target):
    scores = draw(*shape)
    expected = ((scores.astype("float64") - target) ** 2).reshape(5, -1).mean(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(least_squares(scores, target)), expected, rtol=1e-5)


def test_least_squares_is_zero_at_its_target_and_a_quarter_at_chance():
    assert ops.convert_to_numpy(least_squares(np.ones((2, 1)), 1.0)).tolist() == [0.0, 0.0]
    assert ops.convert_to_numpy(least_squares(np.full((2, 1), 0.5), 0.0)).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4, 4, 2)])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_binary_cross_entropy_is_minus_the_log_of_the_targets_probability(shape, target):
    logits = draw(*shape)
    probability = scipy.special.expit(logits.astype("float64"))
    expected = -np.log(probability if target else 1 - probability).reshape(5, -1).mean(axis=1)
    received = ops.convert_to_numpy(binary_cross_entropy(logits, target))
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_binary_cross_entropy_is_the_log_of_two_at_chance_and_linear_where_it_is_all_wrong():
    chance = ops.convert_to_numpy(binary_cross_entropy(np.zeros((2, 1)), 1.0))
    np.testing.assert_allclose(chance, np.log(2), rtol=1e-6)
    logits = np.array([1000.0, -1000.0])
    assert ops.convert_to_numpy(binary_cross_entropy(logits, 0.0)).tolist() == [1000.0, 0.0]
    assert ops.convert_to_numpy(binary_cross_entropy(logits, 1.0)).tolist() == [0.0, 1000.0]


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 4, 2)])
def test_softmax_cross_entropy_is_minus_the_log_of_the_classs_probability(shape):
    logits = draw(*shape)
    index = np.random.default_rng(2).integers(0, shape[-1], shape[:-1])
    probability = scipy.special.softmax(logits.astype("float64"), axis=-1)
    chosen = np.take_along_axis(probability, index[..., None], axis=-1)
    expected = -np.log(chosen).reshape(5, -1).mean(axis=1)
    received = softmax_cross_entropy(logits, np.eye(shape[-1])[index])
    np.testing.assert_allclose(ops.convert_to_numpy(received), expected, rtol=1e-5)


def test_softmax_cross_entropy_is_the_log_of_k_at_chance_and_finite_where_it_is_all_wrong():
    chance = ops.convert_to_numpy(softmax_cross_entropy(np.zeros((2, 4)), np.eye(4)[:2]))
    np.testing.assert_allclose(chance, np.log(4), rtol=1e-6)
    wrong = softmax_cross_entropy(np.array([[1000.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert ops.convert_to_numpy(wrong).tolist() == [1000.0]


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 4, 4, 2)])
def test_absolute_error_is_the_mean_absolute_difference(shape):
    a, b = draw(*shape), draw(*shape, seed=1)
    expected = np.abs(a.astype("float64") - b).reshape(5, -1).mean(axis=1)
    np.testing.assert_allclose(ops.convert_to_numpy(absolute_error(a, b)), expected, rtol=1e-5)
    assert not ops.convert_to_numpy(absolute_error(a, a)).any()


def test_gaussian_kl_of_the_standard_normal_is_zero():
    assert ops.convert_to_numpy(gaussian_kl(np.zeros((3, 4)), np.zeros((3, 4)))).tolist() == [0.0] * 3


@pytest.mark.parametrize("mean, log_variance", [(0.7, -1.0), (-2.0, 0.5), (0.0, 2.0)])
def test_gaussian_kl_is_the_integral_that_defines_it(mean, log_variance):
    q, p = scipy.stats.norm(mean, np.exp(log_variance / 2)), scipy.stats.norm()
    expected, _ = scipy.integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), -30, 30, points=[mean])
    received = ops.convert_to_numpy(gaussian_kl(np.full((1, 3), mean), np.full((1, 3), log_variance)))
    np.testing.assert_allclose(received, [expected], rtol=1e-5)


@pytest.mark.parametrize("mean, log_variance", [(0.7, -1.0), (-2.0, 0.5), (0.0, 2.0)])
def test_gaussian_nll_is_minus_the_log_density_without_its_constant(mean, log_variance):
    value = draw(5, 3)
    deviation = np.sqrt(1e-3 + np.exp(log_variance))
    expected = -scipy.stats.norm(mean, deviation).logpdf(value.astype("float64")).mean(axis=1) - np.log(2 * np.pi) / 2
    received = gaussian_nll(value, np.full((5, 3), mean), np.full((5, 3), log_variance))
    np.testing.assert_allclose(ops.convert_to_numpy(received), expected, rtol=1e-5)


def test_gaussian_nll_has_a_bound_that_a_variance_of_0_reaches():
    exact = ops.convert_to_numpy(gaussian_nll(np.ones((1, 2)), np.ones((1, 2)), np.full((1, 2), -50.0)))
    np.testing.assert_allclose(exact, [np.log(1e-3) / 2], rtol=1e-5)


def test_field_roughness_is_of_a_shift_nothing_and_of_a_stretch_its_square():
    row, column = np.mgrid[:6, :9].astype("float32")
    still = np.zeros_like(row)
    fields = [np.stack(pair, -1) for pair in ((still + 3, still - 2), (0.5 * row, -0.25 * column), (2 * column, still))]
    received = ops.convert_to_numpy(field_roughness(np.stack(fields)))
    np.testing.assert_allclose(received, [0, 0.5**2 + 0.25**2, 2**2], atol=1e-6)


def test_mutual_information_is_that_of_the_joint_histogram_whatever_the_contrast():
    # Intensities at the centres of 16 bins: the counts are whole, and scikit-learn's are the same.
    random = np.random.default_rng(0)
    a = random.integers(0, 16, (3, 20, 30, 1))
    others = [a[0] ** 2 % 16, (a[1] + random.integers(0, 4, a[1].shape)) % 16, random.integers(0, 16, a[2].shape)]
    b = np.stack(others)
    expected = [sklearn.metrics.mutual_info_score(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    received = mutual_information(*(one * (2 / 15) - 1.0 for one in (a, b)))
    np.testing.assert_allclose(ops.convert_to_numpy(received), expected, rtol=1e-4)
    inverted = mutual_information(a * (2 / 15) - 1.0, 1.0 - b * (2 / 15))
    np.testing.assert_allclose(ops.convert_to_numpy(inverted), expected, rtol=1e-4)


def test_mutual_information_of_an_image_with_itself_is_its_entropy_and_with_a_constant_none():
    halves = np.where(np.arange(64).reshape(1, 8, 8, 1) < 32, -1.0, 1.0).astype("float32")
    received = [mutual_information(halves, other) for other in (halves, -halves, 0 * halves, 0 * halves + 7)]
    np.testing.assert_allclose(
        np.ravel([ops.convert_to_numpy(x) for x in received]), [np.log(2)] * 2 + [0, 0], atol=1e-6
    )


def boxes(*sizes):
    """Masks (B, 4, 4, 1), each with so many pixels from the first on."""
    masks = np.arange(16) < np.array(sizes)[:, None]
    return masks.reshape(-1, 4, 4, 1).astype("float32")


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_soft_dice_of_masks_is_twice_the_intersection_over_both_sizes(smooth):
    predicted, target = boxes(4, 16, 0, 0, 5), boxes(8, 16, 0, 9, 0)
    intersection, sizes = np.array([4, 16, 0, 0, 0]), np.array([12, 32, 0, 9, 5])
    expected = (2 * intersection + smooth) / (sizes + smooth)
    received = ops.convert_to_numpy(soft_dice(predicted, target, smooth=smooth))
    np.testing.assert_allclose(received, expected[:, None], rtol=1e-6)
    assert received[1] == received[2] == 1  # equal masks, and both empty
    loss = ops.convert_to_numpy(dice_loss(predicted, target, smooth=smooth))
    np.testing.assert_allclose(loss, 1 - expected, rtol=1e-6, atol=1e-7)


def test_soft_dice_of_probabilities_is_that_of_their_sums():
    # A half everywhere against 8 of 16 pixels: 2 * 4 + 1 over 8 + 8 + 1.
    received = soft_dice(np.full((1, 4, 4, 1), 0.5), boxes(8))
    np.testing.assert_allclose(ops.convert_to_numpy(received), [[9 / 17]], rtol=1e-6)


def test_labels_have_a_dice_each_and_share_one_loss():
    predicted = np.concatenate([boxes(4), boxes(8)], axis=-1)
    target = np.concatenate([boxes(4), boxes(0)], axis=-1)
    dice = ops.convert_to_numpy(soft_dice(predicted, target))
    np.testing.assert_allclose(dice, [[1, 1 / 9]], rtol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(dice_loss(predicted, target)), [(0 + 8 / 9) / 2], rtol=1e-6)


def test_binary_cross_entropy_takes_a_target_for_each_logit():
    logits, targets = np.array([[2.0, -1.0]]), np.array([[1.0, 0.0]])
    expected = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(-1.0))])
    received = ops.convert_to_numpy(binary_cross_entropy(logits, targets))
    np.testing.assert_allclose(received, [expected], rtol=1e-6)


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_one_float32_value_per_example_whatever_the_precision_of_the_inputs(name):
    a, b = ops.cast(draw(6, 5), "bfloat16"), ops.cast(draw(6, 5, seed=1), "bfloat16")
    received = EVERY_LOSS[name](a, b)
    assert received.shape == (6,)
    assert "float32" in str(received.dtype)
    # Not only cast at the end: the sum itself must not be rounded to the 8 bits of bfloat16.
    exact = EVERY_LOSS[name](ops.cast(a, "float32"), ops.cast(b, "float32"))
    np.testing.assert_array_equal(ops.convert_to_numpy(received), ops.convert_to_numpy(exact))


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_an_example_does_not_influence_another_ones_loss(name):
    a, b = draw(4, 3), draw(4, 3, seed=1)
    changed = a.copy()
    changed[2] += 1
    difference = ops.convert_to_numpy(EVERY_LOSS[name](a, b)) - ops.convert_to_numpy(EVERY_LOSS[name](changed, b))
    assert np.flatnonzero(difference).tolist() == [2]


def test_a_weighted_mean_is_that_of_what_counts_and_does_not_see_the_rest():
    received = weighted_mean(ops.convert_to_tensor([1.0, np.inf, 4.0]), ops.array([1.0, 0.0, 1.0]))
    assert float(received) == 2.5


@pytest.mark.parametrize("weight, expected", [([0.0, 0.0, 1.0], 4.0), ([0.0, 0.0, 0.0], 0.0)])
def test_a_weighted_mean_of_one_is_its_value_and_of_none_zero(weight, expected):
    assert float(weighted_mean(ops.convert_to_tensor([1.0, np.inf, 4.0]), ops.array(weight))) == expected


# Toy vectors: one direction, the opposite one, a right angle, 60 degrees.
EAST, WEST, NORTH = (np.array([v], "float32") for v in ([1.0, 0.0], [-3.0, 0.0], [0.0, 2.0]))
SIXTY = np.array([[1.0, np.sqrt(3.0)]], "float32")


@pytest.mark.parametrize("other, expected", [(EAST, 1), (5 * EAST, 1), (WEST, -1), (NORTH, 0), (SIXTY, 0.5)])
def test_the_cosine_is_one_for_one_direction_whatever_the_lengths_and_minus_one_for_the_opposite(other, expected):
    np.testing.assert_allclose(ops.convert_to_numpy(cosine_similarity(EAST, other)), [expected], atol=1e-6)


def test_the_cosine_with_a_vector_of_zeros_is_zero():
    assert ops.convert_to_numpy(cosine_similarity(EAST, 0 * EAST)).tolist() == [0.0]


@pytest.mark.parametrize(
    "alike, other, expected",
    [
        (EAST, NORTH, 0.0),  # alike by 1, held
        (NORTH, EAST, 1.1),  # the wrong way round: 0.1 - 0 + 1
        (EAST, EAST, 0.1),  # no difference: the margin
        (EAST, WEST, 0.0),
        (WEST, EAST, 2.1),  # the worst
        (SIXTY, NORTH, 0.0),  # 0.5 above 0
        (SIXTY, SIXTY, 0.1),
        (NORTH, SIXTY, 0.6),
    ],
)
def test_the_margin_costs_nothing_where_the_alike_is_more_similar_and_something_where_it_is_not(alike, other, expected):
    received = ops.convert_to_numpy(margin_similarity(EAST, alike, other, margin=0.1))
    np.testing.assert_allclose(received, [expected], atol=1e-6)
