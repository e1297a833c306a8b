"""What the unified framework is compared with: Pix2Pix, a network for each ordered pair of modalities; TC-MGAN, from
one modality to all others; and the framework without some of its terms.

Papers: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
https://arxiv.org/abs/1611.07004; Xin et al., Multi-Modality Generative Adversarial Networks with Tumor Consistency Loss
for Brain MR Image Synthesis, ISBI 2020, https://arxiv.org/abs/2005.00925, and its public code. Liu et al., Tables 1 and
2, compare all on one backbone, TC-MGAN's: so do we. `METHODS` holds them by name.

Symbols: G generates x~ in the modality of y from x, the slice of the same subject in its source modality. D sees a
slice beside x, patch by patch. S, of TC-MGAN, finds the whole tumour in one slice, and is told its modality, as G is.

| term | what | weight | models |
|---|---|---|---|
| translation | abs(x~ - y), mean over pixels; of TC-MGAN their sum | 100; 0.1 | pix2pix tcmgan |
| g_adversarial | D takes x~ for real; of TC-MGAN -D(x~) | 1 | pix2pix tcmgan |
| g_modality | D finds the modality of x~ | 20 | tcmgan |
| tumour_consistency | Dice loss of S(x~) against the mask | 1 | tcmgan |
| d_adversarial | D: y real, x~ generated, a half each; of TC-MGAN D(x~) - D(y) | 1 | pix2pix tcmgan |
| gradient_penalty | (norm of the gradient of D at images between y and x~, minus 1)^2 | 100 | tcmgan |
| d_modality | D finds the modality of y | 20 | tcmgan |
| segmentor | 0.7 Dice loss of S(x~) + 0.3 of S(y) | 1 | tcmgan |

Pix2Pix. A step trains the G of every pair, and then every D, each with the whole batch: with all twelve pairs it costs
what twelve trainings cost, which it is. Losses of all pairs are added up and moved by one Adam: their weights are
separate and Adam's steps are elementwise, so every pair learns as if alone. `share_batch` deals the batch out among the
pairs, and a step then costs one; `pairs` trains some of them only. Decided here: instance norm, which batch norm is at
pix2pix's batch size of one (Sec. 6.2), and the backbone's discriminator, in place of the 70 x 70 PatchGAN, both as Liu
et al. compare on one backbone; no dropout, as there. G first, then D on what G made, as in the framework itself. The
rate is constant: no decay over a second half.

TC-MGAN, as its code has it: the target's one-hot code stands beside x at G's input; Wasserstein GAN with the score
summed over the map, and the penalty on the target alone, x left as it is; a sigmoid for each modality, summed; D, then
G and S, with Adam's rate falling to a half, a quarter and a twentieth after 0.3, 0.6 and 0.9 of the steps.
Weights of 20, 0.1 and 100 are those of RAGAN, which is made from that code; that of the tumour is not known. The sums
over pixels and patches make them weights for 128 x 128. Different from the code:

* S learns along with G from the first step; there it is first trained alone for 30 epochs.
* S learns on the image that G is trained on; there G makes another after its step. So G and S move at once, and one
  pass of S through x~ serves both: neither's gradient depends on the other's step. D's images are made for it alone:
  they are those of G's turn, but G's gradient needs the new D, and its own pass with it.
* The source is a config field, so that four of them make the paper's 4 x TC-MGAN.

What is not available enters no loss, whatever its channel holds. It goes through the networks as background, and only
the batch statistics of S see it there. Neither model translates a modality into itself, or encodes: there is no code of
anatomy. `translate` must be told the source (`needs_source`).
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.baselines.method import Method
from tfdisent.losses import binary_cross_entropy, dice_loss, weighted_mean
from tfdisent.networks import (
    INITIALIZERS,
    num_halvings,
    patch_discriminator,
    strided_unet,
    unet_decoder,
    unet_encoder,
    with_code,
)
from tfdisent.systems.slices import is_code, modality_indices
from tfdisent.systems.unified import QUICK_BACKBONE, SMALL_BACKBONE, BackboneConfig, TranslationSystem, Unified
from tfdisent.training.adversarial import Phase, has_values, input_gradient
from tfdisent.training.system import presets

BACKGROUND = -1.0
# TC-MGAN's: fraction of all steps after which the learning rate is so many times the first one.
DECAY = {0.3: 0.5, 0.6: 0.25, 0.9: 0.05}
SEGMENTOR_SHARES = (0.7, 0.3)  # of generated slices and of real ones in the segmentor's loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class TranslatorConfig(BackboneConfig):
    """Settings of a model that must be told in which modality its images are; `BackboneConfig` says what they are."""

    learning_rate: float = 2e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(TranslatorConfig):
    """Settings of Pix2Pix; the defaults are its paper's, with the backbone and the length of the framework's training.

    Attributes:
        pairs: those to train, as in ("T1 to T2", "T2 to FLAIR"); none given are all.
        share_batch: a pair trains on its share of the batch, in place of all of it.
    """

    translation_weight: float = 100.0
    pairs: tuple[str, ...] = ()
    share_batch: bool = False

    DATA_DEPENDENT: ClassVar = ("pairs", "share_batch")
    PRESETS: ClassVar = presets(
        quick=QUICK_BACKBONE | {"share_batch": True, "batch_size": 48, "steps": 1200}, small=SMALL_BACKBONE
    )

    def __post_init__(self):
        super().__post_init__()
        names = self.modalities
        known = [f"{a} to {b}" for a in names for b in names if a != b]
        object.__setattr__(self, "pairs", tuple(self.pairs) or tuple(known))
        for pair in self.pairs:
            if pair not in known:
                raise ValueError(f"Expected pairs among {', '.join(known)}; received {pair!r}.")
        if len(set(self.pairs)) < len(self.pairs):
            raise ValueError(f"Expected pairs that differ, received {self.pairs}.")
        if self.share_batch and self.batch_size < len(self.pairs):
            raise ValueError(
                f"With share_batch, expected batch_size >= {len(self.pairs)}, one image a pair; received "
                f"{self.batch_size}."
            )

    @property
    def pair_indices(self) -> list[tuple[int, int]]:
        """(source, target) of each pair."""
        names = self.modalities
        every = {f"{a} to {b}": (i, j) for i, a in enumerate(names) for j, b in enumerate(names)}
        return [every[pair] for pair in self.pairs]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TCMGANConfig(TranslatorConfig):
    """Settings of TC-MGAN; the defaults are its code's.

    Attributes:
        source: the modality that all others are made from.
        segmentor_filters: channels of the segmentor's first stage, doubled at each coarser one.
        modality_weight, gradient_penalty_weight: of the terms so called, of both players and of D.
        segmentation_weight: of the tumour's consistency; with 0 there is no segmentor, and no masks are needed.
    """

    translation_weight: float = 0.1
    beta_1: float = 0.9
    source: str = "T2"
    segmentor_filters: int = 64
    modality_weight: float = 20.0
    gradient_penalty_weight: float = 100.0
    segmentation_weight: float = 1.0

    DATA_DEPENDENT: ClassVar = ("source",)
    # The sums over pixels make 0.1 a weight for 128 x 128.
    PRESETS: ClassVar = presets(
        quick=QUICK_BACKBONE | {"segmentor_filters": 16, "translation_weight": 0.4, "steps": 2400},
        small=SMALL_BACKBONE | {"translation_weight": 0.1},
    )

    def __post_init__(self):
        super().__post_init__()
        if self.source not in self.modalities:
            raise ValueError(f"Expected source to be one of {', '.join(self.modalities)}, received {self.source!r}.")

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The rate, which falls in steps."""
        return ("learning rates",)

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if there are not two modalities, or no masks of the tumour that is kept consistent."""
        super().check_manifest(manifest)
        if self.segmentation_weight and not manifest.mask_labels:
            raise ValueError(
                f"Expected data with masks of the tumour, received {manifest.dataset}, which has none; leave the "
                "segmentor out by segmentation_weight=0."
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The other modalities, in their order."""
        return tuple(name for name in self.modalities if name != self.source)


