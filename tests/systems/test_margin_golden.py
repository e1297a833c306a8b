"""The margin system's golden step: Sec. 3.1 and Eq. 1 and 2 of Ouyang et al., IPMI 2021, stated once more.

Where the paper is silent or says two things, as the docstring of `tfdisent.systems.margin` decides it.
"""

import dataclasses

import numpy as np
import pytest
from keras import ops

from tests.systems.golden import (
    Small,
    Stated,
    Turn,
    as_tensors,
    check_gradients,
    check_step,
    check_values,
    plain,
    put_in,
    xp,
)
from tests.tiny import MARGIN
from tfdisent.systems import margin
from tfdisent.systems.margin import Margin, MarginConfig

B, SIZE, M, POOL = 5, 32, 3, 8
# No two weights are alike, so that none can stand in the place of another.
CONFIG = MarginConfig(
    **MARGIN | {"modalities": ("T1", "T2", "FLAIR"), "pool_size": POOL},
    self_weight=0.7,
    cross_weight=2.0,
    latent_weight=0.3,
    anatomy_similarity_weight=5.0,
    modality_similarity_weight=1.3,
    anatomy_margin=0.4,
    modality_margin=0.6,
    weight_decay=1e-3,
    amsgrad=False,
    learning_rate=1e-3,
    clip_norm=None,
    average_momentum=0.15,
)


class SmallDecoder(Small):
    """Takes several codes for each anatomy in turn, as the decoder does."""

    def call(self, inputs, training=False):
        anatomy, code = inputs["anatomy"], inputs["code"]
        anatomy = ops.repeat(anatomy, code.shape[0] // anatomy.shape[0], axis=0)
        return super().call({"anatomy": anatomy, "code": code}, training=training)


FEATURES = {"level_1": (4, 4, 2), "level_2": (2, 2, 3)}
WIDTH = SIZE * SIZE
FACTORIES = {
    "anatomy_encoder": lambda c, name: Small(name, WIDTH + M + 1, FEATURES),
    "anatomy_decoder": lambda c: Small("anatomy_decoder", 4 * 4 * 2 + 2 * 2 * 3 + M + 1, (SIZE, SIZE, 4), True),
    "modality_encoder": lambda c, name: Small(name, WIDTH + M, (c.code_dim,)),
    "decoder": lambda c: SmallDecoder("decoder", 4 * WIDTH + c.code_dim, (SIZE, SIZE, 1), "image"),
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    put_in(monkeypatch, margin, FACTORIES)


def made(**changes):
    """A model whose steps run without compilation."""
    model = Margin(dataclasses.replace(CONFIG, **changes), seed=3)
    model.compile(run_eagerly=True)
    return model


def examples():
    """A batch with all that is drawn: slices are missing, one subject has none, two slices are of one subject."""
    image = np.random.default_rng(0).uniform(-1, 1, (B, SIZE, SIZE, M)).astype("float32")
    image[:, :9, :, 1:] = -1  # background in two modalities,
    image[:, :, 20:] = -1  # and in all
    return {
        "image": image,
        "available": np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0], [1, 1, 0]], "float32"),
        "subject_index": np.array([0, 0, 1, 2, 3], "int32"),
        "partner": np.array([[2, 4, 2], [4, 2, 2], [0, 4, 1], [0, 0, 0], [1, 2, 0]], "int32"),
        "has_partner": np.array([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1]], "float32"),
    }


def one_pass(model):
    (batch,) = model.passes(as_tensors(examples()))
    return batch


# --- the plain statement, subject by subject ---


def cos(a, b):
    return (a * b).sum() / ((a * a).sum() ** 0.5 * (b * b).sum() ** 0.5)


def hinge(value):
    return value * (value > 0)


def pooled(anatomy):
    """f: the maximum of each window of each channel, of one anatomy (H, W, S)."""
    found = []
    for y in range(0, SIZE, POOL):
        for x in range(0, SIZE, POOL):
            window = anatomy[y : y + POOL, x : x + POOL].reshape(POOL * POOL, -1)
            found.append(window[window.argmax(0), xp.arange(window.shape[1])])
    return xp.concatenate(found)


def mean(values):
    return sum(values) / max(1, len(values))


