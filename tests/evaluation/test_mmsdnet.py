"""Evaluation of segmentations by misaligned modalities: perfect ones, copies, fields that are right or none."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from tests.checks import array
from tfdisent.evaluation import mmsdnet
from tfdisent.examples import Examples

NAMES = ("background", "liver", "spleen")
SIZE, SHIFT = 24, (3, -2)


def examples(**changes):
    """Three subjects of three slices with two organs; the target shows at a pixel what the source has at pixel + SHIFT.

    The last slice of each subject is empty.
    """
    source = np.zeros((9, SIZE, SIZE), "uint8")
    for k in range(9):
        if k % 3 < 2:
            source[k, 6 + k : 11 + k, 5:9] = 1
            source[k, 8:12, 14 : 17 + k % 2] = 2
    target = np.roll(source, tuple(-one for one in SHIFT), (1, 2))
    mask = np.stack([source, target], axis=-1)
    arrays = {
        "image": mask.astype("float32") / 2 - 0.5,
        "mask": mask,
        "subject": np.repeat([b"a", b"b", b"c"], 3),
        "displacement": np.broadcast_to(np.float16(SHIFT), (9, SIZE, SIZE, 2)).copy(),
        **changes,
    }
    return Examples.of({name: values for name, values in arrays.items() if values is not None})


class Model:
    """Of which each part is as told: field (2,), what is said of the target, and codes of a modality."""

    def __init__(self, field=SHIFT, says=lambda image: image[..., -1], code=lambda i: i):
        self.field, self.says, self.code = field, says, code
        self.config = SimpleNamespace(num_modalities=2, modalities=("T1", "T2"), anatomy_channels=3)

    def averaged(self):
        return contextlib.nullcontext()

    def labels(self, image):
        return np.rint(2 * array(ops.convert_to_tensor(image)) + 1).astype(int)

    def predictions(self, image):
        return {"fused": ops.convert_to_tensor(np.eye(3, dtype="float32")[self.labels(self.says(image))])}

    def anatomy(self, image, modality):
        return ops.convert_to_tensor(np.eye(3, dtype="float32")[self.labels(image)[..., 0]])

    def align(self, moving, fixed):
        field = np.broadcast_to(np.float32(self.field), (*moving.shape[:3], 2))
        return {"anatomy": moving, "field": ops.convert_to_tensor(field.copy())}

    def moments(self, anatomy, image):
        noise = np.random.default_rng(0).normal(size=(len(anatomy), 3))
        noise[:, 0] = 0.1 * noise[:, 0] + self.code(int(array(image).sum() > 1e9))
        return ops.convert_to_tensor(noise.astype("float32")), None


def measured(model, test):
    manifest = SimpleNamespace(mask_labels=NAMES, modalities=("T1", "T2"))
    return mmsdnet.evaluate_run(model, lambda split: test, manifest, judge_directory="")


def value(metrics, name):
    return metrics[name]["value"]


def test_a_perfect_map_scores_one_in_every_way_and_the_copy_what_it_overlaps():
    metrics, figures = measured(Model(), examples())
    assert value(metrics, "dice_fused") == value(metrics, "dice_slices_fused") == 1
    assert metrics["dice_fused"]["per_class"] == {"liver": 1, "spleen": 1}
    # 5 x 4 pixels moved by (3, -2) have 2 x 2 in common; 4 x 3 and 4 x 4 have 1 x 1 and 1 x 2.
    assert metrics["dice_copy"]["per_class"]["liver"] == pytest.approx(0.2)
    assert 0 < metrics["dice_copy"]["per_class"]["spleen"] < 0.2
    assert [figure.name for figure in figures] == ["Anatomy", "Alignment", "Label maps"]
    assert not [name for name, found in metrics.items() if found.get("failed")]
    assert "1.000" in mmsdnet.headline(metrics)


def test_empty_slices_raise_the_dice_of_slices_and_not_that_of_volumes():
    metrics, _ = measured(Model(says=lambda image: np.full(image.shape[:3], -0.5)), examples())
    assert value(metrics, "dice_fused") == 0
    assert value(metrics, "dice_slices_fused") == pytest.approx(1 / 3)


def test_an_organ_taken_for_another_is_wrong():
    swapped = Model(says=lambda image: np.where(image[..., -1] > -0.25, -image[..., -1] + 0.5, -0.5))
    metrics, _ = measured(swapped, examples())
    assert value(metrics, "dice_fused") == 0


def test_the_true_field_has_no_error_and_none_at_all_has_all_of_it():
    right, _ = measured(Model(), examples())
    none, _ = measured(Model(field=(0, 0)), examples())
    swapped, _ = measured(Model(field=SHIFT[::-1]), examples())
    opposite, _ = measured(Model(field=tuple(-one for one in SHIFT)), examples())
    errors = [value(metrics, "field_error_relative") for metrics in (right, none, swapped, opposite)]
    assert errors[:2] == pytest.approx([0, 1]) and errors[2] > 1 and errors[3] == pytest.approx(2)
    assert value(right, "dice_warped_truth") == 1
    assert value(none, "dice_warped_truth") == value(none, "dice_copy")
    assert none["field_error_relative"]["per_length"]["displacement, pixels"] == pytest.approx(np.hypot(*SHIFT))


def test_data_without_a_known_displacement_say_so():
    metrics, figures = measured(Model(), examples(displacement=None))
    assert value(metrics, "field_error_relative") is None and metrics["field_error_relative"]["reason"]
    assert len(figures) == 3 and value(metrics, "dice_fused") == 1


def test_a_model_that_does_not_align_is_measured_by_its_maps_alone():
    class Plain(Model):
        align = property()

    metrics, figures = measured(Plain(), examples())
    assert set(metrics) == {"dice_fused", "dice_slices_fused", "dice_copy", "dice_slices_copy"}
    assert [figure.name for figure in figures] == ["Label maps"]


def test_unlabelled_slices_are_left_out_and_subjects_stay_whole():
    labelled = np.repeat([1, 0, 1], 3)
    test = examples(labelled=labelled)
    assert mmsdnet.labelled_rows(test, 100).tolist() == [0, 1, 2, 6, 7, 8]
    assert mmsdnet.labelled_rows(test, 4).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="there are none"):
        mmsdnet.labelled_rows(examples(labelled=0 * labelled), 100)


def test_pixels_without_a_channel_are_counted_in_each_modality():
    class Half(Model):
        def anatomy(self, image, modality):
            found = array(super().anatomy(image, modality))
            found[:, : SIZE // 2] *= modality == 1
            return ops.convert_to_tensor(found)

    found, _ = measured(Half(), examples())
    assert found["empty_anatomy_share"]["per_modality"] == {"T1": 0.5, "T2": 0}
    assert value(found, "empty_anatomy_share") == 0.25


def test_organs_in_one_channel_of_both_modalities_are_told_from_those_that_are_not():
    held = np.zeros((2, 3, 4))
    held[:, 1, 2], held[0, 2, 0], held[1, 2, 3] = 9, 5, 5
    found = mmsdnet.organ_channels(held, NAMES)
    assert found["value"] == 0.5 and found["per_class"] == {"liver": 1, "spleen": 0}
    assert mmsdnet.organ_channels(0 * held, NAMES)["reason"]


def test_a_code_that_tells_the_modality_does_so_by_the_dimension_that_holds_it():
    random = np.random.default_rng(0)
    codes = random.normal(size=(60, 2, 3))
    subject = np.repeat(np.arange(6), 10)
    assert mmsdnet.modality_from_z(codes, subject)["value"] < 0.75
    codes[:, 1, 2] += 20
    found = mmsdnet.modality_from_z(codes, subject)
    assert found["value"] == found["per_dimension"]["dimension 2"] == 1 > found["per_dimension"]["dimension 0"]
    assert mmsdnet.modality_from_z(codes, 0 * subject)["reason"]


def test_the_picture_of_progress_shows_the_truth_and_what_is_said():
    grid = mmsdnet.sample_grid(Model(), examples().take(np.arange(4)))
    assert grid.dtype == np.uint8 and grid.ndim == 3
