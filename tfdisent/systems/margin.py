"""Anatomy and modality codes that do not leak into each other, by margins between their similarities.

Paper: Ouyang, Adeli, Pohl, Zhao, Zaharchuk: Representation disentanglement for multi-modal brain MRI analysis, IPMI
2021; public code: https://github.com/ouyangjiahong/representation-disentanglement. In: slices of a subject in m aligned
modalities, some of which may be missing. Out: of each slice an anatomy of four channels, much the same in all
modalities, and a code of how its modality looks, much the same in all subjects; a decoder that draws any anatomy in the
look of any code; and the anatomies of those modalities that there are, fused to one of fixed size.

Symbols: E^A `anatomy encoder`, E^M `modality encoder`, D `decoder`; s_i = E^A(x_i; i) the anatomy of the slice in
modality i, z_i = E^M(x_i; i) its code, x~_ij = D(s_i, z_j) the anatomy of i in the look of j, z~_ij = E^M(x~_ij; j). p
is a subject, q another one of the batch; f pools and flattens an anatomy.

Loss terms (the weight is a field of the config):

| term | what | weight | equation |
|---|---|---|---|
| self_reconstruction | abs(x~_ii - x_i) | 1 | Sec. 3.1 |
| cross_reconstruction | abs(x~_ij - x_j), i other than j | lambda_c = 2 | Sec. 3.1 |
| latent | sum over a code of abs(z~_ij - z_j), all i, j | lambda_l = 0.1 | 1 |
| anatomy_similarity | max(0, alpha_s - cos(f s_i^p, f s_j^p) + cos(f s_i^p, f s_i^q)), all i, j | lambda_s = 10 | 2 |
| modality_similarity | max(0, alpha_z - cos(z_i^p, z_i^q) + cos(z_i^p, z_j^p)), all i, j | lambda_z = 2 | 2 |
| weight_decay | half the sum of all squared weights | 1e-5 | Sec. 4.2 |

Each is a mean over subjects and those i and j of which they have the slices, and over pixels. All networks take one
step together. For i = j the modality term is alpha_z + 1 - cos(z_i^p, z_i^q), as the paper writes it: it never is 0,
and neither is the loss.

What is missing is background to the networks, whatever its channels hold, and has no part in a loss, a batch statistic,
a typical code or a fusion. q is drawn for each p and i among the subjects other than p that have i; where there is
none, as in a batch of one subject, the similarities do not count. A subject without any modality counts for nothing,
and its fused anatomy is 0.

Where paper and code differ, or one is silent:

* Convolution, batch norm and ReLU throughout E^A, as the paper says; by a slip the code's is linear in places.
* The sigmoid of CondConv is on the experts' weights, as in the code; they see the modality as one-hot, or with
  `routing="scalar"` as a number, as in the code. `conditional=False` gives each modality encoders of its own, with one
  decoding half of E^A for all: the paper's "Conv".
* Batch statistics are those of each modality, in training as in the code, and in inference too: there the code has
  the mean of all modalities, which no layer has seen in training.
* One decoder, mmsdnet's SPADE decoder, as the paper says; the code splits it by modality. z is not random, as in the
  paper. Eq. 1 is over all i and j, as in the paper; `latent_self_only` is the code's i = j. Its sum over a code is the
  code's, which gives lambda_l its scale. Eq. 2 is over all pairs; the code draws one a step.
* AMSGrad, the bound of the gradient, and the decay in the gradient are the code's. Its falling rate is left out.
* Intensities are in [-1, 1] by the volume's minimum and maximum, or its percentiles, in place of z-scores, so that the
  decoder can end in tanh, and all reports and exports have one scale.

Deviations, each a config field: `average_momentum` keeps averaged weights for evaluation and export; `modulate` gives
the code a gain and a shift in each block of the decoder, of which instance norms otherwise leave little;
`mask_background` has no anatomy in the background, where E^A otherwise draws a pattern for each subject, which holds
the margins in place of the anatomy; `anatomy_similarity_delay` starts that half of Eq. 2 when there is an anatomy to
compare; `level_0` lets E^A see and draw at full resolution; `learning_rate_decay` lets the rate fall.

Added for use: the typical code of each modality, the running mean over training, in whose look a missing contrast is
drawn; of a modality that no subject had it is 0, and what is drawn in its look means nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.layers import CondConv2D
from tfdisent.layers.convolution import ROUTINGS
from tfdisent.losses import absolute_error, margin_similarity, weighted_mean, with_background
from tfdisent.networks import modality_inputs, normalized_by_modality, spade_decoder
from tfdisent.systems.slices import ModalityConfig, SliceSystem, checked_code, is_code, modality_indices
from tfdisent.training import inputs
from tfdisent.training.adversarial import Phase, num_replicas, phase_variables
from tfdisent.training.system import falling, presets

BACKGROUND = -1.0
LEVELS = 5  # halvings of both encoders


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginConfig(ModalityConfig):
    """Settings of the margin system; the defaults are the paper's, or, where it is silent, its code's.

    Those of training are described in `TrainingConfig`. The paper's 50 epochs are some 45,000 steps on BraTS 2020.

    Attributes:
        image_size: height and width in pixels, one number or two, multiples of 32.
        modalities: their names, in the order of the channels; two or more.
        neighbours: slices on each side that an image has as further channels, 0 or more.
        anatomy_channels: of s.
        code_dim: length of z.
        filters, modality_filters: channels of the first stage of E^A and of E^M.
        decoder_filters, spade_filters: channels of the decoder's first block, and within its normalisations.
        conditional: encoders of CondConv for all modalities, or else encoders for each.
        num_experts, routing: of CondConv, see `tfdisent.layers.CondConv2D`.
        modulate: the code modulates each block of the decoder.
        mask_background: s is 0 where all slices of a subject that there are have background, -1.
        level_0: E^A has features at full resolution too, by two convolutions each in its halves.
        pool_size: side of f's windows in pixels.
        self_weight, cross_weight, latent_weight, anatomy_similarity_weight, modality_similarity_weight: of the terms; 0
            leaves the last four and their work out.
        anatomy_similarity_delay: fraction of `steps` in which the anatomies' half of Eq. 2 does not count; in as many
            steps more its weight grows to the whole.
        anatomy_margin, modality_margin: alpha_s and alpha_z.
        latent_self_only: Eq. 1 on self-reconstructions alone.
        weight_decay: of all weights, in the gradient.
        amsgrad: a variant of Adam.
        learning_rate_decay: fraction of `steps`, the last ones, in which the rate falls to 0 on half a cosine.
    """

    image_size: int | tuple[int, int] = (192, 160)
    neighbours: int = 1
    anatomy_channels: int = 4
    code_dim: int = 16
    filters: int = 32
    modality_filters: int = 16
    decoder_filters: int = 128
    spade_filters: int = 128
    conditional: bool = True
    num_experts: int = 3
    routing: str = "one_hot"
    modulate: bool = False
    mask_background: bool = False
    level_0: bool = False
    pool_size: int = 16
    self_weight: float = 1.0
    cross_weight: float = 2.0
    latent_weight: float = 0.1
    anatomy_similarity_weight: float = 10.0
    modality_similarity_weight: float = 2.0
    anatomy_similarity_delay: float = 0.0
    anatomy_margin: float = 0.1
    modality_margin: float = 0.1
    latent_self_only: bool = False
    weight_decay: float = 1e-5
    amsgrad: bool = True
    normalize: str = "volume"
    augmentation: str = "mirror"
    learning_rate: float = 2e-4
    learning_rate_decay: float = 0.0
    beta_1: float = 0.9
    clip_norm: float | None = 1.0
    batch_size: int = 16
    steps: int = 45_000

    MULTIPLE_OF: ClassVar = 2**LEVELS
    FROM_ZERO: ClassVar = ("neighbours",)
    FRACTIONS: ClassVar = (*ModalityConfig.FRACTIONS, "anatomy_similarity_delay", "learning_rate_decay")
    CHOICES: ClassVar = ModalityConfig.CHOICES | {"routing": ROUTINGS}
    PRESETS: ClassVar = presets(
        quick={
            "image_size": 64,
            "neighbours": 0,
            "filters": 8,
            "modality_filters": 8,
            "decoder_filters": 32,
            "spade_filters": 8,
            "modulate": True,
            "mask_background": True,
            "level_0": True,
            "pool_size": 2,
            "anatomy_similarity_weight": 2.0,
            "anatomy_similarity_delay": 0.25,
            "anatomy_margin": 0.5,
            "learning_rate": 2e-3,
            "learning_rate_decay": 0.5,
            "average_momentum": 0.99,
            "batch_size": 4,
            "steps": 1200,
        },
        small={"image_size": 128, "pool_size": 4},
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("anatomy_margin", "modality_margin", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected {name} >= 0, received {getattr(self, name)}.")
        height, width, _ = self.image_shape
        if height % self.pool_size or width % self.pool_size:
            raise ValueError(f"Expected a pool_size that divides {height} x {width} pixels, received {self.pool_size}.")

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if there are too few modalities, or not as many neighbouring slices as the config says."""
        super().check_manifest(manifest)
        channels = manifest.image_shape[-1]
        expected = len(manifest.modalities) * (1 + 2 * self.neighbours)
        if channels != expected:
            raise ValueError(
                f"Expected data with {self.neighbours} neighbouring slices on each side, {expected} channels, received "
                f"{manifest.dataset} with {channels}. Prepare them with --data=neighbours={self.neighbours}, or give "
                "--set=neighbours=... as they are."
            )

    @property
    def scheduled(self) -> tuple[str, ...]:
        """What follows a schedule over all steps."""
        delayed = self.anatomy_similarity_weight and self.anatomy_similarity_delay
        return ("learning rates",) * bool(self.learning_rate_decay) + ("the weight of Eq. 2",) * bool(delayed)

    @property
    def num_slices(self) -> int:
        """Slices of an image: one and its neighbours."""
        return 1 + 2 * self.neighbours

    @property
    def needs_partners(self) -> bool:
        """Whether a loss compares subjects."""
        return self.anatomy_similarity_weight > 0 or self.modality_similarity_weight > 0


