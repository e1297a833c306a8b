"""The mmsdnet system's golden step: Sec. III-E of Chartsias et al., IEEE TMI 2021, stated once more.

Where the paper is silent or says two things, as the docstring of `tfdisent.systems.mmsdnet` decides it.
"""

import dataclasses

import numpy as np
import pytest

from tests.systems.golden import (
    HAS_GRADIENTS,
    Small,
    Stated,
    Turn,
    as_tensors,
    beside,
    check_gradients,
    check_values,
    distance,
    put_in,
    xp,
)
from tests.tiny import MMSDNET
from tfdisent.systems import mmsdnet
from tfdisent.systems.mmsdnet import MMSDNet, MMSDNetConfig

B, SIZE, M, C, K, L = 3, 48, 2, 3, 3, 3
WIDTH = SIZE * SIZE
# No two weights are alike, so that none can stand in the place of another.
CONFIG = MMSDNetConfig(
    **MMSDNET,
    segmentation_weight=4.0,
    cross_entropy_weight=0.3,
    mask_adversarial_weight=0.7,
    reconstruction_weight=2.0,
    image_adversarial_weight=1.3,
    kl_weight=0.2,
    code_regression_weight=1.7,
    smoothness_weight=0.6,
    alignment_weight=0.9,
)
FACTORIES = {
    "anatomy_encoder": lambda c, name: Small(name, WIDTH + M + 1, {"level_0": (2, 2, 2)}),
    "anatomy_decoder": lambda c: Small("anatomy_decoder", 8 + M + 1, (SIZE, SIZE, C), True),
    "modality_encoder": lambda c: Small("modality_encoder", (C + 1) * WIDTH, (2 * K,)),
    "transformer": lambda c: Small(
        "transformer", 2 * C * WIDTH, {"anatomy": (SIZE, SIZE, C), "field": (SIZE, SIZE, 2)}, True
    ),
    "balancer": lambda c: Small("balancer", c.candidates, (c.candidates,), True),
    "segmentor": lambda c: Small("segmentor", C * WIDTH, (SIZE, SIZE, L), True),
    "decoder": lambda c: Small("decoder", C * WIDTH + K, (SIZE, SIZE, 1), "image"),
    "discriminator": lambda c, channels, name: Small(name, channels * WIDTH, (1,)),
}


@pytest.fixture
def model(monkeypatch):
    put_in(monkeypatch, mmsdnet, FACTORIES)
    model = MMSDNet(CONFIG, seed=3)
    model.compile(run_eagerly=True)
    return model


def one_pass(model):
    """A batch with all that is drawn, of which one slice of the second modality is labelled, and one of neither."""
    random = np.random.default_rng(0)
    (batch,) = model.passes(
        as_tensors(
            {
                "image": random.uniform(-1, 1, (B, SIZE, SIZE, M)).astype("float32"),
                "mask": random.integers(0, L, (B, SIZE, SIZE, M)).astype("int32"),
                "labelled": np.array([[1, 1], [1, 0], [0, 0]], "float32"),
                "noise": random.normal(size=(M, B, K)).astype("float32"),
                "prior": random.normal(size=(M, B, K)).astype("float32"),
                "real": np.array([[0, 3, 2], [1, 0, 3]], "int32"),  # 2 has no labels
                "generated": np.array([[5, 0, 4], [1, 2, 3]], "int32"),
            }
        )
    )
    return batch


# --- the plain statement, slice by slice ---

TERMS = (
    "segmentation",
    "mask_adversarial",
    "reconstruction",
    "image_adversarial",
    "kl",
    "code_regression",
    "smoothness",
    "alignment",
)


def mean(values):
    return sum(values) / max(1, len(values))


def encoded(net, batch, i):
    """s_i, and the mean and log variance of z_i."""
    image = batch["image"][..., i : i + 1]
    told = {"modality": ones((B, M)) * 0 + one_hot(i), "weight": ones((B,))}
    features = net[f"anatomy_encoder_{i}"]({"image": image, **told})
    anatomy = net["anatomy_decoder"]({**features, **told})
    both = net["modality_encoder"]({"anatomy": anatomy, "image": image})
    return anatomy, both[:, :K], both[:, K:]


