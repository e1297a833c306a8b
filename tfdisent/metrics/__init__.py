"""Metrics: functions of arrays and features, never of models, computed in float64.

Importing this module imports no TensorFlow and no Keras: what TF-GAN computes (Frechet and kernel
distance, Inception score) loads TensorFlow at the first call, and the judges in `features` load
Keras when they are first named.
"""

import importlib

from tfdisent.metrics.disentanglement import (
    coefficient_of_determination,
    cross_image_feature_consistency,
    distance_correlation,
    linear_probe_accuracy,
    linear_probe_r2,
    squared_correlation,
)
from tfdisent.metrics.generative import (
    conditional_generation_accuracy,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from tfdisent.metrics.retrieval import disagreement_divergence, label_overlap, nearest

__all__ = [
    "coefficient_of_determination",
    "conditional_generation_accuracy",
    "cross_image_feature_consistency",
    "disagreement_divergence",
    "distance_correlation",
    "fit_classifier",
    "fit_position_regressor",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "label_overlap",
    "linear_probe_accuracy",
    "linear_probe_r2",
    "nearest",
    "squared_correlation",
]


def __getattr__(name: str):
    if name in ("fit_classifier", "fit_position_regressor"):
        return getattr(importlib.import_module("tfdisent.metrics.features"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
