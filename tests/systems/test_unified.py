"""The unified framework: its draws, its loss terms, its step, what it can do, and the sizes of its networks."""

import dataclasses
import importlib.util
import itertools
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import (
    Judge,
    array,
    check_training_resumes,
    kernels,
    moved,
    tensors,
    trained_once,
    values,
    weights,
)
from tfdisent.losses import absolute_error
from tfdisent.systems import unified
from tfdisent.systems.unified import Unified, UnifiedConfig, anatomy_distance
from tfdisent.training.adversarial import AdversarialModel

TINY = UnifiedConfig(
    image_size=32,
    modalities=("T1", "T2", "FLAIR"),
    filters=2,
    discriminator_filters=2,
    initializer="he_normal",
    discriminator_learning_rate=1e-3,
)
B, M = 4, 3
# Which pairs a step translates: one of them is a self-translation.
PAIRS = {
    "source_modality": np.array([0, 1, 2, 0], "int32"),
    "target_modality": np.array([1, 1, 0, 2], "int32"),
}
ONLY_TRANSLATION = {
    "cycle_weight": 0.0,
    "adversarial_weight": 0.0,
    "modality_weight": 0.0,
    "disentanglement_weight": 0.0,
}


def made(seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = Unified(dataclasses.replace(TINY, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(size=B, seed=0, **more):
    random = np.random.default_rng(seed)
    return {"image": random.uniform(-1, 1, (size, 32, 32, M)).astype("float32"), **more}


def step(model, batch=None, steps=1):
    """Trains; returns the logs."""
    return trained_once(model, batch or examples(B * steps), B)


def chosen(model, **batch):
    """The one pass that a step makes of a batch."""
    (only,) = model.passes(tensors({**examples(), **PAIRS, **batch}))
    return only


def losses(model, batch):
    """Total and terms of both players on one pass."""
    total, terms, carried = model.generator_loss(batch, {})
    d_total, d_terms, _ = model.discriminator_loss(batch, carried)
    return float(array(total)), values(terms), float(array(d_total)), values(d_terms)


def with_config(model, monkeypatch, **changes):
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, **changes))


@pytest.fixture(scope="module")
def model():
    """For what leaves the weights alone."""
    return made()


def documented_terms():
    return set(re.findall(r"^\| ([a-z_]+) \|", unified.__doc__, re.MULTILINE)) - {"term"}


# --- the step ---


def test_the_logs_are_the_terms_of_the_docstrings_table_and_nothing_else():
    logs = step(made())
    assert set(logs) == documented_terms()
    assert len(logs) == 7
    assert np.all(np.isfinite(list(logs.values())))


@pytest.mark.parametrize("player, other", [("discriminators", "generators"), ("generators", "discriminators")])
def test_a_player_moves_all_of_its_networks_and_leaves_the_others_bit_for_bit(player, other):
    class Alone(Unified):
        def phases(self):
            return [phase for phase in super().phases() if phase.optimizer == player]

        def discriminator_loss(self, batch, carried):
            _, _, carried = self.generator_loss(batch, {})
            generated = ops.stop_gradient(carried["generated"])
            return super().discriminator_loss(batch, {"generated": generated})

    keras.utils.set_random_seed(0)
    model = Alone(TINY)
    AdversarialModel.compile(model, {player: keras.optimizers.Adam(1e-3)}, run_eagerly=True)
    networks = {phase.optimizer: phase.networks for phase in Unified.phases(model)}
    before = {name: kernels(networks[name]) for name in networks}
    step(model)
    assert all(moved(before[player], kernels(networks[player])))
    assert not any(moved(before[other], kernels(networks[other])))


def test_every_trainable_variable_belongs_to_one_player(model):
    owned = [id(v) for phase in model.phases() for n in phase.networks for v in n.trainable_variables]
    assert sorted(owned) == sorted(id(v) for v in model.trainable_variables)


def test_with_weights_of_zero_only_the_translation_is_learnt_and_no_discriminator():
    model = made(**ONLY_TRANSLATION)
    before = weights([model.discriminator])
    assert set(step(model)) == {"translation"}
    assert not any(moved(before, weights([model.discriminator])))
    assert set(model.optimizers) == {"generators"}


@pytest.mark.parametrize(
    "weight, terms",
    [
        ("cycle_weight", {"cycle"}),
        ("disentanglement_weight", {"disentanglement"}),
        ("adversarial_weight", {"g_adversarial", "g_modality"}),
        ("modality_weight", {"g_adversarial", "g_modality"}),
    ],
)
def test_a_weight_brings_in_its_own_terms(model, monkeypatch, weight, terms):
    with_config(model, monkeypatch, **(ONLY_TRANSLATION | {weight: 1.0}))
    _, found, _ = model.generator_loss(chosen(model), {})
    assert set(found) == {"translation"} | terms


def test_each_weight_multiplies_its_own_term(model, monkeypatch):
    weight = {
        "translation_weight": 2.0,
        "cycle_weight": 3.0,
        "adversarial_weight": 5.0,
        "modality_weight": 7.0,
        "disentanglement_weight": 11.0,
        "discriminator_modality_weight": 13.0,
    }
    with_config(model, monkeypatch, **weight)
    total, terms, d_total, d_terms = losses(model, chosen(model))
    expected = (
        2 * terms["translation"]
        + 3 * terms["cycle"]
        + 5 * terms["g_adversarial"]
        + 7 * terms["g_modality"]
        + 11 * terms["disentanglement"]
    )
    assert total == pytest.approx(expected, rel=1e-5)
    assert d_total == pytest.approx(d_terms["d_adversarial"] + 13 * d_terms["d_modality"], rel=1e-5)


def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path):
    check_training_resumes(made, step, (examples(B, seed=1), examples(B, seed=2)), tmp_path)


