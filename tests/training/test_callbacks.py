import csv
import io
import os
import signal

import pytest

from tfdisent.training.callbacks import (
    Every,
    MetricsFile,
    NonFiniteLoss,
    Progress,
    SaveCheckpoints,
    StopOnNonFinite,
)


class Model:
    """What the callbacks ask of a model."""

    stop_training = False


class Saved:
    """Checkpoints that only note their steps."""

    def __init__(self):
        self.steps, self.seconds = [], []

    def save(self, model, step, seconds):
        self.steps.append(step)
        self.seconds.append(seconds)


def train(callback, losses, model=None):
    callback.set_model(model or Model())
    callback.on_train_begin()
    for batch, value in enumerate(losses):
        callback.on_train_batch_end(batch, {"a": value, "b": 2 * value})
        if callback.model.stop_training:
            break
    callback.on_train_end()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_a_term_that_is_not_finite_is_named():
    with pytest.raises(NonFiniteLoss, match="at batch 3 b = nan"):
        StopOnNonFinite().on_train_batch_end(3, {"a": 1.0, "b": float("nan")})
    StopOnNonFinite().on_train_batch_end(3, {"a": 1.0, "b": -2.0})


def test_an_action_is_due_every_interval_of_the_whole_training():
    seen = []
    train(Every(4, seen.append, start=6), [0.0] * 7)
    assert seen == [8, 12]


def test_the_metrics_file_holds_means_over_the_interval_and_the_rest_at_the_end(tmp_path):
    train(MetricsFile(tmp_path / "m.csv", interval=2), [1.0, 3.0, 5.0, 7.0, 10.0])
    assert rows(tmp_path / "m.csv") == [
        ["step", "a", "b"],
        ["2", "2", "4"],
        ["4", "6", "12"],
        ["5", "10", "20"],
    ]


def test_rows_beyond_the_checkpoint_and_half_written_ones_are_written_again(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("step,a,b\n2,2,4\n4,6,12\n6,9")
    train(MetricsFile(path, interval=2, start=2), [1.0, 1.0])
    assert rows(path) == [["step", "a", "b"], ["2", "2", "4"], ["4", "1", "2"]]


def test_checkpoints_are_due_by_the_interval_and_at_the_end_once():
    saved = Saved()
    train(SaveCheckpoints(saved, 3, start=2, seconds=100.0), [0.0] * 7)
    assert saved.steps == [3, 6, 9]
    assert saved.seconds == sorted(saved.seconds) and saved.seconds[0] >= 100.0
    saved = Saved()
    train(SaveCheckpoints(saved, 3), [0.0] * 4)
    assert saved.steps == [3, 4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(number):
    before = signal.getsignal(number)
    saved, model = Saved(), Model()
    callback = SaveCheckpoints(saved, 100)
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_train_batch_end(0, {})
    os.kill(os.getpid(), number)
    callback.on_train_batch_end(1, {})
    callback.on_train_end()
    assert model.stop_training and callback.signal == number and saved.steps == [2]
    assert signal.getsignal(number) is before


def test_without_a_terminal_progress_is_a_line_at_the_end_at_least():
    stream = io.StringIO()
    train(Progress(5, start=3, stream=stream), [0.0, 0.0])
    assert "step 5/5" in stream.getvalue()