class Translator(TranslationSystem):
    """A model that must be told in which modality its images are.

    `fit` takes batches {"image": (B, H, W, M) in [-1, 1], "available": (B, M) of 0 and 1, by default 1}.

    Args:
        config: its settings; the paper's by default.
        seed: of what is drawn in training.
    """

    needs_source = True
    config_class: type[TranslatorConfig]

    def shown(self, batch: dict):
        """Slices (B, H, W, M), with background in the place of what is not available, and what is (B, M)."""
        image, available = batch["image"], self.available(batch)
        self.check_batch(image)
        return ops.where(available[:, None, None, :] > 0, image, BACKGROUND), available


class Pix2Pix(Translator):
    """A conditional GAN for each ordered pair of modalities, trained together."""

    config_class = Pix2PixConfig
    call_inputs = ("image", "target", "source")

    def __init__(self, config: Pix2PixConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        pairs = [f"{source}_to_{target}" for source, target in config.pair_indices]
        self.generators = [generator(config, 1, name=f"generator_{pair}") for pair in pairs]
        self.discriminators = [discriminator(config, name=f"discriminator_{pair}") for pair in pairs]
        self.track_averages(self.generators, config.average_momentum)
        self.built = True

    # --- training ---

    def phases(self) -> list[Phase]:
        """The generators of all pairs, then their discriminators."""
        return [
            Phase(self.generator_loss, self.generators, "generators"),
            Phase(self.discriminator_loss, self.discriminators, "discriminators"),
        ]

    def term_weights(self) -> dict[str, float]:
        """Of terms that are means over pairs, where the losses are sums over them."""
        pairs = len(self.config.pairs)
        translation = self.config.translation_weight * pairs
        return {"translation": translation, "g_adversarial": pairs, "d_adversarial": pairs}

    def passes(self, batch: dict) -> list[dict]:
        """One pass for all pairs.

        Returns:
            [{"pairs": a dict for each, {"source", "target": (B, H, W, 1), "weight": (B,)}}]; the weight is 1, or 0
            where one of the two is not available. B is the batch's, or with `share_batch` the pair's share of it.
        """
        image, available = self.shown(batch)
        lesion = self.lesion(batch) if self.config.lesion_weight else None
        pairs, every = [], len(self.config.pairs)
        for k, (i, j) in enumerate(self.config.pair_indices):
            own = slice(k, None, every) if self.config.share_batch else slice(None)
            pairs.append(
                {
                    "source": image[own, :, :, i : i + 1],
                    "target": image[own, :, :, j : j + 1],
                    "weight": available[own, i] * available[own, j],
                }
                | ({} if lesion is None else {"lesion": lesion[own]})
            )
        return [{"pairs": pairs}]

    def generator_loss(self, batch: dict, carried: dict):
        """Translates, and fools the discriminators; the terms are means over pairs."""
        generated, translation, adversarial = [], [], []
        for pair, network, judge in zip(batch["pairs"], self.generators, self.discriminators, strict=True):
            x, y, weight = pair["source"], pair["target"], pair["weight"]
            image = network(x, training=True)
            scores = judge(beside(image, x), training=True)
            translation.append(weighted_mean(self.translation_error(image, y, pair), weight))
            adversarial.append(weighted_mean(binary_cross_entropy(scores, 1.0), weight))
            generated.append(image)
        terms = {"translation": mean(translation), "g_adversarial": mean(adversarial)}
        return self.weighted(terms), terms, {f"generated_{k}": image for k, image in enumerate(generated)}

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real against generated slices, each beside its source."""
        adversarial = []
        for k, (pair, judge) in enumerate(zip(batch["pairs"], self.discriminators, strict=True)):
            x, y = pair["source"], pair["target"]
            scores = judge(beside(y, x), training=True)
            scores_generated = judge(beside(carried[f"generated_{k}"], x), training=True)
            loss = binary_cross_entropy(scores, 1.0) + binary_cross_entropy(scores_generated, 0.0)
            adversarial.append(weighted_mean(0.5 * loss, pair["weight"]))
        terms = {"d_adversarial": mean(adversarial)}
        return self.weighted(terms), terms, {}

    # --- verbs ---

    def call(self, inputs, training=False):
        """As of other systems of slices, but not where a function is traced, as by a compiled `predict`."""
        if isinstance(inputs, Mapping) and not all(map(has_values, inputs.values())):
            raise ValueError(
                "Expected tensors with values, since Pix2Pix chooses among networks, one for each pair of modalities, "
                "received those of a compiled function; call `translate`, or compile with run_eagerly=True."
            )
        return super().call(inputs)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source, target) that `translate` knows, as indices."""
        return self.config.pair_indices

    def translate(self, image, target, source):
        """Slices in another modality.

        Args:
            image: (B, H, W, 1) in [-1, 1].
            target: the modality wanted, by name, index or one-hot code; one for all or B of them.
            source: the modality that the slices are in, likewise.

        Returns:
            (B, H, W, 1) in [-1, 1].

        Raises:
            ValueError: for a pair that is not among the config's.
        """
        image = self.checked_slices(image)
        size = image.shape[0]
        sources = modality_indices(source, self.config.modalities, size, "source")
        targets = modality_indices(target, self.config.modalities, size, "target")
        known, wanted = self.config.pair_indices, list(zip(sources, targets, strict=True))
        for i, j in wanted:
            if (i, j) not in known:
                names = self.config.modalities
                raise ValueError(
                    f"Expected a pair that was trained, {', '.join(self.config.pairs)}; received '{names[i]} to "
                    f"{names[j]}'."
                )
        parts, order = [], []
        for pair in sorted(set(wanted)):
            rows = [row for row, one in enumerate(wanted) if one == pair]
            network = self.generators[known.index(pair)]
            parts.append(network(ops.take(image, np.array(rows), axis=0), training=False))
            order += rows
        return ops.take(ops.concatenate(parts), np.argsort(order), axis=0)

    def signatures(self) -> dict:
        """What is exported: for each pair, as "T1_to_T2", a function of slices to {"image": slices}."""
        image = (None, *self.config.image_shape)

        def of(network):
            return lambda image: {"image": network(self.checked_slices(image), training=False)}

        return {
            re.sub(r"\W+", "_", pair): (of(network), {"image": image})
            for pair, network in zip(self.config.pairs, self.generators, strict=True)
        }

    def volume_io(self) -> dict:
        """What the first signature takes and gives when it is applied to volumes, as a model's card says it."""
        source, target = (self.config.modalities[index] for index in self.pairs[0])
        return {"inputs": [source], "outputs": {"image": {"kind": "image", "names": [target]}}}


class TCMGAN(Translator):
    """From one modality to all others, with a discriminator that names the modality and a segmentor of the tumour.

    Batches must hold a "mask" (B, H, W) or (B, H, W, 1) too, the tumour being all that is above 0.
    """

    config_class = TCMGANConfig

    def __init__(self, config: TCMGANConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        num_targets = len(config.targets)
        self.generator = generator(config, 1, num_targets)
        self.discriminator = discriminator(config, num_targets)
        self.segmentor = segmentor(config)
        self.track_averages([self.generator], config.average_momentum)
        self.built = True

    # --- training ---

    def learning_rate(self, player: str):
        """The rate of either player, which falls in steps, at fractions of the whole training."""
        rate, steps = self.config.learning_rate, self.config.steps
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [round(fraction * steps) for fraction in DECAY],
            [rate, *(rate * factor for factor in DECAY.values())],
        )

    def phases(self) -> list[Phase]:
        """Discriminator, then generator and segmentor, if the segmentor has a part in the loss."""
        generators = [self.generator]
        if self.config.segmentation_weight:
            generators.append(self.segmentor)
        return [
            Phase(self.discriminator_loss, [self.discriminator], "discriminators"),
            Phase(self.generator_loss, generators, "generators"),
        ]

    def term_weights(self) -> dict[str, float]:
        """Of the terms of both players; the tumour's consistency is in the segmentor's loss, see `generator_loss`."""
        c = self.config
        return {
            "translation": c.translation_weight,
            **dict.fromkeys(("g_modality", "d_modality"), c.modality_weight),
            "gradient_penalty": c.gradient_penalty_weight,
            "tumour_consistency": 0.0,
        }

    def passes(self, batch: dict) -> list[dict]:
        """One pass: each subject's slice in the source and in one of the other modalities.

        Returns:
            [{"source", "target", "lesion": (B, H, W, 1); "code": (B, M - 1), the target's; "weight": (B,), 1 or, where
            one of the two is not available, 0; "interpolation": (B, 1, 1, 1) in [0, 1)}]
        """
        c = self.config
        image, available = self.shown(batch)
        drawn = self.draw({**batch, "available": available})
        source, target = c.modalities.index(c.source), ops.cast(drawn["target_modality"], "int32")
        code = ops.one_hot(target, c.num_modalities, dtype="float32")
        others = np.array([c.modalities.index(name) for name in c.targets])
        chosen = {
            "source": image[..., source : source + 1],
            "target": ops.take_along_axis(image, target[:, None, None, None], axis=-1),
            "code": ops.take(code, others, axis=1),
            "weight": available[:, source] * ops.sum(available * code, axis=1),
            "interpolation": drawn["interpolation"],
        }
        if c.segmentation_weight or c.lesion_weight:
            chosen["lesion"] = self.lesion(batch)
        return [chosen]

    def draw(self, batch: dict) -> dict:
        """Adds what a step draws at random; a key that the batch already has is kept, so that a test can inject it."""
        c, seed, available = self.config, self.seed_generator, batch["available"]
        size = ops.shape(available)[0]
        is_target = ops.convert_to_tensor([float(name != c.source) for name in c.modalities])
        noise = keras.random.uniform((size, c.num_modalities), seed=seed)
        drawn = {
            "target_modality": ops.argmax(ops.where(available * is_target > 0, noise, is_target - 2.0), axis=1),
            "interpolation": keras.random.uniform((size, 1, 1, 1), seed=seed),
        }
        return {**drawn, **batch}

    def discriminator_loss(self, batch: dict, carried: dict):
        """Scores real slices above generated ones, with a gradient of norm 1 between them, and names the modality."""
        c = self.config
        x, y, code, weight = (batch[name] for name in ("source", "target", "code", "weight"))
        generated = ops.stop_gradient(self.generator({"image": x, "code": code}, training=True))
        # Both kinds in one batch: an example does not see the others, and the large kernels are read once.
        both = ops.concatenate([beside(y, x), beside(generated, x)])
        scores, modality = self.discriminator(both, training=True)
        scores, scores_generated = ops.split(summed(scores), 2)
        modality, _ = ops.split(modality, 2)
        terms = {
            "d_adversarial": weighted_mean(scores_generated - scores, weight),
            "d_modality": weighted_mean(modality_loss(modality, code), weight),
        }
        if c.gradient_penalty_weight:
            share = batch["interpolation"]
            penalty = gradient_penalty(
                lambda image: self.discriminator(beside(image, x), training=True)[0],
                share * y + (1.0 - share) * generated,
            )
            terms["gradient_penalty"] = weighted_mean(penalty, weight)
        return self.weighted(terms), terms, {}

    def generator_loss(self, batch: dict, carried: dict):
        """Translates, fools the discriminator in the right modality, and keeps the tumour where it is."""
        c = self.config
        x, y, code, weight = (batch[name] for name in ("source", "target", "code", "weight"))
        generated = self.generator({"image": x, "code": code}, training=True)
        scores, modality = self.discriminator(beside(generated, x), training=True)
        height, width, _ = c.image_shape
        error = height * width * self.translation_error(generated, y, batch)
        terms = {
            "translation": weighted_mean(error, weight),
            "g_adversarial": weighted_mean(-summed(scores), weight),
            "g_modality": weighted_mean(modality_loss(modality, code), weight),
        }
        if c.segmentation_weight:
            on_generated, on_real = SEGMENTOR_SHARES
            # The one loss moves S with its share, and G with its weight.
            scaled = scaled_gradient(generated, c.segmentation_weight / on_generated)
            losses = []
            for image in (scaled, y):  # each with batch statistics of its own
                tumour = self.segmentor({"image": image, "code": code}, training=True)
                losses.append(weighted_mean(dice_loss(tumour, batch["lesion"]), weight))
            terms["tumour_consistency"] = losses[0]
            terms["segmentor"] = on_generated * losses[0] + on_real * losses[1]
        return self.weighted(terms), terms, {}

    # --- verbs ---

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source, target) that `translate` knows, as indices."""
        names = self.config.modalities
        return [(names.index(self.config.source), names.index(name)) for name in self.config.targets]

    def translate(self, image, target, source=None):
        """Slices in another modality.

        Args:
            image: (B, H, W, 1) in [-1, 1].
            target: the modality wanted, by name, index or one-hot code; one for all or B of them.
            source: the modality that the slices are in, likewise; the config's is the only one that it can be.

        Returns:
            (B, H, W, 1) in [-1, 1].

        Raises:
            ValueError: for another source, or the source as a target.
        """
        c, image = self.config, self.checked_slices(image)
        if is_code(target) and not has_values(target):
            return self._translate(image, target)  # traced, as by `predict`: there are no values to check
        size = image.shape[0]
        sources = modality_indices(c.source if source is None else source, self.config.modalities, size, "source")
        for name in {c.modalities[index] for index in sources} - {c.source}:
            raise ValueError(
                f"Expected slices in {c.source}, which this TC-MGAN was trained for; received source {name}. Train "
                f"another with source={name}."
            )
        targets = modality_indices(target, self.config.modalities, size, "target")
        if c.modalities.index(c.source) in targets:
            raise ValueError(
                f"Expected a target among {', '.join(c.targets)}; received {c.source}, which is the source."
            )
        return self._translate(image, np.eye(c.num_modalities, dtype="float32")[targets])

    def signatures(self) -> dict:
        """What is exported: `translate`, with targets as codes (B, M), in which the source's column is ignored."""

        def translate(image, target):
            return {"image": self._translate(self.checked_slices(image), target)}

        shapes = {
            "image": (None, *self.config.image_shape),
            "target": (None, self.config.num_modalities),
        }
        return {"translate": (translate, shapes)}

    def volume_io(self) -> dict:
        """What the signature takes and gives when it is applied to volumes, as a model's card says it."""
        c = self.config
        return {"inputs": [c.source], "outputs": {"image": {"kind": "image", "names": list(c.modalities)}}}

    def _translate(self, image, code):
        c = self.config
        others = np.array([c.modalities.index(name) for name in c.targets])
        code = ops.take(ops.convert_to_tensor(code), others, axis=1)
        return self.generator({"image": image, "code": code}, training=False)


