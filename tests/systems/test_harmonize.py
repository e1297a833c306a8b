"""The harmonisation: what segmentation does, what missing label maps cannot do, its data, its verbs, its sizes."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.fft
from keras import ops

from tests.checks import array, check_training_resumes, moved, tensors, trained_once, values, weights
from tests.tiny import HARMONIZE
from tfdisent.baselines import harmonize as baselines
from tfdisent.systems import harmonize
from tfdisent.systems.harmonize import DOMAINS, Harmonize, HarmonizeConfig, rows_by_domain, shades

B, SIZE, K = 3, 32, 3
TINY = HarmonizeConfig(**HARMONIZE, learning_rate=1e-3, learning_rate_decay=0.0, dropout=0.0)


def made(seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = Harmonize(dataclasses.replace(TINY, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(size=B, seed=0, **more):
    random = np.random.default_rng(seed)
    found = {name: random.uniform(-1, 1, (size, SIZE, SIZE, 1)).astype("float32") for name in ("source", "target")}
    found |= {f"{name}_mask": random.integers(0, K, (size, SIZE, SIZE)).astype("int32") for name in found}
    return found | more


def a_slice(name="source"):
    return ops.convert_to_tensor(examples()[name])


def losses(model, batch):
    total, terms, carried = model.generator_loss(tensors(batch), {})
    return float(array(total)), values(terms), carried


@pytest.fixture(scope="module")
def model():
    return made()


# --- what the segmentation does ---


def test_a_constant_added_to_all_logits_changes_no_image(model):
    """Probabilities go into f: what logits have beside them is no anatomy."""
    logits = np.random.default_rng(1).normal(size=(B, SIZE, SIZE, K)).astype("float32")
    one, other = (
        array(model.translated(a_slice(), ops.convert_to_tensor(logits + shift), "target")) for shift in (0.0, 5.0)
    )
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_segmentation_of_another_slice_makes_another_image():
    model = made()
    # At first all gains are next to 1, and the embedding next to 0.
    for variable in model.extractors["target"].trainable_variables:
        variable.assign(20.0 * variable.value)
    for variable in model.generators["target"].trainable_variables:
        variable.assign((50.0 if len(variable.shape) == 2 else 1.0) * variable.value)
    logits = 4 * np.random.default_rng(1).normal(size=(B, SIZE, SIZE, K)).astype("float32")
    one, other = (
        array(model.translated(a_slice(), ops.convert_to_tensor(found), "target"))
        for found in (logits, logits[::-1].copy())
    )
    assert np.abs(one[0] - other[0]).max() > 1e-3
    np.testing.assert_array_equal(one[1], other[1])  # the middle one keeps its own


@pytest.mark.backend("torch")
def test_a_slice_without_a_label_map_trains_the_images_alone():
    there = {"source_labelled": np.array([1, 0, 1], "float32"), "target_labelled": np.array([1, 1, 0], "float32")}
    batch, changed = examples(**there), examples(**there)
    changed["source_mask"][1] = 0
    changed["target_mask"][2] = 1
    # Models of their own: each call moves a spectral norm's vector.
    assert losses(made(), batch)[:2] == losses(made(), changed)[:2]
    changed["source_mask"][0] = 0
    assert losses(made(), batch)[1]["segmentation"] != losses(made(), changed)[1]["segmentation"]


def test_without_any_label_map_the_segmentation_terms_are_nothing(model):
    none = {f"{name}_labelled": np.zeros(B, "float32") for name in ("source", "target")}
    _, terms, _ = losses(model, examples(**none))
    assert terms["segmentation"] == terms["generated_segmentation"] == 0 < terms["cycle"]


@pytest.mark.backend("torch")
def test_a_class_that_a_domain_does_not_show_leaves_the_loss_finite(model):
    batch = examples()
    batch["target_mask"][:] = 0
    assert np.isfinite(losses(model, batch)[0])


@pytest.mark.backend("torch")
def test_a_shade_is_a_sum_of_the_lowest_cosines_of_unit_variance():
    """SciPy's inverse cosine transform of the same coefficients, of which the constant is none."""
    random = np.random.default_rng(0)
    coefficients = random.normal(size=(500, 8)).astype("float32")
    spectrum = np.zeros((500, 12, 20))
    spectrum[:, :3, :3] = np.insert(coefficients, 0, 0.0, axis=1).reshape(-1, 3, 3)
    expected = scipy.fft.idctn(spectrum, axes=(1, 2), norm="ortho") * np.sqrt(12 * 20 / 8)
    received = array(shades(ops.convert_to_tensor(coefficients), (12, 20, 1)))[..., 0]
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert abs(np.mean(received**2) - 1) < 0.05
    np.testing.assert_allclose(received.mean((1, 2)), 0, atol=1e-6)


