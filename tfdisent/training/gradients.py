"""What every backend does with gradients."""

from keras import ops


def require_gradients(gradients, variables) -> list:
    """The gradients as a list, or an error that names the variables without one.

    A variable that a phase owns but its loss does not reach would silently keep its first value.

    Raises:
        ValueError: if any gradient is None.
    """
    missing = [v.path for v, gradient in zip(variables, gradients, strict=True) if gradient is None]
    if missing:
        raise ValueError(
            "Expected a gradient for every variable of the phase, but the loss does not depend on "
            f"{', '.join(missing)}. Leave that network out of the phase's `networks`, or use it in the loss."
        )
    return list(gradients)


def norm(gradients):
    """Norm of gradients taken together, a scalar; None stands for zeros."""
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients if g is not None]
    return ops.sqrt(sum(squares, ops.zeros(())))