# --- terms ---


def beside(image, source):
    """What a discriminator is shown: slices and their sources as two channels, (B, H, W, 2)."""
    return ops.concatenate([image, source], axis=-1)


def summed(scores):
    """Sum of scores (B, h, w, 1) over the map, (B,)."""
    return ops.sum(scores, axis=(1, 2, 3))


def mean(values: list):
    """The mean of scalars."""
    return sum(values) / len(values)


def modality_loss(logits, code):
    """Binary cross entropy of each modality's sigmoid, summed: logits and one-hot codes (B, K) -> (B,)."""
    return logits.shape[-1] * binary_cross_entropy(logits, code)


def gradient_penalty(critic, image):
    """(|gradient| - 1)^2 of the critic's summed scores: images (B, H, W, C) -> (B,).

    Source: Gulrajani et al., Improved Training of Wasserstein GANs, Eq. 3, https://arxiv.org/abs/1704.00028.
    """
    gradient = ops.cast(input_gradient(critic, image), "float32")
    # Not the norm alone: its own gradient is not finite at 0.
    norm = ops.sqrt(ops.sum(ops.square(gradient), axis=(1, 2, 3)) + 1e-12)
    return ops.square(norm - 1.0)


def scaled_gradient(image, scale: float):
    """The image as it is, whose gradient is multiplied on the way back."""
    value = ops.stop_gradient(image)
    return value + scale * (image - value)  # the bracket is exactly 0, its gradient 1


