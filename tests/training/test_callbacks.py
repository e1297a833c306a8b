import copy
import csv
import io
import json
import os
import signal
import threading

import pytest

from tfdisent.training.callbacks import (
    Every,
    MetricsFile,
    NonFiniteLoss,
    Progress,
    SaveCheckpoints,
    StopOnNonFinite,
    ValidationFile,
    validation_of,
)


class Model:
    """What the callbacks ask of a model."""

    stop_training = False


class Saved:
    """Checkpoints that only note their steps."""

    def __init__(self):
        self.steps, self.seconds = [], []

    def save(self, model, step, seconds, **extra):
        self.steps.append(step)
        self.seconds.append(seconds)
        self.extra = copy.deepcopy(extra)


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


@pytest.mark.parametrize("stops", [(3,), (1, 2, 6), (4,), (8,), (5, 9, 10), ()])
def test_a_file_of_interrupted_runs_equals_that_of_an_unbroken_one_whatever_the_steps(tmp_path, stops):
    losses = [0.1 * k**1.7 for k in range(11)]
    train(MetricsFile(tmp_path / "whole.csv", interval=4, total=11), losses)
    start, unfinished = 0, None
    for stop in (*stops, 11):
        metrics = MetricsFile(tmp_path / "m.csv", interval=4, start=start, unfinished=unfinished, total=11)
        train(metrics, losses[start:stop])
        written = [int(row[0]) for row in rows(tmp_path / "m.csv")[1:]] if (tmp_path / "m.csv").exists() else []
        assert written == [step for step in (4, 8, 11) if step <= stop]
        start, unfinished = stop, json.loads(json.dumps(metrics.unfinished))
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_file_of_a_training_that_goes_on_past_its_end_equals_that_of_one_piece(tmp_path):
    losses = [0.1 * k**1.7 for k in range(20)]
    train(MetricsFile(tmp_path / "whole.csv", interval=4, total=20), losses)
    first = MetricsFile(tmp_path / "m.csv", interval=4, total=10)
    train(first, losses[:10])
    assert [row[0] for row in rows(tmp_path / "m.csv")] == ["step", "4", "8", "10"]
    train(MetricsFile(tmp_path / "m.csv", interval=4, start=10, unfinished=first.unfinished, total=20), losses[10:])
    assert (tmp_path / "m.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


class Evaluated(Model):
    """A model whose validation loss is the number of times that it was evaluated."""

    calls = 0

    def evaluate(self, data, verbose, return_dict):
        self.calls += 1
        return {"b": 2.0 * self.calls, "a": data}


def test_validations_are_due_by_steps_of_the_whole_training_and_at_its_end(tmp_path):
    path, also = tmp_path / "v.csv", []
    path.write_text("step,a,b\n4,7,1\n6,7,9\n")  # the second row is beyond the checkpoint
    validation = ValidationFile(
        path, validation_of(7.0), interval=4, start=5, total=10, also=lambda *row: also.append(row)
    )
    train(validation, [0.0] * 5, Evaluated())
    assert rows(path) == [["step", "a", "b"], ["4", "7", "1"], ["8", "7", "2"], ["10", "7", "4"]]
    assert also == [(8, {"a": 7.0, "b": 2.0}), (10, {"a": 7.0, "b": 4.0})]


def test_a_measurement_that_has_nothing_to_say_leaves_no_row_and_training_goes_on(tmp_path):
    path, also, values = tmp_path / "v.csv", [], iter([{}, {"a": 2.0}])
    measured = ValidationFile(path, lambda model: next(values), interval=1, also=lambda *row: also.append(row))
    train(measured, [0.0] * 2)
    assert rows(path) == [["step", "a"], ["2", "2"]] and also == [(2, {"a": 2.0})]


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


def test_with_each_checkpoint_is_kept_what_continues_the_metrics():
    saved, metrics = Saved(), {"count": 0}
    callback = SaveCheckpoints(saved, 2, also=lambda: {"unfinished": metrics})
    callback.set_model(Model())
    callback.on_train_begin()
    for count in (1, 2):
        metrics["count"] = count
        callback.on_train_batch_end(0, {})
    assert saved.extra == {"unfinished": {"count": 2}}
    callback.on_train_end()


def test_outside_the_main_thread_checkpoints_are_written_and_signals_left_alone():
    before, saved, errors = signal.getsignal(signal.SIGTERM), Saved(), []

    def work():
        try:
            train(SaveCheckpoints(saved, 2), [0.0] * 3)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == [] and saved.steps == [2, 3]
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_before_training_begins_is_not_hidden_by_giving_signals_back():
    callback = SaveCheckpoints(Saved(), 2)
    with pytest.raises(OSError, match="the cause"):
        try:
            raise OSError("the cause")  # of a callback whose turn is before
        finally:
            callback.restore_signals()


def test_without_a_terminal_progress_is_a_line_at_the_end_at_least():
    stream = io.StringIO()
    train(Progress(5, start=3, stream=stream), [0.0, 0.0])
    assert "step 5/5" in stream.getvalue()
