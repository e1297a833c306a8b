"""How long `python -m train.drai --help` takes, beside a Python that does nothing."""

import statistics
import subprocess
import sys
import time

from benchmarks import ROOT, Measurement


def measure(rounds: int = 5) -> Measurement:
    """Seconds of the command; the first, which may read from disk, apart.

    Raises:
        RuntimeError: it printed no help.
    """
    first = _seconds("-m", "train.drai", "--help", expected="--preset")
    ours, reference = [], []
    for _ in range(rounds):
        ours.append(_seconds("-m", "train.drai", "--help", expected="--preset"))
        reference.append(_seconds("-c", "pass"))
    median = statistics.median(ours)
    return Measurement(median, "s", ours, first, "python -c pass", median / statistics.median(reference))


def _seconds(*arguments: str, expected: str = "") -> float:
    start = time.perf_counter()
    # absl ends with status 1 after its help, so the text tells.
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if expected not in done.stdout:
        raise RuntimeError(f"Expected {expected!r} in the output, received: {done.stderr[-500:]}")
    return seconds
