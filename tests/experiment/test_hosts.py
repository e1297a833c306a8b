"""Several hosts, here processes of one machine, that train as one."""

import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tests.tiny import NARROW
from tfdisent.experiment import Settings
from tfdisent.training.distribution import ALONE, Hosts

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = [
    "--dataset=skin_phantom",
    "--data=num_train=48",
    "--data=num_test=30",
    "--batch_size=8",
    "--checkpoint_every=4",
    "--sample_every=4",
    "--num_samples=30",
    "--noexport",
    *(f"--set={name}={value}" for name, value in NARROW.items()),
]
jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="several hosts are JAX's")


def start(work_dir, *flags):
    command = [sys.executable, "-m", "tfdisent", "train", "drai", *FLAGS, *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=work_dir, env=environment, **streams)


def start_two(work_dir, *flags):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    return [
        start(work_dir, *flags, f"--coordinator=localhost:{port}", "--num_hosts=2", f"--host={host}") for host in (0, 1)
    ]


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def wait_for_checkpoint(run_dir):
    deadline = time.monotonic() + 300
    while not list(run_dir.glob("checkpoints/step-*/state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)


def last_row(run_dir):
    header, *_, row = (run_dir / "metrics.csv").read_text().splitlines()
    return np.array(row.split(","), float)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run of 12 steps on one host."""
    folder = tmp_path_factory.mktemp("hosts")
    finish(start(folder, "--steps=12", "--run_dir=one"))
    return folder


@jax_only
@pytest.mark.slow
@pytest.mark.timeout(900)  # five processes start, compile and train
def test_two_hosts_stop_together_continue_train_as_one_and_the_first_writes(whole):
    hosts = start_two(whole, "--steps=12", "--run_dir=two", "--checkpoint_every=2")
    wait_for_checkpoint(whole / "two")
    hosts[1].send_signal(signal.SIGTERM)
    stopped = [host.communicate(timeout=120)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [143, 143], stopped
    steps = [re.search(r"stopped by signal 15 after step (\d+)", out)[1] for out in stopped]
    assert steps[0] == steps[1] and (whole / f"two/checkpoints/step-{int(steps[0]):08d}").is_dir()
    first, second = map(finish, start_two(whole, "--steps=12", "--run_dir=two", "--checkpoint_every=2"))
    assert all(f"continuing after step {steps[0]}" in out for out in (first, second))
    np.testing.assert_allclose(last_row(whole / "two"), last_row(whole / "one"), rtol=1e-3, atol=1e-4)
    assert "report: two/report.html" in first and (whole / "two/report.html").is_file()
    assert "host 1 of 2 is done" in second and "report:" not in second


@jax_only
@pytest.mark.slow
@pytest.mark.timeout(900)  # five processes start, compile and train
def test_the_end_of_the_first_host_ends_the_run_which_continues_on_one(whole):
    hosts = start_two(whole, "--steps=12", "--run_dir=killed", "--checkpoint_every=2")
    wait_for_checkpoint(whole / "killed")
    hosts[0].send_signal(signal.SIGKILL)
    out, _ = hosts[1].communicate(timeout=120)
    hosts[0].communicate()
    assert hosts[1].returncode not in (0, None)
    assert "host 1 lost another host in training" in out or "another task died" in out
    said = finish(start(whole, "--steps=12", "--run_dir=killed", "--checkpoint_every=2"))
    assert "continuing after step" in said
    np.testing.assert_allclose(last_row(whole / "killed"), last_row(whole / "one"), rtol=1e-3, atol=1e-4)


@jax_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinator": None}, "--coordinator=HOST:PORT, --num_hosts of 2 or more and --host together"),
        ({"num_hosts": 1}, "--coordinator=HOST:PORT, --num_hosts of 2 or more and --host together"),
        ({"coordinator": "node1"}, "--coordinator=HOST:PORT, host 0 and a free port of it; received 'node1'"),
        ({"coordinator": "node1:99999"}, "a free port"),
        ({"host": 2}, "--host from 0 to 1, received 2"),
        ({"host": -1}, "--host from 0 to 1, received -1"),
        ({"batch_size": 9}, "--batch_size that 2 hosts divide evenly, received 9"),
    ],
)
def test_hosts_that_cannot_train_together_are_told(change, message):
    right = {"coordinator": "node1:1234", "num_hosts": 2, "host": 1, "batch_size": 8}
    assert Settings("drai", **right).hosts == Hosts("node1:1234", 2, 1)
    with pytest.raises(ValueError, match=message):
        Settings("drai", **{**right, **change})


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX takes several hosts")
def test_another_backend_says_what_to_use_for_several_hosts():
    with pytest.raises(ValueError, match="on the JAX backend alone.*Set KERAS_BACKEND=jax.*--devices=all"):
        Settings("drai", coordinator="node1:1234", num_hosts=2, batch_size=8)


def test_a_run_does_not_record_its_hosts():
    from tfdisent.experiment.settings import OF_HOSTS, flags_of

    flags = flags_of(Settings("drai"), defaults=True)
    assert not [flag for flag, name in itertools.product(flags, OF_HOSTS) if flag.startswith(f"--{name}=")]
    assert Settings("drai").hosts == ALONE
