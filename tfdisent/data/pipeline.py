"""A prepared folder as a `tf.data.Dataset` of batches that is a pure function of (seed, step).

    shards -> parallel interleave -> blocks of records, shuffled -> batch
           -> parse -> normalise -> augment -> prefetch

Order and augmentation come from stateless draws, so that they depend on nothing but the arguments of `load`: not on
TensorFlow's global seed, nor on what was read before. A run that stopped after step k resumes with
`load(..., start_step=k)`. What lies before is skipped as unparsed records of at most one epoch.

A split of up to 256 MiB is one block: it is shuffled as a whole and, with `cache`, held in memory as records. For a
larger one, each epoch reads the shards in another order and shuffles blocks of 256 MiB; the writer of the shards has
shuffled the subjects before.
"""

import collections
import functools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdisent import files
from tfdisent.data.augment import AUGMENTATIONS, Batch
from tfdisent.data.records import Manifest, check_record, parse
from tfdisent.intensity import BOUNDED, NORMALIZATIONS, bounds, divisor, statistic

BLOCK_BYTES = 256 * 2**20
COLUMN_BATCH = 1024
_METADATA = (
    "available",
    "modality",
    "slice_index",
    "num_slices",
    "spacing",
    "intensity",
    "key",
    "subject",
    "domain",
)
_ENDLESS = 2**40  # epochs
# No function below branches on a tensor. AutoGraph would rewrite the source of each all the same: seconds of a start.
_as_it_is = tf.autograph.experimental.do_not_convert


