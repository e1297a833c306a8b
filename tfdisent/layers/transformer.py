"""Warps of images along smooth fields that a network chooses."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tfdisent")
class ThinPlateTransformer(keras.layers.Layer):
    """Samples an image where a thin-plate spline says, which moves a regular grid of control points by given offsets.

    The spatial transformer of Chartsias et al., IEEE TMI 2021, Sec. III-C, https://arxiv.org/abs/1911.04417: the field
    is the thin-plate spline through the offsets (Bookstein, IEEE PAMI 11, 1989), without regularisation, on coordinates
    from 0 to 1 along each side. The grid never changes, so its linear system is inverted once, when the layer is built,
    and a field is one product of matrices. Sampling is bilinear; outside the image is 0. Float32 at least.

    Args:
        points: control points along each side, 2 or more; the corner points are the centres of the corner pixels.

    Call arguments:
        inputs: [image (B, H, W, C), offsets (B, points ** 2, 2)]: along rows and columns, in shares of the distance
            from the first pixel to the last, the control points row by row. An offset is that of the place that is
            looked at: the output at a pixel is the image at pixel + field.

    Returns:
        (B, H, W, C), with offsets 0 the image itself; and the field, (B, H, W, 2), in pixels.
    """

    def __init__(self, points: int = 5, **kwargs) -> None:
        super().__init__(**kwargs)
        if points < 2:
            raise ValueError(f"ThinPlateTransformer: `points` must be 2 or more. Received: {points}.")
        self.points = points

    def build(self, input_shape) -> None:
        (_, height, width, _), offsets = input_shape
        if height is None or width is None or min(height, width) < 2:
            raise ValueError(
                "ThinPlateTransformer: expected images of a known height and width, 2 pixels or more. Received shape: "
                f"{tuple(input_shape[0])}."
            )
        if tuple(offsets[1:]) != (self.points**2, 2):
            raise ValueError(
                f"ThinPlateTransformer: expected offsets (B, {self.points**2}, 2). Received shape: {tuple(offsets)}."
            )
        self.basis = thin_plate_basis(height, width, self.points)
        self.shape = (height, width)

    def field(self, offsets):
        """The field (B, H, W, 2) along rows and columns, in pixels."""
        height, width = self.shape
        last = ops.convert_to_tensor(np.float32([height - 1, width - 1]))
        field = ops.matmul(ops.convert_to_tensor(self.basis), ops.cast(offsets, "float32")) * last
        return ops.reshape(field, (-1, height, width, 2))

    def call(self, inputs):
        image, offsets = inputs
        field = self.field(offsets)
        return ops.cast(warp(image, field), self.compute_dtype), ops.cast(field, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape[0], (*input_shape[0][:3], 2)

    def get_config(self) -> dict:
        return {**super().get_config(), "points": self.points}


def warp(image, field):
    """An image looked at elsewhere: the output at a pixel is the image at pixel + field, sampled bilinearly.

    Args:
        image: (B, H, W, C); outside of it is 0.
        field: (B, H, W, 2), along rows and columns, in pixels.

    Returns:
        (B, H, W, C), float32; where the field is 0 the image itself.
    """
    _, height, width, channels = image.shape
    pixels = np.stack(np.mgrid[:height, :width], -1).reshape(1, -1, 2).astype("float32")
    place = ops.convert_to_tensor(pixels) + ops.reshape(ops.cast(field, "float32"), (-1, height * width, 2))
    corner = ops.floor(place)
    part = place - corner
    start = ops.arange(ops.shape(image)[0], dtype="int32")[:, None] * (height * width)
    flat = ops.reshape(ops.cast(image, "float32"), (-1, channels))
    sampled = 0.0
    for down in (0, 1):
        for right in (0, 1):
            row, column = corner[..., 0] + down, corner[..., 1] + right
            inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1)
            share_y = part[..., 0] if down else 1.0 - part[..., 0]
            share_x = part[..., 1] if right else 1.0 - part[..., 1]
            share = ops.where(inside, share_y * share_x, 0.0)
            # Clipped before the cast: a place far outside would not fit an integer.
            row, column = ops.clip(row, 0, height - 1), ops.clip(column, 0, width - 1)
            index = start + ops.cast(row * width + column, "int32")
            sampled = sampled + share[..., None] * ops.take(flat, index, axis=0)
    return ops.reshape(sampled, (-1, height, width, channels))


def thin_plate_basis(height: int, width: int, points: int) -> np.ndarray:
    """What each control point's offset adds at each pixel: float32 (height * width, points ** 2), rows of sum 1."""

    def terms(places):
        """Of each place (N, 2): r^2 log r to each control point, and 1, y, x."""
        squared = np.sum((places[:, None] - control[None]) ** 2, axis=-1)
        radial = 0.5 * squared * np.log(np.maximum(squared, 1e-30))
        return np.concatenate([radial, np.ones((len(places), 1)), places], axis=1)

    def grid(rows, columns):
        axes = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
        return np.stack(axes, -1).reshape(-1, 2)

    control = grid(points, points)
    system = np.zeros((len(control) + 3,) * 2)
    system[: len(control)] = terms(control)
    system[len(control) :, : len(control)] = terms(control)[:, len(control) :].T
    inverse = np.linalg.inv(system)
    return (terms(grid(height, width)) @ inverse[:, : len(control)]).astype("float32")
