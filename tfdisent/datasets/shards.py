"""Shards: from a unit to its records, from records to a file with its entry for the manifest, and whether it is whole.

Beside the shards lie `features.json` and `dataset_info.json`, by which TensorFlow Datasets reads the folder.
"""

import collections
import functools
import json
import os
import pathlib
import sys
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf
from threadpoolctl import ThreadpoolController

from tfdisent import files, privacy
from tfdisent.data.records import Manifest, encode, parse
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.messages import Progress

# What one unit's files can cause: RuntimeError is SimpleITK's, and RecursionError is one.
_BAD_INPUT = (ValueError, OSError, EOFError, zlib.error, ArithmeticError, MemoryError, RuntimeError)


class Task(NamedTuple):
    """One shard to write, with all that another process needs for it."""

    builder: Builder
    manifest: Manifest
    folder: pathlib.Path
    split: str
    name: str
    units: tuple[Unit, ...]
    on_error: str
    hash_key: bytes = b""  # by which names are hashed; empty: they stay

    @property
    def path(self) -> pathlib.Path:
        """The shard's file."""
        return self.folder / self.name

    @property
    def record(self) -> pathlib.Path:
        """Where the shard's entry for the manifest waits until all are written."""
        return self.folder / ".partial" / f"{self.name}.json"

    @property
    def entry(self) -> dict:
        """What was written: name, num_examples, bytes, sha256, label_counts, subjects, skipped."""
        return json.loads(self.record.read_text(encoding="utf-8"))

    @property
    def is_written(self) -> bool:
        """Whether the shard is whole, and as strict as the task asks."""
        if not (self.path.is_file() and self.record.is_file()):
            return False
        return self.on_error == "skip" or not self.entry["skipped"]


class Result(NamedTuple):
    """What one unit gave: its encoded examples with the names of their labels, or its error."""

    unit: Unit
    records: list[tuple[bytes, list[str]]]
    error: str = ""
    kind: str = ""  # of the error: the name of its class


def read_unit(task: Task, unit: Unit) -> Result:
    """Reads and encodes one unit. Bad input becomes the result's error."""
    try:
        # Images are small: threads of the linear algebra library would only wait for one another.
        with _libraries(len(sys.modules)).limit(limits=1):
            return Result(unit, _records(task, unit))
    except _BAD_INPUT as error:
        kind = type(error).__name__
        out_of_memory = "it needs more memory than there is"
        reason = str(error) or (out_of_memory if isinstance(error, MemoryError) else "it cannot be read")
        is_ours = isinstance(error, ValueError | OSError)
        return Result(unit, [], reason if is_ours else f"{reason} ({kind})", kind)


@functools.lru_cache(maxsize=1)
def _libraries(num_modules: int) -> ThreadpoolController:
    """The libraries with threads; looked for, which takes as long as a small unit, only when something was imported."""
    return ThreadpoolController()


