"""Metrics: functions of arrays and features, never of models, computed in float64.

Importing this module imports neither TensorFlow nor Keras: what TF-GAN computes (Fréchet and kernel distance, Inception
score) loads TensorFlow at the first call. Networks that judge images are in `tfdisent.downstream.judge`.
"""

from tfdisent.metrics.agreement import coefficient_of_variation, intraclass_correlation
from tfdisent.metrics.comparison import Paired, paired_permutation_test
from tfdisent.metrics.disentanglement import (
    Dependence,
    coefficient_of_determination,
    cross_image_feature_consistency,
    dependence,
    distance_correlation,
    information_over_bias,
    linear_probe_accuracy,
    linear_probe_r2,
    squared_correlation,
)
from tfdisent.metrics.generative import (
    conditional_generation_accuracy,
    density_and_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    maximum_mean_discrepancy,
)
from tfdisent.metrics.image import mean_absolute_error, psnr, ssim
from tfdisent.metrics.memorisation import Memorisation, memorisation, nearest_distances, symmetries
from tfdisent.metrics.retrieval import Nearest, disagreement_divergence, label_overlap, nearest
from tfdisent.metrics.segmentation import boundary_distance, dice, iou
from tfdisent.metrics.truth import (
    DCI,
    BlockGap,
    block_gap,
    dci,
    mutual_information_gap,
    separated_attribute_predictability,
)

__all__ = [
    "DCI",
    "BlockGap",
    "Dependence",
    "Memorisation",
    "Nearest",
    "Paired",
    "block_gap",
    "boundary_distance",
    "coefficient_of_determination",
    "coefficient_of_variation",
    "conditional_generation_accuracy",
    "cross_image_feature_consistency",
    "dci",
    "density_and_coverage",
    "dependence",
    "dice",
    "disagreement_divergence",
    "distance_correlation",
    "frechet_distance",
    "inception_score",
    "information_over_bias",
    "intraclass_correlation",
    "iou",
    "kernel_distance",
    "label_overlap",
    "maximum_mean_discrepancy",
    "linear_probe_accuracy",
    "linear_probe_r2",
    "mean_absolute_error",
    "memorisation",
    "mutual_information_gap",
    "nearest",
    "nearest_distances",
    "paired_permutation_test",
    "psnr",
    "separated_attribute_predictability",
    "squared_correlation",
    "ssim",
    "symmetries",
]
