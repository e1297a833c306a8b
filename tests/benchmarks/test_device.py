"""What a machine with a GPU runs, with tiny sizes on the CPU and without TensorFlow."""

import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.backend("tensorflow"), pytest.mark.timeout(600)]

ROOT = pathlib.Path(__file__).resolve().parents[2]
MISSING = [name for name in ("jax", "torch") if not importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder that `python -m benchmarks.device --dry_run` writes where TensorFlow cannot be imported."""
    if MISSING:
        pytest.skip(f"{' and '.join(MISSING)} is not installed")
    folder = tmp_path_factory.mktemp("device")
    blocked = folder / "blocked" / "tensorflow"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorflow'\")\n")
    command = [sys.executable, "-m", "benchmarks.device", "--dry_run", "--minutes=8", f"--output={folder}"]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'blocked'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr + (folder / "device.log").read_text()[-2000:]
    return folder


@pytest.fixture(scope="module")
def rows(found):
    return json.loads((found / "device.json").read_text())["rows"]


def test_three_steps_agree_between_the_backends_and_the_cpu(rows):
    pairs = {row["pair"]: row["difference"] for row in rows if "pair" in row}
    assert set(pairs) == {"cpu, jax", "cpu, torch", "jax, torch"}
    assert max(pairs.values()) < 1e-5


def test_every_step_is_measured_and_both_backends_count_the_same_operations(rows):
    steps = {(row["system"], row["backend"], row["precision"]): row for row in rows if row["section"] == "steps"}
    assert len(steps) == 4
    for (system, backend, precision), row in steps.items():
        assert row["images/s"] > 0
        # XLA leaves out products with the zeros of padding, which are many in images so small.
        assert row["flops"] == pytest.approx(steps[system, "torch", precision]["flops"], rel=0.3), backend


def test_a_training_is_measured(rows):
    losses = next(row["losses"] for row in rows if "losses" in row)
    assert {"g_image", "d_image", "code_cycle"} <= set(losses)
    assert all(math.isfinite(value) for value in losses.values())
    measures = {name for row in rows for name in row.get("measures", {})}
    assert {"conditional_generation_accuracy", "hybrid_class_accuracy", "hybrid_position_r2_style"} <= measures


def test_the_tables_hold_what_the_file_does(found, rows):
    text = (found / "device.md").read_text()
    for row in rows:
        if "images/s" in row and row["section"] == "steps":
            assert f"| {row['system']} | {row['backend']} | {row['precision']} |" in text
    assert "FAILED" not in text


def test_without_a_gpu_it_says_what_to_do():
    command = [sys.executable, "-m", "benchmarks.device"]
    environment = os.environ | {"PATH": "/nowhere", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Expected an NVIDIA GPU" in done.stderr and "--dry_run" in done.stderr and "Traceback" not in done.stderr
