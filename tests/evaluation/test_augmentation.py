"""Four sets of the right images, scores with known answers, and a comparison that tells good images from bad."""

import json
import pathlib

import keras
import numpy as np
import pytest

from tfdisent.evaluation import augmentation
from tfdisent.examples import Examples

NAMES = ["bkl", "mel", "nv"]


def images_of(labels, values=(-0.8, 0.0, 0.8), size=8, seed=0):
    """Flat images whose grey level tells the class, with a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels, "int32")
    flat = np.asarray(values, "float32")[labels][:, None, None, None]
    noise = 0.05 * rng.standard_normal((len(labels), size, size, 1), dtype="float32")
    return {"image": flat + noise, "label": labels}


def repeated(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def test_the_sets_have_the_numbers_that_they_are_compared_by():
    real, synthetic = repeated(1, 2, 5), repeated(5, 5, 5)
    labels = np.concatenate([real, synthetic])
    sets = augmentation.training_sets(real, synthetic, NAMES)
    counts = {name: np.bincount(labels[rows]).tolist() for name, rows in sets.items()}
    assert counts == {
        "real": [1, 2, 5],
        "real_and_synthetic": [5, 5, 5],
        "real_and_repeated": [5, 5, 5],
        "synthetic_only": [5, 5, 5],
    }


def test_repeated_images_are_real_ones_and_added_ones_the_first_synthetic():
    sets = augmentation.training_sets(repeated(1, 3), repeated(4, 4), NAMES[:2])
    assert sets["real_and_repeated"].tolist() == [0, 1, 2, 3, 0, 0]
    assert sets["real_and_synthetic"].tolist() == [0, 1, 2, 3, 4, 5]
    assert sets["synthetic_only"].tolist() == [4, 5, 6, 8, 9, 10]


def test_a_class_that_has_more_keeps_its_images():
    real, synthetic = repeated(1, 6), repeated(3, 3)
    labels = np.concatenate([real, synthetic])
    sets = augmentation.training_sets(real, synthetic, NAMES[:2], per_class=3)
    assert np.bincount(labels[sets["real_and_synthetic"]]).tolist() == [3, 6]
    assert np.bincount(labels[sets["real_and_repeated"]]).tolist() == [3, 6]
    assert np.bincount(labels[sets["synthetic_only"]]).tolist() == [3, 3]


def test_scores_of_answers_that_are_known():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 0, 1, 1, 1, 0, 2])
    scores = augmentation.classification_scores(10 * np.eye(3)[answers], labels, NAMES)
    assert scores["accuracy"] == pytest.approx(6 / 8)
    assert [scores[f"recall_{name}"] for name in NAMES] == [0.75, 1.0, 0.5]
    assert scores["balanced_accuracy"] == pytest.approx((0.75 + 1 + 0.5) / 3)
    # Of answers alone, the area is the mean of recall and specificity.
    areas = [(0.75 + 3 / 4) / 2, (1 + 5 / 6) / 2, (0.5 + 1) / 2]
    assert scores["macro_auc"] == pytest.approx(np.mean(areas))


def test_a_class_that_is_not_tested_has_no_recall_and_does_not_count():
    scores = augmentation.classification_scores(np.eye(3)[[0, 1]], np.array([0, 1]), NAMES)
    assert np.isnan(scores["recall_nv"])
    assert scores["balanced_accuracy"] == scores["macro_auc"] == 1


def test_always_the_frequent_class_is_accurate_but_not_balanced():
    labels = repeated(1, 9)
    logits = np.tile([0.0, 1.0], (10, 1))
    scores = augmentation.classification_scores(logits, labels, NAMES[:2])
    assert (scores["accuracy"], scores["balanced_accuracy"]) == (0.9, 0.5)
    assert scores["macro_auc"] == 0.5


needs_training = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the classifier has tests on each backend"
)


@needs_training
def test_false_synthetic_images_are_told_from_true_ones():
    """Synthetic images that show the other class: a classifier of them alone is always wrong."""
    metrics, (figure,) = augmentation.compare(
        Examples.of(images_of(repeated(6, 12, 0))),
        Examples.of(images_of(repeated(12, 12, 0), values=(0.0, -0.8, 0.8), seed=1)),
        Examples.of(images_of(repeated(10, 10, 5), seed=2)),
        NAMES,
        seeds=[3],
        steps=30,
    )
    json.dumps(metrics, allow_nan=False)
    assert metrics["balanced_accuracy_real_and_repeated"]["value"] == 1
    assert metrics["balanced_accuracy_synthetic_only"]["value"] == 0
    assert metrics["recall_bkl_real"]["n"] == 10
    assert "recall_nv_real" not in metrics
    entry = metrics["accuracy_real_and_synthetic"]
    assert entry["n"] == 20 and entry["std"] is None and len(entry["per_seed"]) == 1
    for text in ("12 bkl, 12 mel", "30 steps", "seeds 3", "without training images: nv"):
        assert text in entry["protocol"]
    gain = metrics["balanced_accuracy_real_and_synthetic"]["value"] - 1
    assert metrics["gain_over_real_and_repeated"]["value"] == pytest.approx(gain)
    assert figure.image.dtype == np.uint8 and "third" in figure.caption
    assert "one seed does not tell" in augmentation.headline(metrics)


def result(value, std):
    return {"value": value, "std": std}


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(0.30, "more than twice"), (0.03, "no clear difference"), (0.0, "no clear difference")],
)
def test_the_headline_does_not_praise_what_may_be_chance(gain, verdict):
    metrics = {f"balanced_accuracy_{method}": result(0.6, 0.02) for method in augmentation.METHODS}
    metrics |= {f"gain_over_{method}": result(gain, 0.02) for method in augmentation.METHODS[:3]}
    lines = augmentation.headline(metrics).splitlines()
    assert "real and synthetic 0.600 ± 0.020" in lines[0]
    assert all(verdict in line for line in lines[1:]) and len(lines) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"test": images_of([])}, "test split is empty"),
        ({"test": images_of([2])}, "test images of the classes"),
        ({"train": images_of([1, 1])}, "two classes to tell apart.*: mel"),
        ({"train": images_of([])}, "none"),
        ({"synthetic": images_of([0, 1])}, "at least 2 synthetic images of class bkl.*received 1"),
        ({"synthetic": images_of([0, 0, 0])}, "at least 1 synthetic images of class mel"),
        ({"seeds": [0, 0]}, r"different seeds, received \[0, 0\]"),
        ({"seeds": []}, "one or more different seeds"),
        ({"kind": "resnet"}, "resnet"),
    ],
)
def test_what_cannot_be_compared_is_said(changes, expected):
    arguments = {
        "train": images_of([0, 1, 1, 1]),
        "synthetic": images_of([0, 0, 1]),
        "test": images_of([0, 1]),
        "label_names": NAMES,
        "steps": 1,
    }
    with pytest.raises(ValueError, match=expected):  # noqa: PT012
        given = {**arguments, **changes}
        parts = {name: Examples.of(given.pop(name)) for name in ("train", "synthetic", "test")}
        augmentation.compare(**parts, **given)


@needs_training
def test_streamed_values_are_those_that_whole_arrays_gave():
    metrics, _ = augmentation.compare(
        Examples.of(images_of(repeated(3, 12, 8))),
        Examples.of(images_of(repeated(12, 12, 12), values=(-0.5, 0, 0.4), seed=1)),
        Examples.of(images_of(repeated(10, 10, 5), values=(-0.5, 0.1, 0.5), seed=2)),
        NAMES,
        seeds=[3],
        steps=20,
    )
    expected = json.loads((pathlib.Path(__file__).parent / "values.json").read_text())["augmentation"]
    for name, value in expected.items():
        assert metrics[name]["value"] == pytest.approx(value, abs=1e-6), name
