"""A decoder that draws an image of given anatomy in the appearance that a code says.

Source: the decoder "based on SPADE" of Chartsias et al., Disentangle, align and fuse for multimodal and semi-supervised
image segmentation, IEEE TMI 2021, https://arxiv.org/abs/1911.04417, Sec. III-D and its public code; spatially adaptive
normalisation is that of Park et al., CVPR 2019, Sec. 3, https://arxiv.org/abs/1903.07291. The code becomes the coarsest
map by a dense layer. Residual blocks, with the anatomy in their normalisations, and upsampling alternate:

    block  128, 128, 128, 64, 32, 16 channels at 1/32, 1/16, 1/8, 1/4, 1/2 and 1 of the sides

A map keeps four pixels a side at least, or the instance norm would leave little of the code: small images have fewer
blocks, those of the end. Different from the code, the anatomy is brought to a map's size by means of its pixels, and
not by nearest neighbours, so that soft anatomy counts whole. And an anatomy can be drawn in several looks at once, by
which all that is made of it alone, most of the work, is done once.
"""

import keras
from keras import ops

from tfdisent.layers import InstanceNormalization, SpatialModulation
from tfdisent.networks.blocks import decoder_inputs, modulated, num_halvings

DIVISORS = (1, 1, 1, 2, 4, 8)  # of the first block's channels, one for each block


def spade_decoder(
    image_shape: tuple[int, int, int],
    *,
    anatomy_channels: int,
    code_dim: int,
    filters: int = 128,
    hidden_filters: int = 128,
    modulate: bool = False,
    name: str = "decoder",
) -> keras.Model:
    """{"anatomy": (B, H, W, anatomy_channels), "code": (B, code_dim)} -> image (B, H, W, channels) in [-1, 1].

    A call may give K codes for each anatomy in turn, (B * K, code_dim), which makes (B * K, H, W, channels).

    Args:
        image_shape: (H, W, channels).
        anatomy_channels: of the anatomy.
        code_dim: length of the code.
        filters: channels of the first block.
        hidden_filters: channels between the anatomy and what each normalisation makes of it.
        modulate: the code also gives each block's features a gain and a shift.
        name: of the model.
    """
    height, width, channels = image_shape
    levels = num_halvings(height, width, at_most=5, smallest=4)
    inputs, code = decoder_inputs({"anatomy": (height, width, anatomy_channels)}, code_dim)
    anatomy = inputs["anatomy"]
    widths = [max(1, filters // divisor) for divisor in DIVISORS[-levels - 1 :]]
    coarse = (height >> levels, width >> levels, widths[0])
    h = keras.layers.Dense(coarse[0] * coarse[1] * coarse[2])(code)
    h = keras.layers.Reshape(coarse)(h)
    for level, depth in zip(range(levels, -1, -1), widths, strict=True):
        scaled = keras.layers.AveragePooling2D(2**level)(anatomy) if level else anatomy
        h = _residual_block(h, scaled, depth, hidden_filters)
        if modulate:
            h = modulated(h, code)
        if level:
            h = keras.layers.UpSampling2D(2)(h)
    h = keras.layers.Conv2D(channels, 1)(h)
    outputs = keras.layers.Activation("tanh", dtype="float32")(h)
    return keras.Model(inputs, outputs, name=name)


def spade(features, anatomy, hidden_filters: int):
    """Features (B * K, H, W, C), normalised, then times 1 + a map and plus a map, made of the anatomy (B, H, W, S)."""
    channels = features.shape[-1]
    normalized = InstanceNormalization(epsilon=1e-5, center=False, scale=False)(features)
    hidden = keras.layers.Conv2D(hidden_filters, 3, padding="same", activation="relu")(anatomy)
    both = keras.layers.Conv2D(2 * channels, 3, padding="same")(hidden)  # gain and shift
    gain, shift = ops.split(both, 2, axis=-1)
    return SpatialModulation()([normalized, gain, shift])


def _residual_block(features, anatomy, filters: int, hidden_filters: int):
    channels = features.shape[-1]
    h = features
    for depth in (min(channels, filters), filters):
        h = keras.layers.LeakyReLU(0.2)(spade(h, anatomy, hidden_filters))
        h = keras.layers.Conv2D(depth, 3, padding="same")(h)
    if channels != filters:
        features = spade(features, anatomy, hidden_filters)
        features = keras.layers.Conv2D(filters, 1, use_bias=False)(features)
    return keras.layers.Add()([features, h])
