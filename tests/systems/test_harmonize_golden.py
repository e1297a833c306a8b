"""The harmonisation's golden step: Eq. 2 to 5 of Ren et al., IEEE TMI 2021, stated once more, and SemGAN's dropout.

Where the paper is silent or says two things, as the docstring of `tfdisent.systems.harmonize` decides it.
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
    put_in,
    xp,
)
from tests.tiny import HARMONIZE
from tfdisent.baselines import harmonize as baselines
from tfdisent.baselines.harmonize import CycleGAN, CycleGANConfig
from tfdisent.systems import harmonize
from tfdisent.systems.harmonize import Harmonize, HarmonizeConfig

B, SIZE, K = 4, 32, 3
PIXELS = SIZE * SIZE
# No two weights are alike, so that none can stand in the place of another.
SETTINGS = HARMONIZE | {
    "class_weights": (0.2, 0.7, 1.1),
    "adversarial_weight": 0.8,
    "cycle_weight": 3.0,
    "segmentation_weight": 0.6,
    "generated_segmentation_weight": 1.7,
    "shading": 0.3,
    "shading_weight": 2.3,
    "learning_rate": 1e-3,
    "discriminator_learning_rate": 5e-4,
    "learning_rate_decay": 0.0,
    "average_momentum": 0.15,
}
FACTORIES = {
    "extractor": lambda c, name: Small(name, PIXELS * K, (c.embedding_dim,)),
    "generator": lambda c, name: Small(name, PIXELS + c.embedding_dim, (SIZE, SIZE, 1), "image"),
    "segmentor": lambda c, name: Small(name, PIXELS, (SIZE, SIZE, K)),
    "discriminator": lambda c, name: Small(name, PIXELS, (6, 6, 1)),
}
ALONE = FACTORIES | {"generator": lambda c, name: Small(name, PIXELS, (SIZE, SIZE, 1), "image")}
MODELS = {
    "harmonize": (Harmonize, HarmonizeConfig(**SETTINGS)),
    "cyclegan": (
        CycleGAN,
        CycleGANConfig(**SETTINGS | {"segmentation_weight": 0.0, "generated_segmentation_weight": 0.0}),
    ),
    "s_cyclegan": (CycleGAN, CycleGANConfig(**SETTINGS)),
    "semgan": (CycleGAN, CycleGANConfig(**SETTINGS, semantic_dropout=0.3)),
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    put_in(monkeypatch, harmonize, FACTORIES)
    put_in(monkeypatch, baselines, ALONE)


def made(name):
    """A model whose steps run without compilation."""
    model_class, config = MODELS[name]
    model = model_class(config, seed=3)
    model.compile(run_eagerly=True)
    return model


def examples(name):
    """A batch in which label maps are missing, and of SemGAN which pixels are kept."""
    random = np.random.default_rng(0)
    images = {key: random.uniform(-1, 1, (B, SIZE, SIZE, 1)).astype("float32") for key in ("source", "target")}
    masks = {f"{key}_mask": random.integers(0, K, (B, SIZE, SIZE)).astype("int32") for key in ("source", "target")}
    there = {
        "source_labelled": np.array([1, 0, 1, 1], "float32"),
        "target_labelled": np.array([0, 1, 1, 0], "float32"),
    }
    kept = {f"{key}_kept": (random.uniform(size=(B, SIZE, SIZE, 1)) < 0.7).astype("float32") for key in images}
    shades = {f"{key}_shade": random.normal(size=(B, 8)).astype("float32") for key in images}
    return images | masks | there | shades | (kept if name == "semgan" else {})


def one_pass(model, name):
    (batch,) = model.passes(as_tensors(examples(name)))
    return batch


# --- the plain statement ---


def softmax(logits):
    e = xp.exp(logits)
    return e / e.sum(-1)[..., None]


def cross_entropy(logits, mask, kept, weights):
    """Eq. 3 of one slice: the mean over pixels of - lambda_c log S(x, c), c being the pixel's class."""
    log = xp.log(softmax(logits))
    return sum((-weights[k] * log[..., k] * (mask == k) * kept).mean() for k in range(K))


def translator(net, c):
    """(S and Q, G, F) as functions; S and Q are None without segmentation."""
    S, Q = (getattr(net, f"segmentor_{name}", None) for name in ("source", "target"))
    if not hasattr(net, "extractor_to_target"):
        return S, Q, lambda x, m: net.generator_to_target(x), lambda y, m: net.generator_to_source(y)

    def G(x, m):
        return net.generator_to_target({"embedding": net.extractor_to_target(softmax(m)), "image": x})

    def F(y, m):
        return net.generator_to_source({"embedding": net.extractor_to_source(softmax(m)), "image": y})

    return S, Q, G, F


