import numpy as np
import pytest

from tfdisent import metrics
from tfdisent.metrics import truth

SCORES = [
    metrics.mutual_information_gap,
    metrics.dci,
    metrics.separated_attribute_predictability,
    lambda codes, factors: metrics.block_gap({"a": codes, "b": codes}, factors),
]


def _grid(*sizes, repeats=1):
    """Every combination of discrete factors of these sizes, (N, F): independent to the last row."""
    values = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    return np.repeat(np.stack([v.ravel() for v in values], axis=1), repeats, axis=0).astype(float)


def _uniform(rows=600, width=3):
    return np.random.default_rng(0).uniform(-1, 1, size=(rows, width))


def _noise(rows=600, width=3):
    return np.random.default_rng(1).normal(size=(rows, width))


def _turned(codes):
    """The first two entries mixed by 45 degrees."""
    mixed = codes.copy()
    mixed[:, 0], mixed[:, 1] = codes[:, 0] + codes[:, 1], codes[:, 0] - codes[:, 1]
    return mixed / np.sqrt(2)


def test_mig_of_permuted_and_scaled_independent_factors_is_one():
    factors = _grid(4, 3, 5)
    per_factor, mean = metrics.mutual_information_gap(factors[:, [2, 0, 1]] * [-3, 0.1, 7], factors)
    np.testing.assert_allclose(per_factor, [1, 1, 1])
    assert mean == pytest.approx(1)


def test_mig_of_an_entry_that_is_there_twice_is_exactly_zero():
    factors = _grid(6, 5)
    per_factor, _ = metrics.mutual_information_gap(factors[:, [0, 1, 0]], factors)
    assert per_factor[0] == 0
    assert per_factor[1] == pytest.approx(1)


