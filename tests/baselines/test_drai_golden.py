"""Golden steps of what DRAI is compared with: Sec. III-B and Fig. 5 to 8 of Havaei et al. stated a second time.

What the paper leaves open, as the docstring of `tfdisent.baselines.drai` decides it.
"""

import pytest

from tests.systems.golden import Stated, Turn, beside, check_gradients, check_step, check_values
from tests.systems.golden_drai import (
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
    unlikely,
)

CONDITION = ["condition_discriminator_trunk", "condition_discriminator_head"]


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    put_small_networks(monkeypatch)


# --- the plain statement ---


def cinfogan_generators(net, batch, made, config):
    """Fig. 5, Eq. 17: x~ = G_x(z, t) fools D_x and D_xt, and z is read from it under noise."""
    t, z = batch["condition"], batch["style"]
    x_tilde = net.generator(z, t)
    seen = x_tilde + config.reading_noise * batch["reading_noise"]
    terms = {
        "g_image": says_real(net.image_discriminator(x_tilde)),
        "g_condition": says_real(condition_score(net, x_tilde, t)),
        "style_code": unlikely(z, net.style_encoder(seen), config),
    }
    total = terms["g_image"] + terms["g_condition"] + config.code_cycle_weight * terms["style_code"]
    return Stated(total, terms, dict.fromkeys(("generator", "style_encoder"), total), {"x_tilde": x_tilde})


def dcinfogan_generators(net, batch, made, config):
    """Fig. 6: x~ = G_x(z, c), c ~ q(c|t), and both codes are read from x~ "through cycle consistency"."""
    t, z = batch["condition"], batch["style"]
    t_mean, t_log = net.condition_encoder(t)
    c = drawn_from(t_mean, t_log, batch["content_noise"])
    x_tilde = net.generator(z, c)
    seen = x_tilde + config.reading_noise * batch["reading_noise"]
    terms = {
        "g_image": says_real(net.image_discriminator(x_tilde)),
        "g_condition": says_real(condition_score(net, x_tilde, t)),
        "style_code": unlikely(z, net.style_encoder(seen), config),
        "content_code": unlikely(c, net.content_encoder(seen), config),
        "kl_condition": divergence(t_mean, t_log),
    }
    total = terms["g_image"] + terms["g_condition"] + config.kl_weight * terms["kl_condition"]
    total = total + config.code_cycle_weight * (terms["style_code"] + terms["content_code"])
    moved = ("condition_encoder", "generator", "style_encoder", "content_encoder")
    return Stated(total, terms, dict.fromkeys(moved, total), {"x_tilde": x_tilde})


def infogan_discriminators(net, batch, made, config):
    """Fig. 5 and 6: D_x tells x from x~, D_xt (x, t) from (x~, t) and from (x, t_wrong)."""
    terms = {
        "d_image": says_real(net.image_discriminator(batch["image"]))
        + says_fake(net.image_discriminator(made["x_tilde"])),
        "d_condition": matching_aware(net, batch, made["x_tilde"]),
    }
    total = sum(terms.values())
    stated = Stated(total, terms, dict.fromkeys([*CONDITION, "image_discriminator"], total), {})
    return penalised(stated, net, batch, config)


def cavae_generators(net, batch, made, config):
    """Fig. 7, Eq. 18: x^ ~ p(x|t, z^), z^ ~ q(z|x), fools D_cycle, D_xt and D_xtz; q(z|x) is near N(0, I)."""
    x, t = batch["image"], batch["condition"]
    z_mean, z_log = net.style_encoder(x)
    z_hat = drawn_from(z_mean, z_log, batch["inferred_style_noise"])
    x_hat = net.generator(z_hat, t)
    code = beside(z_hat, t)
    terms = {
        "g_condition": says_real(condition_score(net, x_hat, t)),
        "g_style": says_real(net.style_discriminator(x_hat, code)) + says_fake(net.style_discriminator(x, code)),
        "g_cycle": says_real(net.cycle_discriminator(beside(x, x_hat))),
        "kl_style": divergence(z_mean, z_log),
    }
    total = terms["g_condition"] + terms["g_style"] + terms["g_cycle"] + config.kl_weight * terms["kl_style"]
    return Stated(total, terms, dict.fromkeys(("generator", "style_encoder"), total), {"x_hat": x_hat, "z_hat": z_hat})


def cavae_discriminators(net, batch, made, config):
    """Fig. 7: (x, x) against (x, x^), (x, t) against (x^, t), (x, t, z^) against (x^, t, z^)."""
    x, x_hat, code = batch["image"], made["x_hat"], beside(made["z_hat"], batch["condition"])
    terms = {
        "d_condition": matching_aware(net, batch, x_hat),
        "d_style": says_real(net.style_discriminator(x, code)) + says_fake(net.style_discriminator(x_hat, code)),
        "d_cycle": says_real(net.cycle_discriminator(beside(x, x)))
        + says_fake(net.cycle_discriminator(beside(x, x_hat))),
    }
    total = sum(terms.values())
    moved = [*CONDITION, "style_discriminator", "cycle_discriminator"]
    return penalised(Stated(total, terms, dict.fromkeys(moved, total), {}), net, batch, config, code)


