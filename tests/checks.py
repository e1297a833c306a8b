"""What every layer must pass, and the few per-backend means that tests need."""

import pathlib
import tempfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from tfdisent.training.checkpoint import Checkpoints


def check_layer(
    layer_factory: Callable[[], keras.layers.Layer],
    input_shape: tuple,
    expected_output_shape: tuple | list,
    *,
    num_trainable: int,
    num_non_trainable: int = 0,
) -> None:
    """Builds, calls, saves and loads the layer; shapes include the batch.

    Shapes are one shape each, or lists of shapes for a layer that takes a list of tensors, or returns several.
    """
    expected = expected_output_shape if isinstance(expected_output_shape, list) else [expected_output_shape]
    many = isinstance(input_shape, list)
    shapes = input_shape if many else [input_shape]
    random = np.random.default_rng(0)
    arrays = [random.normal(size=shape).astype("float32") for shape in shapes]
    inputs = arrays if many else arrays[0]

    layer = layer_factory()
    outputs = keras.tree.flatten(layer(inputs))
    assert [tuple(output.shape) for output in outputs] == expected
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float32"}
    assert len(layer.trainable_variables) == num_trainable
    assert len(layer.non_trainable_variables) == num_non_trainable

    config = layer.get_config()
    assert type(layer).from_config(layer.get_config()).get_config() == config

    symbolic = [keras.Input(shape[1:]) for shape in shapes]
    symbolic = symbolic if many else symbolic[0]
    symbolic_outputs = layer(symbolic)
    for output, shape in zip(keras.tree.flatten(symbolic_outputs), expected, strict=True):
        assert output.shape == (None, *shape[1:])
        assert output.dtype == "float32"

    model = keras.Model(symbolic, symbolic_outputs)
    for variable in model.trainable_variables:  # away from zeros and ones
        variable.assign_add(random.normal(size=variable.shape))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "layer.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    for ours, theirs in zip(_seeds(model), _seeds(loaded), strict=True):
        theirs.assign(ours)  # Keras leaves the state of random generators out of the file
    for ours, theirs in zip(keras.tree.flatten(model(inputs)), keras.tree.flatten(loaded(inputs)), strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = layer_factory()
        mixed_outputs = mixed(inputs)
        mixed_symbolic = mixed(symbolic)
    finally:
        keras.config.set_dtype_policy("float32")
    for output, symbol in zip(keras.tree.flatten(mixed_outputs), keras.tree.flatten(mixed_symbolic), strict=True):
        assert keras.backend.standardize_dtype(output.dtype) == symbol.dtype == "bfloat16"
        assert np.all(np.isfinite(to_numpy(ops.cast(output, "float32"))))


def _seeds(model: keras.Model) -> list[keras.Variable]:
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def to_numpy(tensor) -> np.ndarray:
    # NumPy 2 warns when it is handed a variable itself.
    return ops.convert_to_numpy(ops.convert_to_tensor(tensor))


def array(tensor) -> np.ndarray:
    """A tensor that may have a gradient."""
    return ops.convert_to_numpy(ops.stop_gradient(tensor))


def tensors(batch: dict) -> dict:
    return {name: ops.convert_to_tensor(value) for name, value in batch.items()}


def values(terms: dict) -> dict[str, float]:
    return {name: float(array(value)) for name, value in terms.items()}


def weights(networks: Sequence[keras.layers.Layer]) -> list[np.ndarray]:
    """Copies of all that a player may move."""
    return [to_numpy(v).copy() for network in networks for v in network.trainable_variables]


def kernels(networks: Sequence[keras.layers.Layer]) -> list[np.ndarray]:
    """Of convolutions: a bias before a normalisation has no effect, and a gradient of rounding errors."""
    return [value for value in weights(networks) if value.ndim == 4]


def moved(before: list[np.ndarray], after: list[np.ndarray]) -> list[bool]:
    """Of each whether a bit of it has changed."""
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def trained_once(model: keras.Model, batch: dict, batch_size: int) -> dict[str, float]:
    """Trains on a batch, or on several, in their order; returns the logs."""
    history = model.fit(batch, batch_size=batch_size, shuffle=False, verbose=0)
    return {name: values[0] for name, values in history.history.items()}


def check_training_resumes(made: Callable[..., keras.Model], step: Callable, batches: Sequence, folder) -> None:
    """Two steps in one piece end as one step, a checkpoint in a model of another seed, and the other step.

    Args:
        made: a new compiled model, of another seed by `seed=`.
        step: trains a model on a batch.
        batches: two.
        folder: for the checkpoint.
    """
    straight, stopped, resumed = made(), made(), made(seed=9)
    for batch in batches:
        step(straight, batch)
    step(stopped, batches[0])
    Checkpoints(folder).save(stopped, 1)
    Checkpoints(folder).restore(resumed)
    step(resumed, batches[1])
    same_state(straight, resumed)


def same_state(one: keras.Model, other: keras.Model) -> None:
    """All weights, averages, seeds and optimizers' variables are equal, bit for bit."""
    for a, b in zip(
        [*one.variables, *one.optimizer.variables],
        [*other.variables, *other.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(to_numpy(a), to_numpy(b), err_msg=a.path)


class Judge(keras.layers.Layer):
    """A function in the place of a network."""

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def call(self, inputs, training=False):
        return self.function(inputs)


def gradients(loss: Callable, variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Gradients of the scalar `loss()` with respect to `variables`."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, [variable.value for variable in variables])
    elif keras.backend.backend() == "jax":
        import jax

        def stateless(values):
            with keras.StatelessScope(zip(variables, values, strict=True)):
                return loss()

        found = jax.grad(stateless)([variable.value for variable in variables])
    else:
        import torch

        found = torch.autograd.grad(loss(), [variable.value for variable in variables])
    return [to_numpy(gradient) for gradient in found]


def run_compiled(function: Callable, variables: Sequence[keras.Variable], *arguments):
    """`function(*arguments)` as a train step would run it: compiled, with `variables` updated.

    TensorFlow: a graph. JAX: a jitted pure function of the variables' values. PyTorch: eagerly.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)(*arguments)
    if keras.backend.backend() == "torch":
        return function(*arguments)
    import jax

    def stateless(values, arguments):
        with keras.StatelessScope(zip(variables, values, strict=True)) as scope:
            outputs = function(*arguments)
        return outputs, [scope.get_current_value(variable) for variable in variables]

    values = [variable.value for variable in variables]
    outputs, values = jax.jit(stateless)(values, arguments)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return outputs
