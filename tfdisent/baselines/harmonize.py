"""What the harmonisation is compared with: CycleGAN, with a segmentation loss, and with semantic dropout as well.

Paper: Ren et al., IEEE TMI 2021, Sec. III-B, https://arxiv.org/abs/2102.06315. All have generators that no segmentation
renormalises; discriminators, cycle and rates are the system's. `METHODS` holds them by name, all at the same size,
batches and steps:

| method | generator | segmentation terms | semantic dropout |
|---|---|---|---|
| cyclegan | the residual U-Net of the segmentation nets, ending in tanh, as in the public code | none | no |
| cyclegan_resnet | CycleGAN's own residual network, which the paper names | none | no |
| s_cyclegan (Zhang et al., CVPR 2018) | the residual U-Net | the system's | no |
| semgan (Cherian and Sullivan, WACV 2019) | the residual U-Net | the system's | yes |

Semantic dropout, in a share of the steps: of the classes that both domains' label maps show, as many as there are,
drawn with replacement, are kept; all other pixels of images, label maps and of what is made of them are set to 0, the
middle of the intensities. The public code drops twice, once when it draws a batch and once more; here once. A slice
without a label map is kept whole. CycleGAN's own network halves by kernels of 4 x 4, as in StarGAN, not of 3 x 3.
"""

import dataclasses
from typing import ClassVar

import keras
from keras import ops

from tfdisent.baselines.method import Method
from tfdisent.networks import residual_decoder, residual_encoder
from tfdisent.systems.harmonize import (
    DOMAINS,
    Harmonize,
    HarmonizeConfig,
    beside_image,
    convolution,
    full_resolution,
    residual_unet,
)

BACKBONES = ("unet", "residual")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleGANConfig(HarmonizeConfig):
    """Settings of CycleGAN and its kin; `HarmonizeConfig` describes the others.

    Attributes:
        backbone: the generators are residual "unet"s, whose first stage has `segmentor_filters` channels, or CycleGAN's
            "residual" networks, whose first stage has `filters`, and which `level_0` leaves as they are.
        num_blocks: residual blocks of the latter.
        semantic_dropout: share of the steps in which classes are dropped.
    """

    backbone: str = "unet"
    num_blocks: int = 9
    semantic_dropout: float = 0.0

    FRACTIONS: ClassVar = (*HarmonizeConfig.FRACTIONS, "semantic_dropout")
    CHOICES: ClassVar = HarmonizeConfig.CHOICES | {"backbone": BACKBONES}

    def __post_init__(self):
        super().__post_init__()
        if self.semantic_dropout and not self.is_segmented:
            raise ValueError("Expected segmentation terms with semantic_dropout: give segmentation_weight above 0.")

    @property
    def is_segmented(self) -> bool:
        """Whether there are segmentation nets, which only their own terms need."""
        return self.segmentation_weight > 0 or self.generated_segmentation_weight > 0


