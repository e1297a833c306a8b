"""Slices of two or more misaligned modalities: disentangled, aligned, fused and segmented, with few labels of one.

Paper: Chartsias, Papanastasiou, Wang, Semple, Newby, Dharmakumar, Tsaftaris: Disentangle, align and fuse for multimodal
and semi-supervised image segmentation, IEEE TMI 2021, https://arxiv.org/abs/1911.04417; public code:
https://github.com/agis85/multimodal_segmentation. In: a slice in each modality, which need not be aligned, and labels
of some of them. Out: of each slice an anatomy, in which each pixel is in one of C channels, and a code of how its
modality looks; the anatomy of one modality deformed to that of another, and both fused; and the labels of any of these.

Symbols: s_i `anatomy` of the slice x_i in modality i, z_i its `code`; s_ji = T(s_j, s_i) the anatomy of j deformed to
that of i by the spatial transformer T; h `segmentor`, D `decoder`; D_M judges masks, D_i images in modality i. y is any
of D(s_i, z_i) and D(s_ji, z_i), the two kinds of images in modality i, and m any of their masks h(s_i) and h(s_ji).

Loss terms (the weight is a field of the config); each is a sum over the modalities and, where there are, over both
kinds, of means over examples:

| term | what | weight | source |
|---|---|---|---|
| segmentation | Dice loss + 0.01 * cross entropy of m, where slice i has labels | 10 | Sec. III-E |
| mask_adversarial | (D_M(m) - 1)^2 | 1 | Sec. III-E |
| reconstruction | abs(y - x_i) | 1 | Sec. III-E |
| image_adversarial | (D_i(y) - 1)^2 | 1 | Sec. III-E |
| kl | of z_i from N(0, I), summed over the code | 0.1 | Sec. III-E |
| code_regression | abs(mean code of D(s_i, z) - z), z of N(0, I) | 1 | Sec. III-E |
| smoothness | squared differences of T's field between neighbouring pixels | 0 | ours |
| alignment | minus the mutual information of x_i and of x_j as T's field, s_j to s_i, moves it | 0 | ours |
| mask_discriminator_i | (D_M(real) - 1)^2 + D_M(m)^2, of the modality's masks m | 1 | Sec. III-E |
| image_discriminator_i | (D_i(x_i) - 1)^2 + D_i(y)^2 | 1 | Sec. III-E |

All other networks take one step together; then D_M takes one for each modality, and each D_i its own. What a
discriminator sees as generated is drawn from both kinds, as many as there are examples in the batch; its real masks are
drawn from all labelled ones of the batch, of any modality.

The labels of a slice that is not labelled have no part in any loss, discriminator or statistic, whatever they hold.

Where paper and code differ, or one is silent:

* Anatomy is one-hot by argmax, as the paper says. The code rounds the softmax (`anatomy="rounding"`), which leaves a
  pixel without any channel where no probability is above one half.
* Cross entropy is unweighted, as in the paper; its factor .01 is the code's. The code weights classes.
* D_M and D_i have spectral normalisation, as in the paper, and not the code's penalty.
* The code regression uses s_i again, as the code; the paper encodes the image's anatomy anew.
* One step on labelled and unlabelled slices together; the code has a trainer for each, with moments of its own.
* Batch statistics of the anatomy encoders are those of each modality. In the code those of the shared layers are a
  mean of all, which no layer has seen in training.

The presets quick and small have a cross entropy of weight 1: at .01 the Dice loss loses the small organs, anatomies
stay poor, and the transformer, which sees nothing else, saturates and learns one field for all slices.

Deviations: `alignment_weight` and `smoothness_weight`, 0 by default as in the paper. There nothing but segmentation and
reconstruction drives the transformer, and without any label of the target its field is wild where no organ is, and
worse than none. What registers images of two modalities is their mutual information, which needs no label; it teaches
the transformer, and the anatomy encoders what of the slices tells where they are. And `offset_scale`, which slows the
transformer down: at the rate of 1e-3 of quick a step of Adam would move the field by pixels. Quick and small have all
three, but for `offset_scale` in small.

The target is the last modality; `target_annotations` is the share of the training subjects whose labels of it are read.
Nothing is selected on any label: after all steps the averaged weights are taken. The public code chooses the epoch on
labels of the target, where training has none too.

Non-expert pairs (Sec. III-F): with `candidates` k above 1 a batch has k slices x_j^l of the source for each x_i of the
target, and a balancer gives each pair a weight w_l, from the Dice overlap of s_i and of s_j^l deformed to it; they sum
to 1. What segmentation and reconstruction get from deformed anatomies is the sum over pairs, weighted, in both
directions; all else is of the first candidate. At inference the probabilities of the labels are weighted in the same
way. The code's balancer sees all overlaps at once and can learn which place in the list is the right one; ours sees
each alone, so that permuted candidates permute the weights.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import keras
from keras import ops

from tfdisent.layers import (
    SpectralNormalization,
    StraightThroughOneHot,
    StraightThroughRounding,
    ThinPlateTransformer,
)
from tfdisent.layers.transformer import warp
from tfdisent.losses import (
    absolute_error,
    dice_loss,
    field_roughness,
    gaussian_kl,
    least_squares,
    mutual_information,
    weighted_mean,
)
from tfdisent.networks import modality_inputs, normalized_by_modality, spade_decoder
from tfdisent.systems.slices import ModalityConfig, SliceSystem, modality_indices
from tfdisent.training.adversarial import Phase
from tfdisent.training.averaging import StochasticWeightAveraging
from tfdisent.training.system import presets

LEVELS = 4  # halvings of the anatomy encoders
SLOPE = 0.3  # of the leaky ReLU
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
QUICK = {
    "image_size": 64,
    "filters": 8,
    "learning_rate": 1e-3,
    "cross_entropy_weight": 1.0,
    "steps": 1500,
    "averaging_start": 1000,
    "averaging_interval": 10,
}
SMALL = {"image_size": 128, "filters": 16, "cross_entropy_weight": 1.0, "steps": 5000, "averaging_start": 3000}
ALIGNED = {"alignment_weight": 20.0, "smoothness_weight": 4.0}
ANATOMIES = {"argmax": StraightThroughOneHot, "rounding": StraightThroughRounding}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnotatedConfig(ModalityConfig):
    """Settings of whatever segments slices of a target, the last modality, with labels of some of its subjects.

    All other modalities are sources, always labelled. Settings of training are described in `TrainingConfig`.

    Attributes:
        image_size: height and width in pixels, one number or two, multiples of 16 from 48.
        modalities: their names, in the order of the channels; two or more.
        mask_labels: names of the labels, the background first.
        target_annotations: share of the training subjects whose labels of the target are read, from 0 to 1.
        filters: channels of the first stage of a U-Net.
        cross_entropy_weight: of the cross entropy beside the Dice loss.
        averaging_start, averaging_interval: steps before weights are averaged, and from one value to the next.
    """

    image_size: int | tuple[int, int] = 192
    modalities: tuple[str, ...] = ("T1", "T2")
    mask_labels: tuple[str, ...] = ("background", "liver", "right_kidney", "left_kidney", "spleen")
    target_annotations: float = 1.0
    filters: int = 64
    cross_entropy_weight: float = 0.01
    augmentation: str = ""
    learning_rate: float = 1e-4
    beta_1: float = 0.9
    batch_size: int = 6
    steps: int = 50_000
    averaging_start: int = 4_000
    averaging_interval: int = 100

    candidates: ClassVar[int] = 1
    FROM_ZERO: ClassVar = ("averaging_start",)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "mask_labels", tuple(self.mask_labels))
        if min(self.image_shape[:2]) < 48:
            raise ValueError(f"Expected image_size of 48 or more, which D_M and D_i need; received {self.image_size}.")
        if len(set(self.mask_labels)) < max(2, len(self.mask_labels)):
            raise ValueError(f"Expected mask_labels to be two or more different names, received {self.mask_labels}.")
        if not 0 <= self.target_annotations <= 1:
            raise ValueError(f"Expected target_annotations from 0 to 1, received {self.target_annotations}.")

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Names of the modalities and of the labels."""
        return super().data_fields(manifest) | {"mask_labels": tuple(manifest.mask_labels)}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError unless the data have two modalities or more, with a slice and a label map of each."""
        super().check_manifest(manifest)
        names, channels, masks = manifest.modalities, manifest.image_shape[-1], manifest.mask_channels
        if not manifest.mask_labels or not len(names) - 1 + self.candidates == channels == masks:
            several = f" ({self.candidates} of {names[0]})" if self.candidates > 1 else ""
            raise ValueError(
                f"Expected data with a slice and a label map of each of {', '.join(names)}{several}, received "
                f"{manifest.dataset} with {channels} slices and {masks if manifest.mask_labels else 'no'} label maps. "
                "Prepare data of misaligned modalities, as abdomen_phantom, cardiac_phantom or chaos, with "
                f"--data=candidates={self.candidates}, and chaos with --data=phase=in or out."
            )
        if self.candidates > 1 and manifest.options.get("reference") != names[-1]:
            raise ValueError(
                f"Expected data with candidates for each slice of {names[-1]}, received {manifest.dataset} with "
                f"candidates of {names[-1]}. Prepare them with --data=reference={names[-1]}, which phantoms know."
            )

    @property
    def num_channels(self) -> int:
        """Slices of a batch: the candidates of the first modality, and one of each other one."""
        return self.num_modalities - 1 + self.candidates

    @property
    def channel_modalities(self) -> tuple[int, ...]:
        """The modality of each channel, by its index."""
        return (0,) * (self.candidates - 1) + tuple(range(self.num_modalities))

    @property
    def annotated(self) -> dict[int, float]:
        """Of the target the share that the config says."""
        return {self.num_channels - 1: self.target_annotations}

    @property
    def num_labels(self) -> int:
        """Number of labels, with the background."""
        return len(self.mask_labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MMSDNetConfig(AnnotatedConfig):
    """Settings of the mmsdnet system; the defaults are the paper's, or, where it is silent, its code's.

    `AnnotatedConfig` describes the others.

    Attributes:
        anatomy_channels: of s.
        anatomy: what makes it discrete, "argmax" or "rounding".
        code_dim: length of z.
        filters: channels of the first stage of the anatomy encoders.
        modality_filters: of the first stage of the modality encoder.
        segmentor_filters: of the segmentor.
        candidates: slices of the source for each of the target, of which some may not belong to it; where there are
            several, expects two modalities.
        decoder: "film" or "spade".
        spade_filters: channels of the SPADE decoder's first block and within its normalisations.
        transformer_filters, transformer_units: of the network that chooses the field.
        control_points: of the field, along each side.
        offset_scale: what the offsets of the control points are multiplied by: under Adam a rate of the transformer's
            own, as its weights, whatever they act on, move by the learning rate in a step.
        discriminator_filters: of the first stage of D_M and D_i.
        segmentation_weight, mask_adversarial_weight, reconstruction_weight, image_adversarial_weight, kl_weight,
            code_regression_weight, smoothness_weight, alignment_weight: of the terms.
    """

    anatomy_channels: int = 8
    anatomy: str = "argmax"
    code_dim: int = 8
    modality_filters: int = 16
    segmentor_filters: int = 64
    candidates: int = 1
    decoder: str = "film"
    spade_filters: int = 128
    transformer_filters: int = 20
    transformer_units: int = 100
    control_points: int = 5
    offset_scale: float = 1.0
    discriminator_filters: int = 64
    segmentation_weight: float = 10.0
    mask_adversarial_weight: float = 1.0
    reconstruction_weight: float = 1.0
    image_adversarial_weight: float = 1.0
    kl_weight: float = 0.1
    code_regression_weight: float = 1.0
    smoothness_weight: float = 0.0
    alignment_weight: float = 0.0

    CHOICES: ClassVar = ModalityConfig.CHOICES | {"anatomy": tuple(ANATOMIES), "decoder": ("film", "spade")}
    PRESETS: ClassVar = presets(
        quick=QUICK | ALIGNED | {"segmentor_filters": 16, "discriminator_filters": 8, "offset_scale": 0.1},
        small=SMALL | ALIGNED,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.control_points < 2:
            raise ValueError(f"Expected control_points >= 2, received {self.control_points}.")
        if self.candidates > 1 and self.num_modalities != 2:
            raise ValueError(f"Expected two modalities where there are candidates, received {self.modalities}.")
        if not self.offset_scale > 0:
            raise ValueError(f"Expected offset_scale > 0, received {self.offset_scale}.")


class MMSDNet(SliceSystem):
    """The system: its networks, what they are trained for, and the verbs.

    `fit` takes batches {"image": (B, H, W, C) in [-1, 1], "mask": (B, H, W, C) indices of labels, "labelled": (B, C)
    of 0 and 1, which slices have labels, by default all}; other keys are ignored. C is M, a channel for each modality,
    or with candidates M - 1 + k: those of the first modality come first.

    Args:
        config: its settings; the paper's by default.
        seed: of what is drawn in training.
    """

    config_class = MMSDNetConfig
    optional_inputs = ("labelled",)

    def __init__(self, config: MMSDNetConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        c = self.config
        every = range(c.num_modalities)
        self.anatomy_encoders = [anatomy_encoder(c, f"anatomy_encoder_{i}") for i in every]
        self.anatomy_decoder = anatomy_decoder(c)
        self.modality_encoder = modality_encoder(c)
        self.transformer = transformer(c)
        self.segmentor = segmentor(c)
        self.decoder = decoder(c)
        self.balancer = balancer(c) if c.candidates > 1 else None
        self.mask_discriminator = discriminator(c, c.num_labels - 1, "mask_discriminator")
        self.image_discriminators = [discriminator(c, 1, f"image_discriminator_{i}") for i in every]
        policy = functools.partial(StochasticWeightAveraging, start=c.averaging_start, interval=c.averaging_interval)
        self.track_averages(self.networks, policy)
        self.built = True

    @property
    def networks(self) -> list[keras.Model]:
        """All but the discriminators."""
        shared = [self.anatomy_decoder, self.modality_encoder, self.transformer, self.segmentor, self.decoder]
        return [*self.anatomy_encoders, *shared, *([self.balancer] if self.balancer else [])]

    # --- training ---

    def batch_shapes(self) -> dict[str, tuple]:
        """Slices, with a channel for each modality and each further candidate, and which of them are labelled."""
        c = self.config
        return {"image": (*c.image_shape[:2], c.num_channels), "labelled": (c.num_channels,)}

    def phases(self) -> list[Phase]:
        """All networks but the discriminators together; D_M on each modality's masks; each D_i."""
        every = range(self.config.num_modalities)
        masks = [
            Phase(functools.partial(self.mask_terms, i), [self.mask_discriminator], "mask_discriminator") for i in every
        ]
        images = [
            Phase(functools.partial(self.image_terms, i), [d], f"image_discriminator_{i}")
            for i, d in enumerate(self.image_discriminators)
        ]
        return [Phase(self.network_terms, self.networks, "networks"), *masks, *images]

    def term_weights(self) -> dict[str, float]:
        """Of the networks' terms; those of the discriminators weigh 1. Alignment that weighs 0 costs no time."""
        found = {name: getattr(self.config, f"{name}_weight") for name in TERMS}
        return {name: weight for name, weight in found.items() if weight or name != "alignment"}

    def passes(self, batch: dict) -> list[dict]:
        """One pass: the slices, labels of the labelled ones alone, and what is drawn.

        Returns:
            [{"image": (B, H, W, C); "labels": (C, B, H, W, L) one-hot, 0 where there are none; "labelled": (C, B);
            "noise": (C, B, code_dim); "prior": (M, B, code_dim); "real": (M, B), which of the C * B masks each D_M step
            takes as real; "generated": (M, B), which of the M * B images in a modality, and of their masks}]
        """
        return [self.draw(batch)]

    def draw(self, batch: dict) -> dict:
        """What a step trains on; of the draws, a key that the batch has is kept, so that a test can inject it."""
        c = self.config
        self.check_batch(batch["image"])
        size, many = ops.shape(batch["image"])[0], c.num_modalities
        labels, labelled = annotations(batch, c)
        seed = self.seed_generator
        order = keras.random.uniform((many, c.num_channels * size), seed=seed)
        real = ops.argsort(ops.where(ops.reshape(labelled, (1, -1)) > 0, order, 2.0), axis=1)[:, :size]
        generated = ops.argsort(keras.random.uniform((many, many * size), seed=seed), axis=1)[:, :size]
        drawn = {
            "noise": keras.random.normal((c.num_channels, size, c.code_dim), seed=seed),
            "prior": keras.random.normal((many, size, c.code_dim), seed=seed),
            "real": real,
            "generated": generated,
        }
        drawn = {name: batch.get(name, value) for name, value in drawn.items()}
        return {"image": batch["image"], "labels": labels, "labelled": labelled, **drawn}

    def network_terms(self, batch: dict, carried: dict):
        """Segments, deforms and reconstructs every modality, from its own anatomy and from those of the others."""
        c = self.config
        of = c.channel_modalities
        images = ops.split(batch["image"], c.num_channels, axis=-1)
        anatomy = [self.anatomy(image, of[k], training=True) for k, image in enumerate(images)]
        moments = [self.moments(*one, training=True) for one in zip(anatomy, images, strict=True)]
        codes = [
            mean + ops.exp(0.5 * log_variance) * batch["noise"][k] for k, (mean, log_variance) in enumerate(moments)
        ]
        terms = dict.fromkeys(self.term_weights(), 0.0)
        made = {}

        def drawn(one, k, weight=1.0):
            """The labels and the image of an anatomy that is where slice k is, whose errors count by `weight`."""
            mask = self.segmentor(one, training=True)
            y = self.decoder({"anatomy": one, "code": codes[k]}, training=True)
            errors = segmentation_error(mask, batch["labels"][k], c)
            terms["segmentation"] += weighted_mean(weight * errors, batch["labelled"][k])
            terms["reconstruction"] += ops.mean(weight * absolute_error(y, images[k]))
            return mask, y

        def moved_to(k, n):
            """The anatomy of slice k where slice n is, by a field that shall be smooth."""
            found = self.transformer({"moving": anatomy[k], "fixed": anatomy[n]}, training=True)
            terms["smoothness"] += ops.mean(field_roughness(found["field"]))
            if "alignment" in terms:
                # Outside of an image is its background, -1.
                image = warp(images[k] + 1.0, found["field"]) - 1.0
                terms["alignment"] -= ops.mean(mutual_information(image, images[n]))
            return found["anatomy"]

        first = [of.index(i) for i in range(c.num_modalities)]  # the slice of each modality, of candidates the first
        moved = {(k, n): moved_to(k, n) for k in first for n in first if k != n}
        others = range(1, c.candidates)
        if c.candidates > 1:
            target = c.num_channels - 1
            moved |= {(k, target): moved_to(k, target) for k in others}
            weight = self.pair_weights([moved[k, target] for k in range(c.candidates)], anatomy[target], training=True)
            for k in others:
                drawn(moved[k, target], target, weight[:, k])
                drawn(moved_to(target, k), k, weight[:, k])
        for i, k in enumerate(first):
            terms["kl"] += c.code_dim * ops.mean(gaussian_kl(*moments[k]))
            of_pair = weight[:, 0] if c.candidates > 1 else 1.0
            kinds = [drawn(anatomy[k], k), *(drawn(moved[n, k], k, of_pair) for n in first if n != k)]
            for mask, y in kinds:
                scores = self.mask_discriminator(mask[..., 1:], training=False)
                terms["mask_adversarial"] += ops.mean(least_squares(scores, 1.0))
                scores = self.image_discriminators[i](y, training=False)
                terms["image_adversarial"] += ops.mean(least_squares(scores, 1.0))
            prior = batch["prior"][i]
            y = self.decoder({"anatomy": anatomy[k], "code": prior}, training=True)
            again, _ = self.moments(anatomy[k], y, training=True)
            terms["code_regression"] += ops.mean(absolute_error(again, prior))
            masks, drawings = zip(*kinds, strict=True)
            made |= {f"masks_{i}": ops.concatenate(masks), f"images_{i}": ops.concatenate(drawings)}
        return self.weighted(terms), terms, made

    def mask_terms(self, i: int, batch: dict, carried: dict):
        """D_M on masks of modality i; without any label it learns generated masks alone."""
        real = ops.reshape(batch["labels"][..., 1:], (-1, *batch["labels"].shape[2:4], self.config.num_labels - 1))
        real = ops.take(real, batch["real"][i], axis=0)
        there = ops.take(ops.reshape(batch["labelled"], (-1,)), batch["real"][i], axis=0)
        made = ops.take(carried[f"masks_{i}"], batch["generated"][i], axis=0)[..., 1:]
        real_error = weighted_mean(least_squares(self.mask_discriminator(real, training=True), 1.0), there)
        total = real_error + ops.mean(least_squares(self.mask_discriminator(made, training=True), 0.0))
        return total, {f"mask_discriminator_{i}": total}, {}

    def image_terms(self, i: int, batch: dict, carried: dict):
        """D_i on slices and images of modality i."""
        judge, k = self.image_discriminators[i], self.config.channel_modalities.index(i)
        made = ops.take(carried[f"images_{i}"], batch["generated"][i], axis=0)
        real_error = ops.mean(least_squares(judge(batch["image"][..., k : k + 1], training=True), 1.0))
        total = real_error + ops.mean(least_squares(judge(made, training=True), 0.0))
        return total, {f"image_discriminator_{i}": total}, {}

    def anatomy(self, image, modality: int, training: bool = False):
        """s (B, H, W, anatomy_channels) of slices (B, H, W, 1) that are all in one modality, by its index."""
        told = {"modality": self.told(modality, image), "weight": ops.ones(ops.shape(image)[:1])}
        features = self.anatomy_encoders[modality]({"image": image, **told}, training=training)
        return self.anatomy_decoder({**features, **told}, training=training)

    def moments(self, anatomy, image, training: bool = False):
        """Mean and log variance of z, (B, code_dim) each."""
        both = self.modality_encoder({"anatomy": anatomy, "image": image}, training=training)
        return ops.split(both, 2, axis=-1)

    def deformed(self, moving, fixed, training: bool = False):
        """T: the moving anatomy where the fixed one is, (B, H, W, anatomy_channels), soft where it is interpolated."""
        return self.transformer({"moving": moving, "fixed": fixed}, training=training)["anatomy"]

    def pair_weights(self, deformed: list, fixed, training: bool = False):
        """w (B, candidates): of anatomies that were deformed to the fixed one, by their overlap with it."""
        overlap = [2 * ops.sum(one * fixed, (1, 2, 3)) / ops.sum(one + fixed, (1, 2, 3)) for one in deformed]
        return self.balancer(ops.stack(overlap, axis=1), training=training)

    # --- verbs ---

    def call(self, image, training=False):
        """Probabilities of the labels of the last modality from all of them, fused: what `predict` gives."""
        return self.predictions(image)["fused"]

    def predictions(self, image) -> dict:
        """All that the model says of the labels of the target, the last modality.

        Args:
            image: (B, H, W, C) in [-1, 1].

        Returns:
            {kind: probabilities (B, H, W, L)}: "fused" of all modalities, "deformed" of all others, and "target" of
            the target alone; of several candidates the mean by their weights.
        """
        c = self.config
        slices = ops.split(self.checked("image", image), c.num_channels, axis=-1)
        *others, own = (self.anatomy(one, c.channel_modalities[k]) for k, one in enumerate(slices))
        moved = [self.deformed(one, own) for one in others]
        if c.candidates > 1:
            weight = ops.unstack(self.pair_weights(moved, own)[..., None, None, None], c.candidates, axis=1)
        else:
            moved, weight = [functools.reduce(ops.maximum, moved)], [1.0]
        pairs = list(zip(weight, moved, strict=True))
        return {
            "fused": sum(w * self.segment(ops.maximum(one, own)) for w, one in pairs),
            "deformed": sum(w * self.segment(one) for w, one in pairs),
            "target": self.segment(own),
        }

    def encode(self, image, modality) -> dict:
        """Anatomy and code of slices in one modality.

        Args:
            image: (B, H, W, 1) in [-1, 1].
            modality: which one they all are in, by name or index.

        Returns:
            {"anatomy": (B, H, W, anatomy_channels), "code": (B, code_dim), the mean of its distribution}.
        """
        image, index = self.checked_slices(image), self._index(modality)
        anatomy = self.anatomy(image, index)
        return {"anatomy": anatomy, "code": self.moments(anatomy, image)[0]}

    def align(self, moving, fixed) -> dict:
        """Deforms one anatomy to another.

        Args:
            moving, fixed: (B, H, W, anatomy_channels), of two modalities, as `encode` gives them.

        Returns:
            {"anatomy": the moving one where the fixed one is, (B, H, W, anatomy_channels); "field": (B, H, W, 2),
            pixels along rows and columns: at a pixel it is the moving anatomy at pixel + field}.
        """
        return self.transformer({"moving": moving, "fixed": fixed}, training=False)

    def fuse(self, image, target):
        """Anatomy of a modality and those of all others deformed to it, by their maximum: (B, H, W, anatomy_channels).

        Args:
            image: (B, H, W, M) in [-1, 1]; also with candidates a slice of each modality.
            target: name or index of the modality whose places they are in.
        """
        c = self.config
        image = self.checked("image", image, (*c.image_shape[:2], c.num_modalities))
        index = self._index(target)
        slices = ops.split(image, self.config.num_modalities, axis=-1)
        anatomy = [self.anatomy(one, i) for i, one in enumerate(slices)]
        fused = anatomy[index]
        for i, one in enumerate(anatomy):
            if i != index:
                fused = ops.maximum(fused, self.deformed(one, anatomy[index]))
        return fused

    def segment(self, anatomy):
        """Probabilities of the labels (B, H, W, L) of an anatomy (B, H, W, anatomy_channels)."""
        return self.segmentor(anatomy, training=False)

    def reconstruct(self, anatomy, code):
        """Slices (B, H, W, 1) in [-1, 1] of an anatomy (B, H, W, anatomy_channels) in the look of a code (B, K)."""
        return self.decoder({"anatomy": anatomy, "code": code}, training=False)

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape}); the first is default.

        "segment" takes a slice of each modality, as volumes on one grid have them; with candidates
        "segment_candidates" takes all of these.
        """
        c = self.config
        height, width, _ = c.image_shape
        image, anatomy = {"image": (None, height, width, c.num_channels)}, (None, height, width, c.anatomy_channels)
        pair = {"image": (None, height, width, c.num_modalities)}

        def segment(image):
            return {"labels": self.segment(self.fuse(image, c.modalities[-1]))}

        def segment_candidates(image):
            return {"labels": self(image)}

        def segment_target(image):
            return {"labels": self.segment(self.encode(image, c.modalities[-1])["anatomy"])}

        def encode(image):
            slices = ops.split(image, c.num_channels, axis=-1)
            found = [self.encode(one, c.channel_modalities[k]) for k, one in enumerate(slices)]
            return {name: ops.stack([one[name] for one in found], axis=1) for name in ("anatomy", "code")}

        def reconstruct(anatomy, code):
            return {"image": self.reconstruct(anatomy, code)}

        return {
            "segment": (segment, pair),
            **({"segment_candidates": (segment_candidates, image)} if c.candidates > 1 else {}),
            "segment_target": (segment_target, {"image": (None, height, width, 1)}),
            "encode": (encode, image),
            "align": (self.align, {"moving": anatomy, "fixed": anatomy}),
            "reconstruct": (reconstruct, {"anatomy": anatomy, "code": (None, c.code_dim)}),
        }

    def volume_io(self) -> dict:
        """What the default signature takes and gives when it is applied to volumes, as a model's card says it."""
        return label_maps_of(self.config)

    def _index(self, modality) -> int:
        (index,) = modality_indices(modality, self.config.modalities, 1, "modality")
        return index


