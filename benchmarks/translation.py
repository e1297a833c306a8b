"""One warm training step of the models that translate slices, with what `fit` does around it."""

import importlib.util
import statistics

import keras
import numpy as np

from benchmarks import Measurement
from benchmarks.beside_torch import measured_in_torch
from benchmarks.step import StepTimes
from tfdisent.baselines.method import method
from tfdisent.baselines.unified import METHODS


def measure(
    model: str,
    dtype: str = "float32",
    batch_size: int = 8,
    steps: int = 10,
    seconds: float = 20.0,
    **settings,
) -> Measurement:
    """Seconds of a training step at the paper's widths, 128 x 128 and four modalities.

    Where PyTorch is installed, it is compared with TC-MGAN's step in plain PyTorch and float32, at the same batch size,
    in a process of its own.

    Args:
        model: name from `tfdisent.baselines.unified.METHODS`.
        dtype: "float32", or "bfloat16" for mixed precision.
        batch_size: slices a step.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.
        **settings: fields of the model's config to change.
    """
    keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    keras.utils.set_random_seed(0)
    _, _, model_class, changes = method(METHODS, model)
    config = model_class.config_class(**changes | settings)
    translator = model_class(config, seed=0)
    translator.compile()
    times = StepTimes(seconds)
    data = examples(config, batch_size * (steps + 1))
    translator.fit(data, batch_size=batch_size, verbose=0, callbacks=[times])
    median = statistics.median(times.warm)
    if importlib.util.find_spec("torch") is None:
        return Measurement(median, "s", times.warm, times.first)
    words = "TC-MGAN's step in plain PyTorch, float32"
    reference = measured_in_torch("tcmgan_torch", batch_size=batch_size, steps=steps, seconds=seconds)["value"]
    return Measurement(median, "s", times.warm, times.first, words, median / reference)


def examples(config, num: int) -> dict[str, np.ndarray]:
    """Noise in place of slices, and masks of a box: a step takes as long on it as on data."""
    height, width, _ = config.image_shape
    noise = np.random.default_rng(0).random((num, height, width, config.num_modalities), "float32")
    mask = np.zeros((num, height, width, 1), "uint8")
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    return {"image": 2.0 * noise - 1.0, "mask": mask}
