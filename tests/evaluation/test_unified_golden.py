"""Evaluation of translation by models whose every error is known."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from tests.evaluation.golden import Averaging, images_of
from tfdisent.evaluation import unified
from tfdisent.examples import Examples
from tfdisent.systems.unified import Unified, UnifiedConfig

NAMES = ("T1", "T2", "FLAIR")
CONFIG = UnifiedConfig(image_size=32, modalities=NAMES, filters=2, discriminator_filters=2)
ERROR, LESION_ERROR = 0.2, 0.6  # of images in [-1, 1]: 0.1 and 0.3 in [0, 1]


class Manifest:
    mask_labels = ("background", "tumour")
    modalities = NAMES


def examples(count, seed):
    """Discs of smooth noise, each modality with its own, on a background of -1; with a square lesion."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    inside = np.hypot(x, y) < 0.75
    waves = random.uniform(2, 6, (2, count, 1, 1, 3))
    image = 0.3 * np.sin(waves[0] * x[..., None]) * np.cos(waves[1] * y[..., None])
    mask = np.zeros((count, 32, 32, 1), "uint8")
    mask[:, 12:18, 12:18] = 1
    return {
        "image": np.where(inside[..., None], image, -1).astype("float32"),
        "available": np.ones((count, 3), "float32"),
        "mask": mask,
        "subject": np.arange(count).astype(bytes),
        "slice_index": np.zeros(count, int),
    }


TRAIN, TEST = examples(12, 0), examples(6, 1)
BRAIN = (TEST["image"] != -1).any(axis=-1)
LESION = TEST["mask"][..., 0] > 0


def places_of(images):
    """Which test slices these are, and in which modalities."""
    truth = np.moveaxis(TEST["image"], -1, 1)[..., None]
    apart = [np.abs(truth - image).mean(axis=(2, 3, 4)) for image in np.asarray(images)]
    return np.unravel_index([int(np.argmin(one)) for one in apart], truth.shape[:2])


class Known(Averaging):
    """Translates with an error of one size in the brain, of another in the lesion, and shows a bright background."""

    needs_source = False
    config = CONFIG
    pairs = Unified(CONFIG).pairs
    background = 1.0

    def translate(self, image, target):
        rows, _ = places_of(image)
        made = TEST["image"][rows][..., target] + ERROR
        made = np.where(LESION[rows], made + LESION_ERROR - ERROR, made)
        return self.answered(np.where(BRAIN[rows], made, self.background)[..., None])

    def encode(self, image):
        """Of another subject all that is 3 is elsewhere, a mean difference of 1; modalities differ by 0.1, 0.3, 0.2."""
        rows, modalities = places_of(image)
        anatomy = 3 * np.eye(len(TEST["image"]))[rows] + np.array([0.0, 0.1, 0.3])[modalities][:, None]
        return {"level_1": self.answered(anatomy[:, None, None].astype("float32"))}


class Segments:
    """A segmentor that finds of the lesion's 36 pixels, row by row, the share of its channels that are real.

    One that is trained on one modality finds half of them on slices of this modality.
    """

    def __init__(self, shape, seed, **settings):
        self.channels = shape[-1]

    def fit(self, images, masks=None, **settings):
        self.learnt = images_of(images)
        assert self.learnt.shape[-1] == self.channels

    def predict(self, images):
        shown, real = images_of(images), TEST["image"]
        share = np.isclose(shown, real).all(axis=(1, 2)).mean(axis=-1) if self.channels == 3 else self._alone(shown)
        found = np.zeros(shown.shape[:3], "uint8")
        for k, of_it in enumerate(share):
            found[k][tuple(np.argwhere(LESION[k])[: round(36 * of_it)].T)] = 1
        return found

    def _alone(self, shown):
        (own,) = [k for k in range(3) if np.array_equal(self.learnt, TRAIN["image"][..., [k]])]
        return np.full(len(shown), 0.5 if np.array_equal(shown, TEST["image"][..., [own]]) else 0.0)


@pytest.fixture(autouse=True)
def what_is_known(monkeypatch):
    monkeypatch.setattr(unified, "Segmentor", Segments)
    monkeypatch.setattr(unified, "inception", lambda *arguments: {})
    monkeypatch.setattr(unified, "draw_figures", lambda *arguments: [])


def evaluated(model, directory):
    splits = {"train": Examples.of(TRAIN), "test": Examples.of(TEST)}
    entries, _ = unified.evaluate_run(model, splits.__getitem__, Manifest, judge_directory=directory)
    return {name: entry["value"] for name, entry in entries.items()}, entries


@pytest.fixture
def found(tmp_path):
    return evaluated(Known(), tmp_path)


def unit(image):
    return (image + 1) / 2


def made(target):
    """What `Known` translates into a modality."""
    image = TEST["image"][..., target] + np.where(LESION, LESION_ERROR, ERROR)
    return np.where(BRAIN, image, Known.background)


