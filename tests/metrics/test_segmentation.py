import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from tfdisent import metrics


def _maps(seed=0, num_labels=4, shape=(5, 12, 10)):
    """Two batches of label maps that agree in about two thirds of the pixels."""
    rng = np.random.default_rng(seed)
    a, other = rng.integers(0, num_labels, (2, *shape))
    return a, np.where(rng.random(shape) < 0.6, a, other)


def test_equal_masks_score_one_and_disjoint_ones_zero():
    a = np.zeros((2, 6, 6), bool)
    a[:, :3] = True
    for function in (metrics.dice, metrics.iou):
        np.testing.assert_array_equal(function(a, a), 1)
        np.testing.assert_array_equal(function(a, ~a), 0)


def test_two_squares_that_share_a_third_of_their_union():
    a, b = np.zeros((2, 1, 4, 6), np.uint8)
    a[0, :, 0:4] = b[0, :, 2:6] = 1  # 16 pixels each, 8 in both
    np.testing.assert_allclose(metrics.dice(a, b), 0.5)
    np.testing.assert_allclose(metrics.iou(a, b), 1 / 3)
    np.testing.assert_allclose(metrics.dice(a, b, smooth=1), 17 / 33)
    np.testing.assert_allclose(metrics.iou(a, b, smooth=1), 9 / 25)


def test_equal_the_f1_and_jaccard_scores_of_scikit_learn_by_case_and_label():
    a, b = _maps()
    labels = (1, 3, 2)
    dice, iou = metrics.dice(a, b, labels), metrics.iou(a, b, labels)
    assert dice.shape == iou.shape == (5, 3)
    assert dice.dtype == np.float64
    for case in range(5):
        flat = a[case].ravel(), b[case].ravel()
        options = {"labels": labels, "average": None}
        np.testing.assert_allclose(dice[case], f1_score(*flat, **options))
        np.testing.assert_allclose(iou[case], jaccard_score(*flat, **options))


def test_pooled_over_labels_equals_the_micro_averages_of_scikit_learn():
    a, b = _maps()
    labels = (1, 2, 3)
    flat = a[0].ravel(), b[0].ravel()
    options = {"labels": labels, "average": "micro"}
    pooled = metrics.dice(a, b, labels, pooled=True)
    assert pooled.shape == (5,)
    np.testing.assert_allclose(pooled[0], f1_score(*flat, **options))
    np.testing.assert_allclose(metrics.iou(a, b, labels, pooled=True)[0], jaccard_score(*flat, **options))


def test_without_labels_all_that_is_not_zero_is_one_foreground():
    a, b = _maps()
    np.testing.assert_array_equal(metrics.dice(a, b), metrics.dice(a > 0, b > 0))
    swapped = np.array([0, 2, 1, 3])[a]
    np.testing.assert_array_equal(metrics.dice(a, swapped), 1)
    assert (metrics.dice(a, swapped, (1, 2, 3), pooled=True) < 0.9).all()  # the wrong label is


def test_labels_that_are_not_named_count_as_background():
    a, b = _maps()
    np.testing.assert_array_equal(metrics.dice(a, b, [2])[:, 0], metrics.dice(a == 2, b == 2))


def test_dice_and_iou_tell_each_other():
    a, b = _maps()
    iou = metrics.iou(a, b, (1, 2))
    np.testing.assert_allclose(metrics.dice(a, b, (1, 2)), 2 * iou / (1 + iou))


def test_a_volume_is_one_case_and_its_slices_are_many():
    a, b = np.zeros((2, 2, 4, 4), bool)
    a[0], b[0] = True, True  # 16 of 16
    a[1, 0, 0] = True  # missed
    np.testing.assert_array_equal(metrics.dice(a, b), [1, 0])
    np.testing.assert_allclose(metrics.dice(a[None], b[None]), 32 / 33)


@pytest.mark.parametrize("function", [metrics.dice, metrics.iou])
def test_two_empty_masks_score_what_the_caller_says(function):
    a = np.zeros((2, 4, 4), np.uint8)
    a[0, 0, 0] = 1
    np.testing.assert_array_equal(function(a, a), [1, np.nan])
    np.testing.assert_array_equal(function(a, a, empty=1), [1, 1])
    np.testing.assert_array_equal(function(a, a, empty=0), [1, 0])
    np.testing.assert_array_equal(function(a, a, (1, 2), empty=0), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(function(a, a, (1, 2), pooled=True), [1, np.nan])
    np.testing.assert_array_equal(function(a, a, smooth=1), [1, 1])  # whatever `empty`


def test_one_empty_mask_scores_zero_unless_smoothed():
    a, b = np.zeros((2, 1, 4, 4), bool)
    b[0, 0, :3] = True
    for empty in (np.nan, 0, 1):
        np.testing.assert_array_equal(metrics.dice(a, b, empty=empty), 0)
        np.testing.assert_array_equal(metrics.dice(b, a, empty=empty), 0)
    np.testing.assert_array_equal(metrics.dice(a, b, smooth=1), 1 / 4)


def test_no_cases_give_no_scores():
    none = np.zeros((0, 4, 4), int)
    assert metrics.dice(none, none).shape == (0,)
    assert metrics.iou(none, none, (1, 2)).shape == (0, 2)


MASK = np.zeros((2, 4, 4), int)


@pytest.mark.parametrize(
    "a, b, options, message",
    [
        (MASK, MASK[:1], {}, r"same shape, received \(2, 4, 4\) and \(1, 4, 4\)"),
        (MASK + 0.5, MASK, {}, r"a to be integer labels or booleans, received float64.*values > 0\.5"),
        (MASK, MASK[0, 0], {}, "b to be .N, ...., cases first"),
        (MASK, MASK, {"labels": ()}, "labels to be a sequence of different integers"),
        (MASK, MASK, {"labels": (1, 1)}, "labels to be"),
        (MASK, MASK, {"labels": (0.5,)}, "labels to be"),
        (MASK, MASK, {"labels": 1}, "labels to be"),
        (MASK, MASK, {"pooled": True}, "pooled=True sums over labels: name them"),
        (MASK, MASK, {"smooth": -1}, "smooth to be 0 or more"),
        (MASK, MASK, {"smooth": np.nan}, "smooth to be 0 or more"),
        (MASK, MASK, {"empty": 0.5}, "empty to be NaN, 1 or 0, received 0.5"),
    ],
)
def test_what_cannot_be_scored_is_refused(a, b, options, message):
    for function in (metrics.dice, metrics.iou):
        with pytest.raises(ValueError, match=message):
            function(a, b, **options)


def test_boundaries_are_as_far_apart_as_their_rows_on_average_over_columns():
    a = np.array([[[1.0, 2, 3], [5, 5, 5]]])
    b = np.array([[[2.0, 2, 1], [5.5, 4.5, 5]]])
    np.testing.assert_allclose(metrics.boundary_distance(a, b), [[1, 1 / 3]])
    np.testing.assert_array_equal(metrics.boundary_distance(a, a), [[0, 0]])
    b[0, 0, 2], b[0, 1] = np.nan, np.nan
    np.testing.assert_allclose(metrics.boundary_distance(a, b), [[0.5, np.nan]])
    with pytest.raises(ValueError, match="of one shape"):
        metrics.boundary_distance(a, b[:, :1])
