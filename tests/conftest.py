"""How tests run: on the CPU, on two threads or in two processes of one, quietly, each from the same seed."""

import contextlib
import os
import pathlib
import random
import subprocess
import sys

# Read when the libraries are imported, so set before any of them is.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compiling takes longer than what is compiled, so XLA does without most of its passes.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ[threads] = "1"  # and not what the process that started the workers has set
    else:
        os.environ.setdefault(threads, "2")
os.environ.setdefault("MPLBACKEND", "agg")

with contextlib.suppress(ImportError):
    import torch  # noqa: F401  before TensorFlow, or the process crashes when both are used

import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    backend = os.environ["KERAS_BACKEND"]
    for item in items:
        marker = item.get_closest_marker("backend")
        if marker and backend not in marker.args:
            reason = f"runs on {' and '.join(marker.args)}, and the backend is {backend}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def seeds():
    """Each test draws the same numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:  # a test of plain arrays does not wait for it
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Samples of the real data sets, which lie beside the repository and are no part of it."""
    directory = ROOT.parent / "shared" / "data"
    if not directory.is_dir():
        pytest.skip("no samples of real data in ../shared/data")
    return directory


@pytest.fixture(scope="session")
def run_python():
    """`run_python(code, env={...})` runs code in a fresh process, and returns what it printed.

    The repository is importable there; `env` adds to the environment, and None as a value takes from it. A process that
    fails, or is not done in 240 s, fails the test with its errors.
    """

    def run(code: str, env: dict[str, str | None] | None = None) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        environment = {name: value for name, value in environment.items() if value is not None}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
        )
        if done.returncode:
            pytest.fail(f"Exit status {done.returncode} from:\n{code}\n\n{done.stderr}", False)
        return done.stdout

    return run
