"""The margin system: its draws, its loss terms, its step, what missing slices cannot do, its verbs, its sizes."""

import dataclasses
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import array, check_training_resumes, moved, tensors, to_numpy, trained_once, values, weights
from tests.tiny import MARGIN
from tfdisent.systems import margin
from tfdisent.systems.margin import Margin, MarginConfig, TypicalCodes, fused, pooled_anatomy

B, M = 4, 3
NAMES = ("T1", "T2", "FLAIR")
TINY = MarginConfig(**MARGIN | {"modalities": NAMES}, learning_rate=1e-3)
ONLY_SELF = dict.fromkeys(
    ("cross_weight", "latent_weight", "anatomy_similarity_weight", "modality_similarity_weight", "weight_decay"), 0.0
)


def made(seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = Margin(dataclasses.replace(TINY, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(size=B, seed=0, slices=1, **more):
    """Slices of which two in a row are of one subject."""
    random = np.random.default_rng(seed)
    return {
        "image": random.uniform(-1, 1, (size, 32, 32, M * slices)).astype("float32"),
        "subject_index": np.arange(size, dtype="int32") // 2,
        **more,
    }


def step(model, batch=None, steps=1):
    """Trains; returns the logs."""
    return trained_once(model, batch or examples(B * steps), B)


def one_pass(model, **batch):
    (only,) = model.passes(tensors({**examples(), **batch}))
    return only


def losses(model, batch):
    total, terms, _ = model.loss_terms(batch, {})
    return float(array(total)), values(terms)


@pytest.fixture(scope="module")
def model():
    """For what leaves the weights alone."""
    return made()


def documented_terms():
    return set(re.findall(r"^\| ([a-z_]+) \|", margin.__doc__, re.MULTILINE)) - {"term"}


# --- the step ---


@pytest.mark.backend("torch")
def test_the_logs_are_the_terms_of_the_docstrings_table_and_nothing_else():
    logs = step(made())
    assert set(logs) == documented_terms()
    assert len(logs) == 6
    assert np.all(np.isfinite(list(logs.values())))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("conditional", [True, False])
def test_a_step_moves_every_network(conditional):
    model = made(conditional=conditional)
    before = [weights([network]) for network in model.networks]
    step(model)
    for network, kernel in zip(model.networks, before, strict=True):
        assert any(moved(kernel, weights([network]))), network.name
    assert len(model.networks) == (4 if conditional else 2 + 2 * M)


def test_each_weight_multiplies_its_own_term(model, monkeypatch):
    weight = {
        "self_weight": 2.0,
        "cross_weight": 3.0,
        "latent_weight": 5.0,
        "anatomy_similarity_weight": 7.0,
        "modality_similarity_weight": 11.0,
        "weight_decay": 1e-3,
    }
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, **weight))
    total, terms = losses(model, one_pass(model))
    expected = (
        2 * terms["self_reconstruction"]
        + 3 * terms["cross_reconstruction"]
        + 5 * terms["latent"]
        + 7 * terms["anatomy_similarity"]
        + 11 * terms["modality_similarity"]
        + 1e-3 * terms["weight_decay"]
    )
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "weight, term",
    [
        ("cross_weight", "cross_reconstruction"),
        ("latent_weight", "latent"),
        ("anatomy_similarity_weight", "anatomy_similarity"),
        ("modality_similarity_weight", "modality_similarity"),
        ("weight_decay", "weight_decay"),
    ],
)
def test_a_weight_brings_in_its_own_term(model, monkeypatch, weight, term):
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, **(ONLY_SELF | {weight: 1.0})))
    _, terms = losses(model, one_pass(model))
    assert set(terms) == {"self_reconstruction", term}


def test_without_similarities_no_subjects_are_asked_for():
    model = made(anatomy_similarity_weight=0.0, modality_similarity_weight=0.0)
    assert "anatomy_similarity" not in step(model, {"image": examples()["image"]})
    with pytest.raises(ValueError, match="add 'subject_index'"):
        step(made(), {"image": examples()["image"]})