def test_errors_and_psnr_are_those_on_the_scale_of_0_to_1_inside_the_brain_and_on_the_slice(found):
    value, _ = found
    lesion, brain, pixels = LESION[0].sum(), BRAIN[0].sum(), 32 * 32
    absolute = lesion * LESION_ERROR / 2 + (brain - lesion) * ERROR / 2
    squared = lesion * (LESION_ERROR / 2) ** 2 + (brain - lesion) * (ERROR / 2) ** 2
    outside = pixels - brain  # an error of 1 each
    assert value["mean_absolute_error_brain"] == pytest.approx(absolute / brain, rel=1e-5)
    assert value["mean_absolute_error"] == pytest.approx((absolute + outside) / pixels, rel=1e-5)
    assert value["absolute_error_sum"] == pytest.approx(absolute + outside, rel=1e-5)
    assert value["psnr_brain"] == pytest.approx(-10 * np.log10(squared / brain), rel=1e-5)
    assert value["psnr"] == pytest.approx(-10 * np.log10((squared + outside) / pixels), rel=1e-5)


def test_ssim_is_scikit_images_of_range_1_averaged_inside_the_brain_or_over_the_slice(found):
    value, entries = found
    whole, brain = {}, {}
    for j, name in enumerate(NAMES):
        for k in range(len(LESION)):
            mean, similarity = structural_similarity(
                unit(TEST["image"][k, ..., j].astype("float64")), unit(made(j)[k]), data_range=1.0, full=True
            )
            whole.setdefault(name, []).append(mean)
            brain.setdefault(name, []).append(similarity[3:-3, 3:-3][BRAIN[k, 3:-3, 3:-3]].mean())
    pairs = {f"{one} to {other}" for one in NAMES for other in NAMES if one != other}
    for metric, expected in (("ssim", whole), ("ssim_brain", brain)):
        assert entries[metric]["per_pair"].keys() == pairs
        for pair, found_value in entries[metric]["per_pair"].items():
            assert found_value == pytest.approx(np.mean(expected[pair.split(" to ")[1]]), abs=1e-6), (metric, pair)
        assert value[metric] == pytest.approx(np.mean(list(entries[metric]["per_pair"].values())))
    assert abs(value["ssim_brain"] - value["ssim"]) > 0.02


def test_errors_in_the_lesion_and_elsewhere_are_told_apart(found):
    value, _ = found
    assert value["mean_absolute_error_lesion"] == pytest.approx(LESION_ERROR / 2, rel=1e-5)
    assert value["mean_absolute_error_elsewhere"] == pytest.approx(ERROR / 2, rel=1e-5)


def test_dice_is_of_real_slices_of_one_alone_and_of_one_with_those_made_from_it(found):
    value, entries = found

    def dice(pixels):
        """Of a lesion of 36 pixels of which so many are found and no others."""
        return (2 * pixels + 1) / (36 + pixels + 1)

    assert value["dice_real"] == 1
    assert value["dice_alone"] == pytest.approx(dice(18))
    assert entries["dice_alone"]["per_modality"] == pytest.approx(dict.fromkeys(NAMES, dice(18)))
    assert value["dice"] == pytest.approx(dice(12))  # the one of three that is real
    assert entries["dice"]["per_modality"] == pytest.approx(dict.fromkeys(NAMES, dice(12)))
    assert value["dice_lookup"] == value["dice_affine"] == pytest.approx(dice(12))
    expected = {"slices with a lesion": dice(12), "subjects as wholes": dice(12)}
    assert entries["dice"]["per_cut"] == pytest.approx(expected)


def test_the_distance_of_anatomies_is_that_of_modalities_divided_by_that_of_subjects(found):
    value, entries = found
    assert value["anatomy_distance_ratio"] == pytest.approx(0.2, rel=1e-4)
    expected = {"T1 and T2": 0.1, "T1 and FLAIR": 0.3, "T2 and FLAIR": 0.2}
    assert entries["anatomy_distance_ratio"]["per_pair"] == pytest.approx(expected, rel=1e-4)


def test_anatomies_that_are_all_the_same_have_no_ratio_and_the_rest_is_measured(tmp_path):
    class Collapsed(Known):
        def encode(self, image):
            return {"level_1": np.ones((len(image), 1, 1, 6), "float32")}

    value, entries = evaluated(Collapsed(), tmp_path)
    assert value["anatomy_distance_ratio"] is None
    assert "codes of different subjects are equal" in entries["anatomy_distance_ratio"]["reason"]
    assert value["dice_real"] == 1


def test_pictures_of_training_show_the_averaged_weights(monkeypatch):
    shown = {}
    monkeypatch.setattr(unified.figures, "columns_grid", shown.update)
    unified.sample_grid(Known(), TEST)
    np.testing.assert_array_equal(shown["T1"], TEST["image"][:4, ..., :1])
    for j, name in enumerate(NAMES):
        np.testing.assert_allclose(shown[f"made {name}"][..., 0], made(j)[:4], atol=1e-6)
        np.testing.assert_array_equal(shown[f"true {name}"], TEST["image"][:4, ..., j : j + 1])
