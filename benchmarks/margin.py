"""One warm training step of the margin system, with what `fit` does around it."""

import importlib.util
import statistics

import keras
import numpy as np

from benchmarks import Measurement
from benchmarks.beside_torch import measured_in_torch, number_of_parameters
from benchmarks.step import StepTimes
from tfdisent.systems.margin import Margin, MarginConfig

# The public code's slices, of which seven are channels, and its routing of experts; all else is the paper's.
SETTINGS = {"image_size": (160, 192), "neighbours": 3, "routing": "scalar"}


def measure(
    dtype: str = "float32", batch_size: int = 2, steps: int = 3, seconds: float = 30.0, **settings
) -> Measurement:
    """Seconds of a training step at the paper's widths and four modalities.

    Where PyTorch is installed, it is compared with the same step in plain PyTorch and float32, at the same batch size,
    in a process of its own.

    Args:
        dtype: "float32", or "bfloat16" for mixed precision.
        batch_size: subjects a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.
        **settings: fields of the config to change, which the step in PyTorch does not follow.
    """
    keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    keras.utils.set_random_seed(0)
    modalities = ("T1", "T1ce", "T2", "FLAIR")
    model = Margin(MarginConfig(**SETTINGS | {"modalities": modalities} | settings), seed=0)
    model.compile()
    times = StepTimes(seconds)
    model.fit(examples(model.config, batch_size * (steps + 1)), batch_size=batch_size, verbose=0, callbacks=[times])
    median = statistics.median(times.warm)
    if settings or importlib.util.find_spec("torch") is None:
        return Measurement(median, "s", times.warm, times.first)
    sizes = {
        "parameters": number_of_parameters(model.networks),
        "batch_size": batch_size,
        "steps": steps,
        "seconds": seconds,
    }
    reference = measured_in_torch("margin_torch", **sizes)["value"]
    return Measurement(median, "s", times.warm, times.first, "the step in plain PyTorch, float32", median / reference)


def examples(config, num: int) -> dict[str, np.ndarray]:
    """Noise in place of slices, each of a subject of its own: a step takes as long on it as on data."""
    height, width, slices = config.image_shape
    noise = np.random.default_rng(0).random((num, height, width, slices * config.num_modalities), "float32")
    return {"image": 2.0 * noise - 1.0, "subject_index": np.arange(num, dtype="int32")}