def generators(net, batch, made, c):
    """What G, F, f, S and Q minimise."""
    S, Q, G, F = translator(net, c)
    x, y = batch["source"], batch["target"]
    shaded_x, shaded_y = batch["source_shaded"], batch["target_shaded"]
    kept_x, kept_y = (batch.get(f"{name}_kept", xp.ones((B, SIZE, SIZE, 1))) for name in ("source", "target"))
    S_x, Q_y = (S(shaded_x), Q(shaded_y)) if S else (None, None)
    Gx, Fy = G(shaded_x, S_x) * kept_x, F(shaded_y, Q_y) * kept_y
    plain_Gx, plain_Fy = (G(x, S(x)), F(y, Q(y))) if S else (G(x, None), F(y, None))
    Q_Gx, S_Fy = (Q(Gx), S(Fy)) if S else (None, None)
    FGx, GFy = F(Gx, Q_Gx) * kept_x, G(Fy, S_Fy) * kept_y
    terms = {
        "g_adversarial": ((net.discriminator_target(Gx) - 1) ** 2).mean()  # Eq. 2
        + ((net.discriminator_source(Fy) - 1) ** 2).mean(),
        "cycle": abs(FGx - x).mean() + abs(GFy - y).mean(),  # Eq. 4
        "shading": abs(Gx - plain_Gx * kept_x).mean() + abs(Fy - plain_Fy * kept_y).mean(),
    }
    total = c.adversarial_weight * terms["g_adversarial"] + c.cycle_weight * terms["cycle"]
    total = total + c.shading_weight * terms["shading"]
    if S:

        def segmented(logits, name, kept):
            mask, has = batch[f"{name}_mask"], batch[f"{name}_labelled"] > 0
            found = [cross_entropy(logits[n], mask[n], kept[n, ..., 0], c.class_weights) for n in range(B) if has[n]]
            return sum(found) / len(found)

        terms["segmentation"] = segmented(S_x, "source", kept_x) + segmented(Q_y, "target", kept_y)  # Eq. 3
        terms["generated_segmentation"] = segmented(Q_Gx, "source", kept_x) + segmented(S_Fy, "target", kept_y)
        total = total + c.segmentation_weight * terms["segmentation"]
        total = total + c.generated_segmentation_weight * terms["generated_segmentation"]
    groups = ["generator_to"] + ["extractor_to"] * hasattr(net, "extractor_to_target") + ["segmentor"] * bool(S)
    names = [f"{group}_{name}" for group in groups for name in ("source", "target")]
    return Stated(total, terms, dict.fromkeys(names, total), {"Gx": Gx, "Fy": Fy})


def discriminators(net, batch, made, c):
    """What D_X and D_Y minimise (Eq. 2)."""
    D_X, D_Y = net.discriminator_source, net.discriminator_target
    total = ((1 - D_Y(batch["target"])) ** 2).mean() / 2 + (D_Y(made["Gx"]) ** 2).mean() / 2
    total = total + ((1 - D_X(batch["source"])) ** 2).mean() / 2 + (D_X(made["Fy"]) ** 2).mean() / 2
    return Stated(
        total, {"d_adversarial": total}, dict.fromkeys(["discriminator_source", "discriminator_target"], total), {}
    )


TURNS = [Turn("generators", generators), Turn("discriminators", discriminators)]

# --- what must equal ours ---

METHODS = pytest.mark.parametrize("name", list(MODELS))


@METHODS
def test_totals_and_terms_are_those_of_the_plain_statement(name):
    model = made(name)
    check_values(model, TURNS, one_pass(model, name))


@pytest.mark.backend("torch")
@METHODS
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(name):
    model = made(name)
    check_gradients(model, TURNS, one_pass(model, name))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", ["harmonize", "semgan"])
def test_two_steps_move_every_variable_and_average_as_the_plain_statement_does(name):
    config = MODELS[name][1]
    rates = {"discriminators": config.discriminator_learning_rate}
    averaged = {layer.name for layer in made(name).translator}
    check_step(lambda: made(name), TURNS, examples(name), averaged, rates)


def test_weights_of_the_plain_statement_differ():
    weights = [value for key, value in dataclasses.asdict(MODELS["harmonize"][1]).items() if key.endswith("_weight")]
    assert len(set(weights)) == 5