def ones(shape):
    return xp.ones(shape, dtype=xp.float32)


def one_hot(i):
    row = np.eye(M, dtype="float32")[i]
    return xp.tensor(row) if HAS_GRADIENTS else row


def segmentation(mask, labels, c):
    """Dice loss over all organs together, and cross entropy, of one slice (H, W, L)."""
    overlap = (mask[..., 1:] * labels[..., 1:]).sum()
    dice = 1 - 2 * overlap / (mask[..., 1:].sum() + labels[..., 1:].sum())
    return dice - c.cross_entropy_weight * (labels * xp.log(mask)).sum() / WIDTH


def roughness(field):
    """Squared steps of a field (B, H, W, 2) down and to the right."""
    down, right = field[:, 1:] - field[:, :-1], field[:, :, 1:] - field[:, :, :-1]
    return 2 * ((down**2).mean() + (right**2).mean())  # the mean is over both components, too


def tents(places, count):
    """(N,) -> (N, count): one minus the distance from each of the places 0, 1, ..., and 0 beyond a distance of 1."""
    numbers = np.arange(count, dtype="float32")
    apart = 1 - abs(places[:, None] - (xp.tensor(numbers) if HAS_GRADIENTS else numbers)[None])
    return apart * (apart > 0)


def looked_at(image, field):
    """An image (SIZE, SIZE) at pixel + field (SIZE, SIZE, 2), of which -1 is the background."""
    down, right = (one.astype("float32").reshape(-1) for one in np.mgrid[:SIZE, :SIZE])
    if HAS_GRADIENTS:
        down, right = xp.tensor(down), xp.tensor(right)
    flat = field.reshape(-1, 2)
    rows, columns = tents(down + flat[:, 0], SIZE), tents(right + flat[:, 1], SIZE)
    return ((rows @ (image + 1)) * columns).sum(1) - 1


def information(a, b, bins=16):
    """Mutual information in nats: the entropies of both less that of the pair."""
    a, b = (tents((one.reshape(-1) + 1) / 2 * (bins - 1), bins) for one in (a, b))
    pair = a.T @ b / WIDTH

    def entropy(p):
        p = p[p > 0]
        return -(p * xp.log(p)).sum()

    return entropy(pair.sum(0)) + entropy(pair.sum(1)) - entropy(pair.reshape(-1))


def apart(moving, fixed, field):
    """What the alignment's term is of a batch of slices (B, SIZE, SIZE, 1)."""
    found = [information(looked_at(moving[b, ..., 0], field[b]), fixed[b, ..., 0]) for b in range(B)]
    return -mean(found)


def networks_turn(net, batch, made, c):
    net = vars(net)
    codes = [encoded(net, batch, i) for i in range(M)]
    t = dict.fromkeys(TERMS, 0.0)
    given = {}
    for i in range(M):
        image = batch["image"][..., i : i + 1]
        anatomy, mu, lv = codes[i]
        other = codes[1 - i][0]
        t["kl"] += mean([(0.5 * (mu[b] ** 2 + xp.exp(lv[b]) - lv[b] - 1)).sum() for b in range(B)])
        z = mu + xp.exp(lv / 2) * batch["noise"][i]
        found = net["transformer"]({"moving": other, "fixed": anatomy})
        moved = found["anatomy"]
        t["smoothness"] += roughness(found["field"])
        t["alignment"] += apart(batch["image"][..., 1 - i : 2 - i], image, found["field"])
        masks, images = [], []
        for s in (anatomy, moved):
            m, y = net["segmentor"](s), net["decoder"]({"anatomy": s, "code": z})
            there = [b for b in range(B) if batch["labelled"][i][b] == 1]
            t["segmentation"] += mean([segmentation(m[b], batch["labels"][i][b], c) for b in there])
            t["mask_adversarial"] += ((judged(net["mask_discriminator"], m[..., 1:]) - 1) ** 2).mean()
            t["reconstruction"] += distance(y, image)
            t["image_adversarial"] += ((judged(net[f"image_discriminator_{i}"], y) - 1) ** 2).mean()
            masks.append(m)
            images.append(y)
        drawn = net["decoder"]({"anatomy": anatomy, "code": batch["prior"][i]})
        again = net["modality_encoder"]({"anatomy": anatomy, "image": drawn})[:, :K]
        t["code_regression"] += distance(again, batch["prior"][i])
        given |= {f"masks_{i}": xp.concatenate(masks), f"images_{i}": xp.concatenate(images)}
    total = (
        c.segmentation_weight * t["segmentation"]
        + c.mask_adversarial_weight * t["mask_adversarial"]
        + c.reconstruction_weight * t["reconstruction"]
        + c.image_adversarial_weight * t["image_adversarial"]
        + c.kl_weight * t["kl"]
        + c.code_regression_weight * t["code_regression"]
        + c.smoothness_weight * t["smoothness"]
        + c.alignment_weight * t["alignment"]
    )
    shared = ("anatomy_decoder", "modality_encoder", "transformer", "segmentor", "decoder")
    moved = ("anatomy_encoder_0", "anatomy_encoder_1", *shared)
    return Stated(total, t, dict.fromkeys(moved, total), given)