def test_mig_of_half_the_information_is_a_half():
    factors = _grid(4, 4, repeats=2)
    codes = np.stack([factors[:, 0] // 2, factors[:, 1]], axis=1)  # one of two bits
    per_factor, mean = metrics.mutual_information_gap(codes, factors)
    np.testing.assert_allclose(per_factor, [0.5, 1])
    assert mean == pytest.approx(0.75)


def test_mig_cuts_continuous_values_into_bins_of_equal_width():
    line = np.linspace(-3, 5, 400)
    codes = np.stack([2 * line, np.zeros(400)], axis=1)
    assert metrics.mutual_information_gap(codes, line)[1] == pytest.approx(1)
    # Two of four bins hold everything but the extremes: the same bins, so all is still told.
    heavy = np.concatenate([np.linspace(-1, 1, 398), [-100, 100]])
    codes = np.stack([heavy, (heavy > 0).astype(float)], axis=1)
    share = np.array([1, 199, 199, 1]) / 400
    entropy = -np.sum(share * np.log(share))
    expected = (entropy - np.log(2)) / entropy  # the sign alone tells one bit of it
    assert metrics.mutual_information_gap(codes, heavy, num_bins=4)[1] == pytest.approx(expected)


def test_mig_of_noise_and_of_constant_codes_is_near_zero():
    factors = _grid(5, 4, repeats=200)
    assert metrics.mutual_information_gap(_noise(4000), factors)[1] < 0.02
    assert metrics.mutual_information_gap(np.zeros((4000, 2)), factors)[1] == 0


def test_turned_codes_score_lower_than_aligned_ones():
    factors = _uniform(2000)
    turned = _turned(factors)
    for score in (metrics.mutual_information_gap, metrics.separated_attribute_predictability):
        aligned, mixed = score(factors, factors)[0], score(turned, factors)[0]
        assert aligned[:2].min() > 0.8
        assert mixed[:2].max() < 0.1
        assert mixed[2] == pytest.approx(aligned[2], abs=0.05)


def test_sap_of_continuous_factors_is_the_gap_of_squared_correlations():
    line = np.linspace(-1, 1, 101)
    codes = np.stack([line**2, -3 * line + 1], axis=1)  # line and its square are uncorrelated
    assert metrics.separated_attribute_predictability(codes, line)[1] == pytest.approx(1)
    step = np.sign(line)
    expected = 1 - np.corrcoef(step, line)[0, 1] ** 2
    codes = np.stack([step, line], axis=1)
    assert metrics.separated_attribute_predictability(codes, line)[1] == pytest.approx(expected)


@pytest.mark.parametrize("values", [2, 3, 7])
def test_sap_of_a_discrete_factor_is_all_but_chance(values):
    factors = _grid(values, 5, repeats=4)
    codes = factors[:, ::-1] * [10, -2]
    per_factor, _ = metrics.separated_attribute_predictability(codes, factors)
    np.testing.assert_allclose(per_factor, [1 - 1 / values, 1 - 1 / 5])


def test_sap_weighs_the_values_of_a_discrete_factor_alike():
    factor = np.repeat([0.0, 1.0], [90, 10])
    # 9 of the 10 rare rows stay beyond the threshold between the means, 0 and 0.9.
    codes = np.stack([factor, np.zeros(100)], axis=1)
    codes[99, 0] = 0
    assert metrics.separated_attribute_predictability(codes, factor)[1] == pytest.approx(0.95 - 0.5)


def test_sap_of_duplicates_is_exactly_zero_and_of_noise_near_zero():
    factors = np.concatenate([_uniform(2000, 2), _noise(2000, 1) > 0], axis=1)
    doubled = np.concatenate([factors, factors], axis=1)
    assert not metrics.separated_attribute_predictability(doubled, factors)[0].any()
    noise = np.random.default_rng(2).normal(size=(2000, 5))
    assert metrics.separated_attribute_predictability(noise, factors)[1] < 0.03


def test_dci_of_permuted_and_scaled_factors_is_near_one():
    factors = np.concatenate([_uniform(), _noise()[:, :1] > 0], axis=1)
    result = metrics.dci(factors[:, [2, 3, 0, 1]] * [5, 1, -0.1, 2], factors)
    assert result.disentanglement > 0.98
    assert result.completeness > 0.98
    assert result.informativeness > 0.98
    assert result.importance.shape == (4, 4)
    np.testing.assert_allclose(result.importance.sum(axis=0), 1)
    np.testing.assert_array_equal(result.importance.argmax(axis=0), [2, 3, 0, 1])


def test_dci_of_noise_is_near_zero():
    factors = np.concatenate([_uniform(), _noise()[:, :1] > 0], axis=1)
    result = metrics.dci(np.random.default_rng(2).normal(size=(600, 5)), factors)
    assert result.disentanglement < 0.1
    assert result.completeness < 0.1
    assert result.scores[:3].max() < 0.1
    assert result.scores[3] == pytest.approx(0.5, abs=0.1)  # accuracy: chance


def test_dci_of_constant_codes_is_zero():
    result = metrics.dci(np.ones((100, 3)), np.concatenate([_uniform(100, 2), _grid(2, 50)], 1))
    assert result.disentanglement == result.completeness == 0
    assert not result.importance.any()


def test_dci_of_turned_codes_is_lower_than_of_aligned_ones_but_they_tell_as_much():
    factors = _uniform(width=2)
    aligned, turned = metrics.dci(factors, factors), metrics.dci(_turned(factors), factors)
    assert turned.disentanglement < 0.1 < 0.9 < aligned.disentanglement
    assert turned.completeness < 0.1 < 0.9 < aligned.completeness
    assert turned.informativeness > 0.8


def test_dci_tells_disentanglement_from_completeness():
    factors = _uniform(width=2)
    shared = factors @ [[1.0, 0.0], [1.0, 0.0]] + [[0.0, 1e-9]] * _noise(width=2)
    one_entry_serves_both = metrics.dci(shared, factors)
    assert one_entry_serves_both.disentanglement < 0.2 < 0.6 < one_entry_serves_both.completeness
    doubled = factors[:, [0, 0, 1, 1]] + 0.05 * _noise(width=4)
    two_entries_serve_each = metrics.dci(doubled, factors)
    assert two_entries_serve_each.disentanglement > 0.9
    assert two_entries_serve_each.completeness == pytest.approx(0.5, abs=0.1)  # 1 - log 2 / log 4


def test_dci_of_known_importances():
    assert truth._disentanglement(np.eye(4)) == truth._completeness(np.eye(4)) == 1
    flat = np.ones((4, 3))
    assert truth._disentanglement(flat) == pytest.approx(0)
    assert truth._completeness(flat) == pytest.approx(0)
    assert truth._disentanglement(np.zeros((2, 3))) == truth._completeness(np.zeros((2, 3))) == 0
    # Entry 0 serves two of ten factors, with all of the importance; the others count for nothing.
    two_of_ten = np.zeros((5, 10))
    two_of_ten[0, :2] = 1
    assert truth._disentanglement(two_of_ten) == pytest.approx(1 - np.log(2) / np.log(10))
    assert truth._completeness(two_of_ten) == pytest.approx(0.2)
    weighted = np.array([[3.0, 0.0], [0.5, 0.5]])
    assert truth._disentanglement(weighted) == pytest.approx(0.75)


def test_dci_is_the_same_with_the_same_seed():
    codes, factors = _noise(100), _uniform(100)
    first, again, other = (metrics.dci(codes, factors, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.importance, again.importance)
    assert (first.importance != other.importance).any()


def test_block_gap_finds_the_block_of_each_factor_however_it_is_turned():
    factors = np.concatenate([_uniform(), _noise()[:, :1] > 0], axis=1)
    content, style = _turned(factors[:, [0, 3]]), _turned(factors[:, [1, 2]])
    result = metrics.block_gap({"content": content, "style": style}, factors)
    assert result.best == ("content", "style", "style", "content")
    assert result.per_factor.min() > 0.9
    assert result.mean == pytest.approx(result.per_factor.mean())
    np.testing.assert_array_equal(result.per_factor, np.abs(result.scores["content"] - result.scores["style"]))


def test_block_gap_of_equal_blocks_is_zero_and_scores_say_that_both_tell():
    factors = _uniform()
    result = metrics.block_gap({"a": factors, "b": factors, "c": _noise()}, factors)
    assert not result.per_factor.any()
    assert result.scores["a"].min() > 0.99 > 0.1 > result.scores["c"].max()


def test_block_gap_of_empty_blocks_has_no_best_block():
    factors = np.concatenate([_uniform(100, 1), _grid(2, 50)[:, :1]], axis=1)
    empty = np.zeros((100, 2))
    result = metrics.block_gap({"content": empty, "style": empty}, factors)
    assert result.best == (None, None)
    assert result.mean == 0


def test_block_gap_scales_accuracy_between_chance_and_always_right():
    labels = np.repeat([0.0, 1.0, 2.0], [200, 100, 100])
    # It tells the first value from the others, which are alike to it.
    codes = {"content": (labels > 0).astype(float), "style": np.zeros(400)}
    result = metrics.block_gap(codes, labels)
    assert result.per_factor[0] == pytest.approx((0.75 - 0.5) / 0.5, abs=0.01)
    assert result.scores["style"][0] == 0


def test_block_gap_leaves_out_values_that_occur_once():
    labels = np.append(np.arange(40) % 2, 5.0)
    result = metrics.block_gap({"content": labels, "style": np.zeros(41)}, labels)
    assert result.per_factor[0] == 1


def test_block_gap_wants_two_blocks():
    with pytest.raises(ValueError, match=r"two blocks or more.*received \['content'\]"):
        metrics.block_gap({"content": _noise()}, _uniform())


def test_block_gap_names_the_block_that_does_not_fit():
    with pytest.raises(ValueError, match="style and factors to have the same length.*50 and 600"):
        metrics.block_gap({"content": _noise(), "style": _noise(50)}, _uniform())


@pytest.mark.parametrize("score", SCORES, ids=["mig", "dci", "sap", "block_gap"])
@pytest.mark.parametrize(
    "codes, factors, message",
    [
        (_noise(30), _uniform(29), "same length, 20 or more, received 30 and 29"),
        (_noise(19), _uniform(19), "same length, 20 or more, received 19 and 19"),
        (np.full((30, 2), np.nan), _uniform(30), "60 values not finite"),
        (_noise(30), np.full((30, 2), np.inf), "factors to be finite"),
        (_noise(30), _uniform(30) * [1, 0, 1], "Factor 1 is constant over 30 rows"),
    ],
    ids=["lengths", "rows", "codes", "factors", "constant"],
)
def test_bad_input_is_named(score, codes, factors, message):
    with pytest.raises(ValueError, match=message):
        score(codes, factors)


@pytest.mark.parametrize("score", SCORES[:3], ids=["mig", "dci", "sap"])
def test_a_gap_between_entries_needs_two_entries(score):
    with pytest.raises(ValueError, match=r"2 entries or more.*\(30, 1\)"):
        score(_noise(30, 1), _uniform(30))


def test_dci_needs_two_factors_and_mig_two_bins():
    with pytest.raises(ValueError, match="DCI needs 2 factors"):
        metrics.dci(_noise(30), _uniform(30, 1))
    with pytest.raises(ValueError, match="num_bins to be 2 or more, received 1"):
        metrics.mutual_information_gap(_noise(30), _uniform(30), num_bins=1)
