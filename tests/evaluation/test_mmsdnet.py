"""Evaluation of segmentations by misaligned modalities: perfect ones, copies, fields that are right or none."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from tests.checks import array
from tests.tiny import MMSDNET
from tfdisent import metrics as metrics_of
from tfdisent.evaluation import mmsdnet
from tfdisent.evaluation.entries import failed
from tfdisent.examples import Examples
from tfdisent.report.tables import METRICS
from tfdisent.systems.mmsdnet import MMSDNet, MMSDNetConfig

NAMES = ("background", "liver", "spleen")
SIZE, SHIFT = 24, (3, -2)


@pytest.fixture(autouse=True)
def registration(monkeypatch):
    """Takes long, and has tests of its own; here it finds half of the displacement."""
    monkeypatch.setattr(mmsdnet, "register", lambda source, target: np.full((*source.shape, 2), np.divide(SHIFT, 2)))
    monkeypatch.setattr(mmsdnet, "knows_syn", lambda: False)


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
        self.config = SimpleNamespace(
            num_modalities=2, modalities=("T1", "T2"), anatomy_channels=3, candidates=1, batch_size=4
        )
        self.networks = []

    def averaged(self):
        return contextlib.nullcontext()

    def labels(self, image):
        return np.rint(2 * array(ops.convert_to_tensor(image)) + 1).astype(int)

    def predictions(self, image):
        return {"fused": ops.convert_to_tensor(np.eye(3, dtype="float32")[self.labels(self.says(image))])}

    def anatomy(self, image, modality, training=False):
        return ops.convert_to_tensor(np.eye(3, dtype="float32")[self.labels(image)[..., 0]])

    def segment(self, anatomy):
        return anatomy

    def segmentor(self, anatomy, training=False):
        return anatomy

    def reconstruct(self, anatomy, code):
        return ops.expand_dims(ops.cast(ops.argmax(anatomy, -1), "float32") / 2 - 0.5, -1)

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
    assert [figure.name for figure in figures] == [
        *("Anatomy", "Alignment", "Label maps", "Reconstruction", "Latent arithmetic", "Modality exchanged")
    ]
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
    for name in ("field_error_relative", "field_error_relative_register"):
        assert value(metrics, name) is None and "do not know" in metrics[name]["reason"]
    assert value(metrics, "dice_warped_truth") == 1 >= value(metrics, "dice_register")
    assert len(figures) == 5 and value(metrics, "dice_fused") == 1
    assert value(metrics, "modality_swap_error") is None and "field_error_relative_shift" not in metrics


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
        def anatomy(self, image, modality, training=False):
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


def test_without_its_transformer_a_model_has_what_the_source_overlaps():
    metrics, _ = measured(Model(), examples())
    assert value(metrics, "dice_deformed_unaligned") == value(metrics, "dice_copy")
    assert value(metrics, "dice_copy") < value(metrics, "dice_fused_unaligned") < 1


def test_the_segmentor_too_sees_statistics_of_batches():
    class Forgetful(Model):
        def segmentor(self, anatomy, training=False):
            return anatomy if training else ops.ones_like(anatomy) * ops.convert_to_tensor([1.0, 0, 0])

    found = measured(Forgetful(), examples())[0]["dice_target_batch_statistics"]
    assert found["per_statistics"] == {"running statistics": 0, "statistics of batches": 1}


def test_dice_of_each_subject_is_kept_without_its_name():
    right = examples()
    wrong = right.take(np.arange(9))["image"]
    wrong[:3, ..., -1] = -0.5  # nothing is found in the first subject
    metrics, _ = measured(Model(), examples(image=wrong))
    assert metrics["dice_fused"]["subjects"] == {"1": 0, "2": 1, "3": 1}
    assert metrics["dice_slices_fused"]["subjects"] == {"1": pytest.approx(1 / 3), "2": 1, "3": 1}


def test_the_field_is_held_against_the_mean_displacement_of_training_and_a_registration():
    metrics, _ = measured(Model(), examples())
    assert value(metrics, "field_error_relative_shift") == pytest.approx(0)
    assert value(metrics, "dice_warped_truth_shift") == 1
    assert value(metrics, "field_error_relative_register") == pytest.approx(0.5)
    assert value(metrics, "dice_copy") < value(metrics, "dice_register") < 1
    assert set(metrics["dice_slices_register"]["subjects"]) == {"1", "2", "3"}


def test_syn_stands_beside_it_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(mmsdnet, "knows_syn", lambda: True)
    monkeypatch.setattr(mmsdnet, "register_by_syn", lambda source, target: np.full((*source.shape, 2), SHIFT))
    rows = np.arange(9)
    found = mmsdnet.syn_metrics(examples(), rows, NAMES)
    assert value(found, "field_error_relative_register_syn") == pytest.approx(0)
    assert value(found, "dice_register_syn") == value(found, "dice_slices_register_syn") == 1
    assert "SyN (ANTsPy)" in found["dice_register_syn"]["protocol"]
    assert set(found) <= set(METRICS)


def test_without_antspy_the_metrics_say_how_to_install_it():
    metrics, _ = measured(Model(), examples())
    assert value(metrics, "dice_register_syn") is None and not failed(metrics)
    assert metrics["dice_register_syn"]["reason"] == "ANTsPy is not installed: pip install 'tfdisent[register]'"


def test_slices_elsewhere_have_no_part_in_the_mean_displacement():
    distance = np.repeat([[0.0], [5.0], [5.0]], 3, axis=0)
    displacement = np.zeros((9, SIZE, SIZE, 2), "float16")
    displacement[:3] = SHIFT
    found = mmsdnet.mean_displacement(examples(displacement=displacement, partner_distance=distance))
    assert found == pytest.approx(SHIFT)


class Contrasts(Model):
    """Of two modalities, of which the second is the negative of the first: the code, told by the corner, says which."""

    def labels(self, image):
        image = array(ops.convert_to_tensor(image))
        return super().labels(np.where(image[:, :1, :1] > 0, -image, image))

    def moments(self, anatomy, image):
        corner = array(image)[:, 0, 0, 0]
        noise = np.random.default_rng(0).normal(size=(len(corner), 2))
        return ops.convert_to_tensor(np.stack([np.sign(corner), *noise.T], axis=1).astype("float32")), None

    def reconstruct(self, anatomy, code):
        return -super().reconstruct(anatomy, code) * ops.sign(code[:, 0])[:, None, None, None]


def negatives():
    image = examples().take(np.arange(9))["image"]
    return examples(image=image * [1, -1])


def test_a_decoder_that_follows_the_code_exchanges_modalities_and_one_that_ignores_it_changes_nothing():
    right, _ = measured(Contrasts(), negatives())
    assert right["modality_swap_error"]["per_direction"] == {"T2 to T1": 0, "T1 to T2": 0}
    assert value(right, "reconstruction_error") == 0
    assert value(right, "modality_swap_error_lookup") < 0.01 < value(right, "modality_swap_error_unchanged")

    class Deaf(Contrasts):
        def reconstruct(self, anatomy, code):
            return super().reconstruct(anatomy, ops.ones_like(code))

    deaf, _ = measured(Deaf(), negatives())
    assert deaf["modality_swap_error"]["per_direction"]["T1 to T2"] == 0
    unchanged = value(deaf, "modality_swap_error_unchanged")
    assert deaf["modality_swap_error"]["per_direction"]["T2 to T1"] == pytest.approx(unchanged)


def test_a_code_that_is_noise_depends_on_nothing_and_tells_nothing_where_anatomy_tells_all():
    metrics, _ = measured(Contrasts(), negatives())
    found = metrics["distance_correlation"]
    batch = negatives().take(np.arange(9))
    anatomy = np.eye(3)[batch["mask"][..., 0]].reshape(9, -1)
    noise = np.random.default_rng(0).normal(size=(9, 2))
    expected = metrics_of.dependence(anatomy, noise)
    assert found["per_modality"]["T1"] == pytest.approx(expected.correlation)
    assert found["per_floor"]["T1, floor"] == pytest.approx(expected.floor)
    assert found["per_uncorrected"]["T1, uncorrected"] == pytest.approx(expected.uncorrected)
    assert set(found["per_floor"]) == {"T1, floor", "T2, floor", "all modalities, floor"}
    assert value(metrics, "distance_correlation_image_content") > 0.95
    assert value(metrics, "information_over_bias_content") > 100
    assert value(metrics, "information_over_bias_style") < 2


def test_of_three_slices_no_correlation_is_told_and_why():
    found = mmsdnet.dependence_metrics(Contrasts(), negatives(), np.arange(3))
    assert {entry["value"] for entry in found.values()} == {None} and len(found) == 3
    assert found["distance_correlation"]["reason"] == "it takes 4 test slices, and there are 3"


def test_windows_hold_the_anatomy_around_a_pixel_row_by_row_and_nothing_beyond_the_edge():
    anatomy = np.arange(2 * 6 * 7).reshape(2, 6, 7, 1) + 1
    found = mmsdnet.windows(anatomy, np.array([[16], [0]])).reshape(2, 5, 5)
    assert found[0].tolist() == anatomy[0, 0:5, 0:5, 0].tolist()
    assert found[1, 2:, 2:].tolist() == anatomy[1, :3, :3, 0].tolist() and not found[1, :2].any()


@pytest.mark.backend("torch")
def test_a_real_model_of_candidates_is_measured_in_all_parts_and_left_as_it_was(monkeypatch):
    model = MMSDNet(MMSDNetConfig(**MMSDNET, candidates=2))
    for variable in model.variables:
        if "moving_variance" in variable.path:
            variable.assign(variable + 3)
    before = [array(variable).copy() for variable in model.variables]
    monkeypatch.setattr(model, "averaged", contextlib.nullcontext)  # which would put back what is not
    random, shape = np.random.default_rng(0), (4, 48, 48)
    test = Examples.of(
        {
            "image": random.uniform(-1, 1, (*shape, 3)).astype("float32"),
            "mask": random.integers(0, 3, (*shape, 3)),
            "subject": np.repeat([b"a", b"b"], 2),
            "displacement": random.normal(size=(*shape, 2)).astype("float16"),
            "partner_distance": np.array([[0.0, 9.0], [9.0, 0.0]] * 2),
        }
    )
    metrics, figures = measured(model, test)
    assert not [name for name, found in metrics.items() if found.get("failed")]
    assert len(figures) == 7
    found = metrics["dice_target_batch_statistics"]["per_statistics"]
    assert found["statistics of batches"] != found["running statistics"]
    assert all(np.array_equal(one, array(variable)) for one, variable in zip(before, model.variables, strict=True))
    weights = metrics["pair_weight_of_nearest"]["per_distance"]
    assert list(weights) == ["0 mm off", "9 mm off"] and sum(weights.values()) == pytest.approx(1)
    assert value(metrics, "pair_weight_of_nearest") == pytest.approx(weights["0 mm off"])


def test_the_picture_of_progress_shows_the_truth_and_what_is_said():
    grid = mmsdnet.sample_grid(Model(), examples().take(np.arange(4)))
    assert grid.dtype == np.uint8 and grid.ndim == 3
