"""What DRAI is compared with: conditional InfoGAN and conditional adversarial VAE, each with one code or two, DAI, and
DAI with some of DRAI's terms.

Paper: Havaei et al., https://arxiv.org/abs/2012.04764, Sec. III-B, Fig. 5 to 8; DAI: Lao et al., Dual adversarial
inference for text-to-image synthesis, ICCV 2019. `METHODS` holds them by name. All have DRAI's networks, config,
optimizers and order of updates, so that they differ in what they infer, and how. DAI and the ablations are DRAI with
weights of zero, and keep all of its parameters (Sec. III-F); their networks for a term that is off stay as they are.

Symbols as in `tfdisent.systems.drai`. A single model has no content code: G_x(z, t) takes the condition itself. x~ is
drawn with z ~ N(0, I); x^ is `reconstructed`, from codes of x; x^_t = G_x(z^, c) with c ~ q(c|t), or G_x(z^, t), is
`conditioned`: x's style under its condition, p(x|t, z^).

| term | what | models |
|---|---|---|
| d_image, g_image | D_x: x real, x~ not | cinfogan dcinfogan |
| d_condition, g_condition | D_xt: (x, t) real; (x, t_wrong), (x~ or x^_t, t) not | cinfogan dcinfogan cavae dcavae |
| style_code | -log Q(z given x~ with noise), Q the style encoder (Eq. 17) | cinfogan dcinfogan |
| content_code | -log Q(c given x~ with noise), likewise | dcinfogan |
| d_style, g_style | D_xtz: (x, t, z^) against (x^_t, t, z^) | cavae dcavae |
| d_content, g_content | D_xtc: (x, t, c^) against (x^_t, t, c) | dcavae |
| d_cycle, g_cycle | D_cycle: (x, x) real, (x, x^) not | cavae dcavae |
| kl_style | q(z|x) against N(0, I) (Eq. 18) | cavae dcavae |
| kl_content | q(c|x), likewise | dcavae |
| kl_condition | q(c|t), likewise, as in Eq. 16 | dcinfogan dcavae |

Decided here, where the paper is silent:

* D_xt has the mismatched pairs that DRAI's has (the text names the generated ones only), each a half.
* -log Q of Eq. 17 is the l1 distance of the posterior mean, for z as for c: the text says so of c, and DRAI's own Eq. 9
  is that bound too. `code_likelihood="gaussian"` is InfoGAN's, with a mean and a variance; it allows encoders to give
  codes up, and fewer hybrids then had the right class. The weight lambda is `code_cycle_weight`.
* Encoders that are trained on x~ alone let the generator hide the codes in noise that nobody sees: on real images they
  then answer the same for every one. So they read x~ under noise, `reading_noise`, which hides what is that faint.
  The two VAEs' encoders see real images only, in which nothing can be hidden.
* The two VAEs judge reconstructions, as the text says, and never x~; N(0, I) is reached by the KL terms alone.
* D_xtz takes the same z^ in both pairs, as the text names no other; t goes in beside the code. Encoder and generator
  fool both sides, as in Eq. 7.
* D-cAVAE decodes (z^, c) for D_xt, D_xtz and D_xtc, which trains E_phi, and (z^, c^) for D_cycle, which is the VAE's
  reconstruction from both of its codes.
* With `r1_weight` each discriminator that a model has is penalised as DRAI's are.
* `train_twice` means the same as for DRAI, so that all see the same images; the terms of Eq. 11 and 15 are DRAI's only.
"""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from tfdisent.baselines.method import Method
from tfdisent.losses import absolute_error, gaussian_kl, gaussian_nll
from tfdisent.systems.drai import (
    DRAI,
    GENERATORS,
    ContentStyleModel,
    DRAIConfig,
    condition_discriminator,
    condition_encoder,
    fake,
    generator,
    image_discriminator,
    image_encoder,
    joint_discriminator,
    pair,
    real,
    real_gradient_penalty,
    sample,
    standard_normal,
)

# --- one code ---


