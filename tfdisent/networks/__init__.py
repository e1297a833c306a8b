"""Networks that two systems or more use: functions that build `keras.Model`s, channels last.

An encoder gives its features by level, {"level_1": the finest, ...}, the last being the bottleneck; its decoder takes
that dict, with a "code" (B, K) in it if it is told to. What they have in common is the vocabulary of their arguments:

    image_shape     (H, W, channels) of the image that goes in, or, of a decoder, comes out
    filters         channels of the first stage
    normalization   makes a normalisation layer, as `instance_norm` does
    initializer     makes an initializer of kernels, as `small_normal` and `keras.initializers.HeNormal` do
    upsampling      a name from `UPSAMPLING`
"""

from tfdisent.networks.attention_unet import attention_unet
from tfdisent.networks.blocks import (
    INITIALIZERS,
    UPSAMPLING,
    instance_norm,
    modality_inputs,
    normalized_by_modality,
    num_halvings,
    small_normal,
    with_code,
)
from tfdisent.networks.nvnet import nvnet
from tfdisent.networks.patch import patch_discriminator
from tfdisent.networks.residual import residual_decoder, residual_encoder
from tfdisent.networks.spade import spade_decoder
from tfdisent.networks.strided_unet import strided_unet
from tfdisent.networks.unet import unet_decoder, unet_encoder

__all__ = [
    "INITIALIZERS",
    "UPSAMPLING",
    "attention_unet",
    "instance_norm",
    "modality_inputs",
    "normalized_by_modality",
    "num_halvings",
    "nvnet",
    "patch_discriminator",
    "residual_decoder",
    "residual_encoder",
    "small_normal",
    "spade_decoder",
    "strided_unet",
    "unet_decoder",
    "unet_encoder",
    "with_code",
]