def test_generators_see_slices_under_shades_and_the_losses_the_slices_themselves():
    model = made(shading=0.5)
    given = examples(source_shade=np.zeros((B, 8), "float32"))
    (batch,) = model.passes(tensors(given))
    np.testing.assert_allclose(array(batch["source_shaded"]), given["source"], atol=1e-6)
    for name in ("source", "target"):
        np.testing.assert_array_equal(array(batch[name]), given[name])
    shade = np.log((array(batch["target_shaded"]) + 1) / (given["target"] + 1))
    assert 0.3 < shade.std() < 0.8
    assert abs(shade[0] - shade[1]).max() > 0.1  # each slice under its own


def test_without_shading_slices_are_seen_as_they_are():
    assert made().passes(tensors(examples()))[0].keys() == examples().keys()


def test_class_weights_scale_the_loss_of_their_class():
    batch = examples()
    batch["source_mask"][:] = batch["target_mask"][:] = 1
    terms = [losses(made(class_weights=weights), batch)[1] for weights in ((1, 1, 1), (9, 0.5, 9))]
    assert terms[1]["segmentation"] == pytest.approx(0.5 * terms[0]["segmentation"], rel=1e-5)


def test_what_is_made_is_segmented_as_what_it_was_made_from():
    model, batch = made(), examples()
    truth = {name: ops.convert_to_tensor(50 * np.eye(K, dtype="float32")[batch[f"{name}_mask"]]) for name in DOMAINS}
    given, asked = tensors(batch), []

    def answering(of_made):
        """Right of real slices, which each direction asks about first; of made ones as it is told."""

        def logits(image, domain, training=False):
            asked.append(domain)
            return truth[domain] if len(asked) % 2 else truth[of_made(domain)]

        return logits

    model.logits = answering(lambda domain: DOMAINS[1 - DOMAINS.index(domain)])
    terms = values(model.generator_loss(given, {})[1])
    assert asked == ["source", "target", "target", "source"]
    assert terms["segmentation"] < 1e-6 and terms["generated_segmentation"] < 1e-6
    model.logits = answering(lambda domain: domain)
    assert values(model.generator_loss(given, {})[1])["generated_segmentation"] > 1


# --- training ---


@pytest.mark.backend("torch")
def test_a_step_moves_the_translator_and_the_discriminators():
    model = made()
    networks = [*model.translator, *model.discriminators.values()]
    before = weights(networks)
    logs = trained_once(model, examples(), B)
    assert set(logs) == {"g_adversarial", "cycle", "segmentation", "generated_segmentation", "d_adversarial"}
    found = moved(before, weights(networks))
    assert np.mean(found) > 0.85  # biases before a normalisation have no gradient


@pytest.mark.backend("torch")
def test_discriminators_see_the_images_that_the_generators_made_before_they_moved():
    model, batch = made(), tensors(examples())
    _, _, carried = model.generator_loss(batch, {})
    for own, other in (("source", "target"), ("target", "source")):
        logits = model.logits(batch[own], own, training=True)
        np.testing.assert_allclose(array(carried[other]), array(model.translated(batch[own], logits, other, True)))


@pytest.mark.backend("torch")
def test_training_resumes_from_a_checkpoint(tmp_path):
    def step(model, batch):
        return trained_once(model, batch, B)

    def dropping(seed=0):
        return made(seed, dropout=0.5)

    check_training_resumes(dropping, step, [examples(seed=1), examples(seed=2)], tmp_path)


