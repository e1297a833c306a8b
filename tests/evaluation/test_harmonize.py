"""Evaluation of harmonisation: an ideal model gets the best of every figure, and each way to cheat is seen by one."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from tests import tiny
from tfdisent.evaluation import harmonize
from tfdisent.evaluation.entries import failed
from tfdisent.examples import Examples
from tfdisent.systems.harmonize import HarmonizeConfig

LABELS = ("background", "csf", "grey", "white", "lesion")
GREY = np.array([0.0, 0.15, 0.4, 0.6, 0.3])  # of each label on the target; the source shows its square root
SIZE, SLICES = 32, 3


def label_maps(seed):
    """Nested ellipses; a ventricle whose width is the subject's atrophy; lesions in white matter."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    atrophy = random.uniform(1, 3)
    maps = []
    for _ in range(SLICES):
        radius = np.hypot(x / random.uniform(0.75, 0.85), y / random.uniform(0.85, 0.95))
        found = np.where(radius < 1, 2, 0)
        found[radius < 0.8] = 3
        found[np.hypot(x / (0.1 + 0.06 * atrophy), y / 0.4) < 1] = 1
        for _ in range(2):
            row, column = random.integers(8, 22, 2)
            square = found[row : row + 3, column : column + 3]
            square[square == 3] = 4
        maps.append(found)
    return np.stack(maps), atrophy