def dcavae_generators(net, batch, made, config):
    """Fig. 8: q(c|x) is inferred too; x^_t = G_x(z^, c) is judged with t and the codes, x^ = G_x(z^, c^) with x."""
    x, t = batch["image"], batch["condition"]
    t_mean, t_log = net.condition_encoder(t)
    z_mean, z_log = net.style_encoder(x)
    c_mean, c_log = net.content_encoder(x)
    c = drawn_from(t_mean, t_log, batch["content_noise"])
    z_hat = drawn_from(z_mean, z_log, batch["inferred_style_noise"])
    c_hat = drawn_from(c_mean, c_log, batch["inferred_content_noise"])
    x_hat_t, x_hat = net.generator(z_hat, c), net.generator(z_hat, c_hat)
    d_xtz, d_xtc = net.style_discriminator, net.content_discriminator
    terms = {
        "g_condition": says_real(condition_score(net, x_hat_t, t)),
        "g_style": says_real(d_xtz(x_hat_t, beside(z_hat, t))) + says_fake(d_xtz(x, beside(z_hat, t))),
        "g_content": says_real(d_xtc(x_hat_t, beside(c, t))) + says_fake(d_xtc(x, beside(c_hat, t))),
        "g_cycle": says_real(net.cycle_discriminator(beside(x, x_hat))),
        "kl_style": divergence(z_mean, z_log),
        "kl_content": divergence(c_mean, c_log),
        "kl_condition": divergence(t_mean, t_log),
    }
    total = terms["g_condition"] + terms["g_style"] + terms["g_content"] + terms["g_cycle"]
    total = total + config.kl_weight * (terms["kl_style"] + terms["kl_content"] + terms["kl_condition"])
    moved = ("condition_encoder", "generator", "style_encoder", "content_encoder")
    made = {"x_hat_t": x_hat_t, "x_hat": x_hat, "c": c, "z_hat": z_hat, "c_hat": c_hat}
    return Stated(total, terms, dict.fromkeys(moved, total), made)


def dcavae_discriminators(net, batch, made, config):
    """Fig. 8: as cAVAE's, on x^_t, and D_xtc, which tells (x, t, c^) from (x^_t, t, c)."""
    x, t, x_hat_t = batch["image"], batch["condition"], made["x_hat_t"]
    style = beside(made["z_hat"], t)
    d_xtz, d_xtc = net.style_discriminator, net.content_discriminator
    terms = {
        "d_condition": matching_aware(net, batch, x_hat_t),
        "d_style": says_real(d_xtz(x, style)) + says_fake(d_xtz(x_hat_t, style)),
        "d_content": says_real(d_xtc(x, beside(made["c_hat"], t))) + says_fake(d_xtc(x_hat_t, beside(made["c"], t))),
        "d_cycle": says_real(net.cycle_discriminator(beside(x, x)))
        + says_fake(net.cycle_discriminator(beside(x, made["x_hat"]))),
    }
    total = sum(terms.values())
    moved = [*CONDITION, "style_discriminator", "content_discriminator", "cycle_discriminator"]
    stated = Stated(total, terms, dict.fromkeys(moved, total), {})
    return penalised(stated, net, batch, config, style, beside(made["c_hat"], t))


PLAIN = {
    "cinfogan": (cinfogan_generators, infogan_discriminators),
    "dcinfogan": (dcinfogan_generators, infogan_discriminators),
    "cavae": (cavae_generators, cavae_discriminators),
    "dcavae": (dcavae_generators, dcavae_discriminators),
}
METHOD = pytest.mark.parametrize("name", PLAIN)


def turns(name):
    return [Turn(player, state) for player, state in zip(("generators", "discriminators"), PLAIN[name], strict=True)]


# --- what must equal ours ---


LIKELIHOOD = pytest.mark.parametrize("likelihood", ["l1", "gaussian"])


@METHOD
@LIKELIHOOD
def test_totals_and_terms_are_those_of_the_plain_statement(name, likelihood):
    check_values(made(name, code_likelihood=likelihood), turns(name), examples())


@METHOD
def test_real_images_penalise_every_discriminators_gradient_in_the_plain_statement_too(name):
    check_values(made(name, r1_weight=0.9, batch_norm=False), turns(name), examples())


@pytest.mark.backend("torch")
@METHOD
@LIKELIHOOD
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(name, likelihood):
    check_gradients(made(name, code_likelihood=likelihood), turns(name), examples())


@pytest.mark.backend("torch")
@METHOD
def test_two_steps_on_images_and_their_transformed_versions_are_those_of_the_plain_statement(name):
    averaged = {"generator", "style_encoder"}
    averaged |= {"condition_encoder", "content_encoder"} if name.startswith("d") else set()
    check_step(lambda: made(name, train_twice=True), turns(name), examples(), averaged)
