"""Discriminators that judge an image patch by patch."""

from collections.abc import Callable

import keras


def patch_discriminator(
    image_shape: tuple[int, int, int],
    *,
    filters: int = 64,
    num_levels: int = 5,
    num_classes: int = 0,
    slope: float = 0.01,
    normalization: Callable | None = None,
    initializer: Callable = keras.initializers.HeNormal,
    name: str = "discriminator",
) -> keras.Model:
    """Image (B, H, W, C) -> scores (B, H / 2^n, W / 2^n, 1), and with `num_classes` [scores, class logits (B, K)].

    Source: StarGAN, appendix, Table 5, https://arxiv.org/abs/1711.09020, and TC-MGAN after it: n = `num_levels`
    convolutions of 4 x 4 and stride 2, doubling the channels, with leaky ReLU; then one of 3 x 3 for the scores, and
    one over the whole map for the classes, both without bias and linear. `normalization`
    follows all stages but the first.

    Raises:
        ValueError: if H or W cannot be halved `num_levels` times.
    """
    height, width, _ = image_shape
    if num_levels < 1 or height % 2**num_levels or width % 2**num_levels:
        raise ValueError(
            "Expected num_levels of 1 or more, and a height and width that can be halved as often; received "
            f"{num_levels} levels for {height} x {width}."
        )
    image = keras.Input(image_shape, name="image")
    h = image
    for level in range(num_levels):
        h = keras.layers.Conv2D(filters * 2**level, 4, 2, "same", kernel_initializer=initializer())(h)
        h = normalization()(h) if normalization and level else h
        h = keras.layers.LeakyReLU(slope)(h)
    scores = keras.layers.Conv2D(
        1, 3, padding="same", use_bias=False, kernel_initializer=initializer(), dtype="float32"
    )(h)
    if not num_classes:
        return keras.Model(image, scores, name=name)
    classes = keras.layers.Conv2D(
        num_classes, h.shape[1:3], use_bias=False, kernel_initializer=initializer(), dtype="float32"
    )(h)
    return keras.Model(image, [scores, keras.layers.Flatten(dtype="float32")(classes)], name=name)
