"""DRAI: its loss terms, its step, what it can do, and the sizes of its networks."""

import dataclasses
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from tests.checks import Judge, array, check_training_resumes, moved, tensors, trained_once, weights
from tests.tiny import NARROWEST
from tfdisent.systems import drai
from tfdisent.systems.drai import DRAI, DRAIConfig, mismatched_conditions, standard_normal, toned, transform
from tfdisent.training.adversarial import AdversarialModel

TINY = DRAIConfig(**NARROWEST, channels=1, initializer="he_normal", learning_rate=1e-3, train_twice=False)
DAI = {"gradient_reversal_weight": 0.0, "self_supervision_weight": 0.0, "code_cycle_weight": 0.0}
B = 4


def made(seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = DRAI(dataclasses.replace(TINY, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(size=B, seed=0):
    random = np.random.default_rng(seed)
    image = random.uniform(-1, 1, (size, 16, 16, 1)).astype("float32")
    return {"image": image, "condition": np.eye(3, dtype="float32")[np.arange(size) % 3]}


def step(model, batch=None, steps=1):
    """Trains; returns the logs."""
    return trained_once(model, batch or examples(B * steps), B)


def players(model):
    """Networks of each player, {"discriminators": ..., "generators": ...}."""
    return {phase.optimizer: list(phase.networks) for phase in model.phases()}


@pytest.fixture(scope="module")
def model():
    """For what leaves the weights alone."""
    return made()


def made_for(model, batch):
    """What the generators hand to the discriminators."""
    _, _, carried = model.generator_loss(batch, {})
    return {name: ops.stop_gradient(value) for name, value in carried.items()}


def documented_terms():
    rows = re.findall(r"^\| ([a-z_]+(?:, [a-z_]+)*) \|", drai.__doc__, re.MULTILINE)
    return {name for row in rows for name in row.split(", ")} - {"term"}


# --- the step ---


def test_the_logs_are_the_terms_of_the_docstrings_table_and_nothing_else():
    logs = step(made())
    assert set(logs) == documented_terms()
    assert len(logs) == 17
    assert np.all(np.isfinite(list(logs.values())))


@pytest.mark.parametrize("player, other", [("discriminators", "generators"), ("generators", "discriminators")])
def test_a_player_moves_all_of_its_networks_and_leaves_the_others_bit_for_bit(player, other):
    class Alone(DRAI):
        def phases(self):
            return [phase for phase in super().phases() if phase.optimizer == player]

        def discriminator_loss(self, batch, carried):
            return super().discriminator_loss(batch, made_for(self, batch))

    keras.utils.set_random_seed(0)
    model = Alone(TINY)
    AdversarialModel.compile(model, {player: keras.optimizers.Adam(1e-3)}, run_eagerly=True)
    networks = {phase.optimizer: phase.networks for phase in DRAI.phases(model)}
    before = {name: weights(networks[name]) for name in networks}
    step(model)
    assert all(moved(before[player], weights(networks[player])))
    assert not any(moved(before[other], weights(networks[other])))


def test_every_trainable_variable_belongs_to_one_player(model):
    owned = [id(v) for networks in players(model).values() for n in networks for v in n.trainable_variables]
    assert sorted(owned) == sorted(id(v) for v in model.trainable_variables)


def test_with_weights_of_zero_it_is_the_baseline_dai():
    model = made(**DAI)
    regressors = [model.content_from_style, model.style_from_content]
    before = weights(regressors)
    logs = step(model)
    switched_off = {"code_cycle", "gradient_reversal", "content_invariance", "style_change"}
    assert set(logs) == documented_terms() - switched_off
    assert not any(moved(before, weights(regressors)))


def test_each_weight_multiplies_its_own_terms(model):
    names = {
        "kl_weight": ("kl_style", "kl_content", "kl_condition"),
        "gradient_reversal_weight": ("gradient_reversal",),
        "self_supervision_weight": ("content_invariance", "style_change"),
        "code_cycle_weight": ("code_cycle",),
    }
    weight = {
        "kl_weight": 2.0,
        "gradient_reversal_weight": 3.0,
        "self_supervision_weight": 5.0,
        "code_cycle_weight": 7.0,
    }
    config, batch = model.config, model.draw(tensors(examples()))
    model.config = dataclasses.replace(config, **weight)
    total, terms, _ = model.generator_loss(batch, {})
    model.config = config
    factor = {term: weight[name] for name, group in names.items() for term in group}
    expected = sum(factor.get(name, 1.0) * float(array(value)) for name, value in terms.items())
    assert float(array(total)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("player", ["generators", "discriminators"])
def test_a_bound_of_the_gradient_holds_back_both_players(player):
    def largest_move(clip_norm):
        model = made(clip_norm=clip_norm)
        before = weights(players(model)[player])
        step(model)
        after = weights(players(model)[player])
        return max(np.abs(b - a).max() for a, b in zip(before, after, strict=True))

    # Adam undoes a gradient's scale, until it is far below its epsilon of 1e-7.
    assert largest_move(None) == pytest.approx(TINY.learning_rate, rel=0.01)
    assert largest_move(1e6) == largest_move(None)
    assert largest_move(1e-12) < 1e-4 * TINY.learning_rate


def test_training_twice_is_a_step_on_the_images_and_a_step_on_their_transformed_version():
    model = made(train_twice=True)
    batch = tensors(examples())
    first, second = model.passes(batch)
    np.testing.assert_array_equal(array(second["image"]), array(first["transformed"]))
    np.testing.assert_array_equal(array(second["transformed"]), array(first["image"]))
    np.testing.assert_array_equal(array(second["condition"]), array(first["condition"]))
    assert np.abs(array(second["style"]) - array(first["style"])).min() > 0
    step(model, {name: array(value) for name, value in batch.items()})
    assert int(model.optimizers["generators"].iterations) == 2
    assert int(model.averages.variables[0]) == 1


def test_draws_differ_from_step_to_step_and_those_of_the_batch_are_kept(model):
    batch = tensors(examples())
    first, second = model.draw(batch), model.draw(batch)
    for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise"):
        assert np.abs(array(first[name]) - array(second[name])).min() > 0, name
    again = model.draw(first)
    assert all(again[name] is first[name] for name in first if name != "condition")


def test_other_keys_of_the_data_do_not_disturb_a_step():
    logs = step(made(), {**examples(), "label": np.zeros(B, "int32")})
    assert set(logs) == documented_terms()


def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path):
    check_training_resumes(made, step, (examples(B, seed=1), examples(B, seed=2)), tmp_path)


def test_inside_averaged_the_averages_answer_and_afterwards_the_live_weights_again():
    model = made()
    step(model, steps=3)
    condition = examples()["condition"]
    live, before = model.get_weights(), array(model.generate(condition, seed=1))
    with pytest.raises(RuntimeError), model.averaged():
        assert np.abs(array(model.generate(condition, seed=1)) - before).max() > 0
        raise RuntimeError
    np.testing.assert_array_equal(array(model.generate(condition, seed=1)), before)
    assert not any(moved(live, model.get_weights()))


# --- the objective ---


NO_PAIR = 5.0  # the score of an image with a code that belongs to another


def is_real(model, monkeypatch, batch, answer):
    """Puts in discriminators that know the truth: they score the pair at hand `answer`, what was made 1 - answer.

    Those of codes know whose code it is: an image is real with the codes inferred from it, generated with those that it
    was made from; any other pair has a loss on both sides.
    """
    image, condition = batch["image"], batch["condition"]
    z_hat, c_hat, _ = model.infer(batch)
    c, *_ = model.infer_condition(condition, batch["content_noise"])

    def same(*pairs):
        score = 1.0
        for one, other in pairs:
            equal = ops.reshape(ops.cast(ops.isclose(one, other, atol=1e-5), "float32"), (B, -1))
            score = score * ops.min(equal, axis=1, keepdims=True)
        return score

    def score(*pairs):
        return same(*pairs) if answer else 1.0 - same(*pairs)

    def joint(inferred, drawn):
        def judge(inputs):
            shown, code = inputs
            belongs = ops.where(same((shown, image)) > 0, same((code, inferred)), same((code, drawn)))
            return ops.where(belongs > 0, score((shown, image)), NO_PAIR)

        return judge

    fakes = {
        "image_discriminator": lambda x: score((x, image)),
        "condition_discriminator_trunk": lambda x: x,
        "condition_discriminator_head": lambda x: score((x[0], image), (x[1], condition)),
        "style_discriminator": joint(z_hat, batch["style"]),
        "content_discriminator": joint(c_hat, c),
        "cycle_discriminator": lambda x: score((x, ops.concatenate([image, image], axis=-1))),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(model, name, Judge(fake))


def test_discriminators_that_know_the_truth_have_no_loss(monkeypatch):
    model = made()
    batch = model.draw(tensors(examples()))
    is_real(model, monkeypatch, batch, answer=1)
    total, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert {name: float(array(value)) for name, value in terms.items()} == dict.fromkeys(terms, 0.0)
    assert float(array(total)) == 0


def test_discriminators_that_are_fooled_in_everything_leave_the_generators_no_adversarial_loss(
    monkeypatch,
):
    model = made()
    batch = model.draw(tensors(examples()))
    is_real(model, monkeypatch, batch, answer=0)
    _, terms, _ = model.generator_loss(batch, {})
    for name in ("g_image", "g_condition", "g_style", "g_content", "g_cycle"):
        assert float(array(terms[name])) == 0, name
    _, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert {name: float(array(value)) for name, value in terms.items()} == dict.fromkeys(terms, 2.0)


@pytest.mark.parametrize("code, ours", [("style", "inferred_style"), ("content", "inferred_content")])
def test_a_model_that_shows_its_discriminators_the_wrong_code_is_found_out(monkeypatch, code, ours):
    model = made()
    batch = model.draw(tensors(examples()))
    is_real(model, monkeypatch, batch, answer=1)
    carried = made_for(model, batch)
    given = {**batch, **carried}
    swapped = {code: given[ours], ours: given[code]}
    _, terms, _ = model.discriminator_loss({**batch, **swapped}, {**carried, **swapped})
    found = {name for name, value in terms.items() if float(array(value)) > 0}
    assert found == {f"d_{code}"}


def test_without_any_mismatch_the_half_of_the_wrong_pair_is_left_out(monkeypatch):
    model = made()
    same = {**examples(), "condition": np.tile(np.eye(3, dtype="float32")[:1], (B, 1))}
    batch = model.draw(tensors(same))
    assert not array(batch["has_mismatch"]).any()
    is_real(model, monkeypatch, batch, answer=0)
    _, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert float(array(terms["d_condition"])) == 1.5  # 1 for the real pair and a half for the generated one


def style_change(model, batch, margin):
    config = model.config
    model.config = dataclasses.replace(config, style_margin=margin)
    _, terms, _ = model.generator_loss(batch, {})
    model.config = config
    return float(array(terms["style_change"]))


def test_the_style_term_is_unbounded_in_the_paper_and_a_hinge_with_a_margin(model):
    batch = model.draw(tensors(examples()))
    unbounded = style_change(model, batch, None)
    assert unbounded < 0
    assert style_change(model, batch, 0.0) == 0
    assert style_change(model, batch, 100.0) == pytest.approx(100 + unbounded, abs=1e-4)


def test_an_image_that_is_its_own_transformation_changes_neither_code(model):
    batch = model.draw(tensors(examples()))
    _, terms, _ = model.generator_loss({**batch, "transformed": batch["image"]}, {})
    assert float(array(terms["content_invariance"])) == pytest.approx(0, abs=1e-6)
    assert float(array(terms["style_change"])) == pytest.approx(0, abs=1e-6)


# --- draws ---


def test_the_five_transformations_are_numpys():
    image = examples(5)["image"]
    expected = [
        np.rot90(image[0], 1),
        np.rot90(image[1], 2),
        np.rot90(image[2], 3),
        image[3][:, ::-1],
        image[4][::-1],
    ]
    received = array(transform(ops.convert_to_tensor(image), ops.arange(5)))
    np.testing.assert_array_equal(received, np.stack(expected))


def test_a_tone_is_a_gain_of_each_channel_and_a_brightness_within_the_range():
    image = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 3, 3, 2)).astype("float32")
    amount = np.float32([[0.2, -0.1, 0.05], [0.0, 0.0, 0.9]])
    light = (image + 1) / 2  # intensities in [0, 1]
    expected = np.stack([light[0] * [1.2, 0.9] + 0.05, light[1] + 0.9])
    received = array(toned(ops.convert_to_tensor(image), ops.convert_to_tensor(amount)))
    np.testing.assert_allclose(received, 2 * np.clip(expected, 0, 1) - 1, atol=1e-6)
    assert received[1].max() == 1


def test_tones_are_drawn_by_the_seed_apart_for_each_image_and_only_where_they_are_asked_for():
    batch = tensors(examples())
    plain, one, again = (made(tone_jitter=jitter).draw(batch) for jitter in (0.0, 0.25, 0.25))
    np.testing.assert_array_equal(array(one["transformed"]), array(again["transformed"]))
    np.testing.assert_array_equal(array(one["style"]), array(plain["style"]))
    change = (array(one["transformed"]) - array(plain["transformed"])).reshape(len(batch["image"]), -1)
    assert len(np.unique(change.mean(axis=1).round(4))) == len(change)
    assert 0 < np.abs(change).max() <= 2 * 0.25 + 0.25 * 2
    tone = np.ones((len(change), TINY.channels + 1), "float32")
    drawn = made(tone_jitter=0.25).draw({**batch, "tone": ops.convert_to_tensor(tone)})
    brighter = toned(plain["transformed"], 0.25 * ops.convert_to_tensor(tone))
    np.testing.assert_allclose(array(drawn["transformed"]), array(brighter), atol=1e-6)


def test_all_five_transformations_are_drawn(model):
    image = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    batch = {
        "image": np.tile(image, (64, 1, 1, 1)),
        "condition": np.tile(np.eye(3, dtype="float32")[:1], (64, 1)),
    }
    transformed = array(model.draw(tensors(batch))["transformed"])
    assert len(np.unique(transformed[:, :, :, 0].reshape(64, -1), axis=0)) == 5


@pytest.mark.parametrize("seed", range(20))
def test_a_mismatched_condition_is_one_of_the_batch_and_never_a_match(seed):
    random = np.random.default_rng(seed)
    size, width = random.integers(1, 9), random.integers(1, 5)
    levels = random.integers(1, 4)  # few levels make many equal conditions
    condition = (random.integers(0, levels, (size, width)) / 3).astype("float32")
    noise = random.uniform(size=(size, size)).astype("float32") * random.integers(0, 2)  # or all zeros
    wrong, has_mismatch = map(
        array, mismatched_conditions(ops.convert_to_tensor(condition), ops.convert_to_tensor(noise))
    )
    several = len(np.unique(condition, axis=0)) > 1
    assert has_mismatch.tolist() == [float(several)] * size
    for own, other in zip(condition, wrong, strict=True):
        assert any((other == candidate).all() for candidate in condition)
        assert not several or (own != other).any()


def test_every_other_condition_of_the_batch_is_drawn_as_often():
    condition = np.eye(4, dtype="float32")
    counts = np.zeros((4, 4))
    random = np.random.default_rng(0)
    for _ in range(300):
        noise = ops.convert_to_tensor(random.uniform(size=(4, 4)).astype("float32"))
        counts += array(mismatched_conditions(ops.convert_to_tensor(condition), noise)[0])
    assert not np.diag(counts).any()
    assert counts[~np.eye(4, dtype=bool)].min() > 60  # 100 expected


# --- verbs ---


def test_generate_gives_images_that_the_seed_decides(model):
    condition = examples()["condition"]
    images = array(model.generate(condition, seed=3))
    assert images.shape == (B, 16, 16, 1)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    np.testing.assert_array_equal(images, array(model.generate(condition, seed=3)))
    assert np.abs(images - array(model.generate(condition, seed=4))).max() > 0
    assert np.abs(array(model.generate(condition)) - array(model.generate(condition))).max() > 0


def test_generate_with_all_noise_given_draws_nothing(model):
    condition, style, noise = (
        examples()["condition"],
        np.ones((B, 5), "float32"),
        np.zeros((B, 4), "float32"),
    )
    mean, _ = model.condition_encoder(condition, training=False)
    expected = array(model.decode(mean, style))
    np.testing.assert_array_equal(array(model.generate(condition, style, noise)), expected)


def test_encode_gives_the_posterior_means_and_calling_the_model_reconstructs(model):
    image = examples()["image"]
    codes = model.encode(image)
    assert {name: tuple(code.shape) for name, code in codes.items()} == {
        "content": (B, 4),
        "style": (B, 5),
    }
    np.testing.assert_array_equal(array(codes["style"]), array(model.style_encoder(image, training=False)[0]))
    np.testing.assert_array_equal(array(model(image)), array(model.decode(**codes)))


def test_an_example_is_answered_alone_as_in_its_batch(model):
    image = examples()["image"]
    np.testing.assert_allclose(array(model(image[1:2]))[0], array(model(image))[1], atol=1e-5)


def test_verbs_leave_every_variable_as_it_was(model):
    batch = examples()
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    model.generate(batch["condition"])
    model.hybrid(batch["image"], condition=batch["condition"])
    model.interpolate(batch["image"], batch["image"], steps=2)
    after = [ops.convert_to_numpy(v) for v in model.variables]
    assert not any(moved(before, after))


def test_a_hybrid_has_one_images_style_and_the_content_of_another_or_of_a_condition(model):
    one, other = examples()["image"], examples(seed=1)["image"]
    condition = examples()["condition"]
    style, content = model.encode(one)["style"], model.encode(other)["content"]
    np.testing.assert_array_equal(array(model.hybrid(one, other)), array(model.decode(content, style)))
    mean, _ = model.condition_encoder(condition, training=False)
    np.testing.assert_array_equal(array(model.hybrid(one, condition=condition)), array(model.decode(mean, style)))
    np.testing.assert_array_equal(array(model.hybrid(one, one)), array(model(one)))


@pytest.mark.parametrize("sources", [{}, {"content_image": True, "condition": True}])
def test_a_hybrid_has_exactly_one_source_of_content(model, sources):
    batch = examples()
    given = {"content_image": batch["image"], "condition": batch["condition"]}
    with pytest.raises(ValueError, match="exactly one of content_image and condition"):
        model.hybrid(batch["image"], **{name: given[name] for name in sources})


def test_the_ends_of_an_interpolation_are_reconstructions(model):
    one, other = examples()["image"], examples(seed=1)["image"]
    line = array(model.interpolate(one, other, steps=5))
    assert line.shape == (B, 5, 16, 16, 1)
    np.testing.assert_allclose(line[:, 0], array(model(one)), atol=1e-5)
    np.testing.assert_allclose(line[:, -1], array(model(other)), atol=1e-5)
    a, b = model.encode(one), model.encode(other)
    middle = {name: (a[name] + b[name]) / 2 for name in a}
    np.testing.assert_allclose(line[:, 2], array(model.decode(**middle)), atol=1e-5)


@pytest.mark.parametrize("code", ["content", "style"])
def test_an_interpolation_in_one_code_leaves_the_other(model, code):
    one, other = examples()["image"], examples(seed=1)["image"]
    last = array(model.interpolate(one, other, steps=2, code=code))[:, -1]
    codes = {**model.encode(one), code: model.encode(other)[code]}
    np.testing.assert_allclose(last, array(model.decode(**codes)), atol=1e-5)


@pytest.mark.parametrize("by", ["content", "style"])
def test_an_image_of_the_database_retrieves_itself_at_distance_zero(model, by):
    database = examples(6)["image"]
    indices, distances = map(array, model.retrieve(database[[4, 1]], database, by=by, top=6))
    assert indices[:, 0].tolist() == [4, 1]
    assert distances[:, 0].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert (np.diff(distances, axis=1) >= 0).all()
    codes = array(model.encode(database)[by])
    np.testing.assert_allclose(distances[0], np.sort(np.abs(codes - codes[4]).mean(axis=1)), atol=1e-5)


WRONG = {
    "image size": (
        lambda m: m.encode(np.zeros((2, 8, 8, 1))),
        r"\(B, 16, 16, 1\), received \(2, 8, 8, 1\)",
    ),
    "image without batch": (lambda m: m.encode(np.zeros((16, 16, 1))), r"received \(16, 16, 1\)"),
    "condition length": (lambda m: m.generate(np.zeros((2, 4))), r"\(B, 3\), received \(2, 4\)"),
    "condition without batch": (lambda m: m.generate(np.zeros(3)), r"\(B, 3\), received \(3,\)"),
    "code": (
        lambda m: m.interpolate(*[np.zeros((1, 16, 16, 1))] * 2, code="all"),
        "'style' or 'both'|received 'all'",
    ),
    "steps": (
        lambda m: m.interpolate(*[np.zeros((1, 16, 16, 1))] * 2, steps=1),
        "at least 2 steps.*received 1",
    ),
    "by": (lambda m: m.retrieve(*[np.zeros((1, 16, 16, 1))] * 2, by="both"), "received 'both'"),
    "top": (
        lambda m: m.retrieve(*[np.zeros((1, 16, 16, 1))] * 2, top=2),
        "the 1 images .* received 2",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_an_error_that_says_what_was_expected(model, what):
    call, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        call(model)


def test_signatures_are_functions_of_named_tensors_without_chance(model):
    signatures = model.signatures()
    assert list(signatures) == ["generate", "encode", "hybrid"]
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
        TINY.image_size = 32
    assert DRAIConfig(**json.loads(json.dumps(dataclasses.asdict(TINY)))) == TINY


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 48},
        {"image_size": 8},
        {"channels": 0},
        {"num_conditions": 0},
        {"content_dim": 0},
        {"style_dim": -1},
        {"batch_size": 0},
        {"steps": 0},
        {"initializer": "zeros"},
    ],
    ids=str,
)
def test_an_impossible_value_is_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.*received {value!r}"):
        DRAIConfig(**wrong)


def test_presets_have_the_sizes_of_the_commands_table_and_paper_is_the_default():
    quick, small = DRAIConfig.preset("quick"), DRAIConfig.preset("small")
    assert (quick.image_size, quick.steps, quick.learning_rate, quick.style_margin) == (32, 3600, 6e-4, 0.7)
    assert small == dataclasses.replace(quick, image_size=64, generator_filters=12, steps=3200)
    assert DRAIConfig.preset("paper") == DRAIConfig()
    assert (DRAIConfig().learning_rate, DRAIConfig().steps, DRAIConfig().batch_size) == (1e-5, 100_000, 64)


def test_the_data_decide_channels_and_length_of_the_condition():
    names = {"labels": ("benign", "malignant"), "condition_names": ("size", "texture")}
    lungs = SimpleNamespace(dataset="lidc", image_shape=(64, 64, 1), **names)
    assert DRAIConfig.data_fields(lungs) == {"channels": 1, "num_conditions": 2}
    assert DRAIConfig.preparation("lidc", 64) == {"size": 64}
    DRAIConfig().check_manifest(lungs)


def test_data_without_conditions_are_refused_with_data_that_have_them():
    brains = SimpleNamespace(dataset="brain_phantom", labels=(), condition_names=())
    with pytest.raises(ValueError, match="conditions and classes, received brain_phantom.*skin_phantom.*ham10000"):
        DRAIConfig().check_manifest(brains)


def test_images_are_read_at_the_configs_size():
    assert TINY.loading == {"image_size": 16, "normalize": "volume"}


def test_an_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match="filters"):
        DRAIConfig(filters=64)


