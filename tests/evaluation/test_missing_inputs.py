"""Tasks with inputs missing: networks that know the answer get the best figures, and what is missing is not seen."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfdisent.evaluation import missing_inputs
from tfdisent.evaluation.entries import Results
from tfdisent.examples import Examples

NAMES = ("T1", "T1ce", "FLAIR")
LABELS = ("background", "necrosis", "oedema", "enhancing")
SIZE = 16


def brains(count=8, seed=0, **more):
    """Slices in three modalities of two positions each; T1ce alone shows the rim, FLAIR alone the oedema."""
    random = np.random.default_rng(seed)
    mask = np.zeros((count, SIZE, SIZE), np.uint8)
    for one in mask:
        row, column = random.integers(3, 9, 2)
        one[row : row + 5, column : column + 5] = 2
        one[row + 1 : row + 4, column + 1 : column + 4] = 3
        one[row + 2, column + 2] = 1
    image = np.full((count, SIZE, SIZE, 3), -1.0, "float32")
    image[:, 2:-2, 2:-2] = 0
    image[..., 1][mask == 3] = 0.8
    image[..., 2][mask == 2] = 0.6
    columns = {
        "image": image,
        "mask": mask[..., None],
        "pet": np.where(mask == 3, 1.0, image[..., 0])[..., None].astype("float32"),
        "subject": np.arange(count) // 2,
        "slice_index": np.arange(count) % 2,
    }
    return {**columns, **more}


class Model:
    """Its anatomy of a modality is the share of what that shows: one channel of the brightness, and the rest."""

    def __init__(self, names=NAMES, neighbours=0):
        self.config = SimpleNamespace(modalities=names, anatomy_channels=2, neighbours=neighbours)
        self.asked = []

    def encode_all(self, image, exists):
        self.asked.append(np.array(exists))
        shown = np.moveaxis(np.where(exists[:, None, None] > 0, image, -1), -1, 1) / 2 + 0.5
        return {"anatomy": np.stack([shown, 1 - shown], axis=-1) * (exists > 0)[..., None, None, None]}

    def fuse(self, anatomy, exists):
        parts = [anatomy[:, k] for k in range(anatomy.shape[1])]
        there = exists[:, :, None, None, None] > 0
        mean = np.where(there, anatomy, 0).sum(1) / there.sum(1)
        highest, lowest = np.where(there, anatomy, -1).max(1), np.where(there, anatomy, 2).min(1)
        assert len(parts) == exists.shape[1]
        return np.concatenate([highest, mean, lowest], axis=-1)


class Segmentor:
    """Reads the labels off what it is given: the rim is as bright as in T1ce, the oedema as in FLAIR."""

    filters = 4

    def __init__(self, fused):
        self.fused = fused

    def predict(self, given):
        brightest = 2 * given[..., 0] - 1 if self.fused else given.max(axis=-1)
        return np.where(brightest > 0.7, 3, np.where(brightest > 0.5, 2, 0)).astype("uint8")


class Painter(Segmentor):
    """Draws PET as the mean of what it is given says."""

    def predict(self, given):
        brightest = 2 * given[..., 0] - 1 if self.fused else given.max(axis=-1)
        return np.where(brightest > 0.7, 1.0, np.where(brightest > -1, 0.0, -1.0)).astype("float32")


def networks(network):
    return {kind.learner: network(kind.fused) for kind in missing_inputs.KINDS.values()}


def inputs_of(train, column="mask", model=None):
    return missing_inputs.Inputs(model or Model(), Examples.of(train), (column,))


def measured(train=None, test=None, labels=LABELS, model=None):
    inputs = inputs_of(train or brains(), model=model)
    test = Examples.of(test or brains(seed=1))
    rows = missing_inputs.measured_rows(test, inputs)
    return missing_inputs.segmentation_metrics(inputs, test, rows, labels, networks(Segmentor))


def test_what_shows_a_class_decides_its_dice_and_nested_regions_are_those_of_brats():
    found = measured()
    whole = found["dice_all_inputs"]
    assert whole["per_class"] == {"necrosis": 0, "oedema": 1, "enhancing": 1}
    assert whole["value"] == pytest.approx(2 / 3)  # mean over the classes
    tumour, core, rim = 25, 9, 8  # pixels; the necrosis, of one, is not found
    assert whole["per_region"]["WT"] == pytest.approx(2 * (tumour - 1) / (2 * tumour - 1))
    assert whole["per_region"]["TC"] == pytest.approx(2 * rim / (core + rim))
    assert whole["per_region"]["ET"] == 1
    assert found["dice_missing_T1"]["value"] == pytest.approx(2 / 3)
    assert found["dice_missing_T1ce"]["per_class"] == {"necrosis": 0, "oedema": 1, "enhancing": 0}
    assert found["dice_missing_FLAIR"]["per_class"] == {"necrosis": 0, "oedema": 0, "enhancing": 1}


def test_every_metric_has_its_opponents_beside_it_and_a_value_of_each_subset():
    found = measured()
    for ending in missing_inputs.KINDS:
        names = {f"dice_{what}{ending}" for what in ("all_inputs", "missing_T1", "missing_T1ce", "missing_FLAIR")}
        assert names <= found.keys()
        by_subset = found[f"dice_subsets{ending}"]["per_subset"]
        assert len(by_subset) == 7
        assert found[f"dice_all_inputs{ending}"]["value"] == by_subset["T1+T1ce+FLAIR"]
        assert found[f"dice_missing_T1ce{ending}"]["value"] == by_subset["T1+FLAIR"]
        assert found[f"dice_subsets{ending}"]["value"] == pytest.approx(np.mean(list(by_subset.values())))


def test_dice_is_of_subjects_as_wholes():
    test = brains(count=2, seed=1)
    test["image"][1, ..., 1:] = test["image"][1, ..., :1]  # one of the subject's two slices shows nothing
    assert measured(test=test)["dice_all_inputs"]["per_class"]["enhancing"] == pytest.approx(2 / 3)


def test_a_class_of_a_subject_that_has_none_counts_only_where_it_is_said_to_be():
    test = brains(count=4, seed=1)
    test["mask"][2:] = 0
    assert measured(test=test)["dice_all_inputs"]["per_class"]["enhancing"] == pytest.approx(1 / 2)
    test["image"][2:, ..., 1:] = test["image"][2:, ..., :1]
    assert measured(test=test)["dice_all_inputs"]["per_class"]["enhancing"] == 1


@pytest.mark.parametrize("ending", ["", "_zero", "_avg", "_dropout"])
def test_what_a_network_is_given_does_not_depend_on_what_is_missing(ending):
    inputs, kind = inputs_of(brains()), missing_inputs.KINDS[ending]
    batch, other = brains(seed=1), brains(seed=1)
    other["image"][..., 1] = np.random.default_rng(2).uniform(-1, 1, other["image"].shape[:3])
    given, changed = (inputs.given(kind, one, (0, 2)) for one in (batch, other))
    np.testing.assert_array_equal(given, changed)
    assert np.any(inputs.given(kind, other, (0, 1, 2)) != inputs.given(kind, batch, (0, 1, 2)))


def test_of_one_modality_the_fused_anatomy_is_that_of_it_alone():
    batch = brains(seed=1)
    given = inputs_of(brains()).given(missing_inputs.KINDS[""], batch, (1,))
    for pooled in np.split(given, 3, axis=-1):  # maximum, mean and minimum
        np.testing.assert_allclose(pooled[..., 0], batch["image"][..., 1] / 2 + 0.5, atol=1e-6)


def test_the_average_is_that_of_the_training_slices_at_each_position():
    train, test = brains(), brains(seed=1)
    given = inputs_of(train).given(missing_inputs.KINDS["_avg"], test, (0, 2))
    for position in (0, 1):
        expected = train["image"][train["slice_index"] == position, ..., 1].mean(axis=0)
        np.testing.assert_allclose(given[position, ..., 1], expected, atol=1e-6)
    assert np.abs(given[0, ..., 1] - given[1, ..., 1]).max() > 0.1
    np.testing.assert_array_equal(given[..., [0, 2]], test["image"][..., [0, 2]])
    beyond = {**test, "slice_index": np.full(8, 40)}  # no training slice is there: the nearest ones
    nearest = inputs_of(train).given(missing_inputs.KINDS["_avg"], beyond, (0, 2))
    np.testing.assert_array_equal(nearest[0, ..., 1], given[1, ..., 1])


def test_zero_is_background_in_all_slices_of_a_modality():
    train = brains()
    train["image"] = np.repeat(train["image"], 3, axis=-1)  # with neighbours
    given = inputs_of(train, model=Model(neighbours=1)).given(missing_inputs.KINDS["_zero"], train, (0, 2))
    assert (given[..., 3:6] == -1).all()
    np.testing.assert_array_equal(given[..., :3], train["image"][..., :3])
    np.testing.assert_array_equal(given[..., 6:], train["image"][..., 6:])


def test_networks_learn_from_all_modalities_or_where_they_are_to_from_every_subset():
    inputs, random = inputs_of(brains(count=200)), np.random.default_rng(0)
    for ending, kind in missing_inputs.KINDS.items():
        chosen = inputs.selection(kind)
        _, columns = next(iter(chosen.batches()))
        assert columns["mask"].shape == (200, SIZE, SIZE, 1)
        learnt = inputs.change(kind)(columns["image"], random)
        assert learnt.shape == (200, *inputs.shape(kind))
        whole = inputs.given(kind, brains(count=200), (0, 1, 2))
        same = np.isclose(learnt, whole, atol=1e-6).all(axis=(1, 2, 3))
        assert same.all() if not kind.dropout else 0 < same.mean() < 0.5, ending
        if ending == "_dropout":
            missing = (learnt == -1).all(axis=(1, 2))
            assert not missing.all(axis=1).any()  # one modality is there at least
            assert len(np.unique(missing, axis=0)) == 7


def test_training_slices_without_all_modalities_are_not_learnt_from():
    exists = np.ones((8, 3), np.uint8)
    exists[:3, 1] = 0
    assert inputs_of(brains(available=exists)).rows.tolist() == [3, 4, 5, 6, 7]


def test_a_modality_that_no_training_slice_has_is_in_no_subset_and_its_metrics_say_so():
    exists = np.tile(np.array([1, 0, 1], np.uint8), (8, 1))
    found = measured(brains(available=exists), brains(seed=1, available=exists))
    assert set(found["dice_subsets"]["per_subset"]) == {"T1", "FLAIR", "T1+FLAIR"}
    assert found["dice_all_inputs"]["per_class"]["oedema"] == 1
    for ending in missing_inputs.KINDS:
        assert found[f"dice_missing_T1ce{ending}"]["value"] is None
        assert found[f"dice_missing_T1ce{ending}"]["reason"] == "no training slice has T1ce"


def test_a_single_class_has_no_nested_regions():
    train, test = brains(), brains(seed=1)
    for one in (train, test):
        one["mask"] = (one["mask"] > 0).astype("uint8")
    found = measured(train, test, ("background", "lesion"))
    assert "per_region" not in found["dice_all_inputs"] and set(found["dice_all_inputs"]["per_class"]) == {"lesion"}


def test_where_nothing_is_to_be_found_there_is_no_dice():
    test = brains(seed=1)
    test["mask"][:] = 0
    test["image"][..., 1:] = test["image"][..., :1]
    found = measured(test=test)
    assert {entry["value"] for entry in found.values()} == {None}
    assert {entry["reason"] for entry in found.values()} == {missing_inputs.NOTHING}


def test_the_segmentor_that_knows_every_subset_is_kept(monkeypatch):
    kept = {}

    class Saved(Segmentor):
        def save(self, folder):
            kept[folder] = self

    made = networks(Saved)
    monkeypatch.setattr(missing_inputs, "fitted_segmentors", lambda *arguments: made)
    train, test = Examples.of(brains()), Examples.of(brains(seed=1))
    for keep in ("folder", None):
        missing_inputs.measure_segmentation(Results(), Model(), train, test, LABELS, "convnet", 0, keep)
    assert kept == {"folder": made["fused_dropout"]}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"mask": np.zeros((8, SIZE, SIZE, 1), np.uint8)}, "no training slice with all modalities has a label"),
        ({"available": np.tile(np.eye(3, dtype=np.uint8), (3, 1))[:8]}, "slices that have all modalities"),
        ({"available": np.zeros((8, 3), np.uint8)}, "slices that have all modalities"),
    ],
)
def test_what_cannot_be_learnt_says_why(change, expected):
    results = Results()
    train, test = Examples.of(brains(**change)), Examples.of(brains(seed=1))
    missing_inputs.measure_segmentation(results, Model(), train, test, LABELS, "convnet", 0)
    assert set(results.metrics) == {f"dice_{end}" for end in ("all_inputs", *(f"missing_{n}" for n in NAMES))}
    assert all(expected in entry["reason"] and not entry.get("failed") for entry in results.metrics.values())
    assert not results.figures


def test_few_whole_subjects_are_measured_where_there_are_many(monkeypatch):
    monkeypatch.setattr(missing_inputs, "MOST_SLICES", 4)
    test = Examples.of(brains(count=12))
    rows = missing_inputs.measured_rows(test, inputs_of(brains()))
    assert rows.tolist() == [0, 1, 10, 11]


def test_pet_is_measured_on_the_whole_slice_and_in_the_brain():
    inputs, test = inputs_of(brains(), "pet"), Examples.of(brains(seed=1))
    found = missing_inputs.pet_metrics(inputs, test, np.arange(8), networks(Painter))
    assert found["pet_ssim_all_inputs"]["value"] == pytest.approx(1)
    assert found["pet_ssim_missing_FLAIR"]["value"] == pytest.approx(1)
    assert found["pet_ssim_missing_T1ce"]["value"] < 0.95  # the rim is not seen
    lost = found["pet_psnr_missing_T1ce"]
    assert lost["value"] == pytest.approx(10 * np.log10(SIZE**2 / (8 * 0.25)))
    assert lost["per_region"]["brain"] == pytest.approx(10 * np.log10(12**2 / (8 * 0.25)))
    assert len(found["pet_psnr_subsets_dropout"]["per_subset"]) == 7


@pytest.mark.parametrize("task, network", [(missing_inputs.SEGMENTATION, Segmentor), (missing_inputs.PET, Painter)])
def test_figures_show_all_inputs_and_each_missing_one(task, network):
    inputs, test = inputs_of(brains(), task.column), Examples.of(brains(seed=1))
    (figure,) = missing_inputs.draw_task(task, inputs, test, np.arange(8), networks(network))
    assert figure.image.ndim == 3 and figure.name == f"{task.title} with inputs missing"
    metrics = {f"{task.metrics[-1]}_subsets": {"per_subset": {"T1": 0.5, "T1ce": None}}}
    (table,) = missing_inputs.draw_subsets(task, metrics)
    assert table.name == f"{task.title} by subset"
    assert not missing_inputs.draw_subsets(task, {})


@pytest.mark.backend("torch")
@pytest.mark.parametrize("column", ["mask", "pet"])
def test_networks_of_a_few_steps_are_trained_and_measured_from_a_real_model(column, monkeypatch):
    from tests.tiny import MARGIN
    from tfdisent.systems.margin import Margin, MarginConfig

    for name, value in (("STEPS", 2), ("BATCH", 8), ("FILTERS", {"convnet": 2}), ("PET_FILTERS", {"convnet": 2})):
        monkeypatch.setattr(missing_inputs, name, value)
    model = Margin(MarginConfig(**MARGIN))
    train, test = (brains(count=4, seed=seed) for seed in (0, 1))
    for one in (train, test):
        for name in ("image", "mask", "pet"):
            one[name] = np.repeat(np.repeat(one[name], 2, axis=1), 2, axis=2)
        one["image"] = one["image"][..., 1:]
    results = Results()
    train, test = Examples.of(train), Examples.of(test)
    if column == "mask":
        missing_inputs.measure_segmentation(results, model, train, test, LABELS, "convnet", 0)
    else:
        missing_inputs.measure_pet(results, model, train, test, "convnet", 0)
    metric = {"mask": "dice", "pet": "pet_ssim"}[column]
    assert not [name for name, entry in results.metrics.items() if entry.get("failed")]
    assert results.metrics[f"{metric}_missing_T2_fused_dropout"]["value"] is not None
    assert len(results.figures) == 2
