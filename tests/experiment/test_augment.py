"""Synthetic images: a prepared data set of its own, whole or not there, and what it brings to a classifier."""

import dataclasses
import functools
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import NARROW
from tfdisent import data
from tfdisent.baselines.drai import CInfoGAN
from tfdisent.data import Manifest
from tfdisent.datasets import preparation, shards
from tfdisent.datasets.phantom import NodulePhantom, SkinPhantom
from tfdisent.evaluation import augmentation as measured
from tfdisent.experiment import Run, Settings, augment, augmentation, catalogue
from tfdisent.systems.drai import DRAI, DRAIConfig

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")


@dataclasses.dataclass(frozen=True)
class Imbalanced(SkinPhantom):
    """So many training images of each class: bkl, mel, nv."""

    counts: tuple[int, ...] = (2, 3, 6)

    def splits(self, raw_dir):
        splits = super().splits(raw_dir)
        train = [unit for k, n in enumerate(self.counts) for unit in splits["train"][k::3][:n]]
        return {**splits, "train": train}


def prepared(directory, **options):
    dataset = Imbalanced(**{"size": 16, "num_train": 30, "num_test": 12, **options})
    folder = preparation.prepare(dataset, directory, workers=1)
    return folder, Manifest.read(folder)


def model_of(manifest, kind=DRAI):
    height, _, channels = manifest.image_shape
    config = {"channels": channels, "num_conditions": len(manifest.condition_names)}
    model = kind(DRAIConfig(**NARROW, **config), seed=0)
    model.compile()
    return model


def run_of(model, source, run_dir="r", **fields):
    """A run of 7 steps by an untrained model."""
    settings = Settings(system="drai", dataset="skin_phantom")
    evaluation = catalogue.evaluation("drai")
    run = Run(settings, settings.method, evaluation, *source, pathlib.Path(run_dir), model, {"step": 7, "seconds": 1.0})
    return dataclasses.replace(run, **fields)


def generating(generate):
    """The evaluation with another generator of images."""
    return catalogue.evaluation("drai")._replace(generate=generate)


def call(model, source, output, **options):
    """Writes synthetic images by a tiny, untrained model."""
    augmentation.synthesize(run_of(model, source), output, **options)
    return output


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(source):
    return model_of(source[1])


@pytest.fixture(scope="module")
def whole(source, model, tmp_path_factory):
    return call(model, source, tmp_path_factory.mktemp("whole") / "synthetic")


def everything(folder):
    """All records of both splits, with keys and subjects."""
    return {
        split: next(
            data.load(
                folder, split, batch_size=100, shuffle=False, drop_remainder=False, metadata=True
            ).as_numpy_iterator()
        )
        for split in augmentation.splits_of(folder)
    }


def same(a, b):
    return all(np.array_equal(a[split][name], b[split][name]) for split in a for name in a[split]) and list(a) == list(
        b
    )


def test_with_the_real_images_each_class_has_as_many_as_the_most_frequent(whole):
    made = Manifest.read(whole)
    assert made.split("train")["label_counts"] == {"bkl": 4, "mel": 3, "nv": 0}
    assert made.split("rest")["label_counts"] == {"bkl": 2, "mel": 3, "nv": 6}
    records = everything(whole)["train"]
    assert np.bincount(records["label"], minlength=3).tolist() == [4, 3, 0]
    assert (records["condition"] == np.eye(3)[records["label"]]).all()
    assert records["image"].shape == (7, 16, 16, 3) and np.ptp(records["image"]) > 0


def test_it_is_a_data_set_like_its_source_that_names_no_subject_of_it(whole, source):
    made, given = Manifest.read(whole), source[1]
    for name in ("labels", "condition_names", "image_shape", "image_dtype", "modalities"):
        assert getattr(made, name) == getattr(given, name)
    assert made.dataset == "skin_phantom_synthetic"
    shards.verify(whole)
    subjects = [s for split in made.splits.values() for s in split["subjects"]]
    assert sorted(subjects) == [f"synthetic-{k:06d}" for k in range(18)]
    text = (whole / "manifest.json").read_text()
    assert not any(subject in text for subject in given.split("train")["subjects"])
    records = everything(whole)
    assert {key.decode() for split in records.values() for key in split["key"]} == set(subjects)


