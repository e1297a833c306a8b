"""Evaluation of translation: an oracle gets the best of every figure, a model that shows nothing the worst."""

import contextlib
import json
import pathlib

import keras
import numpy as np
import pytest

from tfdisent import examples
from tfdisent.evaluation import slices, unified
from tfdisent.evaluation.entries import failed
from tfdisent.examples import Examples
from tfdisent.report.tables import METRICS
from tfdisent.systems.unified import Unified, UnifiedConfig

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TF-GAN's Inception score is computed once"
)

NAMES = ("T1", "T2", "FLAIR")
CONFIG = UnifiedConfig(image_size=32, modalities=NAMES, filters=2, discriminator_filters=2)


class Manifest:
    mask_labels = ("background", "tumour")
    modalities = NAMES


def subjects(num, seed, slices=2):
    """Ellipses of two tissues with a square lesion; modalities differ in the tissues' order of brightness."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    tissue = np.zeros((num * slices, 32, 32), int)
    for k in range(len(tissue)):
        wide, inner = random.uniform(0.7, 0.9), random.uniform(0.3, 0.5)
        tissue[k][x**2 + (y / wide) ** 2 < 0.8] = 1
        tissue[k][x**2 + (y / wide) ** 2 < inner] = 2
        top, left = random.integers(12, 18, 2)
        tissue[k, top : top + 4, left : left + 4] = 3
    shades = np.array([[0, 0.4, 0.9, 0.2], [0, 0.8, 0.3, 1.0], [0, 0.6, 0.5, 0.9]])
    image = np.stack([shade[tissue] for shade in shades], axis=-1) * 2 - 1
    return {
        "image": image.astype("float32"),
        "available": np.ones((len(image), 3), "float32"),
        "mask": (tissue == 3)[..., None].astype("uint8"),
        "subject": np.repeat(np.arange(num), slices).astype(bytes),
        "slice_index": np.tile(np.arange(slices), num),
    }


TRAIN, TEST = subjects(12, seed=0), subjects(4, seed=1)


def rows_of(images):
    """Which test slices these are, in whatever modality."""
    truth = np.moveaxis(TEST["image"], -1, 1)[..., None]  # (N, M, H, W, 1)
    return [int(np.argmin(np.abs(truth - image).mean(axis=(2, 3, 4)).min(axis=1))) for image in np.asarray(images)]


def modality_of(row, image):
    """Which modality of the test slice `row` an image is."""
    return int(np.argmin(np.abs(TEST["image"][row] - image).mean(axis=(0, 1))))


class Oracle:
    """Knows the truth of every test image, and its anatomy is the same in all modalities."""

    needs_source = False
    config = CONFIG
    pairs = Unified(CONFIG).pairs
    averaged = contextlib.nullcontext

    def translate(self, image, target):
        return TEST["image"][rows_of(image)][..., target, None]

    def encode(self, image):
        return {"level_1": TEST["mask"][rows_of(image)].astype("float32")}


class Grey(Oracle):
    """Whatever it is given, it shows the same grey; its anatomy is the image itself."""

    def translate(self, image, target):
        return np.zeros_like(image)

    def encode(self, image):
        return {"level_1": np.asarray(image)}


def evaluate(model, tmp_path, train=TRAIN, test=TEST, manifest=Manifest):
    splits = {"train": Examples.of(train), "test": Examples.of(test)}
    return unified.evaluate_run(model, splits.__getitem__, manifest, judge_directory=tmp_path)


@pytest.fixture
def quick_segmentor(monkeypatch):
    """A segmentor that needs no training and finds nothing: each slice with its lesion of 16 pixels scores 1 / 17."""

    class Blind:
        def __init__(self, *arguments, **settings):
            pass

        def fit(self, *arguments, **settings):
            pass

        def predict(self, images):
            return np.zeros(images.shape[:3], "uint8")

    monkeypatch.setattr(unified, "Segmentor", Blind)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def of_oracle(directory):
    return evaluate(Oracle(), directory)


@pytest.fixture
def of_grey(directory, quick_segmentor):
    return evaluate(Grey(), directory)


def test_perfect_translations_have_no_error(of_oracle):
    metrics, _ = of_oracle
    for ending in ("", "_brain"):
        assert metrics[f"ssim{ending}"]["value"] == pytest.approx(1)
        assert metrics[f"mean_absolute_error{ending}"]["value"] == 0
        assert metrics[f"psnr{ending}"]["value"] is None  # infinite
        assert set(metrics[f"psnr{ending}"]["per_pair"].values()) == {None}
    assert metrics["absolute_error_sum"]["value"] == 0
    assert metrics["mean_absolute_error_lesion"]["value"] == 0
    assert metrics["mean_absolute_error_elsewhere"]["value"] == 0


def test_perfect_translations_are_segmented_as_the_real_slices(of_oracle):
    metrics, _ = of_oracle
    assert metrics["dice_real"]["value"] > 0.5
    assert metrics["dice"]["value"] == pytest.approx(metrics["dice_real"]["value"])
    assert set(metrics["dice"]["per_modality"]) == set(NAMES)
    assert set(metrics["dice_alone"]["per_modality"]) == set(NAMES)
    assert metrics["dice"]["per_cut"].keys() == {"slices with a lesion", "subjects as wholes"}


def test_an_anatomy_without_modality_has_no_distance_between_modalities(of_oracle, of_grey):
    assert of_oracle[0]["anatomy_distance_ratio"]["value"] == 0
    assert of_grey[0]["anatomy_distance_ratio"]["value"] > 1  # of the images themselves
    assert set(of_grey[0]["anatomy_distance_ratio"]["per_pair"]) == {
        "T1 and T2",
        "T1 and FLAIR",
        "T2 and FLAIR",
    }


def test_each_pair_of_different_modalities_is_measured(of_grey):
    metrics, _ = of_grey
    pairs = metrics["ssim_brain"]["per_pair"]
    assert len(pairs) == 6 and "T1 to T1" not in pairs
    assert metrics["ssim_brain"]["value"] == pytest.approx(np.mean(list(pairs.values())))
    truth = (TEST["image"][..., 1] + 1) / 2
    expected = np.abs(truth - 0.5).mean()
    assert metrics["mean_absolute_error"]["per_pair"]["T1 to T2"] == pytest.approx(expected)
    total = metrics["absolute_error_sum"]["per_pair"]["T1 to T2"]
    assert total == pytest.approx(expected * 32 * 32)


def test_a_lesion_that_is_not_shown_is_an_error_in_the_lesion(of_grey):
    metrics, _ = of_grey
    # Grey is 0.5, lesions are 0.2, 1 and 0.9.
    assert metrics["mean_absolute_error_lesion"]["value"] == pytest.approx(1.2 / 3, abs=1e-6)


def test_the_lookup_table_stands_beside_the_model_in_every_measure_and_in_the_headline(of_grey):
    metrics, _ = of_grey
    for kind in ("affine", "lookup"):
        for name in ("ssim_brain", "absolute_error_sum", "mean_absolute_error_lesion", "dice"):
            assert metrics[f"{name}_{kind}"]["value"] is not None, (name, kind)
        assert len(metrics[f"psnr_brain_{kind}"]["per_pair"]) == 6
    # Four shades that all differ are a table of four entries.
    assert metrics["ssim_brain_lookup"]["value"] == pytest.approx(1, abs=1e-3)
    assert metrics["mean_absolute_error_lesion_lookup"]["value"] < 0.002
    assert metrics["ssim_brain_affine"]["value"] < 0.96
    assert "without any network, reaches SSIM 1.000, which the model does not beat" in unified.headline(metrics)


def test_a_model_that_beats_the_lookup_table_is_said_to():
    values = {"ssim_brain": 0.95, "ssim_brain_lookup": 0.91, "mean_absolute_error_lesion_lookup": 0.104}
    values["mean_absolute_error_lesion"] = 0.08
    said = unified.against_lookup(values)
    assert "SSIM 0.910, which the model beats; in lesions its error is 0.104." in said


def test_errors_are_given_for_each_part_of_a_lesion(tmp_path, quick_segmentor):
    class Parts(Manifest):
        mask_labels = ("background", "core", "oedema")

    mask = TEST["mask"].copy()
    mask[:, :, 14:] *= 2
    metrics, _ = evaluate(Grey(), tmp_path, test={**TEST, "mask": mask}, manifest=Parts)
    found = metrics["mean_absolute_error_lesion"]
    assert found["per_part"] == pytest.approx({"core": 0.4, "oedema": 0.4}, abs=1e-6)
    assert metrics["mean_absolute_error_lesion_lookup"]["per_part"].keys() == {"core", "oedema"}


def test_a_lesion_drawn_at_the_other_side_is_an_error_in_the_tissue_opposite():
    class Mirrors(Oracle):
        """Shows every lesion at its place and once more, mirrored."""

        def translate(self, image, target):
            rows = rows_of(image)
            lesion = TEST["mask"][rows][..., 0] > 0
            opposite = unified.mirrored(lesion, slices.brain(TEST["image"][rows])) & ~lesion
            return np.where(opposite, 1.0, TEST["image"][rows][..., target])[..., None]

    found = {}
    for model in (Oracle(), Mirrors()):
        translated = unified.Translations(model, Examples.of(TEST), np.arange(len(TEST["image"])))
        entries = unified.lesion_metrics(translated, {}, Manifest.mask_labels)
        found[type(model)] = {name: entry["value"] for name, entry in entries.items()}
    assert found[Oracle]["mean_absolute_error_opposite"] == found[Mirrors]["mean_absolute_error_lesion"] == 0
    opposite, elsewhere = (found[Mirrors][f"mean_absolute_error_{where}"] for where in ("opposite", "elsewhere"))
    assert opposite > 0.2 > 5 * elsewhere > 0


def test_mirroring_is_about_the_middle_of_the_brain_not_of_the_picture():
    inside, lesion = np.zeros((1, 4, 12), bool), np.zeros((1, 4, 12), bool)
    inside[:, :, 2:9], lesion[:, 1, 3] = True, True  # columns 2 to 8, the middle is 5
    assert np.argwhere(unified.mirrored(lesion, inside)).tolist() == [[0, 1, 7]]
    assert not unified.mirrored(lesion, np.zeros_like(inside)).any()


def test_overlaps_are_of_slices_of_those_with_a_lesion_and_of_subjects():
    truth, found = np.zeros((3, 2, 4), bool), np.zeros((3, 2, 4), bool)
    truth[0, 0], found[0, 0, :2] = True, True  # 2 of 4 pixels
    found[1, 0, :1] = True  # a pixel where there is none; the third has neither
    overlaps = unified.Overlaps()
    overlaps.add(found[:2], truth[:2], np.array([b"a", b"a"]))
    overlaps.add(found[2:], truth[2:], np.array([b"b"]))
    assert overlaps.lesions == pytest.approx(5 / 7)
    assert overlaps.slices == pytest.approx((5 / 7 + 1 / 2 + 1) / 3)
    assert overlaps.volumes == pytest.approx(5 / 8)  # of a: 2 both, 3 found, 4 true


def test_a_probe_reads_the_modality_from_an_anatomy_that_is_the_image_and_not_from_one_without(of_oracle, of_grey):
    assert of_grey[0]["modality_from_anatomy"]["value"] > 0.6
    assert of_oracle[0]["modality_from_anatomy"]["value"] == pytest.approx(1 / 3, abs=0.1)
    assert of_grey[0]["modality_from_anatomy"]["per_level"].keys() == {"level_1"}
    assert "chance is 0.333" in of_grey[0]["modality_from_anatomy"]["protocol"]


def test_the_ratio_of_anatomies_is_the_mean_of_the_levels_whatever_their_scale():
    class Levels(Oracle):
        """Level 1 has a ratio of 2 and a small scale, level 2 one of 0.5; level 3 says nothing."""

        config = UnifiedConfig(image_size=32, modalities=("T1", "T2"), filters=2, discriminator_filters=2)

        def encode(self, image):
            rows = np.array(rows_of(image))
            kind = np.array([modality_of(row, one) for row, one in zip(rows, image, strict=True)])
            subject = rows // 2
            levels = {"level_1": 0.02 * kind + 0.01 * subject, "level_2": 100.0 * kind + 200.0 * subject}
            levels["level_3"] = 0.0 * kind
            return {name: values.astype("float32")[:, None, None, None] for name, values in levels.items()}

    test = {name: values[:4] for name, values in TEST.items()}
    test |= {"image": TEST["image"][:4, ..., :2], "available": np.ones((4, 2), "float32")}
    found = unified.anatomy_metrics(Levels(), Examples.of(test), np.arange(4), 0)["anatomy_distance_ratio"]
    assert found["per_level"] == pytest.approx({"level_1": 2, "level_2": 0.5}, rel=1e-4)
    assert found["value"] == pytest.approx(1.25, rel=1e-4)
    assert found["per_pair"] == pytest.approx({"T1 and T2": 1.25}, rel=1e-4)


def test_missing_modalities_are_left_out(directory, quick_segmentor):
    available = TEST["available"].copy()
    available[:4, 2] = 0
    image = TEST["image"].copy()
    image[:4, ..., 2] = -1
    metrics, _ = evaluate(Grey(), directory, test={**TEST, "image": image, "available": available})
    assert metrics["ssim"]["n"] == 8 + 8 + 4 * 4  # T1 and T2 both ways, and four pairs with FLAIR
    assert metrics["dice_real"]["n"] == 4
    assert metrics["anatomy_distance_ratio"]["n"] == 4


def test_without_masks_nothing_is_said_of_lesions(directory):
    class NoMask(Manifest):
        mask_labels = ()

    data = [{k: v for k, v in part.items() if k != "mask"} for part in (TRAIN, TEST)]
    metrics, figures = evaluate(Grey(), directory, *data, manifest=NoMask)
    assert not any("lesion" in name or "dice" in name for name in metrics)
    assert "lesion" not in unified.headline(metrics)
    assert [figure.name for figure in figures] == [
        "Every modality from every other",
        "Truth and error",
    ]


def test_without_any_lesion_it_is_said(directory):
    empty = [{**part, "mask": np.zeros_like(part["mask"])} for part in (TRAIN, TEST)]
    metrics, _ = evaluate(Grey(), directory, *empty)
    for name in ("dice", "mean_absolute_error_lesion"):
        assert metrics[name]["value"] is None
        assert "lesion" in metrics[name]["reason"]


def test_a_model_that_knows_some_pairs_is_measured_on_those(directory, quick_segmentor):
    class OnePair:
        needs_source = True
        config = CONFIG
        pairs = ((1, 0),)
        averaged = contextlib.nullcontext

        def translate(self, image, target, source):
            assert source == 1
            return TEST["image"][rows_of(image)][..., target, None]

    model = OnePair()
    metrics, figures = evaluate(model, directory)
    assert set(metrics["ssim"]["per_pair"]) == {"T2 to T1"}
    assert "dice" not in metrics and metrics["dice_real"]["value"] == pytest.approx(1 / 17)
    assert "anatomy_distance_ratio" not in metrics
    assert unified.headline(metrics)
    assert len(figures) == 2
    assert unified.sample_grid(model, TEST).dtype == np.uint8


def test_metrics_are_json_and_the_headline_has_their_numbers(of_grey):
    metrics, _ = of_grey
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert f"SSIM {metrics['ssim_brain']['value']:.3f}" in unified.headline(metrics)


def test_every_metric_has_a_name_in_print(of_oracle):
    assert of_oracle[0].keys() <= METRICS.keys()


def test_streamed_values_are_those_that_whole_arrays_gave(tmp_path, monkeypatch):
    """Of an untrained model, as measured on whole splits in memory; here in batches of 3 slices."""
    monkeypatch.setattr(examples, "LARGEST_BATCH", 3)
    keras.utils.set_random_seed(0)
    metrics, _ = evaluate(Unified(CONFIG), tmp_path)
    expected = json.loads((pathlib.Path(__file__).parent / "values.json").read_text())["unified"]
    for name, value in expected.items():
        metric, _, part = name.partition("/")
        found = metrics[metric]
        found = {**found.get("per_pair", {}), **found.get("per_modality", {})}[part] if part else found["value"]
        assert found == pytest.approx(value, rel=2e-3), name


PATTERNS = {
    "no training slice has both T2 and FLAIR": ([[1, 1, 0], [1, 0, 1]], [[1, 1, 1]]),
    "no test slice has both T2 and FLAIR": ([[1, 1, 1]], [[1, 1, 0], [1, 0, 1]]),
    "each training subject has one contrast": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 1]]),
    "each subject has one contrast": ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "one contrast is nowhere": ([[1, 1, 0]], [[1, 1, 0]]),
    "one contrast alone": ([[1, 0, 0]], [[1, 0, 0]]),
    "other contrasts in test than in training": ([[1, 1, 0]], [[0, 1, 1]]),
    "a test slice without any contrast": ([[1, 1, 1]], [[0, 0, 0], [1, 1, 1]]),
    "nothing is available": ([[0, 0, 0]], [[0, 0, 0]]),
}


def with_available(part, pattern):
    available = np.resize(np.array(pattern, "float32"), (len(part["image"]), 3))
    image = np.where(available[:, None, None] > 0, part["image"], -1).astype("float32")
    return {**part, "image": image, "available": available}


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_any_mix_of_contrasts_ends_in_a_report(pattern, masks, directory, quick_segmentor, tmp_path):
    """Nothing fails: each metric has a value, or the reason why it has none; and there is a headline to it."""
    train, test = (with_available(part, one) for part, one in zip((TRAIN, TEST), pattern, strict=True))
    manifest = Manifest
    if not masks:
        train, test = ({k: v for k, v in part.items() if k != "mask"} for part in (train, test))
        manifest = type("NoMask", (Manifest,), {"mask_labels": ()})
    metrics, figures = evaluate(Grey(), directory, train, test, manifest)
    assert failed(metrics) == []
    assert all(entry["value"] is not None or entry.get("reason") for entry in metrics.values()), metrics
    headline = unified.headline(metrics)
    assert headline and "nan" not in headline
    assert figures and json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    if pattern is PATTERNS["no training slice has both T2 and FLAIR"]:
        assert "no training slice has both" in metrics["ssim_brain_affine"]["reason"]
        assert "T2 to FLAIR" in metrics["ssim_brain_affine"]["reason"]
        assert metrics["ssim_brain"]["value"] > 0 and metrics["ssim_brain_affine"]["per_pair"].keys() == {
            "T1 to T2",
            "T2 to T1",
            "T1 to FLAIR",
            "FLAIR to T1",
        }
    if pattern is PATTERNS["each subject has one contrast"]:
        assert "any pair" in metrics["ssim"]["reason"] and "could not be measured" in headline


def test_a_part_that_fails_takes_nothing_else_with_it(directory, quick_segmentor, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("out of order")

    monkeypatch.setattr(unified, "fit_classifier", broken)
    metrics, figures = evaluate(Grey(), directory)
    assert failed(metrics) == ["inception_score"] and "out of order" in metrics["inception_score"]["reason"]
    assert metrics["dice_real"]["value"] == pytest.approx(1 / 17) and len(figures) == 2 and unified.headline(metrics)
