import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import nodule

NUM_IMAGES = 60
PIXEL = nodule.FIELD_OF_VIEW / 64
PLAIN = (1, 1, 1, 1, 1, 0, 4)  # obvious, no calcium, round, sharp, solid, benign, 10 to 12 mm


@pytest.fixture(scope="module")
def phantom():
    return nodule.make(NUM_IMAGES, seed=3)


def column(factors, name):
    return factors[..., nodule.FACTORS.index(name)]


def rendered(attributes, index, **changes):
    factors = nodule.draw_factors(np.array(attributes), seed=5, index=index)
    for name, value in {"wall_distance": 30, "vessel_count": 0, "noise": 8, **changes}.items():
        factors[nodule.FACTORS.index(name)] = value
    return nodule.render(factors, seed=5, index=index)


def pairs(name, **changes):
    """Patches of the plain nodule and of the one that differs in one attribute alone."""
    other = list(PLAIN)
    k = nodule.ATTRIBUTES.index(name)
    other[k] = 1 - other[k]
    for index in range(8):
        yield rendered(PLAIN, index, **changes), rendered(other, index, **changes)


def border_width(image, mask):
    """Millimetres over which the nodule falls off: contrast over the mean slope at the border."""
    rim = ndimage.binary_dilation(mask) ^ ndimage.binary_erosion(mask)
    contrast = image[ndimage.binary_erosion(mask, iterations=4)].mean() - np.median(image)
    return contrast / ndimage.gaussian_gradient_magnitude(image.astype(float), 0.7)[rim].mean()


def elongation(mask):
    short, long = np.linalg.eigvalsh(np.cov(np.nonzero(mask)))
    return np.sqrt(long / short)


def test_shapes_dtypes_and_ranges(phantom):
    assert phantom.images.shape == (NUM_IMAGES, 64, 64) and phantom.images.dtype == np.int16
    assert phantom.masks.shape == (NUM_IMAGES, 64, 64) and phantom.masks.dtype == np.uint8
    assert phantom.labels.shape == (NUM_IMAGES,) and phantom.labels.dtype == np.int32
    assert phantom.attributes.shape == (NUM_IMAGES, 7) and phantom.attributes.dtype == np.int32
    assert phantom.factors.shape == (NUM_IMAGES, len(nodule.FACTORS))
    assert phantom.factors.dtype == np.float32
    assert -1024 <= phantom.images.min() and phantom.images.max() <= 3071
    assert set(np.unique(phantom.masks)) == {0, 1}
    assert nodule.FACTORS[:2] == ("position_x", "position_y")
    assert nodule.STYLE_FACTORS + nodule.CONTENT_FACTORS == nodule.FACTORS
    assert len(nodule.make(0).images) == 0


def test_same_seed_gives_the_same_bytes_and_another_seed_others(phantom):
    again, other = nodule.make(4, seed=3), nodule.make(4, seed=4)
    for one, two in zip(phantom, again, strict=True):
        assert one[:4].tobytes() == two.tobytes()
    assert not np.array_equal(again.images, other.images)


