import itertools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdisent import files
from tfdisent.data import Manifest, annotated_subjects, as_arrays, load, pipeline
from tfdisent.datasets.phantom import AbdomenPhantom
from tfdisent.datasets.preparation import prepare

FACTORS = 15


def take(dataset, count):
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name])


def keys(batches):
    return [key for batch in batches for key in batch["key"].tolist()]


def epochs(stream):
    """The keys of the first two epochs, of 5 batches each."""
    batches = take(stream, 10)
    return keys(batches[:5]), keys(batches[5:])


@pytest.fixture
def many_blocks(monkeypatch):
    """As if the split were larger than what is shuffled at once: 5 blocks an epoch."""
    monkeypatch.setattr(pipeline, "BLOCK_BYTES", 14_000)


def test_batches_hold_what_training_needs(skin_folder):
    batch = take(load(skin_folder, batch_size=8), 1)[0]
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((8, 16, 16, 3), "float32"),
        "condition": ((8, 3), "float32"),
        "label": ((8,), "int32"),
        "factors": ((8, FACTORS), "float32"),
        "mask": ((8, 16, 16, 1), "uint8"),
    }
    assert -1 <= batch["image"].min() < batch["image"].max() <= 1
    np.testing.assert_array_equal(batch["condition"].argmax(1), batch["label"])


def test_other_dtypes_are_scaled_by_the_volume_and_modalities_bring_their_availability(volumes):
    batch = take(load(volumes[1], "test"), 1)[0]
    assert batch.keys() == {
        *("image", "condition", "label", "factors", "mask"),
        *("affine", "neighbours", "available", "domain"),
    }
    # Each of these volumes is one slice, so that its own extremes become -1 and 1; uint8 has fixed
    # ones.
    fixed = volumes[0].dtype == "uint8"
    highest = batch["image"].max((1, 2))
    assert (highest < 0.6).all() if fixed else (highest == 1).all()
    assert batch["image"].min() == -1 or fixed


def test_one_preparation_serves_every_normalization(volumes):
    stored = volumes[0].dtype
    raw = {
        name: take(load(volumes[1], "test", normalize=name, metadata=True), 1)[0]
        for name in ("volume", "percentile", "slice", "zscore")
    }
    for name, batch in raw.items():
        assert batch["image"].dtype == np.float32, name
    image = raw["zscore"]["image"]  # each of these volumes is one slice
    np.testing.assert_allclose(image.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(image.std((1, 2)), 1, atol=1e-5)
    own = raw["slice"]["image"]
    assert (own.min((1, 2)) == -1).all() and (own.max((1, 2)) == 1).all()
    if stored != "uint8":
        np.testing.assert_allclose(raw["volume"]["image"], own, atol=1e-5)
    low, high = (raw["volume"]["intensity"][:, None, None, :, k] for k in (4, 7))
    values = image * raw["volume"]["intensity"][:, None, None, :, 3]
    values = values + raw["volume"]["intensity"][:, None, None, :, 2]
    expected = (2 * (values - low) / (high - low) - 1).clip(-1, 1)
    np.testing.assert_allclose(raw["percentile"]["image"], expected, atol=1e-4)


def test_as_arrays_is_the_stored_order_and_the_limit_its_beginning(skin_folder):
    arrays = as_arrays(skin_folder, "train")
    plain = np.concatenate(
        [b["image"] for b in load(skin_folder, shuffle=False, drop_remainder=False).as_numpy_iterator()]
    )
    np.testing.assert_array_equal(arrays["image"], plain)
    np.testing.assert_array_equal(as_arrays(skin_folder, "train", limit=7)["factors"], arrays["factors"][:7])
    with pytest.raises(ValueError, match="limit"):
        as_arrays(skin_folder, limit=0)


@pytest.mark.parametrize("rows", [[0], [49], [7, 3, 31, 3], np.arange(0, 50, 7), range(50)])
def test_chosen_rows_are_those_of_the_stored_order(skin_folder, rows):
    whole = as_arrays(skin_folder, metadata=True)
    found = load(skin_folder, rows=rows, batch_size=4, shuffle=False, drop_remainder=False, metadata=True)
    wanted = np.unique(rows)
    assert len(found) == -(-len(wanted) // 4)
    batches = take(found, 100)
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), values[wanted])