def test_inside_averaged_the_averages_answer_and_afterwards_the_live_weights_again():
    model = made()
    step(model, steps=2)
    image = examples()["image"][..., :1]
    before = array(model.translate(image, "T2"))
    with model.averaged():
        assert np.abs(array(model.translate(image, "T2")) - before).max() > 0
    np.testing.assert_array_equal(array(model.translate(image, "T2")), before)


def test_the_disentanglement_is_delayed_and_then_grows_to_its_weight():
    model = made(disentanglement_weight=3.0, disentanglement_delay=0.25, steps=8)
    batch = chosen(model)

    def share():
        """Of the disentanglement in the total."""
        total, terms, _, _ = losses(model, batch)
        c = model.config
        rest = c.translation_weight * terms["translation"] + c.cycle_weight * terms["cycle"]
        rest += c.adversarial_weight * terms["g_adversarial"]
        rest += c.modality_weight * terms["g_modality"]
        return (total - rest) / terms["disentanglement"]

    found = []
    for done in (0, 1, 2, 3, 4, 8):
        model.optimizers["generators"].iterations.assign(done)
        found.append(share())
    np.testing.assert_allclose(found, [0, 0, 0, 1.5, 3, 3], atol=1e-3)


def test_a_delayed_disentanglement_joins_in_as_training_goes_on():
    late = made(disentanglement_delay=0.25, steps=8)
    without = made(disentanglement_delay=0.99, steps=8)
    networks = (late.encoder, without.encoder)
    for moves in (False, False, False, True):  # from the fourth of eight steps on
        for model in (late, without):
            step(model)
        one, other = (weights([network]) for network in networks)
        assert any(moved(one, other)) == moves


def test_rates_stay_and_then_fall_to_zero_over_the_last_steps():
    model = made(learning_rate=0.2, learning_rate_decay=0.5, steps=8)
    rates = {name: optimizer.get_config()["learning_rate"] for name, optimizer in model.optimizers.items()}
    for name, first in (("generators", 0.2), ("discriminators", TINY.discriminator_learning_rate)):
        schedule = keras.optimizers.schedules.deserialize(rates[name])
        found = [float(schedule(step)) for step in (0, 3, 4, 6, 8, 9)]
        np.testing.assert_allclose(found, np.array([1, 1, 1, 0.5, 0, 0]) * first, atol=1e-6)
    step(model)


