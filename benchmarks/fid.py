"""The Frechet distance, which TF-GAN computes, against the same formula in numpy and scipy."""

import statistics
import time

import numpy as np
import scipy.linalg

from benchmarks import Measurement
from tfdisent.metrics import frechet_distance


def measure(num: int = 5000, width: int = 768, rounds: int = 3) -> Measurement:
    """Seconds for two sets of features (num, width).

    Raises:
        RuntimeError: the two do not compute the same.
    """
    rng = np.random.default_rng(0)
    a = rng.normal(size=(num, width))
    b = rng.normal(size=(num, width)) @ rng.normal(size=(width, width)) / width**0.5 + 0.1
    first = _seconds(frechet_distance, a, b)  # loads TF-GAN
    ours, reference = [], []
    for _ in range(rounds):
        ours.append(_seconds(frechet_distance, a, b))
        reference.append(_seconds(by_eigenvalues, a, b))
    values = frechet_distance(a, b), by_eigenvalues(a, b)
    if not np.isclose(*values, rtol=1e-5):
        raise RuntimeError(f"Expected the same distance twice, received {values}.")
    median = statistics.median(ours)
    ratio = median / statistics.median(reference)
    return Measurement(median, "s", ours, first, "scipy.linalg.eigh", ratio)


def by_eigenvalues(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + Tr(C_a + C_b) - 2 Tr((C_a^(1/2) C_b C_a^(1/2))^(1/2))."""
    mean = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = (np.cov(x, rowvar=False) for x in (a, b))
    values, vectors = scipy.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    products = scipy.linalg.eigh(root @ cov_b @ root, eigvals_only=True)
    return float(mean @ mean + np.trace(cov_a + cov_b) - 2 * np.sqrt(products.clip(0)).sum())


def _seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start
