"""The segmentor of TC-MGAN: a U-Net whose convolutions do the halving and doubling themselves.

Source: Xin et al., Multi-Modality Generative Adversarial Networks with Tumor Consistency Loss for Brain MR Image
Synthesis, ISBI 2020, https://arxiv.org/abs/2005.00925, and its public code: convolutions and transposed ones are 3 x 3
with stride 2, and have batch norm and ReLU:

    down  64, 128, 256, 512
    up    512, 256, 128, each concatenated with what came down at its size, then 1 with a sigmoid

With four channels these are 6,129,025 parameters, as that code has: four contrasts, or one and a one-hot code of three.
Different from it, the last layer starts small, not at He's scale, with which the sigmoid starts out saturated.
"""

import keras
from keras import ops

from tfdisent.layers import InstanceNormalization
from tfdisent.networks.blocks import with_code


def strided_unet(
    image_shape: tuple[int, int, int],
    *,
    num_outputs: int = 1,
    code_dim: int = 0,
    filters: int = 64,
    num_levels: int = 4,
    standardize: bool = False,
    name: str = "segmentor",
) -> keras.Model:
    """Image (B, H, W, C) -> probabilities (B, H, W, num_outputs); with a code {"image", "code": (B, code_dim)} -> same.

    One output has a sigmoid, several a softmax. The code is repeated over the map and stands beside the image.

    Args:
        image_shape: (H, W, C).
        num_outputs: 1, or the number of labels with the background.
        code_dim: length of the code, 0 for none.
        filters: channels of the first stage, doubled from one to the next.
        num_levels: how often the image is halved.
        standardize: the network first brings each channel of each image to mean 0 and variance 1.
        name: of the model.

    Raises:
        ValueError: if H or W cannot be halved `num_levels` times.
    """
    height, width, _ = image_shape
    if num_levels < 1 or height % 2**num_levels or width % 2**num_levels:
        raise ValueError(
            "Expected num_levels of 1 or more, and a height and width that can be halved as often; received "
            f"{num_levels} levels for {height} x {width}."
        )
    image = h = keras.Input(image_shape, name="image")
    code = keras.Input((code_dim,), name="code") if code_dim else None
    if standardize:
        h = InstanceNormalization(epsilon=1e-6, center=False, scale=False)(h)
    h = with_code(h, code)  # a constant plane would not pass the standardisation
    widths = [filters * 2**level for level in range(num_levels)]
    levels = []
    for depth in widths:
        h = _batch_norm_relu(_halved(h, depth))
        levels.append(h)
    for depth, level in zip(widths[:0:-1], levels[-2::-1], strict=True):
        h = _batch_norm_relu(_doubled(h, depth))
        h = keras.layers.Concatenate()([h, level])
    logits = _doubled(h, num_outputs, "glorot_uniform")
    activation = "sigmoid" if num_outputs == 1 else "softmax"
    outputs = keras.layers.Activation(activation, dtype="float32")(logits)
    return keras.Model({"image": image, "code": code} if code_dim else image, outputs, name=name)


# Padding and cropping of the first row and column, on every backend as PyTorch's `padding=1, output_padding=1`: what
# "same" means for these kernels differs between backends.


def _halved(features, filters: int):
    padded = keras.layers.ZeroPadding2D(((1, 0), (1, 0)))(features)
    return keras.layers.Conv2D(filters, 3, 2, kernel_initializer="he_normal")(padded)


def _doubled(features, filters: int, initializer: str = "he_normal"):
    h = keras.layers.Conv2DTranspose(filters, 3, 2, kernel_initializer=initializer)(features)
    for axis in (
        1,
        2,
    ):  # not `Cropping2D`: the gradient of TensorFlow's strided slice takes twenty times as long
        _, h = ops.split(h, [1], axis=axis)
    return h


def _batch_norm_relu(features):
    h = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(features)
    return keras.layers.Activation("relu")(h)
