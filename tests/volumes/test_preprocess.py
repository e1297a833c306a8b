import numpy as np
import pytest

from tfdisent.volumes import Volume, preprocess


def volume(array, y=1.0, x=1.0, z=1.0, position=0.0):
    affine = np.diag([-x, -y, z, 1.0])
    affine[2, 3] = position
    return Volume(np.asarray(array), affine)


def ball(shape, radius, centre=None):
    centre = centre or [length / 2 - 0.5 for length in shape]
    grid = np.indices(shape)
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) < radius**2


def test_a_ramp_stays_a_ramp_in_millimetres_when_resampled():
    rows, columns = np.mgrid[0:24, 0:30]
    ramp = volume(np.stack([100 * rows + 10 * columns] * 2).astype(np.float32), 0.5, 0.8, 3)
    for spacing in (1.0, 0.3):
        new = preprocess.resample_in_plane(ramp, spacing)
        np.testing.assert_allclose(new.spacing, [spacing, spacing, 3], rtol=1e-6)
        z, y, x = np.indices(new.array.shape)
        mm = np.stack([x, y, z, np.ones_like(x)], -1) @ new.affine.T
        expected = 100 * -mm[..., 1] / 0.5 + 10 * -mm[..., 0] / 0.8
        # At the border a blur has one side only; inside it may shift an edge by a twentieth of a voxel.
        border = spacing if spacing > 0.5 else 0
        inside = (-mm[..., 1] >= border) & (-mm[..., 1] <= 23 * 0.5 - border)
        inside &= (-mm[..., 0] >= border) & (-mm[..., 0] <= 29 * 0.8 - border)
        assert inside.mean() > 0.6
        np.testing.assert_allclose(new.array[inside], expected[inside], atol=5 if spacing > 0.5 else 0.01)
        # The same field of view, to within half a pixel.
        for axis, old in ((1, 24 * 0.5), (2, 30 * 0.8)):
            assert abs(new.array.shape[axis] * spacing - old) <= spacing / 2 + 1e-6


def test_resampling_keeps_types_labels_and_slices():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 5:15, 5:15] = 7
    new = preprocess.resample_in_plane(volume(labels, z=4), 0.7, labels=True)
    assert new.array.dtype == np.uint8 and set(np.unique(new.array)) == {0, 7}
    assert new.array.shape == (3, 29, 29) and not new.array[[0, 2]].any()
    assert (new.array == 7).sum() * 0.49 == pytest.approx(100, rel=0.15)
    image = volume(np.full((3, 8, 8), -1000, np.int16))
    assert (preprocess.resample_in_plane(image, 0.5).array == -1000).all()
    high = volume(np.array([[[0, 65535, 0, 65535]]], np.uint16))
    assert preprocess.resample(high, (0, 0.3, 0)).array.max() == 65535
    thick = preprocess.resample(volume(np.zeros((10, 4, 4)), z=2), (0, 0, 5))
    assert thick.array.shape == (4, 4, 4)
    np.testing.assert_allclose(thick.positions.mean(), 9)  # the same centre
    assert preprocess.resample_in_plane(image, 1.001).array is image.array
    with pytest.raises(ValueError, match="spacing to be three numbers"):
        preprocess.resample(image, (0, -1, 0))


def grating(period, length=240):
    """(2, length, length) of stripes across the rows, `period` voxels each, between -1000 and 1000."""
    wave = 1000 * np.cos(2 * np.pi * np.arange(length) / period)
    return np.tile(wave[None, :, None], (2, 1, length)).astype(np.float32)


def test_a_grating_too_fine_for_the_new_voxels_vanishes_and_a_coarse_one_stays():
    for spacing in (2.0, 3.0, 4.0):
        # 0.9 to 1.1 periods a voxel would come out as one of ten voxels or more.
        for periods in (0.9, 1.0, 1.1):
            new = preprocess.resample_in_plane(volume(grating(spacing / periods)), spacing).array
            assert np.abs(new[:, 3:-3, 3:-3]).max() < 30
        coarse = preprocess.resample_in_plane(volume(grating(20 * spacing)), spacing).array
        assert 980 < coarse[:, 3:-3].max() < 1000


