"""Quality of generated images, from features and logits of a classifier of real images.

Fréchet distance, kernel distance and Inception score are computed by TF-GAN in float64; the protocol is that of Havaei
et al. (DRAI, https://arxiv.org/abs/2012.04764), Sec. III-C. Values can be compared only between runs with the same
classifier (`tfdisent.downstream.judge`) and the same number of images: the Fréchet distance between two samples of one
distribution is not 0, but falls as 1 / N.
"""

import warnings

import numpy as np

from tfdisent.metrics import _tfgan


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Returns the Fréchet distance (FID) between two sets of features, each taken as a Gaussian.

    `|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2))` with means m and unbiased covariances C (Heusel et al. 2017,
    https://arxiv.org/abs/1706.08500; DRAI Sec. III-C.2). It is symmetric, at least 0 up to rounding, and in squared
    units of the features.

    Args:
        features_a: (N, D), one row per image.
        features_b: (M, D); M may differ from N.

    Raises:
        ValueError: not 2-D, widths differ, fewer than 2 rows, values not finite.

    Warns:
        UserWarning: a set has no more rows than columns; its covariance is then singular and the value biased upward.
    """
    features_a, features_b = _feature_pair(features_a, features_b)
    for name, features in (("features_a", features_a), ("features_b", features_b)):
        num_samples, width = features.shape
        if num_samples <= width:
            warnings.warn(
                f"{name}: N={num_samples} samples for D={width} features: covariance is singular, value biased upward. "
                f"Take more than {width} images, or kernel_distance, which is unbiased at any N.",
                UserWarning,
                stacklevel=2,
            )
    with _tfgan.on_cpu() as tfgan:
        return float(tfgan.frechet_classifier_distance_from_activations(features_a, features_b))


def kernel_distance(
    features_a: np.ndarray, features_b: np.ndarray, *, max_block_size: int = 1024
) -> tuple[float, float]:
    """Returns the kernel distance (KID): squared maximum mean discrepancy under the kernel `(x.y / D + 1)^3`.

    It is unbiased at any N, so it may be slightly negative (Binkowski et al. 2018, https://arxiv.org/abs/1801.01401).
    TF-GAN estimates it in `ceil(max(N, M) / max_block_size)` blocks. Rows are shuffled first, with a fixed seed,
    because blocks of features that are sorted by class would give wrong estimates.

    Args:
        features_a: (N, D), one row per image.
        features_b: (M, D); M may differ from N.
        max_block_size: rows per block at most; a smaller one is faster and gives a better `std` and a noisier mean.

    Returns:
        mean and std: the estimate and its standard error over blocks; the latter is nan if there is one block.

    Raises:
        ValueError: not 2-D, widths differ, values not finite, or fewer than 2 rows in some block.
    """
    features_a, features_b = _feature_pair(features_a, features_b)
    num_blocks = -(-max(len(features_a), len(features_b)) // max_block_size)
    if min(len(features_a), len(features_b)) < 2 * num_blocks:
        raise ValueError(
            f"Expected 2 rows or more of each set in each of its {num_blocks} blocks, received {len(features_a)} and "
            f"{len(features_b)} rows. Take sets of similar size, or a larger max_block_size than {max_block_size}."
        )
    rng = np.random.default_rng(0)
    with _tfgan.on_cpu() as tfgan:
        mean, std = tfgan.kernel_classifier_distance_and_std_from_activations(
            tfgan.tf.constant(rng.permutation(features_a)),
            tfgan.tf.constant(rng.permutation(features_b)),
            max_block_size=max_block_size,
        )
    return float(mean), float(std)


def inception_score(logits: np.ndarray) -> float:
    """Returns the Inception score, `exp(E_x KL(p(y|x) || p(y)))`, between 1 and the number of classes K.

    It is computed over the whole set at once, not in 10 splits (Salimans et al. 2016, https://arxiv.org/abs/1606.03498;
    DRAI Sec. III-C.3).

    Args:
        logits: (N, K), a classifier's outputs before the softmax.

    Raises:
        ValueError: not 2-D or not finite.
    """
    logits = _matrix("logits", logits, min_rows=1)
    # A probability that underflows to 0 in every row would give 0 * inf; exp(-700) stays above 0.
    logits = np.maximum(logits, logits.max(axis=1, keepdims=True) - 700.0)
    with _tfgan.on_cpu() as tfgan:
        return float(tfgan.classifier_score_from_logits(logits))


def conditional_generation_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of generated images that a classifier of real images finds to be of their condition, in [0, 1].

    This is the conditional generation accuracy, CGAcc, of DRAI, Sec. III-C.4.

    Args:
        logits: (N, K), the classifier's outputs on the generated images.
        labels: (N,) integers in [0, K), the condition that each image was generated with.

    Raises:
        ValueError: shapes do not match, or labels are not integers in range.
    """
    logits = _matrix("logits", logits, min_rows=1)
    labels = np.asarray(labels)
    if labels.shape != logits.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Expected labels to be {len(logits)} integers, one per row of logits, received shape {labels.shape} of "
            f"{labels.dtype}. One-hot conditions: pass condition.argmax(axis=1)."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"Expected labels to lie in [0, {logits.shape[1]}), the columns of logits, received {labels.min()} to "
            f"{labels.max()}."
        )
    return float(np.mean(logits.argmax(axis=1) == labels))


def _feature_pair(features_a, features_b) -> tuple[np.ndarray, np.ndarray]:
    features_a = _matrix("features_a", features_a, min_rows=2)
    features_b = _matrix("features_b", features_b, min_rows=2)
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(
            "Expected both sets to come from one extractor, with rows of the same width, received shapes "
            f"{features_a.shape} and {features_b.shape}."
        )
    return features_a, features_b


def _matrix(name: str, values, *, min_rows: int) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < min_rows or values.shape[1] < 1:
        raise ValueError(
            f"Expected {name} to be (N, D) with N >= {min_rows}, one row per image, received shape {values.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected {name} to be finite, received nan or inf in {len(bad)} of {len(values)} rows, first in row "
            f"{bad[0]}. Look at the images behind them."
        )
    return values
