"""The adversarial engine: one `train_step` for every system, on TensorFlow, JAX and PyTorch.

A system says what its phases are; each phase has a loss, the networks that it moves and the optimizer that moves them.
The engine runs them in order, hands on what one phase computed for the next, and leaves `fit`, callbacks, saving and
distribution to Keras.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfdisent.training.averaging import ExponentialMovingAverage
from tfdisent.training.callbacks import StopOnNonFinite

if keras.backend.backend() == "tensorflow":
    from tfdisent.training import _tensorflow as backend
elif keras.backend.backend() == "jax":
    from tfdisent.training import _jax as backend
elif keras.backend.backend() == "torch":
    from tfdisent.training import _torch as backend
else:
    raise ImportError(
        "tfdisent trains on the tensorflow, jax and torch backends of Keras, but KERAS_BACKEND is "
        f"{keras.backend.backend()!r}. Set it to one of the three before importing keras."
    )

input_gradient = backend.input_gradient
num_replicas = backend.num_replicas


class Phase(NamedTuple):
    """One player's turn in a training step.

    Attributes:
        loss: (batch, carried) -> (total, terms, carried): a scalar to minimise, a dict of named scalars to log, and a
            dict of tensors for the later phases of the same step, which get them without a gradient.
        networks: whose trainable variables this phase moves; no others move.
        optimizer: key in `compile(optimizers={...})`; phases may share one.
    """

    loss: Callable
    networks: Sequence[keras.layers.Layer]
    optimizer: str


class AdversarialModel(keras.Model):
    """A `keras.Model` that trains in phases, each moving its own networks with its own optimizer.

    A subclass makes its networks in `__init__`, then calls `track_averages` if it wants averaged weights, and defines
    `phases`. It may override `passes` to draw the step's random numbers or to train several times on one batch.
    Freezing is by each phase's choice of variables, never by `trainable=False`, which would turn batch normalisation to
    inference mode.
    """

    def phases(self) -> Sequence[Phase]:
        """The phases of one step, in order. A method, because Keras would save networks held in an attribute twice."""
        raise TypeError(f"{type(self).__name__} must define `phases`, the turns of one training step.")

    def passes(self, batch: dict) -> Sequence[dict]:
        """The batches that one step trains on, in order: by default the given one, once."""
        return [batch]

    def compile(self, optimizers: dict[str, keras.optimizers.Optimizer], **kwargs) -> None:
        """Configures training.

        Args:
            optimizers: one per name that the phases use. All are built here: an unbuilt one would be restored from a
                checkpoint silently empty.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in `keras.Model.compile`.

        Raises:
            ValueError: if the names are not those that the phases use.
        """
        phases = self.phases()
        needed = {phase.optimizer for phase in phases}
        if set(optimizers) != needed:
            raise ValueError(f"Expected one optimizer for each of {sorted(needed)}, received {sorted(optimizers)}.")
        for layer in self.layers:
            if not layer.built:
                # It has no weights, but Keras would call the model on a batch to build it.
                layer.build(None)
        super().compile(optimizer=None, **kwargs)
        self.optimizers = optimizers
        for name, optimizer in optimizers.items():
            owned = [v for phase in phases if phase.optimizer == name for v in phase_variables(phase)]
            optimizer.build(list({id(v): v for v in owned}.values()))
        self.optimizer = OptimizerGroup(optimizers)

    def fit(self, x=None, *args, callbacks=None, **kwargs):
        """`keras.Model.fit`, stopped with the term's name as soon as a loss is not finite."""
        if not isinstance(x, np.ndarray | dict | list | tuple):
            kwargs.setdefault("shuffle", False)  # a data set shuffles itself, and Keras would warn
        return super().fit(x, *args, callbacks=[StopOnNonFinite(), *(callbacks or [])], **kwargs)

    def train_step(self, *args):
        """One training step: every phase on every pass. Keras calls it with (data) or, on JAX, (state, data)."""
        return backend.train_step(self._run_phases, self, *args)

    def _run_phases(self, batch: dict) -> dict:
        logs = {}
        passes = self.passes(batch)
        for one_pass in passes:
            carried = {}
            for phase in self.phases():
                terms, new = backend.minimize(
                    lambda phase=phase, batch=one_pass, carried=carried: _total_and_aux(phase, batch, carried),
                    phase_variables(phase),
                    self.optimizers[phase.optimizer],
                )
                carried = {
                    **carried,
                    **{name: ops.stop_gradient(value) for name, value in new.items()},
                }
                for name, value in terms.items():
                    logs[name] = logs.get(name, 0.0) + ops.stop_gradient(value) / len(passes)
        if self.averages is not None:
            self.averages.update()
        return logs

    averages: ExponentialMovingAverage | None = None

    def track_averages(self, networks: Sequence[keras.layers.Layer], momentum: float) -> None:
        """Keeps exponential moving averages of the networks' weights, updated after every step.

        Batch statistics are averaged with them: those of the last few batches do not fit averaged weights.
        """
        variables = [v for network in networks for v in network.variables if "float" in v.dtype]
        self.averages = ExponentialMovingAverage(variables, momentum=momentum)
        # Held as the model's own weights, so that they are saved, restored and carried through JAX's state.
        self.average_variables = list(self.averages.variables)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the context the networks hold their averaged weights, if the model keeps any."""
        with contextlib.nullcontext() if self.averages is None else self.averages.applied():
            yield


class OptimizerGroup:
    """What Keras expects of `model.optimizer` (state to carry, nothing to build), over several optimizers."""

    built = True

    def __init__(self, optimizers: dict[str, keras.optimizers.Optimizer]):
        self._optimizers = optimizers

    @property
    def variables(self) -> list:
        """All optimizers' variables, in order of their names."""
        return [v for name in sorted(self._optimizers) for v in self._optimizers[name].variables]


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between the replicas that share its state."""

    def next(self, ordered: bool = True):
        """The next seed, shape (2,), shifted by the replica's index."""
        seed = super().next(ordered)
        # To the seed and not to the counter, which would meet that of the next replica in a long run.
        return seed + ops.cast(ops.stack([backend.replica_id() * 1_000_003, 0]), seed.dtype)


def phase_variables(phase: Phase) -> list:
    """The trainable variables that a phase moves."""
    return [v for network in phase.networks for v in network.trainable_variables]


def _total_and_aux(phase, batch, carried):
    total, terms, new = phase.loss(batch, carried)
    return total, (terms, new)
