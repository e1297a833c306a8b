"""The course of training for TensorBoard, and what was measured after it.

Scalars stand in groups: the loss terms of `generators` and `discriminators`, means over some steps; `validation`, the
same terms on other images, and `trend`, judge-free measures on them; `gradients`, each term's share of the gradient;
`evaluation`, the values of metrics.json.
"""

import pathlib
from collections.abc import Callable, Mapping

import tensorflow as tf

from tfdisent import files
from tfdisent.report import figures

TRAINING = ("generators", "discriminators")


class Curves:
    """Scalars by step, in TensorBoard's event files.

    Of the files that are there, those scalars are dropped that are written again, so that each step has one value.

    Args:
        directory: of the event files.
        is_kept: (group, step) -> whether a scalar that is there stays.

    Raises:
        OSError: they cannot be written.
    """

    def __init__(self, directory: pathlib.Path, is_kept: Callable[[str, int], bool]):
        for path in directory.glob("events.out.tfevents.*"):
            _keep(path, is_kept)
        self._directory = directory
        self._writer = tf.summary.create_file_writer(str(directory))

    def write_training(self, step: int, terms: Mapping[str, float]) -> None:
        """Adds loss terms, each in the group of the player that it is of."""
        for is_wanted, group in enumerate(TRAINING):
            self.write(group, step, {name: terms[name] for name in terms if figures.is_judging(name) == is_wanted})

    def write(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars to a group, {name: value}."""
        try:
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(f"{group}/{name}", value, step=step)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(f"Could not write TensorBoard's curves in {self._directory}: {error.message}.") from error

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def write_evaluation(directory: pathlib.Path, step: int, metrics: Mapping[str, Mapping]) -> None:
    """Adds the values of metrics.json, {name: entry}, as measured after a step, in the place of former ones."""
    curves = Curves(directory, lambda group, at: not (group == "evaluation" and at == step))
    values = {name: found["value"] for name, found in metrics.items() if found["value"] is not None}
    curves.write("evaluation", step, values)
    curves.close()


def _keep(path: pathlib.Path, is_kept: Callable[[str, int], bool]) -> None:
    kept, dropped = [], 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if all(is_kept(value.tag.partition("/")[0], event.step) for value in event.summary.value):
                kept.append(record)
            else:
                dropped += 1
    except tf.errors.DataLossError:  # cut short by a kill
        dropped += 1
    if dropped:
        with files.whole_file(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in kept:
                writer.write(record)