def data(subjects, first=0, paired=True, clean=True):
    """Slices of subjects on one scanner each, or on both; the clean twin lies in the grey values that the scan has."""
    parts = []
    for k in range(subjects):
        mask, atrophy = label_maps(first + k)
        for domain in (0, 1) if paired else (k % 2,):
            random = np.random.default_rng([first + k, domain])
            pure = GREY[mask] if domain else np.sqrt(GREY[mask])
            noisy = np.where(mask > 0, np.clip(pure + 0.02 * random.normal(size=mask.shape), 0.01, 1), 0)
            parts.append(
                {
                    "image": (2 * noisy - 1)[..., None].astype(np.float32),
                    "mask": mask[..., None].astype(np.uint8),
                    "domain": np.full(SLICES, domain),
                    "subject": np.full(SLICES, f"s{first + k}".encode(), object),
                    "slice_index": np.arange(SLICES)[:, None],
                    "factors": np.full((SLICES, 1), atrophy),
                    "key": np.array([f"{first + k}/{domain}/{n}" for n in range(SLICES)], object),
                }
                | ({"clean": (1000 * pure)[..., None], "intensity": _range()} if clean else {})
            )
    return Examples.of({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _range():
    return np.tile(np.array([0, 1000, *[0] * 6], np.float32), (SLICES, 1, 1))


class Model:
    """Harmonises by a function of intensities in [0, 1]."""

    def __init__(self, there=np.square, back=np.sqrt, domains=("b", "a")):
        self.config = HarmonizeConfig(image_size=32, domains=domains, labels=LABELS, modalities=("T1",), num_levels=2)
        self._maps = {"target": there, "source": back}

    def harmonize(self, image, to="target"):
        image = np.asarray(image)
        return {"image": np.float32(2 * self._maps[to]((np.clip(image, -1, 1) + 1) / 2) - 1)}

    def averaged(self):
        return contextlib.nullcontext()


def manifest(**changes):
    given = {"mask_labels": LABELS, "factor_names": ("atrophy",), "domains": ("b", "a")}
    return SimpleNamespace(**given | changes)


class Thresholds:
    """A segmentor that knows the grey values of its scanner."""

    def __init__(self, grey):
        self.grey = grey

    def predict(self, images):
        values = (np.asarray(images)[..., :1] + 1) / 2
        return np.abs(values - self.grey).argmin(axis=-1).astype(np.uint8)


SEGMENTORS = {"source": Thresholds(np.sqrt(GREY)), "target": Thresholds(GREY)}


def measured(model, examples, segmentors=SEGMENTORS, maps=None, **of_manifest):
    test = harmonize.Slices(examples, model.config)
    return harmonize.measured_scans(model, test, test.subjects(10_000), maps or {}, segmentors, manifest(**of_manifest))


@pytest.fixture(scope="module")
def test_data():
    return data(10, first=50)


@pytest.fixture(scope="module")
def ideal(test_data):
    return measured(Model(), test_data)


IDENTITY = Model(there=lambda x: x, back=lambda x: x)
INVERTED = Model(there=lambda x: np.where(x > 0, 0.8 - x**2, 0))


def value(found, name):
    return found[name]["value"]


# --- subjects and scans ---


def test_subjects_on_both_scanners_come_first_and_the_number_is_bounded():
    examples = Examples.joined(data(2, first=0, paired=False), data(2, first=10))
    test = harmonize.Slices(examples, Model().config)
    assert test.subjects(10_000) == {"source": [b"s10", b"s11", b"s0"], "target": [b"s10", b"s11", b"s1"]}
    assert test.subjects(2 * SLICES)["source"] == [b"s10", b"s11"]
    assert test.subjects(1)["source"] == [b"s10"]
    assert test.scan("target", b"s0") is None


def test_a_scan_is_in_the_order_of_its_positions_and_its_twin_on_its_scale(test_data):
    rows = np.random.default_rng(0).permutation(len(test_data))
    mixed = Examples.of(test_data.take(rows, [name for name in test_data.names if name != "row"]))
    one, two = (harmonize.Slices(part, Model().config).scan("target", b"s53") for part in (test_data, mixed))
    assert np.array_equal(one["image"], two["image"]) and two["slice_index"].ravel().tolist() == [0, 1, 2]
    inside = one["mask"] > 0
    assert np.abs(one["clean"] - one["image"][..., 0])[inside].mean() / 2 == pytest.approx(0.016, abs=0.002)


# --- the truth ---


def test_an_ideal_model_has_the_error_of_noise_and_an_identity_that_of_the_scanners(ideal, test_data):
    found = harmonize.error_metrics(ideal, {})
    floor, noise = value(found, "error_to_truth_floor"), 0.02 * np.sqrt(2 / np.pi)
    assert floor == pytest.approx(noise, rel=0.1)
    assert floor < value(found, "error_to_truth") < 3 * floor
    nothing = harmonize.error_metrics(measured(IDENTITY, test_data), {})
    assert value(nothing, "error_to_truth") == value(nothing, "error_to_truth_source") > 0.1


def test_errors_without_truths_twins_or_package_say_what_is_missing():
    alone = measured(Model(), data(4, paired=False, clean=False))
    found = harmonize.error_metrics(alone, {})
    assert value(found, "error_to_truth") is None and "both scanners" in found["error_to_truth"]["reason"]
    paired = harmonize.error_metrics(measured(Model(), data(2, clean=False)), {})
    assert value(paired, "error_to_truth") > 0
    assert "clean=true" in paired["error_to_truth_floor"]["reason"]
    assert "tfdisent[normalize]" in paired["error_to_truth_nyul"]["reason"]


# --- segmentors ---


def test_an_ideal_model_recovers_the_gap_an_identity_nothing_and_an_inversion_less(ideal, test_data):
    found = {
        name: harmonize.overlap_metrics(scans, LABELS)
        for name, scans in (
            ("ideal", ideal),
            ("identity", measured(IDENTITY, test_data)),
            ("inverted", measured(INVERTED, test_data)),
        )
    }
    gaps = {name: value(metrics, "tissue_gap_recovered") for name, metrics in found.items()}
    assert gaps["ideal"] > 0.9 and gaps["identity"] == pytest.approx(0) and gaps["inverted"] < 0.3
    assert value(found["ideal"], "lesion_gap_recovered") > 0.7
    metrics = found["ideal"]
    assert value(metrics, "dice_target_on_target") > 0.9 > 0.6 > value(metrics, "dice_target_on_source")
    assert set(metrics["dice"]["per_label"]) == set(LABELS[1:])
    for ending in ("", "_target_on_source"):
        dice, iou = (metrics[f"{name}{ending}"]["per_label"]["white"] for name in ("dice", "iou"))
        assert iou < dice < 1.01 * 2 * iou / (1 + iou)


def test_generalised_dice_is_that_of_its_paper():
    # Two labels of 4 and 2 pixels, of which 2 and 1 are found, and one pixel each too many.
    scans = harmonize.Measured(areas={("target", "harmonized"): [np.array([[2, 3, 4], [1, 2, 2]])]})
    found = harmonize.overlap_metrics(scans, ("background", "csf", "white"))
    weights = 1 / 16, 1 / 4
    expected = 2 * (weights[0] * 2 + weights[1] * 1) / (weights[0] * 7 + weights[1] * 4)
    assert value(found, "generalized_dice") == pytest.approx(expected)
    assert value(found, "dice") == pytest.approx((4 / 7 + 2 / 4) / 2)
    assert value(found, "iou") == pytest.approx((2 / 5 + 1 / 3) / 2)


def test_gaps_that_are_none_and_labels_that_are_missing_have_their_reason(test_data):
    no_gap = measured(Model(), test_data, {"source": SEGMENTORS["source"], "target": SEGMENTORS["source"]})
    assert "there is no gap" in harmonize.overlap_metrics(no_gap, LABELS)["tissue_gap_recovered"]["reason"]
    one = harmonize.overlap_metrics(measured(Model(), test_data, {"target": SEGMENTORS["target"]}), LABELS)
    assert value(one, "dice") > 0.9 and "both" in one["tissue_gap_recovered"]["reason"]
    none = harmonize.overlap_metrics(measured(Model(), test_data, {}), LABELS)
    assert none["dice"]["reason"] and none["lesion_gap_recovered"]["value"] is None


# --- lesions, edges, volumes ---


def test_lesions_keep_their_sign_where_contrast_does_and_all_flip_where_it_is_inverted(ideal, test_data):
    kept = harmonize.lesion_metrics(ideal, LABELS)
    assert value(kept, "lesion_sign_flips") == 0 and kept["lesion_sign_flips"]["n"] > 20
    assert value(kept, "lesion_count_ratio") == pytest.approx(1, abs=0.1)
    made, true = (value(kept, f"lesion_contrast_ratio{ending}") for ending in ("", "_truth"))
    assert made == pytest.approx(true, rel=0.1) and abs(true - 1) > 0.1
    flipped = harmonize.lesion_metrics(measured(INVERTED, test_data), LABELS)
    assert value(flipped, "lesion_sign_flips") > 0.95 and value(flipped, "lesion_contrast_ratio") < 0
    assert value(flipped, "lesion_contrast_ratio_truth") == pytest.approx(true)
    alone = harmonize.lesion_metrics(measured(Model(), data(4, paired=False, clean=False)), LABELS)
    assert value(alone, "lesion_contrast_ratio_truth") is None and value(alone, "lesion_contrast_ratio") > 0


def test_a_lesion_that_is_painted_over_is_seen():
    def healed(values):
        return np.where(np.abs(values - np.sqrt(GREY[4])) < 0.06, GREY[3], values**2)

    found = harmonize.lesion_metrics(measured(Model(there=healed), data(6, first=80)), LABELS)
    assert value(found, "lesion_contrast_ratio") < 0.2 and value(found, "lesion_count_ratio") < 0.3


def test_contrast_of_a_lesion_is_its_mean_less_that_around_it():
    labels = np.zeros((1, 12, 12), int)
    labels[0, 4:7, 4:7] = 2
    before = np.where(labels == 2, 0.5, 0.1)
    ((contrast, error, after),) = harmonize.lesion_contrasts(before, -before, labels, 2, np.ones(labels.shape, bool))
    assert (contrast, error, after) == pytest.approx((0.2, 0, -0.2), abs=1e-9)
    labels[0, 4:7, 5:7] = 0
    assert not list(harmonize.lesion_contrasts(before, before, labels, 2, np.ones(labels.shape, bool)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [(lambda x: x, 1), (lambda x: 0.5 * x + 0.2, 1), (lambda x: -x, -1), (lambda x: np.zeros_like(x), 0)],
)
def test_local_contrast_is_blind_to_gain_and_offset_and_sees_an_inversion(change, expected):
    image = np.random.default_rng(0).normal(size=(2, 20, 20))
    found = harmonize.contrast_correlation(image, change(image), np.ones(image.shape, bool))
    assert found == pytest.approx(expected)


def test_the_effect_of_atrophy_stays_with_an_ideal_model_and_goes_where_ventricles_are_filled(ideal):
    kept = harmonize.volume_metrics(ideal, LABELS)
    assert value(kept, "atrophy_effect_ratio") == pytest.approx(1, abs=0.05)
    assert value(kept, "tissue_volume_change") < 0.1

    def filled(values):
        return np.where((values > 0) & (values < 0.5), GREY[3], values**2)

    erased = harmonize.volume_metrics(measured(Model(there=filled), data(10, first=50)), LABELS)
    assert value(erased, "tissue_volume_change") > 0.3 and value(erased, "atrophy_effect_ratio") == 0
    few = harmonize.volume_metrics(measured(Model(), data(3)), LABELS)
    assert "8 test subjects" in few["atrophy_effect_ratio"]["reason"]


# --- boundaries of layers ---


def test_layers_between_boundaries_give_them_back_to_half_a_pixel():
    boundaries = np.array([[[3.2, 4.0, 2.9], [7.5, 9.1, 8.0]]])
    layers = harmonize.layers_between(boundaries, 12)
    assert layers.shape == (1, 12, 3) and layers[0, :, 0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.abs(harmonize.boundaries_between(layers, 2) - boundaries).max() <= 0.5


def layered(subjects):
    """Two layers under a vitreous, whose border is slanted; the source shows their square root."""
    parts = data(subjects)
    table = parts.take(np.arange(len(parts)))
    count, columns = len(parts), np.arange(SIZE) / SIZE
    upper = 8 + np.random.default_rng(0).uniform(0, 4, (count, 1)) + 2 * columns
    table["boundaries"] = np.stack([upper, upper + 10], axis=1).astype(np.float16)
    pure = np.array([0.1, 0.4, 0.7])[harmonize.layers_between(table["boundaries"], SIZE)]
    table["image"] = np.where(table["domain"][:, None, None] == 0, np.sqrt(pure), pure)[..., None] * 2 - 1
    return Examples.of({name: values for name, values in table.items() if name != "row"})


LAYERS = {"source": Thresholds(np.sqrt([0.1, 0.4, 0.7])), "target": Thresholds(np.array([0.1, 0.4, 0.7]))}


def test_boundaries_are_found_in_their_place_after_an_ideal_harmonisation_and_not_before():
    test = harmonize.Slices(layered(3), Model().config)
    found = harmonize.boundary_metrics(Model(), LAYERS, test, test.subjects(10_000))
    assert value(found, "boundary_distance") < 0.5 and value(found, "boundary_distance_source_on_source") < 0.5
    assert (
        value(found, "boundary_distance_target_on_target")
        < 0.5
        < 4
        < value(found, "boundary_distance_target_on_source")
    )
    assert list(found["boundary_distance"]["per_boundary"]) == ["1", "2"] and found["boundary_distance"]["n"] == 3
    alone = harmonize.boundary_metrics(Model(), {}, test, test.subjects(10_000))
    assert alone["boundary_distance"]["value"] is None and "no boundaries" in alone["boundary_distance"]["reason"]


@pytest.mark.backend("torch")
def test_layers_are_learned_from_boundaries_and_data_without_them_have_none(small):
    train = harmonize.Slices(layered(2), Model().config)
    nets = harmonize.fitted_layers(train, 0)
    assert set(nets) == {"source", "target"}
    assert nets["target"].predict(train.examples.take([0])["image"]).max() <= 2
    assert harmonize.fitted_layers(harmonize.Slices(data(1), Model().config), 0) == {}


# --- scans that are unlike the training's ---


def test_test_scans_of_the_source_are_near_those_of_other_scanners_far_and_that_is_said(test_data):
    train = harmonize.Slices(data(16, paired=False), Model().config)
    test = harmonize.Slices(test_data, Model().config)
    found = harmonize.familiarity_metrics(train, test, test.subjects(10_000), ("b", "a"))
    assert value(found, "scanner_distance") < 1 < 2 < found["scanner_distance"]["per_domain"]["a"]
    assert harmonize.unlike(found) == ""
    other = harmonize.Slices(test_data, dataclasses.replace(Model().config, source="a", target="b"))
    swapped = harmonize.familiarity_metrics(train, other, other.subjects(10_000), ("b", "a"))
    assert "another scanner or contrast" in harmonize.unlike(swapped) and "another scanner" in harmonize.headline(
        swapped
    )


def test_a_source_of_few_training_scans_has_no_distance_and_says_so(test_data):
    train, test = (harmonize.Slices(part, Model().config) for part in (data(4, paired=False), test_data))
    found = harmonize.familiarity_metrics(train, test, test.subjects(10_000), ("b", "a"))
    assert "4 training scans of the source" in found["scanner_distance"]["reason"]
    assert harmonize.unlike(found) == ""
    assert harmonize.familiar(Model(), {"train": data(16, paired=False)}.get).scans == 8


# --- networks that judge, and the whole ---


def test_noise_that_the_way_back_amplifies_is_seen(test_data):
    test = harmonize.Slices(test_data, Model().config)
    calm, nervous = (
        harmonize.noise_metrics(Model(back=back), test, test.subjects(10_000), 0)
        for back in (lambda x: 0.5 + 0 * x, lambda x: np.clip(4 * x - 1, 0, 1))
    )
    assert value(calm, "noise_sensitivity") == 0 and value(calm, "noise_similarity") == pytest.approx(1)
    shares = list(nervous["noise_sensitivity"]["per_noise"].values())
    assert shares == sorted(shares) and shares[0] > 0.01
    identity = harmonize.noise_metrics(IDENTITY, test, test.subjects(10_000), 0)["noise_sensitivity"]["per_noise"]
    assert identity["0.1"] < 0.1**2  # less than all of it: what leaves the range is cut


@pytest.fixture
def small(monkeypatch):
    """Judges of few slices and epochs."""
    for name, setting in tiny.HARMONIZE_JUDGES.items():
        monkeypatch.setattr(harmonize, name, setting)


@pytest.mark.backend("torch")
def test_classifiers_tell_the_scanner_of_an_identity_and_not_of_an_ideal_model(small, test_data):
    train = data(16, paired=False)
    accuracy = {}
    for name, model in (("identity", IDENTITY), ("ideal", Model())):
        both = [harmonize.Slices(part, model.config) for part in (train, test_data)]
        accuracy[name] = harmonize.scanner_metrics(model, *both, both[1].subjects(10_000), 0)
    assert value(accuracy["identity"], "scanner_accuracy") > 0.9
    assert value(accuracy["identity"], "scanner_accuracy_frozen") == value(accuracy["identity"], "scanner_accuracy")
    assert value(accuracy["identity"], "scanner_accuracy_retrained") > 0.9
    assert value(accuracy["ideal"], "scanner_accuracy_frozen") < 0.75


@pytest.mark.backend("torch")
def test_a_whole_evaluation_ends_in_numbers_and_figures(small, tmp_path):
    splits = {"train": data(6, paired=False), "test": data(3, first=60)}
    found, figures = harmonize.evaluate_run(Model(), splits.get, manifest(), judge_directory=tmp_path, num_samples=60)
    assert not failed(found)
    assert {figure.name for figure in figures} == {
        "Harmonised slices",
        "Segmentation after harmonisation",
        "Noise on what was made",
    }
    assert value(found, "error_to_truth") < value(found, "error_to_truth_source")
    assert "which the model" in harmonize.headline(found) or "does not beat" in harmonize.headline(found)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("without", ["mask", "target scans"])
def test_what_the_data_lack_is_said_and_nothing_fails(small, tmp_path, without):
    splits = {"train": data(4, paired=False, clean=False), "test": data(2, first=60, clean=False)}
    for name, part in splits.items():
        table = part.take(np.arange(len(part)), [one for one in part.names if one != without])
        if without == "target scans" and name == "test":
            table = {key: values[part["domain"] == 0] for key, values in table.items()}
        splits[name] = Examples.of({key: values for key, values in table.items() if key != "row"})
    labels = () if without == "mask" else LABELS
    found, _ = harmonize.evaluate_run(
        Model(), splits.get, manifest(mask_labels=labels), judge_directory=tmp_path, num_samples=60
    )
    assert not failed(found)
    assert all(one["reason"] for one in found.values() if one["value"] is None)
    assert harmonize.headline(found)


def test_a_picture_of_progress_shows_both_directions(test_data):
    grid = harmonize.sample_grid(Model(), test_data.take(np.arange(12)))
    assert grid.ndim == 3 and grid.dtype == np.uint8 and grid.shape[1] > 6 * SIZE
