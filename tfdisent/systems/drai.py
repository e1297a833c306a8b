"""DRAI: dual adversarial inference with disentanglement constraints.

Paper: Havaei, Mao, Wang, Lao: Conditional generation of medical images via disentangled adversarial inference, Medical
Image Analysis 2021, https://arxiv.org/abs/2012.04764. In: an image x and its condition t (class, attributes). Out: a
content code c, which carries what t describes, and a style code z, which carries the rest; and a generator of
images from both. Without public code to follow, layer tables are those of the families that the paper builds
on (StackGAN-v2 for generator, condition encoder and image discriminators; ALI for Gaussian encoders and joint
discriminators).

Symbols: E_phi `condition_encoder`, q(c|t); G_x `generator`; G_z `style_encoder`, q(z|x); G_c `content_encoder`, q(c|x);
F_c, F_z `content_from_style`, `style_from_content`. x~ = G_x(z, c) is `generated`, x^ = G_x(z^, c^)
`reconstructed`, x' the `transformed` image, t_wrong the `mismatched` condition.

Loss terms (LSGAN form, all means over batch and dimensions, weight 1 unless the config says otherwise):

| term | what | equation |
|---|---|---|
| d_image, g_image | D_x: x real, x~ generated | 1 |
| d_condition, g_condition | D_xt: (x, t) real; (x, t_wrong) and (x~, t) not, a half each | 1 |
| d_style, g_style | D_xz: (x, z^) against (x~, z); the encoder and the generator fool both sides | 7 |
| d_content, g_content | D_xc: (x, c^) against (x~, c), likewise | 7 |
| d_cycle, g_cycle | D_cycle: (x, x) real, (x, x^) not | 8 |
| code_cycle | codes of x~ return: abs(z' - z) + abs(c' - c) | 9 |
| gradient_reversal | F_c predicts c^ from z^ and F_z z^ from c^; their gradient is reversed in the encoders | 11 |
| content_invariance, style_change | abs(c^ - c^'), and -abs(z^ - z^') | 15 |
| kl_style, kl_content, kl_condition | q(z|x), q(c|x), q(c|t) against N(0, I) | 16 |

One step: encoders, generator and regressors, then all discriminators on the images that those made, all on x; with
`train_twice` the same again on T(x), as in Sec. III-G. The players alternate either way; in this order the generator,
most of a step's work, runs once for both.

Deviations, each a config field: `style_margin` bounds the style term of Eq. 15, which has no lower bound, by a hinge;
`kl_weight`; `r1_weight` adds the term `r1` to the discriminators' loss, half the squared norm of each one's gradient in
its real images, summed (Mescheder, Geiger, Nowozin: Which training methods for GANs do actually converge?, ICML 2018,
Eq. 9), which keeps them smooth; `tone_jitter` adds tone and brightness to the transformations of Eq. 15, and
`log_variance_bound` bounds what the encoders say of variances; `clip_norm` bounds gradients, whose rare spikes have
ended a training in NaN; `train_twice=False` halves the cost of a step when the data are already drawn in a random
symmetry. Gradient reversal and Eq. 15 use the posterior means, and the reversal's targets carry no gradient: encoders
could otherwise win by rescaling them. D_xt embeds t by itself, so that the generator cannot win through E_phi.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from tfdisent.layers import GradientReversal, UpsampleConv2D
from tfdisent.losses import absolute_error, gaussian_kl, least_squares
from tfdisent.networks import INITIALIZERS
from tfdisent.training.adversarial import Phase, input_gradient, num_replicas
from tfdisent.training.system import System, TrainingConfig, falling, presets

SLOPE = 0.2  # of every leaky ReLU, as in StackGAN-v2 and DCGAN

# Networks of each player, in the order in which its optimizer holds their weights; a baseline has some of them.
GENERATORS = ("condition_encoder", "generator", "style_encoder", "content_encoder")
DISCRIMINATORS = (
    "image_discriminator",
    "condition_discriminator_trunk",
    "condition_discriminator_head",
    "style_discriminator",
    "content_discriminator",
    "cycle_discriminator",
)


# Preset `quick`, to see the effect in minutes on two CPU cores.
QUICK = {
    "image_size": 32,
    "content_dim": 32,
    "style_dim": 16,
    "generator_filters": 16,
    "encoder_filters": 16,
    "discriminator_filters": 16,
    "condition_units": 32,
    "code_units": 128,
    "joint_units": 256,
    "regressor_units": 128,
    "batch_norm": False,
    "dropout": 0.0,
    "initializer": "he_normal",
    "kl_weight": 0.1,
    "code_cycle_weight": 2.0,
    "style_margin": 0.7,
    "train_twice": False,
    "augmentation": "symmetry",
    "average_momentum": 0.995,
    "learning_rate": 6e-4,
    "clip_norm": 50.0,
    "batch_size": 32,
    "steps": 3600,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DRAIConfig(TrainingConfig):
    """Settings of DRAI; the defaults are the paper's, or, where it is silent, those of the networks that it builds on.

    Those of training are described in `TrainingConfig`.

    Attributes:
        image_size: height and width in pixels, a power of two from 16.
        channels: 1 for grey, 3 for colour.
        num_conditions: length of the condition vector t.
        content_dim, style_dim: length of c and z.
        generator_filters: channels of the generator's last stage; doubled at each coarser one.
        encoder_filters, discriminator_filters: channels of the first stage; doubled at each coarser one.
        max_filters: channels that no stage exceeds, or None; without it large images take hundreds of millions of
            weights.
        condition_units: width of the condition's embedding in D_xt.
        code_units, joint_units: width of the joint discriminators' code path and of their joint layers.
        regressor_units: width of F_c and F_z.
        batch_norm: batch normalisation in encoders and discriminators (the generator always has it).
        dropout: rate in the joint discriminators.
        initializer: "normal" for N(0, 0.02), or "he_normal".
        kl_weight: weight of the three KL terms.
        gradient_reversal_weight, self_supervision_weight, code_cycle_weight: weights of Eq. 11, 15 and 9. All three 0
            is the baseline DAI.
        reading_noise: standard deviation of the noise under which cInfoGAN and D-cInfoGAN read the codes of generated
            images, in [-1, 1]; their encoders see no real ones. DRAI's see both, and no noise.
        code_likelihood: -log Q of these two: the "l1" distance of the encoder's mean, or that of a "gaussian" with its
            variance too.
        discriminator_rate_factor: the discriminators' learning rate over `learning_rate`.
        learning_rate_decay: fraction of `steps`, the last ones, in which both rates fall to 0 on half a cosine.
        r1_weight: gamma, of the gradient penalty on real images; only without `batch_norm`.
        tone_jitter: how far T(x) of Eq. 15 also differs from x in brightness and in each channel's gain, as a share of
            the range of intensities and of the gain; 0 for not at all.
        log_variance_bound: log variances lie between -bound and bound, by bound * tanh(value / bound); None for no
            bound.
        style_margin: bound of the style term of Eq. 15, or None for the paper's unbounded one.
        train_twice: train on each batch and then on its transformed version.
        balance_classes: show images of rare classes several times in an epoch, as Sec. III-A balances HAM10000.
    """

    image_size: int = 64
    channels: int = 3
    num_conditions: int = 3
    content_dim: int = 128
    style_dim: int = 100
    generator_filters: int = 64
    encoder_filters: int = 64
    discriminator_filters: int = 64
    max_filters: int | None = None
    condition_units: int = 128
    code_units: int = 512
    joint_units: int = 1024
    regressor_units: int = 256
    batch_norm: bool = True
    dropout: float = 0.2
    initializer: str = "normal"
    kl_weight: float = 1.0
    gradient_reversal_weight: float = 1.0
    self_supervision_weight: float = 1.0
    code_cycle_weight: float = 1.0
    reading_noise: float = 0.1
    code_likelihood: str = "l1"
    r1_weight: float = 0.0
    tone_jitter: float = 0.0
    log_variance_bound: float | None = None
    style_margin: float | None = None
    train_twice: bool = True
    learning_rate: float = 1e-5
    discriminator_rate_factor: float = 1.0
    learning_rate_decay: float = 0.0
    augmentation: str = "flip,crop"
    balance_classes: bool = True
    steps: int = 100_000

    PRESETS: ClassVar = presets(QUICK, small={"image_size": 64, "generator_filters": 12, "steps": 3200})
    FRACTIONS: ClassVar = (*TrainingConfig.FRACTIONS, "dropout", "learning_rate_decay", "tone_jitter")
    CHOICES: ClassVar = {"initializer": INITIALIZERS, "code_likelihood": ("l1", "gaussian")}

    def __post_init__(self):
        super().__post_init__()
        size = self.image_size
        if size < 16 or size & (size - 1):
            raise ValueError(f"Expected image_size to be a power of two from 16, received {size}.")
        if self.max_filters is not None and not (isinstance(self.max_filters, int) and self.max_filters >= 1):
            raise ValueError(f"Expected max_filters to be a whole number >= 1 or None, received {self.max_filters}.")
        if not 0 < self.discriminator_rate_factor < math.inf:
            raise ValueError(f"Expected discriminator_rate_factor > 0, received {self.discriminator_rate_factor}.")
        if self.r1_weight and self.batch_norm:
            raise ValueError(
                f"Expected batch_norm=False with r1_weight={self.r1_weight}: with batch normalisation an image's score "
                "depends on its whole batch, and TensorFlow's second derivatives of batch statistics are not right."
            )
        if self.log_variance_bound is not None and not 0 < self.log_variance_bound < math.inf:
            raise ValueError(f"Expected log_variance_bound > 0 or None, received {self.log_variance_bound}.")
        if not 0 <= self.reading_noise < math.inf:
            raise ValueError(f"Expected reading_noise to be finite, 0 or more, received {self.reading_noise}.")

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Channels of the images and length of the condition."""
        return {"channels": manifest.image_shape[-1], "num_conditions": len(manifest.condition_names)}

    @classmethod
    def preparation(cls, dataset: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
        """Images are prepared at the size that they are trained at."""
        return {"size": image_size}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if images have no condition, from which content is inferred, or no class."""
        if not manifest.condition_names or not manifest.labels:
            raise ValueError(
                f"Expected images with conditions and classes, received {manifest.dataset}, which has none; train on "
                "one that has, as skin_phantom, nodule_phantom, ham10000 or lidc."
            )

    @property
    def num_stages(self) -> int:
        """Halvings from the image to 4 x 4."""
        return int(math.log2(self.image_size)) - 2

    @property
    def scheduled(self) -> tuple[str, ...]:
        """The rates where they fall."""
        return ("learning rates",) * bool(self.learning_rate_decay)

    def width(self, filters: int, stage: int) -> int:
        """Channels of a network with so many in its first stage, the finest, at another one."""
        width = filters * 2**stage
        return width if self.max_filters is None else min(width, self.max_filters)


class ContentStyleModel(System):
    """What DRAI and the methods that it is compared with have in common: settings, random draws, and the verbs.

    A subclass makes its networks, under the names in `GENERATORS` and `DISCRIMINATORS`, and defines `generator_loss`
    and `discriminator_loss`. `fit` takes batches {"image": (B, H, W, C) in [-1, 1], "condition": (B, K)}; other keys
    are ignored.

    Args:
        config: its settings; the paper's by default.
        seed: of the noise drawn in training.
    """

    config_class = DRAIConfig
    codes = ("content", "style")  # what `encode` infers

    # --- training: what all of them share ---

    def batch_shapes(self) -> dict[str, tuple]:
        """Images and their conditions: what a batch holds, and x and y of `fit(x, y)`."""
        config = self.config
        shape = (config.image_size, config.image_size, config.channels)
        return {"image": shape, "condition": (config.num_conditions,)}

    def networks(self, names: Sequence[str]) -> list[keras.Model]:
        """Those of the named networks that this model has."""
        return [getattr(self, name) for name in names if hasattr(self, name)]

    def phases(self) -> list[Phase]:
        """Generator and encoders, then all discriminators on the images just made."""
        return [
            Phase(self.generator_loss, self.networks(GENERATORS), "generators"),
            Phase(self.discriminator_loss, self.networks(DISCRIMINATORS), "discriminators"),
        ]

    def term_weights(self) -> dict[str, float]:
        """Of the terms with a weight in the config."""
        c = self.config
        return {
            **dict.fromkeys(("kl_style", "kl_content", "kl_condition"), c.kl_weight),
            **dict.fromkeys(("code_cycle", "style_code", "content_code"), c.code_cycle_weight),
            "gradient_reversal": c.gradient_reversal_weight,
            **dict.fromkeys(("content_invariance", "style_change"), c.self_supervision_weight),
            "r1": c.r1_weight,
        }

    def learning_rate(self, player: str):
        """The rate of generator and encoders, or of the discriminators: constant, or falling at the end of training."""
        c = self.config
        factor = c.discriminator_rate_factor if player == "discriminators" else 1.0
        return falling(factor * c.learning_rate, c.learning_rate_decay, c.steps)

    def passes(self, batch: dict) -> list[dict]:
        """The batch with its random draws, and with `train_twice` its transformed version with draws of its own."""
        first = self.draw(batch)
        if not self.config.train_twice:
            return [first]
        second = {
            **first,
            **self.draw({"image": first["transformed"], "condition": first["condition"]}),
        }
        return [first, {**second, "transformed": first["image"]}]

    def draw(self, batch: dict) -> dict:
        """Adds what a step draws at random; a key that the batch already has is kept, so that a test can inject it."""
        config, seed = self.config, self.seed_generator
        image, condition = batch["image"], ops.cast(batch["condition"], "float32")
        size = ops.shape(image)[0]
        mismatched, has_mismatch = mismatched_conditions(condition, keras.random.uniform((size, size), seed=seed))
        which = keras.random.randint((size,), 0, len(TRANSFORMATIONS), seed=seed)
        drawn = {
            "style": keras.random.normal((size, config.style_dim), seed=seed),
            "content_noise": keras.random.normal((size, config.content_dim), seed=seed),
            "inferred_style_noise": keras.random.normal((size, config.style_dim), seed=seed),
            "inferred_content_noise": keras.random.normal((size, config.content_dim), seed=seed),
            "transformed": transform(image, which),
            "mismatched": mismatched,
            "has_mismatch": has_mismatch,
        }
        if config.tone_jitter:
            noise = keras.random.uniform((size, config.channels + 1), -1.0, 1.0, seed=seed)
            drawn["transformed"] = toned(drawn["transformed"], config.tone_jitter * batch.get("tone", noise))
        return {**drawn, **batch, "condition": condition}

    def infer_condition(self, condition, noise):
        """Samples c ~ q(c|t); returns (c, mean, log_variance)."""
        mean, log_variance = self.condition_encoder(condition, training=True)
        return sample(mean, log_variance, noise), mean, log_variance

    def condition_score(self, image, condition):
        """D_xt's score (B, 1) of images with conditions."""
        features = self.condition_discriminator_trunk(image, training=True)
        return self.condition_discriminator_head([features, condition], training=True)

    def decode_both(self, prior, inferred):
        """x~ and x^ in one pass: batch statistics are then those of all that the generator is asked for."""
        style, content = (ops.concatenate([a, b]) for a, b in zip(prior, inferred, strict=True))
        return ops.split(self.generator([style, content], training=True), 2)

    # --- verbs ---

    def call(self, inputs, training=False):
        """Reconstruction of images from their own posterior means, (B, H, W, C) in [-1, 1].

        Args:
            inputs: images (B, H, W, C) in [-1, 1], or a batch with them as "image".
        """
        codes = self.encode(inputs["image"] if isinstance(inputs, Mapping) else inputs)
        return self.decode(codes["content"], codes["style"])

    def encode(self, image) -> dict:
        """Content and style of images.

        Args:
            image: (B, H, W, C) in [-1, 1].

        Returns:
            {"content": (B, content_dim), "style": (B, style_dim)}, the posterior means.
        """
        image = self.checked("image", image)
        style, _ = self.style_encoder(image, training=False)
        content, _ = self.content_encoder(image, training=False)
        return {"content": content, "style": style}

    def content_of(self, condition, noise=None):
        """Content (B, content_dim) of conditions (B, num_conditions): the mean of q(c|t), or a sample by noise."""
        mean, log_variance = self.condition_encoder(self.checked("condition", condition), training=False)
        return mean if noise is None else sample(mean, log_variance, ops.cast(noise, "float32"))

    def decode(self, content, style):
        """Images (B, H, W, C) in [-1, 1] from content (B, content_dim) and style (B, style_dim)."""
        return self.generator([ops.cast(style, "float32"), ops.cast(content, "float32")], training=False)

    def generate(
        self, condition, style=None, content_noise=None, seed: int | None = None, truncation: float | None = None
    ):
        """Images that carry a condition.

        Args:
            condition: (B, num_conditions).
            style: (B, style_dim); drawn from N(0, I) by default.
            content_noise: (B, content_dim), moves c within q(c|t); drawn from N(0, I) by default, zeros for its mean.
            seed: of the draws.
            truncation: what is drawn stays within so many standard deviations, for more usual images in the place of
                more various ones; None for all of the distribution.

        Returns:
            (B, H, W, C) in [-1, 1].
        """
        condition = self.checked("condition", condition)
        size = ops.shape(condition)[0]
        if style is None or content_noise is None:
            generator = keras.random.SeedGenerator(seed)  # not where both are given, as in an export
        if style is None:
            style = standard_normal((size, self.config.style_dim), generator, truncation)
        if content_noise is None:
            content_noise = standard_normal((size, self.config.content_dim), generator, truncation)
        return self.decode(self.content_of(condition, content_noise), style)

    def hybrid(self, style_image, content_image=None, condition=None):
        """Images with the style of one image and the content of another, or of a condition (Sec. II-F).

        Args:
            style_image: (B, H, W, C) in [-1, 1].
            content_image: likewise; or
            condition: (B, num_conditions), whose mean content is used.

        Returns:
            (B, H, W, C) in [-1, 1].
        """
        if (content_image is None) == (condition is None):
            raise ValueError("Expected exactly one of content_image and condition as the source of content.")
        style, _ = self.style_encoder(self.checked("image", style_image), training=False)
        if condition is None:
            content, _ = self.content_encoder(self.checked("image", content_image), training=False)
        else:
            content = self.content_of(condition)
        return self.decode(content, style)

    def interpolate(self, image_a, image_b, steps: int = 8, code: str = "both"):
        """Images on the straight line from the codes of one image to those of another (Fig. 18).

        Args:
            image_a, image_b: (B, H, W, C) in [-1, 1].
            steps: images on the line, both ends included, at least 2.
            code: which code moves, "content", "style" or "both"; the other stays that of `image_a`.

        Returns:
            (B, steps, H, W, C) in [-1, 1].
        """
        if code not in ("both", "content", "style"):
            raise ValueError(f"Expected code 'both', 'content' or 'style', received {code!r}.")
        if steps < 2:
            raise ValueError(f"Expected at least 2 steps, both ends included, received {steps}.")
        a, b = self.encode(image_a), self.encode(image_b)
        images = []
        for weight in np.linspace(0.0, 1.0, steps):
            mixed = {name: a[name] + (weight if code in ("both", name) else 0.0) * (b[name] - a[name]) for name in a}
            images.append(self.decode(mixed["content"], mixed["style"]))
        return ops.stack(images, axis=1)

    def retrieve(self, query, database, by: str = "content", top: int = 3):
        """The nearest images of a database by one code (Fig. 14, 15).

        Args:
            query: (Q, H, W, C) in [-1, 1].
            database: (N, H, W, C) in [-1, 1].
            by: "content" or "style".
            top: how many, at most N.

        Returns:
            (indices, distances), each (Q, top), nearest first; distance is the mean absolute error between the codes.
        """
        if by not in self.codes:
            known = " or ".join(map(repr, self.codes))
            raise ValueError(f"Expected by={known}, received {by!r}.")
        if not 1 <= top <= len(database):
            raise ValueError(f"Expected top from 1 to the {len(database)} images of the database, received {top}.")
        query_codes, codes = self.encode(query)[by], self.encode(database)[by]
        distances = ops.mean(ops.abs(query_codes[:, None] - codes[None]), axis=-1)
        values, indices = ops.top_k(-distances, top)
        return indices, -values

    def signatures(self) -> dict:
        """What is exported: name -> (function to a dict of tensors, {argument: shape}); the first is default."""
        config = self.config
        image = (None, config.image_size, config.image_size, config.channels)
        condition, style = (None, config.num_conditions), (None, config.style_dim)

        def generate(condition, style, content_noise):
            return {"image": self.generate(condition, style, content_noise)}

        def hybrid(content_image, style_image):
            return {"image": self.hybrid(style_image, content_image)}

        return {
            "generate": (
                generate,
                {"condition": condition, "style": style, "content_noise": (None, config.content_dim)},
            ),
            "encode": (self.encode, {"image": image}),
            "hybrid": (hybrid, {"content_image": image, "style_image": image}),
        }


class DRAI(ContentStyleModel):
    """The system: its networks, and what they are trained for."""

    def __init__(self, config: DRAIConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.condition_encoder = condition_encoder(config)
        self.generator = generator(config)
        self.style_encoder = image_encoder(config, config.style_dim, "style_encoder")
        self.content_encoder = image_encoder(config, config.content_dim, "content_encoder")
        self.content_from_style = code_regressor(config, config.style_dim, config.content_dim, "content_from_style")
        self.style_from_content = code_regressor(config, config.content_dim, config.style_dim, "style_from_content")
        self.image_discriminator = image_discriminator(config, config.channels, "image_discriminator")
        self.condition_discriminator_trunk, self.condition_discriminator_head = condition_discriminator(config)
        self.style_discriminator = joint_discriminator(config, config.style_dim, "style_discriminator")
        self.content_discriminator = joint_discriminator(config, config.content_dim, "content_discriminator")
        self.cycle_discriminator = image_discriminator(config, 2 * config.channels, "cycle_discriminator")
        self.reverse_gradient = GradientReversal()
        self.track_averages(self.networks(GENERATORS), config.average_momentum)
        self.built = True

    def phases(self) -> list[Phase]:
        """Encoders, generator and code regressors, then all discriminators on the images just made."""
        generators, discriminators = super().phases()
        if self.config.gradient_reversal_weight:
            generators.networks.extend([self.content_from_style, self.style_from_content])
        return [generators, discriminators]

    def generator_loss(self, batch: dict, carried: dict):
        """Fools the discriminators (Eq. 1, 7, 8), and codes that return, do not overlap and are normal (Eq. 9-16)."""
        config = self.config
        x, t, z = batch["image"], batch["condition"], batch["style"]
        c, *condition_posterior = self.infer_condition(t, batch["content_noise"])
        z_hat, c_hat, posterior = self.infer(batch)
        generated, reconstructed = self.decode_both((z, c), (z_hat, c_hat))
        d_xz, d_xc = self.style_discriminator, self.content_discriminator
        losses = {
            "g_image": real(self.image_discriminator(generated, training=True)),
            "g_condition": real(self.condition_score(generated, t)),
            "g_style": real(d_xz([generated, z], training=True)) + fake(d_xz([x, z_hat], training=True)),
            "g_content": real(d_xc([generated, c], training=True)) + fake(d_xc([x, c_hat], training=True)),
            "g_cycle": real(self.cycle_discriminator(pair(x, reconstructed), training=True)),
            "kl_style": gaussian_kl(*posterior["style"]),
            "kl_content": gaussian_kl(*posterior["content"]),
            "kl_condition": gaussian_kl(*condition_posterior),
        }
        terms = {name: ops.mean(loss) for name, loss in losses.items()}
        if config.code_cycle_weight:
            terms["code_cycle"] = self.code_cycle(generated, z, c)
        if config.gradient_reversal_weight:
            terms["gradient_reversal"] = self.gradient_reversal(posterior)
        if config.self_supervision_weight:
            terms["content_invariance"], terms["style_change"] = self.self_supervision(posterior)
        made = {
            "content": c,
            "inferred_style": z_hat,
            "inferred_content": c_hat,
            "generated": generated,
            "reconstructed": reconstructed,
        }
        return self.weighted(terms), terms, made

    def code_cycle(self, generated, z, c):
        """Eq. 9, the codes of x~ return: abs(z' - z) + abs(c' - c), a scalar."""
        z_again, _ = self.style_encoder(generated, training=True)
        c_again, _ = self.content_encoder(generated, training=True)
        return ops.mean(absolute_error(z_again, z)) + ops.mean(absolute_error(c_again, c))

    def gradient_reversal(self, posterior: dict):
        """Eq. 11, neither code tells the other: abs(F_c(z^) - c^) + abs(F_z(c^) - z^), a scalar.

        F_c and F_z make it small; its gradient is reversed on the way to the encoders, which make it large.
        """
        z_mean, c_mean = posterior["style"][0], posterior["content"][0]
        c_predicted = self.content_from_style(self.reverse_gradient(z_mean), training=True)
        z_predicted = self.style_from_content(self.reverse_gradient(c_mean), training=True)
        content_error = absolute_error(c_predicted, ops.stop_gradient(c_mean))
        style_error = absolute_error(z_predicted, ops.stop_gradient(z_mean))
        return ops.mean(content_error) + ops.mean(style_error)

    def self_supervision(self, posterior: dict):
        """Eq. 15, T(x) has x's content and another style: abs(c^ - c^') and -abs(z^ - z^'), two scalars.

        With `style_margin` the second, which has no lower bound, is max(0, margin - abs(z^ - z^')).
        """
        invariance = absolute_error(posterior["content"][0], posterior["transformed_content"][0])
        change = absolute_error(posterior["style"][0], posterior["transformed_style"][0])
        margin = self.config.style_margin
        return ops.mean(invariance), ops.mean(-change if margin is None else ops.relu(margin - change))

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real against generated in five discriminators (Eq. 1, 7, 8, the discriminators' side)."""
        x, t, z = batch["image"], batch["condition"], batch["style"]
        c, z_hat, c_hat = carried["content"], carried["inferred_style"], carried["inferred_content"]
        generated, reconstructed = carried["generated"], carried["reconstructed"]
        d_x, d_pair = self.image_discriminator, self.cycle_discriminator
        d_xz, d_xc = self.style_discriminator, self.content_discriminator
        d_xt, features = self.condition_discriminator_head, self.condition_discriminator_trunk(x, training=True)
        wrong = batch["has_mismatch"] * fake(d_xt([features, batch["mismatched"]], training=True))
        losses = {
            "d_image": real(d_x(x, training=True)) + fake(d_x(generated, training=True)),
            "d_condition": real(d_xt([features, t], training=True))
            + 0.5 * (wrong + fake(self.condition_score(generated, t))),
            "d_style": real(d_xz([x, z_hat], training=True)) + fake(d_xz([generated, z], training=True)),
            "d_content": real(d_xc([x, c_hat], training=True)) + fake(d_xc([generated, c], training=True)),
            "d_cycle": real(d_pair(pair(x, x), training=True)) + fake(d_pair(pair(x, reconstructed), training=True)),
        }
        terms = {name: ops.mean(loss) for name, loss in losses.items()}
        if self.config.r1_weight:
            judges = [
                (lambda image: d_x(image, training=True), x),
                (lambda image: self.condition_score(image, t), x),
                (lambda image: d_xz([image, z_hat], training=True), x),
                (lambda image: d_xc([image, c_hat], training=True), x),
                (lambda images: d_pair(images, training=True), pair(x, x)),
            ]
            terms["r1"] = real_gradient_penalty(judges)
        return self.weighted(terms), terms, {}

    def infer(self, batch: dict):
        """Samples z ~ q(z|x) and c ~ q(c|x); returns (z, c, {"style": (mean, log_variance), ...}).

        The posteriors of T(x) are returned too; both images go through the encoders as one batch.
        """
        images = ops.concatenate([batch["image"], batch["transformed"]])
        posterior = {}
        for name, encoder in (("style", self.style_encoder), ("content", self.content_encoder)):
            halves = (ops.split(value, 2) for value in encoder(images, training=True))
            posterior[name], posterior[f"transformed_{name}"] = zip(*halves, strict=True)
        z = sample(*posterior["style"], batch["inferred_style_noise"])
        c = sample(*posterior["content"], batch["inferred_content_noise"])
        return z, c, posterior


# --- random draws, apart from what is done with them ---

TRANSFORMATIONS = (
    lambda image: ops.rot90(image, 1, axes=(1, 2)),
    lambda image: ops.rot90(image, 2, axes=(1, 2)),
    lambda image: ops.rot90(image, 3, axes=(1, 2)),
    lambda image: ops.flip(image, axis=2),
    lambda image: ops.flip(image, axis=1),
)


def transform(image, which):
    """The content-preserving transformations of Sec. III-G: rotation by 90, 180, 270 degrees, two flips.

    Args:
        image: (B, H, H, C).
        which: (B,) integers from 0 to 4.

    Returns:
        (B, H, H, C).
    """
    chosen = ops.cast(ops.one_hot(which, len(TRANSFORMATIONS)), image.dtype)[..., None, None, None]
    return sum(chosen[:, k] * apply(image) for k, apply in enumerate(TRANSFORMATIONS))


def toned(image, amount):
    """Images in other tones, as other light or another camera shows them.

    Args:
        image: (B, H, W, C) in [-1, 1].
        amount: (B, C + 1): what is added to each channel's gain of 1, on the scale of intensities from 0, and, in the
            last column, the share of the range that is added to all.

    Returns:
        (B, H, W, C) in [-1, 1], what would lie outside at its ends.
    """
    gain, brightness = 1.0 + amount[:, None, None, :-1], amount[:, None, None, -1:]
    return ops.clip(gain * (image + 1.0) - 1.0 + 2.0 * brightness, -1.0, 1.0)


def mismatched_conditions(condition, noise):
    """For each example a condition of the same batch that differs from its own: never a match.

    Args:
        condition: (B, K).
        noise: (B, B) uniform in [0, 1), decides which.

    Returns:
        (B, K) conditions, and (B,) of 1, or 0 where the whole batch has one condition.
    """
    differs = ops.any(ops.not_equal(condition[:, None], condition[None]), axis=-1)
    score = ops.where(differs, noise, -1.0)
    return ops.take(condition, ops.argmax(score, axis=1), axis=0), ops.cast(ops.any(differs, axis=1), "float32")


def real(scores):
    """Least-squares loss (B,) of scores (B, 1) that should say real."""
    return least_squares(scores, 1.0)


def fake(scores):
    """Least-squares loss (B,) of scores (B, 1) that should say generated."""
    return least_squares(scores, 0.0)


def real_gradient_penalty(judges: Sequence[tuple]):
    """R1, a scalar: of each (scores of images, real images) the squared norm of the gradient, halved; summed.

    Source: Mescheder et al., ICML 2018, Eq. 9, https://arxiv.org/abs/1801.04406, without gamma.
    """
    gradients = (ops.cast(input_gradient(score, image), "float32") for score, image in judges)
    return sum(0.5 * ops.mean(ops.sum(ops.square(g), axis=(1, 2, 3))) for g in gradients)


def standard_normal(shape: tuple, seed, truncation: float | None = None):
    """Draws from N(0, 1), or with `truncation` from what of it lies between -truncation and truncation."""
    if truncation is None:
        return keras.random.normal(shape, seed=seed)
    if not truncation > 0:
        raise ValueError(f"Expected truncation > 0 or None, received {truncation}.")
    bound = math.erf(truncation / math.sqrt(2))
    return math.sqrt(2) * ops.erfinv(keras.random.uniform(shape, -bound, bound, seed=seed))


def sample(mean, log_variance, noise):
    """A sample of N(mean, exp(log_variance)) from one of N(0, I), all (B, D)."""
    return mean + ops.exp(0.5 * log_variance) * noise


def pair(a, b):
    """Two images as one for D_cycle, (B, H, W, 2 C)."""
    return ops.concatenate([a, b], axis=-1)


# --- networks ---


def condition_encoder(config: DRAIConfig) -> keras.Model:
    """E_phi: t (B, K) -> mean and log variance of q(c|t), each (B, content_dim)."""
    t = keras.Input((config.num_conditions,), name="condition")
    h = keras.layers.Activation("linear", dtype="float32")(_glu(_dense(config, 4 * config.content_dim)(t)))
    return keras.Model(t, _moments(config, h), name="condition_encoder")


def generator(config: DRAIConfig) -> keras.Model:
    """G_x: [z (B, style_dim), c (B, content_dim)] -> image (B, H, W, C) in [-1, 1].

    Nearest-neighbour upsampling and 3 x 3 convolutions, which leave no checkerboard, with gated linear units.
    """
    z, c = (
        keras.Input((config.style_dim,), name="style"),
        keras.Input((config.content_dim,), name="content"),
    )
    filters = config.width(config.generator_filters, config.num_stages)
    h = keras.layers.Concatenate()([z, c])
    h = _batch_norm()(_dense(config, 4 * 4 * 2 * filters, use_bias=False)(h))
    h = keras.layers.Reshape((4, 4, 2 * filters))(h)
    h = _glu(h)  # (B, 4, 4, filters)
    for stage in reversed(range(config.num_stages)):
        filters = config.width(config.generator_filters, stage)
        h = UpsampleConv2D(2 * filters, use_bias=False, kernel_initializer=_initializer(config))(h)
        h = _glu(_batch_norm()(h))
    image = keras.layers.Conv2D(
        config.channels,
        3,
        padding="same",
        activation="tanh",
        dtype="float32",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
    )(h)
    return keras.Model([z, c], image, name="generator")


def image_encoder(config: DRAIConfig, code_dim: int, name: str) -> keras.Model:
    """G_z or G_c: image (B, H, W, C) -> mean and log variance of its code, each (B, code_dim)."""
    trunk = image_trunk(config, config.encoder_filters, config.channels, f"{name}_trunk")
    h = _conv(config, trunk.output.shape[-1], 3, use_bias=not config.batch_norm)(trunk.output)
    h = keras.layers.Flatten()(_activation(config, h))
    return keras.Model(trunk.input, _gaussian_head(config, h, code_dim), name=name)


def image_trunk(config: DRAIConfig, filters: int, channels: int, name: str) -> keras.Model:
    """Image (B, H, W, channels) -> features (B, 4, 4, filters * 2^(stages - 1)) by 4 x 4 convolutions of stride 2."""
    image = keras.Input((config.image_size, config.image_size, channels), name="image")
    h = keras.layers.LeakyReLU(SLOPE)(_conv(config, config.width(filters, 0), 4, strides=2)(image))
    for stage in range(1, config.num_stages):
        h = _activation(
            config,
            _conv(config, config.width(filters, stage), 4, strides=2, use_bias=not config.batch_norm)(h),
        )
    return keras.Model(image, h, name=name)


def image_discriminator(config: DRAIConfig, channels: int, name: str) -> keras.Model:
    """D_x, or D_cycle on two stacked images: (B, H, W, channels) -> score (B, 1)."""
    trunk = image_trunk(config, config.discriminator_filters, channels, f"{name}_trunk")
    score = keras.layers.Flatten(dtype="float32")(_conv(config, 1, 4, padding="valid")(trunk.output))
    return keras.Model(trunk.input, score, name=name)


def condition_discriminator(config: DRAIConfig) -> tuple[keras.Model, keras.Model]:
    """D_xt in two parts, so that images are seen once for several conditions: its trunk and its head."""
    name = "condition_discriminator"
    trunk = image_trunk(config, config.discriminator_filters, config.channels, f"{name}_trunk")
    return trunk, condition_head(config, f"{name}_head")


def condition_head(config: DRAIConfig, name: str) -> keras.Model:
    """Head of D_xt: [features (B, 4, 4, F), t (B, K)] -> score (B, 1); t is embedded and repeated over the map."""
    width = config.width(config.discriminator_filters, config.num_stages - 1)
    features = keras.Input((4, 4, width), name="features")
    t = keras.Input((config.num_conditions,), name="condition")
    embedded = keras.layers.LeakyReLU(SLOPE)(_dense(config, config.condition_units)(t))
    embedded = keras.layers.Reshape((4, 4, config.condition_units))(keras.layers.RepeatVector(16)(embedded))
    h = keras.layers.Concatenate()([features, embedded])
    h = _activation(config, _conv(config, width, 3, use_bias=not config.batch_norm)(h))
    score = keras.layers.Flatten(dtype="float32")(_conv(config, 1, 4, padding="valid")(h))
    return keras.Model([features, t], score, name=name)


def joint_discriminator(config: DRAIConfig, code_dim: int, name: str) -> keras.Model:
    """D_xz or D_xc: [image (B, H, W, C), code (B, code_dim)] -> score (B, 1). No batch norm on the code's path."""
    trunk = image_trunk(config, config.discriminator_filters, config.channels, f"{name}_trunk")
    code = keras.Input((code_dim,), name="code")
    image_path = _dense_leaky(config, keras.layers.Flatten()(trunk.output), config.code_units)
    code_path = _dense_leaky(config, _dense_leaky(config, code, config.code_units), config.code_units)
    h = keras.layers.Concatenate()([image_path, code_path])
    for layer in range(2):
        h = _dense_leaky(config, h, config.joint_units)
        # With a seed of its own the mask's state is saved, and a resumed run continues exactly.
        h = keras.layers.Dropout(config.dropout, seed=layer)(h) if config.dropout else h
    score = keras.layers.Dense(1, dtype="float32")(h)
    return keras.Model([trunk.input, code], score, name=name)


def code_regressor(config: DRAIConfig, in_dim: int, out_dim: int, name: str) -> keras.Model:
    """F_c or F_z: one code (B, in_dim) -> the other (B, out_dim)."""
    code = keras.Input((in_dim,), name="code")
    h = _dense_leaky(config, _dense_leaky(config, code, config.regressor_units), config.regressor_units)
    return keras.Model(code, keras.layers.Dense(out_dim, dtype="float32")(h), name=name)


def _gaussian_head(config, h, dim):
    """Mean and log variance, each (B, dim)."""
    head = keras.layers.Dense(2 * dim, dtype="float32", kernel_initializer=_initializer(config))
    return _moments(config, head(h))


def _moments(config, h):
    """Mean and log variance, which the config may bound, each a half of (B, 2 * dim)."""
    mean, log_variance = _halves(h)
    bound = config.log_variance_bound
    return mean, log_variance if bound is None else bound * ops.tanh(log_variance / bound)


def _glu(h):
    """Gated linear unit: half of the channels, gated by the sigmoid of the other half."""
    values, gates = _halves(h)
    return keras.layers.Multiply()([values, keras.layers.Activation("sigmoid")(gates)])


def _halves(h):
    # Not two slices: each one's gradient is the whole array again, mostly zeros, a fifth of a step's time.
    return ops.split(h, 2, axis=-1)


def _initializer(config):
    return INITIALIZERS[config.initializer]()


def _conv(config, filters, kernel_size, strides=1, padding="same", use_bias=True):
    # "same" pads 4 x 4 kernels of stride 2 by one pixel on each side of an even image, as the originals do.
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding,
        use_bias=use_bias,
        kernel_initializer=_initializer(config),
    )


def _dense(config, units, use_bias=True):
    return keras.layers.Dense(units, use_bias=use_bias, kernel_initializer=_initializer(config))


def _dense_leaky(config, h, units):
    return keras.layers.LeakyReLU(SLOPE)(_dense(config, units)(h))


def _activation(config, h):
    return keras.layers.LeakyReLU(SLOPE)(_batch_norm()(h) if config.batch_norm else h)


def _batch_norm():
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=num_replicas() > 1)
