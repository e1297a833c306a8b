"""Harmonisation of scanners that keeps the anatomy: generators whose features are renormalised by a segmentation.

Paper: Ren, Dey, Fishbaugh, Gerig: Segmentation-renormalized deep feature modulation for unpaired image harmonization,
IEEE TMI 2021, https://arxiv.org/abs/2102.06315; public code:
https://github.com/mengweiren/segmentation-renormalized-harmonization. In: slices from two scanners (domains), of
different subjects, with label maps of those that have one. Out: each slice as the other scanner would show it, its
label map, and the way back.

Symbols: x, y are slices of the domains X, the source, and Y, the target; s, q their label maps. G: X -> Y `to_target`,
F: Y -> X `to_source`, the generators; S, Q `segmentor_source`, `segmentor_target`; f, of each generator one,
`extractor`, from label probabilities to an embedding, from which each normalisation of the generator has its gains and
shifts; D_X, D_Y `discriminator_source`, `discriminator_target`. G(x) stands for G(x | f(S(x))), and so do the others.

Loss terms (the weight is a field of the config; each is a sum over both directions):

| term | what | weight | player | equation |
|---|---|---|---|---|
| g_adversarial | (D_Y(G(x)) - 1)^2, (D_X(F(y)) - 1)^2 | adversarial = 1 | generators | 2 |
| cycle | abs(F(G(x)) - x), abs(G(F(y)) - y) | lambda_cyc = 10 | generators | 4 |
| segmentation | cross entropy, by class weights, of S(x) to s, Q(y) to q | lambda_seg = 1 | generators | 3 |
| generated_segmentation | the same of Q(G(x)) to s, S(F(y)) to q | lambda_seg = 1 | generators | 3 |
| shading | abs(G(x') - G(x)), abs(F(y') - F(y)) | 0 | generators | ours |
| d_adversarial | 1/2 (1 - D_Y(y))^2 + 1/2 D_Y(G(x))^2, and so for D_X | 1 | discriminators | 2 |

The generators' player moves G, F, both extractors, S and Q in one step; the discriminators see the images that this
step made. A slice without a label map has no part in the two segmentation terms.

Where paper and code differ, or one is silent:

* lambda_seg is 1 on all four, as the paper says; the code has 0.5 on real and 0.05 on generated images.
* The generators' adversarial term is whole, as in the code; the paper halves it, which is adversarial_weight = 0.5.
* Eq. 1 has gamma as the gain; the code, and this, 1 + gamma, which is what trains from weights near zero.
* Residual blocks are normalise, activate, convolve, as in the code; the paper's figure has the reverse order.
* f sees probabilities, and pools them to 4 x 4, as the paper says; the code gives it logits, of any scale, and 7 x 7.
* Upsampling is by nearest neighbours, as in the code; the paper writes transposed convolutions.
* Eq. 3 is a mean over pixels of the class's weight times the cross entropy; the code divides by the sum of the weights.

Deviations, each a config field, off by default as in the paper and on in quick and small:

* `average_momentum` keeps averaged weights for evaluation and export.
* `level_0` gives generators features at full resolution, and the slice itself to begin with. Without the first a pixel
  is made of features of half the resolution, and fine anatomy is lost however little the scanners differ; without the
  second two of three trainings inverted all contrasts.
* `shading` shows the generators, and S and Q before them, slices under random smooth fields, x' and y', as coils shade
  them; images made of these have part in all terms above, the cycle ends at the slice without its shade, and the term
  of that name asks that a shade change nothing. The paper's scans had their bias fields removed before; without that
  the cycle wants them back, and a generator that removes them is punished.
"""

import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.layers import SpectralNormalization
from tfdisent.losses import absolute_error, least_squares, softmax_cross_entropy, weighted_mean
from tfdisent.messages import say
from tfdisent.networks import instance_norm, num_halvings, small_normal
from tfdisent.systems.slices import SliceConfig
from tfdisent.training.adversarial import Phase
from tfdisent.training.system import LinearDecay, System, falling, presets

DOMAINS = ("source", "target")
WAVES = 3  # cosines of a shade along each side, the constant among them