# --- labels ---


def label_maps_of(config: AnnotatedConfig) -> dict:
    """The part of a model's card on volumes, of a signature from a slice of each modality to labels of the target."""
    return {
        "inputs": list(config.modalities),
        "outputs": {"labels": {"kind": "labels", "names": list(config.mask_labels)}},
    }


def annotations(batch: dict, config: AnnotatedConfig):
    """Labels (C, B, H, W, L) one-hot, 0 where there are none, and which slices are labelled (C, B), of a batch.

    Raises:
        ValueError: the batch has no mask, or not one of each modality.
    """
    image, mask = batch["image"], batch.get("mask")
    if mask is None or tuple(mask.shape[1:]) != tuple(image.shape[1:]):
        raise ValueError(
            f"Expected a 'mask' of the shape of 'image', {tuple(image.shape)}, with a label at each pixel of each "
            f"modality; received {'none' if mask is None else tuple(mask.shape)}. Where there are no labels, fill it "
            "with 0, and 'labelled' too."
        )
    everything = ops.ones((ops.shape(image)[0], config.num_channels))
    labelled = ops.cast(batch.get("labelled", everything), "float32")
    # Emptied before anything is computed of them.
    mask = ops.where(labelled[:, None, None, :] > 0, ops.cast(mask, "int32"), 0)
    labels = ops.one_hot(ops.moveaxis(mask, -1, 0), config.num_labels, dtype="float32")
    labelled = ops.transpose(labelled)
    return labels * labelled[:, :, None, None, None], labelled