def test_the_losses_similarity_over_i_equal_to_j_is_the_margin_above_the_distance_of_subjects(model):
    batch = one_pass(model)
    code = [array(model.code(batch["image"][..., i : i + 1], i, training=True)) for i in range(M)]
    hinges = model.modality_hinges([ops.convert_to_tensor(z) for z in code], batch)
    partner = array(batch["partner"])
    for i, z in enumerate(code):
        other = z[partner[:, i]]
        cosine = (z * other).sum(1) / np.linalg.norm(z, axis=1) / np.linalg.norm(other, axis=1)
        np.testing.assert_allclose(array(hinges[i, i]), 1.1 - cosine, atol=1e-5)
        assert array(hinges[i, i]).min() >= 0.1 - 1e-5  # never 0


@pytest.mark.backend("torch")
def test_a_step_is_made_on_oblong_slices_with_neighbours():
    model = made(neighbours=1, image_size=(32, 64))
    batch = examples()
    batch["image"] = np.random.default_rng(0).uniform(-1, 1, (B, 32, 64, 3 * M)).astype("float32")
    assert np.all(np.isfinite(list(step(model, batch).values())))
    assert model.cross_reconstruct(batch["image"]).shape == (B, M, M, 32, 64, 3)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_slices_of_one_intensity_leave_a_step_finite(value):
    model = made()
    logs = step(model, examples() | {"image": np.full((B, 32, 32, M), value, "float32")})
    assert np.all(np.isfinite(list(logs.values())))
    assert all(np.all(np.isfinite(to_numpy(variable))) for variable in model.trainable_variables)


def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path):
    check_training_resumes(made, step, (examples(B, seed=1), examples(B, seed=2)), tmp_path)


def test_the_optimizer_is_the_codes():
    optimizer = made().optimizers["networks"].get_config()
    assert optimizer["amsgrad"] is True
    assert optimizer["global_clipnorm"] == 1.0
    paper = Margin.config_class()
    assert (paper.learning_rate, paper.weight_decay, paper.beta_1) == (2e-4, 1e-5, 0.9)


def test_the_rates_and_margins_are_the_papers():
    c = MarginConfig()
    assert (c.self_weight, c.cross_weight, c.latent_weight) == (1.0, 2.0, 0.1)
    assert (c.anatomy_similarity_weight, c.modality_similarity_weight) == (10.0, 2.0)
    assert (c.anatomy_margin, c.modality_margin) == (0.1, 0.1)
    assert (c.image_size, c.num_slices, c.anatomy_channels, c.code_dim) == ((192, 160), 3, 4, 16)


# --- partners ---


def test_p_and_q_are_never_of_one_subject_and_q_has_the_modality(model):
    random = np.random.default_rng(0)
    seen = set()
    for draw in range(50):
        subject = random.integers(0, 3, 8).astype("int32")
        available = random.integers(0, 2, (8, M)).astype("float32")
        batch = one_pass(model, **examples(8, subject_index=subject, available=available))
        partner, has = array(batch["partner"]), array(batch["has_partner"])
        for p in range(8):
            for i in range(M):
                could = [q for q in range(8) if subject[q] != subject[p] and available[q, i]]
                assert has[p, i] == bool(could)
                if could:
                    assert partner[p, i] in could
                    seen.add((draw, p, i, partner[p, i] == could[0]))
    assert {first for *_, first in seen} == {True, False}  # any of them


def test_every_other_subject_of_a_batch_is_drawn(model):
    found = [array(one_pass(model, **examples(6))["partner"]) for _ in range(60)]
    assert set(np.stack(found)[:, 0, 0].tolist()) == {2, 3, 4, 5}


