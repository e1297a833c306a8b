"""What all networks downstream share: images of one shape, float32, training on a stream of them, and files."""

import contextlib
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np

from tfdisent import files
from tfdisent.examples import Selection
from tfdisent.training import weights


class Network:
    """From images (N, *image_shape) to outputs.

    Attributes:
        image_shape: of one image, channels last.
        network: the `keras.Model`.
        ROLE: what it is called in files, of those networks that are kept.
        SAVED: attributes from which `load` makes it again.
    """

    network: keras.Model
    ROLE: ClassVar[str]
    SAVED: ClassVar[tuple[str, ...]]

    def __init__(self, image_shape: Sequence[int]):
        self.image_shape = tuple(int(size) for size in image_shape)

    def save(self, directory) -> None:
        """Writes `config.json` and `<ROLE>.npz`, which `load` reads on any backend."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights.save(directory / f"{self.ROLE}.npz", self.network)
        config = {name: np.asarray(getattr(self, name)).tolist() for name in self.SAVED}
        files.write_json(directory / "config.json", {self.ROLE: type(self).__name__, **config})

    @classmethod
    def load(cls, directory) -> Self:
        """Returns a network of this class, or of one that is derived from it, as it was saved. Downloads nothing.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: the folder holds something else.
        """
        path = pathlib.Path(directory) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected a saved {cls.ROLE} in {path.parent}, but no {cls.ROLE} is saved here: config.json is "
                "missing."
            )
        config = files.read_json(path)
        kinds = {kind.__name__: kind for kind in (cls, *cls.__subclasses__())}
        kind = kinds.get(config.pop(cls.ROLE, None))
        if kind is None:
            raise ValueError(f"Expected a saved {cls.__name__}, received {path}, which is not a saved {cls.__name__}.")
        made = kind._made_again(config)
        weights.restore(path.parent / f"{cls.ROLE}.npz", made.network)
        return made

    @classmethod
    def _made_again(cls, config: dict) -> Self:
        """A network like the one that was saved, but for its weights."""
        return cls(**config)

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
