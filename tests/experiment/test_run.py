"""The training command, from flags to report and export, and what it does when interrupted."""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import pytest

from tfdisent.experiment import run

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = [
    "--dataset=skin_phantom",
    "--preset=quick",
    "--batch_size=8",
    "--checkpoint_every=4",
    "--sample_every=8",
    "--num_samples=30",
    *(
        f"--set={name}={value}"
        for name, value in {
            "image_size": 16,
            "content_dim": 4,
            "style_dim": 4,
            "generator_filters": 4,
            "encoder_filters": 4,
            "discriminator_filters": 4,
            "condition_units": 4,
            "code_units": 8,
            "joint_units": 8,
            "regressor_units": 8,
        }.items()
    ),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared by the first command."""
    return tmp_path_factory.mktemp("data")


def start(data_dir, work_dir, *arguments, data=("num_train=48", "num_test=30")):
    """The command in a process of its own, working in `work_dir`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow"}
    options = [f"--data_dir={data_dir}", *(f"--data={option}" for option in data)]
    command = [sys.executable, "-m", "train.drai", *options, *TINY, *arguments]
    return subprocess.Popen(
        command,
        cwd=work_dir,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process, status=0):
    """What the command printed, once it has ended as expected."""
    out, err = process.communicate(timeout=280)
    assert process.returncode == status, out + err
    return out, err


def newest_checkpoint(run_dir):
    folder = sorted((run_dir / "checkpoints").glob("step-*"))[-1]
    return folder.name, json.loads((folder / "state.json").read_text())["sha256"]


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    """An unbroken run of 12 steps."""
    work_dir = tmp_path_factory.mktemp("whole")
    out, _ = finish(start(data_dir, work_dir, "--steps=12", "--run_dir=r"))
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


def test_augmenting_takes_the_trained_run_and_leaves_its_results(whole, data_dir):
    work_dir, _ = whole
    before = (work_dir / "r/metrics.json").read_bytes()
    given = ["--steps=12", "--run_dir=r", "--mode=augment", "--augment_to=20"]
    out, _ = finish(start(data_dir, work_dir, *given))
    assert "12 of 12 steps are done" in out
    assert "to be added to the real ones: 4 " in out
    assert (work_dir / "r/synthetic/manifest.json").is_file()
    assert (work_dir / "r/report-augmentation.html").is_file()
    assert (work_dir / "r/metrics.json").read_bytes() == before
    assert not (work_dir / "saved_models/drai-skin_phantom/2").exists()

    given[-1] = "--augment_to=2"
    _, err = finish(start(data_dir, work_dir, *given), status=1)
    assert "nothing to add" in err and "Traceback" not in err


def test_killed_twice_it_ends_with_the_same_state_as_unbroken(whole, data_dir, tmp_path):
    work_dir, _ = whole
    run_dir = tmp_path / "r"
    # It would take 10,000 steps; kill -9 after the first checkpoint.
    process = start(data_dir, tmp_path, "--steps=10000", "--run_dir=r")
    deadline = time.monotonic() + 200
    while not list(run_dir.glob("checkpoints/step-*/state.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    step = int(newest_checkpoint(run_dir)[0].removeprefix("step-"))
    if step >= 12:
        pytest.skip(f"this machine did {step} steps before the kill arrived")
    out, _ = finish(start(data_dir, tmp_path, "--steps=12", "--run_dir=r"))
    assert f"continuing after step {step}" in out

    name, checksum = newest_checkpoint(run_dir)
    assert (name, checksum) == newest_checkpoint(work_dir / "r") or same_weights(run_dir, work_dir / "r")
    with (run_dir / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))


def same_weights(a, b):
    """HDF5 files may differ in bytes with equal content."""
    import h5py
    import numpy as np

    files = [h5py.File(sorted((run_dir / "checkpoints").glob("step-*"))[-1] / "model.weights.h5") for run_dir in (a, b)]
    arrays = [{}, {}]
    for file, found in zip(files, arrays, strict=True):
        file.visititems(
            lambda name, item, found=found: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
    return arrays[0].keys() == arrays[1].keys() and all(np.array_equal(arrays[0][k], arrays[1][k]) for k in arrays[0])


def test_sigterm_saves_and_leaves_and_says_how_to_go_on(data_dir, tmp_path):
    process = start(data_dir, tmp_path, "--steps=10000", "--run_dir=r")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("r/checkpoints/step-*/state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process, status=run.STOPPED)
    assert "the same command continues there" in out
    step = int(out.split("after step ")[-1].split(";")[0])
    assert newest_checkpoint(tmp_path / "r")[0] == f"step-{step:08d}"


def test_with_nothing_left_to_do_it_only_evaluates(whole, data_dir):
    work_dir, _ = whole
    before = newest_checkpoint(work_dir / "r")
    out, _ = finish(start(data_dir, work_dir, "--steps=12", "--run_dir=r"))
    assert "only evaluating" in out and "exported already" in out
    assert newest_checkpoint(work_dir / "r") == before


def test_other_settings_in_the_same_folder_are_refused_by_name(whole, data_dir):
    work_dir, _ = whole
    _, err = finish(start(data_dir, work_dir, "--steps=12", "--run_dir=r", "--set=kl_weight=0.5"), status=1)
    assert "kl_weight was 0.1, is now 0.5" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--dataset=imagenet", ["imagenet", "ham10000", "skin_phantom"]),
        ("--dataset=ham10000", ["doi.org", "skin_phantom"]),
        ("--preset=huge", ["huge", "quick, small, paper"]),
        ("--model=gan", ["--model=gan", "drai, cinfogan"]),
        ("--set=colour=1", ["colour", "content_dim"]),
        ("--set=style_dim=many", ["style_dim", "int", "many"]),
        ("--set=image_size=20", ["power of two", "20"]),
        ("--data=colour=1", ["colour", "num_train"]),
        ("--data=size=32", ["--set=image_size"]),
        ("--colour=1", ["colour"]),
        ("--steps=0", ["steps", "0"]),
    ],
)
def test_a_wrong_value_ends_in_one_message_that_says_what_is_valid(flag, expected, data_dir, tmp_path):
    _, err = finish(start(data_dir, tmp_path, "--steps=2", flag, data=()), status=1)
    assert "Traceback" not in err
    for text in expected:
        assert text.lower() in err.lower(), err


def test_settings_take_the_types_of_their_fields():
    from tfdisent.systems.drai import DRAIConfig

    assignments = [
        "style_dim=8",
        "learning_rate=2e-4",
        "train_twice=false",
        "style_margin=none",
        "initializer=normal",
    ]
    assert run.parse_settings(DRAIConfig, assignments) == {
        "style_dim": 8,
        "learning_rate": 2e-4,
        "train_twice": False,
        "style_margin": None,
        "initializer": "normal",
    }
    assert run.parse_settings(DRAIConfig, ["style_margin=0.5"]) == {"style_margin": 0.5}


def test_a_size_may_be_one_number_or_two_and_what_fits_no_type_names_them_all():
    @dataclasses.dataclass
    class Config:
        image_size: int | tuple[int, int] = 32

    assert run.parse_settings(Config, ["image_size=64"]) == {"image_size": 64}
    assert run.parse_settings(Config, ["image_size=192,160"]) == {"image_size": (192, 160)}
    with pytest.raises(ValueError, match=r"int or tuple\[int, int\], received 'big'"):
        run.parse_settings(Config, ["image_size=big"])
