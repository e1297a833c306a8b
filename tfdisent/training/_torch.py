"""What the adversarial engine needs of PyTorch."""

import torch

from tfdisent.training.gradients import require_gradients


def train_step(step, model, data):
    """Runs `step(data)`; PyTorch's variables are updated in place."""
    return {name: value.detach() for name, value in step(data).items()}


def minimize(loss, variables, optimizer):
    """Moves `variables` one optimizer step down `loss() -> (total, aux)` and returns `aux`.

    `torch.autograd.grad` and not `.backward()`, which would fill the other networks' `.grad` too.
    """
    total, aux = loss()
    gradients = torch.autograd.grad(total, [variable.value for variable in variables], allow_unused=True)
    gradients = require_gradients(gradients, variables)
    with torch.no_grad():
        optimizer.apply(gradients, variables)
    return aux


def input_gradient(function, inputs):
    """Gradient of `sum(function(inputs))` with respect to `inputs`, itself differentiable (for gradient penalties)."""
    inputs = inputs.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(inputs).sum(), inputs, create_graph=True)
    return gradient


def num_replicas() -> int:
    """Devices that share each batch: always one on this backend."""
    return 1


def replica_id() -> int:
    """Index of the device that runs this code."""
    return 0