@pytest.mark.parametrize("settings", [{"skips": False}, {"merge": True}, {"image_size": (32, 48)}], ids=str)
def test_a_step_is_made_by_either_network_and_on_oblong_slices(settings):
    model = made(**settings)
    height, width, _ = model.config.image_shape
    images = np.random.default_rng(0).uniform(-1, 1, (B, height, width, M)).astype("float32")
    assert np.all(np.isfinite(list(step(model, {"image": images}).values())))
    assert model.translate(images[..., :1], "T2").shape == (B, height, width, 1)


def test_slices_of_background_alone_leave_a_step_finite():
    model = made()
    logs = step(model, {"image": np.full((B, 32, 32, M), -1.0, "float32")})
    assert np.all(np.isfinite(list(logs.values())))
    assert all(np.all(np.isfinite(value)) for value in weights([model.encoder, model.decoder]))


def test_other_keys_of_the_data_do_not_disturb_a_step():
    assert set(step(made(), examples(label=np.zeros(B, "int32")))) == documented_terms()


# --- draws ---


def test_a_pass_holds_the_slices_of_the_pairs_drawn_and_their_codes(model):
    batch, image = chosen(model), examples()["image"]
    for name in ("source", "target"):
        index = PAIRS[f"{name}_modality"]
        expected = image[np.arange(B), :, :, index][..., None]
        np.testing.assert_array_equal(array(batch[name]), expected)
        np.testing.assert_array_equal(array(batch[f"{name}_code"]), np.eye(M)[index])
    assert array(batch["weight"]).tolist() == [1.0] * B


def drawn(model, size=B, **batch):
    found = model.draw(tensors({**examples(size), **batch}))
    return array(found["source_modality"]), array(found["target_modality"])


@pytest.mark.parametrize("size", [6, 7])
def test_each_modality_is_the_source_equally_often(model, size):
    for _ in range(5):
        source, _ = drawn(model, size)
        counts = np.bincount(source, minlength=M)
        assert counts.max() - counts.min() == (0 if size % M == 0 else 1)


def test_in_a_batch_that_does_not_divide_no_modality_has_the_odd_one_always(model):
    sources = [drawn(model, 1)[0][0] for _ in range(60)]
    assert np.bincount(sources, minlength=M).min() > 8  # 20 expected of each


def test_over_many_steps_all_pairs_are_drawn_equally_often_at_every_place(model):
    pairs = [drawn(model, 60) for _ in range(20)]
    source, target = (np.stack(drawn) for drawn in zip(*pairs, strict=True))
    counts = np.bincount((M * source + target).ravel(), minlength=M * M)
    assert counts.min() > 90  # 133 expected of each, self-translations included
    assert min(np.bincount(source[:, place], minlength=M).max() for place in range(60)) < 20


def test_only_available_modalities_are_drawn_and_all_of_them(model):
    available = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]] * 10, "float32")
    seen = np.zeros((2, 40, M))
    for _ in range(12):
        for side, index in enumerate(drawn(model, 40, available=available)):
            seen[side, np.arange(40), index] = 1
    assert not seen[:, available == 0].any()
    assert seen.reshape(2, 10, 4, M).max(axis=1)[:, available[:4] == 1].all()


def test_self_translations_are_left_out_where_there_is_another_modality():
    model = made(self_translations=False)
    available = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]] * 20, "float32")
    given = np.array([1, 2, 2] * 20, "int32")
    seen = np.zeros((3, M))
    for injected in ({}, {"source_modality": given}):
        for _ in range(4):
            source, target = drawn(model, 60, available=available, **injected)
            np.testing.assert_array_equal(source == target, available.sum(axis=1) == 1)
            assert available[np.arange(60), target].all()
            np.add.at(seen, (np.arange(60) % 3, target), 1)
    assert (seen[0] > 8).all() and (seen[1, 1:] > 8).all()  # 27 expected of the rarest


