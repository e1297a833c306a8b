"""Bars are as high as their values, and odd numbers do not stop them."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tfdisent.report.comparison_figures import bars
from tfdisent.report.figures import PALETTE


def colour(index):
    return np.rint(255 * np.array(to_rgb(PALETTE[index])))


def height_of(picture, index):
    """Rows that hold the colour of a method's bar."""
    return (np.abs(picture - colour(index)).max(axis=-1) <= 1).any(axis=1).sum()


def places_of(picture, index):
    """Separate runs of columns that hold the colour."""
    columns = (np.abs(picture - colour(index)).max(axis=-1) <= 1).sum(axis=0) > 20
    return np.count_nonzero(np.diff(columns.astype(int)) == 1)


def test_bars_are_in_proportion_to_their_values():
    picture = bars(["one", "two", "three"], [1.0, 2.0, 3.0])
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3
    heights = [height_of(picture, k) for k in range(3)]
    np.testing.assert_allclose(np.divide(heights, heights[0]), [1, 2, 3], rtol=0.03)


def test_error_bars_and_references_are_drawn_only_where_they_are():
    plain = bars(["a", "b"], [1.0, 2.0])
    nothing = bars(["a", "b"], [1.0, 2.0], [np.nan, np.nan], [np.nan, np.nan])
    assert np.array_equal(plain, nothing)
    for more in ({"stds": [0.3, np.nan]}, {"reference": [np.nan, 1.0]}):
        assert not np.array_equal(plain, bars(["a", "b"], [1.0, 2.0], **more))


def test_every_group_has_a_bar_of_every_method():
    picture = bars(["a", "b"], np.full((2, 3), 0.5), np.full((2, 3), 0.1), groups=list("xyz"))
    assert [places_of(picture[100:], k) for k in range(2)] == [3, 3]


def test_a_value_that_is_not_there_leaves_its_bar_out():
    picture = bars(["a", "b"], [[0.5, np.nan], [0.5, 0.5]], groups=["x", "y"])
    assert places_of(picture[100:], 0) == 1 and places_of(picture[100:], 1) == 2
    assert (bars(["a"], [np.nan]) < 255).any()


@pytest.mark.parametrize("values", [[0.0, 0.0], [-1.0, -2.0], [1e-6, 1e6], [1.0, -1.0]])
def test_odd_values_are_drawn(values):
    assert (bars(["a", "b"], values, [0.1, 0.0], axis="R2") < 255).any()


def test_more_methods_than_colours_are_drawn():
    assert (bars([f"method {k}" for k in range(40)], np.arange(40.0)) < 255).any()


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (([], []), {}, "at least one bar"),
        ((["a"], np.zeros((1, 0))), {"groups": []}, "at least one bar"),
        ((["a", "b"], [1.0]), {}, r"values of shape \(2,\).*received \(1,\)"),
        ((["a"], [1.0], [0.1, 0.2]), {}, "stds of shape"),
        ((["a"], [1.0], None, [0.1, 0.2]), {}, "reference of shape"),
        ((["a"], [1.0]), {"groups": ["x", "y"]}, r"values of shape \(1, 2\)"),
        ((["a"], [1.0], [-0.1]), {}, "at least 0, received -0.1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, options, expected):
    with pytest.raises(ValueError, match=expected):
        bars(*arguments, **options)