def test_chosen_rows_can_be_shuffled_and_resumed(skin_folder, many_blocks):
    rows = np.arange(2, 50, 2)
    stream = load(skin_folder, rows=rows, batch_size=4, repeat=True, metadata=True)
    batches = take(stream, 12)
    stored = as_arrays(skin_folder, metadata=True)["key"][rows].tolist()
    assert sorted(keys(batches[:6])) == sorted(keys(batches[6:])) == sorted(stored)
    assert keys(batches[:6]) != keys(batches[6:])
    late = load(skin_folder, rows=rows, batch_size=4, repeat=True, metadata=True, start_step=7)
    assert_same(take(late, 5), batches[7:])


def test_shards_without_a_chosen_row_are_not_opened(skin_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(skin_folder, tmp_path / "copy")
    monkeypatch.setattr(pipeline, "_check_shards", lambda *_, **__: None)
    shards = Manifest.read(folder).splits["train"]["shards"]
    for shard in shards[1:]:
        (folder / shard["name"]).write_bytes(b"no records" * 9)
    assert len(take(load(folder, rows=[0, 2], batch_size=2, shuffle=False), 9)) == 1
    with pytest.raises(tf.errors.DataLossError):
        take(load(folder, rows=[shards[0]["num_examples"]], batch_size=1, shuffle=False), 9)


def test_an_epoch_holds_each_example_once_and_epochs_differ_in_order(skin_folder):
    stream = load(skin_folder, batch_size=10, repeat=True, metadata=True)
    first, second = epochs(stream)
    assert sorted(first) == sorted(second) and len(set(first)) == 50
    assert first != second


def test_the_seed_alone_decides_the_order(skin_folder):
    def order(seed, **options):
        return keys(take(load(skin_folder, batch_size=10, seed=seed, metadata=True, **options), 5))

    tf.random.set_seed(1)
    first = order(0)
    tf.random.set_seed(2)
    assert order(0) == first == order(0, cache=False)
    assert order(1) != first


@pytest.mark.parametrize("start", [1, 6, 7, 20])
@pytest.mark.parametrize("blocks", ["one block", "many blocks"])
def test_a_stream_resumes_exactly(skin_folder, start, blocks, request):
    if blocks == "many blocks":
        request.getfixturevalue("many_blocks")
    options = {
        "batch_size": 8,
        "repeat": True,
        "augment": ("symmetry", "crop"),
        "balance": {"mel": 2},
        "metadata": True,
    }
    unbroken = take(load(skin_folder, **options), 24)  # an epoch is 67 or 66 examples: 8.3 batches
    assert_same(take(load(skin_folder, start_step=start, **options), 24 - start), unbroken[start:])


def test_large_splits_are_shuffled_in_blocks_and_hold_each_example_once(skin_folder, many_blocks):
    stream = load(skin_folder, batch_size=10, repeat=True, metadata=True)
    first, second = epochs(stream)
    assert sorted(first) == sorted(second) and len(set(first)) == 50
    assert first != second


def test_blocks_are_as_large_as_is_asked_for(skin_folder, request):
    options = {"batch_size": 10, "repeat": True, "metadata": True}
    asked, whole = epochs(load(skin_folder, **options, block_bytes=14_000)), epochs(load(skin_folder, **options))
    request.getfixturevalue("many_blocks")
    assert asked == epochs(load(skin_folder, **options)) != whole


def test_a_single_epoch_can_start_late_and_knows_its_length(skin_folder):
    whole = load(skin_folder, batch_size=8, drop_remainder=False)
    late = load(skin_folder, batch_size=8, drop_remainder=False, start_step=5)
    assert (len(whole), len(late)) == (7, 2)
    assert_same(take(late, 9), take(whole, 9)[5:])
    assert len(load(skin_folder, batch_size=8)) == 6
    assert len(load(skin_folder, batch_size=8, start_step=6)) == 0
    assert take(load(skin_folder, batch_size=8, start_step=9), 2) == []


def test_balance_repeats_examples_by_label(skin_folder):
    counts = Manifest.read(skin_folder).splits["train"]["label_counts"]
    epoch = take(load(skin_folder, batch_size=1, balance={"mel": 3}), 1000)
    labels = np.bincount([batch["label"][0] for batch in epoch], minlength=3)
    assert dict(zip(counts, labels, strict=True)) == {**counts, "mel": 3 * counts["mel"]}
    assert len(take(load(skin_folder, batch_size=1, balance=True), 1000)) == 50  # already balanced


def test_images_and_masks_can_be_resized(skin_folder):
    batch = take(load(skin_folder, image_size=24), 1)[0]
    assert batch["image"].shape == (32, 24, 24, 3) and abs(batch["image"]).max() <= 1
    assert batch["mask"].shape == (32, 24, 24, 1) and set(np.unique(batch["mask"])) == {0, 1}
    assert as_arrays(skin_folder, "test", image_size=(24, 16))["image"].shape[1:] == (24, 16, 3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "validation"}, "no split 'validation'. Its splits are: test, train"),
        ({"batch_size": 51}, r"batch_size=51 is larger than split 'train' .*\(50 examples\)"),
        ({"batch_size": 51, "split": "test", "repeat": True}, "12 examples"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"start_step": -1}, "start_step >= 0"),
        ({"augment": "blur"}, "Unknown augmentation 'blur', expected some of symmetry, flip, mirror, crop"),
        ({"normalize": "max"}, "Known ones are: volume, percentile, slice, zscore"),
        ({"rows": [50]}, "numbers of examples from 0 to 49"),
        ({"rows": [-1]}, "numbers of examples from 0 to 49"),
        ({"rows": []}, "numbers of examples from 0 to 49"),
        ({"rows": [1], "balance": True}, "either balance or rows"),
        ({"balance": {"df": 2}}, "unknown labels"),
        ({"balance": {"mel": 0}}, "at least 1"),
    ],
)
def test_arguments_out_of_range_are_errors_that_list_what_is_valid(skin_folder, options, message):
    with pytest.raises(ValueError, match=message):
        load(skin_folder, **options)