def test_draws_differ_from_step_to_step_and_those_of_the_batch_are_kept(model):
    first, second = drawn(model, 60), drawn(model, 60)
    assert any(moved(first, second))
    again = model.draw(tensors({**examples(), **PAIRS}))
    for name, expected in PAIRS.items():
        np.testing.assert_array_equal(array(again[name]), expected)


# --- missing modalities ---


@pytest.mark.parametrize("value", [1e3, np.nan])
def test_what_is_not_available_enters_no_loss_whatever_its_channel_holds(model, value):
    image = examples()["image"]
    available = np.ones((B, M), "float32")
    pairs = {
        "source_modality": np.array([0, 1, 2, 0], "int32"),
        "target_modality": np.array([1, 1, 0, 0], "int32"),
    }
    available[0, 2] = available[1, 0] = available[3, 1] = 0
    spoilt = np.where(available[:, None, None] == 1, image, value).astype("float32")
    clean = losses(model, chosen(model, available=available, **pairs))
    assert losses(model, chosen(model, image=spoilt, available=available, **pairs)) == clean


@pytest.mark.parametrize("value", [-1.0, 1e3])
def test_a_subject_without_any_modality_counts_for_nothing(model, value):
    image = examples()["image"]
    available = np.ones((B, M), "float32")
    available[2] = 0
    image[2] = value
    one = losses(model, chosen(model, image=image, available=available))
    rest = [0, 1, 3]
    without = {name: index[rest] for name, index in PAIRS.items()}
    other = losses(model, chosen(model, image=image[rest], available=available[rest], **without))
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_batch_without_any_modality_has_no_loss(model):
    nothing = {"available": np.zeros((B, M), "float32")}
    total, terms, d_total, d_terms = losses(model, chosen(model, **nothing))
    assert total == d_total == 0
    assert not any([*terms.values(), *d_terms.values()])


# --- the objective ---


def knowing(batch, real, generated):
    """A discriminator that knows which slices are real: these scores, and the class that it is told."""

    def judge(image):
        equal = ops.all(ops.isclose(image, batch["target"]), axis=(1, 2, 3))
        score = ops.where(equal, real, generated)[:, None, None, None] * ops.ones((B, 2, 2, 1))
        return score, 1e3 * (2.0 * batch["target_code"] - 1.0)

    return Judge(judge)


def test_a_discriminator_that_knows_the_truth_has_no_loss(monkeypatch):
    model = made()
    batch = chosen(model)
    monkeypatch.setattr(model, "discriminator", knowing(batch, real=1e3, generated=-1e3))
    _, terms, d_total, _ = losses(model, batch)
    assert d_total == 0
    assert terms["g_adversarial"] == 1e3  # its gradient does not vanish
    assert terms["g_modality"] == 0


def test_a_discriminator_that_is_fooled_leaves_the_generator_no_adversarial_loss(monkeypatch):
    model = made()
    batch = chosen(model)
    monkeypatch.setattr(model, "discriminator", knowing(batch, real=-1e3, generated=1e3))
    _, terms, d_total, d_terms = losses(model, batch)
    assert terms["g_adversarial"] == 0
    assert d_total == d_terms["d_adversarial"] == 2e3


def test_least_squares_is_the_adversarial_loss_if_asked_for(monkeypatch):
    model = made()
    batch = chosen(model)
    monkeypatch.setattr(model, "discriminator", knowing(batch, real=3.0, generated=2.0))
    with_config(model, monkeypatch, adversarial_loss="least_squares")
    _, terms, _, d_terms = losses(model, batch)
    assert terms["g_adversarial"] == 1
    assert d_terms["d_adversarial"] == (3 - 1) ** 2 + 2**2


def test_the_discriminator_learns_modalities_on_real_slices_and_by_a_flag_on_generated_ones(
    monkeypatch,
):
    model = made()
    batch = chosen(model)

    def judge(image):
        """Knows the modality of real slices and nothing of generated ones."""
        is_real = ops.all(ops.isclose(image, batch["target"]), axis=(1, 2, 3))
        logits = 1e3 * batch["target_code"] * ops.cast(is_real, "float32")[:, None]
        return ops.zeros((B, 2, 2, 1)), logits

    monkeypatch.setattr(model, "discriminator", Judge(judge))
    assert losses(model, batch)[3]["d_modality"] == 0
    with_config(model, monkeypatch, classify_generated=True)
    assert losses(model, batch)[3]["d_modality"] == pytest.approx(np.log(M), rel=1e-5)


