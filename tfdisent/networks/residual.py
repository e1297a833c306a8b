"""The residual generator of StarGAN and CycleGAN, cut in the middle: an encoder and a decoder without skips.

Source: Choi et al., StarGAN, CVPR 2018, appendix, Table 4, https://arxiv.org/abs/1711.09020; first Johnson et al., ECCV
2016. Two stages of stride 2 and residual blocks at a quarter of the resolution.
"""

from collections.abc import Callable

import keras

from tfdisent.networks.blocks import (
    check_upsampling,
    decoder_inputs,
    instance_norm,
    small_normal,
    upsampled,
    with_code,
)


def residual_encoder(
    image_shape: tuple[int, int, int],
    *,
    filters: int = 64,
    num_blocks: int = 3,
    normalization: Callable = instance_norm,
    initializer: Callable = small_normal,
    name: str = "encoder",
) -> keras.Model:
    """Image (B, H, W, C), H and W multiples of 4 -> {"level_1": (B, H / 4, W / 4, 4 * filters)}."""
    image = keras.Input(image_shape, name="image")
    h = image
    for depth, kernel_size, strides in ((filters, 7, 1), (2 * filters, 4, 2), (4 * filters, 4, 2)):
        h = keras.layers.Conv2D(depth, kernel_size, strides, "same", kernel_initializer=initializer())(h)
        h = keras.layers.ReLU()(normalization()(h))
    for _ in range(num_blocks):
        h = _residual(h, normalization, initializer)
    return keras.Model(image, {"level_1": h}, name=name)


def residual_decoder(
    image_shape: tuple[int, int, int],
    *,
    code_dim: int = 0,
    filters: int = 64,
    num_blocks: int = 3,
    upsampling: str = "transposed",
    normalization: Callable = instance_norm,
    initializer: Callable = small_normal,
    name: str = "decoder",
) -> keras.Model:
    """{"level_1": features of `residual_encoder`, "code": (B, code_dim) unless that is 0} -> image (B, H, W, C).

    Intensities lie in [-1, 1]. A convolution of 3 x 3 merges the code, repeated over the map, with the features.

    Raises:
        ValueError: on an unknown `upsampling`.
    """
    check_upsampling(upsampling)
    height, width, channels = image_shape
    shapes = {"level_1": (height // 4, width // 4, 4 * filters)}
    inputs, code = decoder_inputs(shapes, code_dim)
    h = inputs["level_1"]
    if code_dim:
        h = keras.layers.Conv2D(4 * filters, 3, padding="same", kernel_initializer=initializer())(with_code(h, code))
        h = keras.layers.ReLU()(normalization()(h))
    for _ in range(num_blocks):
        h = _residual(h, normalization, initializer)
    for depth in (2 * filters, filters):
        h = keras.layers.ReLU()(normalization()(upsampled(h, depth, upsampling, initializer)))
    h = keras.layers.Conv2D(channels, 7, padding="same", kernel_initializer=initializer())(h)
    image = keras.layers.Activation("tanh", dtype="float32")(h)
    return keras.Model(inputs, image, name=name)


def _residual(h, normalization, initializer):
    depth = h.shape[-1]
    new = h
    for activation in (keras.layers.ReLU(), None):
        new = keras.layers.Conv2D(depth, 3, padding="same", kernel_initializer=initializer())(new)
        new = normalization()(new)
        new = activation(new) if activation else new
    return keras.layers.Add()([h, new])
