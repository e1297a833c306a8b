"""Networks that judge images: a classifier and a regressor of known factors.

The classifier gives the features and answers behind Fréchet distance (FID), kernel distance (KID), Inception score (IS)
and conditional generation accuracy (CGAcc). `kind="inception"` is that of Havaei et al. (DRAI,
https://arxiv.org/abs/2012.04764), Sec. III-C.2: InceptionV3 up to block `mixed3` (768 channels), initialised with
ImageNet weights, global average pooling and a dense layer, trained on the data set at hand. `kind="convnet"` has a
small trunk instead, for two CPU cores: at 32 x 32 it trains ten times as fast. Values of the two kinds cannot be
compared: name the extractor (`description`) beside every value.
"""

import itertools
import socket
import warnings
from collections.abc import Sequence
from typing import Self

import keras
import numpy as np
from keras import ops

from tfdisent.downstream.network import Network, float32_from, image_shape_2d
from tfdisent.examples import Selection

INCEPTION_MIN_SIZE = 75  # pixels; the least that InceptionV3 takes
INCEPTION_FEATURES = 768  # channels of mixed3
CONVNET_MAX_SIZE = 64  # pixels; larger images are shrunk to this
KINDS = ("inception", "convnet")
AUGMENTATIONS = ("symmetry", "blur", "noise")


class Judge(Network):
    """What networks that judge images share: from images to features and outputs, training and files.

    Attributes:
        network: images -> {"features": (B, D), "outputs": (B, F)}, and "reconstruction" where it learns to make one.
    """

    ROLE = "judge"

    def __init__(self, image_shape: Sequence[int]):
        super().__init__(image_shape_2d(image_shape))

    def _fit(
        self, images: Selection, targets, loss, *, epochs, steps, batch_size, learning_rate, seed, augment
    ) -> dict[str, float]:
        if (epochs is None) == (steps is None):
            raise ValueError(f"Expected either epochs or steps, received epochs={epochs}, steps={steps}.")
        if isinstance(augment, str) or set(augment) - set(AUGMENTATIONS):
            raise ValueError(f"Expected augment to be a sequence of {AUGMENTATIONS}, received {augment!r}.")
        if not len(images) or batch_size < 1:
            raise ValueError(
                f"Expected images to train on and a batch_size of 1 or more, received {len(images)} and {batch_size}."
            )
        num_steps = steps if steps is not None else epochs * -(-len(images) // batch_size)
        if num_steps < 1:
            raise ValueError(f"Expected at least one step of training, received epochs={epochs}, steps={steps}.")
        trained = [name for name in ("outputs", "reconstruction") if name in self.network.output]
        model = keras.Model(self.network.input, [self.network.output[name] for name in trained])
        # A rate that ends at 0 lets the weights settle, and with them the batch statistics.
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            num_steps,
            warmup_target=learning_rate,
            warmup_steps=num_steps // 20,
        )
        model.compile(optimizer=keras.optimizers.Adam(schedule), loss=[loss, "mae"][: len(trained)])
        batches = (batch for epoch in itertools.count() for batch in images.epoch(batch_size, (seed, 0, epoch)))
        for step, (items, columns) in zip(range(num_steps), batches, strict=False):
            augmented = _augmented(self._images(columns["image"]), augment, np.random.default_rng((seed, 1, step)))
            mean_loss = model.train_on_batch(augmented, [targets[items], augmented][: len(trained)])
        return {"loss": float(np.ravel(mean_loss)[0]), "steps": num_steps}

    def _predict(self, images, output: str, batch_size: int) -> np.ndarray:
        images = self._selection(images)
        outputs = np.zeros((len(images), self.network.output[output].shape[-1]), "float32")
        for items, columns in images.batches(batch_size):
            outputs[items] = self.network.predict_on_batch(self._images(columns["image"]))[output]
        return outputs

    def _selection(self, images) -> Selection:
        """Images that fit the judge, as a stream; values are checked where they are read."""
        images = images if isinstance(images, Selection) else self._images(images)
        self._check_shape(images)
        return Selection.of(images)

    def _images(self, images) -> np.ndarray:
        images = np.asarray(images)
        self._check_shape(images)
        if not np.issubdtype(images.dtype, np.floating):
            raise ValueError(
                f"Expected images to be floats in [-1, 1], received {images.dtype}. For uint8: images / 127.5 - 1."
            )
        images = super()._images(images)
        if len(images) and np.abs(images).max() > 1.01:
            raise ValueError(f"Expected images to lie in [-1, 1], received {images.min()} to {images.max()}.")
        return images


