"""The U-Net with attention gates that draws PET from MR.

Source: Ouyang et al., Zero-dose PET reconstruction with missing input by U-Net with attention modules, Medical Imaging
Meets NeurIPS 2020, which Ouyang et al., IPMI 2021, use, and the public code of the latter,
https://github.com/ouyangjiahong/representation-disentanglement: convolutions of 4 x 4 and stride 2 with leaky ReLU and
batch norm, bilinear upsampling with convolutions of 3 x 3, and beside the latter what came down at that size, each of
its pixels weighted by a gate (Oktay et al., Attention U-Net, 2018, https://arxiv.org/abs/1804.03999). Its channels are
64, 128, 256, 512 and 512.

By a slip that code has no activation in places; here each convolution but the last has one.
"""

import keras

from tfdisent.networks.blocks import stage_filters

SLOPE = 0.2  # of the leaky ReLU


def attention_unet(
    image_shape: tuple[int, int, int],
    *,
    num_outputs: int = 1,
    filters: int = 64,
    num_levels: int = 5,
    activation: str = "tanh",
    name: str = "attention_unet",
) -> keras.Model:
    """Image (B, H, W, C) -> image (B, H, W, num_outputs).

    Args:
        image_shape: (H, W, C).
        num_outputs: channels of what is drawn.
        filters: channels of the first stage, doubled from one to the next up to eight times the first.
        num_levels: how often the image is halved, 2 or more.
        activation: of the last layer.
        name: of the model.

    Raises:
        ValueError: if H or W cannot be halved `num_levels` times.
    """
    height, width, _ = image_shape
    if num_levels < 2 or height % 2**num_levels or width % 2**num_levels:
        raise ValueError(
            "Expected num_levels of 2 or more, and a height and width that can be halved as often; received "
            f"{num_levels} levels for {height} x {width}."
        )
    image = h = keras.Input(image_shape, name="image")
    widths, levels = stage_filters(filters, num_levels), []
    for k, depth in enumerate(widths):
        h = keras.layers.Conv2D(depth, 4, 2, "same", kernel_initializer="he_normal")(h)
        h = _normalized(h) if k else h
        h = keras.layers.LeakyReLU(SLOPE)(h)
        levels.append(h)
    for depth, level in zip(widths[-2::-1], levels[-2::-1], strict=True):
        gated = _gated(level, h)
        h = keras.layers.UpSampling2D(2, interpolation="bilinear")(h)
        h = keras.layers.Conv2D(depth, 3, padding="same", kernel_initializer="he_normal")(h)
        h = keras.layers.Concatenate()([gated, keras.layers.ReLU()(_normalized(h))])
    h = keras.layers.UpSampling2D(2, interpolation="bilinear")(h)
    h = keras.layers.Conv2D(num_outputs, 3, padding="same")(h)
    made = keras.layers.Activation(activation, dtype="float32", name="made")(h)
    return keras.Model(image, made, name=name)


def _gated(features, gate):
    """Features (B, H, W, C), each pixel weighted by how much the coarser ones (B, H / 2, W / 2, D) ask for it."""
    channels = features.shape[-1]
    asked = keras.layers.Conv2D(channels, 2, 2, use_bias=False)(features)
    asked = keras.layers.ReLU()(keras.layers.Add()([asked, keras.layers.Conv2D(channels, 1)(gate)]))
    weight = keras.layers.Conv2D(1, 1, activation="sigmoid", name=f"gate_{features.shape[1]}")(asked)
    weight = keras.layers.UpSampling2D(2, interpolation="bilinear")(weight)
    return _normalized(keras.layers.Conv2D(channels, 1)(keras.layers.Multiply()([features, weight])))


def _normalized(h):
    # The momentum of 0.99 that is the default would leave traces of the first steps in a short training.
    return keras.layers.BatchNormalization(momentum=0.9)(h)
