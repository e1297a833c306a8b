"""The examples of a split, streamed: what judges are trained on and evaluations measure, in the place of arrays.

Images are never in memory for a whole split, however large it is. What there is instead:

    len(test), test["label"], test.table          columns of numbers or short vectors, of all examples
    for batch in test.batches(): ...              everything, in the stored order; batch["row"] numbers the examples
    for batch in test.batches(rows): ...          the same of some rows
    test.sample(500)                              at most 500 examples as arrays, spread evenly over the split
    test.take(rows)                               these few examples as arrays, in the order asked for
    for subject, slices in test.by_subject(): ... one subject at a time, with all its slices
    test.select(rows, channels)                   what a network is trained on, in another order in each epoch

A metric goes through `batches` once, keeps a number or a short vector of each image, and finds out from the columns
which rows it needs before it asks for images:

    whole = np.flatnonzero(test["available"].all(axis=1))
    codes = [model.encode(batch["image"]) for batch in test.batches(whole)]

`Examples.of(arrays)` makes them from arrays in memory, as tests do.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

HELD_BYTES = 256 * 2**20  # of images and masks that are held at once; splits up to it are shuffled as a whole
BATCH_BYTES = 16 * 2**20
SHUFFLED_BYTES = 32 * 2**20  # of records that a reader mixes, and of images that are mixed with each other after it
COLUMN_BYTES = 1024  # the widest entry of a column that is held for all examples
LARGEST_BATCH = 250


class Examples:
    """The examples of a split, which can be gone through again and again.

    Args:
        read: `(size, seed, rows)` -> batches of at most `size` examples, dicts of arrays with `image` (B, H, W, C) and
            a unique `key`: in the stored order where `seed` is None, else in an order drawn from it; of all examples
            where `rows` is None, else of those numbers alone, which ascend.
        count: number of examples.
    """

    def __init__(
        self,
        read: Callable[[int, int | None, np.ndarray | None], Iterator[Mapping[str, np.ndarray]]],
        count: int,
    ):
        self._read, self._count = read, count

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> "Examples":
        """Examples of arrays in memory; `key` is added where there is none."""
        count = len(arrays["image"])
        arrays = {"key": np.arange(count), **arrays}

        def read(size: int, seed: int | None, rows: np.ndarray | None) -> Iterator[dict[str, np.ndarray]]:
            order = np.arange(count) if rows is None else rows
            order = order if seed is None else np.random.default_rng(seed).permutation(order)
            for some in _pieces(order, size):
                yield {name: values[some] for name, values in arrays.items()}

        examples = cls(read, count)
        examples._first = {name: values[:1] for name, values in arrays.items()}
        return examples

    def mapped(self, function: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> "Examples":
        """The same examples with each batch as `function` changes it, which leaves their number, order and `key`."""
        return Examples(lambda size, seed, rows: map(function, self._read(size, seed, rows)), len(self))

    @classmethod
    def joined(cls, *parts: "Examples") -> "Examples":
        """Several splits as one, one after the other, with the columns that all of them have."""
        parts = tuple(part for part in parts if len(part)) or parts[:1]
        names = [name for name in parts[0].names if all(name in part.names for part in parts)]

        starts = np.cumsum([0, *map(len, parts)])

        def of_part(index: int, *given) -> Iterator[dict[str, np.ndarray]]:
            for batch in parts[index]._read(*given):
                keys = np.array([f"{index}/{key}" for key in batch["key"]], object)
                yield {name: batch[name] for name in names} | {"key": keys}

        def read(size: int, seed: int | None, rows: np.ndarray | None) -> Iterator[dict[str, np.ndarray]]:
            chosen, left = [None] * len(parts), list(map(len, parts))
            if rows is not None:
                chosen = [rows[(start <= rows) & (rows < end)] - start for start, end in itertools.pairwise(starts)]
                left = list(map(len, chosen))
            streams = [of_part(index, size, seed, of_it) for index, of_it in enumerate(chosen)]
            while any(left):  # in the stored order the first that is not at its end, else the one that is behind
                shares = [count / len(part) if count else -1 for count, part in zip(left, parts, strict=True)]
                index = int(np.argmax(shares if seed is not None else np.sign(left)))
                batch = next(streams[index])
                left[index] -= len(batch["key"])
                yield batch

        return cls(read, sum(map(len, parts)))

    def __len__(self) -> int:
        return self._count

    @functools.cached_property
    def _first(self) -> dict[str, np.ndarray]:
        """A batch of the first example; {} where there is none."""
        return dict(next(iter(self._read(1, None, None)))) if self._count else {}

    @property
    def names(self) -> tuple[str, ...]:
        """What an example holds."""
        return tuple(self._first)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image, (H, W, C)."""
        return tuple(self._first["image"].shape[1:])

    @functools.cached_property
    def table(self) -> dict[str, np.ndarray]:
        """The columns whose entries are numbers, strings or short vectors, of all examples in the stored order."""
        narrow = [name for name, values in self._first.items() if values.nbytes <= COLUMN_BYTES]
        names = [name for name in narrow if name not in ("image", "mask")]
        parts = [[batch[name] for name in names] for batch in self.batches()]
        return {name: np.concatenate([self._first[name][:0], *(p[k] for p in parts)]) for k, name in enumerate(names)}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.table:
            raise KeyError(f"Expected one of the columns {', '.join(self.table)}; received {name!r}.")
        return self.table[name]

    def get(self, name: str, default: np.ndarray | None = None) -> np.ndarray | None:
        """A column, or `default` where the data have none of this name."""
        return self.table.get(name, default)

    def batches(self, rows: Sequence[int] | np.ndarray | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Batches of the examples, or of some, in the stored order, with the number of each example in `row`.

        Args:
            rows: numbers of the wanted examples, in any order; a repeated one comes once.
        """
        wanted = np.arange(len(self)) if rows is None else np.unique(np.asarray(rows, int))
        if not len(wanted):
            return
        first, given = 0, None if len(wanted) == len(self) else wanted
        for batch in self._read(self._batch_size, None, given):
            last = first + len(batch["image"])
            yield {**batch, "row": wanted[first:last]}
            first = last

    def take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The examples of these numbers, in this order, as arrays; for a few, as nothing bounds what they take.

        Args:
            rows: numbers of examples, of which some may be repeated.
            columns: what is wanted of them, by default everything.

        Raises:
            IndexError: there is no example of such a number.
        """
        rows = np.asarray(rows, int)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"Expected numbers of examples from 0 to {len(self) - 1}, received {rows.tolist()}.")
        names = self.names if columns is None else [name for name in columns if name in self.names]
        found = {name: np.empty((len(rows), *self._first[name].shape[1:]), self._first[name].dtype) for name in names}
        order = np.argsort(rows, kind="stable")
        for batch in self.batches(rows):
            first, last = np.searchsorted(rows[order], batch["row"][[0, -1]] + [0, 1])
            items = order[first:last]
            places = np.searchsorted(batch["row"], rows[items])
            for name, values in found.items():
                values[items] = batch[name][places]
        return {**found, "row": rows}

    def spread(self, most: int) -> np.ndarray:
        """Numbers of at most `most` examples, spread evenly over the split."""
        return evenly(np.arange(len(self)), most)

    def sample(self, most: int) -> dict[str, np.ndarray]:
        """At most `most` examples, spread evenly over the split, as arrays: the same ones each time."""
        return self.take(self.spread(most))

    def holdable(self, columns: Sequence[str] = ("image", "mask")) -> int:
        """How many examples `HELD_BYTES` hold."""
        size = sum(self._first[name].nbytes for name in columns if name in self._first)
        return max(1, HELD_BYTES // max(1, size))

    def by_subject(self) -> Iterator[tuple[bytes, dict[str, np.ndarray]]]:
        """Each subject with all its examples as arrays, in the stored order; by `subject`, which there must be."""
        left = dict(zip(*(column.tolist() for column in np.unique(self["subject"], return_counts=True)), strict=True))
        waiting: dict[bytes, list[dict[str, np.ndarray]]] = {}
        for batch in self.batches():
            subjects = batch["subject"]
            for subject in dict.fromkeys(subjects.tolist()):
                among = subjects == subject
                waiting.setdefault(subject, []).append({name: values[among] for name, values in batch.items()})
                left[subject] -= int(among.sum())
                if not left[subject]:
                    yield subject, together(waiting.pop(subject))

    def select(
        self,
        rows: Sequence[int] | np.ndarray | None = None,
        channels: Sequence[int] | np.ndarray | None = None,
        columns: Sequence[str] = ("image",),
    ) -> "Selection":
        """Examples for a network; see `Selection`. All of them, with all channels, where nothing is said."""
        return Selection(self, np.arange(len(self)) if rows is None else rows, channels, columns)

    def shuffled(self, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches in an order drawn from the seed, with the number of each example in `row`."""
        for batch in self._read(self._batch_size, seed, None):
            yield {**batch, "row": np.array([self._rows[key] for key in batch["key"].tolist()])}

    @functools.cached_property
    def _rows(self) -> dict:
        """The number of each example by its key."""
        return {key: row for row, key in enumerate(self["key"].tolist())}

    @functools.cached_property
    def _batch_size(self) -> int:
        size = sum(values.nbytes for values in self._first.values())
        return max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, size)))


class Selection:
    """What a network is trained on or asked about: items, each an example or some channels of one.

    An example may be several items, as a slice that shows each of its modalities in turn, or one that is repeated.

    Args:
        examples: what they are chosen from.
        rows: (N,), the number of each item's example.
        channels: (N, C) or (C,), those channels of the image that each item has; all of them by default.
        columns: what the network is to get: "image", and "mask" where there is one.
    """

    def __init__(
        self,
        examples: Examples,
        rows: Sequence[int] | np.ndarray,
        channels: Sequence[int] | np.ndarray | None = None,
        columns: Sequence[str] = ("image",),
    ):
        self.examples, self.rows, self.columns = examples, np.asarray(rows, int), tuple(columns)
        self.channels = None
        if channels is not None:
            channels = np.asarray(channels, int)
            self.channels = np.broadcast_to(channels, (len(self.rows), channels.shape[-1]))
        self._order = np.argsort(self.rows, kind="stable")
        self._sorted = self.rows[self._order]
        self._held: dict[str, np.ndarray] | None = None

    @classmethod
    def of(cls, images: "np.ndarray | Selection") -> "Selection":
        """The items of an array of images (N, H, W, C); what is a selection already is returned."""
        return images if isinstance(images, cls) else Examples.of({"image": np.asarray(images)}).select()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape that the images of all items would have, (N, H, W, C)."""
        height, width, channels = self.examples.image_shape
        return (len(self), height, width, channels if self.channels is None else self.channels.shape[1])

    def batches(self, size: int = LARGEST_BATCH) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """All items in the stored order of their examples, at most `size` at a time: indices, and {column: array}."""
        for batch in self.examples.batches(self.rows):
            for items in _pieces(self._items_of(batch["row"]), size):
                yield items, self._columns_of(batch, items)

    def epoch(self, size: int, seed: Sequence[int]) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """All items once in an order drawn from the seed, as `batches` gives them; only the last batch may be smaller.

        Up to `HELD_BYTES` of examples are held and shuffled as a whole. More are read in another order for each epoch
        and mixed in blocks.
        """
        needed = np.unique(self._sorted)
        if len(needed) <= self.examples.holdable(self.columns):
            if self._held is None:
                self._held = self.examples.take(needed, self.columns)
            order = np.random.default_rng(seed).permutation(len(self))
            for items in _pieces(order, size):
                yield items, self._columns_of(self._held, items)
            return
        rng, rest = np.random.default_rng(seed), None
        for block in self._blocks(int(rng.integers(2**31)), size):
            block = block if rest is None else together([rest, block])
            order = rng.permutation(len(block["item"]))
            whole = len(order) // size * size
            for places in _pieces(order[:whole], size):
                columns = {name: values[places] for name, values in block.items()}
                yield columns.pop("item"), columns
            rest = {name: values[order[whole:]] for name, values in block.items()}
        if rest is not None and len(rest["item"]):
            yield rest.pop("item"), rest

    def _blocks(self, seed: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """Columns of items, their indices in "item", in the order of the reader, as many at once as are mixed."""
        parts, count, size_bytes = [], 0, 0
        for batch in self.examples.shuffled(seed):
            order = np.argsort(batch["row"])
            batch = {name: batch[name][order] for name in ("row", *self.columns)}
            items = self._items_of(batch["row"])
            if not len(items):
                continue
            parts.append({"item": items, **self._columns_of(batch, items)})
            count += len(items)
            size_bytes += sum(values.nbytes for values in parts[-1].values())
            if size_bytes >= SHUFFLED_BYTES and count >= size:
                block, parts, count, size_bytes = together(parts), [], 0, 0
                yield block
        if parts:
            yield together(parts)

    def _items_of(self, rows: np.ndarray) -> np.ndarray:
        """Indices of the items whose examples have these numbers."""
        first, last = (np.searchsorted(self._sorted, rows, side) for side in ("left", "right"))
        return self._order[np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)]).astype(int)]

    def _columns_of(self, batch: Mapping[str, np.ndarray], items: np.ndarray) -> dict[str, np.ndarray]:
        """What these items are, from a batch sorted by `row` that holds their examples."""
        places = np.searchsorted(batch["row"], self.rows[items])
        columns = {name: batch[name][places] for name in self.columns}
        if self.channels is not None:
            channels = self.channels[items][:, None, None, :]
            columns["image"] = np.take_along_axis(columns["image"], channels, axis=-1)
        return columns


def evenly(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values, at even distances, the first and the last among them."""
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]


def _pieces(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (values[start : start + size] for start in range(0, len(values), size))


def together(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Columns of several batches, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