def test_networks_that_are_perfect_leave_nothing_but_the_adversarial_terms(monkeypatch):
    model = made()
    batch = chosen(model)

    def decode(inputs):
        wanted = inputs["code"][:, None, None]
        return ops.sum(inputs["level_1"] * wanted, axis=-1, keepdims=True)

    image = ops.convert_to_tensor(examples()["image"])
    monkeypatch.setattr(model, "encoder", Judge(lambda _: {"level_1": image}))
    monkeypatch.setattr(model, "decoder", Judge(decode))
    _, terms, _, _ = losses(model, batch)
    for name in ("translation", "cycle", "disentanglement"):
        assert terms[name] == pytest.approx(0, abs=1e-6), name


def test_translation_and_cycle_are_the_distances_to_the_target_and_to_the_source(model):
    batch = chosen(model)
    _, terms, _ = model.generator_loss(batch, {})
    generated = model.translate(batch["source"], PAIRS["target_modality"])
    returned = model.translate(generated, PAIRS["source_modality"])
    for name, image, truth in (
        ("translation", generated, batch["target"]),
        ("cycle", returned, batch["source"]),
    ):
        expected = np.abs(array(image) - array(truth)).mean()
        assert values(terms)[name] == pytest.approx(expected, rel=1e-4), name


def test_disentanglement_is_the_distance_between_the_anatomies_of_source_and_translation(model, monkeypatch):
    batch = chosen(model)
    generated = model.translate(batch["source"], PAIRS["target_modality"])
    one, other = model.encode(batch["source"]), model.encode(generated)
    levels = [array(absolute_error(one[name], other[name])).mean() for name in one]
    _, terms, _ = model.generator_loss(batch, {})
    assert values(terms)["disentanglement"] == pytest.approx(np.mean(levels), rel=1e-4)
    with_config(model, monkeypatch, disentangle_skips=False)
    _, terms, _ = model.generator_loss(batch, {})
    assert values(terms)["disentanglement"] == pytest.approx(levels[-1], rel=1e-4)


@pytest.mark.parametrize("flag", [False, True])
def test_the_disentanglement_moves_the_decoder_only_if_asked_to(flag):
    class OnlyDisentangled(Unified):
        def phases(self):
            return [phase._replace(loss=self.only) for phase in super().phases()[:1]]

        def only(self, batch, carried):
            _, terms, _ = self.generator_loss(batch, carried)
            # Zeros, so that a variable that it does not reach has a gradient all the same.
            zero = sum(ops.sum(0.0 * v) for v in self.decoder.trainable_variables)
            return (
                terms["disentanglement"] + zero,
                {"disentanglement": terms["disentanglement"]},
                {},
            )

    keras.utils.set_random_seed(0)
    model = OnlyDisentangled(dataclasses.replace(TINY, disentangle_decoder=flag))
    AdversarialModel.compile(model, {"generators": keras.optimizers.SGD(0.1)}, run_eagerly=True)
    before = {network.name: kernels([network]) for network in (model.encoder, model.decoder)}
    step(model)
    assert all(moved(before["encoder"], kernels([model.encoder])))
    assert any(moved(before["decoder"], kernels([model.decoder]))) == flag


def test_anatomies_are_compared_level_by_level_whatever_the_levels_size():
    zeros = {"level_1": ops.zeros((2, 4, 4, 3)), "level_2": ops.zeros((2, 2, 2, 5))}
    other = {"level_1": ops.ones((2, 4, 4, 3)), "level_2": -3.0 * ops.ones((2, 2, 2, 5))}
    assert array(anatomy_distance(zeros, other)).tolist() == [2.0, 2.0]
    assert array(anatomy_distance(zeros, other, all_levels=False)).tolist() == [3.0, 3.0]


# --- verbs ---


