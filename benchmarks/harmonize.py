"""One warm training step of the harmonisation, with what `fit` does around it, on any backend of Keras."""

import keras
import numpy as np

from benchmarks import Measurement
from benchmarks.beside_torch import measured, number_of_parameters
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
    networks = [*model.translator, *model.discriminators.values()]
    return measured(
        model,
        examples(model.config, batch_size * (steps + 1)),
        "harmonize_torch",
        parameters=number_of_parameters(networks),
        sizes=sizes,
        batch_size=batch_size,
        steps=steps,
        seconds=seconds,
    )


def examples(config, num: int) -> dict[str, np.ndarray]:
    """Noise in place of slices and label maps: a step takes as long on it as on data."""
    height, width, _ = config.image_shape
    random = np.random.default_rng(0)
    found = {}
    for name in DOMAINS:
        found[name] = 2.0 * random.random((num, height, width, 1), "float32") - 1.0
        found[f"{name}_mask"] = random.integers(0, config.num_classes, (num, height, width)).astype("int32")
    return found
