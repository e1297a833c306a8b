"""Speed and memory of what users wait for: python -m benchmarks.run

Each case is a function that returns a `Measurement`, run in a process of its own.
"""

import pathlib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent  # from where `python -m benchmarks...` finds all


class Measurement(NamedTuple):
    """What one case found.

    Attributes:
        value: the result, from the median repetition.
        unit: of `value`: "images/s", or "s".
        seconds: wall time of each repetition, without a first that compiles or opens files.
        first: seconds of that one, or None.
        against: words for the reference that was measured at the same time, or "".
        ratio: our time over the reference's, below 1 where ours is faster; None without one.
        peak_mib: largest resident memory in MiB of the process before the reference was run; None where the reference
            has no process of its own.
        against_mib: that of the reference's process, or None.
    """

    value: float
    unit: str
    seconds: list[float]
    first: float | None = None
    against: str = ""
    ratio: float | None = None
    peak_mib: float | None = None
    against_mib: float | None = None
