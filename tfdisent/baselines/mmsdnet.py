"""What mmsdnet is compared with: U-Nets of the target, of all modalities, of the sources, and one of two streams.

Paper: Chartsias et al., IEEE TMI 2021, Sec. IV-C, https://arxiv.org/abs/1911.04417; the two streams are Valindria et
al., Multi-modal learning from unpaired images, WACV 2018, as its code has them. All see one slice at a time, have the
width, the loss of labels, the averaged weights, the batches and the steps of the system, and learn from slices with
labels alone. Copying the labels of the source, which takes no network, is measured with every model, see
`tfdisent.evaluation.mmsdnet`. `METHODS` holds them by name.

| model | trained on | predicts the target with |
|---|---|---|
| unet_single | slices of the target | the U-Net |
| unet_both | slices of all modalities | the U-Net, which is not told the modality |
| unet_source | slices of the sources | the U-Net |
| dual_stream | slices of all modalities | the target's stream, or without any label of it the first source's |

| term | what | weight |
|---|---|---|
| segmentation | Dice loss + 0.01 * cross entropy, mean over labelled slices and sum over modalities | 1 |

Two streams share the innermost stage of the encoders and the first one of the decoders, and have all else of their own,
with batch statistics of their own. The paper's numbers without target labels are those of UNet-both, digit for digit;
which stream it took, it does not say.
"""

import dataclasses
import functools
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.baselines.method import Method
from tfdisent.losses import weighted_mean
from tfdisent.networks import modality_inputs
from tfdisent.systems.mmsdnet import (
    LEVELS,
    QUICK,
    SMALL,
    AnnotatedConfig,
    MMSDNet,
    anatomy_encoder,
    annotations,
    convolutions,
    label_maps_of,
    level_inputs,
    raised,
    segmentation_error,
)
from tfdisent.systems.slices import SliceSystem
from tfdisent.training.adversarial import Phase
from tfdisent.training.averaging import StochasticWeightAveraging
from tfdisent.training.system import presets

