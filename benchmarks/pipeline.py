"""The input pipeline alone: batches of augmented 64 x 64 images that nobody consumes."""

import pathlib
import statistics
import time

import tensorflow as tf

from benchmarks import Measurement
from benchmarks.preparation import PHANTOM
from tfdisent import data
from tfdisent.data.augment import AUGMENTATIONS
from tfdisent.datasets import prepare

BATCH_SIZE = 32


def measure(
    folder: str,
    augment: str = "symmetry",
    batches: int = 50,
    rounds: int = 10,
    num_train: int = PHANTOM["num_train"],
    num_test: int = PHANTOM["num_test"],
) -> Measurement:
    """Images per second of `tfdisent.data.load`, and its time over that from arrays in memory.

    Args:
        folder: of prepared data; the phantom is prepared there if it is not yet.
        augment: names of augmentations, separated by commas.
        batches: in a round.
        rounds: repetitions, after one that is left out.
        num_train, num_test: images of the phantom.
    """
    names = augment.split(",")
    prepared = pathlib.Path(folder) / "prepared"
    directory = prepare("skin_phantom", prepared, num_train=num_train, num_test=num_test)

    start = time.perf_counter()
    loaded = data.load(directory, batch_size=BATCH_SIZE, augment=names, repeat=True)
    next(iter(loaded))
    first = time.perf_counter() - start

    # One after the other: in turns, each would fill its buffers in the other's time.
    ours = _seconds(loaded, batches, rounds)
    reference = _seconds(from_arrays(data.as_arrays(directory), names), batches, rounds)
    median = statistics.median(ours)
    return Measurement(
        value=BATCH_SIZE * batches / median,
        unit="images/s",
        seconds=ours,
        first=first,
        against="the same from decoded arrays in memory",
        ratio=median / statistics.median(reference),
    )


def from_arrays(arrays: dict, names: list[str]) -> tf.data.Dataset:
    """An endless stream of shuffled, augmented batches of arrays, in plain tf.data."""

    def augmented(step: tf.Tensor, batch: dict) -> dict:
        for index, name in enumerate(names):
            batch = AUGMENTATIONS[name](batch, tf.stack([step, index]))
        return batch

    examples = tf.data.Dataset.from_tensor_slices(arrays).shuffle(len(arrays["image"]), seed=0)
    batches = examples.repeat().batch(BATCH_SIZE).enumerate()
    return batches.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _seconds(dataset: tf.data.Dataset, batches: int, rounds: int) -> list[float]:
    """Seconds of each round of so many batches, after one that fills caches and buffers."""
    iterator, seconds = iter(dataset), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(batches):
            next(iterator)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
