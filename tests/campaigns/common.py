"""What the campaigns share: processes forked from one that has imported everything, checksums, and tables.

TensorFlow takes seconds to import. A parent that has imported it, and computed nothing with it, may fork: its runtime
and its threads start with the first computation, which is the child's own.
"""

import hashlib
import json
import os
import pathlib
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator


def counted(tries: int, minutes: float) -> Iterator[int]:
    """Numbers of tries: so many, or as many as begin within the minutes."""
    end = time.monotonic() + 60 * minutes
    for number in range(tries):
        if time.monotonic() > end:
            return
        yield number


def forked(task: Callable[[], object], log: pathlib.Path) -> int:
    """Runs a task in a process of its own session, whose output goes to a file; returns the process's id."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as commands do
        task()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(pid: int, seconds: float) -> int | None:
    """The exit status of a process (minus the signal that killed it), or None if it runs on after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def interrupted(task: Callable, log: pathlib.Path, after: float, number: int) -> int:
    """Runs a task and sends it a signal after some seconds; returns its exit status. What it started ends with it."""
    pid = forked(task, log)
    status = ended(pid, after)
    if status is None:
        os.kill(pid, number)
        status = ended(pid, 120)
        if status is None:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -999  # it hung
    return status


def finished(task: Callable, log: pathlib.Path, seconds: float = 600) -> bool:
    """Runs a task to its end; whether it succeeded."""
    pid = forked(task, log)
    status = ended(pid, seconds)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return status == 0


def checksums(folder: pathlib.Path, patterns: Iterable[str]) -> dict[str, str]:
    """{path in the folder: checksum} of the files of these patterns."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def peak_mebibytes() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(rows: list[dict], path: pathlib.Path) -> None:
    """Prints rows as a Markdown table, and writes them as JSON."""
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")
    path.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{path}", flush=True)
