"""The multitask autoencoder whose features compare images of scanners: it makes each image again and tells its domain.

Ren et al., IEEE TMI 2021, Sec. III-D and Appendix A, https://arxiv.org/abs/2102.06315: without skips, so that all that
is needed lies in the bottleneck, whose 2 x 2 averages are the features. Trained with the domain's cross entropy and the
l1 distance of the reconstruction, both with weight 1.

Its features say how far apart two scanners are only if it can tell them apart: give its `accuracy` on images that it
has not seen beside every distance.
"""

from collections.abc import Sequence

import keras
import numpy as np

from tfdisent.downstream.classifier import Judge, class_numbers
from tfdisent.downstream.network import float32_from
from tfdisent.examples import Selection


class DomainAutoencoder(Judge):
    """Autoencoder with a classifier of domains on its bottleneck.

    Args:
        image_shape: (H, W, C) of its input images, H and W multiples of 8.
        num_domains: 2 or more.
        filters: channels of the first stage; features are 16 times as many. 64 in the paper.
        num_blocks: residual blocks of the encoder; 6 in the paper, and 2 for its MS-SEG.
        seed: of the random weights.
    """

    SAVED = ("image_shape", "num_domains", "filters", "num_blocks")

    def __init__(
        self,
        image_shape: Sequence[int],
        num_domains: int = 2,
        *,
        filters: int = 64,
        num_blocks: int = 6,
        seed: int = 0,
    ):
        super().__init__(image_shape)
        if num_domains < 2 or filters < 1 or num_blocks < 0:
            raise ValueError(
                f"Expected num_domains of 2 or more, filters of 1 or more and num_blocks of 0 or more, received "
                f"{num_domains}, {filters} and {num_blocks}."
            )
        if any(side % 8 for side in self.image_shape[:2]):
            raise ValueError(f"Expected height and width to be multiples of 8, received {self.image_shape[:2]}.")
        self.num_domains, self.filters, self.num_blocks = int(num_domains), int(filters), int(num_blocks)
        with float32_from(seed):
            self._build()

    def _build(self) -> None:
        image = h = keras.Input(self.image_shape)
        for depth, kernel_size, strides in ((1, 7, 1), (2, 3, 2), (4, 3, 2)):
            h = _normalized(_convolution(h, depth * self.filters, kernel_size, strides))
        for _ in range(self.num_blocks):
            inner = _normalized(_convolution(h, 4 * self.filters))
            inner = keras.layers.BatchNormalization(momentum=0.9)(_convolution(inner, 4 * self.filters))
            h = keras.layers.Add()([h, inner])
        height, width = h.shape[1:3]
        features = keras.layers.Flatten()(keras.layers.AveragePooling2D((height // 2, width // 2))(h))
        told = features
        for k in range(2):
            told = keras.layers.LeakyReLU(0.2)(keras.layers.Dense(16 * self.filters)(told))
            told = keras.layers.Dropout(0.5, seed=k)(told)
        # One logit more than the paper's one, so that there can be more than two domains.
        logits = keras.layers.Dense(self.num_domains)(told)
        for depth in (2, 1):
            h = keras.layers.Conv2DTranspose(
                depth * self.filters, 3, 2, "same", use_bias=False, kernel_initializer="he_normal"
            )(h)
            h = _normalized(h)
        made = keras.layers.Conv2D(self.image_shape[-1], 7, padding="same", activation="tanh")(h)
        self.network = keras.Model(image, {"features": features, "outputs": logits, "reconstruction": made})

    @property
    def description(self) -> str:
        """The extractor in words, for metrics.json."""
        return f"multitask autoencoder, {16 * self.filters}-d, trained on the data set"

    def fit(
        self,
        images: np.ndarray | Selection,
        domains: np.ndarray,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> dict[str, float]:
        """Trains on real images, with Adam and a cosine schedule.

        Args:
            images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
            domains: (N,) integers in [0, num_domains).
            epochs, steps: exactly one of them.
            batch_size: images per step.
            learning_rate: peak of the schedule.
            seed: seed of the order.

        Returns:
            `{"loss": loss of the last step, "steps": steps taken}`.

        Raises:
            ValueError: images or domains have another shape, type or range.
        """
        return self._fit(
            self._selection(images),
            class_numbers(domains, len(images), self.num_domains, "domains"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            augment=(),  # noise and sharpness are what scanners differ in
        )

    def features(self, images: np.ndarray | Selection, batch_size: int = 256) -> np.ndarray:
        """Features (N, 16 * filters), float32, of images (N, H, W, C) in [-1, 1]."""
        return self._predict(images, "features", batch_size)

    def told(self, images: np.ndarray | Selection, batch_size: int = 256) -> np.ndarray:
        """The likeliest domain (N,) of images (N, H, W, C) in [-1, 1]."""
        return self._predict(images, "outputs", batch_size).argmax(axis=1)


def _convolution(h, filters: int, kernel_size: int = 3, strides: int = 1):
    return keras.layers.Conv2D(filters, kernel_size, strides, "same", use_bias=False, kernel_initializer="he_normal")(h)


def _normalized(h):
    # The momentum of 0.99 that is the default would leave traces of the first steps in a short training.
    return keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(h))