def test_a_model_is_rebuilt_from_its_config(model):
    config = json.loads(json.dumps(model.get_config()))
    assert DRAI.from_config(config).config == TINY


# --- networks at the size of the paper, parameters counted by hand from their tables ---


def conv(kernel, inputs, outputs, bias=True):
    return kernel * kernel * inputs * outputs + bias * outputs


def dense(inputs, outputs, bias=True):
    return inputs * outputs + bias * outputs


def norm(channels):
    return 4 * channels  # gain, shift, and two moving statistics


def trunk(channels):
    first = conv(4, channels, 64)
    return first + sum(conv(4, n, 2 * n, bias=False) + norm(2 * n) for n in (64, 128, 256))


def encoder(channels, code):
    return trunk(channels) + conv(3, 512, 512, bias=False) + norm(512) + dense(4 * 4 * 512, 2 * code)


def joint(channels, code):
    image_path = trunk(channels) + dense(4 * 4 * 512, 512)
    code_path = dense(code, 512) + dense(512, 512)
    return image_path + code_path + dense(1024, 1024) + dense(1024, 1024) + dense(1024, 1)


def images(channels):
    stages = sum(conv(3, 2 * n, 2 * n, bias=False) + norm(2 * n) for n in (512, 256, 128, 64))
    return dense(228, 32768, bias=False) + norm(32768) + stages + conv(3, 64, channels)


