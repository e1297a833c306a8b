"""Layers that the systems share: `keras.ops` only, the same on TensorFlow, JAX and PyTorch."""

from tfdisent.layers.convolution import UpsampleConv2D
from tfdisent.layers.normalization import InstanceNormalization, SpectralNormalization
from tfdisent.layers.stochastic import (
    GaussianSampling,
    GradientReversal,
    StraightThroughRounding,
)

__all__ = [
    "GaussianSampling",
    "GradientReversal",
    "InstanceNormalization",
    "SpectralNormalization",
    "StraightThroughRounding",
    "UpsampleConv2D",
]