def test_it_says_where_it_is_from_and_what_it_is_not_for(whole):
    made = Manifest.read(whole)
    for text in ("run r", "step 7", "seed 0", "commit", "must not be used for diagnosis"):
        assert text in made.description
    assert made.options["weights"] and made.options["step"] == 7 and made.options["commit"]


def test_the_command_writes_images_with_a_sheet_and_a_report_and_finds_them_done(
    source, model, tmp_path, monkeypatch, capsys
):
    few = functools.partial(measured.compare, seeds=[0], steps=1)
    monkeypatch.setattr(measured, "compare", few)
    run_dir = tmp_path / "r"
    run_dir.mkdir()
    run = run_of(model, source, run_dir)
    output = augment(run)
    assert output == run_dir / "synthetic"
    assert (output / "samples.png").read_bytes().startswith(b"\x89PNG")
    page = (run_dir / "report-augmentation.html").read_text()
    assert "Synthetic images" in page and "must not be used for diagnosis" in page
    metrics = json.loads((run_dir / "augmentation.json").read_text())["metrics"]
    assert {"balanced_accuracy_real", "gain_over_real_and_repeated"} <= metrics.keys()
    names = ["augmentation.json", "report-augmentation.html", "synthetic"]

    def written():
        return {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.name != ".lock"}

    assert sorted(path.name for path in written() if path.parent == run_dir) == names
    before = written()
    capsys.readouterr()
    augment(run)
    said = capsys.readouterr().out
    assert "there already" in said and "done already" in said
    assert written() == before


def test_the_same_seed_gives_the_same_images_and_another_seed_others(whole, source, model, tmp_path):
    again = call(model, source, tmp_path / "again")
    other = call(model, source, tmp_path / "other", seed=1)
    assert same(everything(whole), everything(again))
    assert not same(everything(whole), everything(other))


def test_images_are_those_of_the_averaged_weights(source, model, tmp_path):
    generated = []

    def generate(model, conditions, rng):
        generated.append(keras.ops.convert_to_numpy(model.generator.trainable_variables[0]))
        return np.zeros((len(conditions), 16, 16, 3), "float32")

    run = run_of(model, source, evaluation=generating(generate))
    variable = model.generator.trainable_variables[0]
    trained = variable.numpy()
    variable.assign(trained + 1)
    try:
        real = augmentation.examples_of(source[0], "train")
        list(augmentation._generated(run, real, np.array([0, 1]), seed=0))
    finally:
        variable.assign(trained)
    assert np.array_equal(generated[0], trained)


def test_hounsfield_units_come_back_as_the_image_that_was_generated(tmp_path):
    dataset = NodulePhantom(size=16, num_train=11, num_test=8, window=(-1000.0, 400.0))
    folder = preparation.prepare(dataset, tmp_path, workers=1)
    manifest = Manifest.read(folder)
    model, generated = model_of(manifest), []

    def generate(*arguments):
        generated.append(catalogue.evaluation("drai").generate(*arguments))
        return generated[-1]

    run = run_of(model, (folder, manifest), evaluation=generating(generate))
    output = tmp_path / "synthetic"
    augmentation.synthesize(run, output, per_class=8)
    records = everything(output)
    made = np.concatenate([records[split]["image"] for split in augmentation.SPLITS])
    keys = np.concatenate([records[split]["key"] for split in augmentation.SPLITS])
    level = 2 / 1400  # of one HU
    np.testing.assert_allclose(made[np.argsort(keys)], generated[0], atol=0.51 * level)
    assert (records["train"]["intensity"][:, 0, :2] == (-1000, 400)).all()
    real = data.as_arrays(folder, "train")
    for label, condition in zip(records["train"]["label"], records["train"]["condition"], strict=True):
        assert (real["condition"][real["label"] == label] == condition).all(axis=1).any()