def test_damaged_and_missing_shards_are_named(skin_folder, tmp_path):
    folder = shutil.copytree(skin_folder, tmp_path / "copy")
    shard = folder / Manifest.read(folder).splits["train"]["shards"][2]["name"]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(OSError, match=f"{shard.name} is damaged"):
        load(folder)
    shard.write_bytes(content[:-100])
    with pytest.raises(OSError, match=f"{shard.name} is damaged"):
        load(folder)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"{shard.name} is missing"):
        load(folder)


@pytest.mark.parametrize("feature, value", [("image", np.nan), ("image", np.inf), ("condition", np.nan)])
def test_an_example_that_is_not_finite_is_named_by_its_key(volumes, tmp_path, feature, value):
    """As no preparation writes it: in a shard that is whole by its checksum."""
    if feature == "image" and volumes[0].dtype != "float16":
        feature = "intensity"  # of which alone the images of integers can become so
    folder = shutil.copytree(volumes[1], tmp_path / "copy")
    entries = json.loads((folder / "manifest.json").read_text())
    shard = entries["splits"]["test"]["shards"][0]
    path = folder / shard["name"]
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    example = tf.train.Example.FromString(records[2])
    held = example.features.feature[feature]
    if feature == "image":
        image = np.frombuffer(held.bytes_list.value[0], "float16").copy()
        image[5] = value
        held.bytes_list.value[0] = image.tobytes()
    else:
        held.float_list.value[0] = value
    records[2] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    shard |= {"bytes": path.stat().st_size, "sha256": files.sha256(path)}
    (folder / "manifest.json").write_text(json.dumps(entries))
    take(load(folder, "test", rows=[0, 1, 3, 4]), 9)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not finite.*Their keys:\] \[\"?s3/2") as caught:
        take(load(folder, "test", batch_size=5), 9)
    assert str(folder) in str(caught.value) and "s3/1" not in str(caught.value)


