"""Large arrays through networks."""

from collections.abc import Callable

import numpy as np
from keras import ops


def in_batches(function: Callable, *arrays: np.ndarray, size: int = 250):
    """Applies a function to batches of rows and joins the results.

    Args:
        function: maps tensors with a leading axis to one such tensor, or to a dict of them.
        *arrays: arrays of equal length, at least 1.
        size: number of rows in a batch.

    Returns:
        A numpy array, or a dict of them.
    """
    parts = [function(*(array[start : start + size] for array in arrays)) for start in range(0, len(arrays[0]), size)]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([ops.convert_to_numpy(p[name]) for p in parts]) for name in parts[0]}
    return np.concatenate([ops.convert_to_numpy(part) for part in parts])