def test_the_rate_is_constant_and_then_falls_to_zero_on_a_line():
    schedule = made(learning_rate=0.4, learning_rate_decay=2 / 3, steps=30).learning_rate("generators")
    found = [float(array(ops.convert_to_tensor(schedule(step)))) for step in (0, 10, 20, 30, 40)]
    np.testing.assert_allclose(found, [0.4, 0.4, 0.2, 0.0, 0.0], atol=1e-7)
    assert not TINY.scheduled and HarmonizeConfig().scheduled == ("learning rates",)


# --- data ---


def loading(domain, subject, available=None):
    """What `rows_by_domain` reads, in two batches."""
    batch = {"domain": np.array(domain), "subject_index": np.array(subject)}
    if available is not None:
        batch["available"] = np.array(available)

    def load(split, **changes):
        assert split == "train" and set(batch) <= set(changes["columns"])
        return [{name: value[part] for name, value in batch.items()} for part in (slice(2), slice(2, None))]

    return load


def test_examples_are_told_apart_by_domain_and_those_of_other_scanners_or_without_the_contrast_are_left_out():
    config = dataclasses.replace(
        TINY, domains=("a", "b", "c"), source="c", target="a", modalities=("T2", "T1"), modality="T1"
    )
    available = [[1, 1]] * 4 + [[1, 0], [0, 1]]
    rows = rows_by_domain(loading([0, 1, 2, 0, 0, 2], [5, 6, 7, 8, 8, 9], available), config)
    assert {name: found.tolist() for name, found in rows.items()} == {"source": [2, 5], "target": [0, 3]}


def test_a_subject_on_both_scanners_is_refused():
    with pytest.raises(ValueError, match="1 on both source and target.*paired=test"):
        rows_by_domain(loading([0, 1, 0, 1], [1, 2, 3, 1]), TINY)


def test_a_domain_of_one_subject_is_warned_of_and_trained_on(capsys):
    rows = rows_by_domain(loading([0, 0, 1, 1], [1, 2, 3, 3]), TINY)
    assert rows["target"].tolist() == [2, 3]
    said = capsys.readouterr().out
    assert "one training subject on target, the target" in said and said.count("warning") == 1


def test_a_domain_without_slices_is_refused_by_its_name():
    with pytest.raises(ValueError, match="T1 of the target target; there are none"):
        rows_by_domain(loading([0, 0, 0], [1, 2, 3]), TINY)


def manifest(**changes):
    given = {"dataset": "d", "modalities": ("T1",), "domains": ("a", "b"), "mask_labels": ("background", "x")}
    return SimpleNamespace(**given | {"mask_channels": 1} | changes)