def segmentation_error(mask, labels, config: AnnotatedConfig):
    """(B,): Dice loss of all organs in one ratio, and cross entropy over all labels, of probabilities."""
    height, width, _ = config.image_shape
    flat = (-1, height, width * (config.num_labels - 1), 1)
    foreground = [ops.reshape(one[..., 1:], flat) for one in (mask, labels)]
    entropy = -ops.sum(labels * ops.log(ops.maximum(mask, 1e-7)), axis=-1)
    return dice_loss(*foreground, smooth=1e-6) + config.cross_entropy_weight * ops.mean(entropy, axis=(1, 2))


# --- networks ---


def convolutions(h, filters: int, told: dict):
    """Two convolutions of 3 x 3, each with batch norm and ReLU."""
    for _ in range(2):
        h = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(h)
        h = keras.layers.ReLU()(normalized_by_modality(h, told))
    return h


def raised(h, skip, filters: int, told: dict):
    """A stage of a U-Net's decoder: features at twice their resolution, and those of the encoder there."""
    h = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(keras.layers.UpSampling2D()(h))
    return convolutions(keras.layers.Concatenate()([normalized_by_modality(h, told), skip]), filters, told)


def level_inputs(config: AnnotatedConfig) -> dict:
    """Inputs for the features of `anatomy_encoder`."""
    height, width, _ = config.image_shape
    widths = [config.filters * 2 ** min(level, LEVELS - 1) for level in range(LEVELS + 1)]
    return {
        f"level_{k}": keras.Input((height >> k, width >> k, depth), name=f"level_{k}") for k, depth in enumerate(widths)
    }