@dataclasses.dataclass(frozen=True, kw_only=True)
class HarmonizeConfig(SliceConfig):
    """Settings of the harmonisation; the defaults are the paper's on IXI, or, where it is silent, its code's.

    Those of training are described in `TrainingConfig`.

    Attributes:
        image_size: height and width in pixels, one number or two, multiples of 16 from 32.
        modality, modalities: the contrast that is harmonised, and those that the data have; the first one by default.
        domains: scanners of the data.
        source, target: which two of them; the first and the second by default.
        labels: names of the label maps' classes, the background first; two or more.
        class_weights: of Eq. 3, one for each class; none weigh all alike.
        filters, segmentor_filters, extractor_filters, discriminator_filters: channels of each network's first stage.
        embedding_dim: length of f.
        num_levels: halvings of the segmentation nets, fewer where the image cannot be halved as often.
        dropout: rate in the residual blocks of the segmentation nets' middle.
        adversarial_weight, cycle_weight, segmentation_weight, generated_segmentation_weight, shading_weight: of the
            terms.
        shading: of the fields under which slices are shown, in the logarithm of the intensity, their standard
            deviation; 0 shows slices as they are.
        level_0: the generators see and make images at full resolution too, and begin with the slice that they are
            given, see `full_resolution` and `beside_image`.
        learning_rate, discriminator_learning_rate: of Adam.
        learning_rate_decay: fraction of `steps`, the last ones, in which both fall to 0 on a line.
    """

    image_size: int | tuple[int, int] = 128
    normalize: str = "volume"
    modality: str = ""
    modalities: tuple[str, ...] = ("T1",)
    domains: tuple[str, ...] = ("source", "target")
    source: str = ""
    target: str = ""
    labels: tuple[str, ...] = ("background", "CSF", "grey matter", "white matter")
    class_weights: tuple[float, ...] = ()
    filters: int = 64
    segmentor_filters: int = 64
    extractor_filters: int = 64
    embedding_dim: int = 512
    discriminator_filters: int = 64
    num_levels: int = 7
    dropout: float = 0.5
    adversarial_weight: float = 1.0
    cycle_weight: float = 10.0
    segmentation_weight: float = 1.0
    generated_segmentation_weight: float = 1.0
    shading_weight: float = 0.0
    shading: float = 0.0
    level_0: bool = False
    learning_rate: float = 2e-4
    discriminator_learning_rate: float = 1e-4
    learning_rate_decay: float = 300 / 320
    average_momentum: float = 0.0
    batch_size: int = 4
    steps: int = 200_000

    FRACTIONS: ClassVar = (*SliceConfig.FRACTIONS, "dropout", "learning_rate_decay", "shading")
    DATA_DEPENDENT: ClassVar = ("modality", "source", "target", "class_weights")
    PRESETS: ClassVar = presets(
        quick={
            "image_size": 64,
            "filters": 8,
            "segmentor_filters": 8,
            "extractor_filters": 8,
            "embedding_dim": 64,
            "discriminator_filters": 16,
            "shading": 0.2,
            "shading_weight": 10.0,
            "level_0": True,
            "dropout": 0.0,
            "learning_rate": 1e-3,
            "discriminator_learning_rate": 5e-4,
            "learning_rate_decay": 0.5,
            "average_momentum": 0.99,
            "batch_size": 8,
            "steps": 1500,
        },
        small={"image_size": 128, "steps": 2500},
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("modalities", "domains", "labels", "class_weights"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name, known, place in (
            ("modality", self.modalities, 0),
            ("source", self.domains, 0),
            ("target", self.domains, 1),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, known[place] if place < len(known) else "")
        if self.modality not in self.modalities:
            raise ValueError(f"Expected a modality among {', '.join(self.modalities)}, received {self.modality!r}.")
        if self.source == self.target or not {self.source, self.target} <= set(self.domains):
            raise ValueError(
                f"Expected source and target to be two different domains of {', '.join(self.domains)}; received "
                f"{self.source!r} and {self.target!r}."
            )
        if len(self.labels) < 2:
            raise ValueError(f"Expected labels of two or more classes, the background first, received {self.labels}.")
        weights = self.class_weights
        if weights and (len(weights) != len(self.labels) or not all(w >= 0 for w in weights) or not any(weights)):
            raise ValueError(
                f"Expected class_weights of 0 or more for each of {', '.join(self.labels)}, received {weights}."
            )

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Names of the modalities, the domains and the classes."""
        found = {"modalities": manifest.modalities, "domains": manifest.domains, "labels": manifest.mask_labels}
        return {name: tuple(values) for name, values in found.items() if values}

    @classmethod
    def preparation(cls, dataset: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
        """As of other slices; brains have two scanners, and all that an audit asks about."""
        options = super().preparation(dataset, image_size)
        if dataset == "brain_phantom":
            options |= {"contrasts": ("T1",), "scanners": ("scanner_b", "scanner_a"), "tumour": 0.0, "lesions": 1.0}
            options |= {"mask": "tissue_and_pathology", "clean": True}
        return options

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError unless the data have two domains or more, and label maps of one channel."""
        if len(manifest.domains) < 2:
            raise ValueError(
                f"Expected data of two domains or more, received {manifest.dataset} with "
                f"{', '.join(manifest.domains) or 'no domains'}. Prepare data from two scanners, as brain_phantom, ixi "
                "or msseg."
            )
        if not manifest.mask_labels or manifest.mask_channels != 1:
            raise ValueError(
                f"Expected data with one label map for each slice, received {manifest.dataset} with "
                f"{manifest.mask_channels if manifest.mask_labels else 'none'}."
            )

    @property
    def num_classes(self) -> int:
        """Classes of the label maps, the background included."""
        return len(self.labels)

    @property
    def is_segmented(self) -> bool:
        """Whether there are segmentation nets: always, as they tell the generators the anatomy."""
        return True

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The rates, which fall."""
        return ("learning rates",) * bool(self.learning_rate_decay)


class Harmonize(System):
    """The system: its networks, what they are trained for, and the verbs.

    `fit` takes batches {"source", "target": (B, H, W, 1) in [-1, 1], "source_mask", "target_mask": (B, H, W) of class
    indices, "source_labelled", "target_labelled": (B,) of 0 and 1, whether there is a label map, by default 1}; other
    keys are ignored.

    Args:
        config: its settings; the paper's by default.
        seed: of what is drawn in training.
    """

    config_class = HarmonizeConfig
    optional_inputs = ("source_labelled", "target_labelled")

    def __init__(self, config: HarmonizeConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        self.make_networks()
        self.track_averages(self.translator, self.config.average_momentum)
        self.built = True

    def make_networks(self) -> None:
        """Networks for both domains; a generator and its extractor have the name of the domain that they make."""
        c = self.config
        self.make_generators()
        self.segmentors = {name: segmentor(c, f"segmentor_{name}") for name in DOMAINS} if c.is_segmented else {}
        self.discriminators = {name: discriminator(c, f"discriminator_{name}") for name in DOMAINS}

    def make_generators(self) -> None:
        """Both generators with their extractors."""
        c = self.config
        self.extractors = {name: extractor(c, f"extractor_to_{name}") for name in DOMAINS}
        self.generators = {name: generator(c, f"generator_to_{name}") for name in DOMAINS}

    @property
    def translator(self) -> list[keras.Model]:
        """All that is used after training: generators, their extractors, segmentation nets."""
        return [net for group in (self.generators, self.extractors, self.segmentors) for net in group.values()]

    # --- training ---

    def batch_shapes(self) -> dict[str, tuple]:
        """A slice and a label map of each domain, and whether there is one."""
        image = self.config.image_shape
        shapes = {name: image for name in DOMAINS} | {f"{name}_mask": image[:2] for name in DOMAINS}
        return shapes | {f"{name}_labelled": () for name in DOMAINS}

    def phases(self) -> list[Phase]:
        """Generators and segmentation nets together, then the discriminators on the images that they made."""
        return [
            Phase(self.generator_loss, self.translator, "generators"),
            Phase(self.discriminator_loss, list(self.discriminators.values()), "discriminators"),
        ]

    def term_weights(self) -> dict[str, float]:
        """Of all terms but d_adversarial."""
        c = self.config
        return {
            "g_adversarial": c.adversarial_weight,
            "cycle": c.cycle_weight,
            "segmentation": c.segmentation_weight,
            "generated_segmentation": c.generated_segmentation_weight,
            "shading": c.shading_weight,
        }

    def learning_rate(self, player: str):
        """A player's rate: constant, or falling to 0 on a line in the last steps."""
        c = self.config
        rate = c.learning_rate if player == "generators" else c.discriminator_learning_rate
        return falling(rate, c.learning_rate_decay, c.steps, LinearDecay)

    def stream(self, load, start_step: int):
        """Batches of both domains, each in an order of its own, so that slices are never paired."""
        c, rows = self.config, rows_by_domain(load, self.config)

        def of(name):
            examples = load("train", start_step=start_step, rows=rows[name])
            return examples.map(lambda batch: one_domain(batch, name, c))

        source, target = (of(name) for name in DOMAINS)
        return source.zip(source, target).map(lambda one, other: {**one, **other})

    def passes(self, batch: dict) -> list[dict]:
        """One pass, in which what the generators see may be shaded."""
        return [self.shaded(batch) if self.config.shading else batch]

    def shaded(self, batch: dict) -> dict:
        """Adds "source_shaded" and "target_shaded", (B, H, W, 1) from -1, above 1 where a shade is bright.

        A "source_shade" or "target_shade" that the batch has is taken for what is drawn, so that a test can inject it.
        """
        c, drawn = self.config, dict(batch)
        for name in DOMAINS:
            noise = keras.random.normal((ops.shape(batch[name])[0], WAVES**2 - 1), seed=self.seed_generator)
            shade = c.shading * shades(batch.get(f"{name}_shade", noise), c.image_shape)
            drawn[f"{name}_shaded"] = (batch[name] + 1.0) * ops.exp(shade) - 1.0
        return drawn

    def generator_loss(self, batch: dict, carried: dict):
        """Translates both domains there and back, and segments what is real and what is made (Eq. 2, 3 and 4)."""
        made, found = {}, {name: [] for name in self.term_weights()}
        for own, other in (DOMAINS, DOMAINS[::-1]):
            real, (truth, labelled) = batch[own], self.truth(batch, own)
            seen = batch.get(f"{own}_shaded", real)
            real_logits = self.logits(seen, own, training=True)
            fake = self.shown(self.translated(seen, real_logits, other, training=True), batch, own)
            if self.config.shading and self.config.shading_weight:
                plain = self.translated(real, self.logits(real, own, training=True), other, training=True)
                found["shading"].append(ops.mean(absolute_error(fake, self.shown(plain, batch, own))))
            fake_logits = self.logits(fake, other, training=True)
            back = self.shown(self.translated(fake, fake_logits, own, training=True), batch, own)
            scores = self.discriminators[other](fake, training=True)
            found["g_adversarial"].append(ops.mean(least_squares(scores, 1.0)))
            found["cycle"].append(ops.mean(absolute_error(back, real)))
            if self.segmentors:
                # What is made has the label map of what it was made from.
                for name, logits in (("segmentation", real_logits), ("generated_segmentation", fake_logits)):
                    found[name].append(weighted_mean(softmax_cross_entropy(logits, truth), labelled))
            made[other] = fake
        terms = {name: sum(parts) for name, parts in found.items() if parts}
        return self.weighted(terms), terms, made

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real slices of each domain against those made for it (Eq. 2)."""
        total = 0.0
        for name in DOMAINS:
            real = self.discriminators[name](batch[name], training=True)
            made = self.discriminators[name](carried[name], training=True)
            total += 0.5 * ops.mean(least_squares(real, 1.0)) + 0.5 * ops.mean(least_squares(made, 0.0))
        return total, {"d_adversarial": total}, {}

    def truth(self, batch: dict, domain: str):
        """One-hot label maps (B, H, W, K), times the class weights of Eq. 3; and which slices have one, (B,)."""
        c, mask = self.config, batch[f"{domain}_mask"]
        labelled = batch.get(f"{domain}_labelled")
        labelled = ops.ones(ops.shape(mask)[:1]) if labelled is None else ops.cast(labelled, "float32")
        weights = ops.convert_to_tensor(c.class_weights or [1.0] * c.num_classes, "float32")
        return ops.one_hot(ops.cast(mask, "int32"), c.num_classes, dtype="float32") * weights, labelled

    def shown(self, image, batch: dict, domain: str):
        """What the losses see of slices that are made of those of a domain: all of them."""
        return image

    def logits(self, image, domain: str, training: bool = False):
        """Of the classes (B, H, W, K), for slices (B, H, W, 1) of a domain."""
        return self.segmentors[domain](image, training=training)

    def translated(self, image, logits, to: str, training: bool = False):
        """Slices (B, H, W, 1) in the domain `to`, renormalised by what their logits (B, H, W, K) say."""
        # Probabilities: unlike logits, they have one scale.
        embedding = self.extractors[to](ops.softmax(logits), training=training)
        return self.generators[to]({"image": image, "embedding": embedding}, training=training)

    # --- verbs ---

    def call(self, given, training=False):
        """Slices of the source as the target shows them, (B, H, W, 1): what `predict` gives."""
        return self.harmonize(given["image"] if isinstance(given, dict) else given)["image"]

    def harmonize(self, image, to: str = "target") -> dict:
        """Slices as the other domain shows them.

        Args:
            image: (B, H, W, 1) in [-1, 1], of the domain that is not `to`.
            to: the domain wanted, "target" or "source" (the way back), or its name.

        Returns:
            {"image": (B, H, W, 1) in [-1, 1], "labels": (B, H, W, K) probabilities of the classes, which are those of
            the slice that was given}.

        Raises:
            ValueError: for an unknown domain.
        """
        other = self.domain(to)
        own = DOMAINS[1 - DOMAINS.index(other)]
        image = self.checked("source", image)
        logits = self.logits(image, own)
        return {"image": self.translated(image, logits, other), "labels": ops.softmax(logits)}

    def segment(self, image, domain: str = "source"):
        """Probabilities of the classes, (B, H, W, K), of slices (B, H, W, 1) in [-1, 1] of a domain."""
        return ops.softmax(self.logits(self.checked("source", image), self.domain(domain)))

    def domain(self, name: str) -> str:
        """ "source" or "target", of one of these or the domain's name; a ValueError for others."""
        c = self.config
        known = {"source": "source", "target": "target", c.source: "source", c.target: "target"}
        if name not in known:
            raise ValueError(f"Expected a domain among {', '.join(known)}; received {name!r}.")
        return known[name]

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape}); the first is default."""
        image = {"image": (None, *self.config.image_shape)}

        def back(image):
            return self.harmonize(image, "source")

        def segment_source(image):
            return {"labels": self.segment(image, "source")}

        def segment_target(image):
            return {"labels": self.segment(image, "target")}

        return {
            "harmonize": (self.harmonize, image),
            "back": (back, image),
            "segment_source": (segment_source, image),
            "segment_target": (segment_target, image),
        }

    def volume_io(self) -> dict:
        """What the default signature takes and gives when it is applied to volumes, as a model's card says it."""
        return {
            "inputs": [self.config.modality],
            "outputs": {
                "image": {"kind": "image", "names": [self.config.modality]},
                "labels": {"kind": "labels", "names": list(self.config.labels)},
            },
        }


