import numpy as np
import pytest
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from tfdisent.phantoms import skin

NUM_IMAGES = 360
BKL, MEL, NV = range(3)


@pytest.fixture(scope="module")
def phantom():
    return skin.make(NUM_IMAGES, size=32, seed=3)


def column(factors, name):
    return factors[..., skin.FACTORS.index(name)]


def moments(mask):
    """Centroid (half widths) and covariance of a mask's pixels."""
    size = len(mask)
    y, x = np.nonzero(mask)
    points = (np.stack([x, y]) + 0.5) * 2 / size - 1
    return points.mean(1), np.cov(points, bias=True)


def accuracy(features, labels):
    forest = RandomForestClassifier(60, random_state=0)
    return cross_val_score(forest, features, labels, cv=4).mean()


def test_shapes_dtypes_and_ranges(phantom):
    assert phantom.images.shape == (NUM_IMAGES, 32, 32, 3) and phantom.images.dtype == np.uint8
    assert phantom.masks.shape == (NUM_IMAGES, 32, 32) and phantom.masks.dtype == np.uint8
    assert phantom.labels.shape == (NUM_IMAGES,) and phantom.labels.dtype == np.int32
    assert phantom.factors.shape == (NUM_IMAGES, len(skin.FACTORS))
    assert phantom.factors.dtype == np.float32
    assert set(np.unique(phantom.masks)) == {0, 1}
    assert skin.FACTORS[:2] == ("position_x", "position_y")
    assert list(skin.LABELS) == sorted(skin.LABELS)


def test_same_seed_gives_the_same_bytes_and_another_seed_others(phantom):
    again = skin.make(12, size=32, seed=3)
    other = skin.make(12, size=32, seed=4)
    for one, two in zip(phantom, again, strict=True):
        assert one[:12].tobytes() == two.tobytes()
    assert not np.array_equal(again.images, other.images)


def test_images_of_a_seed_stay_what_they_were():
    """To within a rounding: libraries of linear algebra differ in the last digit."""
    phantom = skin.make(6, size=32, seed=1)
    middle = [[122, 76, 65], [184, 145, 149], [194, 147, 108], [216, 152, 156], [70, 48, 47], [217, 155, 158]]
    assert np.abs(phantom.images[:, 16, 16].astype(int) - middle).max() <= 1
    greens = [134.88, 145.64, 173.05, 143.98, 160.36, 148.33]
    np.testing.assert_allclose(phantom.images[..., 1].mean((1, 2)), greens, atol=0.05)
    assert np.abs(phantom.masks.sum((1, 2), dtype=int) - [126, 66, 116, 43, 135, 93]).max() <= 1


def test_image_depends_on_its_index_and_label_not_on_the_number_of_images(phantom):
    labels = phantom.labels[:9].copy()
    labels[:8] = 0
    assert np.array_equal(skin.make(9, size=32, seed=3, labels=labels).images[8], phantom.images[8])


