import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import cardiac, fields

SIZE = 128
MYOCARDIUM, LEFT, RIGHT = 1, 2, 3


def render(index=0, level=0.4, scar=False, **changes):
    factors = cardiac.draw_factors(seed=3, index=index, scar=scar)
    for name, value in changes.items():
        factors[cardiac.FACTORS.index(name)] = value
    return cardiac.render(factors, level=level, size=SIZE, seed=3, index=index)


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def core(mask):
    return ndimage.binary_erosion(mask)


def test_shapes_dtypes_and_ranges():
    pair = render(scar=True)
    for image in pair[:2]:
        assert image.shape == (SIZE, SIZE) and image.dtype == np.float32
        assert 0 <= image.min() and image.max() < 2
    for mask in pair[2:6]:
        assert mask.shape == (SIZE, SIZE) and mask.dtype == np.uint8
    assert set(np.unique(pair.cine_mask)) == {0, 1, 2, 3}
    assert pair.displacement.shape == (SIZE, SIZE, 2) and pair.displacement.dtype == np.float32
    assert len(cardiac.MASK_LABELS) == 4 and len(cardiac.MODALITIES) == 2


def test_same_arguments_give_the_same_bytes_and_another_subject_others():
    for one, two in zip(render(1), render(1), strict=True):
        assert one.tobytes() == two.tobytes()
    assert not np.array_equal(render(1).cine, render(2).cine)


def test_displacement_leads_from_the_lge_to_the_cine():
    for index in range(6):
        pair = render(index)
        moved = fields.warp(pair.cine_mask, pair.displacement, order=0)
        for label in (MYOCARDIUM, LEFT, RIGHT):
            assert dice(moved == label, pair.lge_mask == label) > 0.94  # a thin wall, so that rounding counts
        heart = dice(pair.cine_mask == LEFT, pair.lge_mask == LEFT)
        assert heart < 0.99  # it is misaligned


def test_without_shift_and_warp_the_masks_are_the_same():
    pair = render(shift_x=0, shift_y=0, warp=0)
    assert np.array_equal(pair.cine_mask, pair.lge_mask) and not pair.displacement.any()


def test_shift_moves_the_lge_the_other_way():
    pair = render(shift_x=7, shift_y=0, warp=0)
    cine, lge = (np.array(ndimage.center_of_mass(m == LEFT)) for m in (pair.cine_mask, pair.lge_mask))
    assert (lge - cine) * cardiac.FIELD_OF_VIEW / SIZE == pytest.approx((0, -7), abs=0.3)


def test_the_displacement_does_not_fold():
    for index in range(6):
        moved = render(index).displacement
        along = [np.gradient(moved[..., k], axis=(0, 1)) for k in range(2)]
        assert ((1 + along[0][0]) * (1 + along[1][1]) - along[0][1] * along[1][0]).min() > 0.3


def medians(image, mask):
    """Of myocardium, and of the blood of both ventricles."""
    return [np.median(image[core(mask == k)]) for k in (MYOCARDIUM, LEFT, RIGHT)]


def test_blood_is_brightest_on_the_cine_and_myocardium_is_nulled_on_the_lge():
    for index in range(4):
        pair = render(index)
        cine, lge = medians(pair.cine, pair.cine_mask), medians(pair.lge, pair.lge_mask)
        assert min(cine[1:]) > 2 * cine[0] and min(lge[1:]) > 5 * lge[0]
        assert cine[0] > 2 * lge[0]


def test_blood_has_another_rank_on_the_lge_and_looks_as_myocardium_does_on_the_cine():
    for index in range(4):
        pair = render(index, shift_x=0, shift_y=0, warp=0)
        fat = core((pair.lge > np.quantile(pair.lge, 0.95)) & (pair.lge_mask == 0))  # under the skin, on both
        cine = np.array(medians(pair.cine, pair.cine_mask)) / np.median(pair.cine[fat])
        lge = np.array(medians(pair.lge, pair.lge_mask)) / np.median(pair.lge[fat])
        assert min(cine[1:]) > 0.85 > 1.5 * max(lge[1:])  # the coil, on the chest, sees fat brighter
        assert (np.abs(lge[1:] - cine[0]) < np.abs(lge[1:] - cine[1:])).all()


def test_scar_is_bright_on_the_lge_alone_and_lies_at_the_endocardium():
    for index in range(4):
        pair, healthy = render(index, scar=True), render(index)
        assert np.array_equal(pair.cine_mask, healthy.cine_mask)
        scar = pair.lge_scar > 0
        assert scar.sum() > 15 and not healthy.lge_scar.any()
        assert (pair.lge_mask[scar] == MYOCARDIUM).all()
        assert pair.lge[scar].mean() > 3 * healthy.lge[scar].mean()
        assert ndimage.binary_dilation(pair.lge_mask == LEFT)[scar].any()
        moved = fields.warp(pair.cine_scar, pair.displacement, order=0)
        assert dice(moved > 0, scar) > 0.75  # thin, so that rounding counts


def test_myocardium_surrounds_the_left_ventricle_and_the_right_lies_on_the_left():
    mask = render().cine_mask
    ring = ndimage.binary_dilation(mask == LEFT) & (mask != LEFT)
    assert (mask[ring] == MYOCARDIUM).all()
    columns = [ndimage.center_of_mass(mask == k)[1] for k in (LEFT, RIGHT)]
    assert columns[1] < columns[0]


def test_cavity_and_wall_are_those_of_the_factors():
    pixel = (cardiac.FIELD_OF_VIEW / SIZE) ** 2
    pair = render(level=0.0, cavity=24, wall=10)
    left, muscle = ((pair.cine_mask == k).sum() * pixel for k in (LEFT, MYOCARDIUM))
    assert np.sqrt(left / np.pi) == pytest.approx(24, rel=0.03)
    assert np.sqrt((left + muscle) / np.pi) == pytest.approx(34, rel=0.03)


def test_ventricles_narrow_towards_the_apex():
    areas = [[(render(level=at).cine_mask == k).sum() for k in (LEFT, RIGHT)] for at in (0, 0.5, 1)]
    assert (np.diff(areas, axis=0) < 0).all()


def test_resolution_does_not_change_the_heart():
    factors = cardiac.draw_factors(seed=3)
    fine = cardiac.render(factors, size=2 * SIZE, seed=3).cine_mask[::2, ::2]
    assert dice(fine == LEFT, render().cine_mask == LEFT) > 0.95


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cardiac.draw_factors(seed=-1), "seed to be an integer >= 0, received -1"),
        (lambda: render(level=1.5), "level from 0 .base. to 1 .apex., received 1.5"),
        (lambda: cardiac.render(np.zeros(3)), r"shape \(13,\)"),
        (lambda: cardiac.render(cardiac.draw_factors(), size=4), "size to be an integer >= 16"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
