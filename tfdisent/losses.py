"""Loss terms as pure functions of arrays.

Every loss returns one value per example, shape (B,): the caller takes the mean, weights the term and names it. They
compute in float32 whatever the networks' precision, because sums over pixels lose the small terms in bfloat16.
"""

import keras
import numpy as np
from keras import ops


def least_squares(scores, target: float):
    """Least-squares adversarial loss, (score - target)^2.

    Source: Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017, Eq. 9 with a = 0 (fake), b = c = 1
    (real), https://arxiv.org/abs/1611.04076. The factor 1/2 of that paper is left out, as DRAI's and most public code
    do.

    Args:
        scores: unbounded discriminator outputs, shape (B, ...).
        target: 1.0 for "real", 0.0 for "generated".

    Returns:
        Mean over all but the first axis, shape (B,).
    """
    return _mean_per_example(ops.square(_float32(scores) - target))


def binary_cross_entropy(logits, target):
    """Binary cross entropy of sigmoid(logits), in nats.

    Formula: softplus(logit) - target * logit, which does not overflow. With target 1 the non-saturating generator loss.
    Source: Goodfellow et al., Generative Adversarial Nets, Sec. 3, https://arxiv.org/abs/1406.2661.

    Args:
        logits: unbounded discriminator outputs, shape (B, ...).
        target: 1.0 for "real", 0.0 for "generated"; or probabilities of logits' shape.

    Returns:
        Mean over all but the first axis, shape (B,).
    """
    logits = _float32(logits)
    return _mean_per_example(ops.softplus(logits) - _float32(target) * logits)


def softmax_cross_entropy(logits, target):
    """Cross entropy of softmax(logits) against the true distribution, in nats.

    Formula: -sum over k of target_k * log softmax(logits)_k.
    Source: the auxiliary classifier of Odena et al., AC-GAN, Sec. 3, https://arxiv.org/abs/1610.09585.

    Args:
        logits: shape (B, ..., K).
        target: probabilities, one-hot for a class, same shape.

    Returns:
        Mean over all but the first and the last axis, shape (B,).
    """
    log_probability = ops.log_softmax(_float32(logits), axis=-1)
    return _mean_per_example(-ops.sum(_float32(target) * log_probability, axis=-1))


def absolute_error(predicted, target):
    """Mean absolute error, mean |predicted - target|.

    Source: the l1 terms of DRAI, Eq. 9, 11 and 15, https://arxiv.org/abs/2012.04764, with means in place of sums so
    that coefficients of one keep all terms on one scale.

    Args:
        predicted: shape (B, ...).
        target: same shape.

    Returns:
        Shape (B,).
    """
    return _mean_per_example(ops.abs(_float32(predicted) - _float32(target)))


def gaussian_kl(mean, log_variance):
    """Kullback-Leibler divergence KL(N(mean, exp(log_variance)) || N(0, I)), as a mean over dimensions.

    Formula: mean over d of (mean_d^2 + exp(log_variance_d) - 1 - log_variance_d) / 2.
    Source: Kingma and Welling, Auto-Encoding Variational Bayes, Sec. 3 and App. B, https://arxiv.org/abs/1312.6114
    (a sum there); the KL terms of DRAI, Eq. 16.

    Args:
        mean: shape (B, D).
        log_variance: shape (B, D), natural logarithm.

    Returns:
        Nats per dimension, shape (B,).
    """
    mean, log_variance = _float32(mean), _float32(log_variance)
    divergence = 0.5 * (ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance)
    return _mean_per_example(divergence)


def gaussian_nll(value, mean, log_variance, *, least_variance: float = 1e-3):
    """Negative log likelihood of a value under N(mean, variance), less its constant, as a mean over dimensions.

    Formula: mean over d of (log v_d + (value_d - mean_d)^2 / v_d) / 2 with v_d = least_variance + exp(log_variance_d).
    Source: Chen et al., InfoGAN, Sec. 4 and App. C.1, https://arxiv.org/abs/1606.03657, whose Q is a Gaussian with a
    variance of its own for continuous codes; that log(2 pi) / 2 is left out changes no gradient.

    Args:
        value, mean: shape (B, D).
        log_variance: shape (B, D), natural logarithm.
        least_variance: what variances do not fall below, so that the loss has a bound.

    Returns:
        Nats per dimension, at least log(least_variance) / 2, shape (B,).
    """
    value, mean, log_variance = _float32(value), _float32(mean), _float32(log_variance)
    variance = least_variance + ops.exp(log_variance)
    return _mean_per_example(0.5 * (ops.log(variance) + ops.square(value - mean) / variance))


def with_background(shares):
    """Shares or probabilities (..., K) with what is left of 1 before them, that of the background, (..., 1 + K)."""
    return ops.concatenate([1.0 - ops.sum(shares, axis=-1, keepdims=True), shares], axis=-1)


def dice_loss(predicted, target, *, smooth: float = 1.0):
    """One minus `soft_dice`, as a mean over labels.

    Source: Milletari et al., V-Net, 3DV 2016, Sec. 3, https://arxiv.org/abs/1606.04797.

    Args:
        predicted: probabilities, shape (B, H, W, K).
        target: probabilities or masks of 0 and 1, same shape.
        smooth: as of `soft_dice`.

    Returns:
        In [0, 1), shape (B,).
    """
    return _mean_per_example(1.0 - soft_dice(predicted, target, smooth=smooth))


