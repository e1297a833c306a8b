"""What the adversarial engine needs of TensorFlow."""

import functools

import keras
import tensorflow as tf

from tfdisent.training.gradients import norm, require_gradients


def step(method):
    """The method `(model, data) -> logs` as Keras calls it: TensorFlow's variables are updated in place."""
    return method


def without_updates():
    """A context in which what is assigned to variables can be read, and is dropped at its end."""
    return keras.StatelessScope()


def outside_of_fit(model, step):
    """A `step` of the model, which updates nothing, as a function of the batch; of several devices the first says."""

    def call(data):
        strategy = model.distribute_strategy
        logs = strategy.run(step, args=({name: tf.convert_to_tensor(values) for name, values in data.items()},))
        return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

    return call


def is_concrete(tensor) -> bool:
    """Whether a tensor has values, and is not what a function is traced with."""
    return tf.is_tensor(tensor) and hasattr(tensor, "numpy")


def minimize(loss, variables, optimizer):
    """Moves `variables` one optimizer step down the first of the values of `loss()`; returns the others.

    Gradients are summed over the replicas of a `tf.distribute` strategy, so each replica's loss is divided by their
    number: two replicas with half a batch each then move the weights as one with the whole.
    """
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        total, *others = loss()
        total = total / num_replicas()
    gradients = require_gradients(tape.gradient(total, values), variables)
    # No write before the last read: TensorFlow's graph optimiser drops that order where an earlier phase of the same
    # step wrote the variable too, and a gradient would then see the new weights.
    with tf.control_dependencies(gradients):
        gradients = [tf.identity(gradient) for gradient in gradients]
    optimizer.apply(gradients, variables)
    return others


def term_norms(loss, variables):
    """Norm of the gradient of each of the terms of `loss()` in `variables`, {name: scalar}, and what it hands on."""
    values = [variable.value for variable in variables]
    with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
        tape.watch(values)
        _, terms, carried = loss()
    return {name: norm(tape.gradient(term, values)) for name, term in terms.items()}, carried


def input_gradient(function, inputs):
    """Gradient of `sum(function(inputs))` with respect to `inputs`, itself differentiable (for gradient penalties).

    What the function would update, as batch statistics, is dropped.
    """
    with without_updates(), tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = tf.reduce_sum(function(inputs))
    return tape.gradient(outputs, inputs)


def num_replicas() -> int:
    """Devices that share each batch."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replicas_of(model) -> int:
    """Devices that share each batch of a model in training, which was made under their strategy."""
    return model.distribute_strategy.num_replicas_in_sync


def replica_id():
    """Index of the device that runs this code; 0 outside a strategy."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def device_names() -> list[str]:
    """All GPUs, or all logical CPUs where there is none."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def mirrored_scope(devices: list[str]):
    """The scope of a `MirroredStrategy` over the devices; of the same one at each call, so that it can be resumed."""
    return _mirrored_strategy(tuple(devices)).scope()


@functools.cache
def _mirrored_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(list(devices))