# --- networks ---


def generator(config: TranslatorConfig, channels: int, code_dim: int = 0, name: str = "generator") -> keras.Model:
    """Slices (B, H, W, channels), or {"image": slices, "code": (B, code_dim)} -> slices (B, H, W, 1) in [-1, 1].

    The framework's U-Net in one piece, with the code beside the image.
    """
    height, width, _ = config.image_shape
    settings = {
        "filters": config.filters,
        "num_levels": num_halvings(height, width, at_most=7),
        "level_0": config.level_0,
        "initializer": INITIALIZERS[config.initializer],
    }
    image = keras.Input((height, width, channels), name="image")
    code = keras.Input((code_dim,), name="code") if code_dim else None
    features = unet_encoder((height, width, channels + code_dim), **settings)(with_code(image, code))
    decoder = unet_decoder(config.image_shape, upsampling=config.upsampling, merge=config.merge, **settings)
    return keras.Model({"image": image, "code": code} if code_dim else image, decoder(features), name=name)


def discriminator(config: TranslatorConfig, num_classes: int = 0, name: str = "discriminator") -> keras.Model:
    """Slices beside their sources (B, H, W, 2) -> scores (B, h, w, 1); with classes their logits (B, K) too."""
    height, width, _ = config.image_shape
    return patch_discriminator(
        (height, width, 2),
        filters=config.discriminator_filters,
        num_levels=num_halvings(height, width, at_most=5, smallest=4),
        num_classes=num_classes,
        name=name,
    )


