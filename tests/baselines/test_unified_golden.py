"""Golden steps of what the unified framework is compared with, stated a second time.

Pix2Pix: Isola et al., https://arxiv.org/abs/1611.07004, Eq. 1 to 4 and Sec. 3.3. TC-MGAN: Xin et al.,
https://arxiv.org/abs/2005.00925, and its public code, as the docstring of `tfdisent.baselines.unified` describes them.
"""

import dataclasses

import numpy as np
import pytest

from tests.systems.golden import (
    Small,
    Stated,
    Turn,
    as_tensors,
    beside,
    check_gradients,
    check_step,
    check_values,
    detached,
    input_gradient,
    put_in,
    xp,
)
from tfdisent.baselines import unified
from tfdisent.baselines.unified import TCMGAN, Pix2Pix, Pix2PixConfig, TCMGANConfig

B, SIZE, M = 4, 32, 3
SHARED = {"image_size": SIZE, "modalities": ("T1", "T2", "FLAIR"), "average_momentum": 0.15, "learning_rate": 1e-3}
CONFIGS = {
    "pix2pix": Pix2PixConfig(**SHARED, pairs=("T1 to T2", "FLAIR to T1"), translation_weight=3.0),
    "tcmgan": TCMGANConfig(
        **SHARED,
        translation_weight=0.05,
        modality_weight=1.3,
        gradient_penalty_weight=0.7,
        segmentation_weight=2.0,
        steps=10_000,
    ),
}
CLASSES = {"pix2pix": Pix2Pix, "tcmgan": TCMGAN}
SLICE = SIZE * SIZE


def small_generator(c, channels, code_dim=0, name="generator"):
    return Small(name, SLICE * channels + code_dim, (SIZE, SIZE, 1), "image")


def small_discriminator(c, num_classes=0, name="discriminator"):
    return Small(name, 2 * SLICE, ((2, 2, 1), (num_classes,)) if num_classes else (2, 2, 1))


def small_segmentor(c):
    return Small("segmentor", SLICE + len(c.targets), (SIZE, SIZE, 1), "probability")


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    factories = {"generator": small_generator, "discriminator": small_discriminator, "segmentor": small_segmentor}
    put_in(monkeypatch, unified, factories)


def made(name, **changes):
    """A model whose steps run without compilation."""
    model = CLASSES[name](dataclasses.replace(CONFIGS[name], **changes), seed=3)
    model.compile(run_eagerly=True)
    return model


def examples():
    """A batch with all that is drawn; one subject lacks T1, which is in both pairs, and one T2, TC-MGAN's source."""
    random = np.random.default_rng(0)
    available = np.ones((B, M), "float32")
    available[1, 0] = available[3, 1] = 0
    return {
        "image": random.uniform(-1, 1, (B, SIZE, SIZE, M)).astype("float32"),
        "available": available,
        "mask": (random.uniform(size=(B, SIZE, SIZE, 1)) > 0.7).astype("uint8") * 3,
        "target_modality": np.array([0, 2, 2, 0], "int32"),
        "interpolation": np.array([0.1, 0.4, 0.7, 0.9], "float32").reshape(B, 1, 1, 1),
    }


def one_pass(model):
    (batch,) = model.passes(as_tensors(examples()))
    return batch


def of_those_there(values, weight):
    """Mean over the subjects that count of values (B,)."""
    return (values * weight).sum() / weight.sum()


# --- Pix2Pix ---

PAIRS = ("0_to_1", "2_to_0")


def log_real(scores):
    """-log D, of each image the mean over patches."""
    return xp.log(1 + xp.exp(-scores)).mean(axis=(1, 2, 3))


def log_generated(scores):
    """-log(1 - D), likewise."""
    return xp.log(1 + xp.exp(scores)).mean(axis=(1, 2, 3))


def pix2pix_generators(net, batch, made, config):
    """Each G: not-saturating Eq. 1, D seeing the source beside the image, and lambda = 100 times Eq. 3."""
    fooled, apart, objectives, kept = [], [], {}, {}
    for name, pair in zip(PAIRS, batch["pairs"], strict=True):
        x, y, weight = pair["source"], pair["target"], pair["weight"]
        generate, judge = getattr(net, f"generator_{name}"), getattr(net, f"discriminator_{name}")
        kept[name] = generate(x)
        important = 1 + config.lesion_weight * pair.get("lesion", 0)
        apart.append(of_those_there((important * abs(y - kept[name])).mean(axis=(1, 2, 3)), weight))
        fooled.append(of_those_there(log_real(judge(beside(kept[name], x))), weight))
        objectives[f"generator_{name}"] = fooled[-1] + config.translation_weight * apart[-1]  # Eq. 4
    terms = {"translation": sum(apart) / 2, "g_adversarial": sum(fooled) / 2}
    return Stated(sum(objectives.values()), terms, objectives, kept)


def pix2pix_discriminators(net, batch, made, config):
    """Each D: Eq. 1, divided by 2 (Sec. 3.3), y and G(x) both beside x."""
    objectives = {}
    for name, pair in zip(PAIRS, batch["pairs"], strict=True):
        x, y, weight = pair["source"], pair["target"], pair["weight"]
        judge = getattr(net, f"discriminator_{name}")
        loss = (log_real(judge(beside(y, x))) + log_generated(judge(beside(made[name], x)))) / 2
        objectives[f"discriminator_{name}"] = of_those_there(loss, weight)
    total = sum(objectives.values())
    return Stated(total, {"d_adversarial": total / 2}, objectives, {})


