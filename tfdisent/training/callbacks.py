"""Keras callbacks for long runs: stop on bad losses and on signals, checkpoints, a metrics file, a progress bar."""

import copy
import csv
import math
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

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


def sync(model: keras.Model) -> None:
    """Brings the weights into the model, which JAX keeps apart while it trains."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


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
            sync(self.model)
            self.action(self.step)


class SaveCheckpoints(StepCallback):
    """Writes a checkpoint every `interval` steps, at the end, and when asked to stop by SIGTERM or SIGINT.

    After a signal the step in progress is finished, its state saved, and training ends. Only the main thread may listen
    for signals; in another one they do what they did before.

    Attributes:
        signal: the signal that ended training, or None.
        seconds: spent in training, earlier runs counted in.

    Args:
        checkpoints: where to save.
        interval: steps between checkpoints.
        start: steps that are done.
        seconds: that were spent on them.
        also: gives what else is to be kept with each checkpoint, as plain values by name.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        interval: int,
        start: int = 0,
        seconds: float = 0.0,
        also: Callable[[], dict] = dict,
    ):
        super().__init__(start)
        self.checkpoints, self.interval, self.seconds, self.also = checkpoints, interval, seconds, also
        self.signal: int | None = None
        self._saved = start
        self._previous: dict[int, Any] = {}

    def on_train_begin(self, logs=None):
        """Listens for signals."""
        self._began = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)

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
        """Puts the former signal handlers back; needed too when training ended by an exception, at whatever point."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _save(self):
        now = time.monotonic()
        self.seconds, self._began = self.seconds + now - self._began, now
        self.checkpoints.save(self.model, self.step, seconds=self.seconds, **self.also())
        self._saved = self.step

    def _note(self, number, frame):
        self.signal = number


class MetricsFile(StepCallback):
    """Appends the mean of every loss term over `interval` steps to a CSV file: step, then one column a term.

    The file is that of a training that was never interrupted: rows after `start`, left by a run that was killed beyond
    its last checkpoint, are dropped first, and so is the last row of a training that goes on, over less than an
    interval.

    Attributes:
        unfinished: {"count": steps since the last whole interval, "sums": {term: its sum over them}}; given to the
            callback that continues after this step, its next row is the mean over the whole interval too.

    Args:
        path: of the file.
        interval: steps in a row.
        start: steps that are done.
        unfinished: of the callback that did them.
        total: steps after which a row is written whatever the interval; None: where training ends.
        also: called with the step and {term: mean} of each row.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        interval: int = 20,
        start: int = 0,
        unfinished: dict | None = None,
        total: int | None = None,
        also: Callable | None = None,
    ):
        super().__init__(start)
        self.path, self.interval, self.total, self.also = pathlib.Path(path), interval, total, also
        self.unfinished = copy.deepcopy(unfinished) or {"count": 0, "sums": {}}

    def on_train_begin(self, logs=None):
        """Drops rows that will be written again."""
        drop_rows(self.path, lambda step: step <= self.step and self.is_whole(step))

    def is_whole(self, step: int) -> bool:
        """Whether a row at this step is over a whole interval."""
        return step % self.interval == 0

    def on_step(self, logs):
        """Adds to the means; writes a row when due."""
        sums = self.unfinished["sums"]
        for name, value in logs.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        self.unfinished["count"] += 1
        if self.is_whole(self.step):
            self._finish_row()
            self.unfinished = {"count": 0, "sums": {}}

    def on_train_end(self, logs=None):
        """Writes what is left of an interval, if training is done."""
        if self.unfinished["count"] and self.step == (self.total or self.step):
            self._finish_row()

    def _finish_row(self):
        count, sums = self.unfinished["count"], self.unfinished["sums"]
        means = {name: value / count for name, value in sorted(sums.items())}
        append_row(self.path, self.step, means)
        if self.also is not None:
            self.also(self.step, means)


class ValidationFile(StepCallback):
    """Measures the model every `interval` steps, and appends the values to a CSV file.

    By steps of the whole training, unlike Keras's validation, so that it does not matter where a run was interrupted.

    Args:
        path: of the file.
        measure: model -> {name: value}, the same names each time; or {}, which leaves no row.
        interval: steps between validations.
        start: steps that are done.
        total: steps after which there is one whatever the interval.
        also: called with the step and the values of each row.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        measure: Callable[[keras.Model], dict[str, float]],
        interval: int,
        start: int = 0,
        total: int | None = None,
        also: Callable | None = None,
    ):
        super().__init__(start)
        self.path, self.measure, self.interval = pathlib.Path(path), measure, interval
        self.total, self.also = total, also

    def on_train_begin(self, logs=None):
        """Drops rows that will be written again."""
        drop_rows(self.path, lambda step: step <= self.step)

    def on_step(self, logs):
        """Measures when due."""
        if self.step % self.interval == 0 or self.step == self.total:
            sync(self.model)
            values = self.measure(self.model)
            if not values:
                return
            append_row(self.path, self.step, values)
            if self.also is not None:
                self.also(self.step, values)


def validation_of(data: Any) -> Callable[[keras.Model], dict[str, float]]:
    """What `ValidationFile` measures on data that `model.evaluate` takes: the means of the loss terms."""
    return lambda model: dict(sorted(model.evaluate(data, verbose=0, return_dict=True).items()))


def drop_rows(path: pathlib.Path, keep: Callable[[int], bool]) -> None:
    """Leaves those rows of a CSV file whose step is to be kept, and which are whole; without a file, does nothing."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    kept = [row for row in rows if len(row) == len(header) and row[0].isdigit() and keep(int(row[0]))]
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *kept] if header else [])


def append_row(path: pathlib.Path, step: int, values: dict[str, float]) -> None:
    """Appends a row to a CSV file of `step` and values by name, with a header where the file is new."""
    is_new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow(["step", *values])
        writer.writerow([step, *(f"{value:.6g}" for value in values.values())])


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
