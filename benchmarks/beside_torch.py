"""One warm training step, beside the same step in plain PyTorch."""

import importlib.util
import json
import statistics
import subprocess
import sys

import keras
import numpy as np

from benchmarks import ROOT, Measurement
from benchmarks.case import peak_mib
from benchmarks.step import StepTimes


def measured(
    model,
    data: dict[str, np.ndarray],
    module: str,
    *,
    parameters: int,
    sizes: dict | None,
    batch_size: int,
    steps: int,
    seconds: float,
) -> Measurement:
    """Seconds of a training step and the peak memory, and where PyTorch is installed those of the other in float32.

    Args:
        model: compiled.
        data: of all steps, the first included.
        module: in `benchmarks`, with the step in plain PyTorch, which runs in a process of its own.
        parameters: that the networks of the other must have.
        sizes: fields of its `Sizes` to change.
        batch_size, steps, seconds: of both; warm steps at most, and no further one once they took so long.
    """
    times = StepTimes(seconds)
    model.fit(data, batch_size=batch_size, verbose=0, callbacks=[times])
    median, peak = statistics.median(times.warm), peak_mib()
    if importlib.util.find_spec("torch") is None:
        return Measurement(median, "s", times.warm, times.first, peak_mib=peak)
    theirs = measured_in_torch(
        module, parameters=parameters, sizes=sizes, batch_size=batch_size, steps=steps, seconds=seconds
    )
    words, ratio = "the step in plain PyTorch, float32", median / theirs["value"]
    return Measurement(median, "s", times.warm, times.first, words, ratio, peak, theirs["peak_mib"])


def measured_in_torch(module: str, **arguments) -> dict:
    """The measurement of a step in plain PyTorch by a module in `benchmarks`, made in a process of its own."""
    command = ["-m", "benchmarks.case", f"{module}:measure", json.dumps(arguments)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout)


def number_of_parameters(networks: list[keras.Model]) -> int:
    """Of all networks together, without batch statistics and what spectral normalisation keeps."""
    return sum(int(np.prod(v.shape)) for network in networks for v in network.trainable_variables)
