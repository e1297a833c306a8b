"""DRAI's golden step: the objective of Havaei et al., https://arxiv.org/abs/2012.04764, stated a second time.

Their min-max objective, Eq. 16, of whose discriminators each term is in LSGAN's form.
"""

import numpy as np
import pytest

from tests.checks import array, tensors
from tests.systems.golden import Stated, Turn, beside, check_gradients, check_step, check_values, detached, distance
from tests.systems.golden_drai import (
    SIZE,
    K,
    condition_score,
    divergence,
    drawn_from,
    examples,
    made,
    matching_aware,
    penalised,
    put_small_networks,
    says_fake,
    says_real,
)

# What Sec. III-F's names tell: the constraints that DAI gets. DRAI has all.
CONSTRAINTS = {
    "drai": {"selfReg", "MIReg", "featureCycle"},
    "dai": set(),
    "selfReg": {"selfReg"},
    "MIReg": {"MIReg"},
    "featureCycle": {"featureCycle"},
    "selfReg+MIReg": {"selfReg", "MIReg"},
    "selfReg+featureCycle": {"selfReg", "featureCycle"},
    "MIReg+featureCycle": {"MIReg", "featureCycle"},
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    put_small_networks(monkeypatch)


# --- the plain statement ---


def generators(constraints):
    """min over G_x, G_z, G_c, E_phi of Eq. 16, whose V_GRL is a max over F_z and F_c."""

    def state(net, batch, made, config):
        x, x_turned, t, z = (batch[name] for name in ("image", "transformed", "condition", "style"))
        t_mean, t_log = net.condition_encoder(t)
        c = drawn_from(t_mean, t_log, batch["content_noise"])  # c ~ q(c|t), Sec. II-B
        z_mean, z_log = net.style_encoder(x)
        c_mean, c_log = net.content_encoder(x)
        z_hat = drawn_from(z_mean, z_log, batch["inferred_style_noise"])  # z^, c^ ~ q(z, c|x), Eq. 3
        c_hat = drawn_from(c_mean, c_log, batch["inferred_content_noise"])
        x_tilde = net.generator(z, c)
        x_hat = net.generator(z_hat, c_hat)
        terms = {
            "g_image": says_real(net.image_discriminator(x_tilde)),  # Eq. 1, D_x
            "g_condition": says_real(condition_score(net, x_tilde, t)),  # Eq. 1, D_xt
            # Eq. 7: D tells (x, z^) from (x~, z), so both are to be taken for the other.
            "g_style": says_fake(net.style_discriminator(x, z_hat)) + says_real(net.style_discriminator(x_tilde, z)),
            "g_content": says_fake(net.content_discriminator(x, c_hat))
            + says_real(net.content_discriminator(x_tilde, c)),
            "g_cycle": says_real(net.cycle_discriminator(beside(x, x_hat))),  # Eq. 8
            "kl_style": divergence(z_mean, z_log),  # Eq. 16
            "kl_content": divergence(c_mean, c_log),
            "kl_condition": divergence(t_mean, t_log),
        }
        total = sum(terms[f"g_{name}"] for name in ("image", "condition", "style", "content", "cycle"))
        total = total + config.kl_weight * sum(terms[f"kl_{name}"] for name in ("style", "content", "condition"))
        if "featureCycle" in constraints:  # Eq. 9, on codes read from x~
            terms["code_cycle"] = distance(net.style_encoder(x_tilde)[0], z)
            terms["code_cycle"] = terms["code_cycle"] + distance(net.content_encoder(x_tilde)[0], c)
            total = total + config.code_cycle_weight * terms["code_cycle"]
        if "selfReg" in constraints:  # Eq. 15
            terms["content_invariance"] = distance(c_mean, net.content_encoder(x_turned)[0])
            apart = abs(z_mean - net.style_encoder(x_turned)[0]).mean(axis=1)  # of each image
            margin = config.style_margin
            terms["style_change"] = (-apart if margin is None else (margin - apart).clip(0)).mean()
            total = total + config.self_supervision_weight * (terms["content_invariance"] + terms["style_change"])
        moved = ("condition_encoder", "generator", "style_encoder", "content_encoder")
        objectives = dict.fromkeys(moved, total)
        if "MIReg" in constraints:  # Eq. 11
            # F_c and F_z bring their errors down. The encoders bring them up, by what the predictions are made from.
            fitted = distance(net.content_from_style(detached(z_mean)), detached(c_mean))
            fitted = fitted + distance(net.style_from_content(detached(c_mean)), detached(z_mean))
            told = distance(net.content_from_style(z_mean), detached(c_mean))
            told = told + distance(net.style_from_content(c_mean), detached(z_mean))
            terms["gradient_reversal"] = fitted
            weight = config.gradient_reversal_weight
            objectives = dict.fromkeys(moved, total - weight * told)
            objectives |= dict.fromkeys(("content_from_style", "style_from_content"), weight * fitted)
            total = total + weight * fitted
        made = {"x_tilde": x_tilde, "x_hat": x_hat, "c": c, "z_hat": z_hat, "c_hat": c_hat}
        return Stated(total, terms, objectives, made)

    return state


def discriminators(net, batch, made, config):
    """max over the five D of Eq. 16, on what the generators made before they moved."""
    x, z = batch["image"], batch["style"]
    x_tilde, x_hat, c, z_hat, c_hat = (made[name] for name in ("x_tilde", "x_hat", "c", "z_hat", "c_hat"))
    terms = {
        "d_image": says_real(net.image_discriminator(x)) + says_fake(net.image_discriminator(x_tilde)),  # Eq. 1
        "d_condition": matching_aware(net, batch, x_tilde),  # Eq. 1
        "d_style": says_real(net.style_discriminator(x, z_hat))  # Eq. 7
        + says_fake(net.style_discriminator(x_tilde, z)),
        "d_content": says_real(net.content_discriminator(x, c_hat)) + says_fake(net.content_discriminator(x_tilde, c)),
        "d_cycle": says_real(net.cycle_discriminator(beside(x, x)))  # Eq. 8
        + says_fake(net.cycle_discriminator(beside(x, x_hat))),
    }
    total = sum(terms.values())
    moved = ("image", "condition", "style", "content", "cycle")
    names = [f"{name}_discriminator" for name in moved if name != "condition"]
    names += ["condition_discriminator_trunk", "condition_discriminator_head"]
    stated = Stated(total, terms, dict.fromkeys(names, total), {})
    return penalised(stated, net, batch, config, z_hat, c_hat)


def turns(name="drai"):
    return [Turn("generators", generators(CONSTRAINTS[name])), Turn("discriminators", discriminators)]


# --- what must equal ours ---

MARGINS = pytest.mark.parametrize("margin", [None, 0.4])


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_totals_and_terms_of_drai_dai_and_the_ablations_are_those_of_the_plain_statement(name):
    check_values(made(name), turns(name), examples())


@MARGINS
def test_a_margin_of_style_bounds_its_term_in_the_plain_statement_too(margin):
    check_values(made(style_margin=margin), turns(), examples())


def test_real_images_penalise_every_discriminators_gradient_in_the_plain_statement_too():
    check_values(made(r1_weight=0.9, batch_norm=False), turns(), examples())


@pytest.mark.backend("torch")
def test_the_penalty_moves_the_discriminators_by_its_second_derivative():
    check_gradients(made(r1_weight=0.9, batch_norm=False), turns(), examples())


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(name):
    check_gradients(made(name), turns(name), examples())


@pytest.mark.backend("torch")
@pytest.mark.parametrize("settings", [{}, {"train_twice": True}, {"clip_norm": 0.05, "style_margin": 0.4}], ids=str)
def test_two_steps_move_every_variable_and_average_as_the_plain_statement_does(settings):
    averaged = {"condition_encoder", "generator", "style_encoder", "content_encoder"}
    check_step(lambda: made(**settings), turns(), examples(), averaged)


def test_a_golden_batch_holds_all_that_is_drawn():
    batch = examples()
    drawn = made("dcinfogan").draw(tensors({name: batch[name] for name in ("image", "condition")}))
    assert drawn.keys() == batch.keys()


def test_codes_are_drawn_from_the_standard_normal():
    model = made()
    many = {"image": np.zeros((2000, SIZE, SIZE, 2), "float32"), "condition": np.eye(K, dtype="float32")[[0] * 2000]}
    drawn = model.draw(tensors(many))
    for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise"):
        values = array(drawn[name])
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.12, err_msg=name)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1, err_msg=name)


def test_small_networks_answer_otherwise_outside_of_training():
    model, image = made(), examples()["image"]
    training, answering = (array(model.style_encoder(image, training=flag)[0]) for flag in (True, False))
    assert np.abs(training - answering).min() > 1e-3
