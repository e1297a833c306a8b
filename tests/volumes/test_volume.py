import numpy as np

from tfdisent.volumes import Volume


def test_positions_rise_with_the_slices():
    affine = np.diag([-1.0, -1.0, 4.0, 1.0])
    affine[2, 3] = -10
    np.testing.assert_allclose(Volume(np.zeros((3, 2, 2)), affine).positions, [-10, -6, -2])
