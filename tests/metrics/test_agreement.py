"""Coefficients of variation and intraclass correlations: published examples, ideal and degenerate measurements."""

import numpy as np
import pytest

from tfdisent.metrics import coefficient_of_variation, intraclass_correlation
from tfdisent.metrics.agreement import ICC_FORMS

# Table 2 of Shrout and Fleiss, Psychological Bulletin 86, 420, 1979: six targets, four judges.
SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
PRINTED = {"1,1": 0.17, "2,1": 0.29, "3,1": 0.71, "1,k": 0.44, "2,k": 0.62, "3,k": 0.91}


@pytest.mark.parametrize("form", ICC_FORMS)
def test_the_example_of_shrout_and_fleiss_comes_out_as_printed(form):
    assert intraclass_correlation(SHROUT_FLEISS, form) == pytest.approx(PRINTED[form], abs=0.005)


@pytest.mark.parametrize("form", ICC_FORMS)
def test_measurements_that_agree_have_1_in_every_form(form):
    assert intraclass_correlation(np.repeat([[1.0], [2], [5]], 3, axis=1), form) == pytest.approx(1)


def test_an_offset_of_a_rater_lowers_agreement_and_not_consistency():
    subjects = np.random.default_rng(0).normal(size=(50, 1))
    shifted = subjects + [0, 1, 2]
    assert intraclass_correlation(shifted, "3,1") == pytest.approx(1)
    assert intraclass_correlation(shifted, "2,1") < 0.6


def test_measurements_that_say_nothing_of_their_subject_have_about_0():
    random = np.random.default_rng(0).normal(size=(400, 4))
    for form in ("1,1", "2,1", "3,1"):
        assert abs(intraclass_correlation(random, form)) < 0.05


def test_known_variances_give_their_ratio():
    random = np.random.default_rng(1)
    subjects, raters, noise = random.normal(size=(3000, 1)), random.normal(size=200), random.normal(size=(3000, 200))
    found = intraclass_correlation(2 * subjects + raters + 0.5 * noise)
    assert found == pytest.approx(4 / (4 + 1 + 0.25), abs=0.03)


def test_subjects_that_are_all_alike_have_no_correlation():
    assert np.isnan(intraclass_correlation(np.full((3, 2), 7.0)))


@pytest.mark.parametrize(
    ("values", "form", "words"),
    [
        ([[1, 2]], "2,1", "two subjects or more"),
        ([[1], [2]], "2,1", "two finite measurements"),
        ([[1, 2], [3, np.nan]], "2,1", "leave these subjects out"),
        ([1, 2], "2,1", r"\(N, K\)"),
        ([[1, 2], [3, 4]], "4,1", "Expected a form of 1,1; 2,1"),
    ],
)
def test_what_has_no_correlation_is_refused(values, form, words):
    with pytest.raises(ValueError, match=words):
        intraclass_correlation(values, form)


def test_variation_is_the_deviation_of_a_sample_over_the_mean():
    found = coefficient_of_variation([[9, 11], [5, 5], [1, 3]])
    np.testing.assert_allclose(found, [np.sqrt(2) / 10, 0, np.sqrt(2) / 2])
    np.testing.assert_allclose(coefficient_of_variation([[10, 20, 30]]), [0.5])


def test_variation_leaves_missing_measurements_out_and_needs_two_of_something_that_is_there():
    found = coefficient_of_variation([[9, np.nan, 11], [4, np.nan, np.nan], [np.nan] * 3, [0, 0, 0]])
    assert found[0] == pytest.approx(np.sqrt(2) / 10) and np.isnan(found[1:]).all()


def test_variation_does_not_depend_on_the_unit():
    values = np.random.default_rng(0).uniform(1, 2, (5, 3))
    np.testing.assert_allclose(coefficient_of_variation(1000 * values), coefficient_of_variation(values))


@pytest.mark.parametrize("values", [[[1, -1]], [[1, np.inf]], [1, 2]])
def test_variation_of_what_is_no_size_is_refused(values):
    with pytest.raises(ValueError, match="Expected measurements"):
        coefficient_of_variation(values)