def test_default_labels_are_balanced_and_not_in_a_fixed_order(phantom):
    assert (np.bincount(phantom.labels) == NUM_IMAGES // 3).all()
    assert len({tuple(trio) for trio in phantom.labels.reshape(-1, 3)}) == 6
    assert len(skin.make(4, size=16).labels) == 4
    assert len(skin.make(0, size=16).images) == 0


def test_given_labels_are_kept():
    labels = [NV, NV, MEL]
    assert skin.make(3, size=16, labels=labels).labels.tolist() == labels


def test_render_repeats_what_make_made(phantom):
    image, mask = skin.render(phantom.labels[5], phantom.factors[5], size=32, seed=3, index=5)
    assert np.array_equal(image, phantom.images[5])
    assert np.array_equal(mask, phantom.masks[5])


def test_moving_the_position_moves_the_same_lesion():
    factors = skin.draw_factors(MEL, seed=1, index=2)
    factors[:2] = 0
    centred = skin.render(MEL, factors, size=32, seed=1, index=2)[1]
    factors[:2] = 4 * 2 / 32, -3 * 2 / 32  # four pixels to the right, three up
    moved = skin.render(MEL, factors, size=32, seed=1, index=2)[1]
    assert np.array_equal(moved, np.roll(centred, (-3, 4), (0, 1)))


def test_centroid_of_the_mask_is_the_position(phantom):
    centres = np.array([moments(mask)[0] for mask in phantom.masks])
    assert np.abs(centres - phantom.factors[:, :2]).max() < 0.02  # a third of a pixel


def test_second_moments_of_the_mask_are_size_elongation_and_orientation():
    fine = skin.make(60, size=96, seed=3)
    for mask, factors in zip(fine.masks, fine.factors, strict=True):
        covariance = moments(mask)[1]
        short, long = 2 * np.sqrt(np.linalg.eigvalsh(covariance))
        assert np.sqrt(short * long) == pytest.approx(column(factors, "size"), rel=0.02)
        assert long / short == pytest.approx(column(factors, "elongation"), rel=0.04)
        axis = covariance[0, 0] - covariance[1, 1], 2 * covariance[0, 1]
        truth = column(factors, "orientation_cos"), column(factors, "orientation_sin")
        if column(factors, "elongation") > 1.2:
            assert np.dot(axis, truth) / np.linalg.norm(axis) > np.cos(np.deg2rad(2 * 5))


def test_mask_grows_with_size():
    factors = skin.draw_factors(BKL, index=4)
    areas = []
    for radius in (0.2, 0.25, 0.3, 0.35):
        factors[skin.FACTORS.index("size")] = radius
        areas.append(skin.render(BKL, factors, size=32, index=4)[1].sum())
    assert (np.diff(areas) > 0).all()
    assert areas[-1] / areas[0] == pytest.approx((0.35 / 0.2) ** 2, rel=0.1)


def test_lesion_stays_inside(phantom):
    frame = np.ones((32, 32), bool)
    frame[1:-1, 1:-1] = False
    assert phantom.masks[:, frame].mean() < 1e-3
    assert (phantom.masks.sum((1, 2)) > 30).all()


def test_skin_away_from_the_lesion_has_the_skin_factors(phantom):
    plain = (column(phantom.factors, "hair_count") == 0) & (column(phantom.factors, "vignette") == 0)
    tone = phantom.factors[:, [skin.FACTORS.index(f"skin_{c}") for c in ("red", "green", "blue")]]
    corners = phantom.images[:, [1, 1, -2, -2], [1, -2, 1, -2]].mean(1) / 255  # light averages out
    assert np.abs(corners - tone)[plain].max() < 0.05


def test_each_style_factor_changes_the_image():
    factors = skin.draw_factors(NV, index=1)
    factors[skin.FACTORS.index("hair_count")] = 2
    image = skin.render(NV, factors, size=32, index=1)[0]
    for name in set(skin.FACTORS) - {"orientation_sin", "orientation_cos"}:
        changed = factors.copy()
        changed[skin.FACTORS.index(name)] += 1 if name == "hair_count" else 0.1
        assert not np.array_equal(skin.render(NV, changed, size=32, index=1)[0], image), name


def test_style_is_drawn_from_the_same_numbers_whatever_the_class():
    columns = [skin.FACTORS.index(name) for name in skin.STYLE_FACTORS]
    for index in range(20):
        bkl, mel, nv = (skin.draw_factors(label, seed=9, index=index) for label in range(3))
        assert np.array_equal(bkl[columns], mel[columns])
        assert np.array_equal(bkl[columns], nv[columns])
        assert column(nv, "size") < column(mel, "size")
        assert column(nv, "border") < column(mel, "border")


def test_style_factors_do_not_tell_the_default_labels(phantom):
    for name in skin.STYLE_FACTORS:
        values = column(phantom.factors, name).astype(np.float64)
        means = [values[phantom.labels == k].mean() for k in range(3)]
        error = values.std() / np.sqrt(NUM_IMAGES / 3)
        assert np.ptp(means) < 5 * error, name  # by chance in one of a thousand
    columns = [skin.FACTORS.index(name) for name in skin.STYLE_FACTORS]
    assert accuracy(phantom.factors[:, columns], phantom.labels) < 0.45  # chance is 0.33


def test_classes_are_told_by_lesion_colour_and_edge_not_by_the_skin(phantom):
    inside, outside, edge = [], [], []
    for image, mask in zip(phantom.images / 255.0, phantom.masks.astype(bool), strict=True):
        rim = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask)
        far = ~ndimage.binary_dilation(mask, iterations=4)
        slope = ndimage.gaussian_gradient_magnitude(image.mean(-1), 0.7)
        inside.append([*image[mask].mean(0), *image[mask].std(0)])
        outside.append([*image[far].mean(0), *image[far].std(0)])
        edge.append([slope[rim].max(), slope[rim].mean()])
    assert accuracy(np.hstack([inside, outside, edge]), phantom.labels) > 0.95
    assert accuracy(outside, phantom.labels) < 0.45  # chance is 0.33
    assert accuracy(phantom.images.mean((1, 2)), phantom.labels) < 0.9


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_images": -1}, "num_images to be an integer >= 0, received -1"),
        ({"num_images": 2, "size": 15}, "size to be an integer >= 16, received 15"),
        ({"num_images": 2, "seed": -1}, "seed to be an integer >= 0, received -1"),
        ({"num_images": 2, "labels": [0]}, r"shape \(2,\).*received shape \(1,\)"),
        ({"num_images": 1, "labels": [3]}, "label in 0 ... 2.*received.*3"),
        ({"num_images": 1, "labels": ["nv"]}, "label in 0 ... 2.*received.*nv"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(arguments, message):
    with pytest.raises(ValueError, match=message):
        skin.make(**arguments)


def test_render_refuses_factors_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"shape \(15,\).*received shape \(2,\)"):
        skin.render(NV, np.zeros(2))
