"""Keras callbacks for long runs: stop on bad losses and on signals, checkpoints, a metrics file, a progress bar."""

import csv
import math
import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import TextIO

import keras

from tfdisent import messages
from tfdisent.files import whole_file
from tfdisent.training.checkpoint import Checkpoints


class NonFiniteLoss(ArithmeticError):
    """A loss term became NaN or infinite."""


class StopOnNonFinite(keras.callbacks.Callback):
    """Raises `NonFiniteLoss` with the names of the terms that are NaN or infinite.

    `AdversarialModel.fit` puts it before all other callbacks, so that no checkpoint is written from such weights.
    """

    def on_train_batch_end(self, batch, logs=None):
        """Checks every logged value."""
        bad = {name: float(value) for name, value in (logs or {}).items() if not math.isfinite(value)}
        if bad:
            values = ", ".join(f"{name} = {value}" for name, value in bad.items())
            raise NonFiniteLoss(
                f"Expected finite losses, but at batch {batch} {values}. Training stopped; checkpoints before this "
                "step are intact. A lower learning rate, or float32 in place of a lower precision, usually fixes it."
            )


class StepCallback(keras.callbacks.Callback):
    """Counts training steps from `start` on, across epochs and resumed runs.

    Attributes:
        step: steps done.
    """

    def __init__(self, start: int = 0):
        super().__init__()
        self.step = start

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step, then calls `on_step`."""
        self.step += 1
        self.on_step(logs or {})

    def on_step(self, logs: dict) -> None:
        """What to do after each step; `self.step` counts it already."""


class Every(StepCallback):
    """Calls `action(step)` after every `interval` steps."""

    def __init__(self, interval: int, action: Callable[[int], None], start: int = 0):
        super().__init__(start)
        self.interval, self.action = interval, action

    def on_step(self, logs):
        """Calls the action when it is due."""
        if self.step % self.interval == 0:
            self.action(self.step)


class SaveCheckpoints(StepCallback):
    """Writes a checkpoint every `interval` steps, at the end, and when asked to stop by SIGTERM or SIGINT.

    After a signal the step in progress is finished, its state saved, and training ends.

    Attributes:
        signal: the signal that ended training, or None.
        seconds: spent in training, earlier runs counted in.
    """

    def __init__(self, checkpoints: Checkpoints, interval: int, start: int = 0, seconds: float = 0.0):
        super().__init__(start)
        self.checkpoints, self.interval, self.seconds = checkpoints, interval, seconds
        self.signal: int | None = None
        self._saved = start

    def on_train_begin(self, logs=None):
        """Listens for signals (in the main thread, the only one that may)."""
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        self._began = time.monotonic()

    def on_step(self, logs):
        """Saves when due."""
        if self.step % self.interval == 0 or self.signal is not None:
            self._save()
        if self.signal is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Saves the last step and gives the signals back."""
        if self._saved != self.step:
            self._save()
        self.restore_signals()

    def restore_signals(self) -> None:
        """Puts the former signal handlers back; needed too when training ended by an exception."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _save(self):
        now = time.monotonic()
        self.seconds, self._began = self.seconds + now - self._began, now
        self.checkpoints.save(self.model, self.step, seconds=self.seconds)
        self._saved = self.step

    def _note(self, number, frame):
        self.signal = number


class MetricsFile(StepCallback):
    """Appends the mean of every loss term over `interval` steps to a CSV file: step, then one column a term.

    Rows after `start`, left by a run that was killed beyond its last checkpoint, are dropped first.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        interval: int = 20,
        start: int = 0,
        also: Callable | None = None,
    ):
        super().__init__(start)
        self.path, self.interval, self.also = pathlib.Path(path), interval, also
        self._sums: dict[str, float] = {}
        self._count = 0

    def on_train_begin(self, logs=None):
        """Drops rows that will be written again."""
        if self.path.exists():
            with self.path.open(newline="") as file:
                header, *rows = list(csv.reader(file)) or [[]]
            kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= self.step]
            with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
                csv.writer(file).writerows([header, *kept] if header else [])

    def on_step(self, logs):
        """Adds to the means; writes a row when due."""
        for name, value in logs.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        if self.step % self.interval == 0:
            self._finish_row()

    def on_train_end(self, logs=None):
        """Writes what is left of an interval."""
        if self._count:
            self._finish_row()

    def _finish_row(self):
        means = {name: value / self._count for name, value in sorted(self._sums.items())}
        self._write(means)
        if self.also is not None:
            self.also(self.step, means)
        self._sums, self._count = {}, 0

    def _write(self, means):
        new = not self.path.exists() or self.path.stat().st_size == 0
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *means])
            writer.writerow([self.step, *(f"{value:.6g}" for value in means.values())])


class ValidationFile(MetricsFile):
    """Appends the loss terms of each validation to a CSV file: step, then one column a term; none, no file."""

    def on_step(self, logs):
        """Nothing: the terms of the steps are not those of the validation."""

    def on_epoch_end(self, epoch, logs=None):
        """Writes a row, if there was a validation."""
        means = {name: float(value) for name, value in sorted((logs or {}).items()) if name.startswith("val_")}
        if means:
            self._write({name.removeprefix("val_"): value for name, value in means.items()})
            if self.also is not None:
                self.also(self.step, means)


class Progress(StepCallback):
    """Shows steps, speed and time left: a bar on a terminal, elsewhere a line every half minute."""

    def __init__(self, total: int, start: int = 0, stream: TextIO | None = None):
        super().__init__(start)
        self.total, self.stream = total, stream

    def on_train_begin(self, logs=None):
        """Shows the bar."""
        line = "step {done}/{total}"
        self._shown = messages.Progress("training", self.total, "step", done=self.step, line=line, stream=self.stream)

    def on_step(self, logs):
        """Moves the bar, or prints a line when one is due."""
        self._shown.update(self.step)

    def on_train_end(self, logs=None):
        """Closes the bar, or prints the last line."""
        self._shown.close()