def anatomy_encoder(config: AnnotatedConfig, name: str) -> keras.Model:
    """A modality's own path: {"image": (B, H, W, 1), "modality": (B, M), "weight": (B,)} -> {"level_0": features, ...}.

    Level k is (B, H / 2^k, W / 2^k, filters * 2^k) for k < 4; "level_4" is level 3, pooled.
    """
    told = modality_inputs(config.num_modalities)
    image = h = keras.Input(config.image_shape, name="image")
    features = {}
    for level in range(LEVELS):
        h = features[f"level_{level}"] = convolutions(h, config.filters * 2**level, told)
        h = keras.layers.MaxPooling2D()(h)
    features[f"level_{LEVELS}"] = h
    return keras.Model({"image": image, **told}, features, name=name)


def anatomy_decoder(config: MMSDNetConfig) -> keras.Model:
    """What all modalities share: bottleneck, decoder, head; features, "modality", "weight" -> s (B, H, W, C)."""
    told, levels = modality_inputs(config.num_modalities), level_inputs(config)
    h = convolutions(levels[f"level_{LEVELS}"], config.filters * 2**LEVELS, told)
    for level in range(LEVELS - 1, -1, -1):
        h = raised(h, levels[f"level_{level}"], config.filters * 2**level, told)
    h = keras.layers.Softmax(dtype="float32")(keras.layers.Conv2D(config.anatomy_channels, 1)(h))
    return keras.Model({**levels, **told}, ANATOMIES[config.anatomy](dtype="float32")(h), name="anatomy_decoder")