PAPER = DRAIConfig()
NETWORKS = {
    # The gate's 256 units go through a linear layer; StackGAN-v2 takes them for mean and log variance themselves.
    "condition_encoder": (lambda: drai.condition_encoder(PAPER), dense(3, 512)),
    "generator": (lambda: drai.generator(PAPER), images(3)),
    "style_encoder": (lambda: drai.image_encoder(PAPER, 100, "style"), encoder(3, 100)),
    "content_encoder": (lambda: drai.image_encoder(PAPER, 128, "content"), encoder(3, 128)),
    "image_discriminator": (
        lambda: drai.image_discriminator(PAPER, 3, "image"),
        trunk(3) + conv(4, 512, 1),
    ),
    "cycle_discriminator": (
        lambda: drai.image_discriminator(PAPER, 6, "cycle"),
        trunk(6) + conv(4, 512, 1),
    ),
    "condition_head": (
        lambda: drai.condition_head(PAPER, "head"),
        dense(3, 128) + conv(3, 512 + 128, 512, bias=False) + norm(512) + conv(4, 512, 1),
    ),
    "style_discriminator": (lambda: drai.joint_discriminator(PAPER, 100, "style"), joint(3, 100)),
    "content_discriminator": (
        lambda: drai.joint_discriminator(PAPER, 128, "content"),
        joint(3, 128),
    ),
    "content_from_style": (
        lambda: drai.code_regressor(PAPER, 100, 128, "content"),
        dense(100, 256) + dense(256, 256) + dense(256, 128),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_the_papers_size_has_the_parameters_of_its_table(name):
    network, expected = NETWORKS[name]
    assert network().count_params() == expected


def test_channels_halve_and_the_map_doubles_up_to_the_image():
    maps = [
        layer.output.shape[1:] for layer in drai.generator(PAPER).layers if isinstance(layer, keras.layers.Multiply)
    ]
    assert maps == [(4, 4, 1024), (8, 8, 512), (16, 16, 256), (32, 32, 128), (64, 64, 64)]


# --- rates, widths, truncation ---


@pytest.mark.parametrize("step, share", [(0, 1.0), (50, 1.0), (75, 0.5), (100, 0.0)])
def test_rates_are_apart_and_fall_in_the_last_part_of_the_training(step, share):
    settings = {"discriminator_rate_factor": 0.4, "learning_rate_decay": 0.5, "steps": 100}
    model = DRAI(dataclasses.replace(TINY, **settings))
    rates = {player: float(array(model.learning_rate(player)(step))) for player in ("generators", "discriminators")}
    assert rates["generators"] == pytest.approx(share * 1e-3, abs=1e-9)
    assert rates["discriminators"] == pytest.approx(0.4 * share * 1e-3, abs=1e-9)
    assert model.config.scheduled == ("learning rates",) and TINY.scheduled == ()
    assert DRAI(TINY).learning_rate("discriminators") == TINY.learning_rate


def test_no_stage_is_wider_than_the_cap_and_a_high_one_changes_nothing():
    free, high, low = (DRAI(dataclasses.replace(TINY, image_size=32, max_filters=most)) for most in (None, 1000, 3))
    assert [v.shape for v in high.weights] == [v.shape for v in free.weights]
    assert low.count_params() < free.count_params()
    kernels = [v.shape for v in low.weights if len(v.shape) == 4]
    assert max(shape[-1] for shape in kernels) <= 6  # 3 channels and their gates
    image = array(low.generate(np.eye(3, dtype="float32"), seed=0))
    assert image.shape == (3, 32, 32, 1)


def test_log_variances_keep_to_a_soft_bound_and_means_do_not():
    free, bounded = (made(log_variance_bound=bound) for bound in (None, 0.5))
    bounded.set_weights(free.get_weights())
    for network, given in (("style_encoder", 300 * examples()["image"]), ("condition_encoder", 300 * np.eye(3))):
        means, variances = zip(*(map(array, getattr(m, network)(given)) for m in (free, bounded)), strict=True)
        np.testing.assert_array_equal(*means)
        assert min(np.abs(means[0]).max(), np.abs(variances[0]).max()) > 1
        np.testing.assert_allclose(variances[1], 0.5 * np.tanh(variances[0] / 0.5), atol=1e-5)


def test_truncated_draws_are_the_normal_ones_within_the_bound():
    seed = keras.random.SeedGenerator(0)
    drawn = array(standard_normal((20_000,), seed, 1.5)).astype("float64")
    expected = scipy.stats.truncnorm(-1.5, 1.5)
    assert np.abs(drawn).max() <= 1.5 + 1e-4
    assert drawn.std() == pytest.approx(expected.std(), rel=0.03)
    assert scipy.stats.kstest(drawn, expected.cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match="truncation > 0 or None, received 0"):
        standard_normal((2,), seed, 0)


def test_truncation_reaches_the_images():
    model, condition = DRAI(TINY), np.eye(3, dtype="float32")
    near, all_of_it = (array(model.generate(condition, seed=1, truncation=t)) for t in (1e-3, None))
    middle = array(model.decode(model.content_of(condition), np.zeros((3, TINY.style_dim), "float32")))
    assert np.abs(near - middle).max() < 0.05 * np.abs(all_of_it - middle).max()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_filters": 0},
        {"discriminator_rate_factor": 0.0},
        {"learning_rate_decay": 1.0},
        {"tone_jitter": 1.0},
        {"r1_weight": -1.0},
        {"batch_norm": True, "r1_weight": 0.5},
        {"log_variance_bound": 0.0},
    ],
)
def test_settings_of_rates_and_widths_out_of_range_are_errors(wrong):
    with pytest.raises(ValueError, match=f"Expected {next(iter(wrong))}"):
        dataclasses.replace(TINY, **wrong)
