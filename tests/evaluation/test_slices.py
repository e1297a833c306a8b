"""What evaluations of slices share: the brain, other subjects' slices, means over parts."""

import numpy as np
import pytest

from tfdisent.evaluation import slices
from tfdisent.examples import Examples

SLICES = {
    "image": np.zeros((8, 4, 4, 1), "float32"),
    "subject": np.repeat(np.arange(4), 2).astype(bytes),
    "slice_index": np.tile(np.arange(2), 4),
}


def test_partners_are_other_subjects_slices_at_the_same_place():
    rows = np.arange(len(SLICES["image"]))
    other = slices.partners(SLICES["subject"], SLICES["slice_index"], rows)
    assert (SLICES["subject"][other] != SLICES["subject"][rows]).all()
    assert (SLICES["slice_index"][other] == SLICES["slice_index"][rows]).all()


def test_the_slices_shown_are_of_different_subjects_or_lie_apart():
    size = np.array([1, 9, 8, 2, 7, 6, 0, 5])
    subject = np.array([b"a", b"a", b"a", b"b", b"c", b"c", b"d", b"e"])
    assert slices.rows_to_show(size, subject).tolist() == [1, 4, 7, 3]
    assert slices.rows_to_show(size, np.zeros(8)).tolist() == [1, 2, 4, 7]
    assert slices.rows_to_show(size[:1], subject[:1]).tolist() == [0]


def test_the_brain_is_what_is_not_as_the_corner_whatever_the_backgrounds_value():
    image = np.full((2, 8, 8, 2), -1.0, "float32")
    image[1] = -0.4  # another volume's
    image[:, 2:5, 3:6, 0] += 0.3
    image[:, 4, 4, 1] -= 0.2  # darker than the background
    expected = np.zeros((8, 8), bool)
    expected[2:5, 3:6] = True
    for one in slices.brain(image):
        np.testing.assert_array_equal(one, expected)


def test_slices_without_a_word_on_it_have_all_modalities():
    image = np.zeros((2, 4, 4, 3))
    assert slices.available({"image": image}).tolist() == [[True] * 3] * 2
    assert slices.available(Examples.of({"image": image})).tolist() == [[True] * 3] * 2
    given = np.array([[1, 0, 1], [1, 1, 1]], "float32")
    assert slices.available({"image": image, "available": given}).tolist() == (given > 0).tolist()


def test_likeness_is_on_the_scale_of_0_to_1_and_inside_the_brain_apart():
    truth = np.zeros((2, 8, 8))
    ours, inside = truth.copy(), np.zeros((2, 8, 8), bool)
    inside[:, 2:6, 2:6] = True
    ours[0, 2:6, 2:6] = 0.5  # a quarter of the slice, by a quarter of the range
    scores = slices.likeness(ours, truth, inside)
    assert scores.keys() == {f"{name}{end}" for name in slices.LIKENESS for end in ("", "_brain")}
    np.testing.assert_allclose(scores["mean_absolute_error"], [0.25 / 4, 0])
    np.testing.assert_allclose(scores["mean_absolute_error_brain"], [0.25, 0])
    np.testing.assert_allclose(scores["psnr_brain"], [-10 * np.log10(0.25**2), np.inf])
    assert scores["ssim"][1] == 1 and scores["ssim"][0] < 1

    metrics = slices.likeness_metrics({"T1": scores, "T2": scores}, per="modality", parts="modalities")
    assert metrics.keys() == scores.keys()
    assert metrics["mean_absolute_error"]["per_modality"] == {"T1": 0.25 / 8, "T2": 0.25 / 8}
    assert metrics["ssim_brain"]["protocol"] == (
        "inside the brain, images in [0, 1], 7 x 7 window, mean over slices and 2 modalities"
    )


def test_the_mean_over_parts_counts_each_part_alike():
    by_organ = {"liver": np.array([0.9, np.nan, 0.7]), "spleen": np.array([0.2])}
    result = slices.pooled(by_organ, "Dice", per="organ")
    assert result["per_organ"] == {"liver": pytest.approx(0.8), "spleen": 0.2}
    assert result["value"] == pytest.approx(0.5)
    assert (result["n"], result["protocol"]) == (4, "Dice")


def test_a_part_without_a_score_is_named_in_the_place_of_the_mean():
    result = slices.pooled({"liver": np.array([0.9]), "spleen": np.array([np.nan])}, "Dice", per="organ")
    assert result["value"] is None and result["per_organ"] == {"liver": 0.9, "spleen": None}
    assert result["reason"] == "no test slice to measure for spleen"
    assert slices.pooled({}, "Dice", per="organ")["reason"] == "no test slice to measure for any organ"
