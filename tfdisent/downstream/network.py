"""What all networks downstream share: images of one shape, computed in float32, and training on a stream of them."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfdisent.examples import Selection


class Network:
    """From images (N, *image_shape) to outputs.

    Attributes:
        image_shape: of one image, channels last.
        network: the `keras.Model`.
    """

    network: keras.Model

    def __init__(self, image_shape: Sequence[int]):
        self.image_shape = tuple(int(size) for size in image_shape)

    def _outputs(self, images, batch_size: int) -> np.ndarray:
        """The network's outputs (N, ...) of an array of images."""
        images = self._images(images)
        parts = [
            self.network.predict_on_batch(images[start : start + batch_size])
            for start in range(0, len(images), batch_size)
        ]
        return np.concatenate([np.zeros((0, *self.network.output_shape[1:]), "float32"), *parts])

    def _images(self, images) -> np.ndarray:
        """Images as float32; a ValueError where they have another shape or are not finite."""
        images = np.asarray(images)
        self._check_shape(images)
        images = images.astype("float32")
        if not np.isfinite(images).all():
            raise ValueError(
                f"Expected images to be finite, received {np.count_nonzero(~np.isfinite(images))} values that are not."
            )
        return images

    def _check_shape(self, images) -> None:
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"Expected images to have shape (N, {', '.join(map(str, self.image_shape))}), which this "
                f"{type(self).__name__} was made for, received {tuple(images.shape)}."
            )


def image_shape_2d(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of slices, (H, W, C); a ValueError where it is none."""
    sizes = tuple(int(size) for size in image_shape)
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(f"Expected image_shape to be (H, W, C), received {tuple(image_shape)}.")
    return sizes


def learn(
    model: keras.Model,
    images: Selection,
    example: Callable[[np.ndarray, Mapping[str, np.ndarray]], tuple[np.ndarray, Any]],
    *,
    epochs: int,
    batch_size: int,
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None,
    seed: int,
) -> dict[str, float]:
    """Trains a compiled model on a stream of examples.

    Args:
        model: compiled.
        images: what is learnt from, with the columns that `example` needs.
        example: the model's input and targets, of a batch's images and its columns.
        epochs: times that each image is seen.
        batch_size: images per step.
        change: what becomes of the images of each batch before `example` gets them, given them and a random generator;
            without one they stay as they are.
        seed: of the order of images, and of what `change` draws.

    Returns:
        `{"loss": mean training loss of the last epoch, "steps": steps taken}`.
    """
    for epoch in range(epochs):
        model.reset_metrics()
        generator = np.random.default_rng((seed, 1, epoch))
        for _, columns in images.epoch(batch_size, (seed, epoch)):
            batch = columns["image"] if change is None else change(columns["image"], generator)
            mean_loss = model.train_on_batch(*example(batch, columns))
    return {"loss": float(np.ravel(mean_loss)[0]), "steps": epochs * -(-len(images) // batch_size)}


@contextlib.contextmanager
def float32_from(seed: int) -> Iterator[None]:
    """Layers made inside this block compute in float32 whatever the run does, with weights drawn from `seed`.

    Keras draws its default seeds from `random`, whose state is restored afterwards.
    """
    state, policy = random.getstate(), keras.config.dtype_policy()
    random.seed(seed)
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        random.setstate(state)
        keras.config.set_dtype_policy(policy)
