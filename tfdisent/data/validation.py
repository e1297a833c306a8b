"""What `manifest.json` may hold, checked when it is read: it decides which files are opened and what memory is taken.

Each function raises ValueError that names the field, what it holds and what was expected.
"""

import math
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

MOST_VALUES = 2**28  # of one feature of a record
_MOST_EXAMPLES = 2**40
_TEXTS = ("dataset", "version", "description", "homepage", "citation", "licence", "source", "image_dtype")
_NAMES = ("modalities", "labels", "condition_names", "domains", "factor_names", "mask_labels")


def check_manifest(entries: Any, fields: Collection[str], dtypes: Collection[str]) -> None:
    """Checks the content of a manifest.

    Args:
        entries: what the JSON holds, but for its format.
        fields: the names that there must be, and no other.
        dtypes: those that `extra_features` may have.
    """
    _fields("the manifest", entries, fields)
    for name in _TEXTS:
        _text(name, entries[name])
    for name in _NAMES:
        _texts(name, entries[name], is_unique=True)
    _expect(entries["modalities"], "modalities", entries["modalities"], "one name or more")
    _shape("image_shape", entries["image_shape"])
    _number("mask_channels", entries["mask_channels"], 1, 2**16)
    _number("seed", entries["seed"], -(2**63), 2**64)
    _mapping("options", entries["options"], lambda *_: None)
    _mapping("extra_features", entries["extra_features"], lambda name, given: _feature(name, given, dtypes))
    _items("skipped", entries["skipped"], _skipped)
    _mapping("splits", entries["splits"], lambda name, split: _split(name, split, entries["labels"]))
    files = [shard["name"] for split in entries["splits"].values() for shard in split["shards"]]
    for index, name in enumerate(files):
        _expect(name not in files[:index], "splits", name, "each shard once")


def _split(field: str, split: Any, labels: list[str]) -> None:
    _fields(field, split, ("subjects", "num_examples", "label_counts", "shards"))
    _texts(f"{field}.subjects", split["subjects"], is_unique=True)
    _number(f"{field}.num_examples", split["num_examples"], 1, _MOST_EXAMPLES)
    _items(f"{field}.shards", split["shards"], _shard)
    total = sum(shard["num_examples"] for shard in split["shards"])
    _expect(total == split["num_examples"], f"{field}.num_examples", split["num_examples"], f"{total} as in its shards")
    counts = split["label_counts"]
    _mapping(f"{field}.label_counts", counts, lambda name, count: _number(name, count, 0, _MOST_EXAMPLES))
    _expect(sorted(counts) == sorted(labels), f"{field}.label_counts", counts, f"counts of {', '.join(labels)}")
    if labels:
        total = sum(counts.values())
        _expect(total == split["num_examples"], f"{field}.label_counts", counts, f"{split['num_examples']} in sum")


def _shard(field: str, shard: Any) -> None:
    _fields(field, shard, ("name", "num_examples", "bytes", "sha256"))
    name = shard["name"]
    _text(f"{field}.name", name)
    is_plain = name.isprintable() and pathlib.PurePath(name).name == name != ".." and not set(name) & set('/\\:*?"<>|')
    _expect(is_plain, f"{field}.name", name, "a file's name without folders")
    _number(f"{field}.num_examples", shard["num_examples"], 0, _MOST_EXAMPLES)
    _number(f"{field}.bytes", shard["bytes"], 0, 2**50)
    _text(f"{field}.sha256", shard["sha256"])
    is_digest = len(shard["sha256"]) == 64 and not set(shard["sha256"]) - set("0123456789abcdef")
    _expect(is_digest, f"{field}.sha256", shard["sha256"], "64 hexadecimal digits")


def _feature(field: str, given: Any, dtypes: Collection[str]) -> None:
    _expect(isinstance(given, list) and len(given) == 2, field, given, "a shape and a dtype")
    _shape(f"{field}, its shape,", given[0], axes=None)
    _expect(given[1] in tuple(dtypes), f"{field}, its dtype,", given[1], f"one of {', '.join(dtypes)}")


def _skipped(field: str, entry: Any) -> None:
    _fields(field, entry, ("split", "key", "reason"))
    for name, value in entry.items():
        _text(f"{field}.{name}", value)


def _fields(field: str, given: Any, names: Collection[str]) -> None:
    _expect(isinstance(given, dict), field, given, "an object")
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"{field} lacks {', '.join(missing)}")
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"{field} has the unknown {', '.join(map(_short, unknown))}, expected {', '.join(names)}")


def _mapping(field: str, given: Any, check: Callable[[str, Any], None]) -> None:
    _expect(isinstance(given, Mapping), field, given, "an object")
    for name, value in given.items():
        _expect(name and name.isprintable(), field, name, "names of printable characters")
        check(f"{field}.{name}", value)


def _items(field: str, given: Any, check: Callable[[str, Any], None]) -> None:
    _expect(isinstance(given, list), field, given, "a list")
    for index, value in enumerate(given):
        check(f"{field}[{index}]", value)


def _texts(field: str, given: Any, is_unique: bool) -> None:
    _items(field, given, _text)
    _expect(not is_unique or len(set(given)) == len(given), field, given, "each name once")


def _text(field: str, given: Any) -> None:
    _expect(isinstance(given, str), field, given, "a text")


def _shape(field: str, given: Any, axes: int | None = 3) -> None:
    _expect(isinstance(given, list) and axes in (None, len(given)), field, given, f"{axes or 'some'} lengths")
    for length in given:
        _number(field, length, 1, MOST_VALUES)
    _expect(math.prod(given) <= MOST_VALUES, field, given, f"at most {MOST_VALUES} values")


def _number(field: str, given: Any, low: int, high: int) -> None:
    _expect(type(given) is int and low <= given <= high, field, given, f"a whole number from {low} to {high}")


def _expect(holds: Any, field: str, given: Any, expected: str) -> None:
    if not holds:
        raise ValueError(f"{field} is {_short(given)}, expected {expected}")


def _short(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."