def soft_dice(predicted, target, *, smooth: float = 1.0):
    """Dice overlap of probabilities, in each image and of each label.

    Formula: (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), sums over pixels; 1 where both are empty.
    Source: Milletari et al., V-Net, 3DV 2016, Sec. 3, https://arxiv.org/abs/1606.04797, with p and t in place of their
    squares and with `smooth`, as the public code of TC-MGAN has it.

    Args:
        predicted: probabilities, shape (B, H, W, K).
        target: probabilities or masks of 0 and 1, same shape.
        smooth: above 0; the larger, the less an image with few pixels of a label costs.

    Returns:
        In (0, 1], shape (B, K).
    """
    predicted, target = _float32(predicted), _float32(target)
    intersection = ops.sum(predicted * target, axis=(1, 2))
    sizes = ops.sum(predicted, axis=(1, 2)) + ops.sum(target, axis=(1, 2))
    return (2.0 * intersection + smooth) / (sizes + smooth)


def cosine_similarity(a, b):
    """Cosine of the angle between two vectors, 1 for one direction; 0 where one of them is 0.

    Formula: a . b / (|a| |b|), with norms of 1e-6 at least.
    Source: what Ouyang et al., IPMI 2021, Eq. 2, call the cosine distance; only as a similarity does their loss draw
    together what it should, as in their code, https://github.com/ouyangjiahong/representation-disentanglement.

    Args:
        a, b: shape (B, D).

    Returns:
        In [-1, 1], shape (B,).
    """
    a, b = (_float32(vector) for vector in (a, b))
    product, *squares = (ops.sum(x * y, axis=1) for x, y in ((a, b), (a, a), (b, b)))
    norms = (ops.rsqrt(ops.maximum(square, 1e-12)) for square in squares)
    return product * next(norms) * next(norms)


def margin_similarity(anchor, alike, other, *, margin: float):
    """Hinge loss that is 0 where the anchor is by `margin` more similar to one vector than to another.

    Formula: max(0, margin - cos(anchor, alike) + cos(anchor, other)).
    Source: Ouyang et al., Representation disentanglement for multi-modal brain MRI analysis, IPMI 2021, Eq. 2,
    https://github.com/ouyangjiahong/representation-disentanglement.

    Args:
        anchor, alike, other: shape (B, D).
        margin: of the cosines.

    Returns:
        In [0, 2 + margin], shape (B,).
    """
    return ops.relu(margin - cosine_similarity(anchor, alike) + cosine_similarity(anchor, other))


def field_roughness(field):
    """How much a displacement field differs from one pixel to the next: the diffusion regulariser of registration.

    The squared length of its differences along rows and along columns, each the mean over pixels, added.

    Args:
        field: (B, H, W, 2), in pixels; H and W from 2.

    Returns:
        (B,), in pixels per pixel, squared; 0 where all moves alike.
    """
    down, right = field[:, 1:] - field[:, :-1], field[:, :, 1:] - field[:, :, :-1]
    return sum(ops.mean(ops.sum(ops.square(step), axis=-1), axis=(1, 2)) for step in (down, right))


def mutual_information(a, b, *, bins: int = 16):
    """Mutual information of two images: how much an intensity of one says of that of the other at the same pixel.

    Of the joint histogram of each pair of images, to which a pixel counts in the two nearest bins of each image, by its
    distance from their centres (Parzen windows, Mattes et al., IEEE TMI 22, 2003, here of first order), so that there
    is a gradient. It does not ask how the contrasts of two modalities are related, and so serves to align them.

    Args:
        a, b: (B, H, W, C) in [-1, 1]; what is beyond counts as -1 or 1.
        bins: of each image, from -1 to 1.

    Returns:
        (B,), in nats, from 0, for images that say nothing of each other, to log(bins).
    """
    joint = ops.matmul(ops.transpose(_shares_of_bins(a, bins), (0, 2, 1)), _shares_of_bins(b, bins))
    joint = joint / ops.sum(joint, axis=(1, 2), keepdims=True)
    apart = ops.sum(joint, axis=2, keepdims=True) * ops.sum(joint, axis=1, keepdims=True)
    return ops.sum(joint * (_safe_log(joint) - _safe_log(apart)), axis=(1, 2))


def weighted_mean(values, weight):
    """Mean of values by weights of 0 and 1, of one shape, such as (B,); 0 where all are 0."""
    # Not values * weight: what does not count may be infinite.
    return ops.sum(ops.where(weight > 0, values, 0.0)) / ops.maximum(ops.sum(weight), 1.0)


def _shares_of_bins(image, bins: int):
    """(B, H * W * C, bins): which share of each pixel is in each bin; at most two are not 0."""
    pixels = ops.reshape(_float32(image), (-1, int(np.prod(image.shape[1:])), 1))
    place = (ops.clip(pixels, -1.0, 1.0) + 1.0) * ((bins - 1) / 2)
    return ops.relu(1.0 - ops.abs(place - ops.arange(bins, dtype="float32")))


def _safe_log(values):
    """Logarithm, of 0 that of the least number whose gradient is finite."""
    return ops.log(ops.maximum(values, 1e-12))


def _float32(values):
    return ops.cast(keras.ops.convert_to_tensor(values), "float32")


def _mean_per_example(values):
    axes = tuple(range(1, len(values.shape)))
    return ops.mean(values, axis=axes) if axes else values
