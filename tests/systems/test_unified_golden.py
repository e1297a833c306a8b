"""The unified framework's golden step: Eq. 1 to 7 of Liu et al., https://arxiv.org/abs/2101.05434, stated once more.

Where the paper is silent or says two things, as the docstring of `tfdisent.systems.unified` decides it.
"""

import dataclasses

import numpy as np
import pytest

from tests.systems.golden import (
    Small,
    Stated,
    Turn,
    as_tensors,
    check_gradients,
    check_step,
    check_values,
    detached,
    put_in,
    xp,
)
from tfdisent.baselines.method import method
from tfdisent.baselines.unified import METHODS
from tfdisent.systems import unified
from tfdisent.systems.unified import UnifiedConfig

B, SIZE, M = 5, 32, 3
# No two weights are alike, so that none can stand in the place of another.
CONFIG = UnifiedConfig(
    image_size=SIZE,
    modalities=("T1", "T2", "FLAIR"),
    translation_weight=2.0,
    cycle_weight=0.7,
    adversarial_weight=0.5,
    modality_weight=0.3,
    disentanglement_weight=1.3,
    discriminator_modality_weight=0.6,
    learning_rate=1e-3,
    discriminator_learning_rate=4e-4,
    average_momentum=0.15,
)
LEVELS = {"level_1": (4, 4, 2), "level_2": (1, 1, 6)}
FACTORIES = {
    "encoder": lambda c: Small("encoder", SIZE * SIZE, LEVELS),
    "decoder": lambda c: Small("decoder", 4 * 4 * 2 + 6 + c.num_modalities, (SIZE, SIZE, 1), "image"),
    "discriminator": lambda c: Small("discriminator", SIZE * SIZE, ((2, 2, 1), (c.num_modalities,))),
}
# What the names of Tables 1 and 2 leave out of the framework.
WITHOUT = {
    "unified": set(),
    "no_disentanglement": {"disentanglement"},
    "no_adversarial": {"adversarial"},
    "no_cycle": {"cycle"},
    "no_adversarial_cycle": {"adversarial", "cycle"},
    "translation_only": {"adversarial", "cycle", "disentanglement"},
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    put_in(monkeypatch, unified, FACTORIES)


def made(name="unified", **changes):
    """A model whose steps run without compilation."""
    known = method(METHODS, name)
    model = known.model(dataclasses.replace(CONFIG, **known.changes, **changes), seed=3)
    model.compile(run_eagerly=True)
    return model


def examples():
    """A batch with all that is drawn: one self-translation, and one subject without any modality."""
    random = np.random.default_rng(0)
    available = np.ones((B, M), "float32")
    available[4] = 0
    return {
        "image": random.uniform(-1, 1, (B, SIZE, SIZE, M)).astype("float32"),
        "available": available,
        "mask": (random.uniform(size=(B, SIZE, SIZE, 1)) > 0.7).astype("uint8") * 2,
        "source_modality": np.array([0, 1, 2, 0, 1], "int32"),
        "target_modality": np.array([1, 1, 0, 2, 0], "int32"),
    }


def one_pass(model):
    (batch,) = model.passes(as_tensors(examples()))
    return batch


# --- the plain statement ---


def of_those_there(values, weight):
    """Mean over the subjects that count of what each of them has on average, values (B, ...)."""
    return (values.reshape(len(weight), -1).mean(axis=1) * weight).sum() / weight.sum()


def log_real(scores, config):
    """-log Dis, or its least-squares form."""
    return (scores - 1) ** 2 if config.adversarial_loss == "least_squares" else xp.log(1 + xp.exp(-scores))


def log_generated(scores, config):
    """-log(1 - Dis), or its least-squares form."""
    return scores**2 if config.adversarial_loss == "least_squares" else xp.log(1 + xp.exp(scores))


def log_modality(logits, code):
    """-log Dis_mc(., m) of Eq. 3, (B,)."""
    return -xp.log((xp.exp(logits) * code).sum(axis=1) / xp.exp(logits).sum(axis=1))


def anatomies_apart(one, other, config):
    """abs(Enc(.) - Enc(.)) of Eq. 5, (B,): mean over a level's features, then over the levels."""
    levels = ("level_1", "level_2") if config.disentangle_skips else ("level_2",)
    return sum(abs(one[name] - other[name]).mean(axis=(1, 2, 3)) for name in levels) / len(levels)


def generators(without=frozenset(), share=1.0):
    """min over Enc and Dec of Eq. 6, and over Enc of Eq. 5, whose weight is `share` of the config's."""

    def state(net, batch, made, c):
        x, y, weight = batch["source"], batch["target"], batch["weight"]

        def decoded(anatomy, code):
            return net.decoder({**anatomy, "code": code})

        anatomy = net.encoder(x)
        y_tilde = decoded(anatomy, batch["target_code"])
        important = 1 + c.lesion_weight * batch["lesion"] if c.lesion_weight else 1
        terms = {"translation": of_those_there(important * abs(y_tilde - y), weight)}  # Eq. 1
        total = c.translation_weight * terms["translation"]
        if "cycle" not in without:  # Eq. 4
            x_tilde = decoded(net.encoder(y_tilde), batch["source_code"])
            terms["cycle"] = of_those_there(abs(x_tilde - x), weight)
            total = total + c.cycle_weight * terms["cycle"]  # alpha
        if "adversarial" not in without:
            scores, logits = net.discriminator(y_tilde)
            terms["g_adversarial"] = of_those_there(log_real(scores, c), weight)  # Eq. 2, not saturating
            terms["g_modality"] = of_those_there(log_modality(logits, batch["target_code"]), weight)  # Eq. 3
            total = total + c.adversarial_weight * terms["g_adversarial"]  # beta
            total = total + c.modality_weight * terms["g_modality"]  # lambda_1
        objectives = {"encoder": total, "decoder": total}
        if "disentanglement" not in without:  # Eq. 5
            shown = y_tilde if c.disentangle_decoder else detached(y_tilde)
            terms["disentanglement"] = of_those_there(anatomies_apart(net.encoder(shown), anatomy, c), weight)
            total = total + share * c.disentanglement_weight * terms["disentanglement"]
            objectives["encoder"] = total
            if c.disentangle_decoder:
                objectives["decoder"] = total
        return Stated(total, terms, objectives, {"y_tilde": y_tilde})

    return state


def discriminators(net, batch, made, c):
    """min over Dis of Eq. 7: y is real and of modality m_y, x~_y is generated."""
    weight, code = batch["weight"], batch["target_code"]
    scores, logits = net.discriminator(batch["target"])
    generated_scores, generated_logits = net.discriminator(made["y_tilde"])
    of_modality = log_modality(logits, code)
    if c.classify_generated:  # Eq. 3 as it is written
        of_modality = of_modality + log_modality(generated_logits, code)
    terms = {
        "d_adversarial": of_those_there(log_real(scores, c), weight)
        + of_those_there(log_generated(generated_scores, c), weight),
        "d_modality": of_those_there(of_modality, weight),
    }
    total = terms["d_adversarial"] + c.discriminator_modality_weight * terms["d_modality"]  # lambda_2
    return Stated(total, terms, {"discriminator": total}, {})


def turns(name="unified", **changes):
    plays = [Turn("generators", generators(WITHOUT[name], **changes))]
    return plays if "adversarial" in WITHOUT[name] else [*plays, Turn("discriminators", discriminators)]


# --- what must equal ours ---

CHOICES = pytest.mark.parametrize(
    "settings",
    [
        {"disentangle_decoder": True},
        {"disentangle_skips": False},
        {"classify_generated": True},
        {"adversarial_loss": "least_squares"},
        {"lesion_weight": 1.5},
    ],
    ids=str,
)


@pytest.mark.parametrize("name", WITHOUT)
def test_totals_and_terms_of_the_framework_and_its_ablations_are_those_of_the_plain_statement(name):
    model = made(name)
    check_values(model, turns(name), one_pass(model))


@CHOICES
def test_totals_and_terms_of_the_choices_are_those_of_the_plain_statement(settings):
    model = made(**settings)
    check_values(model, turns(), one_pass(model))


def test_a_pass_is_the_slices_and_codes_of_the_modalities_drawn_and_counts_who_has_them():
    model = made()
    batch, given = one_pass(model), examples()
    rows = np.arange(B)
    for name in ("source", "target"):
        index = given[f"{name}_modality"]
        np.testing.assert_array_equal(batch[name][..., 0], given["image"][rows, :, :, index])
        np.testing.assert_array_equal(batch[f"{name}_code"], np.eye(M)[index])
    np.testing.assert_array_equal(batch["weight"], [1, 1, 1, 1, 0])
    assert "lesion" not in batch


def test_lesions_that_weigh_more_are_all_that_the_mask_shows_and_must_be_known():
    model, given = made(lesion_weight=2.0), examples()
    np.testing.assert_array_equal(one_pass(model)["lesion"], given.pop("mask") > 0)
    with pytest.raises(ValueError, match="a mask, since lesions have a weight.*lesion_weight=0"):
        model.passes(as_tensors(given))


@pytest.mark.parametrize("done, share", [(1, 0.0), (3, 0.5), (5, 1.0)])
def test_a_delayed_disentanglement_has_its_share_of_the_total(done, share):
    model = made(disentanglement_delay=0.25, steps=8)
    model.optimizers["generators"].iterations.assign(done)
    check_values(model, turns(share=share), one_pass(model))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", WITHOUT)
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(name):
    model = made(name)
    check_gradients(model, turns(name), one_pass(model))


@pytest.mark.backend("torch")
@CHOICES
def test_each_networks_gradient_under_the_choices_is_that_of_the_plain_statement(settings):
    model = made(**settings)
    check_gradients(model, turns(), one_pass(model))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.05}], ids=str)
def test_two_steps_move_every_variable_and_average_as_the_plain_statement_does(settings):
    rates = {"discriminators": CONFIG.discriminator_learning_rate}
    check_step(lambda: made(**settings), turns(), examples(), {"encoder", "decoder"}, rates)