class StyleModel(ContentStyleModel):
    """A model whose content is the condition itself: it infers style alone, and takes no content from an image."""

    codes = ("style",)

    def call(self, inputs, condition=None, training=False):
        """Reconstruction of images from their style and condition, (B, H, W, C) in [-1, 1].

        Args:
            inputs: images (B, H, W, C) in [-1, 1]; or a batch {"image": ..., "condition": ...}.
            condition: (B, num_conditions), unless it is in the batch.
        """
        if isinstance(inputs, Mapping):
            inputs, condition = inputs["image"], inputs.get("condition", condition)
        if condition is None:
            raise ValueError(
                f"Expected images and conditions, since {type(self).__name__} infers style alone, received images; "
                'call it on {"image": images, "condition": conditions}.'
            )
        return self.hybrid(inputs, condition)

    def encode(self, image) -> dict:
        """{"style": (B, style_dim)}, the posterior mean, of images (B, H, W, C) in [-1, 1]."""
        style, _ = self.style_encoder(self.checked("image", image), training=False)
        return {"style": style}

    def content_of(self, condition, noise=None):
        """The conditions (B, num_conditions) themselves; there is nothing to draw."""
        return self.checked("condition", condition)

    def generate(self, condition, style=None, seed: int | None = None, truncation: float | None = None):
        """Images (B, H, W, C) of conditions (B, num_conditions), with style (B, style_dim) given or from N(0, I).

        `truncation` as in `ContentStyleModel.generate`.
        """
        condition = self.checked("condition", condition)
        if style is None:
            shape = (ops.shape(condition)[0], self.config.style_dim)
            style = standard_normal(shape, keras.random.SeedGenerator(seed), truncation)
        return self.decode(condition, style)

    def hybrid(self, style_image, condition):
        """Images (B, H, W, C) with the style of images and the content of conditions (B, num_conditions)."""
        return self.decode(self.content_of(condition), self.encode(style_image)["style"])

    def interpolate(self, image_a, image_b, condition, steps: int = 8):
        """Images (B, steps, H, W, C) from the style of one image to that of another, under one condition."""
        if steps < 2:
            raise ValueError(f"Expected at least 2 steps, both ends included, received {steps}.")
        condition = self.content_of(condition)
        a, b = self.encode(image_a)["style"], self.encode(image_b)["style"]
        line = [self.decode(condition, a + w * (b - a)) for w in np.linspace(0.0, 1.0, steps)]
        return ops.stack(line, axis=1)

    def signatures(self) -> dict:
        """What is exported, as in `ContentStyleModel`; a hybrid takes its content from a condition."""
        config = self.config
        image = (None, config.image_size, config.image_size, config.channels)
        condition, style = (None, config.num_conditions), (None, config.style_dim)

        def generate(condition, style):
            return {"image": self.generate(condition, style)}

        def hybrid(condition, style_image):
            return {"image": self.hybrid(style_image, condition)}

        return {
            "generate": (generate, {"condition": condition, "style": style}),
            "encode": (self.encode, {"image": image}),
            "hybrid": (hybrid, {"condition": condition, "style_image": image}),
        }


class ReadsCodes(ContentStyleModel):
    """A model whose encoders learn from generated images, which they see under noise."""

    def draw(self, batch: dict) -> dict:
        """Adds the noise to what is drawn for all models."""
        noise = keras.random.normal(ops.shape(batch["image"]), seed=self.seed_generator)
        return super().draw({"reading_noise": noise, **batch})

    def unread(self, encoder: keras.Model, image, code, batch: dict):
        """-log Q(code given image), a scalar, by an encoder that sees the image under the batch's noise (Eq. 17)."""
        mean, log_variance = encoder(image + self.config.reading_noise * batch["reading_noise"], training=True)
        if self.config.code_likelihood == "l1":
            return ops.mean(absolute_error(mean, code))
        return ops.mean(gaussian_nll(code, mean, log_variance))


