"""Unified conditional disentanglement: any MR contrast to any other with one encoder, one decoder, one discriminator.

Paper: Liu, Xing, El Fakhri, Woo: A unified conditional disentanglement framework for multimodal brain MR image
translation, ISBI 2021, https://arxiv.org/abs/2101.05434. In: slices of one subject in M aligned modalities, some of
which may be missing. Out: an encoder of anatomy that does not ask which modality it sees, and a decoder that shows this
anatomy in the modality asked for. There is no public code; the networks are those of TC-MGAN, which the paper adopts.

Symbols: Enc `encoder`, Dec `decoder`, Dis `discriminator` with a score per patch and, Dis_mc, logits of the modality. x
is the `source` slice, of modality m_x, y the `target`, the same slice in modality m_y; x~_y = Dec(Enc(x), m_y) is
`generated`, x~_x = Dec(Enc(x~_y), m_x) `returned`. Both modalities are drawn again in each step, m_y = m_x included.

Loss terms (means over batch, pixels and features; the weight is a field of the config):

| term | what | weight | equation |
|---|---|---|---|
| translation | abs(x~_y - y) | 1 | 1 |
| cycle | abs(x~_x - x) | alpha = 1 | 4 |
| g_adversarial | Dis takes x~_y for real | beta = 0.5 | 2, 6 |
| g_modality | Dis_mc finds m_y in x~_y | lambda_1 = 1 | 3, 6 |
| disentanglement | abs(Enc(x~_y) - Enc(x)) | 1 | 5 |
| d_adversarial | Dis: y real, x~_y generated | 1 | 2, 7 |
| d_modality | Dis_mc finds m_y in y | lambda_2 = 1 | 3, 7 |

One step: Enc and Dec, then Dis on the images that they made. A weight of 0 leaves a term out, and its networks' work.

Where the paper is silent or says two things:

* The code m_y is "concatenated with the input image" in one sentence, but Enc is to see none: it goes into Dec, beside
  the features of every level.
* Skips carry appearance past the bottleneck. Eq. 5 is therefore taken over all that Dec gets, the mean of each level
  and then of the levels; `disentangle_skips=False` is the bottleneck alone. `skips=False` is a network without skips.
* Eq. 5 moves Enc only: x~_y comes in without a gradient. `disentangle_decoder=True` lets it reach Dec. Its weight is
  not given.
* Eq. 2 lacks the real image and its sign; it is read as the GAN's, with the non-saturating loss for Dec. Dis sees one
  real image a step, y, for Eq. 2 and 3 both: it is of modality m_y as x~_y is.
* Dis_mc learns on real images only, as in StarGAN and TC-MGAN, so that it cannot learn to read what Dec writes;
  `classify_generated=True` is Eq. 3 as written.
* "The same number of x from each modality": source modalities are dealt out to a randomly ordered batch in turn. A
  subject without the one dealt to it takes an available one. m_y is drawn among the available ones.
* With m_y = m_x included, one draw in M translates a slice into its own modality, where Eq. 5, which is to take the
  modality out of the anatomy, asks for little; `self_translations=False` leaves these draws out, as what the paper
  compares with does.
* Image size: 128 x 128 of the backbone, whose seven levels end at one pixel. Other sizes have as many levels as both
  sides can be halved: 5 for 32 x 32 and for 192 x 160, 4 for 240 x 240 (padded to 256 x 256 it has 7).

Deviations, each a config field: `average_momentum` keeps averaged weights for evaluation and export (0 gives the last
ones); `merge` gives the U-Net's decoder a convolution per level in which features, skip and code meet, without which it
hardly inverts contrast: the finest skip reaches the image through one linear layer, whose sign no code can turn (see
`unet_decoder`). Preset `paper` is without it, since it is the paper's backbone as printed; for results on one's own
data `merge=True` is advised, as in `quick` and `small`. `upsampling="nearest"` takes the place of the backbone's
transposed convolutions, which leave checkerboards; `disentanglement_delay` starts Eq. 5 only when Dec shows lesions,
since it compares x with what Dec makes of it, and so asks Enc to ignore what that lacks; `clip_norm` bounds gradients,
and `learning_rate_decay` lets the rates fall; `level_0` adds features at full resolution, which are anatomy as those of
the other levels are, inside Eq. 5; `lesion_weight` lets lesions count more in the translation term.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.losses import (
    absolute_error,
    binary_cross_entropy,
    least_squares,
    softmax_cross_entropy,
    weighted_mean,
)
from tfdisent.networks import (
    INITIALIZERS,
    UPSAMPLING,
    num_halvings,
    patch_discriminator,
    residual_decoder,
    residual_encoder,
    unet_decoder,
    unet_encoder,
)
from tfdisent.systems.slices import ModalityConfig, SliceSystem, checked_code, is_code, modality_indices
from tfdisent.training.adversarial import Phase, has_values
from tfdisent.training.system import falling, presets

ADVERSARIAL_LOSSES = {"cross_entropy": binary_cross_entropy, "least_squares": least_squares}


# Preset `quick` of all that the paper compares, which have one backbone.
QUICK_BACKBONE = {
    "image_size": 64,
    "normalize": "volume",
    "filters": 16,
    "discriminator_filters": 16,
    "upsampling": "nearest",
    "initializer": "he_normal",
    "average_momentum": 0.995,
    "learning_rate": 1e-3,
    "batch_size": 16,
}
SMALL_BACKBONE = {"image_size": 128}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneConfig(ModalityConfig):
    """Settings of the backbone, TC-MGAN's, which the framework and all that it is compared with have in common.

    Those of training are described in `TrainingConfig`.

    Attributes:
        image_size: height and width in pixels, one number or two, multiples of 16 from 32.
        modalities: their names, in the order of the channels; two or more.
        normalize: what becomes [-1, 1], see `tfdisent.data.load`: the minimum and maximum of each "slice", as in the
            paper, or of the "volume", or its "percentile"s.
        filters: channels of the encoder's first stage; doubled at each coarser one, up to eight times.
        discriminator_filters: channels of the discriminator's first stage; doubled at each coarser one.
        merge: a convolution merges the features, the skip and the code of each level of the U-Net's decoder.
        level_0: the U-Net sees and makes images at full resolution too, by two convolutions each, see `unet_encoder`.
        upsampling: "transposed" convolutions, or "nearest" upsampling and convolution.
        initializer: of encoder and decoder, "normal" for N(0, 0.02), or "he_normal".
        translation_weight: of the distance between generated and real slices.
        lesion_weight: added to the weight 1 of a pixel in that distance where the batch's mask shows a lesion.
    """

    filters: int = 64
    discriminator_filters: int = 64
    merge: bool = False
    level_0: bool = False
    upsampling: str = "transposed"
    initializer: str = "normal"
    translation_weight: float = 1.0
    lesion_weight: float = 0.0

    CHOICES: ClassVar = ModalityConfig.CHOICES | {"upsampling": UPSAMPLING, "initializer": INITIALIZERS}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if there are too few modalities, or no masks of the lesions that are to count more."""
        super().check_manifest(manifest)
        if self.lesion_weight and not manifest.mask_labels:
            raise ValueError(
                f"Expected data with masks of lesions, received {manifest.dataset}, which has none; train with "
                "lesion_weight=0."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnifiedConfig(BackboneConfig):
    """Settings of the unified framework; the defaults are the paper's, or, where it is silent, its backbone's.

    Those of the backbone are described in `BackboneConfig`. The paper's 100 epochs are some 20,000 steps.

    Attributes:
        skips: a U-Net, whose decoder gets the features of all levels; or else a residual network with one level.
        translation_weight, cycle_weight, adversarial_weight, modality_weight: of Eq. 6; the first is the paper's 1.
        disentanglement_weight: of Eq. 5.
        discriminator_modality_weight: lambda_2 of Eq. 7.
        adversarial_loss: "cross_entropy" or "least_squares".
        disentangle_skips: Eq. 5 on all levels, or else on the bottleneck alone.
        disentangle_decoder: Eq. 5 moves the decoder too.
        self_translations: m_y may be m_x; else only where a subject has no other modality.
        disentanglement_delay: fraction of `steps` in which Eq. 5 does not count; in as many steps more its weight grows
            to what it is.
        classify_generated: Dis_mc learns on generated images too.
        learning_rate, discriminator_learning_rate: of encoder and decoder, and of the discriminator.
        learning_rate_decay: fraction of `steps`, the last ones, in which both fall to 0 on half a cosine.
    """

    skips: bool = True
    cycle_weight: float = 1.0
    adversarial_weight: float = 0.5
    modality_weight: float = 1.0
    disentanglement_weight: float = 1.0
    discriminator_modality_weight: float = 1.0
    adversarial_loss: str = "cross_entropy"
    disentangle_skips: bool = True
    disentangle_decoder: bool = False
    self_translations: bool = True
    disentanglement_delay: float = 0.0
    classify_generated: bool = False
    discriminator_learning_rate: float = 1e-4
    learning_rate_decay: float = 0.0

    PRESETS: ClassVar = presets(
        quick=QUICK_BACKBONE
        | {
            "merge": True,
            "translation_weight": 100.0,
            "cycle_weight": 10.0,
            "adversarial_weight": 0.1,
            "modality_weight": 0.1,
            "disentanglement_weight": 10.0,
            "disentanglement_delay": 0.3,
            "learning_rate": 2e-3,
            "learning_rate_decay": 0.75,
            "clip_norm": 50.0,
            "steps": 4000,
        },
        small=SMALL_BACKBONE,
    )
    FRACTIONS: ClassVar = (*BackboneConfig.FRACTIONS, "disentanglement_delay", "learning_rate_decay")
    CHOICES: ClassVar = BackboneConfig.CHOICES | {"adversarial_loss": ADVERSARIAL_LOSSES}

    def __post_init__(self):
        super().__post_init__()
        if self.level_0 and not self.skips:
            raise ValueError("Expected skips=True with level_0=True: a network without skips has one level alone.")

    @property
    def is_adversarial(self) -> bool:
        """Whether encoder and decoder learn anything from the discriminator."""
        return self.adversarial_weight > 0 or self.modality_weight > 0

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The rates where they fall, and the weight of Eq. 5 where it waits."""
        delayed = self.disentanglement_weight and self.disentanglement_delay
        return ("learning rates",) * bool(self.learning_rate_decay) + ("the weight of Eq. 5",) * bool(delayed)


class TranslationSystem(SliceSystem):
    """A system of slices whose verb is `translate`."""

    needs_source = False  # whether `translate` must be told which modality an image is in
    call_inputs = ("image", "target")

    def call(self, inputs, training=False):
        """Slices in another modality, (B, H, W, 1) in [-1, 1]: `translate` in the form that `predict` takes.

        Args:
            inputs: {"image": (B, H, W, 1) in [-1, 1], "target": the modalities wanted, as indices (B,) or one-hot codes
                (B, M)}; and the "source" likewise, where `call_inputs` names it.
        """
        names = self.call_inputs
        given = sorted(inputs) if isinstance(inputs, Mapping) else [type(inputs).__name__]
        if not set(names) <= set(given):
            raise ValueError(
                f"Expected a dict with {', '.join(map(repr, names))}, since the modality wanted must be told, received "
                f"{', '.join(map(repr, given))}; see `translate`."
            )
        return self.translate(inputs["image"], *(self._modality(inputs[name]) for name in names[1:]))

    def lesion(self, batch: dict):
        """Where the batch's masks show anything but background, (B, H, W, 1) of 0 and 1."""
        height, width, _ = self.config.image_shape
        if "mask" not in batch:
            raise ValueError(
                f"Expected batches with a mask, since lesions have a weight of their own, received "
                f"{', '.join(sorted(batch))}. Take a data set with masks, or set lesion_weight=0, and of TC-MGAN "
                "segmentation_weight=0."
            )
        mask = batch["mask"]
        mask = mask[..., None] if len(mask.shape) == 3 else mask
        if len(mask.shape) != 4 or tuple(mask.shape[1:]) != (height, width, 1):
            raise ValueError(
                f"Expected masks of shape (B, {height}, {width}) or (B, {height}, {width}, 1), received "
                f"{tuple(batch['mask'].shape)}."
            )
        return ops.cast(mask > 0, "float32")

    def translation_error(self, generated, target, batch: dict):
        """abs(generated - target), mean over pixels (B,); those of the batch's "lesion" count 1 + `lesion_weight`."""
        if not self.config.lesion_weight:
            return absolute_error(generated, target)
        weight = 1.0 + self.config.lesion_weight * batch["lesion"]
        return absolute_error(weight * generated, weight * target)

    def _modality(self, values):
        """Indices or codes as `translate` takes them; where a function is traced, indices have no value, so codes."""
        if has_values(values):
            return ops.convert_to_numpy(values)
        return ops.one_hot(values, self.config.num_modalities) if len(values.shape) == 1 else values


class Unified(TranslationSystem):
    """The system: its networks, what they are trained for, and the verbs.

    `fit` takes batches {"image": (B, H, W, M) in [-1, 1], "available": (B, M) of 0 and 1, by default 1}; other keys are
    ignored. What is not available enters no loss, whatever its channel holds; a subject without any modality counts for
    nothing.

    Args:
        config: its settings; the paper's by default.
        seed: of what is drawn in training.
    """

    config_class = UnifiedConfig

    def __init__(self, config: UnifiedConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.encoder = encoder(config)
        self.decoder = decoder(config)
        self.discriminator = discriminator(config)
        self.track_averages([self.encoder, self.decoder], config.average_momentum)
        self.built = True

    # --- training ---

    def phases(self) -> list[Phase]:
        """Encoder and decoder, then the discriminator, if it has a part in their loss."""
        phases = [Phase(self.generator_loss, [self.encoder, self.decoder], "generators")]
        if self.config.is_adversarial:
            phases.append(Phase(self.discriminator_loss, [self.discriminator], "discriminators"))
        return phases

    def term_weights(self) -> dict[str, Any]:
        """Of all terms but d_adversarial; that of Eq. 5 in the present step."""
        c = self.config
        return {
            "translation": c.translation_weight,
            "cycle": c.cycle_weight,
            "disentanglement": self.disentanglement_weight(),
            "g_adversarial": c.adversarial_weight,
            "g_modality": c.modality_weight,
            "d_modality": c.discriminator_modality_weight,
        }

    def learning_rate(self, player: str):
        """The rate of encoder and decoder, or of the discriminator: constant, or falling at the end of training."""
        c = self.config
        rate = c.learning_rate if player == "generators" else c.discriminator_learning_rate
        return falling(rate, c.learning_rate_decay, c.steps)

    def passes(self, batch: dict) -> list[dict]:
        """One pass: each subject's slice in its source and in its target modality.

        Returns:
            [{"source", "target": (B, H, W, 1); "source_code", "target_code": (B, M), one-hot; "weight": (B,)}], and
            "lesion" (B, H, W, 1) where it counts more; the weight is 1, or 0 for a subject without any modality.
        """
        image = batch["image"]
        self.check_batch(image)
        drawn = self.draw(batch)
        chosen = {"weight": 1.0}
        for name in ("source", "target"):
            index = ops.cast(drawn[f"{name}_modality"], "int32")
            chosen[name] = ops.take_along_axis(image, index[:, None, None, None], axis=-1)
            chosen[f"{name}_code"] = ops.one_hot(index, self.config.num_modalities, dtype="float32")
            chosen["weight"] *= ops.sum(drawn["available"] * chosen[f"{name}_code"], axis=1)
        if self.config.lesion_weight:
            chosen["lesion"] = self.lesion(batch)
        return [chosen]

    def draw(self, batch: dict) -> dict:
        """Adds what a step draws at random; a key that the batch already has is kept, so that a test can inject it."""
        seed, num_modalities = self.seed_generator, self.config.num_modalities
        size = ops.shape(batch["image"])[0]
        available = self.available(batch)
        order = ops.argsort(keras.random.uniform((size,), seed=seed))
        dealt = (order + keras.random.randint((), 0, num_modalities, seed=seed)) % num_modalities
        dealt = ops.one_hot(dealt, num_modalities, dtype="float32")
        noise = keras.random.uniform((2, size, num_modalities), seed=seed)
        source = ops.argmax(ops.where(available > 0, noise[0] + dealt, -1.0), axis=1)
        wanted = ops.where(available > 0, noise[1] + 1.0, 0.0)
        if not self.config.self_translations:  # the source, where it is there, comes after all others
            wanted = wanted - ops.one_hot(batch.get("source_modality", source), num_modalities, dtype="float32")
        drawn = {"source_modality": source, "target_modality": ops.argmax(wanted, axis=1)}
        return {**drawn, **batch, "available": available}

    def generator_loss(self, batch: dict, carried: dict):
        """Translates and returns, fools the discriminator, and finds the same anatomy in what it made (Eq. 6, 5)."""
        c = self.config
        x, y, weight = batch["source"], batch["target"], batch["weight"]
        features = self.encoder(x, training=True)
        generated = self.decoder({**features, "code": batch["target_code"]}, training=True)
        terms = {"translation": weighted_mean(self.translation_error(generated, y, batch), weight)}

        if c.cycle_weight:
            features_again = self.encoder(generated, training=True)
            code = batch["source_code"]
            returned = self.decoder({**features_again, "code": code}, training=True)
            terms["cycle"] = weighted_mean(absolute_error(returned, x), weight)
        if c.disentanglement_weight:
            image = generated if c.disentangle_decoder else ops.stop_gradient(generated)
            distance = anatomy_distance(self.encoder(image, training=True), features, c.disentangle_skips)
            terms["disentanglement"] = weighted_mean(distance, weight)
        if c.is_adversarial:
            adversarial_loss = ADVERSARIAL_LOSSES[c.adversarial_loss]
            scores, modality = self.discriminator(generated, training=True)
            terms["g_adversarial"] = weighted_mean(adversarial_loss(scores, 1.0), weight)
            terms["g_modality"] = weighted_mean(softmax_cross_entropy(modality, batch["target_code"]), weight)
        return self.weighted(terms), terms, {"generated": generated}

    def disentanglement_weight(self):
        """The weight of Eq. 5 in this step."""
        c = self.config
        if not c.disentanglement_delay:
            return c.disentanglement_weight
        done = ops.cast(self.optimizers["generators"].iterations, "float32") / c.steps
        return c.disentanglement_weight * ops.clip(done / c.disentanglement_delay - 1.0, 0.0, 1.0)

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real against generated slices, and the modality of real ones (Eq. 7)."""
        c = self.config
        adversarial_loss, code = ADVERSARIAL_LOSSES[c.adversarial_loss], batch["target_code"]
        scores, modality = self.discriminator(batch["target"], training=True)
        scores_generated, modality_generated = self.discriminator(carried["generated"], training=True)
        adversarial = adversarial_loss(scores, 1.0) + adversarial_loss(scores_generated, 0.0)
        classification = softmax_cross_entropy(modality, code)
        if c.classify_generated:
            classification += softmax_cross_entropy(modality_generated, code)
        terms = {
            "d_adversarial": weighted_mean(adversarial, batch["weight"]),
            "d_modality": weighted_mean(classification, batch["weight"]),
        }
        return self.weighted(terms), terms, {}

    # --- verbs ---

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(source, target) that `translate` knows, as indices: all, each modality to itself too."""
        return list(itertools.product(range(self.config.num_modalities), repeat=2))

    def translate(self, image, target):
        """Slices in another modality; which one they are in is not asked for.

        Args:
            image: (B, H, W, 1) in [-1, 1], each in any of the modalities.
            target: the modality wanted, by name or index; one for all or B of them; or one-hot codes (B, M).

        Returns:
            (B, H, W, 1) in [-1, 1].
        """
        return self.decode(self.encode(image), target)

    def encode(self, image) -> dict:
        """Anatomy of slices of any modality.

        Args:
            image: (B, H, W, 1) in [-1, 1].

        Returns:
            {"level_1": (B, H / 2, W / 2, filters), ...}, from the finest to the bottleneck, with "level_0" (B, H, W,
            filters) where the config has it; without skips it is {"level_1": (B, H / 4, W / 4, 4 * filters)}.
        """
        return self.encoder(self.checked_slices(image), training=False)

    def decode(self, anatomy: dict, target):
        """Slices (B, H, W, 1) in [-1, 1] from the anatomy that `encode` gives, and a target as in `translate`."""
        code = self._target_code(target, ops.shape(anatomy["level_1"])[0])
        anatomy = {level: ops.convert_to_tensor(values) for level, values in anatomy.items()}
        return self.decoder({**anatomy, "code": code}, training=False)

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape}); the first is default."""
        image = (None, *self.config.image_shape)

        def translate(image, target):
            return {"image": self.translate(image, target)}

        return {
            "translate": (
                translate,
                {"image": image, "target": (None, self.config.num_modalities)},
            ),
            "encode": (self.encode, {"image": image}),
        }

    def volume_io(self) -> dict:
        """What the default signature takes and gives when it is applied to volumes, as a model's card says it."""
        return {"inputs": ["image"], "outputs": {"image": {"kind": "image", "names": list(self.config.modalities)}}}

    def _target_code(self, target, size):
        """One-hot codes (B, M) of what `translate` takes for a target."""
        names = self.config.modalities
        if is_code(target):  # may be a symbolic tensor, as in an export
            return ops.cast(checked_code(target, names), "float32")
        code = np.eye(len(names), dtype="float32")[modality_indices(target, names, size, "target")]
        return ops.convert_to_tensor(code)


