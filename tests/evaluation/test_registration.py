"""Registration without a network: known fields, and what cannot be registered."""

import numpy as np
import pytest
from scipy import ndimage

from tfdisent.evaluation.registration import knows_syn, register, register_by_syn
from tfdisent.phantoms import abdomen, cardiac, fields

pytestmark = pytest.mark.backend("torch")


def blobs(size=64):
    """A body with organs in it, (size, size), 0 to 1."""
    y, x = (np.indices((size, size)) + 0.5) / size - 0.5
    image = 0.3 * (x**2 / 0.16 + y**2 / 0.1 < 1)
    for at_y, at_x, radius, value in ((-0.1, -0.15, 0.1, 0.7), (0.1, 0.1, 0.08, 0.5), (-0.05, 0.2, 0.06, 0.2)):
        image[(y - at_y) ** 2 + (x - at_x) ** 2 < radius**2] = value
    return ndimage.gaussian_filter(image, size / 64)


def inside(field, size=64):
    """The field where the body is."""
    return field[size // 4 : -size // 4, size // 4 : -size // 4]


@pytest.mark.parametrize(
    "by", [register, pytest.param(register_by_syn, marks=pytest.mark.skipif(not knows_syn(), reason="needs ANTsPy"))]
)
def test_a_shift_is_found_between_inverted_contrasts(by):
    source = blobs()
    target = 1 - ndimage.shift(source, (-3, 2))  # shows at a pixel what the source shows 3 below and 2 to the left
    np.testing.assert_allclose(inside(by(source, target)).mean((0, 1)), (3, -2), atol=0.3)


def test_a_scaling_is_found():
    source = blobs()
    y, x = np.indices(source.shape) - 31.5
    known = np.stack([0.08 * y, -0.05 * x], axis=-1)
    found = register(source, fields.warp(source, known, order=1) ** 2)
    assert np.abs(inside(found - known)).mean() < 0.35 < np.abs(inside(known)).mean()


def test_a_larger_slice_is_shrunk_and_its_field_is_in_its_own_pixels():
    source = blobs(128)
    found = register(source, 1 - ndimage.shift(source, (6, 0)))
    assert found.shape == (128, 128, 2)
    np.testing.assert_allclose(inside(found, 128).mean((0, 1)), (-6, 0), atol=0.5)


@pytest.mark.parametrize("phantom", [abdomen, cardiac])
def test_labels_are_carried_better_than_copied(phantom):
    options = {"misalignment": 11.0} if phantom is abdomen else {}
    copied, carried = [], []
    for index in range(3):
        factors = phantom.draw_factors(seed=5, index=index)
        pair = phantom.render(factors, level=0.5, size=64, seed=5, index=index, **options)
        source, target, source_mask, target_mask = pair[:4]
        field = register(source, target)
        for found, labels in ((copied, source_mask), (carried, fields.warp(source_mask, field, order=0))):
            found.append(
                2 * ((labels == target_mask) & (target_mask > 0)).sum() / ((labels > 0).sum() + (target_mask > 0).sum())
            )
    assert np.mean(carried) > np.mean(copied) + 0.05 and np.mean(carried) > 0.88


def test_the_same_slices_have_the_same_field_and_none_moves_onto_itself():
    source, target = blobs(), 1 - ndimage.shift(blobs(), (2, 2))
    # Up to rounding: how memory is aligned decides in which order processors add.
    np.testing.assert_allclose(register(source, target), register(source, target), atol=1e-9)
    assert np.abs(register(source, source)).max() < 0.1


def test_an_empty_slice_is_left_where_it_is():
    empty = np.full((64, 64), -1.0)
    for pair in ((empty, blobs()), (blobs(), empty), (empty, empty)):
        assert not register(*pair).any()
