import keras
import numpy as np
import pytest

from tests.checks import run_compiled, to_numpy
from tfdisent.training.averaging import ExponentialMovingAverage, StochasticWeightAveraging


def values_of(average):
    return [to_numpy(variable) for variable in average.variables[1:]]


def two_variables():
    return [keras.Variable(np.array([1.0, -2.0], "float32")), keras.Variable(np.float32(4))]


def test_before_the_first_update_averages_are_the_initial_values():
    for kind in (ExponentialMovingAverage, StochasticWeightAveraging):
        first, second = values_of(kind(two_variables()))
        np.testing.assert_array_equal(first, [1, -2])
        np.testing.assert_array_equal(second, 4)


def test_state_is_float32_not_trainable_and_leads_with_the_count():
    average = ExponentialMovingAverage(two_variables())
    count, *averages = average.variables
    assert count.dtype == "int32" and int(to_numpy(count)) == 0
    assert [variable.shape for variable in averages] == [(2,), ()]
    assert all(variable.dtype == "float32" for variable in averages)
    assert not any(variable.trainable for variable in average.variables)
    average.update()
    assert int(to_numpy(count)) == 1


def test_exponential_average_follows_its_warm_up_and_then_its_momentum():
    variable = keras.Variable(np.float32(1))
    average = ExponentialMovingAverage([variable], momentum=0.3)
    expected = 1.0
    for step, value in enumerate([2.0, -3.0, 0.5, 8.0, 1.0]):
        variable.assign(value)
        average.update()
        momentum = min(0.3, (1 + step) / (10 + step))
        expected = momentum * expected + (1 - momentum) * value
        assert values_of(average)[0] == pytest.approx(expected, rel=1e-5)
    assert momentum == 0.3


def test_exponential_average_of_constant_weights_is_those_weights():
    variable = keras.Variable(np.array([0.1, 1e-3, 7.0], "float32"))
    average = ExponentialMovingAverage([variable])
    for _ in range(20):
        average.update()
    np.testing.assert_allclose(values_of(average)[0], to_numpy(variable), rtol=1e-5)


def test_stochastic_weight_average_is_the_mean_of_what_it_saw():
    variable = keras.Variable(np.zeros(5, "float32"))
    average = StochasticWeightAveraging([variable])
    trajectory = np.random.default_rng(0).normal(size=(30, 5)).astype("float32")
    for step, weights in enumerate(trajectory):
        variable.assign(weights)
        average.update()
        expected = trajectory[: step + 1].mean(0, dtype="float64")
        np.testing.assert_allclose(values_of(average)[0], expected, rtol=1e-5, atol=1e-6)


def test_stochastic_weight_average_takes_a_value_every_interval_from_its_start_on():
    variable = keras.Variable(np.float32(0))
    average = StochasticWeightAveraging([variable], start=2, interval=3)
    seen = []
    for step in range(1, 12):
        variable.assign(step)
        average.update()
        seen.append(float(values_of(average)[0]))
    # The present weights until the first value, of step 2 + 3; then the mean of the values of steps 5, 8 and 11.
    assert seen == [1, 2, 3, 4, 5, 5, 5, 6.5, 6.5, 6.5, 8]


def averages_after_three_steps(kind, run):
    variables = two_variables()
    average = kind(variables)

    def step(factor):
        for variable in variables:
            variable.assign(variable.value * factor)
        average.update()

    for factor in (2.0, 0.5, -4.0):
        run(step, [*variables, *average.variables], factor)
    assert int(to_numpy(average.variables[0])) == 3
    return values_of(average)


@pytest.mark.parametrize("kind", [ExponentialMovingAverage, StochasticWeightAveraging])
def test_compiled_updates_equal_eager_updates(kind):
    eager = averages_after_three_steps(kind, lambda step, variables, factor: step(factor))
    compiled = averages_after_three_steps(kind, run_compiled)
    for expected, found in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_averages_are_applied_inside_the_context_and_swapped_back():
    variables = two_variables()
    average = StochasticWeightAveraging(variables)
    average.update()
    variables[0].assign([3.0, 0.0])
    average.update()
    with average.applied():
        np.testing.assert_array_equal(to_numpy(variables[0]), [2, -1])
        np.testing.assert_array_equal(to_numpy(variables[1]), 4)
    np.testing.assert_array_equal(to_numpy(variables[0]), [3, 0])
    np.testing.assert_array_equal(values_of(average)[0], [2, -1])


def test_weights_come_back_after_an_exception():
    variables = two_variables()
    average = ExponentialMovingAverage(variables)
    variables[0].assign([5.0, 5.0])
    with pytest.raises(KeyError), average.applied():
        np.testing.assert_array_equal(to_numpy(variables[0]), [1, -2])
        raise KeyError
    np.testing.assert_array_equal(to_numpy(variables[0]), [5, 5])


def test_bfloat16_weights_are_averaged_in_float32():
    variable = keras.Variable(np.float32(1), dtype="bfloat16")
    average = StochasticWeightAveraging([variable])
    for value in (1.0, 1.0078125):
        variable.assign(value)
        average.update()
    assert values_of(average)[0] == pytest.approx(1.00390625, rel=1e-6)
    with average.applied():
        assert variable.dtype == "bfloat16"


def test_averages_listed_in_a_model_are_saved_with_its_weights(tmp_path):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)
            self.dense.build((None, 3))
            self.average = ExponentialMovingAverage(self.dense.variables)
            self.average_variables = self.average.variables
            self.built = True

    saved, loaded = Model(), Model()
    assert len(saved.trainable_variables) == 2 and len(saved.non_trainable_variables) == 3
    saved.dense.kernel.assign(np.ones((3, 2)))
    saved.average.update()
    saved.save_weights(tmp_path / "model.weights.h5")
    loaded.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(saved.average.variables, loaded.average.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="no variables to average"):
        StochasticWeightAveraging([])
    with pytest.raises(ValueError, match="float variables only. Received: counter"):
        StochasticWeightAveraging([keras.Variable(0, dtype="int32", trainable=False, name="counter")])
    with pytest.raises(ValueError, match="start >= 0 and interval >= 1, received start=0 and interval=0"):
        StochasticWeightAveraging(two_variables(), interval=0)
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\). Received: 1.0"):
        ExponentialMovingAverage(two_variables(), momentum=1.0)
