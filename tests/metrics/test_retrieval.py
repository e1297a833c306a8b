import numpy as np
import pytest

from tfdisent import metrics


def test_nearest_orders_by_mean_absolute_error():
    database = np.array([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]])
    indices, distances = metrics.nearest(np.array([[1.0, 0.5], [4.0, 0.0]]), database, top=2)
    np.testing.assert_array_equal(indices, [[1, 0], [2, 0]])
    np.testing.assert_allclose(distances, [[0.25, 0.75], [0, 2]])


def test_nearest_differs_from_euclidean_order():
    indices, _ = metrics.nearest(np.zeros((1, 2)), np.array([[3.0, 0.0], [2.0, 2.0]]), top=1)
    assert indices[0, 0] == 0  # 3 < 4; the Euclidean distances are 3 > 2.8


def test_nearest_of_an_entry_is_itself_and_ties_go_to_the_lower_index():
    codes = np.repeat(np.arange(4.0), 2)[:, None]
    indices, distances = metrics.nearest(codes, codes, top=1)
    np.testing.assert_array_equal(indices[:, 0], [0, 0, 2, 2, 4, 4, 6, 6])
    assert not distances.any()


@pytest.mark.parametrize(
    "query, database, top, message",
    [
        (np.zeros((1, 2)), np.zeros((3, 4)), 1, "same width"),
        (np.zeros((1, 2)), np.zeros((3, 2)), 4, r"top to lie in \[1, 3\]"),
        (np.zeros(2), np.zeros((3, 2)), 1, "query_codes to be finite"),
        (np.zeros((1, 2)), np.full((3, 2), np.inf), 1, "database_codes to be finite"),
    ],
)
def test_nearest_refuses_codes_that_do_not_fit(query, database, top, message):
    with pytest.raises(ValueError, match=message):
        metrics.nearest(query, database, top)


def test_disagreement_divergence_of_equal_labels_is_zero_and_of_opposite_ones_one():
    labels = np.array([[0, 1], [1, 0]])
    assert metrics.disagreement_divergence(labels, labels[:, None]) == 0
    assert metrics.disagreement_divergence(labels, 1 - labels[:, None]) == 1


def test_disagreement_divergence_means_over_queries_retrieved_and_attributes():
    retrieved = np.array([[[0.0, 2.0], [0.0, 0.0]]])
    assert metrics.disagreement_divergence(np.zeros((1, 2)), retrieved) == 1


def test_label_overlap_counts_queries_whose_best_label_was_retrieved():
    database = np.array([[0, 0], [0, 1], [1, 1]])
    queries = np.array([[0, 0], [1, 1]])
    retrieved = database[[[1, 0], [0, 1]]]  # the first finds (0, 0), the second misses (1, 1)
    assert metrics.label_overlap(queries, retrieved, database) == 50


def test_label_overlap_takes_the_closest_label_where_none_is_equal():
    database = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    query = np.array([[0.0, 1.4]])
    assert metrics.label_overlap(query, database[[[1]]], database) == 100
    assert metrics.label_overlap(query, database[[[0, 2]]], database) == 0


def test_label_overlap_does_not_take_the_second_closest_label_for_the_closest():
    query, database = np.array([[0.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert metrics.label_overlap(query, database[None, 1:], database) == 0
    assert metrics.label_overlap(query, database[None], database) == 100


def test_label_overlap_counts_a_tie_as_found():
    database = np.array([[-1.0], [1.0]])
    assert metrics.label_overlap(np.zeros((1, 1)), database[[[1]]], database) == 100


def test_label_measures_refuse_shapes_that_do_not_fit():
    labels = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"retrieved_labels \(Q, top, A\)"):
        metrics.disagreement_divergence(labels, labels)
    with pytest.raises(ValueError, match=r"database_labels to be \(N, 3\)"):
        metrics.label_overlap(labels, labels[:, None], np.zeros((5, 2)))