# --- shades ---


def shades(coefficients, image_shape: tuple[int, int, int]):
    """Smooth fields of mean 0, as logarithms of bias fields are: sums of products of the lowest cosines.

    Args:
        coefficients: (B, WAVES^2 - 1), of the products, those of the first cosine along the rows first; where they are
            standard normal, so is the field's variance 1 in the mean.
        image_shape: height H, width W and channels of the images.

    Returns:
        (B, H, W, 1)
    """
    height, width, _ = image_shape
    rows, columns = (
        np.sqrt([1.0] + [2.0] * (WAVES - 1)) * np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(WAVES)))
        for n in (height, width)
    )
    products = np.einsum("ik,jl->klij", rows, columns).reshape(WAVES**2, -1)[1:] / np.sqrt(WAVES**2 - 1)
    field = ops.matmul(coefficients, ops.convert_to_tensor(products.astype("float32")))
    return ops.reshape(field, (-1, height, width, 1))


# --- data ---


def rows_by_domain(load, config: HarmonizeConfig) -> dict[str, np.ndarray]:
    """{"source", "target": places of the domain's examples in the training split, those that have the modality}.

    A domain of one subject is warned of.

    Raises:
        ValueError: if a domain has none, or a subject is in both.
    """
    channel, domain, subject = config.modalities.index(config.modality), [], []
    for batch in load("train", columns=("domain", "available", "subject_index")):
        there = np.asarray(batch["available"])[:, channel] > 0 if "available" in batch else True
        domain.append(np.where(there, np.asarray(batch["domain"]), -1))
        subject.append(np.asarray(batch["subject_index"]))
    domain, subject = np.concatenate(domain), np.concatenate(subject)
    names = {name: getattr(config, name) for name in DOMAINS}
    rows = {kind: np.flatnonzero(domain == config.domains.index(name)) for kind, name in names.items()}
    for kind, found in rows.items():
        if not len(found):
            raise ValueError(
                f"Expected training slices of {config.modality} of the {kind} {names[kind]}; there are none."
            )
        if len(np.unique(subject[found])) == 1:
            say(
                f"    warning: one training subject on {names[kind]}, the {kind}: what only this one has is learned as "
                "the look of the scanner. Add others, or take the result for what it is."
            )
    both = np.intersect1d(*(subject[found] for found in rows.values()))
    if len(both):
        raise ValueError(
            f"Expected each training subject on one scanner, received {len(both)} on both {config.source} and "
            f"{config.target}: the pairs, which real data do not have, would be learned. Split the data by subject; of "
            "the phantoms with --data=paired=test."
        )
    return rows