def test_translate_takes_a_target_by_name_by_index_one_an_image_or_as_codes(model):
    image = examples()["image"][..., :1]
    expected = array(model.translate(image, "T2"))
    assert expected.shape == image.shape
    assert expected.dtype == np.float32
    assert np.abs(expected).max() <= 1
    codes = np.eye(M, dtype="float32")[[1] * B]
    for target in (1, np.int64(1), ["T2"] * B, [1] * B, np.ones(B, int), codes):
        np.testing.assert_array_equal(array(model.translate(image, target)), expected)
    several = array(model.translate(image, ["T1", "T2", "FLAIR", "T2"]))
    np.testing.assert_allclose(several[1], expected[1], atol=1e-6)
    assert np.abs(several[0] - expected[0]).max() > 1e-4


def test_encode_gives_all_that_the_decoder_is_handed(model):
    image = examples()["image"][..., :1]
    anatomy = model.encode(image)
    shapes = {name: tuple(features.shape) for name, features in anatomy.items()}
    assert shapes == {
        "level_1": (B, 16, 16, 2),
        "level_2": (B, 8, 8, 4),
        "level_3": (B, 4, 4, 8),
        "level_4": (B, 2, 2, 16),
        "level_5": (B, 1, 1, 16),
    }
    np.testing.assert_array_equal(array(model.decode(anatomy, "FLAIR")), array(model.translate(image, "FLAIR")))


def test_an_example_is_answered_alone_as_in_its_batch(model):
    image = examples()["image"][..., :1]
    np.testing.assert_allclose(array(model.translate(image[1:2], 0))[0], array(model.translate(image, 0))[1], atol=1e-5)


def test_verbs_leave_every_variable_as_it_was(model):
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    model.translate(examples()["image"][..., :1], "T1")
    assert not any(moved(before, [ops.convert_to_numpy(v) for v in model.variables]))


IMAGE = np.zeros((2, 32, 32, 1), "float32")
WRONG = {
    "image size": (lambda m: m.encode(np.zeros((2, 16, 16, 1))), r"received \(2, 16, 16, 1\)"),
    "several channels": (
        lambda m: m.translate(np.zeros((2, 32, 32, 3)), 0),
        r"\(B, 32, 32, 1\), received \(2, 32, 32, 3\)",
    ),
    "image without batch": (lambda m: m.encode(np.zeros((32, 32, 1))), r"received \(32, 32, 1\)"),
    "unknown name": (
        lambda m: m.translate(IMAGE, "PD"),
        "among T1, T2, FLAIR, or an index from 0 to 2; received 'PD'",
    ),
    "index too large": (lambda m: m.translate(IMAGE, 3), "from 0 to 2; received 3"),
    "negative index": (lambda m: m.translate(IMAGE, -1), "received -1"),
    "fraction": (lambda m: m.translate(IMAGE, 0.5), "received 0.5"),
    "number of targets": (
        lambda m: m.translate(IMAGE, [0, 1, 2]),
        "1 target or 2, one an image; received 3",
    ),
    "codes": (lambda m: m.translate(IMAGE, np.eye(2)), r"\(B, 3\), received \(2, 2\)"),
    "training channels": (
        lambda m: m.passes({"image": np.zeros((2, 32, 32, 4), "float32")}),
        r"\(B, 32, 32, 3\), a channel for each of T1, T2, FLAIR; received \(2, 32, 32, 4\)",
    ),
    "training size": (
        lambda m: m.passes({"image": np.zeros((2, 32, 48, 3), "float32")}),
        r"received \(2, 32, 48, 3\)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_an_error_that_says_what_was_expected(model, what):
    call, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        call(model)


def test_signatures_are_functions_of_named_tensors_without_chance(model):
    signatures = model.signatures()
    assert list(signatures) == ["translate", "encode"]
    random = np.random.default_rng(0)
    for function, arguments in signatures.values():
        given = {name: random.normal(size=(2, *shape[1:])).astype("float32") for name, shape in arguments.items()}
        first, second = function(**given), function(**given)
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(array(first[name]), array(second[name]))


# --- config ---


def test_a_config_is_frozen_and_survives_json():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.image_size = 64
    for config in (TINY, dataclasses.replace(TINY, image_size=(192, 160))):
        assert UnifiedConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_one_size_is_a_square_and_two_are_height_and_width():
    assert UnifiedConfig().image_shape == (128, 128, 1)
    assert UnifiedConfig(image_size=(192, 160)).image_shape == (192, 160, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 100},
        {"image_size": 16},
        {"image_size": (192, 161)},
        {"image_size": (32, 32, 32)},
        {"modalities": ("T1",)},
        {"modalities": ("T1", "T1")},
        {"filters": 0},
        {"discriminator_filters": 1.5},
        {"batch_size": 0},
        {"steps": 0},
        {"upsampling": "bilinear"},
        {"initializer": "zeros"},
        {"adversarial_loss": "wasserstein"},
        {"cycle_weight": -1.0},
        {"disentanglement_weight": float("nan")},
        {"average_momentum": 1.0},
        {"disentanglement_delay": 1.0},
        {"learning_rate_decay": -0.5},
        {"clip_norm": 0.0},
        {"learning_rate": 0.0},
        {"discriminator_learning_rate": -1e-4},
    ],
    ids=str,
)
def test_an_impossible_value_is_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"(?s){name}.*received {re.escape(repr(value))}"):
        UnifiedConfig(**wrong)