def test_blurring_is_that_of_antialiased_resizing_elsewhere():
    from PIL import Image

    slices = np.random.default_rng(0).normal(0, 100, (2, 120, 90)).astype(np.float32)
    for ratio in (1.5, 2, 3):
        new = preprocess.resample_in_plane(volume(slices), ratio).array
        size = (round(90 / ratio), round(120 / ratio))
        for found, source in zip(new, slices, strict=True):
            expected = np.asarray(Image.fromarray(source).resize(size, Image.Resampling.BILINEAR))
            np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_smooth_image_is_resampled_as_by_simpleitk():
    import SimpleITK as sitk

    rows, columns = np.mgrid[0:90, 0:120]
    smooth = 500 + 200 * np.sin(rows / 15) * np.cos(columns / 20)
    image = sitk.GetImageFromArray(smooth[None].astype(np.float32))
    new = preprocess.resample_in_plane(volume(smooth[None].astype(np.float32)), 3)
    reference = sitk.Image((40, 30, 1), sitk.sitkFloat32)
    reference.SetSpacing((3, 3, 1)), reference.SetOrigin((1, 1, 0))
    blurred = sitk.DiscreteGaussian(image, (1.5, 1.5, 0), useImageSpacing=True)
    expected = sitk.GetArrayFromImage(sitk.Resample(blurred, reference))
    np.testing.assert_allclose(new.affine[:2, 3], (-1, -1), atol=1e-6)
    assert new.array.shape == expected.shape
    np.testing.assert_allclose(new.array[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=2)


def test_crops_and_pads_are_centred():
    array = np.arange(240 * 240).reshape(240, 240)
    np.testing.assert_array_equal(preprocess.crop_or_pad(array, (160, 192)), array[40:200, 24:216])
    small = np.arange(6).reshape(1, 2, 3)
    padded = preprocess.crop_or_pad(small, (4, 5), constant=-1)
    np.testing.assert_array_equal(padded[:, 1:3, 1:4], small)
    assert padded.shape == (1, 4, 5) and (padded == -1).sum() == 14
    mixed = preprocess.crop_or_pad(small, (4, 1), constant=9)
    np.testing.assert_array_equal(mixed[0, :, 0], [9, 1, 4, 9])
    np.testing.assert_array_equal(preprocess.crop_or_pad(preprocess.crop_or_pad(small, (9, 8)), (2, 3)), small)
    around = preprocess.crop_or_pad(array, (3, 3), centre=(10, 20))
    np.testing.assert_array_equal(around, array[9:12, 19:22])
    corner = preprocess.crop_or_pad(array, (3, 3), centre=(0, 239), constant=-5)
    np.testing.assert_array_equal(corner[1:, :2], array[:2, 238:])
    assert (corner[0] == -5).all() and (corner[:, 2] == -5).all()
    assert (preprocess.crop_or_pad(array, (3, 3), centre=(-50, 0), constant=-5) == -5).all()


def test_slices_are_chosen_by_foreground_and_range():
    counts = np.array([[0, 5, 9, 9, 2], [9, 9, 5, 9, 9]])
    assert preprocess.select_slices(counts, 5).tolist() == [1, 2, 3]
    assert preprocess.select_slices(counts[0], 0, (1, 3)).tolist() == [1, 2, 3]
    assert preprocess.select_slices(counts, 6, (0, 2)).tolist() == []
    assert preprocess.select_slices(counts, 0, (3, 99)).tolist() == [3, 4]
    assert preprocess.slice_counts(np.eye(3)[None] * [[[2]], [[0]]]).tolist() == [3, 0]


def test_foreground_is_what_is_not_zero_or_above_the_noise():
    random = np.random.default_rng(0)
    head = ball((12, 30, 30), 10, (6, 15, 15))
    scan = np.where(head, 400, 0) + random.integers(0, 60, head.shape)
    np.testing.assert_array_equal(preprocess.foreground(scan.astype(np.int16), "otsu"), head)
    assert not preprocess.foreground(np.full((3, 4, 4), 5), "otsu").any()
    np.testing.assert_array_equal(preprocess.foreground(np.array([-2, 0, 3])), [True, False, True])
    with pytest.raises(ValueError, match="foreground to be 'nonzero' or 'otsu'"):
        preprocess.foreground(scan, "mean")


def test_the_background_is_zero_or_what_is_common_where_nothing_is_zero():
    brain = ball((12, 30, 30), 10, (6, 15, 15))
    values = np.random.default_rng(0).normal(0, 1, brain.shape).astype(np.float32)
    scored = np.where(brain, values, np.float32(-3.6243944))
    value, share = preprocess.background(scored)
    assert np.float32(value) == np.float32(-3.6243944) and share == pytest.approx(1 - brain.mean())
    np.testing.assert_array_equal(preprocess.foreground(scored), brain)
    scored[brain & (values > 2.5)] = 0  # a few voxels may be 0
    np.testing.assert_array_equal(preprocess.foreground(scored), brain)
    hounsfield = np.where(brain, 40 + 10 * values, -1024).astype(np.int16)
    assert preprocess.background(hounsfield).value == -1024
    assert preprocess.background(np.where(brain, 7, 0)).value == 0  # common tissue is no background beside zeros
    assert preprocess.background(values + 100).value == 0  # nothing is common: there is no background
    assert preprocess.foreground(np.full((3, 4, 4), 5)).all()


def test_masks_are_applied_on_their_own_grid_only():
    array = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    masked = preprocess.apply_mask(array, array > 3, -10)
    assert masked.dtype == np.int16 and masked.ravel().tolist() == [-10] * 4 + [4, 5, 6, 7]
    with pytest.raises(ValueError, match=r"shape \(2, 2\), its image \(2, 2, 2\)"):
        preprocess.apply_mask(array, array[0] > 3)


def test_n4_takes_a_smooth_field_away():
    random = np.random.default_rng(0)
    brain = ball((24, 48, 48), 20, (12, 24, 24))
    tissue = np.where(ball(brain.shape, 10, (12, 24, 24)), 600, 400)
    field = np.exp(np.linspace(-0.4, 0.4, 48))[None, None, :]
    clean = np.where(brain, tissue + random.normal(0, 5, brain.shape), 0)
    scan = volume(np.rint(clean * field).astype(np.int16))
    corrected = preprocess.n4(scan, brain, shrink=2)
    assert corrected.array.dtype == np.int16
    outer = brain & (tissue == 400)

    def spread(array):
        return array[outer].std() / array[outer].mean()

    assert spread(scan.array) > 0.15 and spread(corrected.array) < 0.04
    with pytest.raises(ValueError, match="voxels above 0"):
        preprocess.n4(scan, np.zeros_like(brain))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8])
