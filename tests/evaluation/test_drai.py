import inspect
import json
import pathlib

import keras
import numpy as np
import pytest

from tests.tiny import NARROW
from tfdisent import examples
from tfdisent.baselines.drai import CInfoGAN
from tfdisent.evaluation import drai
from tfdisent.evaluation.arrays import in_batches
from tfdisent.evaluation.entries import failed
from tfdisent.examples import Examples
from tfdisent.papers import paper_of
from tfdisent.phantoms import skin
from tfdisent.report.tables import METRICS
from tfdisent.systems.drai import DRAI, DRAIConfig

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TF-GAN's metrics are computed once")


def arrays(num, seed):
    phantom = skin.make(num, size=16, seed=seed)
    return {
        "image": phantom.images.astype("float32") / 127.5 - 1,
        "condition": np.eye(3, dtype="float32")[phantom.labels],
        "label": phantom.labels.astype("int32"),
        "factors": phantom.factors,
    }


def config():
    return DRAIConfig(**NARROW)


@pytest.fixture(scope="module")
def model():
    return DRAI(config())


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def evaluated(model, judges):
    return evaluate(model, judges)


def evaluate(model, judges):
    said = []
    metrics, figures = drai.evaluate(
        model,
        Examples.of(arrays(60, 0)),
        Examples.of(arrays(30, 1)),
        label_names=list(skin.LABELS),
        factor_names=list(skin.FACTORS),
        judge_directory=judges,
        judge_epochs=1,
        num_samples=40,
        log=said.append,
    )
    return metrics, figures, said


def test_every_metric_has_its_protocol_and_is_json(evaluated):
    metrics, _, said = evaluated
    json.dumps(metrics, allow_nan=False)
    for name, entry in metrics.items():
        assert entry.keys() - {"per_factor"} == {"value", "std", "n", "extractor", "protocol"}, name
        assert entry["n"] > 0 and entry["protocol"], name
    for code in ("content", "style"):
        assert f"class_from_{code}" in metrics
        assert tuple(metrics[f"factors_from_{code}"]["per_factor"]) == skin.FACTORS
    assert said


def test_an_untrained_model_is_as_far_from_the_data_as_an_untrained_one(evaluated):
    metrics, *_ = evaluated
    ratio = metrics["frechet_distance"]["value"] / metrics["frechet_distance_untrained"]["value"]
    assert 0.3 < ratio < 3


def test_the_trend_in_training_is_of_held_out_images_and_needs_no_judge(model):
    found = drai.trend(model, Examples.of(arrays(6, 2)))
    assert list(found) == ["reconstruction_mean_absolute_error", "cross_image_feature_consistency_relative"]
    assert 0 < found["reconstruction_mean_absolute_error"] < 2
    assert found == drai.trend(model, Examples.of(arrays(6, 2)))


def test_the_caption_of_factors_says_what_each_code_really_tells():
    told = {"content": {"size": 0.2, "skin_red": 0.9, "border": 0.5}, "style": {"size": -0.4, "skin_red": 0.1}}
    told["style"]["border"] = 0.5
    results = {f"factors_from_{code}": {"per_factor": row} for code, row in told.items()}
    caption = drai.factor_figure(results).caption
    assert caption.endswith("content tells more (by 0.1 or above) of size, skin red; style of nothing.")
    assert "Here" not in drai.factor_figure({"factors_from_style": results["factors_from_style"]}).caption


def test_too_few_images_for_the_features_are_said(evaluated):
    metrics, *_ = evaluated
    assert "biased" in metrics["frechet_distance"]["protocol"]


def test_the_papers_figures_are_drawn(evaluated):
    _, figures, _ = evaluated
    sources = " ".join(figure.source for figure in figures)
    for number in ("10", "12", "14", "18", "19", "II-F"):
        assert number in sources
    assert all(figure.image.dtype == np.uint8 and figure.image.ndim == 3 for figure in figures)


def test_crops_of_the_reference_are_those_of_the_augmentation(monkeypatch):
    from tfdisent.data import augment

    images, corner = arrays(3, 0)["image"], np.array([0.03, 0.11])

    class Drawn:
        def uniform(self, low, high, size):
            assert (low, high, size) == (0, 1 - fraction, 2)
            return corner

    fraction = inspect.signature(augment.draw_crop).parameters["fraction"].default
    monkeypatch.setattr(drai.np.random, "default_rng", lambda seed: Drawn())
    boxes = np.tile([*corner, *(corner + fraction)], (3, 1)).astype("float32")
    expected = augment.apply_crop(images, boxes).numpy()
    found = drai._cropped({"image": images, "key": np.arange(3)})
    np.testing.assert_allclose(found["image"], expected, atol=1e-5)
    assert found["image"].dtype == images.dtype


