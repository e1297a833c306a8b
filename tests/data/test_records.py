import dataclasses
import json

import numpy as np
import pytest

from tfdisent.data.records import Manifest, complete, encode, parse
from tfdisent.datasets.shards import verify

MANIFEST = Manifest(
    "toy",
    "1.0.0",
    (4, 4, 1),
    labels=("a", "b"),
    condition_names=("a", "b"),
    mask_labels=("no", "yes"),
)


def example(**changes):
    given = {
        "key": "k",
        "subject": "s",
        "image": np.arange(16, dtype=np.uint8).reshape(4, 4, 1),
        "mask": np.zeros((4, 4, 1), np.uint8),
        "label": "b",
    }
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def stored(builder, folder):
    """Every example the builder gave, as written, by key."""
    manifest = Manifest.read(folder)
    units = [unit for units in builder.splits(None).values() for unit in units]
    given = [{**e, "subject": unit.subject} for unit in units for e in builder.examples(unit)]
    return {e["key"]: complete(e, manifest) for e in given}


def test_records_of_every_dtype_come_back_as_they_went_in(volumes):
    builder, folder = volumes
    manifest, expected = Manifest.read(folder), stored(*volumes)
    for want in expected.values():
        got = {name: value[0] for name, value in parse([encode_completed(want, manifest)], manifest).items()}
        assert got.keys() == want.keys() == manifest.features.keys()
        for name, value in got.items():
            if isinstance(want[name], bytes):
                assert value.numpy() == want[name]
            else:
                assert value.numpy().dtype == want[name].dtype
                np.testing.assert_array_equal(value, want[name])


def encode_completed(completed, manifest):
    return encode({k: v.decode() if isinstance(v, bytes) else v for k, v in completed.items()}, manifest)


def test_tensorflow_datasets_reads_the_shards(volumes):
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    expected = stored(*volumes)
    reader = tfds.builder_from_directory(str(volumes[1]))
    assert {name: split.num_examples for name, split in reader.info.splits.items()} == {
        "train": 15,
        "test": 5,
    }
    seen = 0
    for split in ("train", "test"):
        for got in tfds.as_numpy(reader.as_dataset(split=split)):
            want = expected[got["key"].decode()]
            for name, value in got.items():
                np.testing.assert_array_equal(value, want[name])
            seen += 1
    assert seen == len(expected)


def test_the_manifest_survives_json(volumes):
    manifest = verify(volumes[1])
    entries = json.loads(manifest.to_json())
    assert entries["format"] == 2
    assert manifest.extra_features["affine"].shape == (4, 4)
    assert manifest.labels == ("ill", "well")
    assert manifest.splits["train"]["label_counts"] == {"ill": 10, "well": 5}


def test_label_gives_a_one_hot_condition_and_image_gives_its_statistics():
    got = complete(example(), MANIFEST)
    np.testing.assert_array_equal(got["condition"], [0, 1])
    np.testing.assert_allclose(got["intensity"][0, :4], [0, 15, 7.5, np.arange(16).std()], rtol=1e-6)
    assert got["num_slices"] == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image": np.zeros((4, 4, 1))}, "dtype float64, expected uint8"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, r"shape \(4, 4, 3\), expected \(4, 4, 1\)"),
        ({"image": None}, "lacks image"),
        ({"mask": np.full((4, 4, 1), 2, np.uint8)}, "mask holds 2, expected 0 to 1"),
        ({"mask": np.zeros((4, 3, 1), np.uint8)}, "mask has shape"),
        ({"label": "c"}, "unknown label 'c', expected one of a, b"),
        ({"label": 2, "condition": np.zeros(2)}, "label holds 2"),
        ({"condition": np.array([np.nan, 1])}, "condition holds 1 values that are not finite"),
        ({"flow": 1}, "flow, which the manifest does not declare"),
    ],
)
def test_a_bad_example_is_an_error_that_says_what_was_expected(changes, message):
    with pytest.raises(ValueError, match=message):
        encode(example(**changes), MANIFEST)


def test_float64_images_cannot_be_declared():
    with pytest.raises(ValueError, match="float64"):
        dataclasses.replace(MANIFEST, image_dtype="float64")


def test_a_missing_or_invalid_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="datasets.build"):
        Manifest.read(tmp_path)
    for text in ("{", "[]", '{"format": 3}', json.dumps({"format": 2, "dataset": "x"}), "[" * 100_000, "\x00"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="manifest.json is not a valid manifest"):
            Manifest.read(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b'{"format": "\xff"}')
    with pytest.raises(ValueError, match="manifest.json is not a valid manifest"):
        Manifest.read(tmp_path)


def test_manifests_of_earlier_versions_are_refused(volumes, tmp_path):
    text = (volumes[1] / "manifest.json").read_text().replace('"format": 2', '"format": 1')
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(
        ValueError, match="its format is 1, this version of tfdisent reads 2.* prepare the data set again"
    ):
        Manifest.read(tmp_path)
