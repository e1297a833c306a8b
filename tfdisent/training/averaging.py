"""Averages of weights over training: exponential moving average (EMA) and equal average (SWA)."""

import abc
import contextlib
from collections.abc import Iterator, Sequence

import keras
from keras import ops


class WeightAverage(abc.ABC):
    """Float32 averages of `variables`, beside them; what `ExponentialMovingAverage` and SWA share.

    `update()` is plain Keras ops and `assign`: call it eagerly or inside a compiled train step, on JAX within a
    `keras.StatelessScope` that maps `variables` and `self.variables` (a model that keeps `self.variables` in a list
    attribute carries and saves them as non-trainable weights). Before the first update the averages are the values that
    the variables had at construction.

    Batch statistics are variables like others: include a network's `non_trainable_variables` that are floats, or
    re-estimate them with the averaged weights.

    Args:
        variables: built Keras variables of a float dtype; not empty.
    """

    def __init__(self, variables: Sequence[keras.Variable]) -> None:
        self._live = list(variables)
        if not self._live:
            raise ValueError(f"{type(self).__name__}: no variables to average; build the model first.")
        for variable in self._live:
            if "float" not in variable.dtype:
                raise ValueError(
                    f"{type(self).__name__} averages float variables only. Received: {variable.path} of dtype "
                    f"{variable.dtype}; leave it out."
                )
        self._count = keras.Variable(0, dtype="int32", trainable=False, autocast=False, name="count")
        self._averages = [
            keras.Variable(
                ops.copy(variable),
                dtype="float32",
                trainable=False,
                autocast=False,
                name=f"average_{variable.path.replace('/', '_')}",
            )
            for variable in self._live
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        """All state: the number of updates (int32), then one float32 average per variable."""
        return [self._count, *self._averages]

    @abc.abstractmethod
    def momentum_of(self, count):
        """Weight of the old average in the update after `count` updates (float32 scalar)."""

    def update(self) -> None:
        """Takes the variables' present values into the averages."""
        momentum = self.momentum_of(ops.cast(self._count.value, "float32"))
        for average, variable in zip(self._averages, self._live, strict=True):
            value = ops.cast(ops.stop_gradient(variable.value), "float32")
            average.assign(momentum * average.value + (1 - momentum) * value)
        self._count.assign(self._count.value + 1)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The variables hold their averages inside `with`, and their own values again after it, also by an exception.

        Eager only, not inside a compiled function; what is assigned to the variables inside is lost.
        """
        kept = [ops.copy(variable) for variable in self._live]
        try:
            for average, variable in zip(self._averages, self._live, strict=True):
                variable.assign(ops.copy(average))  # not one buffer of both: JAX gives it away with either
            yield
        finally:
            for value, variable in zip(kept, self._live, strict=True):
                variable.assign(value)


class ExponentialMovingAverage(WeightAverage):
    """`average <- m * average + (1 - m) * value` with `m = min(momentum, (1 + n) / (10 + n))`.

    n is the number of updates so far. The warm-up of m lets early averages follow the weights (0.1, 0.18, 0.25, ... for
    the first updates; with momentum 0.999 it ends at n = 8990), as `tf.train.ExponentialMovingAverage(num_updates=n)`
    does.

    Args:
        variables: built Keras variables of a float dtype.
        momentum: largest m, in [0, 1).
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float = 0.999) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"ExponentialMovingAverage: `momentum` must be in [0, 1). Received: {momentum}.")
        super().__init__(variables)
        self.momentum = momentum

    def momentum_of(self, count):
        """The momentum, or less in the warm-up."""
        return ops.minimum(self.momentum, (1 + count) / (10 + count))


class StochasticWeightAveraging(WeightAverage):
    """Equal average of the weights at every `interval`-th `update()` after the first `start` ones.

    `average <- (n * average + value) / (n + 1)` after n values: Izmailov et al. 2018, Algorithm 1
    (https://arxiv.org/abs/1803.05407). Until the first value the average is the present weights.

    Args:
        variables: built Keras variables of a float dtype.
        start: updates that are left out, 0 or more; where `update()` is called after every step, a number of steps.
        interval: updates from one value to the next, at least 1: the steps of an epoch for a value an epoch.
    """

    def __init__(self, variables: Sequence[keras.Variable], start: int = 0, interval: int = 1) -> None:
        if start < 0 or interval < 1:
            raise ValueError(
                f"StochasticWeightAveraging: Expected start >= 0 and interval >= 1, received start={start} and "
                f"interval={interval}."
            )
        super().__init__(variables)
        self.start, self.interval = start, interval

    def momentum_of(self, count):
        """0 before the first value, 1 between two, and n / (n + 1) where one is added to n."""
        updates = count + 1 - self.start
        values = ops.floor(updates / self.interval)
        kept = ops.where(updates % self.interval == 0, (values - 1) / ops.maximum(values, 1), 1.0)
        return ops.where(values < 1, 0.0, kept)
