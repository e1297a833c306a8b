"""What the adversarial engine needs of JAX.

Keras hands a training step its state as arrays and wants it back. The step opens one `StatelessScope` over every
variable, in which reads give the current value and assignments are recorded; each `minimize` opens an inner
one, because what happens inside `jax.value_and_grad` must leave it as an output.
"""

import contextlib
import functools

import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.experimental import multihost_utils
from keras import StatelessScope, ops
from keras.src.backend.common.stateless_scope import get_stateless_scope

from tfdisent.training.gradients import norm, require_gradients


def step(method):
    """The method `(model, data) -> logs` as Keras calls it: `(model, state, data) -> (logs, new state)`.

    The state of training is four lists of arrays, that of a test three: without the optimizers' variables.
    """

    @functools.wraps(method)
    def stateless(model, state, data):
        groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
        if len(state) == 4:
            groups.insert(2, model.optimizer.variables)
        mapping = [
            pair for group, values in zip(groups, state, strict=True) for pair in zip(group, values, strict=True)
        ]
        with StatelessScope(state_mapping=mapping) as scope:
            scope.variables = [variable for variable, _ in mapping]
            logs = method(model, jax.tree.map(ops.convert_to_tensor, data))  # with run_eagerly they are numpy's
        return logs, tuple([scope.get_current_value(v) for v in group] for group in groups)

    return stateless


def without_updates():
    """A context in which what is assigned to variables can be read, and is dropped at its end."""
    outer = get_stateless_scope()
    scope = StatelessScope(_current(outer))
    scope.variables = outer.variables
    return scope


def outside_of_fit(model, step):
    """A compiled `step` of the model as a function of the batch alone; what it would update is dropped."""
    compiled = jax.jit(step)

    def call(data):
        groups = [model.trainable_variables, model.non_trainable_variables]
        groups += [model.optimizer.variables, model.metrics_variables]
        logs, _ = compiled([[variable.value for variable in group] for group in groups], data)
        return logs

    return call


def is_concrete(tensor) -> bool:
    """Whether a tensor has values, and is not what a function is traced with."""
    return isinstance(tensor, jax.Array) and not isinstance(tensor, jax.core.Tracer)


def minimize(loss, variables, optimizer):
    """Moves `variables` one optimizer step down the first of the values of `loss()`; returns the others."""
    outer = get_stateless_scope()
    if outer is None or not hasattr(outer, "variables"):
        raise RuntimeError("On JAX, `minimize` works only inside a model's `train_step`.")
    reached = set()

    def total_and_updates(values):
        (total, *others), updates = _at(outer, variables, _watched(values, reached), loss)
        return total, (others, updates)

    values = [outer.get_current_value(variable) for variable in variables]
    (_, (others, updates)), gradients = jax.value_and_grad(total_and_updates, has_aux=True)(values)
    gradients = require_gradients([g if i in reached else None for i, g in enumerate(gradients)], variables)
    _update(outer, variables, updates)
    optimizer.apply(gradients, variables)
    return others


def term_norms(loss, variables):
    """Norm of the gradient of each of the terms of `loss()` in `variables`, {name: scalar}, and what it hands on."""
    outer = get_stateless_scope()

    def terms_and_updates(values):
        (_, terms, carried), updates = _at(outer, variables, values, loss)
        return {name: ops.cast(term, "float32") for name, term in terms.items()}, (carried, updates)

    values = [outer.get_current_value(variable) for variable in variables]
    terms, pulled_back, (carried, updates) = jax.vjp(terms_and_updates, values, has_aux=True)
    _update(outer, variables, updates)

    def of_one(wanted):
        (gradients,) = pulled_back(dict(zip(terms, wanted, strict=True)))
        return norm(gradients)

    # A loop, and not one backward pass after the other: compiling them all would take longer than running this.
    norms = jax.lax.map(of_one, ops.eye(len(terms)))
    return dict(zip(terms, norms, strict=True)), carried


def input_gradient(function, inputs):
    """Gradient of `sum(function(inputs))` with respect to `inputs`, itself differentiable (for gradient penalties).

    What the function would update, as batch statistics, is dropped.
    """
    is_step = hasattr(get_stateless_scope(), "variables")

    def total(x):
        with without_updates() if is_step else contextlib.nullcontext():
            return ops.sum(function(x))

    return jax.grad(total)(inputs)


def num_replicas() -> int:
    """Devices that share each batch in one program: `keras.distribution` keeps the global view, so one."""
    return 1


def replicas_of(model) -> int:
    """Programs that share each batch of a model: one, see `num_replicas`."""
    return 1


def replica_id() -> int:
    """Index of the device that runs this code."""
    return 0


def device_names() -> list[list[str]]:
    """For each host all its GPUs, or all its CPU devices where there is none."""
    devices = jax.devices()
    hosts = sorted({device.process_index for device in devices})
    return [[f"{d.platform}:{d.id}" for d in devices if d.process_index == host] for host in hosts]


def connect(coordinator: str, number: int, index: int, seconds: int, silence: int) -> None:
    """Waits until all hosts have come together."""
    # CPUs run several programs at once, in any order, and would mix up what hosts exchange; GPUs have one queue.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(
        coordinator,
        number,
        index,
        cluster_detection_method="deactivate",
        initialization_timeout=seconds,
        heartbeat_timeout_seconds=silence,
        shutdown_timeout_seconds=silence,
    )


def disconnect() -> None:
    """Leaves the other hosts."""
    jax.distributed.shutdown()


def gathered(number: int) -> list[int]:
    """The number that each host gives."""
    return multihost_utils.process_allgather(np.int32(number)).tolist()


def is_to_stop(step: int) -> bool:
    """Whether a host was asked to stop by SIGTERM and all are to end after this step."""
    return multihost_utils.reached_preemption_sync_point(step)


def _current(scope):
    """The variables of a scope with their values."""
    return [(variable, scope.get_current_value(variable)) for variable in scope.variables]


def _at(outer, variables, values, loss):
    """What `loss()` gives where the variables have these values, and what then is the value of all of the scope's."""
    mapping = {id(variable): (variable, value) for variable, value in _current(outer)}
    mapping |= {id(variable): (variable, value) for variable, value in zip(variables, values, strict=True)}
    with StatelessScope(state_mapping=list(mapping.values())) as inner:
        inner.variables = outer.variables
        found = loss()
    return found, [inner.get_current_value(variable) for variable in outer.variables]


def _update(outer, variables, updates):
    """Gives the scope's variables the values that a loss left, but for those that are moved."""
    moved = {id(variable) for variable in variables}
    for variable, value in zip(outer.variables, updates, strict=True):
        if id(variable) not in moved:
            outer.add_update((variable, value))


def _watched(values, reached):
    """The values as they are; differentiating through them notes in `reached` which ones have a gradient.

    JAX gives zeros where the loss does not depend on a value; only a custom rule sees that they stand for nothing.
    """

    @jax.custom_vjp
    def identity(values):
        return values

    def forward(values):
        return [value.value for value in values], None

    def backward(_, cotangents):
        reached.update(i for i, cotangent in enumerate(cotangents) if not isinstance(cotangent, SymbolicZero))
        return ([ops.zeros(c.shape, c.dtype) if isinstance(c, SymbolicZero) else c for c in cotangents],)

    identity.defvjp(forward, backward, symbolic_zeros=True)
    return identity(values)