def test_labels_are_balanced_and_are_the_malignancy(phantom):
    assert (np.bincount(phantom.labels) == NUM_IMAGES // 2).all()
    assert np.array_equal(phantom.attributes[:, 5], phantom.labels)
    assert nodule.make(3, labels=[1, 1, 0]).labels.tolist() == [1, 1, 0]


def test_condition_is_six_pairs_and_five_sizes():
    assert len(nodule.CONDITION_NAMES) == 17
    condition = nodule.condition(np.array((0, 1, 1, 0, 1, 0, 3)))
    named = [n for n, hot in zip(nodule.CONDITION_NAMES, condition, strict=True) if hot]
    assert condition.dtype == np.float32 and named == [
        "subtlety_low",
        "calcification_high",
        "sphericity_high",
        "margin_low",
        "texture_high",
        "malignancy_low",
        "size_8_10",
    ]


def test_area_and_centroid_of_the_mask_are_the_diameter_and_the_position(phantom):
    diameters = 2 * np.sqrt(phantom.masks.sum((1, 2)) / np.pi) * PIXEL
    assert np.abs(diameters - column(phantom.factors, "diameter")).max() < 0.25
    bins = (np.maximum(diameters - 2, 0) // 2).astype(int)
    assert (bins == phantom.attributes[:, 6]).mean() > 0.9
    for mask, factors in zip(phantom.masks, phantom.factors, strict=True):
        centre = (np.array(ndimage.center_of_mass(mask)) - 31.5) * PIXEL
        assert np.abs(centre - factors[1::-1]).max() < 0.5


def test_subtle_nodules_have_less_contrast():
    for (high, mask), (low, _) in pairs("subtlety"):
        assert low[mask > 0].mean() < high[mask > 0].mean() - 250


def test_calcified_nodules_are_dense_and_others_are_not():
    for (absent, mask), (present, _) in pairs("calcification"):
        assert np.percentile(absent[mask > 0], 99) < 200
        assert np.percentile(present[mask > 0], 97) > 300


def test_sphericity_is_the_elongation_of_the_mask():
    for (_, high), (_, low) in pairs("sphericity"):
        assert elongation(high) < 1.25 and elongation(low) > 1.45


def test_poor_margin_fades_over_a_wider_border():
    for (sharp, mask), (poor, _) in pairs("margin"):
        assert border_width(poor, mask) > 1.5 * border_width(sharp, mask)


def test_non_solid_nodules_are_fainter_and_mottled():
    for (solid, mask), (glass, _) in pairs("texture"):
        inner = ndimage.binary_erosion(mask, iterations=3)
        assert glass[inner].mean() < -300 < -100 < solid[inner].mean()
        assert glass[inner].std() > 1.5 * solid[inner].std()


def test_malignant_nodules_send_spicules_into_the_lung():
    for (benign, mask), (malignant, _) in pairs("malignancy"):
        distance = ndimage.distance_transform_edt(mask == 0) * PIXEL
        ring = (distance > 1.2) & (distance < 2.2)
        assert (malignant[ring] > -700).mean() > 0.05 + (benign[ring] > -700).mean()


def test_style_is_drawn_from_the_same_numbers_whatever_the_nodule():
    style = [nodule.FACTORS.index(name) for name in nodule.STYLE_FACTORS]
    for index in range(10):
        one = nodule.draw_factors(nodule.draw_attributes(0, index=index), index=index)
        two = nodule.draw_factors(nodule.draw_attributes(1, index=index), index=index)
        assert np.array_equal(one[style], two[style])


def test_chest_wall_lies_where_its_factors_say():
    image, _ = rendered(PLAIN, 0, wall_distance=10, wall_angle=0)
    assert image[32, 62] > -150 and image[32, 2] < -700
    image, _ = rendered(PLAIN, 0, wall_distance=10, wall_angle=np.pi / 2)
    assert image[62, 32] > -150 and image[2, 32] < -700


def test_noise_is_the_standard_deviation_of_the_difference():
    quiet = rendered(PLAIN, 1, noise=0)[0].astype(float)
    assert (rendered(PLAIN, 1, noise=30)[0] - quiet).std() == pytest.approx(30, rel=0.02)


def test_window_maps_its_ends_to_black_and_white():
    grey = nodule.window(np.array([-2000, -1000, -300, 400, 900]))
    assert grey.tolist() == [0, 0, 128, 255, 255] and grey.dtype == np.uint8


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: nodule.make(-1), "num_images to be an integer >= 0, received -1"),
        (lambda: nodule.make(2, size=8), "size to be an integer >= 16, received 8"),
        (lambda: nodule.make(2, labels=[0]), r"shape \(2,\).*received shape \(1,\)"),
        (lambda: nodule.draw_attributes(2), "label to be one of 0, 1, received 2"),
        (lambda: nodule.condition(np.array([0, 0, 0, 0, 0, 0, 5])), "size bin of 0 to 4"),
        (lambda: nodule.render(np.zeros(3)), r"shape \(17,\)"),
        (lambda: nodule.render(np.full(17, np.nan)), "finite"),
        (lambda: nodule.window(np.zeros(2), 3, 3), "low < high"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
