"""What the margin system is compared with: convolutions in the place of conditional ones, without the similarity loss,
or with a discriminator in its place.

Paper: Ouyang et al., IPMI 2021, Sec. 4.2, https://github.com/ouyangjiahong/representation-disentanglement. All have the
same networks, and differ in the encoders, of which "Conv" has a pair for each modality, and in what is to keep anatomy
and modality apart: NA relies on reconstruction alone, Adv has a discriminator tell the modality of an anatomy, which
the encoder learns to hide. `METHODS` holds them by name, all at the same size, batches and steps.

Symbols: D_s `discriminator`, from an anatomy to logits of its modality.

| term | what | weight | models |
|---|---|---|---|
| g_adversarial | cross entropy of D_s to all modalities alike | 1 | conv_adv |
| d_adversarial | cross entropy of D_s to the modality of the anatomy | 1 | conv_adv |
| d_accuracy | share of anatomies whose modality D_s finds | logged | conv_adv |

The rest are the system's terms. Different from the public code, whose D_s tells two modalities apart and whose encoder
makes it say the same one for both: D_s knows all modalities and the encoder makes it say none, which is the symmetric
form; and D_s has an optimizer of its own. It sees no anatomy of a slice that is missing.
"""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from tfdisent.baselines.method import Method
from tfdisent.layers import InstanceNormalization
from tfdisent.losses import softmax_cross_entropy, weighted_mean
from tfdisent.systems.margin import Margin, MarginConfig
from tfdisent.training.adversarial import Phase
from tfdisent.training.system import falling


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginAdversarialConfig(MarginConfig):
    """Settings of the system with a discriminator of anatomies; `MarginConfig` describes the others.

    Attributes:
        adversarial_weight: of what the encoder learns from the discriminator.
        discriminator_filters: channels of its first stage.
        discriminator_learning_rate: of its Adam.
    """

    adversarial_weight: float = 1.0
    discriminator_filters: int = 16
    discriminator_learning_rate: float = 2e-4

    # The discriminator is as fast as the networks that it judges.
    PRESETS: ClassVar = {
        name: values | ({"discriminator_learning_rate": values["learning_rate"]} if "learning_rate" in values else {})
        for name, values in MarginConfig.PRESETS.items()
    }


class MarginAdversarial(Margin):
    """The system with a discriminator that tells an anatomy's modality, and an anatomy encoder that hides it."""

    config_class = MarginAdversarialConfig

    def __init__(self, config: MarginAdversarialConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        self.discriminator = discriminator(self.config)

    def phases(self) -> list[Phase]:
        """All networks of the system together, then the discriminator on the anatomies that they made."""
        return [*super().phases(), Phase(self.discriminator_loss, [self.discriminator], "discriminators")]

    def term_weights(self) -> dict[str, Any]:
        """The system's, and that of what hides the modality."""
        return super().term_weights() | {"g_adversarial": self.config.adversarial_weight}

    def learning_rate(self, player: str):
        """The rate of the system's networks, or of the discriminator."""
        c = self.config
        rate = c.discriminator_learning_rate if player == "discriminators" else c.learning_rate
        return falling(rate, c.learning_rate_decay, c.steps)

    def loss_terms(self, batch: dict, carried: dict):
        """The system's, and that no modality can be told from an anatomy."""
        _, terms, made = super().loss_terms(batch, carried)
        c, available = self.config, batch["available"]
        shown = ops.concatenate([made[f"anatomy_{i}"] for i in range(c.num_modalities)])
        logits = self.discriminator(shown, training=True)
        alike = ops.full((ops.shape(logits)[0], c.num_modalities), 1.0 / c.num_modalities)
        weight = ops.reshape(ops.transpose(available), (-1,))
        terms["g_adversarial"] = weighted_mean(softmax_cross_entropy(logits, alike), weight)
        return self.weighted(terms), terms, made

    def discriminator_loss(self, batch: dict, carried: dict):
        """Tells the modality of each anatomy."""
        c, available = self.config, batch["available"]
        shown = ops.concatenate([carried[f"anatomy_{i}"] for i in range(c.num_modalities)])
        logits = self.discriminator(shown, training=True)
        truth = ops.repeat(ops.arange(c.num_modalities), ops.shape(available)[0], axis=0)
        weight = ops.reshape(ops.transpose(available), (-1,))
        code = ops.one_hot(truth, c.num_modalities, dtype="float32")
        found = ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=1), "int32"), ops.cast(truth, "int32")), "float32")
        terms = {
            "d_adversarial": weighted_mean(softmax_cross_entropy(logits, code), weight),
            "d_accuracy": weighted_mean(found, weight),
        }
        return terms["d_adversarial"], terms, {}


def discriminator(config: MarginAdversarialConfig) -> keras.Model:
    """D_s: anatomy (B, H, W, anatomy_channels) -> logits of its modality (B, M).

    Convolutions of 4 x 4 with stride 2 as in the public code; with instance norm, which unlike its batch norm treats
    every anatomy alone, so that what is missing is not seen through statistics.
    """
    anatomy = h = keras.Input((*config.image_shape[:2], config.anatomy_channels), name="anatomy")
    for factor in (1, 2, 4, 8, 4):
        h = keras.layers.Conv2D(factor * config.discriminator_filters, 4, 2, "same")(h)
        if min(h.shape[1:3]) > 1 and factor > 1:  # of one pixel it would leave nothing
            h = InstanceNormalization(epsilon=1e-5)(h)
        h = keras.layers.LeakyReLU(0.2)(h)
    h = keras.layers.Dense(16 * config.discriminator_filters)(keras.layers.Flatten()(h))
    logits = keras.layers.Dense(config.num_modalities, dtype="float32")(keras.layers.LeakyReLU(0.2)(h))
    return keras.Model(anatomy, logits, name="discriminator")


# --- by name ---

NO_SIMILARITY = {"anatomy_similarity_weight": 0.0, "modality_similarity_weight": 0.0}

METHODS = (
    Method("margin", "CondConv+Sim", Margin, {}),
    Method("conv_sim", "Conv+Sim", Margin, {"conditional": False}),
    Method("conv_adv", "Conv+Adv", MarginAdversarial, {"conditional": False, **NO_SIMILARITY}),
    Method("conv_na", "Conv+NA", Margin, {"conditional": False, **NO_SIMILARITY}),
)