def one_domain(batch: dict, name: str, config: HarmonizeConfig) -> dict:
    """Of a batch of all modalities, what `fit` takes of a domain, by its keys."""
    channel = config.modalities.index(config.modality)
    found = {name: batch["image"][..., channel : channel + 1], f"{name}_mask": batch["mask"][..., 0]}
    return found | ({f"{name}_labelled": batch["labelled"]} if "labelled" in batch else {})


# --- networks ---


def extractor(config: HarmonizeConfig, name: str = "extractor") -> keras.Model:
    """f: label probabilities (B, H, W, K) -> embedding (B, embedding_dim)."""
    height, width, _ = config.image_shape
    labels = h = keras.Input((height, width, config.num_classes), name="labels")
    for factor in (1, 2, 4, 8):
        h = convolution(h, factor * config.extractor_filters)
        h = keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(h))
    pools = [max(1, side // 4) for side in h.shape[1:3]]  # to 4 x 4, or as many as there are
    h = keras.layers.Flatten()(keras.layers.AveragePooling2D(pools)(h))
    h = _dropped(keras.layers.ReLU()(_dense(h, config.embedding_dim)), config.dropout, seed=0)
    return keras.Model(labels, _dense(h, config.embedding_dim), name=name)


def generator(config: HarmonizeConfig, name: str = "generator") -> keras.Model:
    """G: {"image": (B, H, W, 1), "embedding": (B, embedding_dim)} -> image (B, H, W, 1) in [-1, 1]."""
    filters = config.filters
    image = keras.Input(config.image_shape, name="image")
    embedding = keras.Input((config.embedding_dim,), name="embedding")

    def block(h, depth):
        return _renormalized_block(h, embedding, depth)

    h = keras.layers.ReLU()(_halved(image, filters))
    h = x0 = block(h, 2 * filters)
    h = x1 = block(_halved(h, 2 * filters), 4 * filters)
    h = x2 = block(_halved(h, 4 * filters), 8 * filters)
    h = keras.layers.UpSampling2D(2)(block(_halved(h, 8 * filters), 8 * filters))
    h = block(block(h, 8 * filters), 8 * filters)
    for skip, depth in ((x2, 4), (x1, 2), (x0, 1)):
        h = block(keras.layers.Concatenate()([h, skip]), depth * filters)
        h = keras.layers.UpSampling2D(2)(h)
    if config.level_0:
        h = block(keras.layers.Concatenate()([h, full_resolution(image, filters)]), filters)
    h = convolution(keras.layers.LeakyReLU(0.2)(h), 1)
    h = beside_image(h, image) if config.level_0 else h
    made = keras.layers.Activation("tanh", dtype="float32")(h)
    return keras.Model({"image": image, "embedding": embedding}, made, name=name)


def full_resolution(image, filters: int):
    """Features (B, H, W, filters) of an image (B, H, W, C), by two convolutions that no halving follows."""
    h = image
    for _ in range(2):
        h = keras.layers.LeakyReLU(0.2)(instance_norm()(convolution(h, filters)))
    return h


def beside_image(made, image):
    """What is made before its tanh (B, H, W, 1) and the image: a generator begins with the contrast that it is given.

    Begun from noise it may as well invert all contrasts, which neither the cycle nor the discriminators see.
    """
    return made + 2.0 * image


def renormalized(features, embedding):
    """Eq. 1: features (B, H, W, C), normalised, times 1 + gamma and plus beta, both linear in the embedding (B, E)."""
    channels = features.shape[-1]
    gamma, beta = (keras.layers.Reshape((1, 1, channels))(_dense(embedding, channels)) for _ in range(2))
    return instance_norm()(features) * (1.0 + gamma) + beta


def _renormalized_block(features, embedding, filters: int):
    channels, h = features.shape[-1], features
    for depth in (min(channels, filters), filters):
        h = convolution(keras.layers.LeakyReLU(0.2)(renormalized(h, embedding)), depth)
    if channels != filters:
        features = renormalized(features, embedding)
        features = keras.layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=small_normal())(features)
    return keras.layers.Add()([features, h])


def segmentor(config: HarmonizeConfig, name: str = "segmentor") -> keras.Model:
    """S: slices (B, H, W, 1) -> logits (B, H, W, K): a U-Net of pix2pix's with a residual block before each halving."""
    return residual_unet(config, config.num_classes, name)


def residual_unet(config: HarmonizeConfig, num_outputs: int, name: str) -> keras.Model:
    """Slices (B, H, W, 1) -> (B, H, W, num_outputs), linear."""
    height, width, _ = config.image_shape
    levels = num_halvings(height, width, at_most=config.num_levels)
    widths = [config.segmentor_filters * min(2**level, 8) for level in range(levels)]
    image = h = keras.Input(config.image_shape, name="image")
    skips = []
    for level, depth in enumerate(widths):
        h = keras.layers.LeakyReLU(0.2)(h) if level else h
        h = _residual_block(h, config.dropout if 3 < level < levels - 1 else 0.0, seed=level)
        h = _halved(h, depth)
        h = instance_norm()(h) if 0 < level < levels - 1 else h
        skips.append(h)
    for level in range(levels - 2, -1, -1):
        h = _doubled(keras.layers.ReLU()(h), widths[level])
        h = keras.layers.Concatenate()([skips[level], instance_norm()(h)])
    h = _doubled(keras.layers.ReLU()(h), num_outputs)
    logits = keras.layers.Activation("linear", dtype="float32")(h)
    return keras.Model(image, logits, name=name)


def _residual_block(features, dropout: float, seed: int):
    depth, h = features.shape[-1], features
    for last in (False, True):
        h = ops.pad(h, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
        h = instance_norm()(keras.layers.Conv2D(depth, 3, kernel_initializer=small_normal())(h))
        if not last:
            h = _dropped(keras.layers.ReLU()(h), dropout, seed)
    return keras.layers.Add()([features, h])


def discriminator(config: HarmonizeConfig, name: str = "discriminator") -> keras.Model:
    """D: slices (B, H, W, 1) -> scores (B, H / 4 - 2, W / 4 - 2, 1), each of a patch of 34 x 34 pixels."""
    image = h = keras.Input(config.image_shape, name="image")
    for factor, strides in ((1, 2), (2, 2), (4, 1)):
        depth = factor * config.discriminator_filters
        layer = keras.layers.Conv2D(depth, 4, strides, kernel_initializer=small_normal())
        h = SpectralNormalization(layer)(keras.layers.ZeroPadding2D(1)(h))
        h = keras.layers.LeakyReLU(0.2)(h)
    last = keras.layers.Conv2D(1, 4, kernel_initializer=small_normal(), dtype="float32")
    return keras.Model(image, last(keras.layers.ZeroPadding2D(1)(h)), name=name)


def _dropped(features, rate: float, seed: int):
    # With a seed of its own the mask's state is saved, and a resumed run continues exactly.
    return keras.layers.Dropout(rate, seed=seed)(features) if rate else features


def _dense(features, units: int):
    return keras.layers.Dense(units, kernel_initializer=small_normal())(features)


def convolution(features, filters: int):
    """Features (B, H, W, C) -> (B, H, W, filters), linear, of windows of 3 x 3."""
    return keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=small_normal())(features)


def _halved(features, filters: int):
    return keras.layers.Conv2D(filters, 4, 2, "same", kernel_initializer=small_normal())(features)


def _doubled(features, filters: int):
    return keras.layers.Conv2DTranspose(filters, 4, 2, "same", kernel_initializer=small_normal())(features)
