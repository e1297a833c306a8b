"""The U-Net of pix2pix, cut at its bottleneck.

Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017, Sec. 3.2 and 6.1.1,
https://arxiv.org/abs/1611.07004: convolutions of 4 x 4 and stride 2 with leaky ReLU down, transposed ones with ReLU up,
each stage of the decoder with the encoder's features of the same size beside its own. The first stage, the innermost
and the last are not normalised: a map of one pixel has no statistics, and image intensities are to stay.

Its finest features see the image at half its resolution. With `level_0`, which pix2pix does not have, two convolutions
of 3 x 3 see it at full resolution, and two more make the image from what they found, in encoder and decoder both.
"""

from collections.abc import Callable

import keras

from tfdisent.networks.blocks import (
    check_upsampling,
    decoder_inputs,
    instance_norm,
    modulated,
    small_normal,
    stage_filters,
    upsampled,
    with_code,
)

SLOPE = 0.2  # of the leaky ReLU


def unet_encoder(
    image_shape: tuple[int, int, int],
    *,
    filters: int = 64,
    num_levels: int = 7,
    level_0: bool = False,
    normalization: Callable = instance_norm,
    initializer: Callable = small_normal,
    name: str = "encoder",
) -> keras.Model:
    """Image (B, H, W, C) -> {"level_1": features, ...}.

    Level k is (B, H / 2^k, W / 2^k, filters * min(2^(k - 1), 8)), and with `level_0` "level_0" is (B, H, W, filters).

    Raises:
        ValueError: if H or W cannot be halved `num_levels` times.
    """
    _check_levels(image_shape, num_levels)
    image = keras.Input(image_shape, name="image")
    h, features = image, {}
    if level_0:
        for _ in range(2):
            h = keras.layers.LeakyReLU(SLOPE)(_conv(filters, initializer)(h))
        h, features["level_0"] = image, h
    for level, width in enumerate(stage_filters(filters, num_levels), start=1):
        h = keras.layers.Conv2D(width, 4, 2, "same", kernel_initializer=initializer())(h)
        h = normalization()(h) if 1 < level < num_levels else h
        h = keras.layers.LeakyReLU(SLOPE)(h)
        features[f"level_{level}"] = h
    return keras.Model(image, features, name=name)


def unet_decoder(
    image_shape: tuple[int, int, int],
    *,
    code_dim: int = 0,
    filters: int = 64,
    num_levels: int = 7,
    upsampling: str = "transposed",
    merge: bool = False,
    level_0: bool = False,
    normalization: Callable = instance_norm,
    initializer: Callable = small_normal,
    name: str = "decoder",
) -> keras.Model:
    """{"level_1": features of `unet_encoder`, ..., "code": (B, code_dim) unless that is 0} -> image (B, H, W, C).

    Intensities lie in [-1, 1].

    The code is repeated over the map and stands beside the features of every level. In pix2pix's stages that is little:
    what a constant plane adds to a linear layer is taken out again by the instance normalisation after it, but for the
    border, and the finest skip reaches the image through one linear layer, which no code can turn around. With `merge`
    a convolution of 3 x 3 with ReLU first merges each level's features with its skip and the code, and what the
    innermost features and the code say together sets the gain and shift of its channels. With `level_0` there is such a
    merger at full resolution, with or without the other ones, and then a convolution to the image.

    Raises:
        ValueError: if H or W cannot be halved `num_levels` times, or on an unknown `upsampling`.
    """
    _check_levels(image_shape, num_levels)
    check_upsampling(upsampling)
    height, width, channels = image_shape
    widths = stage_filters(filters, num_levels)
    shapes = {f"level_{level}": (height >> level, width >> level, depth) for level, depth in enumerate(widths, start=1)}
    shapes |= {"level_0": (height, width, filters)} if level_0 else {}
    inputs, code = decoder_inputs(shapes, code_dim)
    innermost = inputs[f"level_{num_levels}"]
    told = _what_is_told(innermost, code, 4 * filters) if merge else None
    h = with_code(innermost, code)
    for level in range(num_levels - 1, 0, -1):
        width = widths[level - 1]
        h = upsampled(keras.layers.ReLU()(h), width, upsampling, initializer)
        skip = with_code(inputs[f"level_{level}"], code)
        h = keras.layers.Concatenate()([normalization()(h), skip])
        if merge:
            h = modulated(_conv(width, initializer)(h), told)
    if level_0:
        h = upsampled(keras.layers.ReLU()(h), filters, upsampling, initializer)
        h = keras.layers.Concatenate()([h, with_code(inputs["level_0"], code)])
        h = _conv(filters, initializer)(h)
        h = _conv(channels, initializer)(keras.layers.ReLU()(modulated(h, told) if merge else h))
    else:
        h = upsampled(keras.layers.ReLU()(h), channels, upsampling, initializer)
    image = keras.layers.Activation("tanh", dtype="float32")(h)
    return keras.Model(inputs, image, name=name)


def _conv(filters, initializer):
    return keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=initializer())


def _what_is_told(innermost, code, num_units):
    """What sets gains and shifts (B, num_units): of the innermost features, mean over the map, and the code."""
    told = keras.layers.GlobalAveragePooling2D()(innermost)
    told = told if code is None else keras.layers.Concatenate()([told, code])
    return keras.layers.Dense(num_units, activation="relu")(told)


def _check_levels(image_shape, num_levels):
    height, width, _ = image_shape
    if num_levels < 2 or height % 2**num_levels or width % 2**num_levels:
        raise ValueError(
            "Expected num_levels of 2 or more, and a height and width that can be halved as often; received "
            f"{num_levels} levels for {height} x {width}."
        )
