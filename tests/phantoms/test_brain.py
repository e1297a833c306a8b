import numpy as np
import pytest
from scipy import ndimage

from tfdisent.phantoms import brain

SIZE = 104  # 2 mm
POSITIONS = np.array([-10.0, 10.0, 25.0])


def column(subject, name):
    return float(subject.factors[brain.FACTORS.index(name)])


def fraction(anatomy, name):
    return anatomy.tissues[..., brain.TISSUES.index(name)]


def means(anatomy, contrast, scanner="scanner_a"):
    """Mean of each tissue that fills whole pixels somewhere."""
    images = brain.render(anatomy, contrast, scanner)
    pure = {name: fraction(anatomy, name) > 0.95 for name in brain.TISSUES}
    return {name: images[where].mean() for name, where in pure.items() if where.any()}


@pytest.fixture(scope="module")
def healthy():
    return brain.anatomy(brain.draw_subject(seed=3), POSITIONS, size=SIZE)


@pytest.fixture(scope="module")
def glioma():
    subject = brain.draw_subject(seed=3, index=1, tumour=True)
    z = column(subject, "tumour_z")
    return brain.anatomy(subject, [z - 30, z - 5, z, z + 5], size=SIZE)


@pytest.fixture(scope="module")
def sclerosis():
    subject = brain.draw_subject(seed=3, index=2, lesions=True)
    return brain.anatomy(subject, brain.slice_positions(8), size=SIZE)


def test_shapes_dtypes_and_ranges(healthy):
    shape = (3, SIZE, SIZE)
    assert healthy.tissues.shape == (*shape, len(brain.TISSUES))
    assert healthy.tissues.dtype == np.float32
    assert healthy.brain.shape == shape and healthy.brain.dtype == bool
    assert healthy.pathology.shape == shape and healthy.pathology.dtype == np.uint8
    assert healthy.tissue_labels.shape == shape and healthy.tissue_labels.dtype == np.uint8
    assert healthy.displacement.shape == (*shape, 3) and healthy.displacement.dtype == np.float32
    assert healthy.subject.factors.shape == (len(brain.FACTORS),)
    for contrast in brain.CONTRASTS:
        images = brain.render(healthy, contrast)
        assert images.shape == shape and images.dtype == np.float32
        assert 0 <= images.min() and images.max() < 3 * brain.SCANNERS["scanner_a"].gain
        assert not images[~healthy.brain].any() and (images[healthy.brain] > 0).mean() > 0.99


def test_fractions_of_tissue_are_one_in_the_brain_and_zero_outside(glioma):
    total = glioma.tissues.sum(-1)
    assert np.allclose(total[glioma.brain], 1, atol=1e-4) and not total[~glioma.brain].any()


def test_size_of_the_brain_is_that_of_adults(healthy):
    rows, columns = np.nonzero(healthy.brain.any(0))
    assert 150 < np.ptp(rows) * 2 < 195 and 120 < np.ptp(columns) * 2 < 160  # mm
    share = [(healthy.tissue_labels == k).sum() / healthy.brain.sum() for k in (1, 2, 3)]
    assert 0.04 < share[0] < 0.25 and 0.3 < share[1] < 0.65 and 0.25 < share[2] < 0.6


def test_same_arguments_give_the_same_bytes_and_another_subject_others(healthy):
    again = brain.anatomy(brain.draw_subject(seed=3), POSITIONS, size=SIZE)
    assert again.tissues.tobytes() == healthy.tissues.tobytes()
    image = brain.render(healthy, "T1")
    assert brain.render(again, "T1").tobytes() == image.tobytes()
    for other in ({"seed": 4}, {"seed": 3, "index": 1}):
        anatomy = brain.anatomy(brain.draw_subject(**other), POSITIONS, size=SIZE)
        assert not np.array_equal(anatomy.brain, healthy.brain)


def test_a_slice_is_the_same_alone_and_among_others(healthy):
    alone = brain.anatomy(healthy.subject, POSITIONS[1:2], size=SIZE)
    assert np.array_equal(alone.tissues[0], healthy.tissues[1])
    for contrast in ("FLAIR", "PET"):
        assert np.array_equal(brain.render(alone, contrast)[0], brain.render(healthy, contrast)[1])


def test_resolution_does_not_change_the_subject(healthy):
    fine = brain.anatomy(healthy.subject, POSITIONS[1:2], size=2 * SIZE)
    coarse = fine.brain[0].reshape(SIZE, 2, SIZE, 2).mean((1, 3)) > 0.5
    assert (coarse == healthy.brain[1]).mean() > 0.99


