"""Network that draws PET from MR, or from whatever stands for MR: zero-dose PET.

Ouyang et al., IPMI 2021, Sec. 4.2, and Zero-dose PET reconstruction with missing input by U-Net with attention modules,
Medical Imaging Meets NeurIPS 2020: a U-Net with attention gates (`tfdisent.networks.attention_unet`), trained with the
absolute error. PET lies in [-1, 1] here, as all images do, so the network ends in tanh.
"""

import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfdisent import files
from tfdisent.downstream.classifier import float32_from
from tfdisent.examples import Examples, Selection
from tfdisent.networks import attention_unet
from tfdisent.training import weights

WEIGHTS = "synthesizer.npz"


class PETSynthesizer:
    """Network from slices to slices of PET.

    Args:
        image_shape: (H, W, C) of what it is given; H and W multiples of 2^num_levels.
        filters: channels of the first stage; 64 in the public code.
        num_levels: how often the slice is halved, 5 in the public code.
        seed: of the random weights.

    Attributes:
        network: the `keras.Model`, (B, H, W, C) to PET (B, H, W, 1) in [-1, 1].
    """

    _FIELDS = ("image_shape", "filters", "num_levels")

    def __init__(self, image_shape: Sequence[int], *, filters: int = 64, num_levels: int = 5, seed: int = 0):
        self.image_shape = tuple(int(size) for size in image_shape)
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"Expected image_shape to be (H, W, C), received {tuple(image_shape)}.")
        self.filters, self.num_levels = int(filters), int(num_levels)
        with float32_from(seed):
            self.network = attention_unet(self.image_shape, filters=self.filters, num_levels=self.num_levels)

    def fit(
        self,
        images: np.ndarray | Selection,
        pet: np.ndarray | None = None,
        epochs: int = 30,
        *,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        seed: int = 0,
    ) -> dict[str, float]:
        """Trains with Adam and the absolute error, from the present weights; the rate falls to 0 on half a cosine.

        Args:
            images: (N, H, W, C), finite; or a selection of examples' images and `pet`, which is streamed.
            pet: (N, H, W, 1) in [-1, 1]; None for a selection, which has its own.
            epochs: times that each slice is seen.
            batch_size: slices per step.
            learning_rate: Adam's at the start.
            change: what becomes of the images of each batch before they are learnt from, given them and a random
                generator; without one they stay as they are.
            seed: of the order of slices, and of what `change` draws.

        Returns:
            `{"loss": mean training loss of the last epoch, "steps": steps taken}`.

        Raises:
            ValueError: images or PET have another shape or range, there are none, or a setting is out of range.
        """
        if min(epochs, batch_size) < 1 or not learning_rate > 0:
            raise ValueError(
                f"Expected epochs and batch_size to be 1 or more and learning_rate above 0, received {epochs}, "
                f"{batch_size} and {learning_rate}."
            )
        if not isinstance(images, Selection):
            images = np.asarray(images)
            arrays = {"image": images, "pet": self._pet(pet, len(images))}
            images = Examples.of(arrays).select(columns=("image", "pet"))
        if not len(images):
            raise ValueError("Expected slices with PET to learn from, received none.")
        steps = epochs * -(-len(images) // batch_size)
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        self.network.compile(optimizer=keras.optimizers.Adam(rate), loss="mae")
        for epoch in range(epochs):
            self.network.reset_metrics()
            random = np.random.default_rng((seed, 1, epoch))
            for _, columns in images.epoch(batch_size, (seed, epoch)):
                batch = columns["image"] if change is None else change(columns["image"], random)
                batch = self._images(batch)
                mean_loss = self.network.train_on_batch(batch, self._pet(columns["pet"], len(batch)))
        return {"loss": float(np.ravel(mean_loss)[0]), "steps": steps}

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """PET (N, H, W) in [-1, 1], float32, of images (N, H, W, C)."""
        images = self._images(images)
        parts = [
            self.network.predict_on_batch(images[start : start + batch_size])[..., 0]
            for start in range(0, len(images), batch_size)
        ]
        return np.concatenate([np.zeros((0, *self.image_shape[:2]), "float32"), *parts])

    def save(self, directory) -> None:
        """Writes `config.json` and `synthesizer.npz`, which `load` reads on any backend."""
        directory = pathlib.Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights.save(directory / WEIGHTS, self.network)
        config = {"synthesizer": type(self).__name__} | {name: getattr(self, name) for name in self._FIELDS}
        files.write_json(directory / "config.json", config)

    @classmethod
    def load(cls, directory) -> "PETSynthesizer":
        """Returns a network as it was saved.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: the folder holds something else.
        """
        path = pathlib.Path(directory) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected a saved synthesizer in {path.parent}, but none is saved here: config.json is missing."
            )
        config = files.read_json(path)
        if config.pop("synthesizer", None) != cls.__name__:
            raise ValueError(f"Expected a saved {cls.__name__}, received {path}, which is not a saved {cls.__name__}.")
        synthesizer = cls(**config)
        weights.restore(path.parent / WEIGHTS, synthesizer.network)
        return synthesizer

    def _images(self, images) -> np.ndarray:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"Expected images to have shape (N, {', '.join(map(str, self.image_shape))}), which this network was "
                f"made for, received {images.shape}."
            )
        images = images.astype("float32")
        if not np.isfinite(images).all():
            raise ValueError(
                f"Expected images to be finite, received {np.count_nonzero(~np.isfinite(images))} values that are not."
            )
        return images

    def _pet(self, pet, num_images: int) -> np.ndarray:
        pet, expected = np.asarray(pet), (num_images, *self.image_shape[:2], 1)
        if pet.shape != expected or pet.dtype.kind != "f":
            raise ValueError(f"Expected PET to be {expected} floats, received shape {pet.shape} of {pet.dtype}.")
        if pet.size and not np.abs(pet).max() <= 1.01:
            raise ValueError(f"Expected PET to lie in [-1, 1] and be finite, received {pet.min()} to {pet.max()}.")
        return pet.astype("float32")
