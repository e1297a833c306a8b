"""What the training steps in plain PyTorch share: how they are timed, and how large their networks are."""

import statistics
import time
from collections.abc import Callable

from torch import nn

from benchmarks import Measurement


def timed(step: Callable[[], object], steps: int, seconds: float) -> Measurement:
    """Seconds of a step: the median of at most so many warm ones, after the first.

    Args:
        step: takes one.
        steps: warm steps at most.
        seconds: no further step once warm ones took so long; one is always taken.
    """
    times: list[float] = []
    while len(times) < 2 or (len(times) <= steps and sum(times[1:]) < seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return Measurement(statistics.median(times[1:]), "s", times[1:], first=times[0])


def number_of_parameters(networks: nn.Module) -> int:
    """Of all networks together."""
    return sum(p.numel() for p in networks.parameters())


def require_parameters(networks: nn.Module, expected: int) -> None:
    """Raises RuntimeError unless the networks are of the size of ours."""
    counted = number_of_parameters(networks)
    if counted != expected:
        raise RuntimeError(f"Expected networks of {expected} parameters, built {counted}.")