class ImageClassifier(Judge):
    """Classifier of images; its pooled features feed FID and KID, its logits IS and CGAcc.

    Args:
        num_classes: K, 2 or more.
        image_shape: (H, W, C) of its input images. Inside, "inception" enlarges sides under 75 pixels to 75 and
            "convnet" shrinks images over 64 pixels to 64, bilinear with antialiasing.
        kind: "inception" (the paper's) or "convnet".
        features_dim: width of the features, by default 768 ("inception", which allows no other) or 96.
        pretrained: "inception" with 1 or 3 channels starts from ImageNet weights, which Keras downloads once; if the
            download fails it warns and starts from random weights. See `weights_source`.
        seed: seed of the random weights.

    Attributes:
        weights_source: "imagenet" or "scratch".
        description: the extractor in words, for metrics.json.
    """

    SAVED = ("num_classes", "image_shape", "kind", "features_dim", "weights_source")

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int],
        *,
        kind: str = "inception",
        features_dim: int | None = None,
        pretrained: bool = True,
        seed: int = 0,
    ):
        super().__init__(image_shape)
        if num_classes < 2:
            raise ValueError(f"Expected num_classes to be 2 or more, received {num_classes}.")
        if kind not in KINDS:
            raise ValueError(f"Expected kind to be one of {KINDS}, received {kind!r}.")
        if kind == "inception" and features_dim not in (None, INCEPTION_FEATURES):
            raise ValueError(
                f"Expected no features_dim with kind='inception', whose features are {INCEPTION_FEATURES} wide, "
                f"received {features_dim}."
            )
        if features_dim is not None and features_dim < 4:
            raise ValueError(f"Expected features_dim to be 4 or more, received {features_dim}.")
        self.num_classes, self.kind = int(num_classes), kind
        imagenet = None
        if kind == "inception" and pretrained and self.image_shape[-1] in (1, 3):
            imagenet = _imagenet_inception()
        self.weights_source = "scratch" if imagenet is None else "imagenet"
        self._build(features_dim or (INCEPTION_FEATURES if kind == "inception" else 96), seed)
        if imagenet is not None:
            self.network.get_layer("mixed3").set_weights(imagenet.get_weights())

    def _build(self, features_dim: int, seed: int) -> None:
        self.features_dim = int(features_dim)
        with float32_from(seed):
            images = keras.Input(self.image_shape)
            if self.kind == "inception":
                maps = _inception_maps(images, frozen_statistics=self.weights_source == "imagenet")
            else:
                maps = _convnet_maps(images, self.features_dim)
            features = keras.layers.GlobalAveragePooling2D()(maps)
            logits = keras.layers.Dense(self.num_classes, name="logits")(features)
            self.network = keras.Model(images, {"features": features, "outputs": logits})

    @property
    def description(self) -> str:
        trunk = "InceptionV3 to mixed3" if self.kind == "inception" else "small convnet"
        return f"{trunk}, {self.features_dim}-d, from {self.weights_source}, trained on the data set"

    def fit(
        self,
        images: np.ndarray | Selection,
        labels: np.ndarray,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        learning_rate: float | None = None,
        seed: int = 0,
        augment: Sequence[str] = AUGMENTATIONS,
    ) -> dict[str, float]:
        """Trains on real images with cross-entropy, Adam and a cosine schedule.

        Args:
            images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
            labels: (N,) integers in [0, K).
            epochs, steps: exactly one of them.
            batch_size: images per step.
            learning_rate: peak of the schedule; by default 1e-3, or 1e-4 from ImageNet weights.
            seed: seed of order and augmentation.
            augment: any of "symmetry" (flips and quarter turns), "blur" and "noise"; the last two make the judge
                insensitive to the softness of generated images.

        Returns:
            `{"loss": mean training loss, "steps": steps taken}`.

        Raises:
            ValueError: images or labels have another shape, type or range, or an augmentation is unknown.
        """
        if learning_rate is None:
            learning_rate = 1e-4 if self.weights_source == "imagenet" else 1e-3
        return self._fit(
            self._selection(images),
            class_numbers(labels, len(images), self.num_classes),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            augment=augment,
        )

    def features(self, images: np.ndarray | Selection, batch_size: int = 256) -> np.ndarray:
        """Pooled features (N, features_dim), float32, of images (N, H, W, C) in [-1, 1]."""
        return self._predict(images, "features", batch_size)

    def logits(self, images: np.ndarray | Selection, batch_size: int = 256) -> np.ndarray:
        """Outputs before the softmax (N, K), float32, of images (N, H, W, C) in [-1, 1]."""
        return self._predict(images, "outputs", batch_size)

    def accuracy(self, images: np.ndarray | Selection, labels: np.ndarray, batch_size: int = 256) -> float:
        """Share of images (N, H, W, C) that are given their label (N,), in [0, 1]."""
        labels = class_numbers(labels, len(images), self.num_classes)
        return float(np.mean(self.logits(images, batch_size).argmax(axis=1) == labels))

    @classmethod
    def _made_again(cls, config: dict) -> Self:
        judge = cls.__new__(cls)  # without ImageNet's weights, which the saved ones replace
        Judge.__init__(judge, config["image_shape"])
        judge.num_classes, judge.kind = config["num_classes"], config["kind"]
        judge.weights_source = config["weights_source"]
        judge._build(config["features_dim"], seed=0)
        return judge


