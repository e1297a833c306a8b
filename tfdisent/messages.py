"""What the package tells its user: progress, which errors are the user's to fix, and exit codes."""

import contextlib
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TextIO


class Incomplete(Exception):
    """Part of the work failed; the message names it. All that does not need it is done."""


# Errors that a user can fix: told in one message, without a traceback.
USER_ERRORS = (ValueError, OSError, ArithmeticError, Incomplete)
PARENT = "TFDISENT_PARENT"  # environment variable: the process with which a command that it started is to end
USAGE = 2  # exit status when a command's arguments are malformed
STOPPED = 143  # exit status after SIGTERM, as shells count it
INTERRUPTED = 130  # likewise after SIGINT


class Stopped(Exception):
    """Work was stopped by a signal after what is done of it was saved.

    Args:
        message: what was saved, and how to continue.
        signal: number of the signal.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


def say(message: str) -> None:
    """Prints a line of progress at once, also where output goes to a file."""
    print(message, flush=True)


def end_with(parent: int) -> None:
    """Sends SIGTERM to this process when its parent has ended, in whatever way, so that it saves its state and leaves.

    Args:
        parent: process id of the parent.
    """

    def watch():
        time.sleep(0.5)
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()


class Progress:
    """How far a long task is: a bar on a terminal; elsewhere a line every half minute, and one at the end.

        brats: 120 of 369 units, 118 good, 2 skipped, 0 failed, 1.1 units/s, 4 min left

    Args:
        name: of the task.
        total: how many units it has.
        unit: name of one of them.
        done: how many were done before, by an earlier run.
        line: how a line tells how far the task is, a format of `done`, `total` and `unit`.
        stream: where to show it; the standard error stream by default.
    """

    interval = 30.0  # seconds between two lines

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        line: str = "{done} of {total} {unit}s",
        stream: TextIO | None = None,
    ):
        from tqdm import tqdm  # what does not show progress need not wait for it

        self.name, self.total, self.unit, self.line = name, total, unit, line
        self._first = self._done = done
        self._stream, self._details = stream or sys.stderr, ""
        self._began = self._shown = time.monotonic()
        self._is_shown = False
        is_terminal = self._stream.isatty()
        options = {"unit": unit, "desc": name, "file": self._stream, "dynamic_ncols": True}
        self._bar = tqdm(total=total, initial=done, **options) if is_terminal else None

    def update(self, done: int, details: str = "") -> None:
        """Shows that `done` units are done by now, earlier runs counted in; `details` is what else is to be shown."""
        self._is_shown = self._is_shown and (done, details) == (self._done, self._details)
        self._done, self._details = done, details
        if self._bar is not None:
            self._bar.set_postfix_str(details, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._shown >= self.interval:
            self._print()

    def close(self) -> None:
        """Ends the bar, or prints the last line."""
        if self._bar is not None:
            self._bar.close()
        elif not self._is_shown:
            self._print()

    def _print(self) -> None:
        now = time.monotonic()
        position = self.line.format(done=self._done, total=self.total, unit=self.unit)
        parts = [f"{self.name}: {position}", self._details]
        if self._done > self._first and now > self._began:
            speed = (self._done - self._first) / (now - self._began)
            parts.append(f"{speed:.1f} {self.unit}s/s" if speed >= 1 else f"{speed:.2g} {self.unit}s/s")
            if self._done < self.total:
                seconds = (self.total - self._done) / speed
                parts.append(f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left")
        print(", ".join(filter(None, parts)), file=self._stream, flush=True)
        self._shown, self._is_shown = now, True


# What TensorFlow's C++ libraries print on any machine while they are loaded, before a log level counts: information,
# plug-ins that are registered twice, and that there is no GPU.
_NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} .*\.cc:\d+\]"
    rb"|\d{4}-\d\d-\d\d [\d:.]+: I .*\.cc:\d+\]"
    rb"|To enable the following instructions: .* rebuild TensorFlow"
    rb"|[WE]\d{4} .*(Unable to register cu\w+ factory|already registered|failed call to cuInit)"
)


@contextlib.contextmanager
def without_startup_noise() -> Iterator[None]:
    """Keeps quiet what TensorFlow prints while it is imported in this block, and what it logs later.

    The lines come from C++ and heed no setting (TF_CPP_MIN_LOG_LEVEL counts only once the libraries are loaded), so
    they are filtered at the file descriptor. All other output to the standard error stream is shown when the block
    ends, also by an error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        original = os.dup(2)
    except OSError:  # there is no standard error stream
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)
