"""The course of training for TensorBoard."""

import pathlib
from collections.abc import Callable

import tensorflow as tf

from tfdisent import files


class Curves:
    """Scalars by step, in TensorBoard's event files.

    Of the files that are there, those scalars are dropped that are written again, so that each step has one value.

    Args:
        directory: of the event files.
        is_kept: (name, step) -> whether a scalar that is there stays.

    Raises:
        OSError: they cannot be written.
    """

    def __init__(self, directory: pathlib.Path, is_kept: Callable[[str, int], bool]):
        for path in directory.glob("events.out.tfevents.*"):
            _keep(path, is_kept)
        self._directory = directory
        self._writer = tf.summary.create_file_writer(str(directory))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars, {name: value}."""
        try:
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(name, value, step=step)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(f"Could not write TensorBoard's curves in {self._directory}: {error.message}.") from error

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _keep(path: pathlib.Path, is_kept: Callable[[str, int], bool]) -> None:
    kept, dropped = [], 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if all(is_kept(value.tag, event.step) for value in event.summary.value):
                kept.append(record)
            else:
                dropped += 1
    except tf.errors.DataLossError:  # cut short by a kill
        dropped += 1
    if dropped:
        with files.whole_file(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in kept:
                writer.write(record)
