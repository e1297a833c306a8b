"""Paired comparison of two methods: exact p values by hand, and what is like nothing."""

import numpy as np
import pytest

from tfdisent import metrics

pytestmark = pytest.mark.backend("torch")


def test_of_five_subjects_that_all_gain_two_of_all_32_exchanges_are_as_extreme():
    found = metrics.paired_permutation_test([0.6, 0.7, 0.8, 0.9, 0.5], [0.5, 0.5, 0.5, 0.5, 0.4])
    assert found.difference == pytest.approx(0.22) and found.n == 5
    assert found.p == pytest.approx(2 / 32)


def test_p_is_that_of_all_exchanges_counted_one_by_one():
    difference = np.random.default_rng(3).normal(0.4, 1, 10)
    signs = 1 - 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1)
    expected = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-9)
    found = metrics.paired_permutation_test(difference, np.zeros(10))
    assert 0.02 < found.p < 0.98 and found.p == pytest.approx(expected)


def test_exchanged_methods_have_the_same_p_and_the_opposite_difference():
    first, second = np.random.default_rng(0).normal(size=(2, 9))
    one, other = metrics.paired_permutation_test(first, second), metrics.paired_permutation_test(second, first)
    assert one.p == pytest.approx(other.p) and one.difference == pytest.approx(-other.difference)


def test_many_subjects_are_drawn_from_and_a_clear_gain_is_clear():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 40))
    assert metrics.paired_permutation_test(0.2 + noise[0], noise[1]).p < 0.001
    assert metrics.paired_permutation_test(noise[0], noise[1]).p > 0.05


def test_methods_that_are_alike_and_a_single_subject_tell_nothing():
    assert metrics.paired_permutation_test([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == (0, 1, 3)
    assert metrics.paired_permutation_test([0.5], [0.1]) == (pytest.approx(0.4), 1, 1)


def test_subjects_without_a_score_are_left_out():
    found = metrics.paired_permutation_test([0.5, np.nan, 0.9, 0.8], [0.4, 0.3, np.nan, 0.6])
    assert found.n == 2 and found.difference == pytest.approx(0.15)
    with pytest.raises(ValueError, match="received none"):
        metrics.paired_permutation_test([np.nan], [0.2])


def test_other_subjects_are_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="num_samples"):
        metrics.paired_permutation_test([0.5, 0.6], [0.5])