def test_every_image_has_a_partner_other_than_itself(model):
    test = arrays(7, 2)
    hybrids = drai.make_hybrids(model, Examples.of(test), np.random.default_rng(0))
    assert sorted(hybrids["partner"]) == list(range(7))
    assert (hybrids["partner"] != np.arange(7)).all()


def test_hybrids_have_the_content_of_one_and_the_style_of_the_other(model):
    test = arrays(5, 3)
    hybrids = drai.make_hybrids(model, Examples.of(test), np.random.default_rng(0))
    expected = model.hybrid(test["image"][hybrids["partner"]], content_image=test["image"])
    made = in_batches(model.decode, *hybrids["ab"])
    np.testing.assert_allclose(made, keras.ops.convert_to_numpy(expected), atol=1e-5)


def test_a_model_that_swaps_perfectly_has_no_inconsistency():
    class Perfect:
        """Content is the first column of an image, style the second."""

        def encode(self, image):
            return {"content": image[:, :1], "style": image[:, 1:]}

        def decode(self, content, style):
            return np.concatenate([content, style], axis=1)

    test = {"image": np.random.default_rng(0).standard_normal((9, 2))}
    hybrids = drai.make_hybrids(Perfect(), Examples.of(test), np.random.default_rng(1))
    result = drai.consistency_metrics(Perfect(), hybrids)
    assert result["cross_image_feature_consistency"]["value"] == 0.0


def test_the_headline_stands_when_a_value_could_not_be_computed(evaluated):
    metrics, *_ = evaluated
    assert "R2" in drai.headline(metrics)
    broken = {name: entry | {"value": None} for name, entry in metrics.items()}
    assert "nan" not in drai.headline(broken) and "could not be measured" in drai.headline(broken)


def test_a_model_of_style_alone_has_no_entry_for_what_content_would_need_and_says_so(evaluated, judges):
    model = CInfoGAN(config())
    metrics, figures, said = evaluate(model, judges)
    assert evaluated[0].keys() - metrics.keys() == {
        "cross_image_feature_consistency",
        "cross_image_feature_consistency_relative",
        "cross_image_feature_consistency_standardised",
        "hybrid_position_r2_content",
        "class_from_content",
        "factors_from_content",
        "block_gap",
        "disagreement_divergence_style",
        "label_overlap_style",
    }
    assert metrics.keys() <= evaluated[0].keys()
    assert all(entry["value"] is not None for entry in metrics.values())
    assert "condition" in metrics["hybrid_class_accuracy"]["protocol"]
    assert drai.NO_CONTENT in said and drai.NO_CONTENT in drai.headline(metrics)
    assert drai.NO_CONTENT not in drai.headline(evaluated[0])
    names = [figure.name for figure in figures]
    assert {"Hybrids of a condition and an image", "Retrieval"} < set(names)
    assert not {"Hybrids of two images", "Interpolation"} & set(names)
    shown = arrays(4, 4)
    assert drai.sample_grid(model, shown).dtype == np.uint8


def test_the_sample_grid_shows_real_reconstructed_and_generated_images(model):
    shown = arrays(4, 4)
    grid = drai.sample_grid(model, shown)
    again = drai.sample_grid(model, shown)
    assert grid.dtype == np.uint8 and grid.shape[2] == 3
    np.testing.assert_array_equal(grid, again)


def test_a_class_that_a_split_lacks_is_said(model, tmp_path):
    train, test = arrays(60, 0), arrays(30, 1)
    train, test = (
        {name: values[part["label"] != missing] for name, values in part.items()}
        for part, missing in ((train, 2), (test, 0))
    )
    said = []
    metrics, figures = drai.evaluate(
        model,
        Examples.of(train),
        Examples.of(test),
        label_names=list(skin.LABELS),
        factor_names=[],
        judge_directory=tmp_path,
        judge_epochs=1,
        num_samples=20,
        log=said.append,
    )
    words = f"no {skin.LABELS[2]} in the train split", f"no {skin.LABELS[0]} in the test split"
    for text in (" ".join(said), metrics["conditional_generation_accuracy"]["protocol"]):
        assert all(word in text for word in words)
    assert "Conditional generation" in {figure.name for figure in figures}