def test_each_level_of_a_byte_comes_back():
    levels = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    images = levels.astype("float32") / 127.5 - 1
    low, high = np.zeros((1, 1)), np.full((1, 1), 255.0)
    assert (augmentation.to_stored(images, low, high, "uint8") == levels).all()


def test_a_model_that_infers_no_content_serves_too(source, tmp_path):
    output = call(model_of(source[1], CInfoGAN), source, tmp_path / "synthetic")
    assert Manifest.read(output).split("train")["num_examples"] == 7


def test_a_class_without_training_images_is_left_out_by_name(tmp_path, capsys):
    source = prepared(tmp_path, counts=(2, 0, 4))
    output = call(model_of(source[1]), source, tmp_path / "synthetic")
    assert "class mel has no training image" in capsys.readouterr().out
    made = Manifest.read(output)
    assert made.split("train")["label_counts"] == {"bkl": 2, "mel": 0, "nv": 0}
    assert made.split("rest")["label_counts"] == {"bkl": 2, "mel": 0, "nv": 4}
    assert "Left out, as without training images: mel" in made.description


def test_a_class_that_has_as_many_as_asked_for_gets_none(source):
    assert augmentation.additions(source[1], 3) == {"bkl": 1, "mel": 0, "nv": 0}
    assert augmentation.additions(source[1], 8) == {"bkl": 6, "mel": 5, "nv": 2}


@pytest.mark.parametrize("per_class", [1, 2])
def test_where_nothing_is_to_be_added_the_numbers_are_told(per_class, source, model, tmp_path):
    with pytest.raises(ValueError, match="bkl 2, mel 3, nv 6 .* more than 2 per class"):
        call(model, source, tmp_path / "synthetic", per_class=per_class)
    assert not list(tmp_path.iterdir())


def test_balanced_data_ask_for_a_number(tmp_path):
    with pytest.raises(ValueError, match="There is nothing to add"):
        augmentation.additions(prepared(tmp_path, counts=(2, 2, 2))[1])


def test_data_without_labels_or_test_split_are_refused(source, model, tmp_path):
    folder, manifest = source
    train = manifest.splits["train"]
    untested = dataclasses.replace(manifest, splits={"train": train})
    with pytest.raises(ValueError, match="no split 'test'"):
        augment(run_of(model, (folder, untested), tmp_path / "r"))
    splits = {"train": {**train, "label_counts": {}}}
    with pytest.raises(ValueError, match="skin_phantom has none"):
        augmentation.additions(dataclasses.replace(manifest, splits=splits))
    assert {path.name for path in tmp_path.rglob("*")} <= {"r", ".lock"}  # of its run folder, which was to be locked


def test_other_images_and_other_files_are_not_overwritten(whole, source, model, tmp_path):
    with pytest.raises(ValueError, match=r"per_class was 6, is now 9.*Delete it"):
        call(model, source, whole, per_class=9)
    (tmp_path / "mine.txt").write_text("mine")
    for output in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ValueError, match="holds something else"):
            call(model, source, output)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named_before_anything_is_generated(source, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written to .*file/synthetic.*another folder"):
        call(model, source, tmp_path / "file" / "synthetic")


def test_a_full_disk_leaves_nothing_behind(source, model, tmp_path, monkeypatch):
    def write(self, record):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", write)
    with pytest.raises(OSError, match=r"r/synthetic: .*No space left on device") as caught:
        call(model, source, tmp_path / "r" / "synthetic")
    assert "goes on" not in str(caught.value)
    assert not list((tmp_path / "r").iterdir())


def test_images_that_are_not_finite_are_not_written(source, model, tmp_path):
    def generate(model, conditions, rng):
        return np.full((len(conditions), 16, 16, 3), np.nan, "float32")

    run = run_of(model, source, evaluation=generating(generate))
    with pytest.raises(ArithmeticError, match="not finite"):
        augmentation.synthesize(run, tmp_path / "r")
    assert not list(tmp_path.iterdir())