class CycleGAN(Harmonize):
    """Translation between two domains by cycle consistency, with or without segmentation nets beside it."""

    config_class = CycleGANConfig

    def make_generators(self) -> None:
        """Both generators, which no extractor renormalises."""
        self.extractors = {}
        self.generators = {name: generator(self.config, f"generator_to_{name}") for name in DOMAINS}

    def passes(self, batch: dict) -> list[dict]:
        """One pass, in which classes may be dropped."""
        return [self.draw(one) if self.config.semantic_dropout else one for one in super().passes(batch)]

    def draw(self, batch: dict) -> dict:
        """Adds "source_kept" and "target_kept", (B, H, W, 1) of 0 and 1, and drops the pixels that are not kept."""
        number = self.config.num_classes
        code = {name: ops.one_hot(ops.cast(batch[f"{name}_mask"], "int32"), number) for name in DOMAINS}
        labelled = {name: self.truth(batch, name)[1] for name in DOMAINS}
        seen = [ops.max(code[name] * labelled[name][:, None, None, None], axis=(0, 1, 2)) for name in DOMAINS]
        common = seen[0] * seen[1]  # (K,)
        noise = keras.random.uniform((number, number), seed=self.seed_generator)
        choice = ops.one_hot(ops.argmax(ops.where(common > 0, noise, -1.0), axis=1), number)  # (draw, class)
        counts = ops.cast(ops.arange(number), "float32") < ops.sum(common)
        classes = ops.max(choice * ops.cast(counts, "float32")[:, None], axis=0)  # (K,)
        is_dropping = keras.random.uniform((), seed=self.seed_generator) < self.config.semantic_dropout
        drawn = dict(batch)
        for name in DOMAINS:
            kept = ops.sum(code[name] * classes, axis=-1, keepdims=True)
            kept = ops.where(ops.logical_and(is_dropping, labelled[name][:, None, None, None] > 0), kept, 1.0)
            drawn[f"{name}_kept"] = batch.get(f"{name}_kept", kept)
            for slices in (name, f"{name}_shaded"):
                if slices in batch:
                    drawn[slices] = batch[slices] * drawn[f"{name}_kept"]
        return drawn

    def truth(self, batch: dict, domain: str):
        """The system's, without the pixels that were dropped."""
        truth, labelled = super().truth(batch, domain)
        return self.shown(truth, batch, domain), labelled

    def shown(self, image, batch: dict, domain: str):
        """Of what is made of slices of a domain, what was kept of these."""
        kept = batch.get(f"{domain}_kept")
        return image if kept is None else image * kept

    def logits(self, image, domain: str, training: bool = False):
        """Of the classes (B, H, W, K), or None without segmentation nets."""
        return self.segmentors[domain](image, training=training) if self.segmentors else None

    def translated(self, image, logits, to: str, training: bool = False):
        """Slices (B, H, W, 1) in the domain `to`; their logits are not used."""
        return self.generators[to](image, training=training)

    # --- verbs ---

    def harmonize(self, image, to: str = "target") -> dict:
        """As the system's; the "labels" are there with segmentation nets alone."""
        if self.segmentors:
            return super().harmonize(image, to)
        return {"image": self.translated(self.checked("source", image), None, self.domain(to))}

    def signatures(self) -> dict:
        """As the system's, without segmentation where there are no nets for it."""
        found = super().signatures()
        return found if self.segmentors else {name: found[name] for name in ("harmonize", "back")}

    def volume_io(self) -> dict:
        """As the system's, without labels where there are none."""
        found = super().volume_io()
        if not self.segmentors:
            del found["outputs"]["labels"]
        return found


def generator(config: CycleGANConfig, name: str = "generator") -> keras.Model:
    """Slices (B, H, W, 1) -> slices (B, H, W, 1) in [-1, 1]."""
    if config.backbone == "unet":
        unet = residual_unet(config, config.segmentor_filters if config.level_0 else 1, name)
        h = unet.output
        if config.level_0:
            h = keras.layers.Concatenate()([h, full_resolution(unet.input, config.segmentor_filters)])
            for depth in (config.segmentor_filters, 1):
                h = convolution(keras.layers.LeakyReLU(0.2)(h), depth)
            h = beside_image(h, unet.input)
        return keras.Model(unet.input, keras.layers.Activation("tanh", dtype="float32")(h), name=name)
    encoder = residual_encoder(config.image_shape, filters=config.filters, num_blocks=config.num_blocks)
    # All blocks lie between the stages that halve and those that double.
    decoder = residual_decoder(config.image_shape, filters=config.filters, num_blocks=0)
    return keras.Model(encoder.input, decoder(encoder.output), name=name)


# --- by name ---

NO_SEGMENTATION = {"segmentation_weight": 0.0, "generated_segmentation_weight": 0.0}

METHODS = (
    Method("harmonize", "Segmentation-renormalised", Harmonize, {}),
    Method("cyclegan", "CycleGAN", CycleGAN, NO_SEGMENTATION),
    Method("cyclegan_resnet", "CycleGAN, its own network", CycleGAN, {**NO_SEGMENTATION, "backbone": "residual"}),
    Method("s_cyclegan", "S-CycleGAN", CycleGAN, {}),
    Method("semgan", "SemGAN", CycleGAN, {"semantic_dropout": 0.3}),
)
