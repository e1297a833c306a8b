"""One warm training step of the harmonisation, with what `fit` does around it, on any backend of Keras."""

import importlib.util
import statistics

import keras
import numpy as np

from benchmarks import Measurement
from benchmarks.case import peak_mib
from benchmarks.step import StepTimes
from benchmarks.translation import measured_in_torch
from tfdisent.systems.harmonize import DOMAINS, Harmonize, HarmonizeConfig


def measure(
    dtype: str = "float32",
    batch_size: int = 2,
    steps: int = 3,
    seconds: float = 30.0,
    sizes: dict | None = None,
    **settings,
) -> Measurement:
    """Seconds of a training step at the paper's size, and the peak memory.

    Where PyTorch is installed, it is compared with the same step in plain PyTorch and float32, at the same batch size,
    in a process of its own.

    Args:
        dtype: "float32", or "bfloat16" for mixed precision.
        batch_size: slices of each domain in a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.
        sizes: fields of the config that the step in PyTorch follows: of its `Sizes` all but the numbers of labels and
            modalities.
        **settings: other fields of the config.
    """
    keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    keras.utils.set_random_seed(0)
    model = Harmonize(HarmonizeConfig(**settings, **(sizes or {})), seed=0)
    model.compile()
    times = StepTimes(seconds)
    model.fit(examples(model.config, batch_size * (steps + 1)), batch_size=batch_size, verbose=0, callbacks=[times])
    median, peak = statistics.median(times.warm), peak_mib()
    if importlib.util.find_spec("torch") is None:
        return Measurement(median, "s", times.warm, times.first, peak_mib=peak)
    theirs = measured_in_torch(
        "harmonize_torch",
        parameters=number_of_parameters(model),
        sizes=sizes,
        batch_size=batch_size,
        steps=steps,
        seconds=seconds,
    )
    words, ratio = "the step in plain PyTorch, float32", median / theirs["value"]
    return Measurement(median, "s", times.warm, times.first, words, ratio, peak, theirs["peak_mib"])


def number_of_parameters(model) -> int:
    """Of all its networks together, without batch statistics and what spectral normalisation keeps."""
    networks = [*model.translator, *model.discriminators.values()]
    return sum(int(np.prod(v.shape)) for network in networks for v in network.trainable_variables)


def examples(config, num: int) -> dict[str, np.ndarray]:
    """Noise in place of slices and label maps: a step takes as long on it as on data."""
    height, width, _ = config.image_shape
    random = np.random.default_rng(0)
    found = {}
    for name in DOMAINS:
        found[name] = 2.0 * random.random((num, height, width, 1), "float32") - 1.0
        found[f"{name}_mask"] = random.integers(0, config.num_classes, (num, height, width)).astype("int32")
    return found