def test_copied_training_images_are_found_and_shown():
    copies = arrays(40, 0)["image"][:30]
    train, test = Examples.of(arrays(40, 0)), Examples.of(arrays(20, 1))
    generated = arrays(30, 2)["image"]
    honest, _ = drai.memorisation_check(generated, train, test)
    copied, figure = drai.memorisation_check(copies, train, test)
    assert copied["memorisation_ratio"]["value"] == 0
    assert copied["memorisation_share_closer"]["value"] == 1
    assert honest["memorisation_ratio"]["value"] == pytest.approx(1, abs=0.15)
    assert honest["memorisation_share_closer"]["value"] < 0.2
    assert figure.image.ndim == 3


def test_codes_that_are_the_factors_score_higher_than_noise_and_too_few_images_say_so():
    factors = np.random.default_rng(0).standard_normal((200, 4))
    noise = np.random.default_rng(1).standard_normal((200, 4))
    true = drai.latent_metrics({"content": factors[:, :2], "style": factors[:, 2:]}, factors)
    none = drai.latent_metrics({"content": noise[:, :2], "style": noise[:, 2:]}, factors)
    assert true.keys() == none.keys()
    for name in true:
        assert true[name]["value"] > none[name]["value"] + 0.3, name
    few = drai.latent_metrics({"content": factors[:5, :2], "style": factors[:5, 2:]}, factors[:5])
    assert few["mutual_information_gap"]["value"] is None
    assert few["mutual_information_gap"]["reason"]


def test_every_metric_of_the_papers_tables_is_measured_and_every_figure_has_its_picture(evaluated):
    paper, measured = paper_of("drai"), evaluated[0]
    for number, tables in paper.tables.items():
        for table in tables:
            for row in table.rows:
                ending = paper.rows[row].ending
                assert all(metric + ending in measured for metric in table.metrics), (number, row)
    assert {figure.heading for figure in paper.figures.values()} <= {f.name for f in evaluated[1]}


def test_every_metric_has_a_name_in_print(evaluated):
    assert evaluated[0].keys() <= METRICS.keys()


def test_streamed_values_are_those_that_whole_arrays_gave(judges, monkeypatch):
    """Of an untrained model, as measured on whole splits in memory; here in batches of 7 images."""
    monkeypatch.setattr(examples, "LARGEST_BATCH", 7)
    keras.utils.set_random_seed(0)
    metrics, *_ = evaluate(DRAI(config()), judges)
    expected = json.loads((pathlib.Path(__file__).parent / "values.json").read_text())["drai"]
    for name, value in expected.items():
        metric, _, part = name.partition("/")
        found = metrics[metric]["per_factor"][part] if part else metrics[metric]["value"]
        assert found == pytest.approx(value, rel=5e-3, abs=1e-3), name


@pytest.mark.parametrize("kept", ["one class in training", "one class in test", "no labels"])
def test_data_of_one_class_end_in_a_report(kept, model, tmp_path):
    """Nothing fails: what takes two classes has the reason why it has no value."""
    parts = [arrays(60, 0), arrays(30, 1)]
    for k, where in enumerate(("training", "test")):
        if where in kept:
            parts[k] = {name: values[parts[k]["label"] == 1] for name, values in parts[k].items()}
        if kept == "no labels":
            del parts[k]["label"]
    metrics, figures = drai.evaluate(
        model,
        *map(Examples.of, parts),
        label_names=[] if kept == "no labels" else list(skin.LABELS),
        factor_names=list(skin.FACTORS),
        judge_directory=tmp_path,
        judge_epochs=1,
        num_samples=20,
    )
    assert failed(metrics) == []
    assert all(entry["value"] is not None or entry.get("reason") for entry in metrics.values()), metrics
    assert drai.headline(metrics) and "nan" not in drai.headline(metrics)
    assert {"Conditional generation", "Memorisation", "Retrieval"} <= {figure.name for figure in figures}
    reasons = " ".join(entry.get("reason", "") for entry in metrics.values())
    assert "class" in reasons


def test_a_judge_that_fails_takes_nothing_else_with_it(model, tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("out of order")

    monkeypatch.setattr(drai, "fit_classifier", broken)
    metrics, figures, _ = evaluate(model, tmp_path)
    assert set(failed(metrics)) == {
        "frechet_distance",
        "conditional_generation_accuracy",
        "hybrid_class_accuracy",
    }
    assert metrics["cross_image_feature_consistency"]["value"] > 0 and figures