@pytest.mark.backend("torch")
@pytest.mark.parametrize("size", [2, 4])
def test_a_batch_of_one_subject_holds_no_margin_and_the_rest_is_learnt(size):
    model = made()
    batch = examples(size) | {"subject_index": np.full(size, 7, "int32")}
    logs = trained_once(model, batch, size)
    assert logs["anatomy_similarity"] == logs["modality_similarity"] == 0
    assert logs["self_reconstruction"] > 0 and logs["cross_reconstruction"] > 0
    assert np.all(np.isfinite(list(logs.values())))


# --- missing modalities ---

AVAILABLE = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 0]], "float32")


def state(model):
    return [to_numpy(variable).copy() for variable in model.variables]


@pytest.mark.parametrize("value", [-1.0, 3.0, 1e6, np.inf, np.nan])
def test_what_is_missing_enters_no_loss_whatever_its_channel_holds_bit_for_bit(model, value):
    image = examples()["image"]
    spoilt = np.where(AVAILABLE[:, None, None] == 1, image, value).astype("float32")
    drawn = {name: one_pass(model, available=AVAILABLE)[name] for name in ("partner", "has_partner")}
    clean = losses(model, one_pass(model, available=AVAILABLE, **drawn))
    assert losses(model, one_pass(model, image=spoilt, available=AVAILABLE, **drawn)) == clean


def test_what_is_missing_moves_no_weight_no_batch_statistic_and_no_typical_code_bit_for_bit():
    image, found = examples()["image"], []
    for value in (-1.0, 4.0):
        model = made()
        spoilt = np.where(AVAILABLE[:, None, None] == 1, image, value).astype("float32")
        step(model, examples() | {"image": spoilt, "available": AVAILABLE})
        found.append(state(model))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_modality_that_no_subject_has_moves_none_of_its_statistics_and_leaves_the_step_finite():
    model = made()
    statistics = [v for v in model.anatomy_decoder.non_trainable_variables if "moving" in v.path]
    before = [to_numpy(v).copy() for v in statistics]
    available = np.ones((B, M), "float32")
    available[:, 1] = 0
    logs = step(model, examples() | {"available": available})
    assert np.all(np.isfinite(list(logs.values())))
    for old, variable in zip(before, statistics, strict=True):
        np.testing.assert_array_equal(to_numpy(variable)[1], old[1])
        assert np.abs(to_numpy(variable)[[0, 2]] - old[[0, 2]]).min() > 0
    np.testing.assert_array_equal(to_numpy(model.typical_codes.mean)[1], 0)


def test_a_subject_without_any_modality_counts_for_nothing():
    subject = np.array([0, 1, 2, 3], "int32")
    image, available = examples()["image"], np.ones((4, M), "float32")
    available[3] = 0
    partner = {"partner": np.array([[1, 2, 1], [2, 0, 0], [0, 1, 0], [0, 0, 0]], "int32")}
    has = np.ones((4, M), "float32")
    model = made()
    total, terms = losses(
        model, one_pass(model, image=image, subject_index=subject, available=available, has_partner=has, **partner)
    )
    alone = {
        "image": image[:3],
        "subject_index": subject[:3],
        "available": available[:3],
        "partner": partner["partner"][:3],
        "has_partner": has[:3],
    }
    expected_total, expected = losses(model, one_pass(model, **alone))
    assert total == pytest.approx(expected_total, rel=1e-5)
    assert terms == pytest.approx(expected, rel=1e-5)


def test_a_batch_without_any_slice_leaves_a_step_finite():
    model = made()
    logs = step(model, examples() | {"available": np.zeros((B, M), "float32")})
    assert np.all(np.isfinite(list(logs.values())))
    assert logs["self_reconstruction"] == logs["cross_reconstruction"] == logs["anatomy_similarity"] == 0


# --- options ---


def with_background():
    """Slices with a stripe of background in one modality alone, and with one in all of them."""
    image = examples()["image"]
    image[:, :5, :, 0] = image[:, 20:] = -1
    return image