def test_presets_have_the_sizes_of_the_commands_table_and_paper_is_the_default():
    quick, small = UnifiedConfig.preset("quick"), UnifiedConfig.preset("small")
    assert (quick.image_size, quick.steps, quick.learning_rate, quick.cycle_weight) == (64, 4000, 2e-3, 10.0)
    assert small == dataclasses.replace(quick, image_size=128)
    assert UnifiedConfig.preset("paper") == UnifiedConfig()
    assert (UnifiedConfig().learning_rate, UnifiedConfig().steps, UnifiedConfig().normalize) == (1e-3, 20_000, "slice")


def test_the_data_decide_the_modalities_and_a_phantom_is_drawn_at_the_size():
    abdomen = SimpleNamespace(dataset="chaos", modalities=["InPhase", "OutPhase"])
    assert UnifiedConfig.data_fields(abdomen) == {"modalities": ("InPhase", "OutPhase")}
    assert UnifiedConfig.preparation("brain_phantom", 64) == {"size": 64}
    assert UnifiedConfig.preparation("brats", 64) == {}
    UnifiedConfig().check_manifest(abdomen)


def test_data_of_one_modality_are_refused_with_data_that_have_more():
    skin = SimpleNamespace(dataset="skin_phantom", modalities=("dermatoscopy",))
    with pytest.raises(ValueError, match="two or more.*skin_phantom with dermatoscopy.*brain_phantom"):
        UnifiedConfig().check_manifest(skin)


def test_slices_are_read_at_the_configs_size_and_normalization():
    config = UnifiedConfig(image_size=(64, 32), normalize="percentile")
    assert config.loading == {"image_size": (64, 32), "normalize": "percentile"}


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match="content_dim"):
        UnifiedConfig(content_dim=64)


def test_a_model_is_rebuilt_from_its_config(model):
    config = json.loads(json.dumps(model.get_config()))
    assert Unified.from_config(config).config == TINY


# --- networks at the size of the paper ---

PAPER = UnifiedConfig()


def test_encoder_and_decoder_have_the_parameters_of_the_backbone_but_for_where_the_code_goes_in():
    # TC-MGAN's 41,822,593 with three planes less into the first convolution, and four more into every transposed one.
    decoder_outputs = (512, 512, 512, 256, 128, 64, 1)
    expected = 41_822_593 - 3 * 16 * 64 + 4 * 16 * sum(decoder_outputs)
    networks = unified.encoder(PAPER), unified.decoder(PAPER)
    assert sum(network.count_params() for network in networks) == expected


def test_the_discriminator_has_the_parameters_of_the_backbones_with_one_channel_and_four_classes():
    # TC-MGAN's 11,203,520 with one channel less at the front and one class more at the end.
    expected = 11_203_520 - 16 * 64 + 16 * 1024
    assert unified.discriminator(PAPER).count_params() == expected