def judged(network, images):
    """Scores as the other networks see them: a discriminator that is not in its turn is in inference mode."""
    return 0.5 * network(images)


def mask_turn(i):
    def turn(net, batch, made, c):
        d = net.mask_discriminator
        real = []
        for k in batch["real"][i]:
            modality, b = divmod(int(k), B)
            if batch["labelled"][modality][b] == 1:
                real.append((d(batch["labels"][modality][b : b + 1][..., 1:]) - 1) ** 2)
        fake = [d(made[f"masks_{i}"][int(k) : int(k) + 1][..., 1:]) ** 2 for k in batch["generated"][i]]
        total = (mean(real) + mean(fake)).sum()
        return Stated(total, {f"mask_discriminator_{i}": total}, {"mask_discriminator": total}, {})

    return turn


def image_turn(i):
    def turn(net, batch, made, c):
        d = vars(net)[f"image_discriminator_{i}"]
        real = (d(batch["image"][..., i : i + 1]) - 1) ** 2
        fake = [d(made[f"images_{i}"][int(k) : int(k) + 1]) ** 2 for k in batch["generated"][i]]
        total = real.mean() + mean(fake).sum()
        return Stated(total, {f"image_discriminator_{i}": total}, {f"image_discriminator_{i}": total}, {})

    return turn


TURNS = [
    Turn("networks", networks_turn),
    *(Turn("mask_discriminator", mask_turn(i)) for i in range(M)),
    *(Turn(f"image_discriminator_{i}", image_turn(i)) for i in range(M)),
]


# --- candidates ---

COUNT = 3  # of the source's slices, for each of the target


@pytest.fixture
def with_candidates(monkeypatch):
    put_in(monkeypatch, mmsdnet, FACTORIES)
    model = MMSDNet(dataclasses.replace(CONFIG, candidates=COUNT), seed=3)
    model.compile(run_eagerly=True)
    return model


def pass_with_candidates(model):
    random = np.random.default_rng(1)
    (batch,) = model.passes(
        as_tensors(
            {
                "image": random.uniform(-1, 1, (B, SIZE, SIZE, COUNT + 1)).astype("float32"),
                "mask": random.integers(0, L, (B, SIZE, SIZE, COUNT + 1)).astype("int32"),
                "labelled": np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]], "float32"),
                "noise": random.normal(size=(COUNT + 1, B, K)).astype("float32"),
                "prior": random.normal(size=(M, B, K)).astype("float32"),
                "real": np.array([[0, 3, 2], [1, 9, 6]], "int32"),
                "generated": np.array([[5, 0, 4], [1, 2, 3]], "int32"),
            }
        )
    )
    return batch