def test_masked_background_has_no_anatomy_and_the_rest_is_as_without_the_mask():
    model, image = made(mask_background=True), with_background()
    anatomy = array(model.encode_all(image)["anatomy"])
    assert not anatomy[:, :, 20:].any()
    np.testing.assert_allclose(anatomy[:, :, :20].sum(-1), 1, atol=1e-5)  # of all modalities: it shows none by a hole
    alone = array(model.encode(image[..., :1], "T1")["anatomy"])
    assert not alone[:, :5].any() and not alone[:, 20:].any()  # here no other modality is known
    np.testing.assert_allclose(alone[:, 5:20], anatomy[:, 0, 5:20], atol=1e-6)


def test_the_mask_is_of_what_is_there():
    model, image = made(mask_background=True), with_background()
    available = np.tile(np.array([1, 0, 0], "float32"), (B, 1))
    anatomy = array(model.encode_all(image, available)["anatomy"])
    assert not anatomy[:, 0, :5].any() and anatomy[:, 0, 5:20].all()


def test_a_step_is_made_on_slices_that_are_background_alone():
    model = made(mask_background=True)
    logs = step(model, examples() | {"image": np.full((B, 32, 32, M), -1, "float32")})
    assert np.all(np.isfinite(list(logs.values())))
    assert all(np.all(np.isfinite(to_numpy(variable))) for variable in model.trainable_variables)


@pytest.mark.parametrize("level_0", [False, True])
def test_with_level_0_an_anatomy_sees_single_pixels(level_0):
    config = dataclasses.replace(TINY, level_0=level_0)
    encoder, decoder = margin.anatomy_encoder(config), margin.anatomy_decoder(config)
    assert ("level_0" in encoder.output) == level_0
    told = {"modality": np.eye(M, dtype="float32")[[0]], "weight": np.ones(1, "float32")}
    features = {k: array(v) for k, v in encoder({"image": examples()["image"][:1, ..., :1], **told}).items()}
    coarse = {name: 0 * values for name, values in features.items() if name != "level_0"}
    if level_0:
        assert features["level_0"].shape == (1, 32, 32, TINY.filters)
        found = array(decoder({**coarse, "level_0": features["level_0"], **told}))
        assert np.ptp(found[0, 8:24, 8:24], axis=(0, 1)).min() > 0
    else:
        assert np.ptp(array(decoder({**coarse, **told}))[0, 8:24, 8:24], axis=(0, 1)).max() < 1e-6


def test_the_anatomies_similarity_is_delayed_and_then_grows_to_its_weight():
    model = made(anatomy_similarity_weight=3.0, anatomy_similarity_delay=0.25, steps=8)
    batch, found = one_pass(model), []
    model.optimizers["networks"].build(model.trainable_variables)

    def share():
        """Of the anatomies' similarity in the total."""
        total, terms = losses(model, batch)
        rest = terms["self_reconstruction"] + 2 * terms["cross_reconstruction"] + 0.1 * terms["latent"]
        rest += 2 * terms["modality_similarity"] + 1e-5 * terms["weight_decay"]
        return (total - rest) / terms["anatomy_similarity"]

    for done in (0, 1, 2, 3, 4, 8):
        model.optimizers["networks"].iterations.assign(done)
        found.append(share())
    assert found == pytest.approx([0, 0, 0, 1.5, 3, 3], abs=1e-3)
    assert model.config.scheduled and not TINY.scheduled


def test_the_rate_falls_to_zero_in_the_last_part_of_training():
    model = made(learning_rate_decay=0.5, steps=100)
    rates = [float(array(model.optimizers["networks"].learning_rate))]
    assert rates == [pytest.approx(1e-3)]
    schedule = model.learning_rate("networks")
    assert [float(array(schedule(k))) for k in (0, 50, 75, 100)] == pytest.approx([1e-3, 1e-3, 5e-4, 0], abs=1e-9)
    assert model.config.scheduled and not TINY.scheduled


