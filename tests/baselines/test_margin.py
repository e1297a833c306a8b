"""The methods that the margin system is compared with: their terms, their players, their equal budgets."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import array, moved, tensors, to_numpy, trained_once, values, weights
from tests.tiny import MARGIN
from tfdisent.baselines import margin as baselines
from tfdisent.baselines.margin import METHODS
from tfdisent.baselines.method import method
from tfdisent.systems import margin

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="compiles the operations of many small networks, for minutes"
)
B, M = 4, 2
SIMILARITY = {"anatomy_similarity", "modality_similarity"}
ADVERSARIAL = {"g_adversarial", "d_adversarial", "d_accuracy"}


def made(name, seed=0, **changes):
    """A method with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    known = method(METHODS, name)
    config = known.model.config_class(**{**MARGIN, "learning_rate": 1e-3, **known.changes, **changes})
    model = known.model(config, seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(**more):
    image = np.random.default_rng(0).uniform(-1, 1, (B, 32, 32, M)).astype("float32")
    return {"image": image, "subject_index": np.array([0, 0, 1, 2], "int32"), **more}


def documented(module):
    return set(re.findall(r"^\| ([a-z_]+) \|", module.__doc__, re.MULTILINE)) - {"term"}


@pytest.mark.parametrize("name", [known.name for known in METHODS])
def test_the_logs_of_a_method_are_its_terms(name):
    without = set() if name in ("margin", "conv_sim") else SIMILARITY
    also = ADVERSARIAL if name == "conv_adv" else set()
    logs = trained_once(made(name), examples(), B)
    assert set(logs) == (documented(margin) - without) | also
    assert np.all(np.isfinite(list(logs.values())))


def test_the_discriminators_terms_are_those_of_the_docstring():
    assert documented(baselines) == ADVERSARIAL


def test_methods_differ_in_encoders_and_in_what_keeps_codes_apart_and_in_nothing_else():
    allowed = {"conditional", "anatomy_similarity_weight", "modality_similarity_weight"}
    for preset in ("quick", "small", "paper"):
        configs = {m.name: dataclasses.asdict(m.model.config_class.preset(preset, **m.changes)) for m in METHODS}
        ours = configs["margin"]
        for name, config in configs.items():
            different = {field for field in ours if config[field] != ours[field]}
            assert different <= allowed, (preset, name)
        assert configs["conv_adv"]["discriminator_learning_rate"] == ours["learning_rate"]


def test_conv_has_encoders_for_each_modality_and_all_have_one_decoding_half_and_one_decoder():
    for name, count in (("margin", 1), ("conv_na", M)):
        model = made(name)
        assert len(model.anatomy_encoders) == len(model.modality_encoders) == count
        assert len(model.networks) == 2 * count + 2


def anatomies(model, batch):
    return np.concatenate(
        [
            array(model.anatomy(batch["image"][..., i : i + 1], i, batch["available"][:, i], training=True))
            for i in range(M)
        ]
    )


AVAILABLE = np.array([[1, 1], [1, 0], [1, 1], [0, 1]], "float32")


def of_discriminator(model, image):
    """The total and terms of both players on one pass."""
    batch = tensors(examples(image=image, available=AVAILABLE))
    (batch,) = model.passes(batch)
    total, terms, made_here = model.loss_terms(batch, {})
    d_total, d_terms, _ = model.discriminator_loss(batch, {k: ops.stop_gradient(v) for k, v in made_here.items()})
    return batch, float(array(total)), values(terms), float(array(d_total)), values(d_terms)


def test_the_discriminator_tells_the_modality_and_the_encoder_makes_it_say_none():
    model = made("conv_adv", adversarial_weight=3.0)
    batch, total, terms, d_total, d_terms = of_discriminator(model, examples()["image"])
    logits = array(model.discriminator(anatomies(model, batch), training=True)).astype("float64")
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    truth, there = np.repeat(np.arange(M), B), AVAILABLE.T.ravel() > 0
    assert terms["g_adversarial"] == pytest.approx(-logs[there].mean(), rel=1e-5)
    assert d_terms["d_adversarial"] == pytest.approx(-logs[np.arange(2 * B), truth][there].mean(), rel=1e-5)
    assert d_terms["d_accuracy"] == pytest.approx((logs.argmax(1) == truth)[there].mean())
    assert d_total == pytest.approx(d_terms["d_adversarial"])
    c = model.config
    rest = terms["self_reconstruction"] + 2 * terms["cross_reconstruction"] + 0.1 * terms["latent"]
    assert total == pytest.approx(rest + c.weight_decay * terms["weight_decay"] + 3 * terms["g_adversarial"], rel=1e-5)


def test_the_encoders_part_is_least_where_no_modality_can_be_told():
    model = made("conv_adv")
    *_, last = model.discriminator.layers
    last.kernel.assign(0 * to_numpy(last.kernel))
    last.bias.assign(np.zeros(M))
    _, _, terms, _, _ = of_discriminator(model, examples()["image"])
    assert terms["g_adversarial"] == pytest.approx(np.log(M), rel=1e-6)
    last.bias.assign(np.array([3.0, -3.0]))
    _, _, others, _, _ = of_discriminator(model, examples()["image"])
    assert others["g_adversarial"] > terms["g_adversarial"] + 1


@pytest.mark.parametrize("value", [-1.0, 1e6, np.nan])
def test_the_discriminator_does_not_see_what_is_missing(value):
    model = made("conv_adv")
    image = examples()["image"]
    spoilt = np.where(AVAILABLE[:, None, None] == 1, image, value).astype("float32")
    clean, other = (of_discriminator(model, x)[1:] for x in (image, spoilt))
    assert clean == other


@pytest.mark.parametrize("player, other", [("discriminators", "networks"), ("networks", "discriminators")])
def test_a_player_moves_its_own_networks_and_leaves_the_others_bit_for_bit(player, other):
    model = made("conv_adv")
    networks = {"networks": model.networks, "discriminators": [model.discriminator]}
    optimizer = model.optimizers[other]
    optimizer.learning_rate = 0.0
    before = {name: weights(found) for name, found in networks.items()}
    trained_once(model, examples(), B)
    assert any(moved(before[player], weights(networks[player])))
    assert not any(moved(before[other], weights(networks[other])))


def test_a_discriminator_that_is_given_different_anatomies_learns_to_tell_them():
    model = made("conv_adv", discriminator_learning_rate=1e-2)
    random = np.random.default_rng(0)
    kinds = [random.dirichlet(alpha, (B, 32, 32)).astype("float32") for alpha in ([5, 1, 1, 1], [1, 1, 1, 5])]
    carried = {f"anatomy_{i}": ops.convert_to_tensor(kind) for i, kind in enumerate(kinds)}
    model.loss_terms = lambda batch, _: (0.0, {}, carried)
    batch = {"available": ops.ones((B, M))}
    phase = model.phases()[1]
    from tfdisent.training.adversarial import backend, phase_variables

    for _ in range(20):
        terms, _ = backend.minimize(
            lambda: phase.loss(batch, carried), phase_variables(phase), model.optimizers["discriminators"]
        )
    assert float(array(terms["d_accuracy"])) == 1.0
