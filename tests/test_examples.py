"""A split that is streamed: the same rows, columns and batches as of arrays, and never more than it may hold."""

import numpy as np
import pytest

from tfdisent import examples
from tfdisent.examples import Examples, evenly

COUNT = 23


def arrays(count=COUNT, **more):
    """Images whose every pixel is their number; subjects of three slices."""
    number = np.arange(count)
    return {
        "image": np.broadcast_to(number[:, None, None, None] + np.array([0, 0.25]), (count, 4, 4, 2)).astype("float32"),
        "mask": np.broadcast_to(number[:, None, None, None] % 2, (count, 4, 4, 1)).astype("uint8"),
        "label": number % 3,
        "subject": np.array([f"s{k // 3}".encode() for k in number], object),
        "key": np.array([f"k{k}".encode() for k in number], object),
        **more,
    }


@pytest.fixture(params=["held", "streamed"])
def split(request, monkeypatch):
    """Once as a split that may be held, once as one that is too large; in both cases in several batches."""
    monkeypatch.setattr(examples, "LARGEST_BATCH", 5)
    if request.param == "streamed":
        monkeypatch.setattr(examples, "HELD_BYTES", 300)
        monkeypatch.setattr(examples, "SHUFFLED_BYTES", 600)
    return Examples.of(arrays())


def test_batches_are_the_split_in_its_order(split):
    batches = list(split.batches())
    assert len(split) == COUNT and [len(batch["image"]) for batch in batches] == [5, 5, 5, 5, 3]
    assert np.concatenate([batch["row"] for batch in batches]).tolist() == list(range(COUNT))
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in batches]), arrays()["image"])
    assert list(split.batches())[1]["label"].tolist() == batches[1]["label"].tolist()  # again and again


def test_batches_of_some_rows_hold_these_alone(split):
    batches = list(split.batches([21, 3, 3, 4]))
    assert [batch["row"].tolist() for batch in batches] == [[3, 4, 21]]
    assert batches[0]["image"][:, 0, 0, 0].tolist() == [3, 4, 21]
    assert list(split.batches([])) == []
    assert [batch["row"].tolist() for batch in split.batches(np.arange(0, COUNT, 2))] == [
        [0, 2, 4, 6, 8],
        [10, 12, 14, 16, 18],
        [20, 22],
    ]


def test_columns_are_of_all_examples_and_have_no_images(split):
    assert split.table.keys() == {"label", "subject", "key"}
    assert split["label"].tolist() == arrays()["label"].tolist()
    assert split.get("domain") is None
    with pytest.raises(KeyError, match="Expected one of the columns .*label.* received 'colour'"):
        split["colour"]


def test_rows_are_taken_in_the_order_asked_for_and_repeated(split):
    taken = split.take([20, 2, 2, 9])
    assert taken["image"][:, 0, 0, 0].tolist() == [20, 2, 2, 9]
    assert taken["key"].tolist() == [b"k20", b"k2", b"k2", b"k9"] and taken["row"].tolist() == [20, 2, 2, 9]
    assert split.take([4], ("image",)).keys() == {"image", "row"}
    assert split.take([])["image"].shape == (0, 4, 4, 2)
    with pytest.raises(IndexError, match=r"from 0 to 22, received \[23\]"):
        split.take([23])


def test_a_sample_is_spread_over_the_split_and_no_larger_than_asked_for(split):
    assert split.sample(4)["row"].tolist() == [0, 7, 14, 22]
    assert split.sample(4)["image"][:, 0, 0, 0].tolist() == [0, 7, 14, 22]
    assert len(split.sample(100)["row"]) == COUNT
    assert evenly(np.array([5, 6, 7]), 1).tolist() == [5] and evenly(np.array([], int), 3).tolist() == []


def test_a_subject_comes_once_with_all_its_slices_wherever_they_lie(monkeypatch):
    monkeypatch.setattr(examples, "LARGEST_BATCH", 2)
    subject = np.array([b"a", b"a", b"b", b"a", b"c", b"b"], object)
    found = list(Examples.of(arrays(6, subject=subject)).by_subject())
    assert [name for name, _ in found] == [b"a", b"c", b"b"]
    assert [slices["row"].tolist() for _, slices in found] == [[0, 1, 3], [4], [2, 5]]