# --- fusion ---


def test_fusion_is_maximum_mean_and_minimum_of_what_is_there():
    anatomy = np.random.default_rng(0).uniform(0, 1, (3, M, 2, 2, 4)).astype("float32")
    available = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1]], "float32")
    received = array(fused(ops.convert_to_tensor(anatomy), ops.convert_to_tensor(available)))
    for row, there in enumerate(available > 0):
        some = anatomy[row][there]
        expected = np.concatenate([some.max(0), some.mean(0), some.min(0)], axis=-1)
        np.testing.assert_allclose(received[row], expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e30, np.nan])
def test_fusion_does_not_see_what_is_missing_and_is_zero_where_there_is_nothing(value):
    anatomy = np.random.default_rng(0).uniform(0, 1, (2, M, 2, 2, 4)).astype("float32")
    available = np.array([[1, 0, 1], [0, 0, 0]], "float32")
    spoilt = np.where(available[..., None, None, None] > 0, anatomy, value).astype("float32")
    one, two = (array(fused(ops.convert_to_tensor(a), ops.convert_to_tensor(available))) for a in (anatomy, spoilt))
    np.testing.assert_array_equal(one, two)
    assert not one[1].any()


# --- verbs ---


def test_the_anatomy_of_a_pixel_sums_to_one_and_codes_have_their_length(model):
    found = model.encode(examples()["image"][..., :1], "FLAIR")
    assert found["anatomy"].shape == (B, 32, 32, 4)
    np.testing.assert_allclose(array(found["anatomy"]).sum(-1), 1, atol=1e-5)
    assert found["code"].shape == (B, TINY.code_dim)


def test_encoding_all_is_encoding_each(model):
    image = examples()["image"]
    found = model.encode_all(image)
    for k, name in enumerate(NAMES):
        alone = model.encode(image[..., k : k + 1], name)
        np.testing.assert_allclose(array(found["anatomy"])[:, k], array(alone["anatomy"]), atol=1e-6)
        np.testing.assert_allclose(array(found["code"])[:, k], array(alone["code"]), atol=1e-6)
        np.testing.assert_allclose(array(model.encode(image[..., k : k + 1], k)["code"]), array(alone["code"]))
    predicted = model.predict({"image": image}, verbose=0)
    assert predicted["anatomy"].shape == (B, M, 32, 32, 4)


def test_cross_reconstruction_draws_the_anatomy_of_the_row_in_the_look_of_the_column(model):
    image = examples()["image"]
    found, made = model.encode_all(image), array(model.cross_reconstruct(image))
    assert made.shape == (B, M, M, 32, 32, 1)
    for i, j in ((0, 0), (0, 2), (2, 0)):
        expected = array(model.decode(found["anatomy"][:, i], found["code"][:, j]))
        np.testing.assert_allclose(made[:, i, j], expected, atol=1e-5)
    assert np.abs(made[:, 0, 2] - made[:, 2, 0]).max() > 1e-3


@pytest.mark.parametrize("value", [0.0, 4.0, np.nan])
def test_verbs_do_not_see_what_is_missing(model, value):
    image = examples()["image"]
    spoilt = np.where(AVAILABLE[:, None, None] == 1, image, value).astype("float32")
    for verb in (
        lambda x: model.encode_all(x, AVAILABLE)["anatomy"],
        lambda x: model.encode_all(x, AVAILABLE)["code"],
        lambda x: model.cross_reconstruct(x, AVAILABLE),
        lambda x: model.complete(x, "T2", AVAILABLE)["image"],
        lambda x: model.complete(x, "T2", AVAILABLE)["anatomy"],
    ):
        np.testing.assert_array_equal(array(verb(spoilt)), array(verb(image)))
    for values_of in model.encode_all(image, AVAILABLE).values():
        assert not array(values_of)[AVAILABLE == 0].any() and array(values_of)[AVAILABLE > 0].any()
    made = array(model.cross_reconstruct(image, AVAILABLE))
    assert np.all(made[0, 1] == -1) and np.all(made[0, :, 1] == -1) and np.ptp(made[0, 0, 2]) > 0


