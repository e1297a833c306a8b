"""What is common to all benchmarks."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import ROOT

pytestmark = pytest.mark.backend("torch")


def test_the_peak_memory_is_not_that_of_the_process_that_started_it():
    held = np.ones(300 * 2**20, "uint8")
    code = "from benchmarks.case import peak_mib; print(peak_mib())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < held.nbytes / 2**20 / 2