def test_the_same_subject_on_two_scanners_has_the_same_masks_but_not_the_same_grey(glioma):
    one, two = (brain.render(glioma, "FLAIR", name) for name in ("scanner_a", "scanner_b"))
    assert np.array_equal(one > 0, glioma.brain) and np.array_equal(two > 0, glioma.brain)
    inside = glioma.brain
    assert abs(one[inside].mean() - two[inside].mean()) > 0.2 * one[inside].mean()
    assert np.corrcoef(one[inside], two[inside])[0, 1] > 0.8


def test_bias_and_noise_belong_to_the_visit_and_not_to_their_strength(healthy):
    scanner, inside = brain.SCANNERS["scanner_b"]._replace(gamma=1.0), healthy.brain
    clean = brain.render(healthy, "T1", scanner.clean)
    biased, more = (brain.render(healthy, "T1", scanner._replace(noise=0.0, bias=s)) for s in (0.1, 0.2))
    fields = [np.log(image[inside] / clean[inside]) for image in (biased, more)]
    np.testing.assert_allclose(fields[1], 2 * fields[0], atol=1e-4)
    assert fields[0].std() > 0.02
    noisy = [brain.render(healthy, "T1", scanner._replace(noise=s))[inside] for s in (1e-4, 2e-4)]
    without = brain.render(healthy, "T1", scanner._replace(noise=0.0))[inside]
    bright = without > 0.3 * scanner.gain  # where the noise of a magnitude is nearly that of its real part
    one, two = (image[bright] - without[bright] for image in noisy)
    assert np.corrcoef(one, two)[0, 1] > 0.99 and two.std() / one.std() == pytest.approx(2, rel=0.02)


def test_the_clean_twin_of_a_scan_has_one_grey_for_each_tissue(healthy):
    scanner = brain.SCANNERS["scanner_b"]._replace(blur=0.0)
    pure = (fraction(healthy, "white") > 0.999) & healthy.brain
    spread = {kind: brain.render(healthy, "T1", s)[pure] for kind, s in (("clean", scanner.clean), ("scan", scanner))}
    relative = {kind: values.std() / values.mean() for kind, values in spread.items()}
    assert relative["clean"] < 0.02 and 3 * relative["clean"] < relative["scan"]


def test_white_matter_is_brightest_on_t1_and_csf_darkest(healthy):
    for scanner in brain.SCANNERS:
        t1 = means(healthy, "T1", scanner)
        assert t1["white"] > 1.1 * t1["grey"] and t1["grey"] > 1.5 * t1["csf"]


def test_csf_is_bright_on_t2_and_dark_on_flair(healthy):
    for scanner in brain.SCANNERS:
        t2, flair = means(healthy, "T2", scanner), means(healthy, "FLAIR", scanner)
        assert t2["csf"] > 1.2 * t2["grey"] and t2["grey"] > 1.05 * t2["white"]
        assert flair["csf"] < 0.4 * flair["white"] and flair["grey"] > flair["white"]


def test_grey_matter_takes_up_more_glucose_than_white(healthy):
    pet = means(healthy, "PET")
    assert pet["grey"] > 1.5 * pet["white"] > 1.5 * pet["csf"]


def test_enhancing_rim_is_bright_after_gadolinium_only(glioma):
    before, after = means(glioma, "T1"), means(glioma, "T1ce")
    assert before["enhancing"] < before["white"]
    assert after["enhancing"] > 1.4 * after["white"]
    assert after["necrosis"] < 0.6 * after["white"]


def test_oedema_is_bright_on_flair_and_t2_and_dark_on_t1(glioma):
    for contrast in ("FLAIR", "T2"):
        grey = means(glioma, contrast)
        assert grey["oedema"] > 1.2 * grey["white"] and grey["oedema"] > grey["grey"]
    assert means(glioma, "T1")["oedema"] < 0.8 * means(glioma, "T1")["white"]


def test_tumour_lies_where_its_factors_say_with_the_right_side_on_the_left(glioma):
    x, y = column(glioma.subject, "tumour_x"), column(glioma.subject, "tumour_y")
    solid = np.isin(glioma.pathology[2], (1, 3))
    row, left = ndimage.center_of_mass(solid)
    at_x = -(left - (SIZE - 1) / 2) * glioma.spacing
    at_y = brain.CENTRE_Y - (row - (SIZE - 1) / 2) * glioma.spacing
    assert abs(at_x - x) < 6 and abs(at_y - y) < 6
    assert (x > 0) == (left < SIZE / 2)


def test_core_lies_in_the_rim_and_the_rim_in_the_oedema(glioma):
    counts = [np.sum(glioma.pathology[2] == k) for k in (1, 3, 2)]
    assert min(counts) > 10
    around = ndimage.binary_dilation(glioma.pathology[2] == 1) & (glioma.pathology[2] != 1)
    assert (glioma.pathology[2][around] == 3).mean() > 0.9


