"""Runs that are stopped, killed, extended, damaged or started twice."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import threading

import keras
import numpy as np
import pytest

from tests.tiny import NARROW, TWO_MODALITIES
from tfdisent import files
from tfdisent.experiment import Settings, augment, evaluate, export, fit, open_run, prepare
from tfdisent.experiment import run as run_module
from tfdisent.messages import Stopped
from tfdisent.training import distribution

tf = pytest.importorskip("tensorflow")

SKIN = {
    "system": "drai",
    "model": "cinfogan",  # the quickest to compile
    "dataset": "skin_phantom",
    "batch_size": 8,
    "steps": 50,
    "checkpoint_every": 15,
    "sample_every": 1000,
    "data": {"num_train": 48, "num_test": 30},
    "changes": NARROW,
}


class Killed(BaseException):
    """Nothing that the code under test may handle, as `kill -9` is."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """The folder of an unbroken training of 50 steps."""
    folder = tmp_path_factory.mktemp("whole") / "r"
    fit(prepare(Settings(**SKIN, data_dir=data_dir, run_dir=str(folder))))
    return folder


def interrupt(monkeypatch, settings, at, how):
    """Trains until `how()` is called after step `at`."""

    def action(step):
        if step == at:
            how()

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_sampler", lambda run: action)
        with pytest.raises((Stopped, Killed)) as ended:
            fit(prepare(dataclasses.replace(settings, sample_every=at)))
    return ended.value


def kill():
    raise Killed


def curves(folder):
    """{name: [(step, value)]} in the order of the event files."""
    found = {}
    for path in sorted((folder / "tensorboard").glob("*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor)) if value.HasField("tensor") else value.simple_value
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def assert_same_run(folder, other):
    """Weights, metrics and curves are those of the other, to the last bit."""
    name = "checkpoints/step-00000050/weights.npz"
    assert (folder / name).read_bytes() == (other / name).read_bytes()
    assert (folder / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert curves(folder) == curves(other)


def test_a_run_that_was_stopped_at_odd_steps_equals_an_unbroken_one(data_dir, whole, tmp_path, monkeypatch):
    settings = Settings(**SKIN, data_dir=data_dir, run_dir=str(tmp_path / "r"))
    for at, number in ((7, signal.SIGINT), (33, signal.SIGTERM)):
        stopped = interrupt(monkeypatch, settings, at, lambda number=number: os.kill(os.getpid(), number))
        assert stopped.signal == number and f"after step {at};" in str(stopped)
        rows = (tmp_path / "r/metrics.csv").read_text().splitlines() if at > 20 else ["step", "20"]
        assert [row.partition(",")[0] for row in rows] == ["step", "20"]  # nothing at an odd step
    fit(prepare(settings))
    assert all([step for step, _ in points] == [20, 40, 50] for points in curves(whole).values())
    assert_same_run(tmp_path / "r", whole)


def test_a_run_that_was_killed_beyond_its_checkpoints_equals_an_unbroken_one(data_dir, whole, tmp_path, monkeypatch):
    settings = Settings(**SKIN, data_dir=data_dir, run_dir=str(tmp_path / "r"))
    for at in (12, 29, 43):  # before the first checkpoint, after steps 15 and 30; rows 20 and 40 are written twice
        interrupt(monkeypatch, settings, at, kill)
    fit(prepare(settings))
    assert_same_run(tmp_path / "r", whole)


def test_more_steps_in_the_same_folder_equal_as_many_in_one_piece(data_dir, whole, tmp_path):
    for steps in (30, 50):
        fit(prepare(Settings(**SKIN | {"steps": steps}, data_dir=data_dir, run_dir=str(tmp_path / "r"))))
    assert_same_run(tmp_path / "r", whole)
    assert "extended" not in json.loads((tmp_path / "r/config.json").read_text())


@pytest.fixture(scope="module")
def done(data_dir, tmp_path_factory):
    """Settings of a run of 3 steps, done."""
    run_dir = str(tmp_path_factory.mktemp("short") / "r")
    settings = Settings(**SKIN | {"steps": 3}, data_dir=data_dir, run_dir=run_dir)
    fit(prepare(settings))
    return settings


@pytest.fixture
def short(done, tmp_path):
    """Settings of a copy of that run."""
    shutil.copytree(done.folder, tmp_path / "r")
    return dataclasses.replace(done, run_dir=str(tmp_path / "r"))


def test_fewer_steps_than_are_done_are_refused_and_nothing_is_rewritten(short):
    before = {path: path.read_bytes() for path in short.folder.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"trained for 3 steps, more than the 2 that are asked for. Give --steps=3"):
        prepare(dataclasses.replace(short, steps=2))
    assert {path: path.read_bytes() for path in short.folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "config.json is damaged, it is no JSON"),
        ('{"system": "drai", "mod', "config.json is damaged, it is no JSON"),
        ("[]", "config.json is damaged: system, dataset, preset, config, data_options missing"),
        ("{}", "config.json is damaged: system, dataset, preset, config, data_options missing"),
    ],
)
def test_a_damaged_config_is_named(short, content, words):
    (short.folder / "config.json").write_text(content)
    for action in (lambda: prepare(short), lambda: open_run(str(short.folder))):
        with pytest.raises(ValueError, match=words):
            action()
    assert (short.folder / "config.json").read_text() == content


def test_a_config_with_fields_that_there_are_none_of_is_named(short):
    record = json.loads((short.folder / "config.json").read_text())
    record["config"]["colour"] = 1
    files.write_json(short.folder / "config.json", record)
    with pytest.raises(ValueError, match=r"config.json is damaged, or of another version of tfdisent: .*colour"):
        open_run(str(short.folder))


def test_checkpoints_without_a_config_are_an_error_and_no_new_start(short):
    (short.folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has checkpoints, but config.json, .* is missing"):
        prepare(short)
    assert not (short.folder / "config.json").exists()


def in_another_thread(action):
    """The error of an action in a thread of its own, which locks see as they do another process."""
    errors = []

    def work():
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return errors[0] if errors else None


def test_a_folder_that_is_in_use_is_refused_naming_who_has_it(short):
    run = prepare(short)
    with files.locked(short.folder, "training"):
        for action in (fit, evaluate, export, augment, lambda run: prepare(run.settings)):
            error = in_another_thread(lambda action=action: action(run))
            assert isinstance(error, BlockingIOError)
            assert f"is in use by process {os.getpid()} on " in str(error) and "(training since" in str(error)
    prepare(short)


def test_a_run_that_another_process_has_trained_since_it_was_opened_is_not_trained_twice(short):
    settings = dataclasses.replace(short, steps=6)
    early = prepare(settings)
    fit(prepare(settings))
    with pytest.raises(ValueError, match="was opened at step 3, and has been trained to step 6 by another process"):
        fit(early)


def test_an_export_waits_for_the_one_that_is_being_written(short, tmp_path, capsys):
    run = dataclasses.replace(prepare(short), settings=dataclasses.replace(short, export_dir=str(tmp_path / "m")))
    with files.locked(tmp_path / "m", "export"):
        thread = threading.Thread(target=export, args=(run,))
        thread.start()
        thread.join(3)
        assert thread.is_alive() and not (tmp_path / "m/1").exists()
    thread.join()
    assert (tmp_path / "m/1/saved_model.pb").is_file()
    assert "waiting for process" in capsys.readouterr().out


# --- schedules over all steps ---


def translating(data_dir, tmp_path, **changes):
    fields = {name: value for name, value in TWO_MODALITIES.items() if name != "modalities"}
    return Settings(
        system="unified",
        data_dir=data_dir,
        run_dir=str(tmp_path / "r"),
        steps=4,
        batch_size=2,
        sample_every=1000,
        changes={**fields, "learning_rate_decay": 0.5, "disentanglement_delay": 0.0, **changes},
        data={"num_train": 4, "num_test": 2, "slices_per_subject": 2},
    )


def test_a_run_whose_schedules_would_change_is_not_continued_unasked(data_dir, tmp_path):
    settings = translating(data_dir, tmp_path)
    fit(prepare(settings))
    config = (tmp_path / "r/config.json").read_bytes()
    expected = "planned for 4 steps, of which 4 are done, and learning rates follow a schedule .*--run_dir .*--extend"
    with pytest.raises(ValueError, match=expected):
        prepare(dataclasses.replace(settings, steps=8))
    assert (tmp_path / "r/config.json").read_bytes() == config
    assert prepare(settings).state["step"] == 4  # what was planned is not asked about


def test_an_extended_run_goes_on_with_the_schedules_of_the_new_length_and_says_so(data_dir, tmp_path):
    settings = translating(data_dir, tmp_path)
    run = prepare(settings)
    fit(run)
    assert rate(run) == pytest.approx(0.0, abs=1e-9)  # fallen at the end of 4 steps
    extended = prepare(dataclasses.replace(settings, steps=8, extend=True))
    assert rate(extended) == pytest.approx(run.config.learning_rate)  # that of step 4 of 8
    fit(extended)
    assert rate(extended) == pytest.approx(0.0, abs=1e-9)
    assert json.loads((tmp_path / "r/config.json").read_text())["extended"] == [4]
    assert "extended after step 4, which changed its schedules" in run_module._summary(extended)
    again = prepare(dataclasses.replace(settings, steps=8))  # the extended run is now planned for 8
    assert again.state["step"] == 8
    assert json.loads((tmp_path / "r/config.json").read_text())["extended"] == [4]


def rate(run):
    return float(keras.ops.convert_to_numpy(run.model.optimizers["generators"].learning_rate))


def test_a_run_with_constant_schedules_goes_on_as_it_did(data_dir, tmp_path):
    settings = translating(data_dir, tmp_path, learning_rate_decay=0.0)
    for steps in (4, 6):
        run = prepare(dataclasses.replace(settings, steps=steps))
        fit(run)
    assert run.state["step"] == 6
    assert run_module._extension(run) == ""


# --- devices and bad examples ---


def test_a_batch_that_the_devices_do_not_divide_is_refused_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(distribution, "available", lambda: ["a", "b", "c"])
    settings = Settings(
        **SKIN | {"batch_size": 16}, devices=3, data_dir=str(tmp_path / "data"), run_dir=str(tmp_path / "r")
    )
    with pytest.raises(ValueError, match=r"3 devices divide evenly \(--devices=3\), received --batch_size=16"):
        prepare(settings)
    assert not list(tmp_path.iterdir())


class Stream:
    """A model whose second batch holds a NaN and an infinity."""

    def batch_shapes(self):
        return {"image": (2, 2, 1), "condition": (3,)}

    def stream(self, load, start_step):
        assert load.keywords == {"metadata": True}
        image, condition = np.zeros((8, 2, 2, 1), "float32"), np.zeros((8, 3), "float32")
        image[5, 1, 1], condition[6, 0] = np.nan, np.inf
        key = np.array([f"case{i}/slice-{i}".encode() for i in range(8)])
        intensity = np.full(8, np.nan, "float32")  # what the model does not take may be unknown
        parts = {"image": image, "condition": condition, "key": key, "intensity": intensity}
        return tf.data.Dataset.from_tensor_slices(parts).batch(4).skip(start_step)


def test_examples_that_are_not_finite_are_named_by_their_keys():
    said = run_module._bad_examples(Stream(), lambda split, **changes: None, 1)
    assert said == (
        " NaN or infinite in this batch: the condition of example case6/slice-6, the image of example case5/slice-5."
    )
    assert run_module._bad_examples(Stream(), lambda split, **changes: None, 0) == ""


def test_a_loss_that_is_not_finite_by_an_example_names_it(short, monkeypatch):
    run = prepare(dataclasses.replace(short, steps=6))
    load = run_module._loader(run)

    def spoilt(split, **changes):
        def spoil(batch):
            return {**batch, "image": tf.where(tf.range(8)[:, None, None, None] == 2, np.nan, batch["image"])}

        return load(split, **changes).map(spoil)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_loader", lambda run: spoilt)
        with pytest.raises(ArithmeticError, match=r"losses, but at batch 0 .* in this batch: the image of example \w+"):
            fit(run)
    assert pathlib.Path(run.run_dir / "checkpoints/step-00000003").is_dir()
    assert prepare(short).state["step"] == 3
