"""Random changes of a batch, the draw apart from the act: `draw_*` is a pure function of a seed.

A seed is an integer tensor (2,). Batches are dicts with `image` (B, H, W, C) and, where there are masks, `mask` (B, H,
W, M); both get the same change. Known factors stay those of the stored image.

Where several hosts hold a share of each batch, `share` is (index, number) of this one: what is drawn is drawn for the
whole batch, so that the images are those that one host would have.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

Batch = dict[str, tf.Tensor]


def draw_symmetry(seed: tf.Tensor, num: int | tf.Tensor) -> tf.Tensor:
    """For each of `num` images one of the 8 symmetries of the square, uniformly: (num,) int32 in [0, 8)."""
    return tf.random.stateless_uniform((num,), seed, 0, 8, tf.int32)


def draw_flip(seed: tf.Tensor, num: int | tf.Tensor) -> tf.Tensor:
    """As `draw_symmetry`, but only the identity, the two flips and the half turn: (num,) int32 in [0, 4)."""
    return tf.random.stateless_uniform((num,), seed, 0, 4, tf.int32)


def apply_symmetry(images: tf.Tensor, symmetry: tf.Tensor) -> tf.Tensor:
    """Applies to each image its symmetry: bit 4 transposes, bit 2 flips rows, bit 1 columns.

    Args:
        images: (B, H, W, C). Must be square if a symmetry is 4 or more.
        symmetry: (B,) int32 in [0, 8). 0 is the identity, 3 the half turn, 5 and 6 the quarter turns.
    """
    height, width, channels = images.shape[1:]
    pixels = np.arange(height * width).reshape(height, width)
    turns = (pixels, pixels.T) if height == width else (pixels,)
    sources = [
        turned[:: -1 if up_down else 1, :: -1 if left_right else 1].ravel()
        for turned in turns
        for up_down in (False, True)
        for left_right in (False, True)
    ]
    # One gather for all: TensorFlow's selects and negative strides take several times as long.
    source = tf.gather(np.stack(sources), symmetry)  # (B, H * W)
    flat = tf.reshape(images, (-1, height * width, channels))
    moved = tf.reshape(tf.gather(flat, source, batch_dims=1), (-1, height, width, channels))
    return tf.ensure_shape(moved, images.shape)


def draw_mirror(seed: tf.Tensor, num: int | tf.Tensor) -> tf.Tensor:
    """As `draw_symmetry`, but only the identity and the left-right flip: (num,) int32 in [0, 2)."""
    return tf.random.stateless_uniform((num,), seed, 0, 2, tf.int32)


def draw_crop(seed: tf.Tensor, num: int | tf.Tensor, fraction: float = 7 / 8) -> tf.Tensor:
    """Draws a box of `fraction` of the sides for each of `num` images.

    Returns (num, 4) float32: top, left, bottom and right in [0, 1].
    """
    corner = tf.random.stateless_uniform((num, 2), seed, 0.0, 1.0 - fraction)
    return tf.concat([corner, corner + fraction], axis=1)


def apply_crop(images: tf.Tensor, boxes: tf.Tensor, method: str = "bilinear") -> tf.Tensor:
    """Cuts each box (B, 4) out of its image (B, H, W, C) and resizes it to (H, W); dtype stays."""
    cut = tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), images.shape[1:3], method)
    return tf.ensure_shape(tf.cast(cut, images.dtype), images.shape)


def symmetry(batch: Batch, seed: tf.Tensor, share: tuple[int, int] = (0, 1)) -> Batch:
    """A random symmetry of the square for each image."""
    if batch["image"].shape[1] != batch["image"].shape[2]:
        raise ValueError(
            "augment='symmetry' turns images by 90 degrees and needs square ones, these are "
            f"{tuple(batch['image'].shape[1:3])}. Use augment='flip'."
        )
    return _moved(batch, _of_share(draw_symmetry, batch, seed, share))


def flip(batch: Batch, seed: tf.Tensor, share: tuple[int, int] = (0, 1)) -> Batch:
    """Random flips, up-down and left-right, of each image."""
    return _moved(batch, _of_share(draw_flip, batch, seed, share))


def mirror(batch: Batch, seed: tf.Tensor, share: tuple[int, int] = (0, 1)) -> Batch:
    """A random left-right flip of each image, which of an axial slice swaps the hemispheres."""
    return _moved(batch, _of_share(draw_mirror, batch, seed, share))


def crop(batch: Batch, seed: tf.Tensor, share: tuple[int, int] = (0, 1)) -> Batch:
    """A random crop of 7/8 of each image's sides, resized to its former size."""
    boxes = _of_share(draw_crop, batch, seed, share)
    changed = {"image": apply_crop(batch["image"], boxes)}
    if "mask" in batch:
        changed["mask"] = apply_crop(batch["mask"], boxes, method="nearest")
    return {**batch, **changed}


def _of_share(draw: Callable, batch: Batch, seed: tf.Tensor, share: tuple[int, int]) -> tf.Tensor:
    """What is drawn for this share of the whole batch."""
    index, number = share
    size = tf.shape(batch["image"])[0]
    return draw(seed, size * number)[index * size : (index + 1) * size]


def _moved(batch: Batch, symmetry: tf.Tensor) -> Batch:
    return {
        **batch,
        **{name: apply_symmetry(batch[name], symmetry) for name in ("image", "mask") if name in batch},
    }


AUGMENTATIONS: dict[str, Callable[[Batch, tf.Tensor, tuple[int, int]], Batch]] = {
    "symmetry": symmetry,
    "flip": flip,
    "mirror": mirror,
    "crop": crop,
}
