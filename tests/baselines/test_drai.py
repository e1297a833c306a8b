"""The methods that DRAI is compared with: their terms, their steps, what they can do, and what they share with DRAI."""

import dataclasses
import functools
import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import Judge, array, check_training_resumes, moved, same_state, tensors, trained_once, weights
from tests.tiny import NARROWEST
from tfdisent.baselines import drai as baselines
from tfdisent.baselines.drai import CAVAE, DCAVAE, METHODS, CInfoGAN, DCInfoGAN
from tfdisent.baselines.method import method
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.training.adversarial import AdversarialModel

TINY = DRAIConfig(**NARROWEST, channels=1, initializer="he_normal", learning_rate=1e-3, train_twice=False)
OTHERS = {"cinfogan": CInfoGAN, "dcinfogan": DCInfoGAN, "cavae": CAVAE, "dcavae": DCAVAE}
ABLATIONS = [known.name for known in METHODS if known.model is DRAI and known.changes]
SINGLE, DUAL = ("cinfogan", "cavae"), ("dcinfogan", "dcavae")
B = 4


def made(name, seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    known = method(METHODS, name)
    keras.utils.set_random_seed(seed)
    model = known.model(dataclasses.replace(TINY, **known.changes, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def untrained():
    """Models whose weights are left alone, by name."""
    return {name: made(name) for name in ("drai", *OTHERS)}


def examples(size=B, seed=0):
    random = np.random.default_rng(seed)
    image = random.uniform(-1, 1, (size, 16, 16, 1)).astype("float32")
    return {"image": image, "condition": np.eye(3, dtype="float32")[np.arange(size) % 3]}


def step(model, batch=None):
    return trained_once(model, batch or examples(), B)


def drawn(model):
    return model.draw(tensors(examples()))


def made_for(model, batch):
    """What the generators hand to the discriminators."""
    _, _, carried = model.generator_loss(batch, {})
    return {name: ops.stop_gradient(value) for name, value in carried.items()}


def documented_terms(name):
    rows = re.findall(r"^\| ([a-z_, ]+) \| .* \| ([a-z ]+) \|$", baselines.__doc__, re.MULTILINE)
    return {term for terms, models in rows if name in models.split() for term in terms.split(", ")}


# --- the step ---


@pytest.mark.parametrize("name", OTHERS)
def test_the_logs_are_the_terms_that_the_docstrings_table_gives_the_model(name):
    logs = step(made(name))
    assert set(logs) == documented_terms(name)
    assert len(logs) == {"cinfogan": 5, "dcinfogan": 7, "cavae": 7, "dcavae": 11}[name]
    assert np.all(np.isfinite(list(logs.values())))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("player", ["discriminators", "generators"])
def test_a_player_moves_all_of_its_networks_and_no_others(name, player):
    class Alone(OTHERS[name]):
        def phases(self):
            return [phase for phase in super().phases() if phase.optimizer == player]

        def discriminator_loss(self, batch, carried):
            return super().discriminator_loss(batch, made_for(self, batch))

    keras.utils.set_random_seed(0)
    model = Alone(TINY)
    AdversarialModel.compile(model, {player: keras.optimizers.Adam(1e-3)}, run_eagerly=True)
    networks = {phase.optimizer: phase.networks for phase in OTHERS[name].phases(model)}
    before = {owner: weights(networks[owner]) for owner in networks}
    step(model)
    for owner in networks:
        after = moved(before[owner], weights(networks[owner]))
        assert all(after) if owner == player else not any(after)


@pytest.mark.parametrize("name", OTHERS)
def test_every_trainable_variable_has_one_owner(untrained, name):
    model = untrained[name]
    owned = [id(v) for p in model.phases() for n in p.networks for v in n.trainable_variables]
    assert sorted(owned) == sorted(id(v) for v in model.trainable_variables)


def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path):
    check_training_resumes(functools.partial(made, "dcavae"), step, (examples(seed=1), examples(seed=2)), tmp_path)


# --- the objective ---


def judge(model, monkeypatch, batch, right):
    """Puts in discriminators that know the truth: real pairs score 1 and others 0, or the reverse if not `right`.

    Those of codes know whose code it is, and score an image with another one's so that either side has a loss.
    """
    image, condition, carried = batch["image"], batch["condition"], made_for(model, batch)

    def same(*pairs):
        score = 1.0
        for one, other in pairs:
            equal = ops.reshape(ops.cast(ops.isclose(one, other, atol=1e-5), "float32"), (B, -1))
            score = score * ops.min(equal, axis=1, keepdims=True)
        return score

    def score(*pairs):
        return same(*pairs) if right else 1.0 - same(*pairs)

    def joint(inferred, drawn):
        def answer(inputs):
            shown, code = inputs[0], inputs[1][:, :-3]
            belongs = ops.where(same((shown, image)) > 0, same((code, carried[inferred])), same((code, carried[drawn])))
            right_condition = same((inputs[1][:, -3:], condition))
            return ops.where(belongs * right_condition > 0, score((shown, image)), 5.0)

        return answer

    judges = {
        "image_discriminator": lambda x: score((x, image)),
        "condition_discriminator_trunk": lambda x: x,
        "condition_discriminator_head": lambda x: score((x[0], image), (x[1], condition)),
        "style_discriminator": joint("inferred_style", "inferred_style"),
        "content_discriminator": joint("inferred_content", "content"),
        "cycle_discriminator": lambda x: score((x, ops.concatenate([image, image], axis=-1))),
    }
    for name, function in judges.items():
        if hasattr(model, name):
            monkeypatch.setattr(model, name, Judge(function))


def values(terms, first_letter):
    return {name: float(array(v)) for name, v in terms.items() if name.startswith(first_letter)}


@pytest.mark.parametrize("name", OTHERS)
def test_discriminators_that_know_the_truth_have_no_loss(name, monkeypatch):
    model = made(name)
    batch = drawn(model)
    judge(model, monkeypatch, batch, right=True)
    total, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert values(terms, "d_") == dict.fromkeys(terms, 0.0)
    assert float(array(total)) == 0


@pytest.mark.parametrize("name", OTHERS)
def test_discriminators_fooled_in_everything_leave_the_generators_no_adversarial_loss(name, monkeypatch):
    model = made(name)
    batch = drawn(model)
    judge(model, monkeypatch, batch, right=False)
    _, terms, _ = model.generator_loss(batch, {})
    fooled = values(terms, "g_")
    assert fooled == dict.fromkeys(fooled, 0.0)
    _, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert values(terms, "d_") == dict.fromkeys(terms, 2.0)


@pytest.mark.parametrize(
    "name, term, swapped",
    [
        ("cavae", "d_style", {"inferred_style": "drawn"}),
        ("dcavae", "d_style", {"inferred_style": "drawn"}),
        ("dcavae", "d_content", {"content": "inferred_content", "inferred_content": "content"}),
    ],
)
def test_a_model_that_shows_its_discriminators_the_wrong_code_is_found_out(name, term, swapped, monkeypatch):
    model = made(name)
    batch = drawn(model)
    judge(model, monkeypatch, batch, right=True)
    carried = made_for(model, batch)
    given = {**carried, "drawn": batch["style"]}
    wrong = {code: given[other] for code, other in swapped.items()}
    _, terms, _ = model.discriminator_loss(batch, {**carried, **wrong})
    assert {key for key, value in values(terms, "d_").items() if value > 0} == {term}


@pytest.mark.parametrize("name", OTHERS)
def test_each_weight_multiplies_its_own_terms(untrained, name):
    model = untrained[name]
    batch, config = drawn(model), model.config
    model.config = dataclasses.replace(config, code_cycle_weight=3.0, kl_weight=5.0)
    total, terms, _ = model.generator_loss(batch, {})
    model.config = config
    factor = {"style_code": 3.0, "content_code": 3.0}
    factor |= dict.fromkeys(("kl_style", "kl_content", "kl_condition"), 5.0)
    expected = sum(factor.get(key, 1.0) * float(array(value)) for key, value in terms.items())
    assert float(array(total)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["cinfogan", "dcinfogan"])
@pytest.mark.parametrize(
    "likelihood, error, variance, expected",
    [
        ("l1", 0.0, 1.0, 0.0),
        ("l1", 2.0, 4.0, 2.0),
        ("gaussian", 0.0, 1.0, 0.0),
        ("gaussian", 2.0, 1.0, 2.0),
        ("gaussian", 2.0, 4.0, 0.5 + np.log(4.0) / 2),
    ],
)
def test_a_code_costs_its_error_or_how_unlikely_it_is(name, likelihood, error, variance, expected, monkeypatch):
    model = made(name, code_likelihood=likelihood)
    batch = drawn(model)
    content, log_variance = batch["condition"], np.float32(np.log(variance))
    if name in DUAL:
        content, _, _ = model.infer_condition(content, batch["content_noise"])
        monkeypatch.setattr(model, "content_encoder", Judge(lambda x: (content + error, log_variance)))
    monkeypatch.setattr(model, "style_encoder", Judge(lambda x: (batch["style"] + error, log_variance)))
    _, terms, _ = model.generator_loss(batch, {})
    codes = {key: float(array(value)) for key, value in terms.items() if key.endswith("_code")}
    assert codes == pytest.approx(dict.fromkeys(codes, expected), abs=2e-3) and codes


@pytest.mark.parametrize("name", ["cinfogan", "dcinfogan"])
def test_codes_are_read_under_noise_that_hides_what_nobody_sees(name, monkeypatch):
    """The generator cannot hide a code in the least bits: what the encoders see differs by the noise from its image."""
    model = made(name)
    batch, seen = drawn(model), []

    def read(code):
        return Judge(lambda x: (seen.append(array(x)), (code, ops.zeros_like(code)))[1])

    for encoder, size in (("style_encoder", 5), ("content_encoder", 4)):
        if hasattr(model, encoder):
            monkeypatch.setattr(model, encoder, read(ops.zeros((B, size))))
    _, _, made_images = model.generator_loss(batch, {})
    assert len(seen) == len(model.codes)
    for image in seen:
        noise = image - array(made_images["generated"])
        np.testing.assert_allclose(noise, 0.1 * array(batch["reading_noise"]), atol=1e-6)
        assert noise.std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("name", ["cavae", "dcavae"])
def test_the_vaes_encoders_see_real_images_only_in_which_nothing_can_be_hidden(name, monkeypatch):
    model = made(name)
    batch, seen = drawn(model), []
    for encoder in ("style_encoder", "content_encoder"):
        if hasattr(model, encoder):
            network = getattr(model, encoder)
            judge = Judge(lambda x, network=network: (seen.append(array(x)), network(x))[1])
            monkeypatch.setattr(model, encoder, judge)
    model.generator_loss(batch, {})
    assert len(seen) == len(model.codes)
    for image in seen:
        np.testing.assert_array_equal(image, array(batch["image"]))


def test_a_noise_that_is_no_deviation_is_refused():
    with pytest.raises(ValueError, match="reading_noise to be finite, 0 or more, received -0.1"):
        DRAIConfig(reading_noise=-0.1)


def test_without_any_mismatch_the_half_of_the_wrong_pair_is_left_out(monkeypatch):
    model = made("cinfogan")
    same = {**examples(), "condition": np.tile(np.eye(3, dtype="float32")[:1], (B, 1))}
    batch = model.draw({name: ops.convert_to_tensor(value) for name, value in same.items()})
    judge(model, monkeypatch, batch, right=False)
    _, terms, _ = model.discriminator_loss(batch, made_for(model, batch))
    assert float(array(terms["d_condition"])) == 1.5


# --- DAI and the ablations ---


def test_dai_is_drai_with_its_three_weights_at_zero_bit_for_bit():
    off = ("gradient_reversal_weight", "self_supervision_weight", "code_cycle_weight")
    dai, drai = made("dai"), made("drai", **dict.fromkeys(off, 0.0))
    assert dai.count_params() == drai.count_params()
    for seed in range(2):
        assert step(dai, examples(seed=seed)) == step(drai, examples(seed=seed))
    same_state(dai, drai)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_drai_with_the_terms_that_it_is_called_after(untrained, name):
    terms_of = {
        "selfReg": {"content_invariance", "style_change"},
        "MIReg": {"gradient_reversal"},
        "featureCycle": {"code_cycle"},
    }
    own = set().union(*(terms_of.get(part, set()) for part in name.split("+")))
    model = untrained["drai"]
    changes = method(METHODS, name).changes
    config, model.config = model.config, dataclasses.replace(model.config, **changes)
    _, terms, _ = model.generator_loss(drawn(model), {})
    model.config = config
    assert set(terms) & set().union(*terms_of.values()) == own
    assert len(terms) == 8 + len(own)


# --- what they share with DRAI ---


@pytest.mark.parametrize("name", OTHERS)
def test_networks_have_drais_parameters_but_for_the_layer_that_takes_the_condition(untrained, name):
    model, drai = untrained[name], untrained["drai"]
    shared = {n.name: n.count_params() for phase in model.phases() for n in phase.networks}
    expected = {n.name: n.count_params() for phase in drai.phases() for n in phase.networks}
    expected = {network: expected[network] for network in shared}
    if name in SINGLE:  # 3 conditions in the place of 4 of content, to a dense layer of 4 x 4 x 16 pixels and gates
        expected["generator"] += (3 - 4) * 4 * 4 * 2 * 8
    for network in shared.keys() & {"style_discriminator", "content_discriminator"}:
        expected[network] += 3 * 4  # 3 conditions beside the code, to 4 units
    assert shared == expected


def test_models_have_names_titles_and_configs_that_exist():
    assert [known.name for known in METHODS][:5] == ["drai", *OTHERS]
    assert len({known.name for known in METHODS}) == len({known.title for known in METHODS}) == 12
    fields = {field.name for field in dataclasses.fields(DRAIConfig)}
    for known in METHODS:
        assert known.changes.keys() <= fields
        assert known.model.config_class is DRAIConfig
    assert method(METHODS, "selfReg+MIReg").title == "DAI+selfReg+MIReg"


def test_an_unknown_method_is_told_which_there_are():
    with pytest.raises(ValueError, match="among drai, cinfogan.*received --model=gan"):
        method(METHODS, "gan")


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_is_rebuilt_from_its_config(untrained, name):
    config = json.loads(json.dumps(untrained[name].get_config()))
    again = OTHERS[name].from_config(config)
    assert again.config == TINY
    assert [v.shape for v in again.weights] == [v.shape for v in untrained[name].weights]


# --- verbs ---


@pytest.mark.parametrize("name", OTHERS)
def test_generate_gives_images_that_condition_style_and_seed_decide(untrained, name):
    model, condition = untrained[name], examples()["condition"]
    images = array(model.generate(condition, seed=3))
    assert images.shape == (B, 16, 16, 1) and np.abs(images).max() <= 1
    np.testing.assert_array_equal(images, array(model.generate(condition, seed=3)))
    assert np.abs(images - array(model.generate(condition, seed=4))).max() > 0
    assert np.abs(images - array(model.generate(condition[::-1], seed=3))).max() > 0


@pytest.mark.parametrize("name", OTHERS)
def test_encode_gives_the_codes_that_the_model_infers(untrained, name):
    codes = untrained[name].encode(examples()["image"])
    sizes = {"content": 4, "style": 5}
    assert {key: tuple(code.shape) for key, code in codes.items()} == {
        key: (B, sizes[key]) for key in untrained[name].codes
    }
    assert set(codes) == ({"style"} if name in SINGLE else {"content", "style"})


@pytest.mark.parametrize("name", OTHERS)
def test_a_hybrid_has_the_style_of_an_image_and_the_content_of_a_condition(untrained, name):
    model, batch = untrained[name], examples()
    image, condition = batch["image"], batch["condition"]
    style = model.encode(image)["style"]
    content = condition if name in SINGLE else model.condition_encoder(condition)[0]
    hybrid = array(model.hybrid(image, condition=condition))
    assert hybrid.shape == image.shape
    np.testing.assert_array_equal(hybrid, array(model.decode(content, style)))


@pytest.mark.parametrize("name", SINGLE)
def test_with_one_code_content_is_the_condition_and_is_not_taken_from_images(untrained, name):
    model, batch = untrained[name], examples()
    image, condition = batch["image"], batch["condition"]
    np.testing.assert_array_equal(array(model(image, condition)), array(model.hybrid(image, condition)))
    line = array(model.interpolate(image, image[::-1], condition, steps=3))
    assert line.shape == (B, 3, 16, 16, 1)
    np.testing.assert_allclose(line[:, 0], array(model(image, condition)), atol=1e-5)
    np.testing.assert_allclose(line[:, -1], array(model(image[::-1], condition)), atol=1e-5)
    with pytest.raises(ValueError, match="at least 2 steps.*received 1"):
        model.interpolate(image, image, condition, steps=1)
    indices, _ = model.retrieve(image[[2]], image, by="style", top=1)
    assert array(indices).tolist() == [[2]]
    with pytest.raises(ValueError, match="by='style', received 'content'"):
        model.retrieve(image, image, by="content")


@pytest.mark.parametrize("name", OTHERS)
def test_signatures_are_functions_of_named_tensors_without_chance(untrained, name):
    signatures = untrained[name].signatures()
    assert list(signatures) == ["generate", "encode", "hybrid"]
    random = np.random.default_rng(0)
    for function, arguments in signatures.values():
        given = {key: random.normal(size=(2, *shape[1:])).astype("float32") for key, shape in arguments.items()}
        first, second = function(**given), function(**given)
        for key in first:
            np.testing.assert_array_equal(array(first[key]), array(second[key]))
