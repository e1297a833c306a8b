import numpy as np
import pytest

from tfdisent import metrics

RNG = np.random.default_rng(0)


def _codes(**changes):
    """Arguments of the CIFC error for four pairs whose swaps give back the codes they came from."""
    rng = np.random.default_rng(0)
    content_a, content_b = rng.normal(size=(2, 4, 3))
    style_a, style_b = rng.normal(size=(2, 4, 2))
    codes = {
        "content_a": content_a,
        "content_aa": content_a,
        "style_a": style_a,
        "style_aa": style_a,
        "content_b": content_b,
        "content_bb": content_b,
        "style_b": style_b,
        "style_bb": style_b,
    }
    return {**codes, **changes}


def test_cifc_of_perfect_swaps_is_zero():
    result = metrics.cross_image_feature_consistency(**_codes())
    assert set(result) == {"value", "std", "relative", "content", "style"}
    assert all(value == 0 for value in result.values())


def test_cifc_sums_the_mean_absolute_error_of_the_four_codes():
    codes = _codes()
    for name, error in (("content_aa", 1.0), ("content_bb", -2.0), ("style_aa", 4.0)):
        codes[name] = codes[name] + error
    result = metrics.cross_image_feature_consistency(**codes)
    assert result["value"] == pytest.approx(7)
    assert result["content"] == pytest.approx(3)
    assert result["style"] == pytest.approx(4)
    assert result["std"] == pytest.approx(0, abs=1e-12)


def test_relative_cifc_is_one_for_codes_of_the_other_image_and_blind_to_scale():
    codes = _codes()
    swapped = {"content_aa": "content_b", "content_bb": "content_a"}
    swapped |= {"style_aa": "style_b", "style_bb": "style_a"}
    codes |= {name: codes[source] for name, source in swapped.items()}
    assert metrics.cross_image_feature_consistency(**codes)["relative"] == pytest.approx(1)
    scaled = {name: 10 * code for name, code in codes.items()}
    assert metrics.cross_image_feature_consistency(**scaled)["relative"] == pytest.approx(1)


def test_relative_cifc_of_collapsed_codes_is_undefined():
    collapsed = {name: np.zeros_like(code) for name, code in _codes().items()}
    result = metrics.cross_image_feature_consistency(**collapsed)
    assert result["value"] == 0
    assert np.isnan(result["relative"])


def test_cifc_refuses_codes_that_do_not_pair_up():
    with pytest.raises(ValueError, match="codes of one kind to have one shape"):
        metrics.cross_image_feature_consistency(**_codes(content_aa=np.zeros((4, 2))))
    four_and_five = {f"style_{name}": np.zeros((5, 2)) for name in ("a", "aa", "b", "bb")}
    with pytest.raises(ValueError, match="received 4 and 5"):
        metrics.cross_image_feature_consistency(**_codes(**four_and_five))


def test_distance_correlation_of_a_rotated_scaled_and_shifted_set_is_one():
    a = RNG.normal(size=(60, 2))
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert metrics.distance_correlation(a, 3 * a @ rotation + 5) == pytest.approx(1)
    assert metrics.distance_correlation(a[:, 0], -2 * a[:, 0]) == pytest.approx(1)


def test_distance_correlation_sees_what_correlation_does_not():
    x = np.linspace(-1, 1, 101)
    assert np.corrcoef(x, x**2)[0, 1] == pytest.approx(0, abs=1e-12)
    assert metrics.distance_correlation(x, x**2) > 0.4


def test_distance_correlation_of_independent_sets_is_near_zero():
    a, b = RNG.normal(size=(2, 1000))
    assert metrics.distance_correlation(a, b) < 0.1


def test_distance_correlation_of_a_full_grid_is_zero():
    a, b = np.meshgrid([0.0, 1.0], [0.0, 1.0, 5.0])
    assert metrics.distance_correlation(a.ravel(), b.ravel()) == pytest.approx(0, abs=1e-7)


def test_distance_correlation_with_a_constant_is_zero():
    assert metrics.distance_correlation(np.arange(5.0), np.ones(5)) == 0


def test_information_over_bias_is_the_share_of_variance_that_the_code_leaves_turned_round():
    random = np.random.default_rng(0)
    codes, noise = random.normal(size=(4000, 2)), 0.5 * random.normal(size=(4000, 3))
    values = codes @ [[1.0, 0, 1], [0, 1, 0]] + noise + 7  # variance 1 by the code, and 0.25 that it leaves
    found = metrics.information_over_bias(codes[:2000], values[:2000], codes[2000:], values[2000:])
    assert found == pytest.approx(1.25 / 0.25, rel=0.05)


def test_a_code_that_tells_nothing_is_worth_a_constant():
    codes, values = np.random.default_rng(0).normal(size=(2, 200, 5))
    found = metrics.information_over_bias(codes[:100], values[:100], codes[100:], values[100:])
    assert found == pytest.approx(1, abs=0.1)
    assert metrics.information_over_bias(np.ones((4, 1)), values[:4], np.ones((4, 1)), values[4:8]) == 1


def test_information_of_other_shapes_or_of_nothing_is_an_error():
    codes, values = np.ones((4, 2)), np.arange(8.0).reshape(4, 2)
    with pytest.raises(ValueError, match="same widths"):
        metrics.information_over_bias(codes, values, codes[:, :1], values)
    with pytest.raises(ValueError, match="differ from"):
        metrics.information_over_bias(codes, 0 * values, codes, 0 * values)