class PositionRegressor(Judge):
    """Regressor of known factors of an image, above all of the position of its lesion.

    It has the convnet trunk of `ImageClassifier`, read out as pooled features and as the centres of mass of 16
    attention maps, so that coordinates are nearly linear in what is read out.

    Args:
        num_factors: number of columns that it predicts.
        image_shape: (H, W, C) of its input images; those over 64 pixels are shrunk inside.
        width: channels of the trunk's last stage.
        seed: seed of the random weights.

    Attributes:
        mean, scale: (num_factors,), of the factors that it was trained on.
    """

    SAVED = ("num_factors", "image_shape", "width", "mean", "scale")

    def __init__(self, num_factors: int, image_shape: Sequence[int], *, width: int = 96, seed: int = 0):
        super().__init__(image_shape)
        if num_factors < 1 or width < 4:
            raise ValueError(
                f"Expected num_factors to be 1 or more and width 4 or more, received {num_factors} and {width}."
            )
        self.num_factors, self.width = int(num_factors), int(width)
        self.mean, self.scale = np.zeros(num_factors), np.ones(num_factors)
        with float32_from(seed):
            images = keras.Input(self.image_shape)
            maps = _convnet_maps(images, self.width)
            pooled = keras.layers.GlobalAveragePooling2D()(maps)
            features = keras.layers.Concatenate()([_centres_of_mass(maps, 16), pooled])
            outputs = keras.layers.Dense(self.num_factors)(features)
            self.network = keras.Model(images, {"features": features, "outputs": outputs})

    def fit(
        self,
        images: np.ndarray | Selection,
        factors: np.ndarray,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        seed: int = 0,
        augment: Sequence[str] = ("blur", "noise"),
    ) -> dict[str, float]:
        """Trains on real images with the squared error of standardised factors.

        Args:
            images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
            factors: (N, num_factors) floats, any units.
            epochs, steps, batch_size, learning_rate, seed, augment: as for `ImageClassifier.fit`; "symmetry"
                is refused, as it would move what is to be located.

        Returns:
            `{"loss": mean training loss, "steps": steps taken}`.

        Raises:
            ValueError: images or factors have another shape, type or range, or an augmentation does not fit.
        """
        if "symmetry" in augment:
            raise ValueError(
                f"Expected augmentations that leave positions as they are, received augment={augment}; a regressor of "
                "positions cannot use 'symmetry'."
            )
        factors = np.asarray(factors, dtype=np.float64)
        if factors.shape != (len(images), self.num_factors) or not np.isfinite(factors).all():
            raise ValueError(
                f"Expected factors to be finite and ({len(images)}, {self.num_factors}), received shape "
                f"{factors.shape}."
            )
        self.mean, self.scale = factors.mean(axis=0), factors.std(axis=0)
        if not (self.scale > 0).all():
            raise ValueError(f"Factor {self.scale.argmin()} is constant: nothing to learn. Leave it out.")
        return self._fit(
            self._selection(images),
            ((factors - self.mean) / self.scale).astype("float32"),
            "mse",
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            augment=augment,
        )

    def predict(self, images: np.ndarray | Selection, batch_size: int = 256) -> np.ndarray:
        """Factors (N, num_factors), float32, in the units of `fit`, of images (N, H, W, C) in [-1, 1]."""
        outputs = self._predict(images, "outputs", batch_size)
        return (outputs * self.scale + self.mean).astype("float32")

    @classmethod
    def _made_again(cls, config: dict) -> Self:
        mean, scale = np.array(config.pop("mean")), np.array(config.pop("scale"))
        judge = cls(**config)
        judge.mean, judge.scale = mean, scale
        return judge


def class_numbers(values, num_images: int, num_classes: int, what: str = "labels") -> np.ndarray:
    """Numbers of classes, one per image, as int32 (N,); a ValueError that says `what` they were to be otherwise."""
    values = np.asarray(values)
    if values.shape != (num_images,) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"Expected {what} to be {num_images} integers, one per image, received shape {values.shape} of "
            f"{values.dtype}."
        )
    if len(values) and not 0 <= values.min() <= values.max() < num_classes:
        raise ValueError(f"Expected {what} to lie in [0, {num_classes}), received {values.min()} to {values.max()}.")
    return values.astype("int32")


