"""Familiarity: scans of the training's scanner are near, those of another scanner or contrast far."""

import json

import numpy as np
import pytest
from scipy import ndimage

from tfdisent.familiarity import FEWEST_SCANS, Familiar, of_slices, scan_statistics, slice_statistics
from tfdisent.phantoms import brain


def statistics(scanner, contrast="T1", first=0, count=12):
    """Of phantoms, 48 x 48 pixels, three slices each."""
    found = []
    for index in range(first, first + count):
        anatomy = brain.anatomy(brain.draw_subject(seed=9, index=index), [0.0, 15, 30], size=48)
        image = brain.render(anatomy, contrast, scanner)
        found.append(scan_statistics(2 * image / image.max() - 1))
    return np.stack(found)


@pytest.fixture(scope="module")
def familiar():
    return Familiar.of(statistics("scanner_b"), "scanner_b")


def test_new_scans_of_the_scanner_are_near_and_those_of_others_or_of_other_contrasts_far(familiar):
    def distances(*given, **more):
        return np.array([familiar.distance(one) for one in statistics(*given, first=50, count=4, **more)])

    assert np.median(distances("scanner_b")) < 1
    assert distances("scanner_a").min() > 1.5 and distances("scanner_c").min() > 1.5
    assert distances("scanner_b", contrast="T2").min() > 2


def test_a_training_scan_is_never_farther_than_the_threshold(familiar):
    assert max(familiar.distance(one) for one in statistics("scanner_b")) <= 1


def test_the_threshold_is_the_largest_distance_of_a_scan_that_was_left_out():
    random = np.random.default_rng(0).normal(size=(10, 6))
    random[3] += 40
    others = Familiar.of(np.delete(random, 3, axis=0))
    assert Familiar.of(random).threshold == pytest.approx(others.distance(random[3]) * others.threshold)


def test_distances_do_not_depend_on_the_scale_of_a_statistic():
    random, scale = np.random.default_rng(1).normal(size=(20, 6)), np.array([1, 100, 1, 0.1, 1, 1])
    one, other = Familiar.of(random), Familiar.of(random * scale)
    asked = np.full(6, 2.0)
    assert one.distance(asked) == pytest.approx(other.distance(asked * scale), rel=0.01)


def test_noise_and_grey_values_are_seen_each():
    flat = np.full((1, 40, 40), -1.0)
    flat[0, 8:32, 8:32] = 0.2
    noisy = flat + 0.1 * np.random.default_rng(0).normal(size=flat.shape) * (flat > -1)
    still, rough = scan_statistics(flat), scan_statistics(noisy)
    assert rough[-1] > still[-1] + 3 and abs(rough[2] - still[2]) < 0.02
    blurred = np.where(flat > -1, ndimage.gaussian_filter(noisy, (0, 1, 1)), -1)
    assert still[-1] < scan_statistics(blurred)[-1] < rough[-1]
    brighter = scan_statistics(np.where(flat > -1, 0.6, -1))
    np.testing.assert_allclose(brighter[:5], 0.6)


def test_slices_at_the_ends_of_a_scan_and_empty_ones_do_not_count():
    full, small, empty = np.full((3, 20, 20), -1.0)
    full[2:18, 2:18], small[5:10, 5:10] = 0.5, -0.5
    found, pixels = slice_statistics(np.stack([full, small, empty]))
    assert pixels.tolist() == [256, 25, 0] and np.isnan(found[2]).all()
    np.testing.assert_array_equal(of_slices(found, pixels), found[0])
    assert np.isnan(scan_statistics(empty[None])).all()


def test_what_a_card_holds_comes_back_and_another_content_is_refused(familiar):
    content = json.loads(json.dumps(familiar.to_card()))
    back = Familiar.from_card(content)
    asked = familiar.mean + 0.1
    assert back.name == "scanner_b" and back.distance(asked) == familiar.distance(asked)
    for change in ({"mean": [1, 2]}, {"threshold": 0}, {"precision": "x"}, {"scans": None}):
        with pytest.raises(ValueError, match="expected 6 finite|not as `Familiar.to_card`"):
            Familiar.from_card(content | change)


@pytest.mark.parametrize("given", [np.zeros((FEWEST_SCANS - 1, 6)), np.zeros(6), np.full((9, 6), np.nan)])
def test_too_few_scans_are_refused(given):
    with pytest.raises(ValueError, match="4 training scans or more"):
        Familiar.of(given)


def test_scans_that_are_all_alike_have_a_threshold_above_0():
    alike = Familiar.of(np.ones((5, 6)))
    assert alike.distance(np.ones(6)) == 0 and alike.distance(np.full(6, 1.1)) > 1