def test_distance_correlation_of_two_points_by_hand():
    assert metrics.distance_correlation(np.array([0.0, 2.0]), np.array([5.0, 6.0])) == 1


def test_the_bias_corrected_correlation_is_the_published_sum_written_out():
    a, b = np.random.default_rng(0).normal(size=(2, 9, 3))
    b[:, 0] += a[:, 1]
    n = len(a)

    def unbiased(x, y):  # Huo and Szekely, Technometrics 2016
        x, y = (np.linalg.norm(p[:, None] - p, axis=-1) for p in (x, y))
        sums = (x * y).sum() / (n * (n - 3)), x.sum(1) @ y.sum(1) / (n * (n - 2) * (n - 3))
        return sums[0] - 2 * sums[1] + x.sum() * y.sum() / (n * (n - 1) * (n - 2) * (n - 3))

    square = unbiased(a, b) / np.sqrt(unbiased(a, a) * unbiased(b, b))
    found = metrics.dependence(a, b, permutations=3)
    assert found.correlation == pytest.approx(np.sign(square) * np.sqrt(abs(square)))
    assert found.uncorrected == pytest.approx(metrics.distance_correlation(a, b))


def test_wide_independent_sets_seem_alike_until_the_bias_is_taken_out():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(40, 500)), random.normal(size=(40, 400))
    found = metrics.dependence(a, b)
    assert found.uncorrected > 0.9 and found.uncorrected == pytest.approx(found.uncorrected_floor, abs=0.02)
    assert abs(found.correlation) < 0.2 and found.correlation < found.floor and found.p > 0.05


def test_dependence_is_found_far_above_its_floor():
    x = np.random.default_rng(0).normal(size=(100, 2))
    found = metrics.dependence(x, np.hstack([x**2, x[:, :1]]))
    assert found.correlation > 2 * found.floor > 0 and found.p == pytest.approx(1 / 201)
    assert metrics.dependence(x, 3 * x - 1).correlation == pytest.approx(1)


def test_a_constant_depends_on_nothing_and_three_rows_are_too_few():
    assert metrics.dependence(np.arange(5.0), np.ones(5)) == (0, 0, 1, 0, 0)
    with pytest.raises(ValueError, match="4 or more"):
        metrics.dependence(np.arange(3.0), np.arange(3.0))


def test_coefficient_of_determination_of_known_predictions():
    true = RNG.normal(size=(50, 3))
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    predicted = np.stack([true[:, 0], mean[:, 1], 2 * mean[:, 2] - true[:, 2]], axis=1)
    per_column, average = metrics.coefficient_of_determination(true, predicted)
    np.testing.assert_allclose(per_column, [1, 0, -3], atol=1e-12)
    assert average == pytest.approx(-2 / 3)


def test_coefficient_of_determination_notices_a_shift_and_a_scale():
    true = np.array([[-1.0], [0.0], [1.0]])  # a variance of 2 / 3
    assert metrics.coefficient_of_determination(true, true + 1)[1] == pytest.approx(1 - 1 / (2 / 3))
    assert metrics.coefficient_of_determination(true, 3 * true)[1] == pytest.approx(1 - 4)


def test_squared_correlation_is_blind_to_offset_scale_and_sign():
    true = RNG.normal(size=(50, 2))
    per_column, average = metrics.squared_correlation(true, -3 * true + 7)
    np.testing.assert_allclose(per_column, 1)
    assert average == pytest.approx(1)


def test_squared_correlation_of_a_constant_prediction_is_zero():
    assert metrics.squared_correlation(np.arange(4.0), np.ones(4))[1] == 0


@pytest.mark.parametrize("score", [metrics.coefficient_of_determination, metrics.squared_correlation])
def test_scores_refuse_a_constant_truth(score):
    true = np.stack([np.arange(4.0), np.ones(4)], axis=1)
    with pytest.raises(ValueError, match="Column 1 of the true values is constant"):
        score(true, true)


def test_linear_probes_find_what_a_code_holds():
    codes = RNG.normal(size=(300, 5))
    labels = (codes[:, 0] + codes[:, 1] > 0).astype(int)
    assert metrics.linear_probe_accuracy(codes, labels) > 0.9
    factors = np.stack([codes[:, 2] - 2 * codes[:, 3] + 1, RNG.normal(size=300)], axis=1)
    per_factor, _ = metrics.linear_probe_r2(codes, factors)
    assert per_factor[0] > 0.999
    assert per_factor[1] < 0.1


def test_a_linear_probe_is_fitted_on_the_codes_that_it_is_told():
    codes = np.repeat([[-1.0], [1.0]], 50, axis=0)
    labels = (codes[:, 0] > 0).astype(int)
    train = np.arange(100) % 2 == 0
    labels[~train] = 1 - labels[~train]
    assert metrics.linear_probe_accuracy(codes, labels, train=train) == 0
    assert 0.3 < metrics.linear_probe_accuracy(codes, labels) < 0.7


def test_linear_probes_of_an_empty_code_do_no_better_than_chance():
    codes = np.zeros((200, 3))
    labels = np.arange(200) % 2
    assert metrics.linear_probe_accuracy(codes, labels) == 0.5
    assert metrics.linear_probe_r2(codes, RNG.normal(size=200))[1] < 0.01


def test_linear_probe_refuses_a_label_that_occurs_once():
    with pytest.raises(ValueError, match=r"received labels \[0, 1\], \[4, 1\] times"):
        metrics.linear_probe_accuracy(np.zeros((5, 2)), np.array([0, 0, 0, 0, 1]))
