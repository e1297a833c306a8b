"""One warm training step of DRAI, with what `fit` does around it, on any backend of Keras."""

import statistics
import time

import keras
import numpy as np

from benchmarks import Measurement
from tfdisent.systems.drai import DRAI, DRAIConfig


def measure(preset: str, dtype: str = "float32", steps: int = 20, seconds: float = 20.0, **settings) -> Measurement:
    """Images per second of a training step.

    Args:
        preset: of `train.drai`.
        dtype: "float32", or "bfloat16" for mixed precision.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.
        **settings: fields of `DRAIConfig` to change.
    """
    model = compiled(preset, dtype, settings)
    size = model.config.batch_size
    times = StepTimes(seconds)
    model.fit(examples(model.config, steps + 1), batch_size=size, verbose=0, callbacks=[times])
    return Measurement(size / statistics.median(times.warm), "images/s", times.warm, first=times.first)


def compiled(preset: str, dtype: str, settings: dict) -> DRAI:
    """The system, with the same weights at each call."""
    keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    keras.utils.set_random_seed(0)
    model = DRAI(DRAIConfig.preset(preset, **settings), seed=0)
    model.compile()
    return model


def examples(config: DRAIConfig, steps: int) -> dict[str, np.ndarray]:
    """Noise in place of images, for so many steps: a step takes as long on it as on data."""
    num, size = steps * config.batch_size, config.image_size
    noise = np.random.default_rng(0).random((num, size, size, config.channels), "float32")
    classes = np.arange(num) % config.num_conditions
    return {
        "image": 2.0 * noise - 1.0,
        "condition": np.eye(config.num_conditions, dtype="float32")[classes],
    }


class StepTimes(keras.callbacks.Callback):
    """Seconds of each step, from the end of the one before, when its losses are known.

    `first` is from the start of training to the end of the first step, which compiles; `warm` are the others.
    """

    def __init__(self, limit: float = float("inf")):
        super().__init__()
        self.limit = limit
        self.warm: list[float] = []
        self.first: float | None = None

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self.first = None
        self.last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Takes the time, and stops training when there was enough of it."""
        for value in (logs or {}).values():
            float(value)  # waits for it where steps are run asynchronously
        now = time.perf_counter()
        if self.first is None:
            self.first = now - self.last
        else:
            self.warm.append(now - self.last)
            self.model.stop_training = sum(self.warm) >= self.limit
        self.last = now
