"""What all systems and baselines are to the engine: models made from a config, with an optimizer for each player."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import keras

from tfdisent.training.adversarial import AdversarialModel, ReplicaSeedGenerator, num_replicas


class System(AdversarialModel):
    """An `AdversarialModel` that is made from a config, which is all that is needed to make it again.

    A subclass names its `config_class`, makes its networks after this `__init__`, and defines `phases`. The config has
    `learning_rate`, `beta_1` and `beta_2` of Adam, and may have `clip_norm`.

    Args:
        config: its settings; those of `config_class` by default.
        seed: of what is drawn in training, by `seed_generator`.
    """

    config_class: type

    def __init__(self, config=None, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.config = config or self.config_class()
        self.seed_generator = ReplicaSeedGenerator(seed)

    def get_config(self) -> dict:
        """The config's fields."""
        return {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict) -> "System":
        """A model from `get_config`."""
        return cls(cls.config_class(**config["config"]))

    def compile(self, optimizers: dict | None = None, **kwargs) -> None:
        """Configures training; by default with an Adam for each player. Other arguments are those of the engine."""
        if optimizers is None:
            players = sorted({phase.optimizer for phase in self.phases()})
            optimizers = {player: self._adam(player) for player in players}
        super().compile(optimizers, **kwargs)

    def learning_rate(self, player: str):
        """A player's learning rate: a number, or a schedule."""
        return self.config.learning_rate

    def _adam(self, player):
        c = self.config
        # Each device bounds its share of the gradient, so that their sum keeps to the bound.
        clip_norm = getattr(c, "clip_norm", None)
        bound = clip_norm and clip_norm / num_replicas()
        rate = self.learning_rate(player)
        return keras.optimizers.Adam(rate, c.beta_1, c.beta_2, global_clipnorm=bound, name=player)


def check_fields(
    config,
    *,
    counts: Collection[str] = (),
    fractions: Collection[str] = ("average_momentum", "beta_1", "beta_2"),
    choices: Mapping[str, Collection[Any]] | None = None,
) -> None:
    """Checks a config's numbers and names.

    Fields that end in `_weight` must be 0 or more, those that end in `learning_rate` more than 0, and `clip_norm` more
    than 0 or None.

    Args:
        config: a dataclass.
        counts: fields that are whole numbers from 1.
        fractions: fields in [0, 1).
        choices: field -> what it may be.

    Raises:
        ValueError: what was expected of which field, and what it is.
    """
    for name, value in dataclasses.asdict(config).items():
        if name.endswith("_weight") and not value >= 0:
            raise ValueError(f"Expected {name} >= 0, received {value}.")
        if name.endswith("learning_rate") and not value > 0:
            raise ValueError(f"Expected {name} > 0, received {value}.")
        if name == "clip_norm" and value is not None and not value > 0:
            raise ValueError(f"Expected clip_norm > 0 or None, received {value}.")
        if name in counts and (not isinstance(value, int) or value < 1):
            raise ValueError(f"Expected {name} to be a whole number >= 1, received {value}.")
        if name in fractions and not 0 <= value < 1:
            raise ValueError(f"Expected {name} in [0, 1), received {value}.")
        if choices and name in choices and value not in choices[name]:
            expected = " or ".join(map(repr, choices[name]))
            raise ValueError(f"Expected {name} to be {expected}, received {value!r}.")
