"""Layers that the systems share: `keras.ops` only, the same on TensorFlow, JAX and PyTorch."""

from tfdisent.layers.convolution import CondConv2D, UpsampleConv2D
from tfdisent.layers.normalization import (
    GroupwiseBatchNormalization,
    InstanceNormalization,
    SpatialModulation,
    SpectralNormalization,
)
from tfdisent.layers.stochastic import (
    GaussianSampling,
    GradientReversal,
    StraightThroughRounding,
)

__all__ = [
    "CondConv2D",
    "GaussianSampling",
    "GradientReversal",
    "GroupwiseBatchNormalization",
    "InstanceNormalization",
    "SpatialModulation",
    "SpectralNormalization",
    "StraightThroughRounding",
    "UpsampleConv2D",
]
