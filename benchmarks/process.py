"""Python processes that are given up when they take too long."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO

from benchmarks import ROOT


def run_python(
    arguments: Sequence[str], environment: Mapping[str, str], limit: float, log: IO[str] | None = None
) -> str:
    """Runs Python in a process of its own; returns what went wrong, or nothing.

    Args:
        arguments: of the interpreter.
        environment: all of the process's variables.
        limit: seconds after which it is given up, with all processes that it started.
        log: file for all that it writes to stderr.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # so that its own processes end with it
    )
    timed_out = False
    try:
        _, messages = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            _, messages = process.communicate()
    if log is not None:
        log.write(messages)
        log.flush()
    if timed_out:
        return f"given up after {limit:.0f} s"
    if process.returncode:
        return (messages.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
    return ""