def load(
    directory: str | pathlib.Path,
    split: str = "train",
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 32,
    shuffle: bool | None = None,
    augment: str | Sequence[str] | None = None,
    balance: bool | Mapping[str, int] = False,
    seed: int = 0,
    repeat: bool = False,
    drop_remainder: bool | None = None,
    start_step: int = 0,
    normalize: str = "volume",
    image_size: int | tuple[int, int] | None = None,
    cache: bool = True,
    metadata: bool = False,
    subject_index: bool = False,
    annotated: Mapping[int, float] | None = None,
    share: tuple[int, int] = (0, 1),
    block_bytes: int | None = None,
    columns: Sequence[str] | None = None,
) -> tf.data.Dataset:
    """Batches of a split of a prepared folder.

    Args:
        directory: the folder with `manifest.json`.
        split: name of the split.
        rows: read only these examples, by their places in the stored order; each once, whatever their order here.
            Shards without any are not opened.
        batch_size: examples in a batch, over all replicas and hosts.
        shuffle: another order in each epoch; if not, the stored order. Default: for the split "train".
        augment: name or names of `augment.AUGMENTATIONS`, applied in turn, drawn from (seed, step).
        balance: how often an epoch holds each example, by label ({"mel": 3, "bkl": 3} is the DRAI paper's; labels left
            out count once). True: as often as brings its class nearest to the largest.
        seed: of order and augmentation.
        repeat: an endless stream, whose batches cross the ends of epochs, for `fit(steps_per_epoch=...)`. If not, one
            epoch, the same each time it is iterated.
        drop_remainder: leave out the last, smaller batch. Default: for the split "train", and with `repeat`.
        start_step: number of batches to leave out at the start.
        normalize: name from `NORMALIZATIONS`, of each channel: "volume" and "percentile" bring the volume's minimum to
            maximum, or its percentiles 0.5 to 99.5, to [-1, 1]; "slice" the image's own; "zscore" gives mean 0 and
            standard deviation 1 in the volume's foreground. For uint8, "volume" is [0, 255].
        image_size: resize images (antialiased) and masks (nearest) to this height and width, or to both as a pair.
        cache: hold a split of up to 256 MiB in memory. The batches are the same either way.
        metadata: add what else is in the records: key, subject, spacing, intensity, slice_index, ...
        subject_index: add `subject_index` (B,) int32, the place of each example's subject in the manifest's list.
        annotated: {channel of the mask: share of the subjects whose labels of it are read}. Those subjects are
            `annotated_subjects(subjects, share, seed)`; labels of the others are 0 from the start, whatever the records
            hold, and `labelled` (B, M) float32 is added: 1 where labels of a channel are read, 0 where not.
        share: (index, number) of hosts that share each batch: this one parses, and gets, its rows alone, which with
            those of the others are the batch of one host. Needs `drop_remainder`.
        block_bytes: of the records that are shuffled together, which the memory that is needed is a multiple of; 256
            MiB by default.
        columns: of the examples, or of those of `rows`, these alone, as far as the data have them, once and in the
            stored order, whatever else is said of order, batches and images; no image is decoded. Besides what is
            returned otherwise, `subject_index`, and `labelled` where `annotated` is given.

    Returns:
        Dataset of dicts: `image` (B, H, W, C) float32, clipped to [-1, 1] unless `normalize` is
        "zscore"; if the manifest has them `condition` (B, K) float32, `label` (B,) int32, `factors`
        (B, F) float32, `mask` (B, H, W, M) uint8, and the extra features as stored, but for those on the image's grid
        (`displacement`, `boundaries`) where `augment` or `image_size` moves the image from under them; `available`
        (B, M) if there are several modalities, `domain` (B,) if there are several domains.

    Raises:
        FileNotFoundError: the folder is not prepared or lacks a shard.
        OSError: a shard is damaged. Splits of more than 256 MiB are checked by size alone;
            `python -m datasets.build --verify` checks all.
        ValueError: an argument is out of range.
        tf.errors.InvalidArgumentError: while batches are read, images or conditions that are not finite, by their keys.
    """
    if columns is not None:
        shuffle, augment, balance, repeat, drop_remainder, start_step = False, None, False, False, False, 0
        batch_size, cache, share, subject_index = COLUMN_BATCH, False, (0, 1), "subject_index" in columns
    directory = pathlib.Path(directory)
    manifest = Manifest.read(directory)
    entry = manifest.split(split)
    shuffle = split == "train" if shuffle is None else shuffle
    drop_remainder = repeat or (split == "train" if drop_remainder is None else drop_remainder)
    augmentations = _augmentations(augment)
    repeats = _repeats(manifest, split, balance)
    chosen = _chosen(rows, entry["num_examples"]) if rows is not None else None
    if repeats and chosen is not None:
        raise ValueError("balance counts the labels of a whole split; give either balance or rows.")
    num_examples = entry["num_examples"] if chosen is None else int(chosen.sum())
    if repeats:
        num_examples = sum(repeats[label] * count for label, count in entry["label_counts"].items())
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"Unknown normalize={normalize!r}. Known ones are: {', '.join(NORMALIZATIONS)}.")
    if batch_size < 1 or start_step < 0:
        raise ValueError(f"Expected batch_size >= 1 and start_step >= 0, received {batch_size} and {start_step}.")
    if drop_remainder and batch_size > num_examples:
        raise ValueError(
            f"batch_size={batch_size} is larger than split {split!r} of {directory} ({num_examples} examples), which "
            "leaves no whole batch. Use a smaller batch_size" + ("." if repeat else " or drop_remainder=False.")
        )
    index, number = share
    if not 0 <= index < number or batch_size % number or (number > 1 and not drop_remainder):
        raise ValueError(
            f"Expected a share (index, number) of hosts that divide whole batches of {batch_size}, received {share}"
            f"{'' if drop_remainder else ' and drop_remainder=False'}."
        )
    num_bytes = sum(shard["bytes"] for shard in entry["shards"])
    _check_shards(directory, entry["shards"], checksums=num_bytes <= BLOCK_BYTES)
    _check_first_record(directory, manifest, entry["shards"])
    epoch_bytes = num_bytes * num_examples // entry["num_examples"]

    shards = _Shards([str(directory / shard["name"]) for shard in entry["shards"]])
    if chosen is not None:
        shards = _Shards.holding(chosen, shards.paths, [shard["num_examples"] for shard in entry["shards"]])
    order = _Order(
        shards=shards,
        num_examples=num_examples,
        block=min(num_examples, max(1, num_examples * (block_bytes or BLOCK_BYTES) // epoch_bytes)),
        seed=seed,
        shuffle=shuffle,
        num_epochs=_ENDLESS if repeat else 1,
        cache=cache,
    )
    records = _records(order, start_step * batch_size, _repeater(manifest, repeats))
    shape = (image_size, image_size) if isinstance(image_size, int) else image_size
    shape = tuple(shape or manifest.image_shape[:2])

    places = _places(entry["subjects"]) if subject_index else None
    hidden = _hider(manifest, entry["subjects"], annotated, seed)
    is_moved = bool(augmentations) or shape != manifest.image_shape[:2]
    left_behind = _on_the_grid(manifest) if is_moved else set()

    def example_batch(step: tf.Tensor, serialized: tf.Tensor) -> Batch:
        if number > 1:
            serialized = serialized[index * batch_size // number : (index + 1) * batch_size // number]
        batch = hidden(parse(serialized, manifest))
        batch = _normalized(_finite(batch, manifest, directory), manifest, normalize)
        if places is not None:
            batch["subject_index"] = places.lookup(batch["subject"])
        if shape != manifest.image_shape[:2]:
            batch = _resized(batch, shape, normalize)
        for turn, augmentation in enumerate(augmentations):
            batch = augmentation(batch, tf.random.experimental.stateless_fold_in([seed, step], turn), share)
        return _public({n: v for n, v in batch.items() if n not in left_behind}, manifest, metadata)

    def column_batch(_: tf.Tensor, serialized: tf.Tensor) -> Batch:
        batch = parse(serialized, manifest, {*columns, "subject"})
        if "labelled" in columns:
            batch = hidden(batch)
        if places is not None:
            batch["subject_index"] = places.lookup(batch["subject"])
        return {name: value for name, value in _public(batch, manifest, True).items() if name in columns}

    batches = records.batch(batch_size, drop_remainder=drop_remainder).enumerate(start_step)
    read = example_batch if columns is None else column_batch
    batches = batches.map(_as_it_is(read), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    steps = num_examples // batch_size if drop_remainder else math.ceil(num_examples / batch_size)
    left = tf.data.INFINITE_CARDINALITY if repeat else max(0, steps - start_step)
    options = tf.data.Options()
    options.deterministic = True
    # Files would be shared out unevenly where there are fewer shards than workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = batches.apply(tf.data.experimental.assert_cardinality(left))
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def annotated_subjects(subjects: Sequence[str], share: float, seed: int = 0) -> tuple[str, ...]:
    """The subjects whose labels are read where only a share of them is: drawn from the seed, one at least unless the
    share is 0. Those of a smaller share are among those of a larger one.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"Expected a share of annotated subjects from 0 to 1, received {share}.")
    count = max(1, round(share * len(subjects))) if share else 0
    order = np.random.default_rng([seed, len(subjects)]).permutation(len(subjects))
    return tuple(subjects[index] for index in sorted(order[:count]))


def as_arrays(
    directory: str | pathlib.Path,
    split: str = "train",
    limit: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    metadata: bool = False,
    normalize: str = "volume",
) -> dict[str, np.ndarray]:
    """The first `limit` examples of a split, or all, in the stored order: the keys of `load`, each one array.
    `image_size`, `metadata` and `normalize` as in `load`.
    """
    batches = load(
        directory,
        split,
        batch_size=256,
        shuffle=False,
        drop_remainder=False,
        cache=False,
        image_size=image_size,
        metadata=metadata,
        normalize=normalize,
    )
    if limit is not None:
        if limit < 1:
            raise ValueError(f"Expected limit to be at least 1, received {limit}.")
        batches = batches.unbatch().take(limit).batch(256)
    columns = collections.defaultdict(list)
    for batch in batches.as_numpy_iterator():
        for name, values in batch.items():
            columns[name].append(values)
    return {name: np.concatenate(values) for name, values in columns.items()}


class _Shards(NamedTuple):
    """The files to read and, where not all of their records are wanted, which: a mask and where each file's begins."""

    paths: list[str]
    chosen: np.ndarray | None = None
    starts: list[int] = []

    @classmethod
    def holding(cls, chosen: np.ndarray, paths: list[str], counts: list[int]) -> "_Shards":
        """Those that hold any of the chosen records."""
        ends = np.cumsum(counts)
        found = [
            (path, int(end - count))
            for path, count, end in zip(paths, counts, ends, strict=True)
            if chosen[end - count : end].any()
        ]
        return cls([path for path, _ in found], chosen, [start for _, start in found])

    def read(self, index: tf.Tensor) -> tf.data.Dataset:
        """The wanted records of one file."""
        records = tf.data.TFRecordDataset(tf.gather(self.paths, index))
        if self.chosen is None:
            return records
        wanted = tf.data.Dataset.range(tf.gather(tf.constant(self.starts, tf.int64), index), len(self.chosen))
        wanted = wanted.map(_as_it_is(lambda row: tf.gather(self.chosen, row)))
        both = tf.data.Dataset.zip(wanted, records)
        return both.filter(_as_it_is(lambda is_wanted, _: is_wanted)).map(_as_it_is(lambda _, record: record))


class _Order(NamedTuple):
    """Which record comes at which position of the stream."""

    shards: _Shards
    num_examples: int  # in an epoch
    block: int  # examples shuffled together
    seed: int
    shuffle: bool
    num_epochs: int
    cache: bool


def _records(order: _Order, start: int, repeater) -> tf.data.Dataset:
    """Serialized records from position `start` on."""
    blocks_per_epoch = math.ceil(order.num_examples / order.block)
    first_epoch, inside = divmod(start, order.num_examples)
    first_block = first_epoch * blocks_per_epoch + inside // order.block

    def epoch_blocks(epoch: tf.Tensor) -> tf.data.Dataset:
        files = tf.range(len(order.shards.paths))
        if order.shuffle and blocks_per_epoch > 1:
            files = tf.random.experimental.stateless_shuffle(files, [order.seed, epoch])
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            _as_it_is(order.shards.read),
            cycle_length=16 if order.shuffle else 1,
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return repeater(records).batch(order.block)

    def shuffled(index: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(records, [order.seed, index])

    num_epochs = max(0, order.num_epochs - first_epoch)
    if blocks_per_epoch == 1:
        blocks = epoch_blocks(0)
        blocks = (blocks.cache() if order.cache else blocks).repeat(num_epochs)
    else:
        blocks = tf.data.Dataset.range(first_epoch, first_epoch + num_epochs).flat_map(_as_it_is(epoch_blocks))
        blocks = blocks.skip(inside // order.block)
    if order.shuffle:
        blocks = blocks.enumerate(first_block).map(_as_it_is(shuffled))
    return blocks.unbatch().skip(inside % order.block)


def _chosen(rows: Sequence[int] | np.ndarray, num_examples: int) -> np.ndarray:
    """A mask (num_examples,) of the examples that are wanted."""
    rows = np.asarray(rows, int)
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= num_examples:
        raise ValueError(f"Expected rows to be numbers of examples from 0 to {num_examples - 1}, received {rows}.")
    chosen = np.zeros(num_examples, bool)
    chosen[rows] = True
    return chosen


def _repeats(manifest: Manifest, split: str, balance: bool | Mapping[str, int]) -> dict[str, int]:
    """How often each label's examples occur in an epoch; empty: each once."""
    if balance is False:
        return {}
    counts = manifest.split(split)["label_counts"]
    if not counts:
        raise ValueError(f"balance needs labels, and {manifest.dataset} has none.")
    if balance is True:
        return {label: max(1, round(max(counts.values()) / max(1, count))) for label, count in counts.items()}
    if unknown := sorted(balance.keys() - counts.keys()):
        raise ValueError(f"balance names unknown labels {unknown}, expected some of {sorted(counts)}.")
    if bad := {label: times for label, times in balance.items() if type(times) is not int or times < 1}:
        raise ValueError(f"balance must map labels to whole numbers of at least 1, received {bad}.")
    return {label: balance.get(label, 1) for label in counts}


def _repeater(manifest: Manifest, repeats: dict[str, int]):
    """A function of a dataset of records that repeats each as its label asks."""
    if not repeats:
        return lambda records: records
    times = tf.constant([repeats[label] for label in manifest.labels], tf.int64)
    schema = {"label": tf.io.FixedLenFeature((), tf.int64)}

    def repeated(record: tf.Tensor) -> tf.data.Dataset:
        label = tf.io.parse_single_example(record, schema)["label"]
        return tf.data.Dataset.from_tensors(record).repeat(times[label])

    return lambda records: records.flat_map(_as_it_is(repeated))


def _places(subjects: Sequence[str]) -> tf.lookup.StaticHashTable:
    """The place of each subject in the list; -1 of one that is not in it."""
    content = tf.lookup.KeyValueTensorInitializer(list(subjects), list(range(len(subjects))), tf.string, tf.int32)
    return tf.lookup.StaticHashTable(content, -1)


def _hider(manifest: Manifest, subjects: Sequence[str], annotated: Mapping[int, float] | None, seed: int):
    """A function of a batch that takes away the labels which are not to be read, and says which are."""
    if annotated is None:
        return lambda batch: batch
    count = manifest.mask_channels
    if not manifest.mask_labels or not all(0 <= channel < count for channel in annotated):
        raise ValueError(
            f"annotated expects channels of a mask, and {manifest.dataset} has {count if manifest.mask_labels else 0}; "
            f"received {dict(annotated)}."
        )
    known = np.ones((len(subjects), count), np.float32)
    for channel, part in annotated.items():
        known[:, channel] = np.isin(subjects, annotated_subjects(subjects, part, seed))
    places, known = _places(subjects), tf.constant(known)

    def hidden(batch: Batch) -> Batch:
        labelled = tf.gather(known, places.lookup(batch["subject"]))
        if "labelled" in manifest.extra_features:  # of examples that have no labels at all
            labelled *= tf.cast(tf.reshape(batch["labelled"], (-1, 1)), tf.float32)
        batch = {**batch, "labelled": labelled}
        if "mask" in batch:  # not where columns alone are read
            batch["mask"] = tf.where(labelled[:, None, None, :] > 0, batch["mask"], tf.zeros_like(batch["mask"]))
        return batch

    return hidden


def _augmentations(augment: str | Sequence[str] | None) -> list:
    names = [augment] if isinstance(augment, str) else list(augment or ())
    if unknown := [name for name in names if name not in AUGMENTATIONS]:
        raise ValueError(f"Unknown augmentation {unknown[0]!r}, expected some of {', '.join(AUGMENTATIONS)}.")
    return [AUGMENTATIONS[name] for name in names]


def _check_shards(directory: pathlib.Path, shards: list[dict], checksums: bool) -> None:
    for shard in shards:
        path = directory / shard["name"]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing. Delete {directory} and prepare the data set again.")
        stat = path.stat()
        if stat.st_size != shard["bytes"] or (checksums and _sha256(path, stat.st_mtime_ns) != shard["sha256"]):
            raise OSError(
                f"{path} is damaged: its {stat.st_size} bytes are not the {shard['bytes']} that were written. Delete "
                f"{directory} and prepare the data set again."
            )


def _check_first_record(directory: pathlib.Path, manifest: Manifest, shards: list[dict]) -> None:
    path = directory / next(shard["name"] for shard in shards if shard["num_examples"])
    try:
        for record in tf.data.TFRecordDataset(str(path)).take(1):
            check_record(record.numpy(), manifest)
    except (ValueError, tf.errors.OpError) as error:
        raise OSError(
            f"{path} is damaged, or manifest.json beside it is: {getattr(error, 'message', error)}. Delete {directory} "
            "and prepare the data set again."
        ) from error


@functools.lru_cache(maxsize=4096)
def _sha256(path: pathlib.Path, modified: int) -> str:
    """Checksum of a file; `modified` makes a changed file another entry of the cache."""
    return files.sha256(path)


def _normalized(batch: Batch, manifest: Manifest, normalize: str) -> Batch:
    image = tf.cast(batch["image"], tf.float32)
    if manifest.image_dtype == "uint8" and normalize == "volume":
        return {**batch, "image": image / 127.5 - 1.0}

    statistics = batch["intensity"][:, None, None]
    # A constant image, or a modality that is missing, has no range: it becomes -1, or 0 by zscore.
    if normalize == "zscore":
        mean, std, low, high = (statistic(statistics, name) for name in ("mean", "std", "min", "max"))
        return {**batch, "image": (image - mean) / divisor(std, low, high, tf.where)}
    if normalize == "slice":
        low, high = (f(image, axis=(1, 2), keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
    else:
        low, high = bounds(statistics, normalize)
    image = 2.0 * (image - low) / divisor(high - low, low, high, tf.where) - 1.0
    return {**batch, "image": tf.clip_by_value(image, -1.0, 1.0)}


def _finite(batch: Batch, manifest: Manifest, directory: pathlib.Path) -> Batch:
    """The batch, or an error that names the examples with values that are not finite.

    Images that are stored as integers are finite with their statistics, so that these are looked at alone.
    """
    names = {"intensity", "condition"} & manifest.features.keys()
    names |= {"image"} if manifest.image_dtype.startswith("float") else set()
    is_finite = True
    for name in sorted(names):
        values = tf.math.is_finite(batch[name])
        is_finite = tf.logical_and(is_finite, tf.reduce_all(values, axis=list(range(1, len(values.shape)))))
    problem = f"{directory} holds examples whose image or condition is not finite. Prepare it again. Their keys:"
    bad = tf.boolean_mask(batch["key"], tf.logical_not(is_finite))
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_finite), [problem, bad], summarize=8)]):
        return {**batch, "image": tf.identity(batch["image"])}


def _resized(batch: Batch, shape: tuple[int, int], normalize: str) -> Batch:
    image = tf.image.resize(batch["image"], shape, antialias=True)
    if normalize in BOUNDED:  # which rounding may have left
        image = tf.clip_by_value(image, -1.0, 1.0)
    changed = {"image": image}
    if "mask" in batch:
        changed["mask"] = tf.image.resize(batch["mask"], shape, method="nearest")
    return {**batch, **changed}


def _on_the_grid(manifest: Manifest) -> set[str]:
    """Extra features that say something of each pixel or column, as fields and borders of layers do: those of two axes
    and more, one of them as long as a side of the image.
    """
    sides, extra = set(manifest.image_shape[:2]), manifest.extra_features
    return {name for name, feature in extra.items() if len(feature.shape) > 1 and sides & set(feature.shape)}


def _public(batch: Batch, manifest: Manifest, metadata: bool) -> Batch:
    """Leaves out metadata that was not asked for, and labels become int32 as losses want them."""
    wanted = {"available": len(manifest.modalities) > 1, "domain": len(manifest.domains) > 1}
    batch = {name: value for name, value in batch.items() if metadata or name not in _METADATA or wanted.get(name)}
    integers = {name: tf.cast(batch[name], tf.int32) for name in ("label", "domain", "modality") if name in batch}
    return {**batch, **integers}
