import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import abdomen, fields

SIZE = 128
LIVER, RIGHT, LEFT, SPLEEN = 1, 2, 3, 4


def render(index=0, level=0.6, t2_level=None, size=SIZE, misalignment=0.0, **changes):
    factors = abdomen.draw_factors(seed=3, index=index)
    for name, value in changes.items():
        factors[abdomen.FACTORS.index(name)] = value
    return abdomen.render(
        factors, level=level, t2_level=t2_level, misalignment=misalignment, size=size, seed=3, index=index
    )


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


def median(image, mask, label):
    return np.median(image[ndimage.binary_erosion(mask == label)])


def test_shapes_dtypes_and_ranges():
    pair = render()
    for image in (pair.t1, pair.t2):
        assert image.shape == (SIZE, SIZE) and image.dtype == np.float32
        assert 0 <= image.min() and image.max() < 2
    for mask in (pair.t1_mask, pair.t2_mask):
        assert mask.shape == (SIZE, SIZE) and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1, 2, 3, 4}
    assert pair.displacement.shape == (SIZE, SIZE, 2) and pair.displacement.dtype == np.float32
    assert abdomen.MASK_LABELS[1:] == ("liver", "right_kidney", "left_kidney", "spleen")


def test_same_arguments_give_the_same_bytes_and_another_subject_others():
    for one, two in zip(render(1), render(1), strict=True):
        assert one.tobytes() == two.tobytes()
    assert not np.array_equal(render(1).t1, render(2).t1)


def test_factors_lie_in_their_ranges():
    drawn = np.stack([abdomen.draw_factors(seed=3, index=k) for k in range(50)])
    for values, name in zip(drawn.T, abdomen.FACTORS, strict=True):
        low, high = abdomen._RANGES[name]
        assert low <= values.min() < values.max() <= high + 1e-4


@pytest.mark.parametrize("misalignment", [0, 11])
def test_displacement_leads_from_the_t2_to_the_t1(misalignment):
    for index in range(6):
        pair = render(index, size=192, misalignment=misalignment)
        moved = fields.warp(pair.t1_mask, pair.displacement, order=0)
        for label in (LIVER, RIGHT, LEFT, SPLEEN):
            if (pair.t2_mask == label).sum() > 100:
                assert dice(moved == label, pair.t2_mask == label) > 0.95
        assert dice(pair.t1_mask == LIVER, pair.t2_mask == LIVER) < 0.99  # it is misaligned


def test_without_breathing_the_masks_are_the_same():
    pair = render(breath=0, shift_x=0, warp=0)
    assert np.array_equal(pair.t1_mask, pair.t2_mask) and not pair.displacement.any()


def test_breathing_moves_the_front_and_not_the_spine():
    pair = render(breath=8, shift_x=0, warp=0)
    assert pair.displacement[0, SIZE // 2, 0] * abdomen.FIELD_OF_VIEW / SIZE == pytest.approx(8)
    assert not pair.displacement[-SIZE // 4 :].any()


def test_the_displacement_does_not_fold():
    for index in range(6):
        moved = render(index).displacement
        along = [np.gradient(moved[..., k], axis=(0, 1)) for k in range(2)]
        assert ((1 + along[0][0]) * (1 + along[1][1]) - along[0][1] * along[1][0]).min() > 0.3


def test_liver_is_brightest_of_the_organs_on_t1_and_darkest_on_t2():
    for index in range(4):
        pair = render(index)
        t1 = [median(pair.t1, pair.t1_mask, k) for k in (LIVER, RIGHT, LEFT, SPLEEN)]
        t2 = [median(pair.t2, pair.t2_mask, k) for k in (LIVER, RIGHT, LEFT, SPLEEN)]
        assert t1[0] > 1.15 * max(t1[1:]) and 1.5 * t2[0] < min(t2[1:])


def test_fat_under_the_skin_is_bright_on_t1_and_suppressed_on_t2():
    pair = render(fat=26, breath=0, shift_x=0, warp=0)
    body = ndimage.binary_fill_holes(ndimage.gaussian_filter(pair.t1, 1) > 0.15)
    depth = ndimage.distance_transform_edt(body) * abdomen.FIELD_OF_VIEW / SIZE
    fat = (depth > 6) & (depth < 14)
    organs = pair.t1_mask > 0
    assert np.median(pair.t1[fat]) > 1.5 * np.median(pair.t1[organs])
    assert np.median(pair.t2[fat]) < 0.5 * np.median(pair.t2[organs])


def test_organs_lie_on_their_sides():
    mask = render().t1_mask
    at = {k: ndimage.center_of_mass(mask == k) for k in (LIVER, RIGHT, LEFT, SPLEEN)}
    middle = SIZE / 2
    assert at[LIVER][1] < middle and at[RIGHT][1] < middle  # the patient's right is on the left
    assert at[LEFT][1] > middle and at[SPLEEN][1] > at[LEFT][1]
    assert at[RIGHT][0] > at[LIVER][0] and at[LEFT][0] > middle  # kidneys lie at the back


def test_slices_show_liver_and_no_kidney_above_and_kidneys_below():
    above, below = render(level=0.05).t1_mask, render(level=0.8).t1_mask
    assert (above == LIVER).sum() > 500 and not np.isin(above, (RIGHT, LEFT)).any()
    assert min((below == RIGHT).sum(), (below == LEFT).sum()) > 50


def test_neighbouring_slices_are_alike_and_series_may_differ_in_position():
    one, two = render(level=0.60), render(level=0.62)
    assert dice(one.t1_mask == LIVER, two.t1_mask == LIVER) > 0.95
    apart = render(level=0.60, t2_level=0.62)
    assert np.array_equal(apart.t1, one.t1) and np.array_equal(apart.t2, two.t2)


def test_size_factors_are_the_sizes():
    for name, label in (("liver", LIVER), ("kidneys", LEFT), ("spleen", SPLEEN)):
        small, large = ((render(**{name: value}).t1_mask == label).sum() for value in (0.9, 1.1))
        assert large > 1.1 * small


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: abdomen.draw_factors(index=-1), "index to be an integer >= 0, received -1"),
        (lambda: render(level=-0.1), "levels from 0 .dome of the liver."),
        (lambda: render(t2_level=1.5), "levels from 0 .dome of the liver."),
        (lambda: abdomen.render(np.zeros(3)), r"shape \(11,\)"),
        (lambda: abdomen.render(abdomen.draw_factors(), size=4), "size to be an integer >= 16"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_misalignment_is_a_shift_of_the_subjects_own_on_top_of_its_breathing():
    shifts = []
    for index in range(4):
        plain, moved = render(index, size=32), render(index, size=32, misalignment=20.0)
        assert np.array_equal(plain.t1, moved.t1)
        shift = (moved.displacement - plain.displacement).reshape(-1, 2)
        assert np.ptp(shift, axis=0) == pytest.approx((0, 0), abs=1e-4)
        shifts.append(np.hypot(*shift[0]) * abdomen.FIELD_OF_VIEW / 32)
    assert 10 <= min(shifts) < max(shifts) <= 30
    with pytest.raises(ValueError, match="misalignment of 0 to 100 mm"):
        render(misalignment=-1)