class CInfoGAN(ReadsCodes, StyleModel):
    """Conditional InfoGAN (Fig. 5): a conditional GAN whose z can be read from its images."""

    def __init__(self, config: DRAIConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.generator = generator_from_condition(config)
        self.style_encoder = image_encoder(config, config.style_dim, "style_encoder")
        self.image_discriminator = image_discriminator(config, config.channels, "image_discriminator")
        self.condition_discriminator_trunk, self.condition_discriminator_head = condition_discriminator(config)
        self.track_averages(self.networks(GENERATORS), config.average_momentum)
        self.built = True

    def generator_loss(self, batch: dict, carried: dict):
        """Fools D_x and D_xt, and lets z return (Eq. 17)."""
        t, z = batch["condition"], batch["style"]
        generated = self.generator([z, t], training=True)
        terms = {
            "g_image": ops.mean(real(self.image_discriminator(generated, training=True))),
            "g_condition": ops.mean(real(self.condition_score(generated, t))),
            "style_code": self.unread(self.style_encoder, generated, z, batch),
        }
        return self.weighted(terms), terms, {"generated": generated}

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real against generated images, and with their conditions."""
        x, generated, d_x = batch["image"], carried["generated"], self.image_discriminator
        terms = {
            "d_image": told_apart(d_x(x, training=True), d_x(generated, training=True)),
            "d_condition": condition_loss(self, batch, generated),
        }
        if self.config.r1_weight:
            judges = [
                (lambda image: d_x(image, training=True), x),
                (lambda image: self.condition_score(image, batch["condition"]), x),
            ]
            terms["r1"] = real_gradient_penalty(judges)
        return self.weighted(terms), terms, {}


class CAVAE(StyleModel):
    """Conditional adversarial VAE (Fig. 7): reconstructs x from q(z|x) and t, with discriminators for a likelihood."""

    def __init__(self, config: DRAIConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.generator = generator_from_condition(config)
        self.style_encoder = image_encoder(config, config.style_dim, "style_encoder")
        self.condition_discriminator_trunk, self.condition_discriminator_head = condition_discriminator(config)
        self.style_discriminator = joint_discriminator(
            config, config.style_dim + config.num_conditions, "style_discriminator"
        )
        self.cycle_discriminator = image_discriminator(config, 2 * config.channels, "cycle_discriminator")
        self.track_averages(self.networks(GENERATORS), config.average_momentum)
        self.built = True

    def generator_loss(self, batch: dict, carried: dict):
        """Fools D_xt, D_xtz and D_cycle with the reconstruction, which here is `conditioned` too (Eq. 18)."""
        x, t = batch["image"], batch["condition"]
        z_mean, z_log_variance = self.style_encoder(x, training=True)
        z_hat = sample(z_mean, z_log_variance, batch["inferred_style_noise"])
        reconstructed = self.generator([z_hat, t], training=True)
        d_xtz = self.style_discriminator
        terms = {
            "g_condition": ops.mean(real(self.condition_score(reconstructed, t))),
            "g_style": told_apart(joint_score(d_xtz, reconstructed, t, z_hat), joint_score(d_xtz, x, t, z_hat)),
            "g_cycle": ops.mean(real(self.cycle_discriminator(pair(x, reconstructed), training=True))),
            "kl_style": ops.mean(gaussian_kl(z_mean, z_log_variance)),
        }
        return self.weighted(terms), terms, {"reconstructed": reconstructed, "inferred_style": z_hat}

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real images against their reconstructions: with t, with t and z^, and with themselves."""
        x, t = batch["image"], batch["condition"]
        reconstructed, z_hat = carried["reconstructed"], carried["inferred_style"]
        d_xtz, d_pair = self.style_discriminator, self.cycle_discriminator
        terms = {
            "d_condition": condition_loss(self, batch, reconstructed),
            "d_style": told_apart(joint_score(d_xtz, x, t, z_hat), joint_score(d_xtz, reconstructed, t, z_hat)),
            "d_cycle": told_apart(d_pair(pair(x, x), training=True), d_pair(pair(x, reconstructed), training=True)),
        }
        if self.config.r1_weight:
            judges = [
                (lambda image: self.condition_score(image, t), x),
                (lambda image: joint_score(d_xtz, image, t, z_hat), x),
                (lambda images: d_pair(images, training=True), pair(x, x)),
            ]
            terms["r1"] = real_gradient_penalty(judges)
        return self.weighted(terms), terms, {}


# --- two codes ---


class DCInfoGAN(ReadsCodes):
    """Dual conditional InfoGAN (Fig. 6): cInfoGAN on c ~ q(c|t), which is read from the images as z is."""

    def __init__(self, config: DRAIConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.condition_encoder = condition_encoder(config)
        self.generator = generator(config)
        self.style_encoder = image_encoder(config, config.style_dim, "style_encoder")
        self.content_encoder = image_encoder(config, config.content_dim, "content_encoder")
        self.image_discriminator = image_discriminator(config, config.channels, "image_discriminator")
        self.condition_discriminator_trunk, self.condition_discriminator_head = condition_discriminator(config)
        self.track_averages(self.networks(GENERATORS), config.average_momentum)
        self.built = True

    def generator_loss(self, batch: dict, carried: dict):
        """Fools D_x and D_xt, and lets z and c return (Eq. 17)."""
        t, z = batch["condition"], batch["style"]
        c, c_mean, c_log_variance = self.infer_condition(t, batch["content_noise"])
        generated = self.generator([z, c], training=True)
        terms = {
            "g_image": ops.mean(real(self.image_discriminator(generated, training=True))),
            "g_condition": ops.mean(real(self.condition_score(generated, t))),
            "style_code": self.unread(self.style_encoder, generated, z, batch),
            "content_code": self.unread(self.content_encoder, generated, c, batch),
            "kl_condition": ops.mean(gaussian_kl(c_mean, c_log_variance)),
        }
        return self.weighted(terms), terms, {"generated": generated}

    discriminator_loss = CInfoGAN.discriminator_loss  # the same two, on images of either


class DCAVAE(ContentStyleModel):
    """Dual conditional adversarial VAE (Fig. 8): cAVAE with a posterior of content, and D_xtc to infer it."""

    def __init__(self, config: DRAIConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        config = self.config
        self.condition_encoder = condition_encoder(config)
        self.generator = generator(config)
        self.style_encoder = image_encoder(config, config.style_dim, "style_encoder")
        self.content_encoder = image_encoder(config, config.content_dim, "content_encoder")
        self.condition_discriminator_trunk, self.condition_discriminator_head = condition_discriminator(config)
        self.style_discriminator = joint_discriminator(
            config, config.style_dim + config.num_conditions, "style_discriminator"
        )
        self.content_discriminator = joint_discriminator(
            config, config.content_dim + config.num_conditions, "content_discriminator"
        )
        self.cycle_discriminator = image_discriminator(config, 2 * config.channels, "cycle_discriminator")
        self.track_averages(self.networks(GENERATORS), config.average_momentum)
        self.built = True

    def generator_loss(self, batch: dict, carried: dict):
        """Fools D_xt, D_xtz and D_xtc with G_x(z^, c), and D_cycle with G_x(z^, c^) (Eq. 18)."""
        x, t = batch["image"], batch["condition"]
        c, *condition_posterior = self.infer_condition(t, batch["content_noise"])
        style_posterior = self.style_encoder(x, training=True)
        content_posterior = self.content_encoder(x, training=True)
        z_hat = sample(*style_posterior, batch["inferred_style_noise"])
        c_hat = sample(*content_posterior, batch["inferred_content_noise"])
        conditioned, reconstructed = self.decode_both((z_hat, c), (z_hat, c_hat))
        d_xtz, d_xtc = self.style_discriminator, self.content_discriminator
        terms = {
            "g_condition": ops.mean(real(self.condition_score(conditioned, t))),
            "g_style": told_apart(joint_score(d_xtz, conditioned, t, z_hat), joint_score(d_xtz, x, t, z_hat)),
            "g_content": told_apart(joint_score(d_xtc, conditioned, t, c), joint_score(d_xtc, x, t, c_hat)),
            "g_cycle": ops.mean(real(self.cycle_discriminator(pair(x, reconstructed), training=True))),
            "kl_style": ops.mean(gaussian_kl(*style_posterior)),
            "kl_content": ops.mean(gaussian_kl(*content_posterior)),
            "kl_condition": ops.mean(gaussian_kl(*condition_posterior)),
        }
        made = {
            "conditioned": conditioned,
            "reconstructed": reconstructed,
            "content": c,
            "inferred_style": z_hat,
            "inferred_content": c_hat,
        }
        return self.weighted(terms), terms, made

    def discriminator_loss(self, batch: dict, carried: dict):
        """Real images against G_x(z^, c): with t, with t and either code; and against their reconstructions."""
        x, t = batch["image"], batch["condition"]
        conditioned, reconstructed = carried["conditioned"], carried["reconstructed"]
        c, z_hat, c_hat = carried["content"], carried["inferred_style"], carried["inferred_content"]
        d_xtz, d_xtc = self.style_discriminator, self.content_discriminator
        d_pair = self.cycle_discriminator
        terms = {
            "d_condition": condition_loss(self, batch, conditioned),
            "d_style": told_apart(joint_score(d_xtz, x, t, z_hat), joint_score(d_xtz, conditioned, t, z_hat)),
            "d_content": told_apart(joint_score(d_xtc, x, t, c_hat), joint_score(d_xtc, conditioned, t, c)),
            "d_cycle": told_apart(d_pair(pair(x, x), training=True), d_pair(pair(x, reconstructed), training=True)),
        }
        if self.config.r1_weight:
            judges = [
                (lambda image: self.condition_score(image, t), x),
                (lambda image: joint_score(d_xtz, image, t, z_hat), x),
                (lambda image: joint_score(d_xtc, image, t, c_hat), x),
                (lambda images: d_pair(images, training=True), pair(x, x)),
            ]
            terms["r1"] = real_gradient_penalty(judges)
        return self.weighted(terms), terms, {}


# --- what they share ---


def generator_from_condition(config: DRAIConfig) -> keras.Model:
    """G_x: [z (B, style_dim), t (B, K)] -> image (B, H, W, C) in [-1, 1]; DRAI's, with t in the place of c."""
    return generator(dataclasses.replace(config, content_dim=config.num_conditions))


def condition_loss(model: ContentStyleModel, batch: dict, generated):
    """D_xt's loss, a scalar, matching-aware as in Eq. 1: wrong conditions and generated images count a half each."""
    features = model.condition_discriminator_trunk(batch["image"], training=True)
    d_xt = model.condition_discriminator_head
    wrong = batch["has_mismatch"] * fake(d_xt([features, batch["mismatched"]], training=True))
    return ops.mean(real(d_xt([features, batch["condition"]], training=True))) + 0.5 * (
        ops.mean(wrong) + ops.mean(fake(model.condition_score(generated, batch["condition"])))
    )


def joint_score(discriminator: keras.Model, image, condition, code):
    """Score (B, 1) of D_xtz or D_xtc; the condition goes in beside the code."""
    return discriminator([image, ops.concatenate([code, condition], axis=-1)], training=True)


def told_apart(scores, other_scores):
    """Least-squares loss, a scalar, of scores that should say real and of others that should say generated."""
    return ops.mean(real(scores)) + ops.mean(fake(other_scores))


# --- by name ---

# Titles are those of the tables; the paper itself writes cVAE, cAVAE and cAAVE for one method.
METHODS = (
    Method("drai", "DRAI", DRAI, {}),
    Method("cinfogan", "cInfoGAN", CInfoGAN, {}),
    Method("dcinfogan", "D-cInfoGAN", DCInfoGAN, {}),
    Method("cavae", "cAVAE", CAVAE, {}),
    Method("dcavae", "D-cAVAE", DCAVAE, {}),
    # DAI and DAI with some of DRAI's terms (Sec. III-F): a term that a name does not tell is switched off.
    Method(
        "dai",
        "DAI",
        DRAI,
        {"self_supervision_weight": 0.0, "gradient_reversal_weight": 0.0, "code_cycle_weight": 0.0},
    ),
    Method("selfReg", "DAI+selfReg", DRAI, {"gradient_reversal_weight": 0.0, "code_cycle_weight": 0.0}),
    Method("MIReg", "DAI+MIReg", DRAI, {"self_supervision_weight": 0.0, "code_cycle_weight": 0.0}),
    Method("featureCycle", "DAI+featureCycle", DRAI, {"self_supervision_weight": 0.0, "gradient_reversal_weight": 0.0}),
    Method("selfReg+MIReg", "DAI+selfReg+MIReg", DRAI, {"code_cycle_weight": 0.0}),
    Method("selfReg+featureCycle", "DAI+selfReg+featureCycle", DRAI, {"gradient_reversal_weight": 0.0}),
    Method("MIReg+featureCycle", "DAI+MIReg+featureCycle", DRAI, {"self_supervision_weight": 0.0}),
)
