"""Network that draws PET from MR, or from whatever stands for MR: zero-dose PET.

Ouyang et al., IPMI 2021, Sec. 4.2, and Zero-dose PET reconstruction with missing input by U-Net with attention modules,
Medical Imaging Meets NeurIPS 2020: a U-Net with attention gates (`tfdisent.networks.attention_unet`), trained with the
absolute error. PET lies in [-1, 1] here, as all images do, so the network ends in tanh.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfdisent.downstream.network import Network, float32_from, image_shape_2d, learn
from tfdisent.examples import Examples, Selection
from tfdisent.networks import attention_unet


class PETSynthesizer(Network):
    """Network from slices to slices of PET.

    Args:
        image_shape: (H, W, C) of what it is given; H and W multiples of 2^num_levels.
        filters: channels of the first stage; 64 in the public code.
        num_levels: how often the slice is halved, 5 in the public code.
        seed: of the random weights.

    Attributes:
        network: the `keras.Model`, (B, H, W, C) to PET (B, H, W, 1) in [-1, 1].
    """

    def __init__(self, image_shape: Sequence[int], *, filters: int = 64, num_levels: int = 5, seed: int = 0):
        super().__init__(image_shape_2d(image_shape))
        self.filters = int(filters)
        with float32_from(seed):
            self.network = attention_unet(self.image_shape, filters=self.filters, num_levels=num_levels)

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
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(images) // batch_size))
        self.network.compile(optimizer=keras.optimizers.Adam(rate), loss="mae")

        def example(batch, columns):
            return self._images(batch), self._pet(columns["pet"], len(batch))

        return learn(self.network, images, example, epochs=epochs, batch_size=batch_size, change=change, seed=seed)

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """PET (N, H, W) in [-1, 1], float32, of images (N, H, W, C)."""
        return self._outputs(images, batch_size)[..., 0]

    def _pet(self, pet, num_images: int) -> np.ndarray:
        pet, expected = np.asarray(pet), (num_images, *self.image_shape[:2], 1)
        if pet.shape != expected or pet.dtype.kind != "f":
            raise ValueError(f"Expected PET to be {expected} floats, received shape {pet.shape} of {pet.dtype}.")
        if pet.size and not np.abs(pet).max() <= 1.01:
            raise ValueError(f"Expected PET to lie in [-1, 1] and be finite, received {pet.min()} to {pet.max()}.")
        return pet.astype("float32")
