"""The segmentor that won BraTS 2018: residual encoder and decoder, and a second decoder that learns to draw the input.

Source: Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes 2018,
https://arxiv.org/abs/1810.11654: pre-activated residual blocks with group norm, 1, 2, 2 and 4 of them at four sizes;
strided convolutions down; a convolution of one pixel, upsampling and addition of what came down at that size up; and a
variational branch from the bottleneck back to the input. The same in two dimensions and in three.

Different from it: upsampling is nearest, as Keras has no trilinear one, and labels exclude each other (a softmax with
the background), where its three outputs are nested.
"""

import math

import keras

from tfdisent.layers import GaussianSampling

BLOCKS = (1, 2, 2, 4)  # residual blocks at each size
GROUPS = 8
BRANCH_FILTERS = 16  # of the variational branch's first convolution
LEAST_SIZE = 2 ** len(BLOCKS)  # what sides are multiples of


def nvnet(
    image_shape: tuple[int, ...],
    *,
    num_outputs: int,
    filters: int = 32,
    latent_dim: int = 128,
    weight_decay: float = 1e-5,
    seed: int = 0,
    name: str = "nvnet",
) -> keras.Model:
    """Image (B, H, W, C) or (B, D, H, W, C) -> {"labels": probabilities (B, ..., num_outputs), "reconstruction": as the
    image, "moments": mean and log variance of the branch's code (B, 2 * latent_dim)}.

    Args:
        image_shape: (H, W, C) or (D, H, W, C), multiples of 16 but for the channels.
        num_outputs: 1 for a sigmoid, or the number of labels with the background for a softmax.
        filters: channels at full size, a multiple of 8, doubled from one size to the next.
        latent_dim: of the branch's code.
        weight_decay: of the squares of all kernels of convolutions, in the loss.
        seed: of the dropout and of the code that is drawn.
        name: of the model.

    Raises:
        ValueError: the sides are no multiples of 16, or filters none of 8.
    """
    *sides, channels = image_shape
    if len(sides) not in (2, 3) or any(side % LEAST_SIZE for side in sides):
        raise ValueError(
            f"Expected image_shape to be (H, W, C) or (D, H, W, C) with sides that are multiples of {LEAST_SIZE}, "
            f"received {tuple(image_shape)}. Crop or pad the images."
        )
    if filters < GROUPS or filters % GROUPS:
        raise ValueError(f"Expected filters to be a multiple of {GROUPS}, received {filters}.")
    flat = len(sides) == 2
    convolution = keras.layers.Conv2D if flat else keras.layers.Conv3D
    doubled = keras.layers.UpSampling2D if flat else keras.layers.UpSampling3D
    dropout = keras.layers.SpatialDropout2D if flat else keras.layers.SpatialDropout3D

    def conv(h, width, kernel_size=3, strides=1):
        decay = keras.regularizers.L2(weight_decay)
        return convolution(width, kernel_size, strides, "same", kernel_regularizer=decay)(h)

    def active(h):
        return keras.layers.ReLU()(keras.layers.GroupNormalization(GROUPS)(h))

    def block(h):
        width = h.shape[-1]
        return keras.layers.Add()([h, conv(active(conv(active(h), width)), width)])

    def up(h, width):
        return doubled(2)(conv(h, width, 1))

    image = keras.Input(image_shape, name="image")
    h = dropout(0.2, seed=seed)(conv(image, filters))
    widths = [filters * 2**k for k in range(len(BLOCKS))]
    levels = []
    for k, (width, count) in enumerate(zip(widths, BLOCKS, strict=True)):
        h = conv(h, width, strides=2) if k else h
        for _ in range(count):
            h = block(h)
        levels.append(h)

    for width, level in zip(widths[-2::-1], levels[-2::-1], strict=True):
        h = block(keras.layers.Add()([up(h, width), level]))
    activation = "sigmoid" if num_outputs == 1 else "softmax"
    labels = keras.layers.Activation(activation, dtype="float32", name="labels")(conv(h, num_outputs, 1))

    h = conv(active(levels[-1]), BRANCH_FILTERS, strides=2)
    smallest = h.shape[1:]
    moments = keras.layers.Dense(2 * latent_dim, name="moments")(keras.layers.Flatten()(h))
    mean, log_variance = moments[:, :latent_dim], moments[:, latent_dim:]
    code = GaussianSampling(seed)([mean, log_variance])
    h = keras.layers.Dense(math.prod(smallest), activation="relu")(code)
    h = up(keras.layers.Reshape(smallest)(h), widths[-1])
    for width in widths[-2::-1]:
        h = block(up(h, width))
    reconstruction = keras.layers.Activation("linear", dtype="float32", name="reconstruction")(conv(h, channels, 1))
    return keras.Model(image, {"labels": labels, "reconstruction": reconstruction, "moments": moments}, name=name)
