"""What the adversarial engine needs of PyTorch."""

import keras
import torch

from tfdisent.training.gradients import norm, require_gradients


def step(method):
    """The method `(model, data) -> logs` as Keras calls it: PyTorch's variables are updated in place."""
    return method


def without_updates():
    """A context in which what is assigned to variables can be read, and is dropped at its end."""
    return keras.StatelessScope()


def outside_of_fit(model, step):
    """A `step` of the model, which updates nothing, as a function of the batch."""

    def call(data):
        return step({name: keras.ops.convert_to_tensor(values) for name, values in data.items()})

    return call


def is_concrete(tensor) -> bool:
    """Whether a tensor has values, and is not what a function is traced with."""
    return torch.is_tensor(tensor) and tensor.device.type != "meta"


def minimize(loss, variables, optimizer):
    """Moves `variables` one optimizer step down the first of the values of `loss()`; returns the others.

    `torch.autograd.grad` and not `.backward()`, which would fill the other networks' `.grad` too.
    """
    total, *others = loss()
    gradients = torch.autograd.grad(total, [variable.value for variable in variables], allow_unused=True)
    gradients = require_gradients(gradients, variables)
    with torch.no_grad():
        optimizer.apply(gradients, variables)
    return others


def term_norms(loss, variables):
    """Norm of the gradient of each of the terms of `loss()` in `variables`, {name: scalar}, and what it hands on."""
    with torch.enable_grad():  # as in `input_gradient`
        _, terms, carried = loss()
    values = [variable.value for variable in variables]
    norms = {}
    for name, term in terms.items():
        is_constant = not term.requires_grad
        gradients = [] if is_constant else torch.autograd.grad(term, values, retain_graph=True, allow_unused=True)
        norms[name] = norm(gradients)
    return norms, carried


def input_gradient(function, inputs):
    """Gradient of `sum(function(inputs))` with respect to `inputs`, itself differentiable (for gradient penalties).

    What the function would update, as batch statistics, is dropped.
    """
    with without_updates(), torch.enable_grad():  # also where losses are computed without a gradient of their own
        inputs = inputs.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(function(inputs).sum(), inputs, create_graph=True)
    return gradient


def num_replicas() -> int:
    """Devices that share each batch: always one on this backend."""
    return 1


def replicas_of(model) -> int:
    """Devices that share each batch of a model: always one on this backend."""
    return 1


def replica_id() -> int:
    """Index of the device that runs this code."""
    return 0
