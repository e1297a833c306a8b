import numpy as np
import pytest

from tfdisent import metrics


def _gaussian_points(mean, covariance):
    """Points whose sample mean and unbiased covariance are exactly these: 2 D of them, in pairs."""
    mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
    width = len(mean)
    root = np.linalg.cholesky(covariance).T * np.sqrt((2 * width - 1) / 2)
    points = np.concatenate([mean + root, mean - root])
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=1e-12)
    return points


def test_frechet_distance_of_a_set_to_itself_is_zero():
    features = np.random.default_rng(0).normal(size=(50, 6))
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift():
    features = np.random.default_rng(0).normal(size=(50, 3))
    shifted = features + [3.0, 0.0, -4.0]
    assert metrics.frechet_distance(features, shifted) == pytest.approx(25, rel=1e-9)


def test_frechet_distance_of_two_gaussians_has_its_closed_form():
    variances_a, variances_b = np.array([1.0, 4.0, 9.0]), np.array([16.0, 4.0, 0.25])
    a = _gaussian_points([0, 1, 2], np.diag(variances_a))
    b = _gaussian_points([2, 1, 0], np.diag(variances_b))
    expected = 8 + np.sum((np.sqrt(variances_a) - np.sqrt(variances_b)) ** 2)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_knows_covariances_that_do_not_commute():
    covariance_a, covariance_b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2], [-2, 1]])
    a, b = _gaussian_points([0, 0], covariance_a), _gaussian_points([0, 0], covariance_b)
    roots = np.sqrt(np.linalg.eigvals(covariance_a @ covariance_b))
    expected = np.trace(covariance_a + covariance_b) - 2 * roots.sum()
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_computes_in_float64():
    features = np.random.default_rng(0).normal(size=(50, 3)).astype("float32") + 1000
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_too_few_samples_warns_with_the_numbers():
    features = np.random.default_rng(0).normal(size=(4, 4))
    with pytest.warns(UserWarning, match="N=4 samples for D=4 features: covariance is singular"):
        metrics.frechet_distance(features, np.concatenate([features] * 2))


def test_frechet_distance_of_a_constant_set_is_finite():
    ones = np.ones((10, 2))
    assert metrics.frechet_distance(ones, ones + 1) == pytest.approx(2)


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
@pytest.mark.parametrize(
    "a, b, message",
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "same width"),
        (np.zeros((5, 2, 2)), np.zeros((5, 2)), r"features_a to be \(N, D\)"),
        (np.zeros((5, 2)), np.zeros((1, 2)), "features_b to be .* N >= 2"),
        (np.zeros((5, 2)), np.array([[0, 1], [np.nan, 1]]), "features_b to be finite, received nan or inf in 1 of 2"),
    ],
)
def test_distances_refuse_features_that_do_not_fit(distance, a, b, message):
    with pytest.raises(ValueError, match=message):
        distance(a, b)


def _kernel_distance_by_loops(a, b):
    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    within_a = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    within_b = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    return np.mean(within_a) + np.mean(within_b) - 2 * np.mean(across)


def test_kernel_distance_is_the_unbiased_estimate():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 1
    mean, std = metrics.kernel_distance(a, b)
    assert mean == pytest.approx(_kernel_distance_by_loops(a, b), rel=1e-10)
    assert np.isnan(std)  # one block


def test_kernel_distance_over_blocks_has_an_error_and_does_not_depend_on_their_order():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)), rng.normal(size=(400, 3))
    by_first = np.argsort(a[:, 0])  # blocks of a sorted set would all differ from b
    mean, std = metrics.kernel_distance(a[by_first], b, max_block_size=100)
    assert abs(mean) < 4 * std < 1


def test_kernel_distance_refuses_blocks_without_pairs():
    with pytest.raises(ValueError, match="2 rows or more of each set in each of its 5 blocks"):
        metrics.kernel_distance(np.zeros((50, 2)), np.zeros((9, 2)), max_block_size=10)


def test_inception_score_of_uniform_predictions_is_one():
    assert metrics.inception_score(np.zeros((20, 5))) == pytest.approx(1, rel=1e-12)


def test_inception_score_of_sure_and_balanced_predictions_is_the_number_of_classes():
    logits = 1000.0 * np.eye(4)[np.arange(40) % 4]
    assert metrics.inception_score(logits) == pytest.approx(4, rel=1e-12)


def test_inception_score_of_one_sure_class_is_one():
    logits = 1e5 * np.eye(4)[np.zeros(10, int)]
    assert metrics.inception_score(logits) == pytest.approx(1, rel=1e-12)


def test_inception_score_is_that_of_the_formula():
    logits = np.random.default_rng(0).normal(size=(30, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1)))
    assert metrics.inception_score(logits) == pytest.approx(expected, rel=1e-12)


def test_conditional_generation_accuracy_counts_hits():
    logits = np.eye(3)[[0, 1, 2, 2]]
    assert metrics.conditional_generation_accuracy(logits, np.array([0, 1, 2, 0])) == 0.75


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([0, 1]), "labels to be 3 integers"),
        (np.eye(3), "condition.argmax"),
        (np.array([0, 1, 3]), r"labels to lie in \[0, 3\)"),
    ],
)
def test_conditional_generation_accuracy_refuses_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.conditional_generation_accuracy(np.eye(3), labels)
