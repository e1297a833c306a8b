"""What the adversarial engine needs of PyTorch."""

import keras
import torch

from tfdisent.training.gradients import require_gradients


def step(method):
    """The method `(model, data) -> logs` as Keras calls it: PyTorch's variables are updated in place."""
    return method


def without_updates():
    """A context in which what is assigned to variables can be read, and is dropped at its end."""
    return keras.StatelessScope()


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


def input_gradient(function, inputs):
    """Gradient of `sum(function(inputs))` with respect to `inputs`, itself differentiable (for gradient penalties)."""
    with torch.enable_grad():  # also where losses are computed without a gradient of their own
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
