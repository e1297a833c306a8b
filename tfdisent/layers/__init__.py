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
    StraightThroughOneHot,
    StraightThroughRounding,
)
from tfdisent.layers.transformer import ThinPlateTransformer

__all__ = [
    "CondConv2D",
    "GaussianSampling",
    "GradientReversal",
    "GroupwiseBatchNormalization",
    "InstanceNormalization",
    "SpatialModulation",
    "SpectralNormalization",
    "StraightThroughOneHot",
    "StraightThroughRounding",
    "ThinPlateTransformer",
    "UpsampleConv2D",
]
