import io
import os
import subprocess
import sys

from tfdisent import messages
from tfdisent.messages import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_every_half_minute_and_one_at_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    progress = Progress("brats", 369, "unit", done=20, stream=log)
    for seconds, done in ((1, 30), (29, 110), (31, 120), (45, 200), (62, 220)):
        now[0] = 100.0 + seconds
        progress.update(done, f"{done - 2} good, 2 skipped, 0 failed")
    progress.update(369, "367 good, 2 skipped, 0 failed")
    progress.close()
    assert log.getvalue().splitlines() == [
        "brats: 120 of 369 units, 118 good, 2 skipped, 0 failed, 3.2 units/s, 77 s left",
        "brats: 220 of 369 units, 218 good, 2 skipped, 0 failed, 3.2 units/s, 46 s left",
        "brats: 369 of 369 units, 367 good, 2 skipped, 0 failed, 5.6 units/s",
    ]


def test_long_tasks_tell_minutes_and_the_last_line_stands_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(messages.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    progress = Progress("verify", 100, "shard", stream=log)
    now[0] = 60.0
    progress.update(20)
    progress.close()
    assert log.getvalue() == "verify: 20 of 100 shards, 0.33 shards/s, 4 min left\n"


def test_a_line_may_tell_the_position_in_its_own_way():
    log = io.StringIO()
    Progress("training", 5, "step", done=5, line="step {done}/{total}", stream=log).close()
    assert log.getvalue() == "training: step 5/5\n"


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    progress = Progress("verify", 3, "shard", stream=stream)
    progress.update(2, "1 bad")
    progress.update(3)
    progress.close()
    assert "verify: 100%" in stream.getvalue() and "of 3 shards" not in stream.getvalue()


def run(code):
    command = [sys.executable, "-c", f"from tfdisent.messages import without_startup_noise\n{code}"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)


def test_importing_tensorflow_quietly_prints_nothing():
    done = run("with without_startup_noise(): import tensorflow as tf\ntf.constant(1.0) + 1.0")
    assert done.returncode == 0 and done.stderr == ""


def test_what_is_no_noise_is_still_shown():
    done = run(
        """
import os, sys
with without_startup_noise():
    os.write(2, b"I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"E0000 00:00:1.0 1 cuda.cc:1] no kernel image is available\\n")
    print("a warning of NumPy", file=sys.stderr)
    raise ImportError("libcudnn.so.9 is missing")
"""
    )
    lines = done.stderr.splitlines()
    assert lines[:2] == ["E0000 00:00:1.0 1 cuda.cc:1] no kernel image is available", "a warning of NumPy"]
    assert lines[-1] == "ImportError: libcudnn.so.9 is missing" and done.returncode == 1
