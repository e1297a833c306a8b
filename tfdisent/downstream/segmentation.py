"""Segmentors: of 2-D slices, which judges how well synthesised contrasts show a lesion, and the larger NVNet.

Xin et al. (TC-MGAN, ISBI 2020, https://arxiv.org/abs/2005.00925), whose segmentor Liu et al. (ISBI 2021), Table 2, use
too: four contrasts of a slice as channels, the whole tumour as mask. The network is
`tfdisent.networks.strided_unet`, trained with the Dice loss, smooth 1, Adam 1e-3, 30 epochs of batches of 64.

Unlike in the public code, the network itself standardises each channel of each slice (mean 0, variance 1). There, real
contrasts lie in [0, 1] and synthesised ones in [-1, 1], so that a network trained on the former is at a disadvantage
with the latter; here both, and any other linear scale, give the same result.

`NVNet` is the network that Ouyang et al. (IPMI 2021) segment tumours with, in two dimensions or three: see
`tfdisent.networks.nvnet`. Its training is Myronenko's (https://arxiv.org/abs/1810.11654, Sec. 3): Dice with squares in
the denominator, and 0.1 times each the squared error and the divergence of the branch that draws the input; Adam whose
rate falls as (1 - t)^0.9.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from tfdisent.downstream.network import Network, float32_from, image_shape_2d, learn
from tfdisent.examples import Examples, Selection
from tfdisent.losses import dice_loss, gaussian_kl, with_background
from tfdisent.networks import nvnet, strided_unet


class Segmentor(Network):
    """Segmentor of 2-D slices; one label with a sigmoid, several with a softmax over background and labels.

    Args:
        image_shape: (H, W, C) of the slices, contrasts as channels; H and W multiples of 2^num_levels.
        num_labels: K, 1 to 255: masks hold 0 (background) to K. For the whole tumour, `masks > 0`.
        filters: channels of the first stage, doubled from one to the next; 64 in the paper. 16 takes a quarter of the
            width and a sixteenth of the parameters, for two CPU cores.
        num_levels: how often the slice is halved, 4 in the paper.
        standardize: whether the network standardises each channel of each slice, which makes it blind to a scanner's
            gain and offset.
        seed: seed of the random weights.

    Attributes:
        network: the `keras.Model`, (B, H, W, C) to probabilities (B, H, W, 1), or (B, H, W, 1 + K) with the background
            first.
        learner: what is trained: the network, or one with further outputs.
    """

    ROLE = "segmentor"
    SAVED = ("image_shape", "num_labels", "filters", "num_levels", "standardize")

    def __init__(
        self,
        image_shape: Sequence[int],
        num_labels: int = 1,
        *,
        filters: int = 64,
        num_levels: int = 4,
        standardize: bool = True,
        seed: int = 0,
    ):
        super().__init__(image_shape_2d(image_shape))
        if not 1 <= num_labels <= 255:
            raise ValueError(f"Expected num_labels to lie in [1, 255], received {num_labels}.")
        if filters < 1 or num_levels < 1:
            raise ValueError(f"Expected filters and num_levels to be 1 or more, received {filters} and {num_levels}.")
        if any(size % 2**num_levels for size in self.image_shape[:-1]):
            raise ValueError(
                f"With num_levels={num_levels}, expected height and width to be multiples of {2**num_levels}, received "
                f"image_shape {self.image_shape}. Crop or pad the slices, or take fewer levels."
            )
        self.num_labels, self.filters = int(num_labels), int(filters)
        self.num_levels, self.standardize = int(num_levels), bool(standardize)
        with float32_from(seed):
            self.network = self.learner = strided_unet(
                self.image_shape,
                num_outputs=1 if num_labels == 1 else 1 + self.num_labels,
                filters=self.filters,
                num_levels=self.num_levels,
                standardize=self.standardize,
            )

    def fit(
        self,
        images: np.ndarray | Selection,
        masks: np.ndarray | None = None,
        epochs: int = 30,
        *,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        smooth: float = 1.0,
        class_weights: Sequence[float] | None = None,
        change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        seed: int = 0,
    ) -> dict[str, float]:
        """Trains with Adam, from the present weights, with the Dice loss or, given class weights, the cross entropy.

        The Dice loss of a slice is 1 - (2 I + smooth) / (A + B + smooth), mean over labels. Of several labels, one that
        covers few pixels of few slices is easily lost by it, which the cross entropy prevents.

        Args:
            images: (N, H, W, C), finite, on any scale; or a selection of examples' images and masks, which is streamed.
            masks: (N, H, W) or (N, H, W, 1), booleans or integers 0 to K; slices without any label may be among them.
                None for a selection, which has its own.
            epochs: times that each slice is seen.
            batch_size: slices per step.
            learning_rate: Adam's learning rate, constant.
            smooth: above 0; the Dice loss of an empty slice depends on it.
            class_weights: (1 + K,), 0 or more, of background and labels in the cross entropy; None for the Dice loss.
            change: what becomes of the images of each batch before they are learnt from, given them and a random
                generator; without one they stay as they are.
            seed: seed of the order of slices, and of what `change` draws.

        Returns:
            `{"loss": mean training loss of the last epoch, "steps": steps taken}`.

        Raises:
            ValueError: images or masks have another shape, type or range, no mask has a label, or a setting is out of
                range.
        """
        if min(epochs, batch_size) < 1 or not learning_rate > 0 or not smooth > 0:
            raise ValueError(
                f"Expected epochs and batch_size to be 1 or more, learning_rate and smooth above 0, received {epochs}, "
                f"{batch_size}, {learning_rate} and {smooth}."
            )
        if class_weights is not None and (len(class_weights) != 1 + self.num_labels or min(class_weights) < 0):
            raise ValueError(
                f"Expected class_weights of 0 or more for the background and {self.num_labels} labels, received "
                f"{list(class_weights)}."
            )
        if not isinstance(images, Selection):
            images = self._images(images) if change is None else np.asarray(images)
            arrays = {"image": images, "mask": self._masks(masks, len(images))}
            images = Examples.of(arrays).select(columns=("image", "mask"))
        if not any(columns["mask"].any() for _, columns in images.batches()):
            raise ValueError(
                f"The {len(images)} masks are all empty: nothing to learn. Expected labels 1 to {self.num_labels} in "
                "some."
            )

        steps = epochs * -(-len(images) // batch_size)
        self.learner.compile(**self._settings(learning_rate, steps, smooth, class_weights))

        def example(batch, columns):
            batch = self._images(batch)
            labels = self._one_hot(self._masks(columns["mask"], len(batch)))
            return batch, self._targets(batch, labels)

        return learn(self.learner, images, example, epochs=epochs, batch_size=batch_size, change=change, seed=seed)

    def label_probabilities(self, images):
        """Probability of each label (B, ..., K) in a tensor of images (B, ..., C), as part of a graph."""
        return self._foreground(self.network(images, training=False))

    def probabilities(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Probability of each label, float32 (N, H, W, K) in [0, 1], in images (N, H, W, C)."""
        return self._foreground(self._outputs(images, batch_size))

    def predict(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """The likeliest label, uint8 (N, H, W), 0 to K, in images (N, H, W, C); a single label where it exceeds 0.5."""
        outputs = self._outputs(images, batch_size)
        labels = outputs[..., 0] > 0.5 if self.num_labels == 1 else outputs.argmax(axis=-1)
        return labels.astype("uint8")

    def _settings(self, learning_rate: float, steps: int, smooth: float, class_weights) -> dict:
        """What the network is compiled with."""

        def overlap(targets, outputs):
            return dice_loss(self._foreground(outputs), targets, smooth=smooth)

        loss = overlap if class_weights is None else self._cross_entropy(class_weights)
        return {"optimizer": keras.optimizers.Adam(learning_rate), "loss": loss}

    def _cross_entropy(self, class_weights: Sequence[float]) -> Callable:
        """The weighted cross entropy of masks of the labels and outputs."""

        def cross_entropy(targets, outputs):
            found, true = with_background(self._foreground(outputs)), with_background(targets)
            weights_of = ops.convert_to_tensor(class_weights, "float32")
            return -ops.mean(ops.sum(weights_of * true * ops.log(ops.clip(found, 1e-7, 1.0)), axis=-1))

        return cross_entropy

    def _targets(self, images: np.ndarray, labels: np.ndarray):
        """What the outputs are to be, of images and masks of their labels."""
        return labels

    def _foreground(self, outputs):
        """Probabilities of the labels alone, without the background's."""
        return outputs[..., -self.num_labels :]

    def _one_hot(self, masks: np.ndarray) -> np.ndarray:
        """Label maps (B, ...) as masks of the labels 1 to K, (B, ..., K)."""
        return (masks[..., None] == np.arange(1, 1 + self.num_labels)).astype("float32")

    def _masks(self, masks, num_images: int) -> np.ndarray:
        masks = np.asarray(masks)
        expected = (num_images, *self.image_shape[:-1])
        if masks.shape == (*expected, 1):
            masks = masks[..., 0]
        if masks.shape != expected or masks.dtype.kind not in "bui":
            raise ValueError(
                f"Expected masks to be {expected}, one per image, of integers or booleans, received shape "
                f"{masks.shape} of {masks.dtype}."
            )
        if masks.size and not 0 <= masks.min() <= masks.max() <= self.num_labels:
            raise ValueError(
                f"Expected masks to hold labels 0 to {self.num_labels}, received {masks.min()} to {masks.max()}. For "
                "one foreground: masks > 0."
            )
        return masks


class NVNet(Segmentor):
    """Segmentor of slices or volumes with a variational branch, which a small training set does not overfit as soon.

    Args:
        image_shape: (H, W, C) or (D, H, W, C), sides multiples of 16.
        num_labels: K, 1 to 255, as of `Segmentor`.
        filters: channels at full size, a multiple of 8; 32 in its paper.
        latent_dim: of the branch's code, 128 in its paper.
        seed: of the random weights, the dropout and the codes that are drawn.

    Attributes:
        learner: the `keras.Model` that is trained, image -> {"labels", "reconstruction", "moments"}.
        network: its labels alone, which is what `save` writes.
    """

    SAVED = ("image_shape", "num_labels", "filters", "latent_dim")
    BRANCH_WEIGHT = 0.1  # of the reconstruction's squared error, and of the code's divergence

    def __init__(
        self,
        image_shape: Sequence[int],
        num_labels: int = 1,
        *,
        filters: int = 32,
        latent_dim: int = 128,
        seed: int = 0,
    ):
        Network.__init__(self, image_shape)  # `nvnet` checks it, of slices or volumes
        if not 1 <= num_labels <= 255:
            raise ValueError(f"Expected num_labels to lie in [1, 255], received {num_labels}.")
        self.num_labels, self.filters, self.latent_dim = int(num_labels), int(filters), int(latent_dim)
        with float32_from(seed):
            self.learner = nvnet(
                self.image_shape,
                num_outputs=1 if num_labels == 1 else 1 + self.num_labels,
                filters=self.filters,
                latent_dim=self.latent_dim,
                seed=seed,
            )
        self.network = keras.Model(self.learner.input, self.learner.output["labels"])

    def _settings(self, learning_rate: float, steps: int, smooth: float, class_weights) -> dict:
        """With the Dice loss over the batch, and the weighted cross entropy beside it where there are weights."""

        def overlap(targets, outputs):
            found = self._foreground(outputs)
            axes = tuple(range(len(found.shape) - 1))
            sizes = ops.sum(ops.square(found), axes) + ops.sum(ops.square(targets), axes)
            return ops.mean(1 - (2 * ops.sum(found * targets, axes) + 1e-6) / (sizes + 1e-6))

        def labels(targets, outputs):
            loss = overlap(targets, outputs)
            return loss if class_weights is None else loss + self._cross_entropy(class_weights)(targets, outputs)

        def divergence(_, moments):
            return gaussian_kl(*ops.split(moments, 2, axis=-1))

        rate = keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, 0.0, 0.9)
        branch = {"reconstruction": self.BRANCH_WEIGHT, "moments": self.BRANCH_WEIGHT}
        return {
            "optimizer": keras.optimizers.Adam(rate),
            "loss": {"labels": labels, "reconstruction": "mse", "moments": divergence},
            "loss_weights": {"labels": 1.0, **branch},
        }

    def _targets(self, images: np.ndarray, labels: np.ndarray):
        """The labels, the images again, and nothing for the code."""
        return {"labels": labels, "reconstruction": images, "moments": np.zeros((len(images), 2 * self.latent_dim))}
