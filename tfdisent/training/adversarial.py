"""The adversarial engine: one `train_step` for every system, on TensorFlow, JAX and PyTorch.

A system says what its phases are; each phase has a loss, the networks that it moves and the optimizer that moves them.
The engine runs them in order, hands on what one phase computed for the next, and leaves `fit`, callbacks, saving and
distribution to Keras.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfdisent.training import inputs
from tfdisent.training.averaging import ExponentialMovingAverage, WeightAverage
from tfdisent.training.callbacks import StopOnNonFinite
from tfdisent.training.checkpoint import random_states

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
is_concrete = backend.is_concrete
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
    `phases`. It may override `passes` to draw the step's random numbers or to train several times on one batch, and
    `batch_shapes` to have batches checked where they come in. Freezing is by each phase's choice of variables, never by
    `trainable=False`, which would turn batch normalisation to inference mode.

    `fit`, `train_on_batch`, `evaluate` and Keras's callbacks work as in `keras.Model`; the logs are the terms that the
    phases name (a callback that watches one must be told `mode="min"`), and the losses are the model's own. `evaluate`
    (and `fit` with `validation_data`) computes the same terms as training without moving a weight, a batch statistic or
    a seed. `evaluate` and `predict` use the averaged weights where the model keeps some, as an export does; a call of
    the model and its verbs do so inside `averaged()`.
    """

    optional_inputs: Sequence[str] = ()  # keys of `batch_shapes` that a batch may leave out
    averages: WeightAverage | None = None

    def phases(self) -> Sequence[Phase]:
        """The phases of one step, in order. A method, because Keras would save networks held in an attribute twice."""
        raise TypeError(f"{type(self).__name__} must define `phases`, the turns of one training step.")

    def passes(self, batch: dict) -> Sequence[dict]:
        """The batches that one step trains on, in order: by default the given one, once."""
        return [batch]

    def term_weights(self) -> Mapping[str, Any]:
        """{term: its weight in the loss of the phase that names it}; all others weigh 1."""
        return {}

    def weighted(self, terms: Mapping[str, Any]):
        """The sum of a phase's terms, each times its weight: what the phase minimises."""
        weights = self.term_weights()
        return sum(weights.get(name, 1.0) * term for name, term in terms.items())

    def batch_shapes(self) -> dict[str, tuple]:
        """Key of a batch -> shape of one example, for those keys that are checked; by default none.

        The first two are what x and y of `fit(x, y)` are taken for.
        """
        return {}

    def compile(
        self,
        optimizers: "dict[str, keras.optimizers.Optimizer] | keras.optimizers.Optimizer | str | None" = None,
        *,
        optimizer: keras.optimizers.Optimizer | str | None = None,
        loss: None = None,
        metrics: None = None,
        **kwargs,
    ) -> None:
        """Configures training.

        Args:
            optimizers: one per name that the phases use; or a single one, by name or as an object, whose rule and
                settings every player gets a copy of. All are built here: an unbuilt one would be restored from a
                checkpoint silently empty.
            optimizer: the same argument under the name that Keras gives it.
            loss, metrics: not to be given, since the phases define the losses and name what is logged.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in `keras.Model.compile`.

        Raises:
            ValueError: if the names are not those that the phases use, there is a loss or metric, or a network computes
                in float16.
        """
        if loss is not None or metrics is not None:
            raise ValueError(
                f"Expected neither loss nor metrics, since {type(self).__name__} has its own, received loss={loss!r} "
                f"and metrics={metrics!r}; leave them out."
            )
        if "float16" in {layer.compute_dtype for layer in _layers([self])}:
            raise ValueError(
                "Expected networks that compute in float32 or bfloat16, received float16: small gradients are lost in "
                "it unless each player's loss is scaled, which is not done here. bfloat16 needs no scaling: call "
                'keras.config.set_dtype_policy("mixed_bfloat16") before the model is made.'
            )
        if optimizers is not None and optimizer is not None:
            raise ValueError("Expected optimizers or optimizer, received both; leave one out.")
        optimizers = optimizer if optimizers is None else optimizers
        phases = self.phases()
        needed = sorted({phase.optimizer for phase in phases})
        if not isinstance(optimizers, Mapping):
            optimizers = copies(optimizers, needed)
        if set(optimizers) != set(needed):
            raise ValueError(f"Expected one optimizer for each of {needed}, received {sorted(optimizers)}.")
        for layer in self.layers:
            if not layer.built:
                # It has no weights, but Keras would call the model on a batch to build it.
                layer.build(None)
        super().compile(optimizer=None, **kwargs)
        self.optimizers = optimizers
        for name, optimizer in optimizers.items():
            owned = [v for phase in phases if phase.optimizer == name for v in phase_variables(phase)]
            optimizer.build(list({id(v): v for v in owned}.values()))
        self.optimizer = OptimizerGroup({name: optimizers[name] for name in needed})
        self._term_means = Held(TermMeans())
        self._gradient_function = None
        self._compile_settings = kwargs

    def get_compile_config(self) -> dict:
        """What `compile` was given, and the states of the random generators, which Keras leaves out of its files."""
        if not self.compiled:
            return {}
        return {
            "optimizers": {name: serialized(optimizer) for name, optimizer in self.optimizers.items()},
            "seeds": [ops.convert_to_numpy(seed).tolist() for seed in random_states(self)],
            **self._compile_settings,
        }

    def compile_from_config(self, config: dict) -> None:
        """Compiles a loaded model as the saved one was; the optimizers' variables are then loaded with the weights."""
        settings = dict(config)
        optimizers, seeds = settings.pop("optimizers"), settings.pop("seeds")
        deserialize = keras.saving.deserialize_keras_object
        self.compile({name: deserialize(optimizer) for name, optimizer in optimizers.items()}, **settings)
        for seed, value in zip(random_states(self), seeds, strict=True):
            seed.assign(value)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of Keras, and the means of the loss terms in an evaluation."""
        return [*super().metrics, *([self._term_means.metric] if self.compiled else [])]

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **kwargs):
        """`keras.Model.fit`, stopped with the term's name as soon as a loss is not finite."""
        self._check_data(x, y)
        self._check_replicas(x, batch_size)
        if kwargs.get("validation_data") is not None:
            self._check_data(*keras.utils.unpack_x_y_sample_weight(kwargs["validation_data"])[:2])
        if not isinstance(x, np.ndarray | dict | list | tuple) and not is_concrete(x):
            kwargs.setdefault("shuffle", False)  # a data set shuffles itself, and Keras would warn
        given = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else callbacks or []
        callbacks = [StopOnNonFinite(), *given]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def evaluate(self, x=None, y=None, *args, return_dict=False, **kwargs):
        """`keras.Model.evaluate`: the means of the loss terms, by their names or in the order of these."""
        if not kwargs.get("_use_cached_eval_dataset"):  # as `fit` does, which has checked them
            self._check_data(x, y)
        self._check_replicas(x, args[0] if args else kwargs.get("batch_size"))
        with self.averaged():
            super().evaluate(x, y, *args, return_dict=True, **kwargs)
        # Of all replicas; what Keras returns is the first one's.
        means = {name: float(value) for name, value in self._term_means.metric.result().items()}
        return means if return_dict else list(means.values())

    def predict(self, x, *args, **kwargs):
        """`keras.Model.predict`: what the model's call gives for each batch."""
        with self.averaged():
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """`keras.Model.train_on_batch`: the loss terms of one step, in the order of their names or as a dict."""
        self._check_data(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    @backend.step
    def train_step(self, data) -> dict:
        """One training step: every phase on every pass. Keras calls it with (data) or, on JAX, (state, data)."""
        logs = {}
        passes = self.passes(self._batch(data))
        for one_pass in passes:
            carried = {}
            for phase in self.phases():
                terms, new = backend.minimize(
                    functools.partial(phase.loss, one_pass, carried),
                    phase_variables(phase),
                    self.optimizers[phase.optimizer],
                )
                carried = {**carried, **{name: ops.stop_gradient(value) for name, value in new.items()}}
                for name, value in terms.items():
                    logs[name] = logs.get(name, 0.0) + ops.stop_gradient(value) / len(passes)
        if self.averages is not None:
            self.averages.update()
        return logs

    @backend.step
    def test_step(self, data) -> dict:
        """The loss terms of a batch, computed as in training, with nothing updated; returns their means so far."""
        batch, logs = self._batch(data), {}
        with backend.without_updates():
            passes = self.passes(batch)
            for one_pass in passes:
                carried = {}
                for phase in self.phases():
                    _, terms, new = phase.loss(one_pass, carried)
                    carried = {**carried, **new}
                    for name, value in terms.items():
                        logs[name] = logs.get(name, 0.0) + ops.stop_gradient(value) / len(passes)
        means = self._term_means.metric
        means.update_state(logs, ops.shape(next(iter(batch.values())))[0])
        return means.result()

    @backend.step
    def gradient_step(self, data) -> dict:
        """The shares of `gradient_shares` as scalars, with nothing updated; of several passes their mean."""
        shares = {}
        with backend.without_updates():
            weights, passes = self.term_weights(), self.passes(self._batch(data))
            for one_pass in passes:
                carried = {}
                for phase in self.phases():
                    norms, new = backend.term_norms(
                        functools.partial(phase.loss, one_pass, carried), phase_variables(phase)
                    )
                    carried = {**carried, **{name: ops.stop_gradient(value) for name, value in new.items()}}
                    norms = {name: weights.get(name, 1.0) * value for name, value in norms.items()}
                    whole = ops.maximum(sum(norms.values()), 1e-30)
                    for name, value in norms.items():
                        shares[name] = shares.get(name, 0.0) + value / whole / len(passes)
        return shares

    def gradient_shares(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """How much each loss term has to say: its share of the gradient's norm in its phase, in [0, 1].

        Of each term, times its weight, the norm of the gradient in all variables that the phase moves, over the sum of
        these norms; so the shares of a phase's terms sum to 1. What is drawn is what the next step would draw. Nothing
        is updated.

        Args:
            batch: as `fit` takes it.
        """
        if self._gradient_function is None:
            self._gradient_function = backend.outside_of_fit(self, self.gradient_step)
        return {name: float(value) for name, value in sorted(self._gradient_function(dict(batch)).items())}

    def _batch(self, data) -> dict:
        """The batch of a step, its keys, shapes and kinds of numbers checked, its floats in float32."""
        shapes = self.batch_shapes()
        batch = inputs.as_batch(data, tuple(shapes))
        inputs.check_shapes(batch, shapes, self.optional_inputs)
        return {name: ops.cast(v, "float32") if "float" in str(v.dtype) else v for name, v in batch.items()}

    def _check_data(self, x: Any, y: Any) -> None:
        """Checks arrays and tensors whole, and the first batch of a `tf.data.Dataset` that ends or a `PyDataset`."""
        shapes = self.batch_shapes()
        if not shapes:
            return
        if isinstance(x, keras.utils.PyDataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x[0])
        elif hasattr(x, "cardinality") and int(x.cardinality()) != -1:  # an endless one is a pipeline's own
            x, y, _ = keras.utils.unpack_x_y_sample_weight(next(iter(x)))
        if not isinstance(x, Mapping) and not has_values(x):
            return  # an iterator, which a look would move on; its shapes are checked in each step
        batch = inputs.as_batch((x, y), tuple(shapes))
        inputs.check_shapes(batch, shapes, self.optional_inputs)
        inputs.check_values({k: np.asarray(v) for k, v in batch.items() if k in shapes and has_values(v)}, shapes)

    def _check_replicas(self, x: Any, batch_size: int | None) -> None:
        """Raises ValueError if a batch would be dealt out unevenly among replicas, also the last, smaller one.

        Each replica's loss is a mean over its share, and the shares count alike.
        """
        number = backend.replicas_of(self)
        if number == 1:
            return
        if hasattr(x, "element_spec"):
            sizes = {spec.shape[0] for spec in keras.tree.flatten(x.element_spec)}
            is_open = sizes == {None} and int(x.cardinality()) == -1  # an endless one is a pipeline's own
            is_even = is_open or (None not in sizes and not any(size % number for size in sizes))
            received = f"a data set with batches of {', '.join(str(size or 'any size') for size in sizes)}"
        elif has_values(first := next(iter(keras.tree.flatten(x)), None)):
            size = batch_size or 32
            is_even = not (len(first) % size or size % number)
            received = f"{len(first)} examples in batches of {size}"
        else:
            return
        if not is_even:
            raise ValueError(
                f"Expected batches that {number} replicas divide evenly, the last one too, received {received}. Use "
                "such a batch size, and leave out what remains: `dataset.batch(size, drop_remainder=True)`."
            )

    def track_averages(
        self,
        networks: Sequence[keras.layers.Layer],
        policy: float | Callable[[list[keras.Variable]], WeightAverage],
    ) -> None:
        """Keeps averages of the networks' weights, updated after every step; evaluation and export use them.

        Batch statistics are averaged with them: those of the last few batches do not fit averaged weights.

        Args:
            networks: built ones.
            policy: momentum of an exponential moving average; or what makes the average of a list of variables, such as
                `functools.partial(StochasticWeightAveraging, start=10_000, interval=500)`.
        """
        if not callable(policy):
            policy = functools.partial(ExponentialMovingAverage, momentum=policy)
        self.averages = policy([v for network in networks for v in network.variables if "float" in v.dtype])
        # Held as the model's own weights, so that they are saved, restored and carried through JAX's state.
        self.average_variables = list(self.averages.variables)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside the context the networks hold their averaged weights, if the model keeps any."""
        with contextlib.nullcontext() if self.averages is None else self.averages.applied():
            yield


class OptimizerGroup:
    """What Keras expects of `model.optimizer`, over several optimizers: state to carry, nothing to build, and rates.

    Keras's callbacks that change the learning rate do so for each of `optimizers`, or, in older versions, set
    `learning_rate`, which is the first one's and changes the others in proportion.
    """

    built = True

    def __init__(self, optimizers: dict[str, keras.optimizers.Optimizer]):
        self.optimizers = [optimizers[name] for name in sorted(optimizers)]

    @property
    def variables(self) -> list:
        """All optimizers' variables, in order of their names."""
        return [v for optimizer in self.optimizers for v in optimizer.variables]

    @property
    def learning_rate(self):
        """The present rate of the first optimizer."""
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        factor = value / float(self.learning_rate)
        for optimizer in self.optimizers:
            optimizer.learning_rate = factor * float(optimizer.learning_rate)


class TermMeans(keras.metrics.Metric):
    """Means of named scalars over the batches of an evaluation, each weighted by the size of its batch.

    The variables must exist before a step is traced, and the names are only known then: there is room for `MOST`.
    """

    MOST = 64

    def __init__(self):
        super().__init__(name="terms")
        self.names: tuple[str, ...] = ()
        self.sums = self.add_variable((self.MOST,), "zeros", name="sums")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, terms: dict, size) -> None:
        """Adds the terms of a batch of `size` examples."""
        if len(terms) > self.MOST:
            raise ValueError(f"Expected at most {self.MOST} loss terms, received {len(terms)}.")
        self.names, size = tuple(sorted(terms)), ops.cast(size, "float32")
        values = ops.stack([ops.cast(terms[name], "float32") for name in self.names])
        self.sums.assign(self.sums + size * ops.pad(values, [[0, self.MOST - len(terms)]]))
        self.count.assign(self.count + size)

    def result(self) -> dict:
        """The means by name."""
        means = self.sums / ops.maximum(self.count, 1.0)
        return {name: means[k] for k, name in enumerate(self.names)}


class Held(NamedTuple):
    """Keeps a metric out of sight of Keras, which would take a metric in an attribute for one of a layer's."""

    metric: TermMeans


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between the replicas that share its state."""

    def next(self, ordered: bool = True):
        """The next seed, shape (2,), shifted by the replica's index."""
        seed = super().next(ordered)
        # To the seed and not to the counter, which would meet that of the next replica in a long run.
        return seed + ops.cast(ops.stack([backend.replica_id() * 1_000_003, 0]), seed.dtype)


def _layers(layers: Sequence[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """The layers and, of those that are models, what they are made of."""
    for layer in layers:
        yield layer
        yield from _layers(getattr(layer, "layers", ()))


def phase_variables(phase: Phase) -> list:
    """The trainable variables that a phase moves."""
    return [v for network in phase.networks for v in network.trainable_variables]


def copies(optimizer: keras.optimizers.Optimizer | str, names: Sequence[str]) -> dict[str, keras.optimizers.Optimizer]:
    """An optimizer of the same rule and settings for each name; `optimizer` may be Keras's name of the rule."""
    optimizer = keras.optimizers.get(optimizer)
    return {name: type(optimizer).from_config({**optimizer.get_config(), "name": name}) for name in names}


def serialized(optimizer: keras.optimizers.Optimizer) -> dict:
    """The optimizer as `keras.saving.deserialize_keras_object` reads it, under any backend."""
    config = keras.saving.serialize_keras_object(optimizer)
    if config["module"].startswith("keras."):  # on PyTorch, Keras names a class that is that backend's alone
        config |= {"module": "keras.optimizers", "registered_name": None}
    return config


def has_values(values: Any) -> bool:
    """Whether it is a NumPy array, or a tensor that no function is traced with."""
    return isinstance(values, np.ndarray) or is_concrete(values)
