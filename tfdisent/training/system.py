"""What all systems and baselines are to the engine: models made from a config, with an optimizer for each player."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from tfdisent.training import inputs
from tfdisent.training.adversarial import AdversarialModel, ReplicaSeedGenerator, has_values, num_replicas


def presets(quick: dict[str, Any], small: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The presets of a config: `quick`, `small` as changes of it, and `paper`, which is the config's defaults."""
    return {"quick": quick, "small": quick | small, "paper": {}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of training that every system has; a system's config adds its own, and its paper's defaults.

    All are checked when a config is made: fields of type int are whole numbers from 1, those that end in `_weight` are
    0 or more, those that end in `learning_rate` more than 0, and what else there is to check stands in `FRACTIONS`,
    `FROM_ZERO` and `CHOICES`.

    Attributes:
        image_size: height and width in pixels, one number for both, or two.
        learning_rate, beta_1, beta_2: Adam's, for all players.
        clip_norm: bound of the norm of each player's gradient, all of its weights together, or None.
        average_momentum: momentum of the averaged weights used for evaluation and export; 0 gives the last ones.
        augmentation: names from `tfdisent.data.augment.AUGMENTATIONS`, separated by commas, applied to real images.
        batch_size, steps: of training.
        normalize: how intensities become [-1, 1], see `tfdisent.data.load`; a field of configs that let it be chosen.
        balance_classes: show images of rare classes several times in an epoch; a field where there are classes.
        PRESETS: settings by preset, {name: {field: value}}; `paper` changes nothing.
        FRACTIONS: fields in [0, 1).
        FROM_ZERO: fields of type int that may be 0.
        CHOICES: what a field may be, {field: values}.
        DATA_DEPENDENT: fields that must fit those of `data_fields`, and so are checked when these are known.
    """

    image_size: int | tuple[int, int] = 64
    learning_rate: float = 1e-3
    beta_1: float = 0.5
    beta_2: float = 0.999
    clip_norm: float | None = None
    average_momentum: float = 0.999
    augmentation: str = ""
    batch_size: int = 64
    steps: int = 20_000

    normalize: ClassVar[str] = "volume"
    balance_classes: ClassVar[bool] = False
    PRESETS: ClassVar[Mapping[str, dict[str, Any]]] = {"paper": {}}
    FRACTIONS: ClassVar[tuple[str, ...]] = ("average_momentum", "beta_1", "beta_2")
    FROM_ZERO: ClassVar[tuple[str, ...]] = ()
    CHOICES: ClassVar[Mapping[str, Collection[Any]]] = {}
    DATA_DEPENDENT: ClassVar[tuple[str, ...]] = ()

    def __new__(cls, **settings):
        known = [field.name for field in dataclasses.fields(cls)]
        for name, value in settings.items():
            if name not in known:
                raise TypeError(f"Expected settings among {', '.join(known)}; received {name}={value!r}.")
        return super().__new__(cls)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if name.endswith("_weight") and not value >= 0:
                raise ValueError(f"Expected {name} >= 0, received {value}.")
            if name.endswith("learning_rate") and not value > 0:
                raise ValueError(f"Expected {name} > 0, received {value}.")
            least = 0 if name in self.FROM_ZERO else 1
            if field.type is int and (not isinstance(value, int) or value < least):
                raise ValueError(f"Expected {name} to be a whole number >= {least}, received {value}.")
            if name in self.FRACTIONS and not 0 <= value < 1:
                raise ValueError(f"Expected {name} in [0, 1), received {value}.")
            if name in self.CHOICES and value not in self.CHOICES[name]:
                expected = " or ".join(map(repr, self.CHOICES[name]))
                raise ValueError(f"Expected {name} to be {expected}, received {value!r}.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"Expected clip_norm > 0 or None, received {self.clip_norm}.")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The settings of a preset, with changes of some fields.

        Raises:
            ValueError: on an unknown preset, listing the known ones, or a value out of range.
            TypeError: on an unknown field, listing the known ones.
        """
        if name not in cls.PRESETS:
            raise ValueError(f"Expected a preset among {', '.join(cls.PRESETS)}; received {name!r}.")
        return cls(**cls.PRESETS[name] | changes)

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Values of the fields that the data decide, from a prepared data set's `tfdisent.data.Manifest`."""
        return {}

    @classmethod
    def preparation(cls, dataset: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
        """Options of a data set's preparation, by its name, for images of this size."""
        return {}

    @property
    def scheduled(self) -> tuple[str, ...]:
        """What follows a schedule over all `steps`, in words; by default nothing, so that each step is as any other.

        N steps continued to 2N are then a training of 2N steps; else they are not.
        """
        return ()

    @property
    def annotated(self) -> dict[int, float]:
        """Channels of the mask whose labels are read of a share of the training subjects alone, {channel: share}."""
        return {}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if a data set cannot serve the system; a builder's `info` is known before preparation."""

    @property
    def loading(self) -> dict[str, Any]:
        """How images are to be read: arguments of `tfdisent.data.load`, in training and evaluation alike."""
        return {"image_size": self.image_size, "normalize": self.normalize}


@keras.saving.register_keras_serializable(package="tfdisent")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that is constant for some steps, and then falls to 0 on a line.

    Args:
        rate: at the start.
        constant: steps at this rate.
        falling: steps until it is 0, one or more.
    """

    def __init__(self, rate: float, constant: int, falling: int):
        super().__init__()
        self.rate, self.constant, self.falling = rate, constant, falling

    def __call__(self, step):
        left = (self.constant + self.falling - ops.cast(step, "float32")) / self.falling
        return self.rate * ops.clip(left, 0.0, 1.0)

    def get_config(self) -> dict:
        return {"rate": self.rate, "constant": self.constant, "falling": self.falling}


def half_cosine(rate: float, constant: int, falling: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A rate that is constant for some steps, and then falls to 0 on half a cosine."""
    return keras.optimizers.schedules.CosineDecay(rate, falling, warmup_target=rate, warmup_steps=constant)


def falling(rate: float, share: float, steps: int, curve: Callable = half_cosine):
    """A rate that falls to 0 in the last `share` of all steps, as `curve` says; with 0 the constant itself."""
    if not share:
        return rate
    last = max(1, round(share * steps))
    return curve(rate, steps - last, last)


class System(AdversarialModel):
    """An `AdversarialModel` that is made from a config, which is all that is needed to make it again.

    A subclass names its `config_class`, makes its networks after this `__init__`, and defines `phases`.

    Args:
        config: its settings; those of `config_class` by default.
        seed: of what is drawn in training, by `seed_generator`.
    """

    config_class: type[TrainingConfig]

    def __init_subclass__(cls, **kwargs):
        """Registers the class with Keras, as "tfdisent>DRAI", so that `keras.models.load_model` finds it."""
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(cls.__module__.partition(".")[0])(cls)

    def __init__(self, config: TrainingConfig | None = None, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.config = config or self.config_class()
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed)

    def get_config(self) -> dict:
        """The config's fields, as plain values, and the seed."""
        fields = dataclasses.asdict(self.config).items()
        config = {name: list(value) if isinstance(value, tuple) else value for name, value in fields}
        return {"config": config, "seed": self.seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> "System":
        """A model from `get_config`."""
        settings = dict(config)
        return cls(cls.config_class(**settings.pop("config")), **settings)

    def export(self, *arguments, **settings):
        """Is not how a system is exported: its verbs are signatures, and its averaged weights what is served."""
        raise NotImplementedError(
            f"Expected tfdisent.export.export(model, folder, card={{...}}), which writes the verbs of "
            f"{type(self).__name__} as a SavedModel, and with formats=('savedmodel', 'onnx') as ONNX; Keras's own "
            "export knows a model's call alone."
        )

    def compile(self, optimizers=None, *, optimizer=None, **kwargs) -> None:
        """Configures training; by default with `default_optimizer` of each player. For the rest see the engine."""
        if optimizers is None and optimizer is None:
            players = sorted({phase.optimizer for phase in self.phases()})
            optimizers = {player: self.default_optimizer(player) for player in players}
        super().compile(optimizers, optimizer=optimizer, **kwargs)

    def learning_rate(self, player: str):
        """A player's learning rate: a number, or a schedule."""
        return self.config.learning_rate

    def default_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        """A player's optimizer where `compile` is given none: Adam with the config's settings."""
        c = self.config
        # Each device bounds its share of the gradient, so that their sum keeps to the bound.
        bound = c.clip_norm and c.clip_norm / num_replicas()
        rate = self.learning_rate(player)
        return keras.optimizers.Adam(rate, c.beta_1, c.beta_2, global_clipnorm=bound, name=player)

    def stream(self, load: Callable, start_step: int):
        """The batches of training, without an end, a pure function of the step: by default those of the training split.

        A system that trains on several streams at once, as on two domains, makes them with several calls and zips them.

        Args:
            load: (split, **changes) -> an endless `tf.data.Dataset` of batches, read as the config says but for
                `changes`, which are arguments of `tfdisent.data.load`.
            start_step: batches to leave out at the start, those of the steps that are done.
        """
        return load("train", start_step=start_step)

    def validation(self, load: Callable):
        """What the loss terms are computed on at times in training: an ending `tf.data.Dataset`, by default None.

        Args:
            load: as in `stream`; with `repeat=False` it ends.
        """
        return None

    def checked(self, name: str, values, shape: tuple | None = None):
        """What a verb was given, as float32, its shape checked, and, unless a function is traced, NaN and range too.

        Args:
            name: what it is, as in `batch_shapes`.
            values: array or tensor.
            shape: of one example, by default that of a batch.

        Raises:
            ValueError: what was expected, what was received, and how to get it right.
        """
        shape = self.batch_shapes()[name] if shape is None else shape
        inputs.check_shape(name, values, shape)
        if has_values(values):
            array = values if isinstance(values, np.ndarray) else ops.convert_to_numpy(ops.stop_gradient(values))
            inputs.check_values({name: array}, {name: shape})
        return ops.cast(values, "float32")