def test_fusing_needs_the_anatomies_alone(model):
    anatomy = model.encode_all(examples()["image"], AVAILABLE)["anatomy"]
    made = array(model.fuse(anatomy, AVAILABLE))
    assert made.shape == (B, 32, 32, 12)
    np.testing.assert_allclose(made[0, ..., 4:8], array(anatomy)[0, [0, 2]].mean(0), atol=1e-6)


def test_a_contrast_that_is_there_is_drawn_in_its_own_look_and_a_missing_one_in_the_typical():
    model = made()
    step(model)
    image = examples()["image"]
    made_image = array(model.complete(image, "T2", AVAILABLE)["image"])
    found = model.encode_all(image, AVAILABLE)
    _, mean, _ = np.split(array(model.fuse(found["anatomy"], AVAILABLE)), 3, axis=-1)
    own, typical = array(found["code"])[:, 1], to_numpy(model.typical_codes.mean)[[1] * B]
    code = np.where(AVAILABLE[:, 1:2] > 0, own, typical)
    np.testing.assert_allclose(made_image, array(model.decode(mean, code)), atol=1e-5)
    by_code = model.complete(image, np.eye(M, dtype="float32")[[1] * B], AVAILABLE)
    np.testing.assert_allclose(array(by_code["image"]), made_image, atol=1e-6)


def test_typical_codes_are_means_of_what_is_there():
    layer = TypicalCodes(2, 3)
    first, second = np.random.default_rng(0).normal(size=(2, 4, 2, 3)).astype("float32")
    all_there = np.ones((4, 2), "float32")
    some = all_there.copy()
    some[1, 0] = 0
    some[:, 1] = 0
    layer(ops.convert_to_tensor(first), ops.convert_to_tensor(all_there), training=True)
    np.testing.assert_allclose(to_numpy(layer.mean), first.mean(0), atol=1e-6)
    layer(ops.convert_to_tensor(second), ops.convert_to_tensor(some), training=True)
    np.testing.assert_allclose(
        to_numpy(layer.mean)[0], (first.mean(0)[0] + second[[0, 2, 3], 0].mean(0)) / 2, atol=1e-6
    )
    np.testing.assert_allclose(to_numpy(layer.mean)[1], first.mean(0)[1], atol=1e-6)
    before = to_numpy(layer.mean).copy()
    layer(ops.convert_to_tensor(second), ops.convert_to_tensor(all_there))
    np.testing.assert_array_equal(to_numpy(layer.mean), before)


def test_pooling_takes_the_maximum_of_each_window_and_channel():
    anatomy = np.random.default_rng(0).uniform(size=(2, 8, 16, 3)).astype("float32")
    received = array(pooled_anatomy(ops.convert_to_tensor(anatomy), 8))
    expected = np.stack([anatomy[:, :, :8].max((1, 2)), anatomy[:, :, 8:].max((1, 2))], axis=1)
    np.testing.assert_array_equal(received, expected.reshape(2, 6))


def test_signatures_and_their_volumes_fit_each_other(model):
    default, (_, shapes) = next(iter(model.signatures().items()))
    assert default == "complete"
    assert shapes["image"] == (None, 32, 32, M) and set(shapes) == {"image", "available", "target"}
    io = model.volume_io()
    assert io["inputs"] == list(NAMES) and len(io["outputs"]["anatomy"]["names"]) == 1 + TINY.anatomy_channels
    assert made(neighbours=1).volume_io() == {}  # tfdisent.apply gives no neighbours
    arrays = {"image": examples()["image"], "available": AVAILABLE, "target": np.eye(M, dtype="float32")[[0] * B]}
    for name, (function, wanted) in model.signatures().items():
        given = {key: arrays[key] for key in wanted if key in arrays}
        if name == "decode":
            found = model.encode(examples()["image"][..., :1], 0)
            given = {"anatomy": array(found["anatomy"]), "code": array(found["code"])}
        for values_of in function(**given).values():
            assert np.all(np.isfinite(array(values_of))), name


