"""What users hand to a model, checked where it comes in: each error says what was expected and how to get it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Images are in [-1, 1]; noise may carry some pixels beyond, but so far out they have another scale.
LARGEST_INTENSITY = 5.0


def as_batch(data: Any, names: Sequence[str]) -> dict:
    """The dict of a batch from what Keras hands to a step: {"image": x, ...}, or (x, y) under the names of inputs.

    Raises:
        ValueError: for sample weights, or for arrays without a name.
    """
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is not None:
        raise ValueError(
            "Expected no sample or class weights, since adversarial losses compare whole batches; balance the batches "
            "in place of them."
        )
    if not isinstance(x, Mapping):
        if not names:
            raise ValueError(f"Expected a batch as a dict of tensors, received {type(x).__name__}.")
        x = {names[0]: x}
    if y is not None and not isinstance(y, Mapping):
        if len(names) < 2:
            raise ValueError("Expected a batch without targets, since the losses need none; received (x, y).")
        y = {names[1]: y}
    return {**x, **(y or {})}


def check_shapes(batch: Mapping, shapes: Mapping[str, tuple], optional: Collection[str] = ()) -> None:
    """Checks keys, shapes and kinds of numbers of a batch or of whole arrays; values are not looked at.

    Args:
        batch: name -> array or tensor, also one that a function is traced with; other keys are ignored.
        shapes: name -> shape of one example.
        optional: names that may be left out.

    Raises:
        ValueError: what was expected of which key, what was received, and how to get it right.
    """
    missing = [name for name in shapes if name not in batch and name not in optional]
    if missing:
        raise ValueError(
            f"Expected a batch with {', '.join(map(repr, shapes))}, received {', '.join(map(repr, batch)) or 'none'}; "
            f"add {', '.join(map(repr, missing))}."
        )
    for name in shapes.keys() & batch.keys():
        check_shape(name, batch[name], shapes[name])


def check_shape(name: str, values: Any, shape: tuple) -> None:
    """Checks the shape of arrays or tensors whose examples have `shape`, and that images are no integers.

    Raises:
        ValueError: what was expected, what was received, and how to get it right.
    """
    received = tuple(values.shape)
    fits = len(received) == 1 + len(shape) and all(n in (None, m) for n, m in zip(received[1:], shape, strict=True))
    if not fits:
        expected = ", ".join(map(str, ("B", *shape)))
        are_labels = len(shape) == 1 and received[1:] in ((), (1,))
        hint = f"; convert class labels by keras.utils.to_categorical(labels, {shape[0]})" if are_labels else ""
        raise ValueError(f"Expected {name}s of shape ({expected}), received {received}{hint}.")
    if len(shape) == 3:
        dtype = keras.backend.standardize_dtype(values.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"Expected {name}s as floats in [-1, 1], received {dtype}; scale 0..255 by {name} / 127.5 - 1."
            )


def check_values(values: Mapping[str, np.ndarray], shapes: Mapping[str, tuple]) -> None:
    """Checks arrays for NaN, and those whose examples are images for their range.

    Raises:
        ValueError: what was expected, what was received, and how to get it right.
    """
    for name in shapes.keys() & values.keys():
        array = np.asarray(values[name])
        if array.dtype.kind != "f":
            continue
        lowest, highest = (float(bound(array, initial=0.0)) for bound in (np.min, np.max))  # NaN where there is one
        if not np.isfinite([lowest, highest]).all():
            bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            shown = ", ".join(map(str, bad[:5])) + ", ..." * (len(bad) > 5)
            raise ValueError(
                f"Expected finite {name}s, received NaN or infinite values in {len(bad)} of {len(array)} examples, by "
                f"their position from 0: {shown}; remove those examples."
            )
        if len(shapes[name]) == 3 and max(-lowest, highest) > LARGEST_INTENSITY:
            raise ValueError(
                f"Expected {name}s in [-1, 1], received values from {lowest:g} to {highest:g}; scale them, as 0..255 "
                f"by {name} / 127.5 - 1."
            )