def anatomy_distance(anatomy: dict, other: dict, all_levels: bool = True):
    """How far apart two anatomies are: mean absolute difference of each level, then mean of the levels (Eq. 5).

    Args:
        anatomy, other: as `Unified.encode` gives them.
        all_levels: or the bottleneck alone.

    Returns:
        (B,).
    """
    levels = sorted(anatomy) if all_levels else [max(anatomy)]
    return sum(absolute_error(anatomy[level], other[level]) for level in levels) / len(levels)


# --- networks ---


def encoder(config: UnifiedConfig) -> keras.Model:
    """Enc: slice (B, H, W, 1) of any modality -> {"level_1": features, ...}."""
    initializer = INITIALIZERS[config.initializer]
    if not config.skips:
        return residual_encoder(config.image_shape, filters=config.filters, initializer=initializer)
    return unet_encoder(
        config.image_shape,
        filters=config.filters,
        num_levels=_num_levels(config),
        level_0=config.level_0,
        initializer=initializer,
    )


def decoder(config: UnifiedConfig) -> keras.Model:
    """Dec: {"level_1": features, ..., "code": (B, M)} -> slice (B, H, W, 1) in [-1, 1]."""
    settings = {
        "code_dim": config.num_modalities,
        "filters": config.filters,
        "upsampling": config.upsampling,
        "initializer": INITIALIZERS[config.initializer],
    }
    if not config.skips:
        return residual_decoder(config.image_shape, **settings)
    settings |= {"num_levels": _num_levels(config), "merge": config.merge, "level_0": config.level_0}
    return unet_decoder(config.image_shape, **settings)


def discriminator(config: UnifiedConfig) -> keras.Model:
    """Dis: slice (B, H, W, 1) -> scores (B, h, w, 1), and logits of the modality (B, M)."""
    height, width, _ = config.image_shape
    return patch_discriminator(
        config.image_shape,
        filters=config.discriminator_filters,
        num_levels=num_halvings(height, width, at_most=5, smallest=4),
        num_classes=config.num_modalities,
    )


def _num_levels(config):
    height, width, _ = config.image_shape
    return num_halvings(height, width, at_most=7)