# --- TC-MGAN ---


def log_modality(logits, code):
    """Cross entropy of a sigmoid for each modality, summed."""
    probability = 1 / (1 + xp.exp(-logits))
    return -(code * xp.log(probability) + (1 - code) * xp.log(1 - probability)).sum(axis=1)


def dice_lost(probability, mask):
    """1 - (2 I + 1) / (A + B + 1) of each image."""
    both = (probability * mask).sum(axis=(1, 2, 3))
    return 1 - (2 * both + 1) / (probability.sum(axis=(1, 2, 3)) + mask.sum(axis=(1, 2, 3)) + 1)


def tcmgan_discriminators(net, batch, made, c):
    """D: Wasserstein, scores summed over the map, the penalty on the target's channel, and the modality of y."""
    x, y, code, weight, share = (batch[k] for k in ("source", "target", "code", "weight", "interpolation"))
    y_tilde = detached(net.generator({"image": x, "code": code}))
    scores, logits = net.discriminator(beside(y, x))
    generated_scores, _ = net.discriminator(beside(y_tilde, x))
    between = share * y + (1 - share) * y_tilde
    slope = input_gradient(net.discriminator, beside(between, x))[..., 0]
    norm = (slope**2).sum(axis=(1, 2)) ** 0.5
    terms = {
        "d_adversarial": of_those_there((generated_scores - scores).sum(axis=(1, 2, 3)), weight),
        "d_modality": of_those_there(log_modality(logits, code), weight),
        "gradient_penalty": of_those_there((norm - 1) ** 2, weight),
    }
    total = terms["d_adversarial"] + c.modality_weight * terms["d_modality"]
    total = total + c.gradient_penalty_weight * terms["gradient_penalty"]
    return Stated(total, terms, {"discriminator": total}, {})


def tcmgan_generators(segments):
    """G: l1 as a sum over pixels, D's score and modality, the tumour's Dice; S: 0.7 of x~'s and 0.3 of y's."""

    def state(net, batch, made, c):
        x, y, code, weight = (batch[k] for k in ("source", "target", "code", "weight"))
        y_tilde = net.generator({"image": x, "code": code})
        scores, logits = net.discriminator(beside(y_tilde, x))
        important = 1 + c.lesion_weight * batch.get("lesion", 0)
        terms = {
            "translation": of_those_there((important * abs(y_tilde - y)).sum(axis=(1, 2, 3)), weight),
            "g_adversarial": -of_those_there(scores.sum(axis=(1, 2, 3)), weight),
            "g_modality": of_those_there(log_modality(logits, code), weight),
        }
        total = c.translation_weight * terms["translation"] + terms["g_adversarial"]
        total = total + c.modality_weight * terms["g_modality"]
        objectives = {"generator": total}
        if segments:

            def tumour_lost(image):
                return of_those_there(dice_lost(net.segmentor({"image": image, "code": code}), batch["lesion"]), weight)

            terms["tumour_consistency"] = tumour_lost(y_tilde)
            terms["segmentor"] = 0.7 * tumour_lost(detached(y_tilde)) + 0.3 * tumour_lost(y)
            objectives["generator"] = total + c.segmentation_weight * terms["tumour_consistency"]
            objectives["segmentor"] = terms["segmentor"]
            total = total + terms["segmentor"]
        return Stated(total, terms, objectives, {})

    return state


def turns(model):
    """Pix2Pix moves its generators first; TC-MGAN its discriminator, as its code does."""
    if isinstance(model, Pix2Pix):
        return [Turn("generators", pix2pix_generators), Turn("discriminators", pix2pix_discriminators)]
    segments = model.config.segmentation_weight > 0
    return [
        Turn("discriminators", tcmgan_discriminators),
        Turn("generators", tcmgan_generators(segments)),
    ]


# --- what must equal ours ---

METHOD = pytest.mark.parametrize(
    "name, settings",
    [
        ("pix2pix", {}),
        ("pix2pix", {"share_batch": True, "lesion_weight": 2.0}),
        ("tcmgan", {}),
        ("tcmgan", {"lesion_weight": 2.0}),
        ("tcmgan", {"segmentation_weight": 0.0}),
        ("tcmgan", {"source": "FLAIR", "modalities": ("T2", "T1", "FLAIR")}),
    ],
    ids=str,
)


def with_settings(name, settings):
    model = made(name, **settings)
    if settings.get("source"):
        batch = {**examples(), "target_modality": np.array([0, 1, 1, 0], "int32")}
        (batch,) = model.passes(as_tensors(batch))
        return model, batch
    return model, one_pass(model)


@METHOD
def test_totals_and_terms_are_those_of_the_plain_statement(name, settings):
    model, batch = with_settings(name, settings)
    check_values(model, turns(model), batch)


@pytest.mark.backend("torch")
@METHOD
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(name, settings):
    model, batch = with_settings(name, settings)
    check_gradients(model, turns(model), batch)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name, settings", [("pix2pix", {}), ("tcmgan", {})])
def test_two_steps_move_every_variable_and_average_as_the_plain_statement_does(name, settings):
    model = made(name)
    averaged = {"pix2pix": {f"generator_{pair}" for pair in PAIRS}, "tcmgan": {"generator"}}[name]
    check_step(lambda: made(name, **settings), turns(model), examples(), averaged)
