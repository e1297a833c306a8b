"""Travelling subjects: an ideal method has the best of every measure, and one that makes all alike is seen."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.evaluation.test_harmonize import GREY, LABELS, SEGMENTORS, SIZE, SLICES, Model, data
from tfdisent.evaluation import travelling
from tfdisent.evaluation.travelling import Method, Scan, Travellers
from tfdisent.examples import Examples
from tfdisent.familiarity import Familiar

MANIFEST = SimpleNamespace(modalities=("T1",), domains=("b", "a"), image_shape=(SIZE, SIZE, 1))


def travellers(examples, scanners=("b", "a"), manifest=MANIFEST):
    return Travellers(examples, manifest, "T1", scanners)


def changed(examples, **columns):
    """The examples with other columns, each a function of its values."""
    table = examples.take(np.arange(len(examples)))
    del table["row"]
    return Examples.of(table | {name: change(table[name]) for name, change in columns.items()})


@pytest.fixture(scope="module")
def subjects():
    return travellers(data(8, first=50))


def results(subjects, *methods, **options):
    found = travelling.measured(subjects, methods, "a", SEGMENTORS["target"], len(LABELS), **options)
    return {method.title: travelling.method_metrics(found, method.title, ("b", "a"), LABELS) for method in methods}


NOTHING = travelling.nothing(["b"])
IDEAL = travelling.by_model("ideal", {"b": Model()})


def test_an_ideal_method_has_the_best_of_every_measure(subjects):
    found = results(subjects, NOTHING, IDEAL)
    before, after = ({name: of[name]["value"] for name in travelling.NAMES} for of in found.values())
    assert after["volume_variation"] < 0.05 < 0.3 < before["volume_variation"]
    assert after["volume_icc"] > 0.9 > 0.5 > before["volume_icc"]
    assert after["image_error"] < 0.04 < 0.1 < before["image_error"]
    assert set(found["ideal"]["volume_icc"]["per_label"]) == set(LABELS[1:])
    assert set(found["ideal"]["image_error"]["per_scanner"]) == {"b"}
    assert "ICC(2, 1), two-way random, absolute agreement" in found["ideal"]["volume_icc"]["protocol"]


def test_a_method_that_makes_all_subjects_alike_varies_little_and_tells_nobody_apart(subjects):
    one = subjects.scans("s50")["a"].image
    alike = Method("alike", {"b": lambda image, inside: one})
    everywhere = travelling.measured(subjects, [alike], "a", SEGMENTORS["target"], len(LABELS))
    everywhere.volumes["alike"][:, 1] = everywhere.volumes["alike"][:, 0]  # the target's scans as well
    found = travelling.volume_metrics(everywhere, "alike", ("b", "a"), LABELS)
    assert found["volume_variation"]["value"] == 0
    assert found["volume_icc"]["value"] is None  # all volumes are the same
    of_source = results(subjects, alike)["alike"]["volume_icc"]["value"]
    assert of_source < 0.5


def test_subjects_on_one_scanner_do_not_travel_and_further_scans_are_left_out():
    twice = changed(data(2, first=50), key=lambda keys: np.array([f"again/{key}" for key in keys], object))
    found = travellers(Examples.joined(data(3, first=0, paired=False), data(2, first=50), twice))
    assert found.subjects == ["s50", "s51"] and found.repeated == 4
    assert {scanner: scan.image.shape for scanner, scan in found.scans("s50").items()} == {
        scanner: (SLICES, SIZE, SIZE) for scanner in ("b", "a")
    }
    assert travellers(data(2, first=50), scanners=("b",)).subjects == []


def test_slices_are_in_the_order_of_their_places_and_pixels_as_large_as_resizing_made_them():
    examples = data(1)
    mixed = examples.take(np.random.default_rng(0).permutation(len(examples)))
    del mixed["row"]
    mixed["spacing"] = np.tile([1.0, 1.5, 3.0], (len(examples), 1))
    manifest = SimpleNamespace(**vars(MANIFEST) | {"image_shape": (2 * SIZE, 4 * SIZE, 1)})
    scan = travellers(Examples.of(mixed), manifest=manifest).scans("s0")["a"]
    assert scan.place.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(scan.image, travellers(examples).scans("s0")["a"].image)
    np.testing.assert_allclose(scan.spacing, [2, 6, 3])


def test_volumes_are_in_millilitres_where_the_spacing_is_known():
    image = np.full((1, 4, 4), -1.0)
    image[0, 0, :3] = 2 * GREY[1] - 1
    found = travelling.volumes_of(SEGMENTORS["target"], image, np.array([2.0, 5, 10]), len(LABELS))
    np.testing.assert_allclose(found, [3 * 100 / 1000, 0, 0, 0])
    assert travelling.volumes_of(SEGMENTORS["target"], image, np.zeros(3), len(LABELS))[0] == 3


def a_scan(image, spacing=(2.0, 2.0, 3.0), first=0):
    return Scan(image, first + np.arange(len(image)), np.array(spacing))


def test_scans_are_compared_where_they_lie_if_their_grids_agree_and_else_after_a_registration():
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (8, 32, 32)), indexing="ij")
    inside = (x / 0.6) ** 2 + (y / 0.8) ** 2 + (z / 1.5) ** 2 < 1
    image = np.where(inside, 0.3 * np.cos(4 * x) + 0.3 * np.sin(3 * y) + 0.1, -1.0)
    fixed, other = a_scan(image), a_scan(image[:, :, ::2], (2.0, 4.0, 3.0))
    assert np.array_equal(travelling.motion(fixed, a_scan(image[::-1]))(image), image)
    with pytest.raises(ValueError, match="on one grid for --registration=identity"):
        travelling.motion(fixed, other, "identity")
    onto = travelling.motion(fixed, other)
    where = onto((other.image > -1).astype(np.float32))
    assert travelling.error_to(fixed, onto(other.image), where) < 0.05
    shifted = a_scan(np.roll(image, 3, axis=1))
    alone = travelling.error_to(fixed, shifted.image, np.roll(inside, 3, axis=1))
    onto = travelling.motion(fixed, shifted, "rigid")
    assert travelling.error_to(fixed, onto(shifted.image), onto(np.roll(inside, 3, axis=1))) < 0.4 * alone


def test_what_cannot_be_measured_has_its_reason(subjects):
    without = travelling.measured(subjects, [NOTHING], "a")
    found = travelling.method_metrics(without, NOTHING.title, ("b", "a"), LABELS)
    assert "no label maps of the target" in found["volume_icc"]["reason"] and found["image_error"]["value"] > 0
    manifest = SimpleNamespace(**vars(MANIFEST) | {"domains": ("b", "c")})
    nowhere = travellers(data(1), ("b", "c", "a"), manifest)
    found = travelling.measured(nowhere, [travelling.nothing(["b", "c"])], "a", SEGMENTORS["target"], len(LABELS))
    entries = travelling.method_metrics(found, NOTHING.title, nowhere.scanners, LABELS)
    assert "no subject has a scan on the target" in entries["image_error"]["reason"]
    assert "5 subjects on all of b, c, a" in entries["volume_icc"]["reason"]
    assert entries["volume_variation"]["value"] > 0
    assert all("–" in line for line in travelling.table({NOTHING.title: entries})[1:])


def test_a_scanner_that_is_unlike_that_of_its_name_in_the_training_is_named(subjects):
    found = travelling.measured(subjects, [NOTHING], "a")
    familiar = {scanner: Familiar.of(found.statistics[scanner], scanner) for scanner in ("b", "a")}
    assert travelling.unlike(found, familiar) == []
    (said,) = travelling.unlike(found, {"b": familiar["a"], "a": None})
    assert said.startswith("Scans of b lie") and "another scanner" in said


def test_tables_and_the_headline_name_every_method(subjects):
    found = results(subjects, NOTHING, IDEAL)
    lines = travelling.table(found)
    assert lines[0] == list(travelling.HEADINGS) and [line[0] for line in lines[1:]] == ["Not harmonised", "ideal"]
    assert travelling.label_table(found, "volume_icc")[0] == ["Method", *LABELS[1:]]
    said = travelling.headline(found).splitlines()
    assert len(said) == 3 and all(" ideal: " in line for line in said)
    (figure,) = travelling.draw_travellers(subjects, [NOTHING, IDEAL], "a")
    assert figure.image.dtype == np.uint8 and figure.name == "From b to a"
    assert "1 Not harmonised, 2 ideal" in figure.caption
