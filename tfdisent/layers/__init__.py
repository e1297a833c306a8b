"""Layers that the systems share: `keras.ops` only, the same on TensorFlow, JAX and PyTorch."""

from tfdisent.layers.convolution import CondConv2D, UpsampleConv2D
from tfdisent.layers.normalization import (
    GroupwiseBatchNormalization,
    InstanceNormalization,
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
    "SpectralNormalization",
    "StraightThroughRounding",
    "UpsampleConv2D",
]
