"""DRAI's evaluation of models whose every right answer is known, with judges that know the truth.

An image of this world shows its content in its first row, the class and a size, and its style in the second, a position
and a hue. Content and style are independent.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.evaluation.golden import Averaging, images_of
from tfdisent import metrics as measure
from tfdisent.evaluation import drai
from tfdisent.examples import Examples

FACTORS = ("size", "position_x", "position_y", "hue")
CONTENT, STYLE = 4, 3  # class of three and size; position and hue
CONFIG = SimpleNamespace(content_dim=CONTENT, style_dim=STYLE, augmentation="none")


class Manifest:
    splits = ("train", "test")
    labels = ("a", "b", "c")
    factor_names = FACTORS


def drawn(content, style):
    """Images (N, 8, 8, 1) that show these codes."""
    image = np.zeros((len(content), 8, 8, 1), "float32")
    image[:, 0, :CONTENT, 0], image[:, 1, :STYLE, 0] = content, style
    return image


def seen(image):
    """The codes that images show."""
    return image[:, 0, :CONTENT, 0], image[:, 1, :STYLE, 0]


def examples(count, seed):
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, count)
    size, style = random.uniform(-1, 1, (count, 1)), random.uniform(-1, 1, (count, STYLE))
    condition = np.eye(3)[label]
    return {
        "image": drawn(np.concatenate([condition, size], axis=1), style),
        "condition": condition.astype("float32"),
        "label": label.astype("int32"),
        "factors": np.concatenate([size, style], axis=1).astype("float32"),
    }


TRAIN, TEST = examples(80, 0), examples(200, 1)


class Ideal(Averaging):
    """Reads both codes from where they are shown, and shows them where they are read."""

    codes = ("content", "style")

    def __init__(self, config=CONFIG):
        self.config = config

    def encode(self, image):
        content, style = (self.answered(code) for code in seen(np.asarray(image)))
        return {"content": content, "style": style}

    def decode(self, content, style):
        return self.answered(drawn(np.asarray(content), np.asarray(style)))

    def __call__(self, image):
        return self.decode(**self.encode(image))

    def content_of(self, condition):
        return np.concatenate([condition, np.zeros((len(condition), 1))], axis=1)

    def generate(self, condition, style, content_noise):
        size = content_noise[:, :1] / 10
        return self.decode(np.concatenate([condition, size], axis=1), style)


class CodesSwapped(Ideal):
    """Calls content style, and style content, and decodes them accordingly."""

    config = SimpleNamespace(content_dim=STYLE, style_dim=CONTENT, augmentation="none")

    def encode(self, image):
        codes = super().encode(image)
        return {"content": codes["style"], "style": codes["content"]}

    def decode(self, content, style):
        return super().decode(content=style, style=content)

    def generate(self, condition, style, content_noise):
        return super().decode(super().content_of(condition), content_noise[:, :STYLE])


class KnowsTheClass:
    """A classifier that reads the class from where it is shown."""

    features_dim, description = 4, "reads it"

    def features(self, image):
        return seen(images_of(image))[0]

    def logits(self, image):
        return seen(images_of(image))[0][:, :3]

    def accuracy(self, image, label):
        return float(np.mean(self.logits(image).argmax(axis=1) == label))


class KnowsThePosition:
    """A regressor that reads the position from where it is shown."""

    def predict(self, image):
        return seen(images_of(image))[1][:, :2]


@pytest.fixture(autouse=True)
def what_is_known(monkeypatch):
    """Judges that know the truth, and distances of features, which are tested elsewhere, left out."""
    monkeypatch.setattr(drai, "fit_classifier", lambda *arguments, **settings: KnowsTheClass())
    monkeypatch.setattr(drai, "fit_position_regressor", lambda *arguments, **settings: KnowsThePosition())
    monkeypatch.setattr(drai, "draw_figures", lambda *arguments: [])
    monkeypatch.setattr(measure, "frechet_distance", lambda *features: 1.0)
    monkeypatch.setattr(measure, "maximum_mean_discrepancy", lambda *features: 1.0)
    monkeypatch.setattr(measure, "density_and_coverage", lambda *features: (1.0, 1.0))
    monkeypatch.setattr(measure, "kernel_distance", lambda *features: (1.0, 0.0))
    monkeypatch.setattr(measure, "inception_score", lambda logits: 1.0)


def evaluated(model, tmp_path):
    splits = {"train": Examples.of(TRAIN), "test": Examples.of(TEST)}
    found, _ = drai.evaluate_run(model, splits.__getitem__, Manifest, judge_directory=tmp_path, num_samples=120)
    return {name: entry["value"] for name, entry in found.items()}, found


def test_a_model_without_fault_gets_the_best_of_every_figure(tmp_path):
    value, entries = evaluated(Ideal(), tmp_path)
    for name in (
        "conditional_generation_accuracy",
        "hybrid_class_accuracy",
        "hybrid_class_accuracy_other_class",
        "reconstruction_class_accuracy",
        "hybrid_position_r2_style",
        "class_from_content",
    ):
        assert value[name] == pytest.approx(1), name
    for name in ("", "_standardised"):
        assert value[f"cross_image_feature_consistency{name}"] == pytest.approx(0, abs=1e-5), name
    assert value["reconstruction_mean_absolute_error"] == pytest.approx(0, abs=1e-6)
    assert value["hybrid_position_r2_content"] < 0.1  # of 200 independent pairs
    assert value["class_from_style"] < 0.6  # 1 / 3 by chance
    for code, known in (("content", {"size"}), ("style", {"position_x", "position_y", "hue"})):
        read = entries[f"factors_from_{code}"]["per_factor"]
        assert {name for name, r2 in read.items() if r2 > 0.9} == known, code
        assert all(r2 < 0.3 for name, r2 in read.items() if name not in known), code


def test_a_model_with_its_codes_swapped_is_noticed(tmp_path):
    value, entries = evaluated(CodesSwapped(), tmp_path)
    same = np.mean(TEST["label"][:, None] == TEST["label"])  # of a pair drawn at random
    assert value["hybrid_class_accuracy_other_class"] == 0
    assert value["hybrid_class_accuracy"] == pytest.approx(same, abs=0.12)
    assert value["hybrid_position_r2_content"] == pytest.approx(1)
    assert value["hybrid_position_r2_style"] < 0
    assert value["class_from_style"] == pytest.approx(1)
    assert value["class_from_content"] < 0.6
    read = entries["factors_from_content"]["per_factor"]
    assert {name for name, r2 in read.items() if r2 > 0.9} == {"position_x", "position_y", "hue"}
    # What is right whatever the codes are called.
    assert value["conditional_generation_accuracy"] == value["reconstruction_class_accuracy"] == 1
    assert value["cross_image_feature_consistency"] == pytest.approx(0, abs=1e-6)


def test_hybrids_that_do_not_come_back_have_the_distance_of_their_codes(tmp_path):
    class Forgets(Ideal):
        """Shows every style as the same one."""

        def decode(self, content, style):
            return super().decode(content, np.zeros_like(style))

    value, _ = evaluated(Forgets(), tmp_path)
    style = np.abs(seen(TEST["image"])[1]).mean()
    assert value["cross_image_feature_consistency"] == pytest.approx(2 * style, rel=1e-4)  # of I_a and I_b
    assert value["reconstruction_mean_absolute_error"] == pytest.approx(style * STYLE / 64, rel=1e-4)
    codes = seen(TEST["image"])[1]
    in_deviations = np.abs(codes / codes.std(axis=0)).mean()
    assert value["cross_image_feature_consistency_standardised"] == pytest.approx(2 * in_deviations, rel=1e-4)
    assert value["hybrid_class_accuracy"] == 1


def test_a_model_that_shows_any_class_is_as_often_right_as_chance_has_it(tmp_path):
    class OneClass(Ideal):
        """Generates the first class, whatever it is asked for."""

        def generate(self, condition, style, content_noise):
            return super().generate(np.eye(3)[np.zeros(len(condition), int)], style, content_noise)

    value, _ = evaluated(OneClass(), tmp_path)
    rows = np.resize(np.arange(len(TEST["label"])), 120)
    assert value["conditional_generation_accuracy"] == pytest.approx(np.mean(TEST["label"][rows] == 0))


def test_pictures_of_training_show_the_averaged_weights(monkeypatch):
    shown = {name: TEST[name][:6] for name in ("image", "condition")}
    grids = []
    monkeypatch.setattr(drai.figures, "image_grid", lambda images, columns: grids.append(images))
    drai.sample_grid(Ideal(), shown)
    real, reconstructed, generated = np.split(grids[0], 3)
    np.testing.assert_array_equal(real, shown["image"])
    np.testing.assert_array_equal(reconstructed, shown["image"])
    np.testing.assert_array_equal(seen(generated)[0][:, :3], shown["condition"])


def test_real_images_in_the_place_of_generated_ones_have_their_classes_and_are_on_one_side_only():
    labels = np.repeat([0, 1, 2], [50, 30, 5])
    wanted = np.repeat([0, 1, 2], [20, 20, 10])
    rows = drai.stand_ins(labels, wanted)
    assert np.bincount(labels[rows]).tolist() == [20, 20, 5]  # of the last there are no more
    assert len(np.unique(rows)) == len(rows)
    half = drai.stand_ins(labels, wanted, half=True)
    assert np.bincount(labels[half]).tolist() == [20, 15, 3]


@pytest.mark.parametrize("features_dim", [4, 200])
def test_each_distance_has_its_floor_of_real_images_that_are_not_in_the_reference(features_dim, tmp_path, monkeypatch):
    """Also where test images are too few for the features, so that training images are in the reference too."""
    monkeypatch.setattr(KnowsTheClass, "features_dim", features_dim)
    compared = []

    def distance(real, other):
        compared.append((real, other))
        return 1.0

    monkeypatch.setattr(measure, "frechet_distance", distance)
    value, entries = evaluated(Ideal(), tmp_path)
    for name in ("frechet_distance", "kernel_distance", "maximum_mean_discrepancy", "density", "coverage"):
        assert value[f"{name}_floor"] == 1, name
        assert "what a perfect generator would have" in entries[f"{name}_floor"]["protocol"]
    assert "by chance" not in entries["kernel_distance"]["protocol"]
    floor = next((real, other) for real, other in compared if len(other) == entries["frechet_distance_floor"]["n"])
    rows = {tuple(row) for row in floor[0].tolist()}
    assert not any(tuple(row) in rows for row in floor[1].tolist())


@pytest.mark.parametrize("planted", [0.0, 0.5])
def test_planted_copies_are_found_in_pixels_and_in_features_turned_ones_too(planted):
    class Sums:
        """A classifier whose features are the image on a coarser grid."""

        description = "sums"

        def features(self, images):
            images = images_of(images)
            return images.reshape(len(images), 4, 4, 4, 4).mean(axis=(2, 4)).reshape(len(images), -1)

    def images(count, seed):
        return np.random.default_rng(seed).uniform(-1, 1, (count, 16, 16, 1)).astype("float32")

    train, test, generated = images(150, 0), images(100, 1), images(100, 2)
    copied = int(100 * planted)
    generated[:copied] = np.rot90(train[:copied], 1, axes=(1, 2))
    found, figure = drai.memorisation_check(
        generated, Examples.of({"image": train}), Examples.of({"image": test}), Sums()
    )
    for ending in ("", "_features"):
        share = found[f"memorisation_share_closer{ending}"]["value"]
        assert share == pytest.approx(planted + 0.01, abs=0.03), ending
    assert "turned or mirrored" in figure.caption


def test_a_model_of_crops_is_compared_with_crops():
    test = Examples.of({"image": np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 1)).astype("float32")})
    for augmentation, is_cropped in (("none", False), ("flip", False), ("flip,crop", True)):
        shown, how = drai.as_trained(test, test, augmentation)
        images = images_of(shown["test"].select())
        assert np.array_equal(images, images_of(test.select())) != is_cropped
        assert ("cropped" in how) == is_cropped
        np.testing.assert_array_equal(images, images_of(shown["test"].select()))  # the same each time