def test_lesions_lie_in_white_matter_and_are_bright_on_flair(sclerosis):
    assert set(np.unique(sclerosis.pathology)) == {0, 4}
    flair = means(sclerosis, "FLAIR")
    assert flair["lesion"] > 1.2 * flair["white"]
    images, where = brain.render(sclerosis, "FLAIR"), sclerosis.pathology == 4
    assert images[where].mean() > 1.15 * flair["white"]
    flat = np.ones((1, 3, 3), bool)
    rim = ndimage.binary_dilation(where, flat) & ~where & sclerosis.brain
    assert (sclerosis.tissue_labels[rim] == 3).mean() > 0.5


def test_larger_lesions_are_where_the_usual_ones_are_and_reach_further(sclerosis):
    subject = brain.draw_subject(seed=3, index=2, lesions=True, lesion_size=2.0)
    positions = sclerosis.positions[3:5]
    usual, large = sclerosis.pathology[3:5] == 4, brain.anatomy(subject, positions, size=SIZE).pathology == 4
    assert (large & usual).sum() > 0.98 * usual.sum() and large.sum() > 2 * usual.sum()
    assert np.array_equal(subject.factors, sclerosis.subject.factors)
    with pytest.raises(ValueError, match="lesion_size above 0"):
        brain.draw_subject(lesions=True, lesion_size=0)


def test_disease_leaves_the_rest_of_the_brain_as_it_was(sclerosis):
    well = brain.draw_subject(seed=3, index=2)
    anatomy = brain.anatomy(well, sclerosis.positions, size=SIZE)
    assert not anatomy.pathology.any()
    untouched = fraction(sclerosis, "lesion") == 0
    assert np.array_equal(anatomy.tissues[untouched], sclerosis.tissues[untouched])


def test_displacement_leads_into_the_template(healthy):
    maps, origin = brain._template()
    x, y = brain._axes(SIZE)
    for k, z in enumerate(POSITIONS):
        grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None], z), -1)
        at = np.moveaxis(grid + healthy.displacement[k] - origin, -1, 0)
        white = ndimage.map_coordinates(maps[1], at, order=1)
        assert (healthy.tissue_labels[k][white > 0.9] == 3).mean() > 0.95
        assert (healthy.tissue_labels[k][white < 0.1] == 3).mean() < 0.02
    assert 0.5 < np.linalg.norm(healthy.displacement, axis=-1).mean() < 20


def test_volume_has_an_affine_to_ras_and_holds_the_tumour_where_it_says():
    subject = brain.draw_subject(seed=3, index=1, tumour=True)
    values, affine = brain.volume(subject, "T1ce", spacing=4.0)
    assert values.shape == (52, 52, 39) and affine[0, 0] == -4 and affine[2, 2] == 4
    bright = np.argwhere(values > 0.9 * values.max()).mean(0)
    place = affine @ [*bright, 1]
    centre = [column(subject, f"tumour_{axis}") for axis in "xyz"]
    assert np.abs(place[:3] - centre).max() < 15


def test_signal_equations_have_their_limits():
    one = np.ones(1)
    assert brain.spin_echo(one, one, one, 1e9, 0) == 1
    assert brain.spin_echo(one, one, one, 1e9, 1) == pytest.approx(np.exp(-1))
    assert brain.inversion_recovery(one, one, one, 1e9, 0, np.log(2)) == pytest.approx(0)
    assert brain.inversion_recovery(one, one, one, 1e9, 0, 0) == 1


def test_positions_spread_over_the_range():
    low, high = brain.SLICE_RANGE
    assert brain.slice_positions(3).tolist() == [low, (low + high) / 2, high]
    assert brain.slice_positions(1).tolist() == [(low + high) / 2]
    assert brain.anatomy(brain.draw_subject(), [], size=16).brain.shape == (0, 16, 16)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: brain.draw_subject(seed=-1), "seed to be an integer >= 0, received -1"),
        (lambda: brain.slice_positions(0), "count to be an integer >= 1, received 0"),
        (lambda: brain.anatomy(brain.draw_subject(), [0.0], size=8), "size to be an integer >= 16"),
        (lambda: brain.anatomy(brain.draw_subject(), [np.nan]), r"positions \(Z,\) in mm"),
        (lambda: brain.anatomy(brain.Subject(0, 0, np.zeros(2)), [0.0]), r"shape \(13,\)"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unknown_contrast_and_scanner_are_refused(healthy):
    with pytest.raises(ValueError, match="contrast to be one of T1, .*received 'PD'"):
        brain.render(healthy, "PD")
    with pytest.raises(ValueError, match="scanner to be one of scanner_a, .*received 'x'"):
        brain.render(healthy, "T1", "x")