def modality_encoder(config: MMSDNetConfig) -> keras.Model:
    """{"anatomy": (B, H, W, C), "image": (B, H, W, 1)} -> mean and log variance side by side, (B, 2 * code_dim)."""
    anatomy = keras.Input((*config.image_shape[:2], config.anatomy_channels), name="anatomy")
    image = keras.Input(config.image_shape, name="image")
    h = keras.layers.Concatenate()([anatomy, image])
    for level in range(4):
        h = keras.layers.Conv2D(config.modality_filters * 2**level, 3, 2, kernel_initializer="he_normal")(h)
        h = keras.layers.LeakyReLU(SLOPE)(h)
    h = keras.layers.Dense(32, kernel_initializer="he_normal")(keras.layers.Flatten()(h))
    both = keras.layers.Dense(2 * config.code_dim, dtype="float32")(keras.layers.LeakyReLU(SLOPE)(h))
    return keras.Model({"anatomy": anatomy, "image": image}, both, name="modality_encoder")


def transformer(config: MMSDNetConfig) -> keras.Model:
    """T: {"moving", "fixed": (B, H, W, C)} -> {"anatomy": (B, H, W, C), "field": (B, H, W, 2)}, at first 0."""
    shape = (*config.image_shape[:2], config.anatomy_channels)
    moving, fixed = keras.Input(shape, name="moving"), keras.Input(shape, name="fixed")
    h = keras.layers.Concatenate()([moving, fixed])
    for stage in range(3):
        h = keras.layers.LeakyReLU(SLOPE)(keras.layers.Conv2D(config.transformer_filters, 5)(h))
        h = keras.layers.MaxPooling2D()(h) if stage < 2 else h
    h = keras.layers.Dense(config.transformer_units, activation="tanh")(keras.layers.Flatten()(h))
    points = config.control_points**2
    offsets = keras.layers.Dense(2 * points, kernel_initializer="zeros", dtype="float32")(h)
    offsets = keras.layers.Reshape((points, 2))(keras.layers.Rescaling(config.offset_scale, dtype="float32")(offsets))
    anatomy, field = ThinPlateTransformer(config.control_points, dtype="float32", name="warp")([moving, offsets])
    return keras.Model({"moving": moving, "fixed": fixed}, {"anatomy": anatomy, "field": field}, name="transformer")


