"""A system that brings its own stream of batches, of two domains at once, and its own validation."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdisent import examples, experiment
from tfdisent.evaluation import unified
from tfdisent.experiment.run import _loader, require_trend, select
from tfdisent.systems.unified import Unified

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend is enough for the command")


class TwoScanners(Unified):
    """Trains on two slices of one scanner beside two of the other; validated on the test split."""

    def stream(self, load, start_step):
        def of(scanner):
            batches = load("train", batch_size=1).filter(lambda batch: batch["domain"][0] == scanner)
            return batches.unbatch().batch(2, drop_remainder=True)

        def beside(a, b):
            return {name: tf.concat([a[name], b[name]], axis=0) for name in ("image", "domain")}

        return tf.data.Dataset.zip(of(0), of(1)).map(beside).skip(start_step)

    def validation(self, load):
        return load("test", repeat=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    settings = experiment.Settings(
        system="unified",
        data_dir=str(folder / "data"),
        run_dir=str(folder / "run"),
        steps=5,
        batch_size=4,
        sample_every=2,
        gradient_every=3,
        changes={"image_size": 32, "filters": 2, "discriminator_filters": 2},
        data={
            "num_train": 4,
            "num_test": 2,
            "num_val": 2,
            "slices_per_subject": 2,
            "scanners": ("scanner_a", "scanner_b"),
        },
    )
    run = experiment.prepare(settings)
    model = TwoScanners(run.config, seed=0)
    model.compile()
    return dataclasses.replace(run, model=model)


def test_each_batch_holds_both_domains_and_a_resumed_stream_continues_exactly(run):
    batches = list(run.model.stream(_loader(run), 0).take(4).as_numpy_iterator())
    assert all(batch["domain"].tolist() == [0, 0, 1, 1] for batch in batches)
    (third,) = run.model.stream(_loader(run), 2).take(1).as_numpy_iterator()
    np.testing.assert_array_equal(third["image"], batches[2]["image"])
    assert not np.array_equal(batches[0]["image"], batches[1]["image"])


def test_a_run_trains_on_the_stream_to_its_last_step_and_validates_between(run):
    experiment.fit(run)
    assert run.state["step"] == 5
    with (run.run_dir / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [2, 4, 5]
    assert {"translation", "d_adversarial"} <= rows[0].keys()
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_shares_of_the_gradient_are_measured_between_on_the_first_batch_and_shown(run):
    rows = (run.run_dir / "gradients.csv").read_text().splitlines()
    names, *values = [row.split(",") for row in rows]
    assert [int(row[0]) for row in values] == [3, 5]
    last = dict(zip(names[1:], map(float, values[-1][1:]), strict=True))
    generators = {"translation", "cycle", "disentanglement", "g_adversarial", "g_modality"}
    assert last.keys() == generators | {"d_adversarial", "d_modality"}
    assert sum(last[name] for name in generators) == pytest.approx(1, abs=1e-4)
    (batch,) = run.model.stream(_loader(run), 0).take(1).as_numpy_iterator()
    assert run.model.gradient_shares(batch) == pytest.approx(last, abs=1e-3)


def test_translations_of_the_validation_split_are_measured_between_and_the_best_checkpoint_is_kept(run):
    with (run.run_dir / "trend.csv").open(newline="") as file:
        rows = {int(row["step"]): float(row["ssim_brain"]) for row in csv.DictReader(file)}
    assert list(rows) == [2, 4, 5] and all(0 < value < 1 for value in rows.values())
    best = max(rows, key=rows.get)
    assert [path.name for path in (run.run_dir / "best").iterdir()] == [f"step-{best:08d}"]
    chosen = dataclasses.replace(run, settings=dataclasses.replace(run.settings, select="best"))
    last = keras.ops.convert_to_numpy(chosen.model.encoder.weights[0])
    select(chosen)
    assert chosen.state["step"] == best
    found = unified.trend(chosen.model, run.examples("val"))
    assert found["ssim_brain"] == pytest.approx(rows[best], abs=1e-5)
    if best < 5:
        assert not np.array_equal(keras.ops.convert_to_numpy(chosen.model.encoder.weights[0]), last)


def test_what_cannot_be_chosen_is_said_before_training(run):
    without = dataclasses.replace(run.manifest, splits={"train": {}, "test": {}})
    with pytest.raises(ValueError, match="on the split val, which brain_phantom does not have"):
        require_trend("unified", without)
    with pytest.raises(ValueError, match="margin is not measured while it trains"):
        require_trend("margin", run.manifest)


def test_systems_train_on_the_training_split_without_validation_by_default(run):
    calls = []
    model = Unified(run.config)
    model.stream(lambda split, **changes: calls.append((split, changes)), 3)
    assert calls == [("train", {"start_step": 3})]
    assert model.validation(None) is None


@pytest.mark.parametrize("held", [True, False])
def test_examples_of_a_prepared_folder_are_read_and_shuffled_each_once(run, monkeypatch, held):
    if not held:
        monkeypatch.setattr(examples, "HELD_BYTES", 1)
    train = run.examples("train")
    assert len(train) == 8 and train["subject"].shape == (8,) and train["available"].shape == (8, 4)
    images = train.take(np.arange(8))["image"]
    batches = list(train.select().epoch(3, seed=(0, 0)))
    assert [len(items) for items, _ in batches] == [3, 3, 2]
    items = np.concatenate([items for items, _ in batches])
    assert sorted(items.tolist()) == list(range(8)) != items.tolist()
    np.testing.assert_array_equal(np.concatenate([columns["image"] for _, columns in batches]), images[items])