def weighted_networks_turn(net, batch, made, c):
    """The first turn of Sec. III-F: x_i is the last slice, the others are its candidates."""
    net = vars(net)
    of, target = [0] * COUNT + [1], COUNT
    image = [batch["image"][..., k : k + 1] for k in range(COUNT + 1)]
    codes = [encoded(net, {"image": beside(*[image[k]] * M)}, of[k]) for k in range(COUNT + 1)]
    s = [anatomy for anatomy, _, _ in codes]
    z = [mu + xp.exp(lv / 2) * batch["noise"][k] for k, (_, mu, lv) in enumerate(codes)]
    t = dict.fromkeys(TERMS, 0.0)

    def warp(a, b):
        found = net["transformer"]({"moving": s[a], "fixed": s[b]})
        t["smoothness"] += roughness(found["field"])
        t["alignment"] += apart(image[a], image[b], found["field"])
        return found["anatomy"]

    to_target, to_source = [warp(k, target) for k in range(COUNT)], [warp(target, k) for k in range(COUNT)]
    overlap = [2 * (d * s[target]).sum((1, 2, 3)) / (d + s[target]).sum((1, 2, 3)) for d in to_target]
    w = net["balancer"](xp.stack(overlap, 1))

    def judge(anatomy, k, weight, full):
        m, y = net["segmentor"](anatomy), net["decoder"]({"anatomy": anatomy, "code": z[k]})
        there = [b for b in range(B) if batch["labelled"][k][b] == 1]
        t["segmentation"] += mean([weight[b] * segmentation(m[b], batch["labels"][k][b], c) for b in there])
        t["reconstruction"] += mean([weight[b] * distance(y[b], image[k][b]) for b in range(B)])
        if full:
            t["mask_adversarial"] += ((judged(net["mask_discriminator"], m[..., 1:]) - 1) ** 2).mean()
            t["image_adversarial"] += ((judged(net[f"image_discriminator_{of[k]}"], y) - 1) ** 2).mean()
        return m, y

    given = {}
    for i, k in enumerate((0, target)):
        _, mu, lv = codes[k]
        t["kl"] += mean([(0.5 * (mu[b] ** 2 + xp.exp(lv[b]) - lv[b] - 1)).sum() for b in range(B)])
        kinds = [judge(s[k], k, [1] * B, True), judge((to_source, to_target)[i][0], k, w[:, 0], True)]
        drawn = net["decoder"]({"anatomy": s[k], "code": batch["prior"][i]})
        again = net["modality_encoder"]({"anatomy": s[k], "image": drawn})[:, :K]
        t["code_regression"] += distance(again, batch["prior"][i])
        masks, images = zip(*kinds, strict=True)
        given |= {f"masks_{i}": xp.concatenate(masks), f"images_{i}": xp.concatenate(images)}
    for k in range(1, COUNT):
        judge(to_target[k], target, w[:, k], False)
        judge(to_source[k], k, w[:, k], False)
    total = sum(getattr(c, f"{name}_weight") * value for name, value in t.items())
    shared = ("anatomy_decoder", "modality_encoder", "transformer", "segmentor", "decoder", "balancer")
    return Stated(total, t, dict.fromkeys(("anatomy_encoder_0", "anatomy_encoder_1", *shared), total), given)


def image_turn_with_candidates(i):
    def turn(net, batch, made, c):
        k = (0, COUNT)[i]
        return image_turn(i)(net, {**batch, "image": beside(*[batch["image"][..., k : k + 1]] * M)}, made, c)

    return turn


TURNS_WITH_CANDIDATES = [
    Turn("networks", weighted_networks_turn),
    *(Turn("mask_discriminator", mask_turn(i)) for i in range(M)),
    *(Turn(f"image_discriminator_{i}", image_turn_with_candidates(i)) for i in range(M)),
]


def test_totals_and_terms_with_candidates_are_those_of_the_paper(with_candidates):
    check_values(with_candidates, TURNS_WITH_CANDIDATES, pass_with_candidates(with_candidates))


@pytest.mark.skipif(not HAS_GRADIENTS, reason="gradients of the plain statement are PyTorch's")
def test_gradients_with_candidates_are_those_of_the_paper(with_candidates):
    check_gradients(with_candidates, TURNS_WITH_CANDIDATES, pass_with_candidates(with_candidates))


def test_totals_and_terms_are_those_of_the_paper(model):
    check_values(model, TURNS, one_pass(model))


@pytest.mark.skipif(not HAS_GRADIENTS, reason="gradients of the plain statement are PyTorch's")
def test_gradients_are_those_of_the_paper(model):
    check_gradients(model, TURNS, one_pass(model))