def test_domains_and_classes_are_those_of_the_data():
    config = HarmonizeConfig(**HARMONIZE | HarmonizeConfig.data_fields(manifest(domains=("a", "b", "c"))))
    assert (config.source, config.target, config.labels, config.modality) == ("a", "b", ("background", "x"), "T1")
    config.check_manifest(manifest())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domains": ("a",)}, "two domains or more, received d with a"),
        ({"domains": ()}, "no domains"),
        ({"mask_labels": ()}, "one label map"),
        ({"mask_channels": 2}, "one label map.*2"),
    ],
)
def test_data_that_cannot_serve_are_refused(changes, words):
    config = HarmonizeConfig(**HARMONIZE | {"domains": ("a", "b")})
    with pytest.raises(ValueError, match=words):
        config.check_manifest(manifest(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "target"}, "two different domains"),
        ({"source": "elsewhere"}, "two different domains"),
        ({"domains": ("a",)}, "two different domains"),
        ({"labels": ("background",)}, "two or more classes"),
        ({"class_weights": (1.0,)}, "class_weights"),
        ({"class_weights": (0.0, 0.0, 0.0)}, "class_weights"),
        ({"modality": "FLAIR"}, "modality among T1"),
        ({"image_size": 40}, "multiples of 16"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        HarmonizeConfig(**HARMONIZE | changes)


# --- verbs ---


def test_harmonize_gives_slices_and_labels_there_and_back(model):
    image = examples()["source"]
    for to in ("target", "source"):
        found = {name: array(value) for name, value in model.harmonize(image, to).items()}
        assert found["image"].shape == (B, SIZE, SIZE, 1) and np.abs(found["image"]).max() <= 1
        np.testing.assert_allclose(found["labels"].sum(-1), 1, atol=1e-5)
        own = "source" if to == "target" else "target"
        np.testing.assert_allclose(found["labels"], array(model.segment(image, own)), atol=1e-6)
    np.testing.assert_array_equal(array(model(image)), array(model.harmonize(image)["image"]))


def test_verbs_refuse_unknown_domains_and_shapes(model):
    with pytest.raises(ValueError, match="domain among source, target; received 'mars'"):
        model.harmonize(examples()["source"], "mars")
    with pytest.raises(ValueError, match="32"):
        model.segment(np.zeros((1, 16, 16, 1), "float32"))
    with pytest.raises(ValueError, match="NaN"):
        model.segment(np.full((1, SIZE, SIZE, 1), np.nan, "float32"))


def test_signatures_give_what_the_verbs_do(model):
    image = examples()["target"]
    found = {name: function(image) for name, (function, _) in model.signatures().items()}
    np.testing.assert_array_equal(array(found["back"]["image"]), array(model.harmonize(image, "source")["image"]))
    np.testing.assert_array_equal(array(found["segment_target"]["labels"]), array(model.segment(image, "target")))
    assert list(found)[0] == "harmonize" and set(found["harmonize"]) == {"image", "labels"}


# --- sizes ---


def count(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


@pytest.mark.backend("torch")
def test_parameters_are_those_of_the_public_code():
    """Of the extractor but for its 7 x 7 pooling, which the paper has as 4 x 4."""
    paper = HarmonizeConfig()
    assert count(harmonize.generator(paper)) == 59_935_105 - 10_229_760 - 14_659_776  # less what it never uses, and f
    assert count(harmonize.extractor(paper)) == 14_659_776 - (7 * 7 - 4 * 4) * 512 * 512
    assert count(harmonize.segmentor(paper)) == 57_533_720
    assert count(harmonize.discriminator(paper)) == 660_929


@pytest.mark.parametrize("make", [harmonize.generator, baselines.generator])
@pytest.mark.parametrize("level_0", [False, True])
def test_with_level_0_a_generator_sees_single_pixels(make, level_0):
    config_class = HarmonizeConfig if make is harmonize.generator else baselines.CycleGANConfig
    network = make(config_class(**HARMONIZE, level_0=level_0))
    joined = [layer for layer in network.layers if isinstance(layer, keras.layers.Concatenate)]
    size = HARMONIZE["image_size"]
    assert max(layer.output.shape[1] for layer in joined) == (size if level_0 else size // 2)
    if level_0:  # half of what the last joins has seen no halving
        own = keras.Model(network.input, joined[-1].input[1])
        assert not [layer for layer in own.layers if getattr(layer, "strides", (1, 1)) != (1, 1)]
        assert own.output.shape[1:] == (size, size, 2)


@pytest.mark.parametrize("make", [harmonize.generator, baselines.generator])
def test_with_level_0_a_generator_begins_with_the_contrast_that_it_is_given(make):
    config_class = HarmonizeConfig if make is harmonize.generator else baselines.CycleGANConfig
    network = make(config_class(**HARMONIZE, level_0=True))
    image = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype("float32")
    embedding = np.zeros((2, HARMONIZE["embedding_dim"]), "float32")
    shown = array(network({"image": image, "embedding": embedding} if isinstance(network.input, dict) else image))
    assert np.corrcoef(shown.ravel(), image.ravel())[0, 1] > 0.95
    assert np.abs(shown).max() <= 1


def test_a_discriminator_judges_patches_of_34_pixels():
    size = 64
    network = harmonize.discriminator(HarmonizeConfig(**HARMONIZE | {"image_size": size}))
    images = np.zeros((size + 1, size, size, 1), "float32")
    images[np.arange(size), np.arange(size)] = 1.0  # a row each; the last has none
    scores = array(network(images))
    assert scores.shape[1:] == (14, 14, 1)
    middle = scores[:, 7, 7, 0]
    assert (np.abs(middle[:-1] - middle[-1]) > 1e-9).sum() == 34
