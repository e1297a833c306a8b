"""Variables in NumPy's archive: the same file on every backend, and an error where the disk is full.

HDF5, in which Keras writes weights, ends the whole process when a disk or a quota is full.
"""

import os
import pathlib
import re
import zipfile
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from tfdisent import files


def named(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Variables in their order, by names that are the same in every process and on every backend."""
    # Keras tells layers of one process apart by numbers.
    names = (re.sub(r"_\d+(?=[/_]|$)", "", variable.path) for variable in variables)
    return {f"{index:05d} {name}": v for index, (name, v) in enumerate(zip(names, variables, strict=True))}


def arrays_of(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """The variables' values."""
    return {name: ops.convert_to_numpy(variable) for name, variable in variables.items()}


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a `.npz` file, and to the disk itself; equal arrays give equal bytes.

    Raises:
        OSError: the disk or a quota is full, or the file cannot be written.
    """
    with pathlib.Path(path).open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file of `write`.

    Raises:
        OSError, ValueError: it cannot be read, or is damaged.
    """
    try:
        with pathlib.Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def assign(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Gives variables the values of the arrays of their names; all of them, or none.

    Raises:
        ValueError: names, shapes or numbers differ, naming the first that does.
    """
    expected, received = ({name: tuple(v.shape) for name, v in values.items()} for values in (variables, arrays))
    for name in sorted(expected.keys() | received.keys()):
        if expected.get(name) != received.get(name):
            texts = (f"of shape {shapes[name]}" if name in shapes else "none" for shapes in (expected, received))
            raise ValueError("expected variable {} {}, received {}".format(name.partition(" ")[2], *texts))
    for name, variable in variables.items():
        variable.assign(arrays[name])


def save(path: str | os.PathLike, network: keras.Model) -> None:
    """Writes a network's weights to a `.npz` file, whole or not at all.

    Raises:
        OSError: the disk or a quota is full, or the file cannot be written.
    """
    with files.whole_file(path) as temporary:
        write(temporary, arrays_of(named(network.weights)))


def restore(path: str | os.PathLike, network: keras.Model) -> None:
    """Gives a network the weights of a file of `save`, from any backend.

    Raises:
        OSError, ValueError: the file is missing, is damaged or holds another network; the error names it.
    """
    arrays = read(path)
    try:
        assign(named(network.weights), arrays)
    except ValueError as error:
        raise ValueError(f"{path} holds another network: {error}.") from error


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays that hold NaN or infinity."""
    return [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