def write_shard(task: Task, results: Iterable[Result]) -> None:
    """Writes one shard and its entry for the manifest, both under their final names only when whole.

    Raises:
        ValueError: a unit could not be read, and `on_error` is "fail".
        OSError: the shard cannot be written.
    """
    temporary = task.folder / ".partial" / f"{task.name}.{os.getpid()}.tmp"
    num_examples, labels, subjects, skipped = 0, collections.Counter(), set(), []
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for result in results:
                if result.error and task.on_error == "fail":
                    raise ValueError(f"{task.builder.name}, {result.unit.key}: {result.error}")
                if result.error:
                    skipped.append(_skipped(task, result))
                    continue
                for record, label in result.records:
                    writer.write(record)
                    labels.update(label)
                num_examples += len(result.records)
                subjects.add(_subject(task, result.unit))
        entry = {
            "name": task.name,
            "num_examples": num_examples,
            "bytes": temporary.stat().st_size,
            "sha256": files.sha256(temporary),
            "label_counts": labels,
            "subjects": sorted(subjects),
            "skipped": skipped,
        }
        files.write_json(task.record, entry)
        temporary.replace(task.path)
    except tf.errors.OpError as error:
        raise OSError(f"{task.path} cannot be written: {error.message}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _records(task: Task, unit: Unit) -> list[tuple[bytes, list[str]]]:
    """The encoded examples of one unit, each with the name of its label, if any."""
    if unit.problem:
        raise ValueError(unit.problem)
    records = []
    for example in task.builder.examples(unit):
        example = {"key": unit.key, **example, "subject": _subject(task, unit)}
        key, label = example["key"], example.get("label")
        example["key"] = _named(task, key)
        try:
            record = encode(example, task.manifest)
        except ValueError as error:
            raise error if key == unit.key else ValueError(f"{key}: {error}") from error
        labels = [] if label is None else [label if isinstance(label, str) else task.manifest.labels[label]]
        records.append((record, labels))
    if not records:
        raise ValueError("it gave no example")
    return records


def _subject(task: Task, unit: Unit) -> str:
    return _named(task, unit.subject)


def _named(task: Task, name: str) -> str:
    """A name as it is written: its digest, if names are hashed."""
    return privacy.digest(task.hash_key, f"{task.builder.name}:{name}") if task.hash_key else name


def _skipped(task: Task, result: Result) -> dict:
    reason = result.kind if task.hash_key else result.error  # which can hold paths, and they names
    return {"split": task.split, "key": _named(task, result.unit.key), "reason": reason}


def verify(folder: str | pathlib.Path) -> Manifest:
    """Checks every shard of a prepared folder: checksum, count, and that each record decodes.

    Raises:
        OSError: names each shard that is missing or damaged.
    """
    folder = pathlib.Path(folder)
    manifest = Manifest.read(folder)
    problems, done = [], 0
    progress = Progress("verify", sum(len(entry["shards"]) for entry in manifest.splits.values()), "shard")
    for entry in manifest.splits.values():
        for shard in entry["shards"]:
            if problem := _shard_problem(folder / shard["name"], shard, manifest):
                problems.append(f"{folder / shard['name']}: {problem}")
            done += 1
            progress.update(done, f"{len(problems)} bad")
    progress.close()
    if problems:
        raise OSError("\n".join([*problems, f"Delete {folder} and prepare the data set again."]))
    return manifest


def _shard_problem(path: pathlib.Path, shard: dict, manifest: Manifest) -> str:
    if not path.is_file():
        return "missing"
    if files.sha256(path) != shard["sha256"]:
        return "its checksum is not that of the manifest"
    try:
        batches = tf.data.TFRecordDataset(str(path)).batch(64).map(lambda records: parse(records, manifest))
        count = sum(len(batch["key"]) for batch in batches)
    except tf.errors.OpError as error:
        return f"does not decode ({error.message})"
    return "" if count == shard["num_examples"] else f"holds {count} records, expected {shard['num_examples']}"


def tfds_features(manifest: Manifest) -> dict:
    """`features.json`: the records' schema as TensorFlow Datasets reads it."""
    package = "tensorflow_datasets.core.features"
    features = {
        name: {
            "pythonClassName": f"{package}.tensor_feature.Tensor",
            "tensor": {
                "shape": {"dimensions": [str(length) for length in feature.shape]},
                "dtype": feature.dtype,
                "encoding": "bytes" if feature.is_raw else "none",
            },
        }
        for name, feature in manifest.features.items()
    }
    return {
        "pythonClassName": f"{package}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def tfds_info(manifest: Manifest) -> dict:
    """`dataset_info.json`: the splits as TensorFlow Datasets reads them."""
    return {
        "name": manifest.dataset,
        "version": manifest.version,
        "description": manifest.description,
        "citation": manifest.citation,
        "location": {"urls": [manifest.homepage]},
        "redistributionInfo": {"license": manifest.licence},
        "fileFormat": "tfrecord",
        "splits": [
            {
                "name": name,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(shard["bytes"] for shard in entry["shards"])),
                "shardLengths": [str(shard["num_examples"]) for shard in entry["shards"]],
            }
            for name, entry in manifest.splits.items()
        ],
    }