TRAINED_ON = ("target", "all", "sources")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmenterConfig(AnnotatedConfig):
    """Settings of what segments slices of one modality at a time; `AnnotatedConfig` describes the others."""

    PRESETS: ClassVar = presets(quick=QUICK, small=SMALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(SegmenterConfig):
    """Settings of a U-Net.

    Attributes:
        trained_on: slices of the "target", of the "sources" or of "all" modalities.
    """

    trained_on: str = "all"

    CHOICES: ClassVar = SegmenterConfig.CHOICES | {"trained_on": TRAINED_ON}

    def __post_init__(self):
        super().__post_init__()
        if self.trained_on == "target" and not self.target_annotations:
            raise ValueError(
                "Expected target_annotations above 0 for a U-Net of the target, which learns from nothing else; "
                "received 0. Train unet_both or unet_source."
            )


class Segmenter(SliceSystem):
    """Finds the labels of slices, one modality at a time.

    `fit` takes what `MMSDNet.fit` takes.
    """

    config_class: type[SegmenterConfig]
    optional_inputs = ("labelled",)
    kind = "target"  # what its prediction of the target is called

    @property
    def networks(self) -> list[keras.Model]:
        """All that learns."""
        raise NotImplementedError

    @property
    def trained(self) -> tuple[int, ...]:
        """Modalities that are trained on."""
        return tuple(range(self.config.num_modalities))

    def probabilities(self, image, modality: int, labelled, training: bool = False):
        """Of the labels, (B, H, W, L), of slices (B, H, W, 1) in one modality; `labelled` (B,) count in statistics."""
        raise NotImplementedError

    def track(self) -> None:
        """Averages the weights as the system does."""
        c = self.config
        policy = functools.partial(StochasticWeightAveraging, start=c.averaging_start, interval=c.averaging_interval)
        self.track_averages(self.networks, policy)
        self.built = True

    # --- training ---

    def batch_shapes(self) -> dict[str, tuple]:
        """Slices, with a channel for each modality, and which of them are labelled."""
        c = self.config
        return {"image": (*c.image_shape[:2], c.num_modalities), "labelled": (c.num_modalities,)}

    def stream(self, load, start_step: int):
        """The training split; for a model of the target alone those slices that have labels of it."""
        if self.trained == (self.config.num_modalities - 1,):
            parts = load("train", columns=("labelled",))
            labelled = np.concatenate([np.asarray(batch["labelled"])[:, -1] for batch in parts])
            return load("train", start_step=start_step, rows=np.flatnonzero(labelled))
        return load("train", start_step=start_step)

    def phases(self) -> list[Phase]:
        """One step of all networks together."""
        return [Phase(self.loss_terms, self.networks, "networks")]

    def passes(self, batch: dict) -> list[dict]:
        """One pass: the slices, and labels of the labelled ones alone, as `mmsdnet.annotations` gives them."""
        self.check_batch(batch["image"])
        labels, labelled = annotations(batch, self.config)
        return [{"image": batch["image"], "labels": labels, "labelled": labelled}]

    def loss_terms(self, batch: dict, carried: dict):
        """Segments the slices of the modalities that are trained on."""
        images, total = ops.split(batch["image"], self.config.num_modalities, axis=-1), 0.0
        for i, mask in zip(self.trained, self.trained_masks(images, batch["labelled"]), strict=True):
            errors = segmentation_error(mask, batch["labels"][i], self.config)
            total += weighted_mean(errors, batch["labelled"][i])
        return total, {"segmentation": total}, {}

    def trained_masks(self, images: list, labelled) -> list:
        """Probabilities of the labels of each modality that is trained on."""
        return [self.probabilities(images[i], i, labelled[i], training=True) for i in self.trained]

    # --- verbs ---

    def call(self, image, training=False):
        """Probabilities (B, H, W, L) of the labels of the target in slices (B, H, W, M): what `predict` gives."""
        image = self.checked("image", image)
        own = image[..., -1:]
        return self.probabilities(own, self.config.num_modalities - 1, ops.ones(ops.shape(own)[:1]))

    def predictions(self, image) -> dict:
        """What the model says of the labels of the target, {kind: probabilities (B, H, W, L)}, as `MMSDNet`."""
        return {self.kind: self(image)}

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape})."""

        def segment(image):
            return {"labels": self(image)}

        return {"segment": (segment, {"image": (None, *self.batch_shapes()["image"])})}

    def volume_io(self) -> dict:
        """What the signature takes and gives when it is applied to volumes, as a model's card says it."""
        return label_maps_of(self.config)