def balancer(config: MMSDNetConfig) -> keras.Model:
    """Overlaps (B, candidates), each seen alone by the same two dense layers -> weights that sum to 1."""
    overlap = keras.Input((config.candidates,), name="overlap")
    h = keras.layers.Dense(5, activation="relu")(keras.layers.Reshape((config.candidates, 1))(overlap))
    h = keras.layers.Reshape((config.candidates,))(keras.layers.Dense(1)(h))
    return keras.Model(overlap, keras.layers.Softmax(dtype="float32")(h), name="balancer")


def segmentor(config: MMSDNetConfig) -> keras.Model:
    """h: anatomy (B, H, W, C) -> probabilities (B, H, W, L), the background first."""
    anatomy = h = keras.Input((*config.image_shape[:2], config.anatomy_channels), name="anatomy")
    for _ in range(2):
        h = keras.layers.Conv2D(config.segmentor_filters, 3, padding="same", kernel_initializer="he_normal")(h)
        h = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(h))
    h = keras.layers.Conv2D(config.num_labels, 1)(h)
    return keras.Model(anatomy, keras.layers.Softmax(dtype="float32")(h), name="segmentor")


def decoder(config: MMSDNetConfig) -> keras.Model:
    """D: {"anatomy": (B, H, W, C), "code": (B, code_dim)} -> slices (B, H, W, 1) in [-1, 1]."""
    if config.decoder == "spade":
        return spade_decoder(
            config.image_shape,
            anatomy_channels=config.anatomy_channels,
            code_dim=config.code_dim,
            filters=config.spade_filters,
            hidden_filters=config.spade_filters,
        )
    anatomy = keras.Input((*config.image_shape[:2], config.anatomy_channels), name="anatomy")
    code = keras.Input((config.code_dim,), name="code")

    def convolution(h, filters=8):
        return keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(h)

    def activated(h):
        return keras.layers.LeakyReLU(SLOPE)(h)

    h = activated(convolution(anatomy))
    for _ in range(4):
        a = activated(convolution(h))
        gain, shift = (keras.layers.Reshape((1, 1, 8))(activated(keras.layers.Dense(8)(code))) for _ in range(2))
        b = keras.layers.Add()([keras.layers.Multiply()([convolution(a), gain]), shift])
        h = keras.layers.Add()([a, activated(b)])
    h = keras.layers.Conv2D(1, 1, kernel_initializer="glorot_normal")(h)
    image = keras.layers.Activation("tanh", dtype="float32")(h)
    return keras.Model({"anatomy": anatomy, "code": code}, image, name="decoder")


def discriminator(config: MMSDNetConfig, channels: int, name: str) -> keras.Model:
    """D_M and D_i: (B, H, W, channels) -> scores (B, 1)."""
    image = h = keras.Input((*config.image_shape[:2], channels), name="image")
    for level, strides in enumerate((2, 2, 2, 1)):
        layer = keras.layers.Conv2D(config.discriminator_filters * 2**level, 4, strides, kernel_initializer="he_normal")
        h = keras.layers.LeakyReLU(0.2)(SpectralNormalization(layer)(h))
    score = SpectralNormalization(keras.layers.Dense(1, dtype="float32"))(keras.layers.Flatten()(h))
    return keras.Model(image, score, name=name)
