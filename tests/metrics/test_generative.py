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
    mean, std = metrics.kernel_distance(a, b, max_block_size=7)
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


# --- floors, and what measures do and do not depend on ---


def test_frechet_distance_is_in_squared_units_of_the_features_however_small_they_are():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 8)), rng.normal(size=(200, 8)) * 1.3 + 0.2
    b[:, 7] = a[:, 7] = rng.normal(size=200) * 1e-3  # an entry of small variance is not lost either
    expected = metrics.frechet_distance(a, b)
    for scale in (1e-6, 1e-3, 1e4):
        assert metrics.frechet_distance(scale * a, scale * b) / scale**2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
@pytest.mark.filterwarnings("ignore:.*covariance is singular")
def test_frechet_distance_of_fewer_images_than_features_is_that_of_the_nuclear_norm(scale):
    """With A and B the centred features, each over the root of n - 1, the trace of the root is the sum of |A B'|."""
    rng = np.random.default_rng(0)
    a, b = scale * rng.normal(size=(20, 40)), scale * (rng.normal(size=(15, 40)) * 1.5 + 0.1)
    centred = [(x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    expected = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + sum(np.sum(x**2) for x in centred)
    expected -= 2 * np.linalg.norm(centred[0] @ centred[1].T, "nuc")
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_has_fifty_blocks_or_more_and_its_error_is_that_of_their_mean():
    """Over many pairs of sets of one distribution the estimates spread as their standard errors say."""
    rng = np.random.default_rng(0)
    found = np.array([metrics.kernel_distance(rng.normal(size=(250, 4)), rng.normal(size=(250, 4))) for _ in range(12)])
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.6)
    assert abs(found[:, 0].mean()) < 4 * found[:, 1].mean() / np.sqrt(12)


def test_kernel_distance_of_few_images_has_as_many_blocks_as_have_pairs():
    rng = np.random.default_rng(0)
    mean, error = metrics.kernel_distance(rng.normal(size=(30, 3)), rng.normal(size=(8, 3)))
    assert np.isfinite([mean, error]).all()


def test_kernel_distance_of_sets_with_equal_shares_of_classes_is_below_0_and_its_floor_is_too():
    """Classes far apart: the within-set terms see unlike pairs more often than independent draws would."""
    rng = np.random.default_rng(0)

    def images():
        return np.repeat(np.eye(3) * 6, 40, axis=0) + rng.normal(size=(120, 3)) * 0.1

    found = [metrics.kernel_distance(images(), images(), max_block_size=120)[0] for _ in range(20)]
    assert np.mean(found) < -5 and np.std(found) < 1


def test_maximum_mean_discrepancy_is_that_of_the_formula_whatever_the_features_unit():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 0.5
    apart = [np.sum((a[i] - a[j]) ** 2) for i in range(40) for j in range(i)]

    def kernel(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * np.median(apart)))

    within = [np.mean([kernel(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    expected = sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])
    assert metrics.maximum_mean_discrepancy(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.maximum_mean_discrepancy(1e-3 * a, 1e-3 * b) == pytest.approx(expected, rel=1e-6)


def test_maximum_mean_discrepancy_of_one_distribution_lies_around_0_and_of_two_far_ones_is_large():
    rng = np.random.default_rng(0)
    same = [metrics.maximum_mean_discrepancy(rng.normal(size=(100, 4)), rng.normal(size=(100, 4))) for _ in range(20)]
    assert abs(np.mean(same)) < 0.005
    assert metrics.maximum_mean_discrepancy(rng.normal(size=(50, 4)), rng.normal(size=(50, 4)) + 100) > 1
    with pytest.raises(ValueError, match="features_a to differ"):
        metrics.maximum_mean_discrepancy(np.ones((5, 2)), rng.normal(size=(5, 2)))


def test_density_and_coverage_are_those_of_counting_balls():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(30, 2)), rng.normal(size=(20, 2)) * 0.7
    between = np.linalg.norm(real[:, None] - real, axis=-1)
    radius = np.sort(between, axis=1)[:, 5]
    inside = np.linalg.norm(real[:, None] - generated, axis=-1) <= radius[:, None]
    density, coverage = metrics.density_and_coverage(real, generated)
    assert density == pytest.approx(inside.sum() / (5 * 20))
    assert coverage == pytest.approx(inside.any(axis=1).mean())


def test_density_and_coverage_of_one_distribution_are_1_and_tell_fidelity_from_variety():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + 20])
    density, coverage = metrics.density_and_coverage(real, real[rng.permutation(1000)] + 1e-9)
    assert 1 < density < 1.2 and coverage == 1  # each image lies in its own ball too
    fresh = np.concatenate([rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + 20])
    density, coverage = metrics.density_and_coverage(real, fresh)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(0.97, abs=0.02)
    density, coverage = metrics.density_and_coverage(real, rng.normal(size=(1000, 2)))  # one kind is missing
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(0.5, abs=0.03)
    assert metrics.density_and_coverage(real, real + 1000) == (0, 0)
    with pytest.raises(ValueError, match="neighbours from 1 to 4.*received 5"):
        metrics.density_and_coverage(real[:5], fresh)


ORDERED = {
    "frechet_distance": metrics.frechet_distance,
    "maximum_mean_discrepancy": metrics.maximum_mean_discrepancy,
    "density_and_coverage": metrics.density_and_coverage,
    "inception_score": lambda a, b: metrics.inception_score(b),
}


@pytest.mark.parametrize("name", ORDERED)
def test_the_order_of_images_does_not_matter(name):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    shuffled = ORDERED[name](rng.permutation(a), rng.permutation(b))
    np.testing.assert_allclose(shuffled, ORDERED[name](a, b), rtol=1e-8)


def test_a_set_that_holds_each_image_twice_has_the_same_scores_where_they_are_means_over_images():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    twice = np.concatenate([b, b])
    assert metrics.inception_score(twice) == pytest.approx(metrics.inception_score(b), rel=1e-12)
    np.testing.assert_allclose(metrics.density_and_coverage(a, twice), metrics.density_and_coverage(a, b), rtol=1e-12)
    # A covariance of n - 1: nearly.
    assert metrics.frechet_distance(a, twice) == pytest.approx(metrics.frechet_distance(a, b), rel=0.1)


def test_a_number_added_to_all_of_an_images_logits_changes_nothing():
    logits = np.random.default_rng(0).normal(size=(30, 3))
    moved = logits + np.arange(30)[:, None]
    assert metrics.inception_score(moved) == pytest.approx(metrics.inception_score(logits), rel=1e-9)
    labels = np.arange(30) % 3
    ours, theirs = (metrics.conditional_generation_accuracy(one, labels) for one in (moved, logits))
    assert ours == theirs
