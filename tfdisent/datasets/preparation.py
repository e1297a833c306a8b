"""Preparation of a data set: from its raw data to a folder of shards with a manifest.

Units are shuffled once with a fixed seed and dealt to the shards, so that a shard is one work item of the pool
(`tfdisent.datasets.pool`) and its bytes depend neither on the engine, nor on the number of workers, nor on what was
interrupted. Under Beam (`tfdisent.datasets.beam`) a unit is one work item, and shards are the same. A shard is written
under `.partial/` and moved into place when whole; `manifest.json` comes last and marks the folder as whole.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfdisent import files, privacy
from tfdisent.data.records import Manifest
from tfdisent.datasets import pool
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.shards import Task, tfds_features, tfds_info
from tfdisent.datasets.splits import units_by_split


def prepare(
    builder: Builder,
    data_dir: str | pathlib.Path,
    raw_dir: str | pathlib.Path | None = None,
    *,
    workers: int | None = None,
    on_error: str = "fail",
    hash_subjects: bool = False,
    hash_key_file: str | pathlib.Path | None = None,
    engine: str = "pool",
    runner: str = "DirectRunner",
    runner_options: Sequence[str] = (),
) -> pathlib.Path:
    """Writes a data set, or what is missing of it, and returns its folder.

    The folder is `<data_dir>/<name>/<version>`, with a digest of the options before the version when they are not the
    defaults. A whole folder is returned as it is. While another process prepares it, this one waits and takes its
    result.

    Args:
        builder: the data set with its options.
        data_dir: where prepared data sets lie.
        raw_dir: the raw data; not needed when the folder is whole.
        workers: processes of the pool; 1 works in this one. Default: one a core, at most one a shard.
        on_error: "fail" stops at the first bad unit, "skip" leaves bad units out and lists them in the manifest.
        hash_subjects: replace subjects and keys by digests under a key: without it nobody can tell which name has a
            digest, not even from a list of all names.
        hash_key_file: holds the key; see `tfdisent.privacy.hash_key`. The same key gives a name the same digest.
        engine: "pool", processes of this machine, or "beam", Apache Beam; see `tfdisent.datasets.beam`.
        runner, runner_options: Beam's runner and its flags, such as "--flink_master=host:8081".

    Raises:
        ImportError: engine="beam" without Apache Beam.
        ValueError: bad input, or raw data other than what the folder was prepared from.
        FileNotFoundError: no raw data.
        OSError: the shards cannot be written.
    """
    if on_error not in ("fail", "skip"):
        raise ValueError(f"Expected on_error to be 'fail' or 'skip', received {on_error!r}.")
    if hash_key_file is not None and not hash_subjects:
        raise ValueError("hash_key_file is of hash_subjects; give both, or none.")
    if workers is not None and workers < 1:
        raise ValueError(f"Expected workers to be at least 1, received {workers}.")
    if engine not in ("pool", "beam"):
        raise ValueError(f"Expected engine to be 'pool' or 'beam', received {engine!r}.")
    if engine == "beam":
        from tfdisent.datasets import beam  # needs Apache Beam

        write = functools.partial(beam.write_shards, runner=runner, options=tuple(runner_options))
    else:
        write = functools.partial(pool.write_shards, workers=workers)
    pool.check_not_starting()
    folder = prepared_folder(builder, data_dir, hash_subjects)
    if raw_dir is None and _is_whole(folder):
        return folder
    raw_dir = _raw_directory(builder, raw_dir)
    source = fingerprint(builder, raw_dir)
    key = privacy.hash_key(hash_key_file, outside=data_dir) if hash_subjects else b""
    if key:  # nor may names be tried out on it
        source = privacy.digest(key, source)
    if not _is_whole(folder):
        options = _plain({**dataclasses.asdict(builder), "hash_subjects": hash_subjects})
        manifest = dataclasses.replace(builder.info(raw_dir), options=options, source=source)
        tasks = plan(builder, raw_dir, manifest, folder, on_error, key)
        try:
            with files.locked(folder, "preparation", wait=True):
                if not _is_whole(folder):  # by another process, meanwhile
                    _write_folder(tasks, write)
        except OSError as error:
            raise OSError(
                f"Preparation of {folder} stopped: {str(error).rstrip('.')}. What is whole is kept, and the same "
                "command resumes from there."
            ) from error
    if Manifest.read(folder).source != source:
        or_key = ", or with another key" if key else ""
        raise ValueError(
            f"{folder} was prepared from other raw data than what is now in {raw_dir}{or_key}. Delete it to prepare it "
            "again, or choose another data_dir."
        )
    return folder


def _is_whole(folder: pathlib.Path) -> bool:
    """Whether a folder is prepared; what a preparation left that was killed as it ended is removed then."""
    is_whole = (folder / "manifest.json").is_file()
    if is_whole:
        shutil.rmtree(folder / ".partial", ignore_errors=True)
    return is_whole


def _write_folder(tasks: list[Task], write: Callable[[list[Task], pool.UnitProgress], None]) -> None:
    """Writes what is missing of a folder, and at last its manifest."""
    folder, manifest = tasks[0].folder, tasks[0].manifest
    _start_or_resume(folder, manifest.source, tasks)
    manifest = _finished(manifest, tasks, _write_all(tasks, write))
    files.write_json(folder / "features.json", tfds_features(manifest))
    files.write_json(folder / "dataset_info.json", tfds_info(manifest))
    files.write_text(folder / "manifest.json", manifest.to_json())
    shutil.rmtree(folder / ".partial", ignore_errors=True)
    if manifest.skipped:
        print(f"{len(manifest.skipped)} skipped, listed in {folder / 'manifest.json'}", file=sys.stderr)


def dry_run(builder: Builder, raw_dir: str | pathlib.Path | None = None) -> str:
    """What `prepare` would do: problems and notes, and a table of units, subjects and groups of each split.

    Without `raw_dir`, where it is needed: where to get the raw data, and what the folder must look like.

    Raises:
        ValueError: bad input.
        FileNotFoundError: `raw_dir` does not exist.
    """
    if builder.raw_help and raw_dir is None:
        return f"{builder.name} needs its raw data, given as raw_dir.\n{builder.raw_help}"
    raw_dir = _raw_directory(builder, raw_dir)
    info, splits = builder.info(raw_dir), _splits(builder, raw_dir)
    found = [unit for units in splits.values() for unit in units]
    lines = [
        f"{builder.name} {builder.version}: images {info.image_shape} {info.image_dtype}",
        *_told(found, "problem"),
        *_told(found, "note"),
        f"{'split':<12}{'units':>8}{'subjects':>10}{'shards':>8}{'problems':>10}  groups",
    ]
    for split, units in splits.items():
        good = [unit for unit in units if not unit.problem]
        groups = collections.Counter(unit.group for unit in good if unit.group)
        lines.append(
            f"{split:<12}{len(good):>8}{len({unit.subject for unit in good}):>10}"
            f"{min(builder.num_shards, len(good)):>8}{len(units) - len(good):>10}  "
            + ", ".join(f"{group} {count}" for group, count in sorted(groups.items()))
        )
    return "\n".join([*lines, *_modality_table(info.modalities, found)])


def _modality_table(modalities: Sequence[str], units: list[Unit]) -> list[str]:
    """How many units have each modality and the first that lacks it, where the index says so."""
    if not any(unit.modalities for unit in units):
        return []
    # A file that belongs to no modality has a problem of its own, and no place in this table.
    units = [unit for unit in units if unit.modalities or not unit.problem]
    lines = [f"{'modality':<12}{'units':>8}{'missing':>10}  first missing"]
    for modality in modalities:
        missing = sorted(unit.key for unit in units if modality not in unit.modalities)
        num_found = len(units) - len(missing)
        lines.append(f"{modality:<12}{num_found:>8}{len(missing):>10}  {''.join(missing[:1])}")
    return [line.rstrip() for line in lines]


def prepared_folder(builder: Builder, data_dir: str | pathlib.Path, hash_subjects: bool = False) -> pathlib.Path:
    """Where a data set with these options lies, prepared or not."""
    changed = {
        field.name: getattr(builder, field.name)
        for field in dataclasses.fields(builder)
        if getattr(builder, field.name) != field.default
    }
    if hash_subjects:
        changed["hash_subjects"] = True
    folder = pathlib.Path(data_dir).expanduser() / builder.name
    if changed:
        folder /= hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    return folder / builder.version


def fingerprint(builder: Builder, raw_dir: pathlib.Path | None) -> str:
    """Digest of the names and sizes of all raw files, and of the content of a table that stands for them; of the data
    set's name when it makes its own images. A link that leads nowhere has no size, nor has a file that vanishes
    meanwhile: who reads it says so, and `on_error` decides.
    """
    digest = hashlib.sha256(f"{builder.name} {builder.version}".encode())
    if raw_dir is not None:
        folder = raw_dir
        if raw_dir.is_file():
            folder = raw_dir.parent
            digest.update(raw_dir.read_bytes())
        for path in builder.raw_files(raw_dir):
            name = pathlib.Path(os.path.relpath(path, folder)).as_posix()
            try:
                size = path.stat().st_size
            except OSError:
                size = None
            digest.update(f"\n{name} {size}".encode())
    return digest.hexdigest()


def plan(
    builder: Builder,
    raw_dir: pathlib.Path | None,
    manifest: Manifest,
    folder: pathlib.Path,
    on_error: str,
    hash_key: bytes = b"",
) -> list[Task]:
    """The shards of a data set, each with its units.

    Raises:
        ValueError: a split is empty, a unit occurs twice, a subject is in two splits, or a unit has a problem and
            `on_error` is "fail".
    """
    splits = _splits(builder, raw_dir)
    units = [unit for units in splits.values() for unit in units]
    if on_error == "fail" and (problems := _told(units, "problem")):
        head = f"{builder.name}: {sum(bool(unit.problem) for unit in units)} problems in the raw data:"
        fix = "Fix them, or leave these units out with on_error=skip."
        raise ValueError("\n".join([head, *problems, fix]))
    _check_units(builder, splits)
    for line in _told(units, "note"):
        print(line, file=sys.stderr)
    tasks = []
    for split, units in splits.items():
        units = sorted(units)
        random.Random(0).shuffle(units)
        num_shards = min(builder.num_shards, len(units))
        for index in range(num_shards):
            name = f"{builder.name}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"
            dealt = tuple(units[index::num_shards])
            tasks.append(Task(builder, manifest, folder, split, name, dealt, on_error, hash_key))
    return tasks


def _check_units(builder: Builder, splits: dict[str, list[Unit]]) -> None:
    keys, owners = set(), {}
    for split, units in splits.items():
        if not any(not unit.problem for unit in units):
            empty = f"{builder.name}: split {split!r} is empty. Its options are {builder}."
            raise ValueError("\n".join([*_told(units, "problem"), empty]))
        for unit in units:
            if unit.key in keys:
                raise ValueError(f"{builder.name}: {unit.key!r} occurs twice. Remove one of them from the raw data.")
            keys.add(unit.key)
            owner = builder.part_of.get(split, split)
            if not unit.problem and owners.setdefault(unit.subject, owner) != owner:
                raise ValueError(
                    f"{builder.name}: subject {unit.subject!r} is in two splits, {owners[unit.subject]} and {split}."
                )


def _splits(builder: Builder, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
    """The units by split; where they cannot be split, their problems are told first, as the likeliest cause."""
    try:
        return units_by_split(builder, raw_dir)
    except ValueError as error:
        if problems := _told(builder.units(raw_dir), "problem"):
            head = f"{builder.name}: problems in the raw data:"
            raise ValueError("\n".join([head, *problems, str(error)])) from error
        raise


def _told(units: Sequence[Unit], kind: str) -> list[str]:
    """The first ten problems or notes of units, a line each."""
    texts = list(dict.fromkeys(text for unit in units if (text := getattr(unit, kind))))
    more = [f"... and {len(texts) - 10} more {kind}s"] if len(texts) > 10 else []
    return [f"{kind}: {text}" for text in texts[:10]] + more


def _start_or_resume(folder: pathlib.Path, source: str, tasks: list[Task]) -> None:
    """Deletes what an interrupted preparation of other raw data left, and what a killed one was about to write."""
    units = json.dumps([[task.name, [unit.key for unit in task.units]] for task in tasks])
    if tasks[0].hash_key:
        units = privacy.digest(tasks[0].hash_key, units)
    content = json.dumps({"source": source, "units": hashlib.sha256(units.encode()).hexdigest()})
    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.tmp", "*.problem"):
        for left in partial.glob(pattern):
            left.unlink()
    path = partial / "plan.json"
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return
    for entry in partial.glob("*.json"):
        entry.unlink()
    files.write_text(path, content)


def _write_all(tasks: list[Task], write: Callable[[list[Task], pool.UnitProgress], None]) -> list[dict]:
    """Writes the shards that are missing; returns the entries of all."""
    waiting, good, skipped = [], 0, 0
    for task in tasks:
        if task.is_written:
            left_out = len(task.entry["skipped"])
            good, skipped = good + len(task.units) - left_out, skipped + left_out
        else:
            waiting.append(task)
    total = sum(len(task.units) for task in tasks)
    with pool.UnitProgress(tasks[0].builder.name, total, good, skipped) as progress:
        if waiting:
            write(waiting, progress)
    return [task.entry for task in tasks]


def _finished(manifest: Manifest, tasks: list[Task], shards: list[dict]) -> Manifest:
    """The manifest with what was written."""
    splits: dict[str, dict] = {}
    for task, shard in zip(tasks, shards, strict=True):
        split = splits.setdefault(
            task.split,
            {
                "subjects": set(),
                "num_examples": 0,
                "label_counts": dict.fromkeys(manifest.labels, 0),
                "shards": [],
            },
        )
        split["subjects"] |= set(shard["subjects"])
        split["num_examples"] += shard["num_examples"]
        for label, count in shard["label_counts"].items():
            split["label_counts"][label] += count
        split["shards"].append({name: shard[name] for name in ("name", "num_examples", "bytes", "sha256")})
    for name, split in splits.items():
        if not split["num_examples"]:
            raise ValueError(
                f"{manifest.dataset}: nothing of split {name!r} could be read; all its units were skipped."
            )
        split["subjects"] = sorted(split["subjects"])
    skipped = tuple(entry for shard in shards for entry in shard["skipped"])
    return dataclasses.replace(manifest, splits=splits, skipped=skipped)


def _raw_directory(builder: Builder, raw_dir: str | pathlib.Path | None) -> pathlib.Path | None:
    if not builder.raw_help:
        if raw_dir is not None:
            raise ValueError(f"{builder.name} makes its own images; leave out raw_dir ({raw_dir}).")
        return None
    if raw_dir is None:
        raise FileNotFoundError(f"{builder.name} needs its raw data: give raw_dir.\n{builder.raw_help}")
    raw_dir = pathlib.Path(raw_dir).expanduser()
    if not raw_dir.exists():
        raise FileNotFoundError(f"raw_dir {raw_dir} does not exist.\n{builder.raw_help}")
    return raw_dir


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    return json.loads(json.dumps(options))
