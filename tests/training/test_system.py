"""Models made from configs: what they keep of them, their optimizers, and the checks of fields."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import to_numpy
from tfdisent.training.adversarial import Phase
from tfdisent.training.system import LinearDecay, System, TrainingConfig, falling, presets


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineConfig(TrainingConfig):
    slope: float = 1.0
    learning_rate: float = 0.1
    beta_2: float = 0.9
    size_weight: float = 0.0
    steps: int = 3
    kind: str = "plain"

    PRESETS: ClassVar = presets(quick={"slope": 2.0, "steps": 1}, small={"steps": 2})
    CHOICES: ClassVar = {"kind": ("plain", "fancy")}


class Line(System):
    """Two numbers, each of a player that wants it to be `slope`."""

    config_class = LineConfig

    def __init__(self, config=None, seed=0, **kwargs):
        super().__init__(config, seed, **kwargs)
        one, two = (keras.layers.Dense(1, use_bias=False) for _ in range(2))
        for layer in (one, two):
            layer.build((None, 1))
        self.one, self.two = one, two
        self.built = True

    def phases(self):
        def distance(layer):
            def loss(batch, carried):
                total = ops.mean(ops.abs(layer(batch["x"]) - self.config.slope))
                return total, {layer.name: total}, {}

            return loss

        return [Phase(distance(n), [n], p) for n, p in ((self.one, "first"), (self.two, "second"))]

    def learning_rate(self, player):
        return super().learning_rate(player) * (10 if player == "second" else 1)


def test_a_model_has_its_classes_config_by_default_and_is_made_again_from_it():
    assert Line().config == LineConfig()
    model = Line(LineConfig(slope=3.0))
    again = Line.from_config(model.get_config())
    assert again.config == LineConfig(slope=3.0)


def test_each_player_has_an_adam_of_its_own_with_its_own_rate():
    model = Line(LineConfig(beta_1=0.25))
    model.compile()
    assert model.optimizers.keys() == {"first", "second"}
    rates = {name: float(o.learning_rate) for name, o in model.optimizers.items()}
    assert rates == pytest.approx({"first": 0.1, "second": 1.0})
    assert {o.beta_1 for o in model.optimizers.values()} == {0.25}


@pytest.mark.parametrize("clip_norm, moves", [(None, True), (1e6, True), (1e-12, False)])
def test_a_bound_of_the_gradient_holds_for_every_player(clip_norm, moves):
    model = Line(LineConfig(clip_norm=clip_norm))
    model.compile(run_eagerly=True)
    before = [to_numpy(v) for v in model.trainable_variables]
    model.fit({"x": np.ones((2, 1), "float32")}, batch_size=2, verbose=0)
    for old, new, rate in zip(before, model.trainable_variables, (0.1, 1.0), strict=True):
        move = abs(to_numpy(new) - old).item()
        assert move == pytest.approx(rate, rel=0.01) if moves else move < 1e-4 * rate


def test_optimizers_of_ones_own_take_the_place_of_the_adams():
    model = Line()
    own = {name: keras.optimizers.SGD(0.5, name=name) for name in ("first", "second")}
    model.compile(own)
    assert dict(model.optimizers) == own


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"size_weight": -1.0}, "Expected size_weight >= 0, received -1.0."),
        ({"size_weight": float("nan")}, "Expected size_weight >= 0, received nan."),
        ({"learning_rate": 0.0}, "Expected learning_rate > 0, received 0.0."),
        ({"clip_norm": 0.0}, "Expected clip_norm > 0 or None, received 0.0."),
        ({"beta_1": 1.0}, r"Expected beta_1 in \[0, 1\), received 1.0."),
        ({"steps": 0}, "Expected steps to be a whole number >= 1, received 0."),
        ({"steps": 2.5}, "Expected steps to be a whole number >= 1, received 2.5."),
        ({"kind": "odd"}, "Expected kind to be 'plain' or 'fancy', received 'odd'."),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(wrong, message):
    LineConfig()
    LineConfig(clip_norm=1.0, beta_1=0.0)
    with pytest.raises(ValueError, match=message):
        LineConfig(**wrong)


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match="among image_size, learning_rate.*slope.*received width=3"):
        LineConfig(width=3)
    with pytest.raises(TypeError, match="received width=3"):
        LineConfig.preset("quick", width=3)


def test_a_preset_gives_its_values_and_takes_changes():
    assert LineConfig.preset("quick") == LineConfig(slope=2.0, steps=1)
    assert LineConfig.preset("small", slope=4.0) == LineConfig(slope=4.0, steps=2)
    assert LineConfig.preset("paper") == LineConfig()
    assert LineConfig.PRESETS["quick"] == {"slope": 2.0, "steps": 1}


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="among quick, small, paper; received 'huge'"):
        LineConfig.preset("huge")


@pytest.mark.parametrize(("curve", "quarter"), [({}, 0.3414), ({"curve": LinearDecay}, 0.3)])
def test_a_rate_is_constant_until_the_last_share_of_steps_and_then_falls_to_zero(curve, quarter):
    schedule = falling(0.4, 2 / 3, 30, **curve)
    found = [float(to_numpy(ops.convert_to_tensor(schedule(step)))) for step in (0, 10, 15, 20, 30, 40)]
    np.testing.assert_allclose(found, [0.4, 0.4, quarter, 0.2, 0.0, 0.0], atol=1e-4)
    again = type(schedule).from_config(schedule.get_config())
    assert again.get_config() == schedule.get_config()


def test_a_rate_that_falls_in_no_step_is_a_number():
    assert falling(0.4, 0.0, 30) == 0.4