class Margin(SliceSystem):
    """The system: its networks, what they are trained for, and the verbs.

    `fit` takes batches {"image": (B, H, W, C) in [-1, 1], "subject_index": (B,) integers, "available": (B, M) of 0 and
    1, by default 1}; other keys are ignored. C is M * (1 + 2 * neighbours): all slices of the first modality, then
    those of the next. Slices of one number in `subject_index` are of one subject, and are never compared as if they
    were of two.

    Args:
        config: its settings; the paper's by default.
        seed: of what is drawn in training.
    """

    config_class = MarginConfig

    def __init__(self, config: MarginConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        names = config.modalities
        owners = ("shared",) if config.conditional else tuple(map(_identifier, names))
        self.anatomy_encoders = [anatomy_encoder(config, f"anatomy_encoder_{owner}") for owner in owners]
        self.anatomy_decoder = anatomy_decoder(config)
        self.modality_encoders = [modality_encoder(config, f"modality_encoder_{owner}") for owner in owners]
        self.decoder = decoder(config)
        self.typical_codes = TypicalCodes(config.num_modalities, config.code_dim)
        self.track_averages([*self.networks, self.typical_codes], config.average_momentum)
        self.downstream, self.label_names = None, ()
        self.built = True

    @property
    def networks(self) -> list[keras.Model]:
        """All that learns."""
        return [*self.anatomy_encoders, self.anatomy_decoder, *self.modality_encoders, self.decoder]

    # --- training ---

    def batch_shapes(self) -> dict[str, tuple]:
        """As of all systems of slices; and the subject, where subjects are compared."""
        return super().batch_shapes() | ({"subject_index": ()} if self.config.needs_partners else {})

    def stream(self, load, start_step: int):
        """The training split, with the subjects' numbers."""
        return load("train", start_step=start_step, subject_index=True)

    def phases(self) -> list[Phase]:
        """One step of all networks together."""
        return [Phase(self.loss_terms, self.networks, "networks")]

    def term_weights(self) -> dict[str, Any]:
        """Of all terms; that of the anatomies' similarity in the present step."""
        c = self.config
        return {
            "self_reconstruction": c.self_weight,
            "cross_reconstruction": c.cross_weight,
            "latent": c.latent_weight,
            "anatomy_similarity": self.anatomy_similarity_weight(),
            "modality_similarity": c.modality_similarity_weight,
            "weight_decay": c.weight_decay,
        }

    def learning_rate(self, player: str):
        """The rate of all networks: constant, or falling at the end of training."""
        c = self.config
        return falling(c.learning_rate, c.learning_rate_decay, c.steps)

    def default_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        """Adam with the config's settings; its bound of the gradient is shared out among devices."""
        c = self.config
        bound = c.clip_norm and c.clip_norm / num_replicas()
        return keras.optimizers.Adam(
            self.learning_rate(player), c.beta_1, c.beta_2, amsgrad=c.amsgrad, global_clipnorm=bound, name=player
        )

    def passes(self, batch: dict) -> list[dict]:
        """One pass: the slices, with background in the place of what is missing, and the partners that are drawn.

        Returns:
            [{"image": (B, H, W, C); "available": (B, M); "partner", "has_partner": (B, M), which example of another
            subject, that has the modality, each is compared with, and 1 or, where there is none, 0}]
        """
        drawn = self.draw(batch)
        kept = ("image", "available", "partner", "has_partner")
        return [{name: drawn[name] for name in kept if name in drawn}]

    def draw(self, batch: dict) -> dict:
        """Adds what a step draws at random; a key that the batch already has is kept, so that a test can inject it."""
        image, available = self.shown(batch)
        drawn = {**batch, "image": image, "available": available}
        if self.config.needs_partners:
            subject = ops.convert_to_tensor(batch["subject_index"])
            others = ops.cast(subject[:, None] != subject[None, :], "float32")  # (p, q)
            fits = others[:, :, None] * available[None]  # (p, q, M)
            noise = keras.random.uniform(ops.shape(fits), seed=self.seed_generator)
            found = {
                "partner": ops.argmax(ops.where(fits > 0, noise, -1.0), axis=1),
                "has_partner": ops.max(fits, axis=1),
            }
            drawn = {**drawn, **{name: batch.get(name, value) for name, value in found.items()}}
        return drawn

    def shown(self, batch: dict):
        """Slices (B, H, W, C), with background in the place of what is missing, and what there is (B, M)."""
        image, available = batch["image"], self.available(batch)
        self.check_batch(image)
        there = ops.repeat(available, self.config.num_slices, axis=1)
        return ops.where(there[:, None, None, :] > 0, image, BACKGROUND), available

    def loss_terms(self, batch: dict, carried: dict):
        """Reconstructs every modality from every anatomy, and holds the margins between similarities."""
        c, available = self.config, batch["available"]
        images = ops.split(batch["image"], c.num_modalities, axis=-1)
        every = range(c.num_modalities)
        pairs = [(i, j) for i in every for j in every]
        anatomy = self.anatomies(images, available, training=True)
        code = [self.code(images[i], i, training=True) for i in every]
        self.typical_codes(ops.stack(code, axis=1), available, training=True)
        drawn = self.drawings(anatomy, code, training=True)

        def mean(values, of, weight=1.0):
            """Of values (B,) of each pair, over those of which both slices are there."""
            there = ops.stack([weight * available[:, i] * available[:, j] for i, j in of])
            return weighted_mean(ops.stack([values[pair] for pair in of]), there)

        errors = {(i, j): absolute_error(drawn[i, j], images[j]) for i, j in pairs}
        own, others = [(i, i) for i in every], [(i, j) for i, j in pairs if i != j]
        terms = {"self_reconstruction": mean(errors, own)}
        if c.cross_weight:
            terms["cross_reconstruction"] = mean(errors, others)
        if c.latent_weight:
            compared = own if c.latent_self_only else pairs
            terms["latent"] = mean(self.latent_distances(drawn, code, compared), compared)
        if c.anatomy_similarity_weight:
            hinges, weight = self.anatomy_hinges(anatomy, batch), batch["has_partner"]
            terms["anatomy_similarity"] = self._mean_of_hinges(hinges, available, weight)
        if c.modality_similarity_weight:
            hinges, weight = self.modality_hinges(code, batch), batch["has_partner"]
            terms["modality_similarity"] = self._mean_of_hinges(hinges, available, weight)
        if c.weight_decay:
            variables = phase_variables(Phase(self.loss_terms, self.networks, "networks"))
            terms["weight_decay"] = 0.5 * sum(ops.sum(ops.square(v.value)) for v in variables)
        return self.weighted(terms), terms, {f"anatomy_{i}": anatomy[i] for i in every}

    def anatomy_similarity_weight(self):
        """lambda_s, or as much of it as the step has of it."""
        c = self.config
        if not c.anatomy_similarity_delay:
            return c.anatomy_similarity_weight
        done = ops.cast(self.optimizers["networks"].iterations, "float32") / c.steps
        return c.anatomy_similarity_weight * ops.clip(done / c.anatomy_similarity_delay - 1.0, 0.0, 1.0)

    def drawings(self, anatomy: list, code: list, training: bool) -> dict:
        """{(i, j): x~_ij (B, H, W, 1 + 2 * neighbours)}, in one call of the decoder, which sees each anatomy once."""
        number = len(anatomy)
        looks = ops.tile(ops.stack(code, axis=1), (number, 1, 1))  # (i and b, j, D)
        given = {"anatomy": ops.concatenate(anatomy), "code": ops.reshape(looks, (-1, self.config.code_dim))}
        made = self.decoder(given, training=training)
        made = ops.reshape(made, (number, -1, number, *made.shape[1:]))  # (i, b, j, ...)
        return {(i, j): made[i, :, j] for i in range(number) for j in range(number)}

    def latent_distances(self, drawn: dict, code: list, pairs: list) -> dict:
        """{(i, j): sum over the code of abs(z~_ij - z_j), (B,)} (Eq. 1)."""
        found = {}
        for j in range(self.config.num_modalities):
            sources = [i for i, target in pairs if target == j]
            again = self.code(ops.concatenate([drawn[i, j] for i in sources]), j, training=True)
            for i, one in zip(sources, ops.split(again, len(sources)), strict=True):
                found[i, j] = self.config.code_dim * absolute_error(one, code[j])
        return found

    def anatomy_hinges(self, anatomy: list, batch: dict) -> dict:
        """{(i, j): (B,)}, the first half of Eq. 2: a subject's anatomies are more alike than those of two subjects."""
        pooled = [pooled_anatomy(one, self.config.pool_size) for one in anatomy]
        found = {}
        for i, one in enumerate(pooled):
            other_subject = ops.take(one, batch["partner"][:, i], axis=0)
            for j, same_subject in enumerate(pooled):
                found[i, j] = margin_similarity(one, same_subject, other_subject, margin=self.config.anatomy_margin)
        return found

    def modality_hinges(self, code: list, batch: dict) -> dict:
        """{(i, j): (B,)}, the second half of Eq. 2: a modality's codes are more alike than those of two modalities."""
        found = {}
        for i, one in enumerate(code):
            same_modality = ops.take(one, batch["partner"][:, i], axis=0)
            for j, other_modality in enumerate(code):
                margin = self.config.modality_margin
                found[i, j] = margin_similarity(one, same_modality, other_modality, margin=margin)
        return found

    def _mean_of_hinges(self, hinges: dict, available, has_partner):
        """Over all i, j of which a subject has both slices, and i has a partner."""
        weight = [available[:, i] * available[:, j] * has_partner[:, i] for i, j in hinges]
        return weighted_mean(ops.stack(list(hinges.values())), ops.stack(weight))

    def anatomies(self, images: list, available, training: bool = False) -> list:
        """s of slices in each modality, a list of (B, H, W, anatomy_channels), of which (B, M) are available."""
        inside = self.foreground(ops.concatenate(images, axis=-1))
        return [inside * self.anatomy(one, i, available[:, i], training) for i, one in enumerate(images)]

    def foreground(self, image):
        """1 where any of slices (B, H, W, K) is above background and 0 elsewhere, (B, H, W, 1); 1 where it is kept."""
        if not self.config.mask_background:
            return 1.0
        return ops.cast(ops.any(image > BACKGROUND, axis=-1, keepdims=True), "float32")

    def anatomy(self, image, modality: int, weight=None, training: bool = False):
        """s (B, H, W, anatomy_channels) of slices (B, H, W, 1 + 2 * neighbours) that are all in one modality.

        Args:
            image: the slices.
            modality: index of the modality.
            weight: (B,) of 0 and 1: which of them count in batch statistics, by default all.
            training: whether batch statistics are those of the batch.
        """
        weight = ops.ones(ops.shape(image)[:1]) if weight is None else weight
        told = {"modality": self.told(modality, image), "weight": weight}
        encoder = self.anatomy_encoders[0 if self.config.conditional else modality]
        features = encoder({"image": image, **told}, training=training)
        return self.anatomy_decoder({**features, **told}, training=training)

    def code(self, image, modality: int, training: bool = False):
        """z (B, code_dim) of slices (B, H, W, 1 + 2 * neighbours) that are all in one modality, by its index."""
        encoder = self.modality_encoders[0 if self.config.conditional else modality]
        return encoder({"image": image, "modality": self.told(modality, image)}, training=training)

    # --- verbs ---

    def call(self, given, training=False):
        """Anatomy and code of each modality, as `encode_all`: what `predict` gives.

        Args:
            given: {"image", "available"} as `encode_all` takes them, or the images alone.
        """
        given = given if isinstance(given, Mapping) else {"image": given}
        return self.encode_all(given["image"], given.get("available"))

    def encode(self, image, modality) -> dict:
        """Anatomy and code of slices in one modality.

        Args:
            image: (B, H, W, 1 + 2 * neighbours) in [-1, 1].
            modality: which one they all are in, by name or index.

        Returns:
            {"anatomy": (B, H, W, anatomy_channels), of which the channels of a pixel sum to 1, or are 0 in masked
            background; "code": (B, code_dim)}.

        Raises:
            ValueError: for a modality that is not among the config's.
        """
        image = self.checked_slices(image)
        (index,) = modality_indices(modality, self.config.modalities, 1, "modality")
        anatomy = self.anatomy(image, index) * self.foreground(image)
        return {"anatomy": anatomy, "code": self.code(image, index)}

    def encode_all(self, image, available=None) -> dict:
        """Anatomy and code of each modality of subjects.

        Args:
            image: (B, H, W, C) in [-1, 1].
            available: (B, M) of 0 and 1, by default 1; what is missing may be filled with anything.

        Returns:
            {"anatomy": (B, M, H, W, anatomy_channels), "code": (B, M, code_dim)}, 0 where a modality is missing.
        """
        images, available = self._checked_images(image, available)
        every = range(self.config.num_modalities)
        anatomy = ops.stack(self.anatomies(images, available), axis=1)
        code = ops.stack([self.code(images[i], i) for i in every], axis=1)
        return {
            "anatomy": ops.where(available[:, :, None, None, None] > 0, anatomy, 0.0),
            "code": ops.where(available[:, :, None] > 0, code, 0.0),
        }

    def decode(self, anatomy, code):
        """Slices (B, H, W, 1 + 2 * neighbours) in [-1, 1] of anatomy (B, H, W, anatomy_channels) in the look of codes
        (B, code_dim).
        """
        c = self.config
        anatomy = self.checked("anatomy", anatomy, (*c.image_shape[:2], c.anatomy_channels))
        return self.decoder({"anatomy": anatomy, "code": self.checked("code", code, (c.code_dim,))}, training=False)

    def cross_reconstruct(self, image, available=None):
        """Every modality of subjects, drawn from the anatomy of every modality.

        Args:
            image, available: as in `encode_all`.

        Returns:
            (B, M, M, H, W, 1 + 2 * neighbours) in [-1, 1]: [:, i, j] is the anatomy of i in the look of j; background
            where one of the two is missing.
        """
        images, available = self._checked_images(image, available)
        found, every = self.encode_all(image, available), range(len(images))
        anatomy, code = ([found[name][:, k] for k in every] for name in ("anatomy", "code"))
        drawn = self.drawings(anatomy, code, training=False)
        rows = [ops.stack([drawn[i, j] for j in every], axis=1) for i in every]
        there = available[:, :, None] * available[:, None, :]
        return ops.where(there[..., None, None, None] > 0, ops.stack(rows, axis=1), BACKGROUND)

    def fuse(self, anatomy, available=None):
        """The anatomies of whatever modalities there are as one of fixed size.

        Args:
            anatomy: (B, M, H, W, anatomy_channels), as from `encode_all`.
            available: (B, M) of 0 and 1, by default 1.

        Returns:
            (B, H, W, 3 * anatomy_channels): maximum, mean and minimum over the available ones of each channel; 0 where
            there is none.
        """
        c = self.config
        anatomy = self.checked("anatomy", anatomy, (c.num_modalities, *c.image_shape[:2], c.anatomy_channels))
        return fused(anatomy, self._checked_available(available, ops.shape(anatomy)[0]))

    def complete(self, image, target, available=None) -> dict:
        """A contrast of subjects, drawn from the mean of their anatomies.

        Args:
            image, available: as in `encode_all`.
            target: the modality wanted, by name, index or one-hot codes (B, M). Its look is that of the subject's own
                slice, or, where that is missing, the typical one of the training.

        Returns:
            {"image": (B, H, W, 1 + 2 * neighbours) in [-1, 1], "anatomy": (B, H, W, anatomy_channels), the mean}.
        """
        c = self.config
        _, available = self._checked_images(image, available)
        found = self.encode_all(image, available)
        if not is_code(target):
            wanted = modality_indices(target, c.modalities, int(image.shape[0]), "target")
            target = np.eye(c.num_modalities, dtype="float32")[wanted]
        target = ops.cast(checked_code(target, c.modalities), "float32")
        own = ops.where(available[:, :, None] > 0, found["code"], self.typical_codes.mean[None])
        code = ops.sum(target[:, :, None] * own, axis=1)
        _, mean, _ = ops.split(fused(found["anatomy"], available), 3, axis=-1)
        return {"image": self.decoder({"anatomy": mean, "code": code}, training=False), "anatomy": mean}

    def segment_with(self, segmentor, labels: Sequence[str]) -> None:
        """Takes a segmentor of fused anatomies for `segment` and for exports. It has no part in training.

        Args:
            segmentor: a `tfdisent.downstream.segmentation.Segmentor` of images as `fuse` gives them.
            labels: what its numbers are called, the background first.

        Raises:
            ValueError: it takes other images, or another number of labels.
        """
        c = self.config
        expected = (*c.image_shape[:2], 3 * c.anatomy_channels)
        if segmentor.image_shape != expected or segmentor.num_labels != len(labels) - 1:
            raise ValueError(
                f"Expected a segmentor of fused anatomies {expected} in {', '.join(labels)}; received one of images "
                f"{segmentor.image_shape} in {segmentor.num_labels} labels and the background."
            )
        self.downstream, self.label_names = segmentor, tuple(labels)

    def segment(self, image, available=None):
        """Probabilities of labels, from the fused anatomy of whatever modalities there are.

        Args:
            image, available: as in `encode_all`.

        Returns:
            (B, H, W, 1 + K), the background first.

        Raises:
            ValueError: no segmentor was given, see `segment_with`.
        """
        if self.downstream is None:
            raise ValueError("Expected a segmentor of fused anatomies; give one by segment_with(segmentor, labels).")
        fused_anatomy = self.fuse(self.encode_all(image, available)["anatomy"], available)
        return with_background(self.downstream.label_probabilities(fused_anatomy))

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape}); the first is default.

        With a segmentor its labels are among what `complete` gives, and `segment` gives them alone.
        """
        c = self.config
        image, available = (None, *self.batch_shapes()["image"]), (None, c.num_modalities)
        stack = {"image": image, "available": available}
        anatomy = (None, *c.image_shape[:2], c.anatomy_channels)

        def complete(image, available, target):
            made = self.complete(image, target, available)
            made["anatomy"] = with_background(made["anatomy"])
            return made | (segment(image, available) if self.downstream else {})

        def segment(image, available):
            return {"labels": self.segment(image, available)}

        def decode(anatomy, code):
            return {"image": self.decode(anatomy, code)}

        def cross_reconstruct(image, available):
            return {"image": self.cross_reconstruct(image, available)}

        def fuse(image, available):
            return {"anatomy": self.fuse(self.encode_all(image, available)["anatomy"], available)}

        return {
            "complete": (complete, {**stack, "target": available}),
            "encode": (self.encode_all, stack),
            "decode": (decode, {"anatomy": anatomy, "code": (None, c.code_dim)}),
            "cross_reconstruct": (cross_reconstruct, stack),
            "fuse": (fuse, stack),
            **({"segment": (segment, stack)} if self.downstream else {}),
        }

    def volume_io(self) -> dict:
        """What the default signature takes and gives when it is applied to volumes, as a model's card says it; nothing
        of a model whose images have neighbours, which `tfdisent.apply` does not know.
        """
        c = self.config
        if c.neighbours:
            return {}
        maps = {"anatomy": ["background", *(f"part_{k}" for k in range(c.anatomy_channels))]}
        maps |= {"labels": list(self.label_names)} if self.downstream else {}
        outputs = {name: {"kind": "labels", "names": names, "per_target": False} for name, names in maps.items()}
        return {
            "inputs": list(c.modalities),
            "outputs": {"image": {"kind": "image", "names": list(c.modalities)}, **outputs},
        }

    def _checked_images(self, image, available):
        """The slices of each modality, with background where it is missing, and what there is (B, M)."""
        inputs.check_shape("image", image, self.batch_shapes()["image"])
        available = self._checked_available(available, ops.shape(image)[0])
        image, available = self.shown({"image": ops.convert_to_tensor(image), "available": available})
        image = self.checked("image", image)  # after what is missing was left out
        return ops.split(image, self.config.num_modalities, axis=-1), available

    def _checked_available(self, available, size):
        if available is None:
            return ops.ones((size, self.config.num_modalities))
        return self.checked("available", available, (self.config.num_modalities,))


class TypicalCodes(keras.layers.Layer):
    """The mean code of each modality over training: of all codes at first, then of the last hundred batches or so."""

    def __init__(self, num_modalities: int, code_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.mean = self.add_weight((num_modalities, code_dim), "zeros", trainable=False, name="mean")
        self.count = self.add_weight((num_modalities,), "zeros", trainable=False, name="count")
        self.built = True

    def call(self, code, available, training: bool = False):
        """Takes codes (B, M, D) in, of what is available (B, M), in training; returns the means (M, D)."""
        if training:
            code = ops.cast(ops.stop_gradient(code), "float32")
            number = ops.sum(available, axis=0)  # (M,)
            batch_mean = ops.sum(available[..., None] * code, axis=0) / ops.maximum(number, 1.0)[:, None]
            there = ops.cast(number > 0, "float32")
            rate = there * ops.maximum(1.0 / (self.count + 1.0), 0.01)
            self.mean.assign(self.mean + rate[:, None] * (batch_mean - self.mean))
            self.count.assign(self.count + there)
        return self.mean.value


def pooled_anatomy(anatomy, pool_size: int):
    """f of Eq. 2: the maxima of windows of an anatomy (B, H, W, S), as vectors (B, S * H * W / pool_size ** 2)."""
    pooled = ops.max_pool(anatomy, pool_size, pool_size, data_format="channels_last")
    return ops.reshape(pooled, (ops.shape(pooled)[0], np.prod(pooled.shape[1:])))


def fused(anatomy, available):
    """Maximum, mean and minimum of anatomies (B, M, H, W, S) over what is available (B, M): (B, H, W, 3 * S)."""
    there = available[:, :, None, None, None] > 0
    number = ops.sum(available, axis=1)[:, None, None, None]
    highest = ops.max(ops.where(there, anatomy, -1.0), axis=1)  # anatomies are in [0, 1]
    mean = ops.sum(ops.where(there, anatomy, 0.0), axis=1) / ops.maximum(number, 1.0)
    lowest = ops.min(ops.where(there, anatomy, 2.0), axis=1)
    return ops.where(number > 0, ops.concatenate([highest, mean, lowest], axis=-1), 0.0)


# --- networks ---


def _identifier(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)


def _convolution(config: MarginConfig, features, modality, filters: int, kernel_size: int, strides: int = 1):
    if config.conditional:
        layer = CondConv2D(filters, kernel_size, strides, config.num_experts, config.routing)
        return layer([features, modality])
    return keras.layers.Conv2D(filters, kernel_size, strides, "same")(features)


def anatomy_encoder(config: MarginConfig, name: str = "anatomy_encoder") -> keras.Model:
    """The coding half of E^A: {"image": (B, H, W, slices), "modality": (B, M), "weight": (B,)} -> {"level_1": features,
    ..., "level_5", and "level_0" if the config has it}.
    """
    told = modality_inputs(config.num_modalities)
    image = h = keras.Input(config.image_shape, name="image")
    features = {}
    if config.level_0:
        for _ in range(2):
            h = _convolution(config, h, told["modality"], config.filters, 3)
            h = keras.layers.Activation("relu")(normalized_by_modality(h, told))
        h, features["level_0"] = image, h
    for level, factor in enumerate((1, 2, 4, 8, 8), 1):
        h = _convolution(config, h, told["modality"], factor * config.filters, 4, 2)
        h = features[f"level_{level}"] = keras.layers.Activation("relu")(normalized_by_modality(h, told))
    return keras.Model({"image": image, **told}, features, name=name)


def anatomy_decoder(config: MarginConfig) -> keras.Model:
    """The decoding half of E^A: features by level, "modality" and "weight" -> anatomy (B, H, W, anatomy_channels)."""
    height, width, _ = config.image_shape
    told = modality_inputs(config.num_modalities)
    factors = (1, 2, 4, 8, 8)
    levels = {
        f"level_{k}": keras.Input((height >> k, width >> k, factor * config.filters), name=f"level_{k}")
        for k, factor in enumerate(factors, 1)
    }
    levels |= {"level_0": keras.Input((height, width, config.filters), name="level_0")} if config.level_0 else {}
    h = levels[f"level_{LEVELS}"]
    for level in range(LEVELS - 1, 0 if not config.level_0 else -1, -1):
        h = keras.layers.UpSampling2D(2, interpolation="bilinear")(h)
        h = _convolution(config, h, told["modality"], factors[max(level, 1) - 1] * config.filters, 3)
        h = keras.layers.Activation("relu")(normalized_by_modality(h, told))
        h = keras.layers.Concatenate()([levels[f"level_{level}"], h])
    if not config.level_0:
        h = keras.layers.UpSampling2D(2, interpolation="bilinear")(h)
    h = _convolution(config, h, told["modality"], config.anatomy_channels, 3)
    anatomy = keras.layers.Softmax(dtype="float32")(h)
    return keras.Model({**levels, **told}, anatomy, name="anatomy_decoder")


def modality_encoder(config: MarginConfig, name: str = "modality_encoder") -> keras.Model:
    """E^M: {"image": (B, H, W, slices), "modality": (B, M)} -> code (B, code_dim)."""
    modality = keras.Input((config.num_modalities,), name="modality")
    image = h = keras.Input(config.image_shape, name="image")
    for factor in (1, 2, 4, 8, 8):
        h = _convolution(config, h, modality, factor * config.modality_filters, 3, 2)
        h = keras.layers.LeakyReLU(0.2)(h)
    h = keras.layers.Dense(2 * config.code_dim)(keras.layers.Flatten()(h))
    code = keras.layers.Dense(config.code_dim, dtype="float32")(keras.layers.LeakyReLU(0.2)(h))
    return keras.Model({"image": image, "modality": modality}, code, name=name)


def decoder(config: MarginConfig) -> keras.Model:
    """D: {"anatomy": (B, H, W, anatomy_channels), "code": (B, code_dim)} -> slices (B, H, W, 1 + 2 * neighbours)."""
    return spade_decoder(
        config.image_shape,
        anatomy_channels=config.anatomy_channels,
        code_dim=config.code_dim,
        filters=config.decoder_filters,
        hidden_filters=config.spade_filters,
        modulate=config.modulate,
    )