# --- a segmentor downstream ---


class Halves:
    """A segmentor of fused anatomies: label 1 is the first channel's maximum, label 2 half of its minimum."""

    image_shape, num_labels = (32, 32, 12), 2

    def label_probabilities(self, anatomy):
        return ops.concatenate([anatomy[..., :1] / 2, anatomy[..., 8:9] / 2], axis=-1)


@pytest.fixture
def segmenting():
    model = made()
    model.segment_with(Halves(), ("background", "rim", "core"))
    return model


def test_labels_are_those_of_the_fused_anatomy_of_what_is_there_and_the_rest_is_background(segmenting):
    image = examples()["image"]
    found = array(segmenting.segment(image, AVAILABLE))
    anatomy = array(segmenting.encode_all(image, AVAILABLE)["anatomy"])
    alone = anatomy[0, [0, 2], ..., 0]  # of the first subject, who lacks the second modality
    np.testing.assert_allclose(found[0, ..., 1], alone.max(0) / 2, atol=1e-6)
    np.testing.assert_allclose(found[0, ..., 2], alone.min(0) / 2, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    spoilt = np.where(AVAILABLE[:, None, None] == 1, image, np.nan).astype("float32")
    np.testing.assert_array_equal(array(segmenting.segment(spoilt, AVAILABLE)), found)


def test_a_segmentor_adds_labels_to_the_default_signature_and_one_of_its_own(segmenting, model):
    image, target = examples()["image"], np.eye(M, dtype="float32")[[0] * B]
    (default, _), (segment, shapes) = (segmenting.signatures()[name] for name in ("complete", "segment"))
    found = default(image=image, available=AVAILABLE, target=target)
    assert set(found) == {"image", "anatomy", "labels"} and set(shapes) == {"image", "available"}
    expected = array(segmenting.segment(image, AVAILABLE))
    for made_labels in (found["labels"], segment(image=image, available=AVAILABLE)["labels"]):
        np.testing.assert_allclose(array(made_labels), expected, atol=1e-6)
    outputs = segmenting.volume_io()["outputs"]
    assert outputs["labels"] == {"kind": "labels", "names": ["background", "rim", "core"], "per_target": False}
    assert "segment" not in model.signatures() and "labels" not in model.volume_io()["outputs"]


def test_a_segmentor_has_no_weights_in_the_model(segmenting, model):
    assert len(segmenting.weights) == len(model.weights)


def test_a_segmentor_of_other_images_or_labels_is_refused_and_so_is_segmenting_without_one(model):
    with pytest.raises(ValueError, match=r"fused anatomies \(32, 32, 12\) in background, tumour; .* in 2 labels"):
        model.segment_with(Halves(), ("background", "tumour"))
    of_images = Halves()
    of_images.image_shape = (32, 32, 3)
    with pytest.raises(ValueError, match=r"received one of images \(32, 32, 3\)"):
        model.segment_with(of_images, ("background", "rim", "core"))
    with pytest.raises(ValueError, match="give one by segment_with"):
        model.segment(examples()["image"])


def test_the_exported_anatomy_has_the_background_first():
    model = made(mask_background=True)
    image = with_background()
    complete, _ = model.signatures()["complete"]
    found = array(complete(image=image, available=np.ones((B, M)), target=np.eye(M)[[0] * B])["anatomy"])
    assert found.shape == (B, 32, 32, 1 + TINY.anatomy_channels)
    np.testing.assert_allclose(found[:, 20:, :, 0], 1, atol=1e-6)
    np.testing.assert_allclose(found[:, :20, :, 0], 0, atol=1e-5)
    assert len(model.volume_io()["outputs"]["anatomy"]["names"]) == found.shape[-1]


# --- what is refused ---


def test_an_unknown_modality_is_told_which_there_are(model):
    for call in (
        lambda: model.encode(examples()["image"][..., :1], "PET"),
        lambda: model.complete(examples()["image"], "PET"),
    ):
        with pytest.raises(ValueError, match="T1, T2, FLAIR.*'PET'"):
            call()


@pytest.mark.parametrize("size", [48, (64, 80), 16])
def test_sizes_that_cannot_be_halved_five_times_are_refused(size):
    with pytest.raises(ValueError, match="multiples of 32"):
        dataclasses.replace(TINY, image_size=size)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"neighbours": -1}, "neighbours to be a whole number >= 0"),
        ({"pool_size": 7}, "pool_size that divides 32 x 32"),
        ({"routing": "both"}, "routing to be 'one_hot' or 'scalar'"),
        ({"anatomy_margin": -0.1}, "anatomy_margin >= 0"),
        ({"modalities": ("T1",)}, "two or more"),
        ({"code_dim": 0}, "code_dim to be a whole number >= 1"),
        ({"learning_rate_decay": 1.0}, r"learning_rate_decay in \[0, 1\)"),
        ({"anatomy_similarity_delay": -0.1}, r"anatomy_similarity_delay in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_data_with_other_neighbours_are_refused_with_both_mends():
    manifest = SimpleNamespace(dataset="brats", modalities=NAMES, image_shape=(64, 64, 9))
    with pytest.raises(ValueError, match="0 neighbouring.*3 channels.*9.*--data=neighbours=0.*--set=neighbours"):
        TINY.check_manifest(manifest)
    dataclasses.replace(TINY, neighbours=1).check_manifest(manifest)


@pytest.mark.parametrize("shape", [(B, 32, 32, 2), (B, 16, 16, M), (32, 32, M)])
def test_images_of_another_shape_are_refused(model, shape):
    for call in (
        lambda: model.encode_all(np.zeros(shape, "float32")),
        lambda: step(made(), {"image": np.zeros(shape)}),
    ):
        with pytest.raises(ValueError, match="xpected"):
            call()


def test_a_config_survives_json_and_presets_are_configs():
    assert MarginConfig(**json.loads(json.dumps(dataclasses.asdict(TINY)))) == TINY
    assert {MarginConfig.preset(name).steps > 0 for name in ("quick", "small", "paper")} == {True}
    with pytest.raises(TypeError, match="anatomy_margin.*received alpha"):
        MarginConfig(alpha=1)


# --- the published sizes: numbers of parameters that were counted in the public code, with seven slices as channels ---

PAPER = MarginConfig(neighbours=3, routing="scalar")


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.mark.slow
@pytest.mark.parametrize("conditional, count", [(True, 5_223_038), (False, 1_742_432)])
def test_the_anatomy_encoder_has_the_codes_size_and_the_papers_first_batch_norm(conditional, count):
    encoder = margin.anatomy_encoder(dataclasses.replace(PAPER, conditional=conditional))
    assert trainable(encoder) == count + 2 * 32


@pytest.mark.slow
@pytest.mark.parametrize("conditional, count", [(True, 4_100_298), (False, 1_367_724)])
def test_the_anatomy_decoder_has_the_codes_size_without_a_batch_norm_that_is_never_called(conditional, count):
    assert trainable(margin.anatomy_decoder(dataclasses.replace(PAPER, conditional=conditional))) == count - 2 * 4


@pytest.mark.slow
@pytest.mark.parametrize("conditional, count", [(True, 860_062), (False, 369_568)])
def test_the_modality_encoder_has_the_codes_size_without_the_variance_of_a_code_that_is_not_random(conditional, count):
    encoder = margin.modality_encoder(dataclasses.replace(PAPER, conditional=conditional))
    assert trainable(encoder) == count - (32 * 16 + 16)