def _convnet_maps(images, width: int):
    """A small trunk, (B, H, W, C) -> (B, h, w, width) with h and w about 8.

    It has no batch norm, whose statistics are unreliable on small sets.
    """
    size = images.shape[1:3]
    shrink = min(1.0, CONVNET_MAX_SIZE / max(size))
    x = _resize(images, [max(8, round(side * shrink)) for side in size])
    kernel, strides = (5, 2) if max(x.shape[1:3]) > 40 else (3, 1)
    x = _convolution(x, width // 4, kernel, strides)
    for filters, strides in ((width // 3, 2), (width // 2, 1), (width, 2), (width, 1)):
        x = _convolution(x, filters, 3, strides)
    return x


def _convolution(x, filters: int, kernel: int, strides: int):
    return keras.layers.Conv2D(
        filters, kernel, strides, padding="same", activation="relu", kernel_initializer="he_normal"
    )(x)


def _centres_of_mass(maps, num_maps: int):
    """Mean x and y, in [-1, 1], under softmax attention: (B, h, w, C) -> (B, 2 * num_maps)."""
    height, width = maps.shape[1:3]
    scores = keras.layers.Conv2D(num_maps, 1)(maps)
    attention = ops.softmax(ops.reshape(scores, (-1, height * width, num_maps)), axis=1)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([x.ravel(), y.ravel()]).astype("float32")  # (2, h * w)
    return keras.layers.Flatten()(ops.matmul(places, attention))


def _inception_maps(images, *, frozen_statistics: bool):
    """InceptionV3 to `mixed3`, (B, H, W, C) -> (B, h, w, 768).

    ImageNet's batch norm stays as it is. From random weights it is learned, with a momentum of 0.9: with the model's
    own 0.99, statistics would still reflect the first steps at the end of a short training.
    """
    x = _resize(images, [max(INCEPTION_MIN_SIZE, side) for side in images.shape[1:3]])
    if images.shape[-1] == 1:
        x = keras.layers.Concatenate()([x, x, x])
    full = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=x.shape[1:])
    trunk = keras.Model(full.input, full.get_layer("mixed3").output, name="mixed3")
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
            layer.trainable = not frozen_statistics  # `training=False` would be overridden by fit
    return trunk(x)


def _resize(images, size: Sequence[int]):
    if tuple(size) == tuple(images.shape[1:3]):
        return images
    return ops.image.resize(images, tuple(size), interpolation="bilinear", antialias=True)


def _imagenet_inception() -> keras.Model | None:
    """InceptionV3 to `mixed3` with ImageNet weights; warns and returns None where they cannot be downloaded."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a network that drops packets must not block the evaluation
    try:
        full = keras.applications.InceptionV3(include_top=False, weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception when a download fails
        warnings.warn(
            f"ImageNet weights of InceptionV3 could not be downloaded ({error}); the classifier starts from random "
            "weights. Its features cannot be compared with those of a pretrained one.",
            UserWarning,
            stacklevel=3,
        )
        return None
    finally:
        socket.setdefaulttimeout(timeout)
    return keras.Model(full.input, full.get_layer("mixed3").output)


def _augmented(images: np.ndarray, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Images (B, H, W, C), each with its own symmetry, half of them blurred, half made noisy."""
    images = images.copy()
    count, height, width = images.shape[:3]
    if "symmetry" in names:
        flip_y, flip_x, transpose = rng.random((3, count)) < 0.5
        images[flip_y] = images[flip_y, ::-1]
        images[flip_x] = images[flip_x, :, ::-1]
        if height == width:
            images[transpose] = images[transpose].swapaxes(1, 2)
    if "blur" in names:
        weight = _half_of_them(1 / 3, count, rng)  # at most a box of 3 pixels
        for axis in (1, 2):
            around = _shifted(images, axis, 1) + _shifted(images, axis, -1)
            images = images + weight * (around - 2 * images)
    if "noise" in names:
        noise = rng.standard_normal(images.shape, dtype="float32")
        images = images + _half_of_them(0.1, count, rng) * noise
    return np.clip(images, -1, 1)


def _half_of_them(most: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random amounts (count, 1, 1, 1), half of them 0 and the others uniform up to `most`."""
    amounts = most * rng.random(count) * (rng.random(count) < 0.5)
    return amounts.astype("float32")[:, None, None, None]


def _shifted(images: np.ndarray, axis: int, by: int) -> np.ndarray:
    """Images moved by one pixel, with the edge repeated."""
    size = images.shape[axis]
    return images.take(np.clip(np.arange(size) + by, 0, size - 1), axis=axis)
