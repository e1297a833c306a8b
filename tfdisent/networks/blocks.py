"""Pieces that networks are made of."""

from collections.abc import Callable

import keras
from keras import ops

from tfdisent.layers import GroupwiseBatchNormalization, InstanceNormalization, UpsampleConv2D

# "transposed": pix2pix's transposed convolution of 4 x 4. "nearest": nearest-neighbour upsampling and a convolution of
# 3 x 3, which leaves no checkerboard.
UPSAMPLING = ("transposed", "nearest")


def instance_norm() -> keras.layers.Layer:
    """Instance normalisation as PyTorch's default, which public code has: no gain, no shift, epsilon 1e-5."""
    return InstanceNormalization(epsilon=1e-5, center=False, scale=False)


def small_normal() -> keras.initializers.Initializer:
    """N(0, 0.02), as DCGAN and pix2pix."""
    return keras.initializers.RandomNormal(stddev=0.02)


# What configs call them.
INITIALIZERS = {"normal": small_normal, "he_normal": keras.initializers.HeNormal}


def num_halvings(height: int, width: int, at_most: int, smallest: int = 1) -> int:
    """How often both sides can be halved without remainder, down to `smallest` pixels, `at_most` times."""
    count = 0
    while count < at_most and not (height % 2 or width % 2) and min(height, width) // 2 >= smallest:
        height, width, count = height // 2, width // 2, count + 1
    return count


def stage_filters(filters: int, num_levels: int) -> list[int]:
    """Channels of each stage, doubled from one to the next up to eight times the first."""
    return [filters * min(2**level, 8) for level in range(num_levels)]


def decoder_inputs(shapes: dict[str, tuple], code_dim: int) -> tuple[dict, keras.KerasTensor | None]:
    """Inputs of a decoder by name, with one for a code of this length unless that is 0; and the code's, or None."""
    shapes = shapes | ({"code": (code_dim,)} if code_dim else {})
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    return inputs, inputs.get("code")


def with_code(features, code):
    """Features (B, H, W, C) with a code (B, K) repeated over the map: (B, H, W, C + K). Without a code, as they are."""
    if code is None:
        return features
    _, height, width, _ = features.shape
    plane = ops.tile(ops.expand_dims(code, (1, 2)), (1, height, width, 1))
    return keras.layers.Concatenate()([features, plane])


def modality_inputs(num_modalities: int) -> dict[str, keras.KerasTensor]:
    """Inputs of the one modality that a call is in, one-hot, and of which examples count in batch statistics."""
    return {
        "modality": keras.Input((num_modalities,), name="modality"),
        "weight": keras.Input((), name="weight"),
    }


def normalized_by_modality(features, told: dict):
    """Features (B, H, W, C) after a batch norm with statistics for each modality, by `modality_inputs`."""
    return GroupwiseBatchNormalization()([features, told["weight"], told["modality"]])


def modulated(features, told):
    """Features (B, H, W, C), each channel times a gain and plus a shift that are linear in what is told (B, K).

    Source: Perez et al., FiLM, AAAI 2018, https://arxiv.org/abs/1709.07871. At first the gain is 1 and the shift 0.
    """
    channels = features.shape[-1]
    gain, shift = (
        keras.layers.Reshape((1, 1, channels))(
            keras.layers.Dense(channels, kernel_initializer="zeros", bias_initializer=bias)(told)
        )
        for bias in ("ones", "zeros")
    )
    return keras.layers.Add()([keras.layers.Multiply()([features, gain]), shift])


def upsampled(features, filters: int, upsampling: str, initializer: Callable):
    """Features (B, H, W, C) -> (B, 2H, 2W, filters)."""
    if upsampling == "nearest":
        layer = UpsampleConv2D(filters, kernel_initializer=initializer())
    else:
        layer = keras.layers.Conv2DTranspose(filters, 4, 2, "same", kernel_initializer=initializer())
    return layer(features)


def check_upsampling(upsampling: str) -> None:
    """Raises ValueError unless the name is one of `UPSAMPLING`."""
    if upsampling not in UPSAMPLING:
        known = " or ".join(map(repr, UPSAMPLING))
        raise ValueError(f"Expected upsampling {known}, received {upsampling!r}.")