def test_keras_fit_takes_the_batches(skin_folder):
    batches = load(skin_folder, batch_size=10, repeat=True).map(lambda batch: (batch["image"], batch["label"]))
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(batches, steps_per_epoch=5, epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_a_strategy_distributes_the_batches(skin_folder):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    dataset = load(skin_folder, batch_size=10, repeat=True)
    distributed = iter(strategy.experimental_distribute_dataset(dataset))
    for batch in take(dataset, 6):
        got = strategy.experimental_local_results(next(distributed)["image"])
        np.testing.assert_array_equal(np.concatenate(got), batch["image"])


def test_the_place_of_each_examples_subject_in_the_manifests_list_is_given_when_asked_for(skin_folder):
    subjects = Manifest.read(skin_folder).split("train")["subjects"]
    batch = take(load(skin_folder, batch_size=8, metadata=True, subject_index=True), 1)[0]
    assert batch["subject_index"].dtype == "int32"
    assert [subjects[index].encode() for index in batch["subject_index"]] == batch["subject"].tolist()


def test_columns_are_read_alone_in_the_stored_order_whatever_else_is_asked_for(skin_folder):
    whole = as_arrays(skin_folder, "train", metadata=True)
    wanted = ("label", "key", "subject_index", "labelled")
    found = load(skin_folder, columns=wanted, batch_size=7, repeat=True, start_step=3, augment="mirror", balance=True)
    assert found.element_spec.keys() == {"label", "key", "subject_index"}
    batches = list(found.as_numpy_iterator())
    for name in ("label", "key"):
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), whole[name])
    subjects = np.array(Manifest.read(skin_folder).split("train")["subjects"])
    places = np.concatenate([batch["subject_index"] for batch in batches])
    np.testing.assert_array_equal(subjects[places], [name.decode() for name in whole["subject"]])
    some = load(skin_folder, columns=("key",), rows=[5, 2]).as_numpy_iterator().next()
    np.testing.assert_array_equal(some["key"], whole["key"][[2, 5]])


@pytest.fixture(scope="module")
def misaligned(tmp_path_factory):
    """Eight training subjects of two slices in two modalities, each with labels of its own."""
    builder = AbdomenPhantom(8, 1, size=16, slices_per_subject=2)
    return prepare(builder, tmp_path_factory.mktemp("abdomen"), workers=1)


def test_labels_of_a_channel_are_read_of_a_share_of_the_subjects_alone(misaligned):
    subjects = Manifest.read(misaligned).split("train")["subjects"]
    options = {"batch_size": 16, "shuffle": False, "metadata": True}
    (plain,) = take(load(misaligned, **options), 1)
    (some,) = take(load(misaligned, **options, annotated={1: 0.5}, seed=3), 1)
    chosen = annotated_subjects(subjects, 0.5, seed=3)
    is_chosen = np.isin(plain["subject"], [name.encode() for name in chosen])
    assert len(chosen) == 4 and is_chosen.sum() == 8
    np.testing.assert_array_equal(some["labelled"], np.stack([np.ones(16), is_chosen], axis=1))
    np.testing.assert_array_equal(some["mask"][..., 0], plain["mask"][..., 0])
    np.testing.assert_array_equal(some["mask"][is_chosen, ..., 1], plain["mask"][is_chosen, ..., 1])
    (column,) = take(load(misaligned, columns=("labelled",), annotated={1: 0.5}, seed=3), 1)
    np.testing.assert_array_equal(column["labelled"], some["labelled"])
    assert plain["mask"][~is_chosen, ..., 1].any() and not some["mask"][~is_chosen, ..., 1].any()
    np.testing.assert_array_equal(some["image"], plain["image"])


def test_subjects_of_a_smaller_share_are_among_those_of_a_larger_and_seeds_draw_others():
    subjects = [f"s{k}" for k in range(40)]
    shares = [set(annotated_subjects(subjects, share)) for share in (0, 0.01, 0.125, 0.25, 0.5, 1)]
    assert [len(share) for share in shares] == [0, 1, 5, 10, 20, 40]
    assert all(less < more for less, more in itertools.pairwise(shares))
    assert len({annotated_subjects(subjects, 0.25, seed) for seed in range(5)}) == 5
    with pytest.raises(ValueError, match="from 0 to 1"):
        annotated_subjects(subjects, 1.5)


def test_channels_that_the_mask_does_not_have_are_refused(misaligned):
    with pytest.raises(ValueError, match="abdomen_phantom has 2"):
        load(misaligned, batch_size=8, annotated={2: 0.5})


@pytest.mark.parametrize("augment", [None, ["symmetry", "crop"], "mirror"])
def test_shares_of_hosts_are_together_the_batch_of_one(skin_folder, augment):
    options = {"batch_size": 6, "repeat": True, "seed": 3, "augment": augment}
    whole = list(load(skin_folder, **options).take(3).as_numpy_iterator())
    shares = [list(load(skin_folder, **options, share=(k, 3)).take(3).as_numpy_iterator()) for k in range(3)]
    for step, batch in enumerate(whole):
        for name, values in batch.items():
            assert len(shares[0][step][name]) == 2
            np.testing.assert_array_equal(np.concatenate([share[step][name] for share in shares]), values)
    for share in ((3, 3), (0, 4)):
        with pytest.raises(ValueError, match="a share .index, number. of hosts that divide whole batches of 6"):
            load(skin_folder, **options, share=share)