class UNet(Segmenter):
    """A U-Net of the width of the system's anatomy encoders, with one batch norm for all that it sees."""

    config_class = UNetConfig

    def __init__(self, config: UNetConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        self.unet = unet(self.config)
        self.track()

    @property
    def kind(self) -> str:
        """Without any slice of the target it is called otherwise."""
        return "source_only" if self.config.trained_on == "sources" else "target"

    @property
    def networks(self) -> list[keras.Model]:
        """The U-Net."""
        return [self.unet]

    @property
    def trained(self) -> tuple[int, ...]:
        """By the config."""
        *sources, target = super().trained
        return {"target": (target,), "sources": tuple(sources), "all": (*sources, target)}[self.config.trained_on]

    def probabilities(self, image, modality: int, labelled, training: bool = False):
        """Whatever the modality is, by the same network."""
        told = {"modality": ops.ones((ops.shape(image)[0], 1)), "weight": labelled}
        return self.unet({"image": image, **told}, training=training)

    def trained_masks(self, images: list, labelled) -> list:
        """All slices are one batch, so that modalities are mixed in its statistics too."""
        joined = ops.concatenate([images[i] for i in self.trained])
        weight = ops.concatenate([labelled[i] for i in self.trained])
        return ops.split(self.probabilities(joined, 0, weight, training=True), len(self.trained))


class DualStream(Segmenter):
    """An encoder and a decoder for each modality, which share the innermost stage and the one after it."""

    config_class = SegmenterConfig

    def __init__(self, config: SegmenterConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        c = self.config
        every = range(c.num_modalities)
        self.encoders = [anatomy_encoder(c, f"encoder_{i}") for i in every]
        self.shared = shared_stages(c)
        self.decoders = [stream_decoder(c, f"decoder_{i}") for i in every]
        self.track()

    @property
    def networks(self) -> list[keras.Model]:
        """All streams, and what they share."""
        return [*self.encoders, self.shared, *self.decoders]

    def probabilities(self, image, modality: int, labelled, training: bool = False):
        """By the modality's stream; a target without any labels is seen by that of the first source."""
        if modality == self.config.num_modalities - 1 and not self.config.target_annotations and not training:
            modality = 0
        told = {"modality": self.told(modality, image), "weight": labelled}
        levels = self.encoders[modality]({"image": image, **told}, training=training)
        inner = self.shared({**levels, **told}, training=training)
        return self.decoders[modality]({**levels, "inner": inner, **told}, training=training)


# --- networks ---


def head(h, config: SegmenterConfig):
    """Features -> probabilities of the labels."""
    return keras.layers.Softmax(dtype="float32")(keras.layers.Conv2D(config.num_labels, 1)(h))


def unet(config: UNetConfig) -> keras.Model:
    """{"image": (B, H, W, 1), "modality": (B, 1) of 1, "weight": (B,)} -> probabilities (B, H, W, L)."""
    told, image = modality_inputs(1), keras.Input(config.image_shape, name="image")
    h, skips = image, []
    for level in range(LEVELS):
        skips.append(convolutions(h, config.filters * 2**level, told))
        h = keras.layers.MaxPooling2D()(skips[-1])
    h = convolutions(h, config.filters * 2**LEVELS, told)
    for level in range(LEVELS - 1, -1, -1):
        h = raised(h, skips[level], config.filters * 2**level, told)
    return keras.Model({"image": image, **told}, head(h, config), name="unet")


def shared_stages(config: SegmenterConfig) -> keras.Model:
    """Levels of `anatomy_encoder`, "modality", "weight" -> features of the decoders' first stage, at level 3."""
    told, levels = modality_inputs(config.num_modalities), level_inputs(config)
    h = convolutions(levels[f"level_{LEVELS}"], config.filters * 2**LEVELS, told)
    h = raised(h, levels[f"level_{LEVELS - 1}"], config.filters * 2 ** (LEVELS - 1), told)
    return keras.Model({**levels, **told}, h, name="shared")


def stream_decoder(config: SegmenterConfig, name: str) -> keras.Model:
    """Levels of `anatomy_encoder`, "inner" of `shared_stages`, "modality", "weight" -> probabilities (B, H, W, L)."""
    told, levels = modality_inputs(config.num_modalities), level_inputs(config)
    inner = h = keras.Input(levels[f"level_{LEVELS - 1}"].shape[1:], name="inner")
    for level in range(LEVELS - 2, -1, -1):
        h = raised(h, levels[f"level_{level}"], config.filters * 2**level, told)
    return keras.Model({**levels, "inner": inner, **told}, head(h, config), name=name)


# --- by name ---

METHODS = (
    Method("mmsdnet", "MMSDNet", MMSDNet, {}),
    Method("mmsdnet_spade", "MMSDNet, SPADE", MMSDNet, {"decoder": "spade"}),
    Method("mmsdnet_candidates", "MMSDNet, 3 candidates", MMSDNet, {"candidates": 3}),
    Method("unet_single", "UNet-single", UNet, {"trained_on": "target"}),
    Method("unet_both", "UNet-both", UNet, {"trained_on": "all"}),
    Method("unet_source", "UNet of the source", UNet, {"trained_on": "sources"}),
    Method("dual_stream", "DualStream", DualStream, {}),
)
# The same with labels of some of the target's subjects alone, as the rows of the paper's tables: "mmsdnet_12", ...
METHODS += tuple(
    Method(f"{known.name}_{name}", f"{known.title}, {100 * share:g} %", known.model, changes)
    for name, share in {"50": 0.5, "25": 0.25, "12": 0.125, "0": 0.0}.items()
    for known in METHODS
    for changes in [known.changes | {"target_annotations": share}]
    if known.name != "unet_source" and (share or known.name != "unet_single")
)