def test_an_epoch_shows_each_item_once_in_an_order_of_its_own(split):
    selection = split.select(columns=("image", "mask"))
    epochs = []
    for number in (0, 1, 0):
        batches = list(selection.epoch(4, seed=(3, number)))
        assert [len(items) for items, _ in batches] == [4] * 5 + [3]
        for items, columns in batches:
            np.testing.assert_array_equal(columns["image"][:, 0, 0, 0], items)
            np.testing.assert_array_equal(columns["mask"][:, 0, 0, 0], items % 2)
        epochs.append(np.concatenate([items for items, _ in batches]).tolist())
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(COUNT))
    assert epochs[0] == epochs[2] != epochs[1]


def test_what_is_held_is_shuffled_as_a_whole():
    selection = Examples.of(arrays()).select()
    (items, _), *_ = selection.epoch(COUNT, seed=(3, 1))
    assert items.tolist() == np.random.default_rng((3, 1)).permutation(COUNT).tolist()


def test_an_example_may_be_several_items_in_some_channels_each(split):
    rows, channels = np.array([1, 2, 1, 22, 1]), np.array([[0], [1], [1], [0], [0]])
    selection = split.select(rows, channels)
    assert selection.shape == (5, 4, 4, 1) and len(selection) == 5
    expected = rows + channels[:, 0] / 4
    for batches in (selection.batches(2), selection.epoch(2, (0, 0))):
        seen = {}
        for items, columns in batches:
            assert len(items) <= 2
            seen |= dict(zip(items.tolist(), columns["image"][:, 0, 0, 0].tolist(), strict=True))
        assert [seen[k] for k in range(5)] == expected.tolist()
    both = split.select([7], [1, 0])
    assert next(both.batches())[1]["image"][0, 0, 0].tolist() == [7.25, 7]


def test_joined_splits_are_one_and_mixed_where_they_are_shuffled(split):
    other = Examples.of({"image": arrays()["image"][:10] + 100, "label": np.zeros(10, int)})
    joined = Examples.joined(split, other)
    assert len(joined) == COUNT + 10 and set(joined.names) == {"image", "label", "key"}
    assert joined.take([2, COUNT + 2])["image"][:, 0, 0, 0].tolist() == [2, 102]
    rows = np.concatenate([batch["row"] for batch in joined.shuffled(seed=1)])
    assert sorted(rows.tolist()) == list(range(COUNT + 10))
    places = np.flatnonzero(rows >= COUNT)
    assert places[0] < 10 and places[-1] > 15  # not one after the other
    items = np.concatenate([items for items, _ in joined.select().epoch(4, (0, 0))])
    assert sorted(items.tolist()) == list(range(COUNT + 10))


def test_a_mapped_split_is_as_the_function_changes_it(split):
    mapped = split.mapped(lambda batch: {**batch, "mask": batch["mask"][..., 0] > 0, "twice": 2 * batch["label"]})
    assert mapped.take([3, 4])["mask"].shape == (2, 4, 4) and mapped.take([3])["mask"].all()
    assert mapped["twice"].tolist() == (2 * arrays()["label"]).tolist()
    items, columns = next(mapped.select(columns=("mask",)).epoch(4, (0,)))
    assert columns["mask"].any(axis=(1, 2)).tolist() == (items % 2 > 0).tolist()


def test_a_split_without_examples_has_no_batches():
    empty = Examples(None, 0)
    assert len(empty) == 0 and list(empty.batches()) == [] and empty.names == ()


def test_it_never_holds_more_than_it_may(monkeypatch):
    """Of a split forty times as large as may be held, epochs, samples and batches keep a few batches at a time."""
    import tracemalloc

    size = 64 * 64 * 4
    monkeypatch.setattr(examples, "HELD_BYTES", 100 * size)
    monkeypatch.setattr(examples, "SHUFFLED_BYTES", 50 * size)
    monkeypatch.setattr(examples, "BATCH_BYTES", 10 * size)

    def read(size, seed, chosen):
        order = np.arange(4000) if seed is None else np.random.default_rng(seed).permutation(4000)
        order = order if chosen is None else chosen
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield {"image": np.zeros((len(rows), 64, 64, 1), "float32"), "key": rows}

    split = Examples(read, 4000)
    split.table, split._rows  # noqa: B018
    tracemalloc.start()
    assert sum(len(items) for items, _ in split.select().epoch(8, (0, 0))) == 4000
    assert sum(len(batch["row"]) for batch in split.batches()) == 4000
    split.take(split.spread(split.holdable()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * size