def networks_of(net, conditional):
    """(E^A(x; i), E^M(x; i), D) as functions of slices and the modality's index; and all of them by name."""
    names = ["shared"] if conditional else ["T1", "T2", "FLAIR"]

    def told(i, x):
        code = xp.zeros((len(x), M))
        code[:, i] = 1
        return code

    def anatomy(x, i, weight):
        encoder = getattr(net, f"anatomy_encoder_{names[0 if conditional else i]}")
        features = encoder({"image": x, "modality": told(i, x), "weight": weight})
        return net.anatomy_decoder({**features, "modality": told(i, x), "weight": weight})

    def code(x, i):
        encoder = getattr(net, f"modality_encoder_{names[0 if conditional else i]}")
        return encoder({"image": x, "modality": told(i, x)})

    def drawn(s, z):
        return net.decoder({"anatomy": s, "code": z})

    kinds = ("anatomy_encoder", "modality_encoder")
    return anatomy, code, drawn, [f"{kind}_{name}" for kind in kinds for name in names] + ["anatomy_decoder", "decoder"]


def state(net, batch, made, c):
    """The objective of Sec. 3.1, mean by mean."""
    E_A, E_M, D, names = networks_of(net, c.conditional)
    image, there = batch["image"], batch["available"] > 0
    x = [image[..., i : i + 1] for i in range(M)]
    s = [E_A(x[i], i, batch["available"][:, i]) for i in range(M)]
    if c.mask_background:
        s = [anatomy * (image > -1).any(-1)[..., None] for anatomy in s]
    z = [E_M(x[i], i) for i in range(M)]
    x_tilde = {(i, j): D(s[i], z[j]) for i in range(M) for j in range(M)}
    z_tilde = {(i, j): E_M(x_tilde[i, j], j) for i, j in x_tilde}
    # (p, i, j) of which a subject has both slices, and of these the ones that have a q with the first modality.
    every = [(p, i, j) for p in range(B) for i, j in x_tilde if there[p, i] and there[p, j]]
    compared = [(p, int(batch["partner"][p, i]), i, j) for p, i, j in every if batch["has_partner"][p, i] > 0]
    f = [[pooled(s[i][p]) for p in range(B)] for i in range(M)]
    latent = [(p, i, j) for p, i, j in every if i == j or not c.latent_self_only]
    terms = {
        "self_reconstruction": mean([abs(x_tilde[i, i][p] - x[i][p]).mean() for p, i, j in every if i == j]),
        "cross_reconstruction": mean([abs(x_tilde[i, j][p] - x[j][p]).mean() for p, i, j in every if i != j]),
        "latent": mean([abs(z_tilde[i, j][p] - z[j][p]).sum() for p, i, j in latent]),  # Eq. 1
        "anatomy_similarity": mean(  # Eq. 2
            [hinge(c.anatomy_margin - cos(f[i][p], f[j][p]) + cos(f[i][p], f[i][q])) for p, q, i, j in compared]
        ),
        "modality_similarity": mean(
            [hinge(c.modality_margin - cos(z[i][p], z[i][q]) + cos(z[i][p], z[j][p])) for p, q, i, j in compared]
        ),
        "weight_decay": sum((w**2).sum() for name in names for w in weights(getattr(net, name))) / 2,
    }
    total = (
        c.self_weight * terms["self_reconstruction"]
        + c.cross_weight * terms["cross_reconstruction"]  # lambda_c
        + c.latent_weight * terms["latent"]  # lambda_l
        + c.anatomy_similarity_weight * terms["anatomy_similarity"]  # lambda_s
        + c.modality_similarity_weight * terms["modality_similarity"]  # lambda_z
        + c.weight_decay * terms["weight_decay"]
    )
    return Stated(total, terms, dict.fromkeys(names, total), {})


def weights(function):
    """Of a network, as plain arrays."""
    return [plain(variable.value) for variable in function.network.trainable_variables]


TURNS = [Turn("networks", state)]

# --- what must equal ours ---

CHOICES = pytest.mark.parametrize(
    "settings", [{}, {"conditional": False}, {"latent_self_only": True}, {"mask_background": True}], ids=str
)


@CHOICES
def test_totals_and_terms_are_those_of_the_plain_statement(settings):
    model = made(**settings)
    check_values(model, TURNS, one_pass(model))


def test_a_pass_is_the_slices_with_background_where_they_are_missing():
    batch, given = one_pass(made()), examples()
    expected = np.where(given["available"][:, None, None] > 0, given["image"], -1)
    np.testing.assert_array_equal(batch["image"], expected)
    for name in ("available", "partner", "has_partner"):
        np.testing.assert_array_equal(batch[name], given[name])


@pytest.mark.backend("torch")
@CHOICES
def test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise(settings):
    model = made(**settings)
    check_gradients(model, TURNS, one_pass(model))


@pytest.mark.backend("torch")
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.05}], ids=str)
def test_two_steps_move_every_variable_and_average_as_the_plain_statement_does(settings):
    names = {"anatomy_encoder_shared", "anatomy_decoder", "modality_encoder_shared", "decoder"}
    check_step(lambda: made(**settings), TURNS, examples(), names)