def test_n4_corrects_few_slices_too(count):
    brain = ball((count, 48, 48), 20, ((count - 1) / 2, 24, 24))
    field = np.exp(np.linspace(-0.4, 0.4, 48))[None, None, :]
    scan = volume(np.where(brain, 400 * field, 0).astype(np.float32), z=5)
    corrected = preprocess.n4(scan, brain).array[brain]
    assert corrected.std() / corrected.mean() < 0.1 < 0.15 < scan.array[brain].std() / scan.array[brain].mean()


def test_what_n4_cannot_do_is_an_error_of_ours(monkeypatch):
    import SimpleITK as sitk

    def fail(*_):
        raise RuntimeError("of a filter:\nit cannot be done")

    monkeypatch.setattr(sitk, "Shrink", fail)
    with pytest.raises(ValueError, match=r"N4 cannot correct a volume of \(4, 5, 6\) voxels \(it cannot be done\)"):
        preprocess.n4(volume(np.ones((4, 5, 6))), np.ones((4, 5, 6)))


def test_neighbours_are_repeated_at_the_ends():
    array = np.arange(4)[:, None, None] * np.ones((1, 2, 3), int)
    found = [preprocess.neighbour_slices(array, k, 1)[0, 0].tolist() for k in range(4)]
    assert found == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert preprocess.neighbour_slices(array, 0, 2).shape == (2, 3, 5)
    assert preprocess.neighbour_slices(array, 2, 0).tolist() == array[2][..., None].tolist()


def test_partners_are_the_nearest_slices_in_the_scanner():
    ours = volume(np.zeros((3, 2, 2)), z=10, position=0)
    theirs = volume(np.zeros((5, 2, 2)), z=5, position=2)  # at 2, 7, 12, 17, 22
    assert preprocess.candidate_partners(ours, theirs, 2).tolist() == [[0, 1], [2, 1], [4, 3]]
    few = volume(np.zeros((1, 2, 2)))
    assert preprocess.candidate_partners(ours, few, 3).tolist() == [[0, 0, 0]] * 3


def head_phantom():
    """Voxels of 2 mm; brain of three tissues, dark skull, bright scalp, dark background."""
    random = np.random.default_rng(0)
    shape = (32, 64, 64)
    centre = (16, 32, 32)
    values = np.zeros(shape)
    for radius, value in ((29, 700), (25, 60), (22, 250), (20, 500), (14, 750), (5, 250)):
        values[ball(shape, radius, centre)] = value
    values = (values + random.normal(0, 15, shape)).clip(0).astype(np.int16)
    return volume(values, 2, 2, 2), ball(shape, 22, centre)


def test_the_rough_brain_mask_leaves_the_scalp_out():
    head, brain = head_phantom()
    found = preprocess.skull_strip_approximation(head)
    assert found.dtype == bool
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.8
    assert (found & ~brain).sum() < 0.05 * brain.sum()


def test_the_rough_tissues_are_in_order_of_their_intensity():
    head, brain = head_phantom()
    tissues = preprocess.tissue_segmentation_approximation(head, brain)
    assert tissues.dtype == np.uint8 and (tissues[~brain] == 0).all()
    csf, grey, white = (head.array[tissues == i].mean() for i in (1, 2, 3))
    np.testing.assert_allclose([csf, grey, white], [250, 500, 750], atol=15)
    in_t2 = preprocess.tissue_segmentation_approximation(head, brain, contrast="T2")
    np.testing.assert_array_equal(in_t2[brain], 4 - tissues[brain])
    with pytest.raises(ValueError, match="contrast to be"):
        preprocess.tissue_segmentation_approximation(head, brain, contrast="PD")
    with pytest.raises(ValueError, match="three grey levels"):
        preprocess.tissue_segmentation_approximation(head, np.zeros_like(brain))
