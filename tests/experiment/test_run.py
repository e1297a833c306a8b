"""A training run, from settings to report and export, and what it does when interrupted."""

import csv
import json
import pathlib
import signal
import time
from types import SimpleNamespace

import keras
import pytest

from tests.commands.shell import call, finish, start
from tests.tiny import NARROW
from tfdisent import files
from tfdisent.evaluation.entries import entry
from tfdisent.experiment import Settings, catalogue, evaluate, export, fit, open_run, prepare
from tfdisent.experiment.run import few_subjects
from tfdisent.messages import STOPPED

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

TINY = [
    "--dataset=skin_phantom",
    "--preset=quick",
    "--batch_size=8",
    "--checkpoint_every=4",
    "--sample_every=8",
    "--num_samples=30",
    *(f"--set={name}={value}" for name, value in NARROW.items()),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared by the first command."""
    return tmp_path_factory.mktemp("data")


def flags(data_dir, *arguments, data=("num_train=48", "num_test=30")):
    """Flags of a tiny run, and others."""
    return [f"--data_dir={data_dir}", *(f"--data={option}" for option in data), *TINY, *arguments]


def newest_checkpoint(run_dir):
    """Its name and the checksum of its weights: equal weights are equal files."""
    folder = sorted((run_dir / "checkpoints").glob("step-*"))[-1]
    return folder.name, json.loads((folder / "state.json").read_text())["weights"]


def wait_for_a_checkpoint(process, run_dir):
    deadline = time.monotonic() + 200
    while not list(run_dir.glob("checkpoints/step-*/state.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """An unbroken run of 12 steps."""
    work_dir = tmp_path_factory.mktemp("whole")
    out, _ = finish(start(work_dir, "train.drai", *flags(data_dir, "--steps=12", "--run_dir=r")))
    return work_dir, out


def test_a_run_leaves_everything_in_its_folder(whole):
    work_dir, out = whole
    run_dir = work_dir / "r"
    for name in (
        "config.json",
        "flags.txt",
        "environment.json",
        "splits/train.txt",
        "metrics.csv",
        "metrics.json",
        "report.html",
        "tensorboard",
        "samples/step-00000008.png",
        "judges/classifier/config.json",
        "export.json",
    ):
        assert (run_dir / name).exists(), name
    assert str(pathlib.Path("r/report.html")) in out
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for name in (
        "frechet_distance",
        "kernel_distance",
        "inception_score",
        "conditional_generation_accuracy",
        "cross_image_feature_consistency",
        "hybrid_class_accuracy",
        "hybrid_position_r2_style",
    ):
        assert {"value", "std", "n", "extractor", "protocol"} <= metrics[name].keys()
    assert (work_dir / "saved_models/drai-skin_phantom/1/saved_model.pb").is_file()
    assert len((run_dir / "splits/train.txt").read_text().split()) == 48


def test_augmenting_takes_the_trained_run_and_leaves_its_results(whole):
    work_dir, _ = whole
    before = (work_dir / "r/metrics.json").read_bytes()
    out, _ = call(work_dir, "augment", "--run_dir=r", "--augment_to=20")
    assert "12 of 12 steps are done" in out
    assert "to be added to the real ones: 4 " in out
    assert (work_dir / "r/synthetic/manifest.json").is_file()
    assert (work_dir / "r/report-augmentation.html").is_file()
    assert (work_dir / "r/metrics.json").read_bytes() == before
    assert not (work_dir / "saved_models/drai-skin_phantom/2").exists()

    _, err = call(work_dir, "augment", "--run_dir=r", "--augment_to=2", status=1)
    assert "nothing to add" in err and "Traceback" not in err


def test_killed_twice_it_ends_with_the_same_state_as_unbroken(whole, data_dir, tmp_path):
    work_dir, _ = whole
    run_dir = tmp_path / "r"
    # It would take 10,000 steps; kill -9 after the first checkpoint.
    process = start(tmp_path, "train.drai", *flags(data_dir, "--steps=10000", "--run_dir=r"))
    wait_for_a_checkpoint(process, run_dir)
    process.kill()
    process.communicate()
    step = int(newest_checkpoint(run_dir)[0].removeprefix("step-"))
    if step >= 12:
        pytest.skip(f"this machine did {step} steps before the kill arrived")
    out, _ = call(tmp_path, "train", "drai", *flags(data_dir, "--steps=12", "--run_dir=r"))
    assert f"continuing after step {step}" in out

    assert newest_checkpoint(run_dir) == newest_checkpoint(work_dir / "r")
    with (run_dir / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, STOPPED), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_and_says_how_to_continue(number, status, data_dir, tmp_path):
    process = start(tmp_path, "train.drai", *flags(data_dir, "--steps=10000", "--run_dir=r"))
    wait_for_a_checkpoint(process, tmp_path / "r")
    process.send_signal(number)
    out, _ = finish(process, status=status)
    assert "the same command continues there" in out
    step = int(out.split("after step ")[-1].split(";")[0])
    assert newest_checkpoint(tmp_path / "r")[0] == f"step-{step:08d}"


def test_with_nothing_left_to_do_it_only_evaluates(whole, data_dir):
    work_dir, _ = whole
    before = newest_checkpoint(work_dir / "r")
    out, _ = call(work_dir, "train", "drai", *flags(data_dir, "--steps=12", "--run_dir=r"))
    assert "only evaluating" in out and "exported already" in out
    assert newest_checkpoint(work_dir / "r") == before


def test_other_settings_in_the_same_folder_are_refused_by_name(whole, data_dir):
    work_dir, _ = whole
    given = flags(data_dir, "--steps=12", "--run_dir=r", "--set=kl_weight=0.5")
    _, err = call(work_dir, "train", "drai", *given, status=1)
    assert "kl_weight was 0.1, is now 0.5" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("flag", "expected", "status"),
    [
        ("--dataset=imagenet", ["imagenet", "ham10000", "skin_phantom"], 1),
        ("--dataset=ham10000", ["doi.org", "skin_phantom"], 1),
        ("--dataset=brain_phantom", ["brain_phantom", "skin_phantom"], 1),
        ("--preset=huge", ["huge", "quick, small, paper"], 1),
        ("--model=gan", ["--model=gan", "drai, cinfogan"], 1),
        ("--set=colour=1", ["colour", "content_dim"], 1),
        ("--set=style_dim=many", ["style_dim", "int", "many"], 1),
        ("--set=image_size=20", ["power of two", "20"], 1),
        ("--data=colour=1", ["colour", "num_train"], 1),
        ("--data=size=32", ["--set=image_size"], 1),
        ("--epochs=1", ["--steps or --epochs"], 1),
        ("--steps=0", ["steps", "0"], 1),
        ("--colour=1", ["colour"], 2),
        ("--set=colour", ["--set=name=value"], 2),
    ],
)
def test_a_wrong_value_ends_in_one_message_that_says_what_is_valid(flag, expected, status, tmp_path):
    given = flags(tmp_path / "data", "--steps=2", flag, data=())
    _, err = call(tmp_path, "train", "drai", *given, status=status)
    assert err.count("error:") == 1 and "Traceback" not in err
    for text in expected:
        assert text.lower() in err.lower(), err
    assert not list(tmp_path.iterdir())  # said before anything is prepared


def test_the_flags_of_a_run_repeat_it(whole):
    work_dir, _ = whole
    out, _ = call(work_dir, "train", "drai", "--flagfile=r/flags.txt", "--run_dir=again", "--noexport")
    assert "starting, 12 steps" in out
    assert newest_checkpoint(work_dir / "r") == newest_checkpoint(work_dir / "again")
    first, again = (json.loads((work_dir / name / "config.json").read_text()) for name in ("r", "again"))
    assert first == again


def test_a_notebook_does_in_five_lines_what_the_command_does(whole, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"num_train": 48, "num_test": 30}
    tiny = {"batch_size": 8, "steps": 12, "num_samples": 30, "checkpoint_every": 4, "changes": NARROW}
    run = prepare(Settings(system="drai", dataset="skin_phantom", data_dir=str(data_dir), data=data, **tiny))
    fit(run)
    metrics = evaluate(run)
    path = export(run)
    work_dir, _ = whole
    run_dir = tmp_path / "runs/drai-skin_phantom-quick-seed0"
    assert newest_checkpoint(run_dir) == newest_checkpoint(work_dir / "r")
    assert metrics == json.loads((work_dir / "r/metrics.json").read_text())
    assert path == pathlib.Path("saved_models/drai-skin_phantom/1") and (path / "saved_model.pb").is_file()


def test_a_run_is_exported_without_being_evaluated(data_dir, tmp_path):
    changes = {"batch_size": 8, "steps": 1, "data": {"num_train": 48, "num_test": 30}, "changes": NARROW}
    folders = {"run_dir": str(tmp_path / "r"), "export_dir": str(tmp_path / "m"), "data_dir": str(data_dir)}
    run = prepare(Settings(system="drai", **changes, **folders))
    fit(run)
    card = json.loads((export(run) / "card.json").read_text())
    assert card["training"]["steps"] == 1 and card["summary"] == "Not evaluated."


def test_a_trained_run_opens_with_its_settings_and_is_measured_on_other_data(whole, data_dir):
    work_dir, _ = whole
    before = (work_dir / "r/metrics.json").read_bytes()
    run = open_run(str(work_dir / "r"))
    assert run.state["step"] == 12 and run.settings.steps == 12
    assert run.settings.changes == NARROW | {"batch_size": 8}
    assert run.settings.data_dir == str(data_dir)
    _, err = call(work_dir, "evaluate", "--run_dir=r", "--dataset=nodule_phantom", status=1)
    assert "channels" in err and "Traceback" not in err
    out, _ = call(work_dir, "evaluate", "--run_dir=r", "--num_samples=20")
    assert "evaluation" in out
    assert json.loads((work_dir / "r/metrics.json").read_text())["inception_score"]["n"] == 20
    files.write_text(work_dir / "r/metrics.json", before.decode())


def test_another_split_is_measured_beside_the_run_and_judged_by_the_same_networks(whole, monkeypatch):
    work_dir, _ = whole
    given = {}

    def evaluate_run(model, read, manifest, **settings):
        given.update(settings, examples=len(read("test")))
        return {"inception_score": entry(2.0, 48, "of the split")}, []

    evaluation = catalogue.evaluation("drai")._replace(evaluate_run=evaluate_run, headline=str)
    monkeypatch.setattr(catalogue, "evaluation", lambda system: evaluation)
    before = (work_dir / "r/metrics.json").read_bytes()
    call(work_dir, "evaluate", "--run_dir=r", "--split=train")
    assert given["examples"] == 48  # those of the training split, of which there are 30 to test
    assert given["judge_directory"] == pathlib.Path("r/judges")
    assert json.loads((work_dir / "r/on-train/metrics.json").read_text())["inception_score"]["value"] == 2.0
    assert "split train" in (work_dir / "r/on-train/report.html").read_text()
    assert list((work_dir / "r/on-train/tensorboard").iterdir())
    assert (work_dir / "r/metrics.json").read_bytes() == before
    _, err = call(work_dir, "evaluate", "--run_dir=r", "--split=val", status=1)
    assert "val" in err and not (work_dir / "r/on-val").exists()


def test_a_run_and_its_export_are_described(whole):
    work_dir, _ = whole
    out, _ = call(work_dir, "info", "r", "saved_models/drai-skin_phantom")
    for words in (
        "drai of system drai, preset quick",
        "skin_phantom (num_train=48, num_test=30)",
        "12 of 12",
        "step 12, saved_models/drai-skin_phantom/1",
        "model saved_models/drai-skin_phantom/1",
        "DRAI on skin_phantom",
    ):
        assert words in out
    metrics = json.loads((work_dir / "r/metrics.json").read_text())
    assert all(f"  {name} " in out for name in metrics)


@pytest.mark.parametrize(
    "count, augmentation, words",
    [(9, "", ["9 subjects", "--set=augmentation=mirror"]), (1, "flip", ["1 subject to"]), (10, "", [])],
)
def test_fewer_than_ten_training_subjects_are_warned_of(count, augmentation, words):
    subjects = [f"s{k}" for k in range(count)]
    given = SimpleNamespace(split={"train": {"subjects": subjects}}.get), SimpleNamespace(augmentation=augmentation)
    warning = few_subjects(*given)
    assert bool(warning) == bool(words) and all(word in warning for word in words)
    assert ("--set" in warning) == (bool(words) and not augmentation)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder of a run, received .*config.json is missing"):
        open_run(str(tmp_path))


def test_a_run_of_an_older_version_continues_to_open(whole, tmp_path):
    """Older runs do not name the model, and lack fields that configs have since."""
    import shutil

    run_dir = shutil.copytree(whole[0] / "r", tmp_path / "r")
    record = json.loads((run_dir / "config.json").read_text())
    del record["model"], record["config"]["balance_classes"]
    files.write_json(run_dir / "config.json", record)
    (run_dir / "flags.txt").write_text((run_dir / "flags.txt").read_text() + "--mode=train\n")
    run = open_run(str(run_dir))
    assert run.settings.model == "drai" and run.state["step"] == 12
    prepare(run.settings)
