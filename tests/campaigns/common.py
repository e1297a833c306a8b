"""What the campaigns share: processes forked from one that has imported everything, moments, checksums, and tables.

TensorFlow takes seconds to import. A parent that has imported it, and computed nothing with it, may fork: its runtime
and its threads start with the first computation, which is the child's own.
"""

import contextlib
import hashlib
import importlib
import math
import os
import pathlib
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator

from tfdisent import files
from tfdisent.messages import Stopped

HUNG = -999  # in place of an exit status
PATIENCE = 300  # seconds after which what was told to stop has hung
TICK = os.sysconf("SC_CLK_TCK")  # of processor time in a second


def counted(tries: int, minutes: float) -> Iterator[int]:
    """Numbers of tries: so many, or as many as begin within the minutes."""
    end = time.monotonic() + 60 * minutes
    for number in range(tries):
        if time.monotonic() > end:
            return
        yield number


class Table:
    """Rows that campaigns add up in a JSON file: it is written after every try, and continued where it is there.

    A row is known by its texts. Its whole numbers are counts, which are added up; of its floats the largest stays.

    Args:
        path: of the file; made when needed.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.rows = self._written()

    def _written(self) -> list[dict]:
        return files.read_json(self.path) if self.path.is_file() else []

    def rng(self, seed: int) -> random.Random:
        """A source of draws, another one whenever the table holds something else."""
        return random.Random(f"{seed} {self.rows}")

    def find(self, row: dict) -> dict | None:
        """The row with the same texts, if there is one."""
        key = _texts(row)
        return next((known for known in self.rows if _texts(known) == key), None)

    def add(self, row: dict) -> None:
        """Adds a row's numbers to those of the row with the same texts, and writes the table."""
        self.rows = self._written()  # to which another campaign may have added meanwhile
        known = self.find(row)
        if known is None:
            self.rows.append(dict(row))
        else:
            for name, value in row.items():
                if isinstance(value, float):
                    known[name] = max(known.get(name, value), value)
                elif isinstance(value, int):
                    known[name] = known.get(name, 0) + value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, self.rows)

    def in_turn(self, rows: list[dict], tries: int, minutes: float = math.inf) -> Iterator[dict]:
        """Gives, again and again, the one of `rows` with the fewest tries in the table, until each has `tries` or the
        minutes are over. Rows are told apart by their texts, and who gets one adds it, with its tries, to the table.
        """
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            done = [(self.find(row) or {}).get("tries", 0) for row in rows]
            if min(done) >= tries:
                return
            yield rows[done.index(min(done))]

    def show(self) -> None:
        """Prints the rows as tables in Markdown, one for each set of columns."""
        for columns in dict.fromkeys(tuple(row) for row in self.rows):
            print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
            for row in self.rows:
                if tuple(row) == columns:
                    print("| " + " | ".join(str(row[name]) for name in columns) + " |")
            print()
        print(self.path, flush=True)


def _texts(row: dict) -> dict:
    return {name: value for name, value in row.items() if isinstance(value, str)}


def forked(task: Callable[[], object], log: pathlib.Path) -> int:
    """Runs a task in a process of its own session, whose output goes to a file; returns the process's id.

    Its exit status is 0, 130 or 143 if a signal ended it in good order, or 1 after any other error. The modules that a
    task which succeeded has imported are listed beside the log, see `import_as`.
    """
    sys.stdout.flush()
    stops = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # a child that is stopped at once must not go on as its parent
    if pid := os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        return pid
    status = 1
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # and not where pytest keeps them
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as commands do
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)
        task()
        status = 0
        signal.pthread_sigmask(signal.SIG_BLOCK, stops)
        log.with_suffix(".modules").write_text("\n".join(sys.modules), "utf-8")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except Stopped as end:
        status = 128 + end.signal
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def import_as(log: pathlib.Path) -> None:
    """Imports what a finished task has imported, so that those forked after it need not."""
    for name in log.with_suffix(".modules").read_text("utf-8").split():
        if name not in sys.modules:
            with contextlib.suppress(Exception):  # made while it ran, and no file
                importlib.import_module(name)


def ended(pid: int, seconds: float, work: float = math.inf) -> int | None:
    """The exit status of a process (minus the signal that killed it), or None if it runs on after `seconds`, or after
    `work` seconds of processor time, of its own and of what it started.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if work < math.inf and worked(pid) > work:
            return None
        time.sleep(2 / TICK)
    return None


def worked(pid: int) -> float:
    """Seconds of processor time of a running process, of what it started, and of what of that has ended."""
    try:
        times = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        started = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0.0
    return sum(map(int, times)) / TICK + sum(worked(int(child)) for child in started)


def stopped(task: Callable, log: pathlib.Path, after: float, number: int) -> int:
    """Runs a task and sends it a signal after some seconds of processor time; returns its exit status.

    Processor time, since other work on the machine stretches a run by more than what a stop is drawn from.
    """
    pid = forked(task, log)
    status = ended(pid, PATIENCE + 60 * after, after)
    if status is None:
        os.kill(pid, number)
        status = ended(pid, PATIENCE)
        if status is None:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return HUNG
    return status


def finished(task: Callable, log: pathlib.Path, seconds: float = 600) -> bool:
    """Runs a task to its end; whether it succeeded."""
    pid = forked(task, log)
    status = ended(pid, seconds)
    if status is None:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return status == 0


def work_of_children() -> float:
    """Seconds of processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def checksums(folder: pathlib.Path, patterns: Iterable[str]) -> dict[str, str]:
    """{path in the folder: checksum} of the files of these patterns."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def peak_mebibytes() -> float:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