def segmentor(config: TCMGANConfig) -> keras.Model:
    """{"image": slices (B, H, W, 1), "code": their modality (B, M - 1)} -> probability of tumour (B, H, W, 1)."""
    height, width, _ = config.image_shape
    return strided_unet(
        config.image_shape,
        code_dim=len(config.targets),
        filters=config.segmentor_filters,
        num_levels=num_halvings(height, width, at_most=4),
    )


# --- by name ---

METHODS = (
    Method("unified", "Unified", Unified, {}),
    Method("pix2pix", "Pix2Pix", Pix2Pix, {}),
    Method("tcmgan", "TC-MGAN", TCMGAN, {}),
    # The four that make the paper's 4 x TC-MGAN.
    *(
        Method(f"tcmgan_{source}", f"TC-MGAN from {source}", TCMGAN, {"source": source})
        for source in ("T1", "T1ce", "T2", "FLAIR")
    ),
    Method("no_disentanglement", "Unified without disentanglement", Unified, {"disentanglement_weight": 0.0}),
    Method(
        "no_adversarial",
        "Unified without adversarial terms",
        Unified,
        {"adversarial_weight": 0.0, "modality_weight": 0.0},
    ),
    Method("no_cycle", "Unified without cycle term", Unified, {"cycle_weight": 0.0}),
    Method(
        "no_adversarial_cycle",
        "Unified without adversarial and cycle terms",
        Unified,
        {"adversarial_weight": 0.0, "modality_weight": 0.0, "cycle_weight": 0.0},
    ),
    Method(
        "translation_only",
        "Unified, translation alone",
        Unified,
        {"adversarial_weight": 0.0, "modality_weight": 0.0, "cycle_weight": 0.0, "disentanglement_weight": 0.0},
    ),
)
