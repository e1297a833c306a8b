"""What the golden steps of DRAI and of its baselines share: small networks, a batch, and terms in LSGAN's form.

Paper: Havaei et al., https://arxiv.org/abs/2012.04764. In LSGAN's form (Sec. III-G) a discriminator's log D becomes
(D - 1)^2, its log(1 - D) D^2; for players who fool a discriminator the targets are exchanged. Norms are means over
entries.
"""

import dataclasses

import numpy as np

from tests.systems.golden import Small, Stated, beside, input_gradient, put_in, xp
from tests.tiny import NARROWEST
from tfdisent.baselines import drai as baselines
from tfdisent.baselines.drai import METHODS
from tfdisent.baselines.method import method
from tfdisent.systems import drai
from tfdisent.systems.drai import DRAIConfig

B, SIZE, K = 4, 16, 3
# No two weights are alike, so that none can stand in the place of another.
CONFIG = DRAIConfig(
    **NARROWEST,
    channels=2,
    num_conditions=K,
    kl_weight=0.3,
    gradient_reversal_weight=1.3,
    self_supervision_weight=0.6,
    code_cycle_weight=0.7,
    reading_noise=0.4,
    train_twice=False,
    learning_rate=1e-3,
    average_momentum=0.15,
)


def pixels(config):
    return config.image_size**2 * config.channels


def image_shape(config):
    return config.image_size, config.image_size, config.channels


FACTORIES = {
    "condition_encoder": lambda c: Small("condition_encoder", c.num_conditions, ((c.content_dim,),) * 2),
    "generator": lambda c: Small("generator", c.style_dim + c.content_dim, image_shape(c), "image"),
    "image_encoder": lambda c, code, name: Small(name, pixels(c), ((code,),) * 2),
    "code_regressor": lambda c, code, other, name: Small(name, code, (other,)),
    "image_discriminator": lambda c, channels, name: Small(name, c.image_size**2 * channels, (1,)),
    "condition_discriminator": lambda c: (
        Small("condition_discriminator_trunk", pixels(c), (4,)),
        Small("condition_discriminator_head", 4 + c.num_conditions, (1,)),
    ),
    "joint_discriminator": lambda c, code, name: Small(name, pixels(c) + code, (1,)),
}


def put_small_networks(monkeypatch):
    """DRAI and its baselines are made of small networks."""
    for module in (drai, baselines):
        put_in(monkeypatch, module, FACTORIES)


def made(name="drai", **changes):
    """A model whose steps run without compilation."""
    known = method(METHODS, name)
    model = known.model(dataclasses.replace(CONFIG, **known.changes, **changes), seed=3)
    model.compile(run_eagerly=True)
    return model


def examples():
    """A batch with all that is drawn; for one of its images no other condition was found."""
    random = np.random.default_rng(0)
    condition = np.eye(K)[np.arange(B) % K]
    batch = {
        "image": random.uniform(-1, 1, (B, SIZE, SIZE, 2)),
        "transformed": random.uniform(-1, 1, (B, SIZE, SIZE, 2)),
        "condition": condition,
        "mismatched": np.roll(condition, 1, axis=0),
        "has_mismatch": np.array([1, 1, 0, 1]),
        "style": random.normal(size=(B, CONFIG.style_dim)),
        "content_noise": random.normal(size=(B, CONFIG.content_dim)),
        "inferred_style_noise": random.normal(size=(B, CONFIG.style_dim)),
        "inferred_content_noise": random.normal(size=(B, CONFIG.content_dim)),
        "reading_noise": random.normal(size=(B, SIZE, SIZE, 2)),
    }
    return {name: value.astype("float32") for name, value in batch.items()}


# --- terms ---


def says_real(scores):
    """What D's player pays for a pair that is real, and the generators for one that is not."""
    return ((scores - 1) ** 2).mean()


def says_fake(scores):
    """The other way round."""
    return (scores**2).mean()


def drawn_from(mean, log_variance, noise):
    """The reparameterisation trick of Sec. II-E: the standard deviation is the root of the variance."""
    return mean + xp.exp(log_variance) ** 0.5 * noise


def divergence(mean, log_variance):
    """D_KL(N(mean, variance) || N(0, I)) of Eq. 16, per dimension."""
    return (mean**2 / 2 + xp.exp(log_variance) / 2 - log_variance / 2 - 0.5).mean()


def unlikely(code, posterior, config):
    """-log Q: l1 of the mean, or of InfoGAN's Gaussian per dimension without its constant, no variance below 0.001."""
    mean, log_variance = posterior
    if config.code_likelihood == "l1":
        return abs(code - mean).mean()
    variance = xp.exp(log_variance) + 0.001
    return (xp.log(variance) / 2 + (code - mean) ** 2 / variance / 2).mean()


def condition_score(net, image, condition):
    """D_xt (Sec. II-B), whose trunk sees the image."""
    return net.condition_discriminator_head(net.condition_discriminator_trunk(image), condition)


def matching_aware(net, batch, image):
    """D_xt's own loss of Eq. 1: (x, t) is real; (x, t_wrong), where there is one, and (image, t) are not, by halves."""
    x, t = batch["image"], batch["condition"]
    wrong = (condition_score(net, x, batch["mismatched"])[:, 0] ** 2 * batch["has_mismatch"]).mean()
    return says_real(condition_score(net, x, t)) + (wrong + says_fake(condition_score(net, image, t))) / 2


def penalised(stated, net, batch, config, style=None, content=None):
    """What discriminators minimise, with R1 where it is on: Mescheder et al., ICML 2018, Eq. 9, gamma being its weight.

    Args:
        stated: without it.
        net, batch, config: as of a turn.
        style, content: codes of real images, where the model has D_xz and D_xc.
    """
    if not config.r1_weight:
        return stated
    x, t = batch["image"], batch["condition"]
    features = net.condition_discriminator_trunk(x)
    in_features = input_gradient(net.condition_discriminator_head, features, t)
    slopes = [input_gradient(net.condition_discriminator_trunk, x, share=in_features)]
    if "image_discriminator" in stated.objectives:
        slopes.append(input_gradient(net.image_discriminator, x))
    if "cycle_discriminator" in stated.objectives:
        slopes.append(input_gradient(net.cycle_discriminator, beside(x, x)))
    for name, code in (("style", style), ("content", content)):
        if code is not None:
            slopes.append(input_gradient(getattr(net, f"{name}_discriminator"), x, code))
    r1 = sum((slope.reshape(len(x), -1) ** 2).sum(axis=1).mean() / 2 for slope in slopes)
    total = stated.total + config.r1_weight * r1
    return Stated(total, {**stated.terms, "r1": r1}, dict.fromkeys(stated.objectives, total), {})