@pytest.mark.parametrize(
    "size, bottleneck, patches",
    [
        (32, (1, 1), (4, 4)),
        (64, (1, 1), (4, 4)),
        (256, (2, 2), (8, 8)),
        ((192, 160), (6, 5), (6, 5)),
        (240, (15, 15), (15, 15)),
    ],
    ids=str,
)
def test_other_sizes_have_as_many_levels_as_their_sides_can_be_halved(size, bottleneck, patches):
    config = dataclasses.replace(TINY, image_size=size)
    features = unified.encoder(config).output
    assert tuple(features[max(features)].shape[1:3]) == bottleneck
    scores, modality = unified.discriminator(config).output
    assert tuple(scores.shape[1:3]) == patches
    assert modality.shape == (None, M)


# --- backends: as tests/systems/test_three_backends.py, which says why after SGD and from a fixed seed ---

BACKENDS = ("tensorflow", "jax", "torch")
SCRIPT = """
import keras
import numpy as np
from tfdisent.systems.unified import Unified, UnifiedConfig

batches = dict(np.load(FOLDER + "/batches.npz"))
keras.utils.set_random_seed(0)
model = Unified(UnifiedConfig(
    image_size=48, modalities=("T1", "T2", "FLAIR"), filters=4, discriminator_filters=4, initializer="he_normal",
    upsampling="nearest", average_momentum=0.9,
))
weights = FOLDER + "/start.weights.h5"
if keras.backend.backend() == "tensorflow":
    model.save_weights(weights)
model.load_weights(weights)
model.compile(
    {name: keras.optimizers.SGD(1e-2, name=name) for name in ("discriminators", "generators")},
    run_eagerly=EAGERLY,
)
start = model.decoder.get_weights()
logs = model.fit(batches, batch_size=4, shuffle=False, verbose=0).history
np.savez(
    f"{FOLDER}/{keras.backend.backend()}.npz", *model.get_weights(),
    moved=max(np.abs(a - b).max() for a, b in zip(model.decoder.get_weights(), start, strict=True)),
    logs=[logs[name][0] for name in sorted(logs)],
)
"""


@pytest.fixture(scope="module")
def trained(run_python, tmp_path_factory):
    """{backend: weights, losses and the largest change after three steps}, for what is installed."""
    folder = tmp_path_factory.mktemp("backends")
    random = np.random.default_rng(0)
    available = np.ones((12, 3), "float32")
    available[[1, 6], [2, 0]] = 0
    np.savez(
        folder / "batches.npz",
        image=random.uniform(-1, 1, (12, 48, 48, 3)).astype("float32"),
        available=available,
        source_modality=np.arange(12, dtype="int32") % 2 + (np.arange(12) == 6),
        target_modality=random.integers(0, 2, 12).astype("int32") + (np.arange(12) == 6),
    )
    results = {}
    for backend in filter(importlib.util.find_spec, BACKENDS):
        settings = f"FOLDER, EAGERLY = {str(folder)!r}, {backend != 'jax'}\n"
        run_python(settings + SCRIPT, env={"KERAS_BACKEND": backend})
        with np.load(folder / f"{backend}.npz") as result:
            results[backend] = dict(result)
    return results


@pytest.mark.slow
@pytest.mark.backend("tensorflow")  # it starts the other two itself
@pytest.mark.parametrize("one, other", list(itertools.combinations(BACKENDS, 2)))
def test_three_steps_from_the_same_weights_agree(trained, one, other):
    for backend in (one, other):
        if backend not in trained:
            pytest.skip(f"{backend} is not installed")
    ours, theirs = trained[one], trained[other]
    largest = max(np.abs(ours[name] - theirs[name]).max() for name in ours if name.startswith("arr_"))
    print(f"{one} and {other}: largest weight difference {largest:.2g}")
    assert ours["moved"] > 1e-3
    assert largest < 1e-5
    np.testing.assert_allclose(ours["logs"], theirs["logs"], rtol=1e-5, atol=1e-5)
