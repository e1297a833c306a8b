"""Rigid registration: a known motion is found, in another contrast too, and what cannot be registered is refused."""

import numpy as np
import pytest
from scipy import ndimage

from tfdisent.volumes.registration import register_rigid

SPACING = (2.0, 2.0, 3.0)  # y, x, z


def head():
    """Ellipsoids on a grid of 12 x 40 x 40, in [0, 1]."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (12, 40, 40)), indexing="ij")
    inside = (x / 0.6) ** 2 + (y / 0.75) ** 2 + (z / 0.9) ** 2 < 1
    left = ((x - 0.25) / 0.15) ** 2 + ((y + 0.1) / 0.3) ** 2 + (z / 0.5) ** 2 < 1
    right = ((x + 0.2) / 0.1) ** 2 + ((y - 0.3) / 0.15) ** 2 + ((z - 0.2) / 0.4) ** 2 < 1
    return ndimage.gaussian_filter(np.where(inside, 0.6, 0) + 0.4 * left - 0.4 * right, 0.7)


@pytest.mark.backend("torch")
def test_a_rotated_and_shifted_scan_of_another_contrast_comes_back():
    fixed = head()
    moving = ndimage.shift(ndimage.rotate(fixed, 8, axes=(1, 2), reshape=False, order=1), (0, 2, -3), order=1)
    onto_fixed = register_rigid(fixed, np.sqrt(moving.clip(0)), SPACING, SPACING)
    back = onto_fixed(moving)
    there = np.isfinite(back)
    before, after = (np.abs(image - fixed)[there].mean() for image in (moving, np.nan_to_num(back)))
    assert there.mean() > 0.8 and after < 0.25 * before
    np.testing.assert_array_equal(back, register_rigid(fixed, np.sqrt(moving.clip(0)), SPACING, SPACING)(moving))


@pytest.mark.backend("torch")
def test_a_scan_on_another_grid_is_brought_onto_the_fixed_one():
    fixed = head()
    coarse = fixed[:, ::2, ::2]
    made = register_rigid(fixed, coarse, SPACING, (4.0, 4.0, 3.0))(coarse)
    assert made.shape == fixed.shape
    assert np.nanmean(np.abs(made - fixed)) < 0.03


@pytest.mark.parametrize(
    ("moving", "spacing"), [(np.zeros((2, 8, 8)), SPACING), (np.zeros((8, 8)), SPACING), (head(), (0.0, 1.0, 1.0))]
)
def test_what_cannot_be_registered_is_refused(moving, spacing):
    with pytest.raises(ValueError, match="4 slices or more"):
        register_rigid(head(), moving, SPACING, spacing)


def test_a_volume_on_another_grid_than_the_moving_scan_is_refused():
    onto_fixed = register_rigid(head(), head(), SPACING, SPACING)
    with pytest.raises(ValueError, match="grid of moving"):
        onto_fixed(head()[1:])
