"""From raw data to shards, over a pool of processes or under Apache Beam.

A data set is one file with a frozen dataclass derived from `Builder`. Its fields are its options,
all with defaults; it has three methods and nothing else is needed but a line in
`tfdisent.datasets.DATASETS`:

    @dataclasses.dataclass(frozen=True)
    class Example(Builder):
        name = "example"                    # folder and command line
        version = "1.0.0"                   # raise it when the bytes of a record change
        raw_help = "Get it from ... The folder must look like ..."      # empty: needs no raw data
        size: int = 64                      # an option

        def info(self, raw_dir):            # what a record looks like
            return Manifest(dataset=self.name, version=self.version, image_shape=..., labels=...)

        def splits(self, raw_dir):
            return {"train": [Unit(key, subject, source), ...], "test": [...]}

        def examples(self, unit):
            yield {"image": ..., "label": "mel"}

`splits` looks at names and tables only. A `Unit` is what is read in one piece: a photograph, or
one subject's volumes. `examples` runs in another process, opens the files and yields one dict per
record (`tfdisent.data.records` has the features; `subject` and `key` are filled in, but a unit of
several examples gives each a `key` of its own). Bad input is a ValueError or OSError that names
the file, the cause and the mend; what `splits` already sees to be bad (a row without a file) is a
unit with `problem` set. What can be done on the fly (flips, normalisation, balance) is not written
to disk.

Units are shuffled once with a fixed seed and dealt to the shards, so that a shard is one work item
of the pool and its bytes depend neither on the engine, nor on the number of workers, nor on what
was interrupted. Under Beam (`tfdisent.datasets.beam`) a unit is one work item, and shards are the same. A
shard is written under `.partial/` and moved into place when whole; `manifest.json` comes last and
marks the folder as whole.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from tfdisent.data.records import Manifest, encode, parse

_BAD_INPUT = (ValueError, OSError, EOFError, zlib.error)
_OUTCOMES = ("good", "skipped", "failed")


class Unit(NamedTuple):
    """What is read in one piece.

    `key` is unique in the data set. `subject` (patient, lesion) is in one split only. `source` is
    whatever `examples` needs (paths, numbers; it is pickled). `group` is counted by the dry run
    (class, scanner). `problem` says why the unit cannot be read, when the index already shows it.
    `modalities` are those that the index found for it; the dry run names the first unit that lacks
    one. `note` is what the user should know of a unit that is kept (a rating taken as missing).
    """

    key: str
    subject: str
    source: Any = None
    group: str = ""
    problem: str = ""
    modalities: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Builder:
    """A data set: options as fields, and the three methods; see the module's text."""

    name: ClassVar[str]
    version: ClassVar[str] = "1.0.0"
    raw_help: ClassVar[str] = ""
    num_shards: ClassVar[int] = 8  # of a split; aim at 10 to 200 MB each
    part_of: ClassVar[dict[str, str]] = {}  # a split that may share subjects with another one

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        """What a record looks like, and the words about the data set; `prepare` fills in the
        rest.
        """
        raise NotImplementedError

    def splits(self, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
        """All units by split, without opening images."""
        raise NotImplementedError

    def examples(self, unit: Unit) -> Iterator[dict[str, Any]]:
        """The examples of one unit."""
        raise NotImplementedError

    def raw_files(self, raw_dir: pathlib.Path) -> list[pathlib.Path]:
        """The files whose names and sizes tell this raw data from others: all in the folder."""
        return files_under(raw_dir)


def prepare(
    builder: Builder,
    data_dir: str | pathlib.Path,
    raw_dir: str | pathlib.Path | None = None,
    *,
    workers: int | None = None,
    on_error: str = "fail",
    hash_subjects: bool = False,
    engine: str = "pool",
    runner: str = "DirectRunner",
    runner_options: Sequence[str] = (),
) -> pathlib.Path:
    """Writes a data set, or what is missing of it, and returns its folder.

    The folder is `<data_dir>/<name>/<version>`, with a digest of the options before the version
    when they are not the defaults. A whole folder is returned as it is.

    Args:
        builder: the data set with its options.
        data_dir: where prepared data sets lie.
        raw_dir: the raw data; not needed when the folder is whole.
        workers: processes; 1 works in this one. Default: one a core, at most one a shard. Of the
            pool only.
        on_error: "fail" stops at the first bad unit, "skip" leaves bad units out and lists them in
            the manifest.
        hash_subjects: replace subjects and keys by digests. It hides names from sight; who has a
            list of the possible names can still find which ones they are.
        engine: "pool", processes of this machine, or "beam", Apache Beam; see `tfdisent.datasets.beam`.
        runner, runner_options: Beam's runner and its flags, such as "--flink_master=host:8081".

    Raises:
        ImportError: engine="beam" without Apache Beam.
        ValueError: bad input, or raw data other than what the folder was prepared from.
        FileNotFoundError: no raw data.
        OSError: the shards cannot be written.
    """
    if on_error not in ("fail", "skip"):
        raise ValueError(f"on_error must be 'fail' or 'skip', received {on_error!r}.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, received {workers}.")
    if engine not in ("pool", "beam"):
        raise ValueError(f"engine must be 'pool' or 'beam', received {engine!r}.")
    if engine == "beam":
        from tfdisent.datasets import beam

        write = functools.partial(beam.write_shards, runner=runner, options=tuple(runner_options))
    else:
        write = functools.partial(_write_by_pool, workers=workers)
    folder = prepared_folder(builder, data_dir, hash_subjects)
    is_whole = (folder / "manifest.json").is_file()
    if is_whole and raw_dir is None:
        return folder
    raw_dir = _raw_directory(builder, raw_dir)
    source = _fingerprint(builder, raw_dir)
    if is_whole:
        if Manifest.read(folder).source == source:
            return folder
        raise ValueError(
            f"{folder} was prepared from other raw data than what is now in {raw_dir}. Delete it "
            "to prepare it "
            "again, or choose another data_dir."
        )

    options = {**dataclasses.asdict(builder), "hash_subjects": hash_subjects}
    manifest = dataclasses.replace(builder.info(raw_dir), options=_plain(options), source=source)
    tasks = _plan(builder, raw_dir, manifest, folder, on_error, hash_subjects)
    try:
        _start_or_continue(folder, source, tasks)
        shards = _write_all(tasks, write)
        manifest = _finished(manifest, tasks, shards)
        _write_text(folder / "features.json", tfds_features(manifest))
        _write_text(folder / "dataset_info.json", tfds_info(manifest))
        _write_text(folder / "manifest.json", manifest.to_json())
        _remove_traces(folder, tasks)
    except OSError as error:
        raise OSError(
            f"Preparation of {folder} stopped: {error}. What is whole is kept, and the same command goes on from there."
        ) from error
    if manifest.skipped:
        tqdm.write(
            f"{len(manifest.skipped)} skipped, listed in {folder / 'manifest.json'}",
            file=sys.stderr,
        )
    return folder


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


def dry_run(builder: Builder, raw_dir: str | pathlib.Path | None) -> str:
    """What `prepare` would do, as a table: units, subjects, groups and problems of each split."""
    raw_dir = _raw_directory(builder, raw_dir)
    info, splits = builder.info(raw_dir), builder.splits(raw_dir)
    lines = [
        f"{builder.name} {builder.version}: images {info.image_shape} {info.image_dtype}",
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
    units = [unit for units in splits.values() for unit in units]
    lines += _modality_table(info.modalities, units)
    for kind in ("problem", "note"):
        texts = [text for unit in units if (text := getattr(unit, kind))]
        lines += [f"{kind}: {text}" for text in texts[:10]]
        if len(texts) > 10:
            lines.append(f"... and {len(texts) - 10} more {kind}s")
    return "\n".join(lines)


def _modality_table(modalities: Sequence[str], units: list[Unit]) -> list[str]:
    """How many units have each modality and the first that lacks it, where the index says so."""
    if not any(unit.modalities for unit in units):
        return []
    # Of a file that cannot be placed at all there is nothing to say here.
    units = [unit for unit in units if unit.modalities or not unit.problem]
    lines = [f"{'modality':<12}{'units':>8}{'missing':>10}  first missing"]
    for modality in modalities:
        missing = sorted(unit.key for unit in units if modality not in unit.modalities)
        num_found = len(units) - len(missing)
        lines.append(f"{modality:<12}{num_found:>8}{len(missing):>10}  {''.join(missing[:1])}")
    return [line.rstrip() for line in lines]


def verify(folder: str | pathlib.Path) -> Manifest:
    """Checks every shard of a prepared folder: checksum, count, and that each record decodes.

    Raises:
        OSError: names each shard that is missing or damaged.
    """
    folder = pathlib.Path(folder)
    manifest = Manifest.read(folder)
    problems = []
    for split, entry in manifest.splits.items():
        for shard in tqdm(entry["shards"], desc=f"verify {split}", unit="shard", disable=None):
            if problem := _shard_problem(folder / shard["name"], shard, manifest):
                problems.append(f"{folder / shard['name']}: {problem}")
        if sum(shard["num_examples"] for shard in entry["shards"]) != entry["num_examples"]:
            problems.append(f"{folder / 'manifest.json'}: split {split} counts other examples than its shards")
    if problems:
        raise OSError("\n".join([*problems, f"Delete {folder} and prepare the data set again."]))
    return manifest


def _shard_problem(path: pathlib.Path, shard: dict, manifest: Manifest) -> str:
    if not path.is_file():
        return "missing"
    if _digest(path) != shard["sha256"]:
        return "its checksum is not that of the manifest"
    try:
        batches = tf.data.TFRecordDataset(str(path)).batch(64).map(lambda records: parse(records, manifest))
        count = sum(len(batch["key"]) for batch in batches)
    except tf.errors.OpError as error:
        return f"does not decode ({error.message})"
    return "" if count == shard["num_examples"] else f"holds {count} records, expected {shard['num_examples']}"


class Task(NamedTuple):
    """One shard to write, with all that another process needs for it."""

    builder: Builder
    manifest: Manifest
    folder: pathlib.Path
    split: str
    name: str
    units: tuple[Unit, ...]
    on_error: str
    hash_subjects: bool

    @property
    def path(self) -> pathlib.Path:
        return self.folder / self.name

    @property
    def record(self) -> pathlib.Path:
        """Where the shard's entry for the manifest waits until all are written."""
        return self.folder / ".partial" / f"{self.name}.json"


def _plan(builder, raw_dir, manifest, folder, on_error, hash_subjects) -> list[Task]:
    splits = builder.splits(raw_dir)
    _check_units(builder, splits)
    if on_error == "fail":
        _fail_on_problems(builder, splits)
    tasks = []
    for split, units in splits.items():
        units = sorted(units)
        random.Random(0).shuffle(units)
        num_shards = min(builder.num_shards, len(units))
        for index in range(num_shards):
            name = f"{builder.name}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"
            dealt = tuple(units[index::num_shards])
            tasks.append(Task(builder, manifest, folder, split, name, dealt, on_error, hash_subjects))
    return tasks


def _check_units(builder: Builder, splits: dict[str, list[Unit]]) -> None:
    keys, owners = set(), {}
    for split, units in splits.items():
        if not any(not unit.problem for unit in units):
            raise ValueError(f"{builder.name}: split {split!r} is empty. Its options are {builder}.")
        for unit in units:
            if unit.key in keys:
                raise ValueError(f"{builder.name}: {unit.key!r} occurs twice. Remove one of them from the raw data.")
            keys.add(unit.key)
            owner = builder.part_of.get(split, split)
            if not unit.problem and owners.setdefault(unit.subject, owner) != owner:
                raise ValueError(
                    f"{builder.name}: subject {unit.subject!r} is in two splits, {owners[unit.subject]} and {split}."
                )


def _fail_on_problems(builder: Builder, splits: dict[str, list[Unit]]) -> None:
    problems = [unit.problem for units in splits.values() for unit in units if unit.problem]
    if problems:
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(
            f"{builder.name}: {len(problems)} problems in the raw data:\n" + "\n".join(problems[:5]) + more + "\n"
            "Mend them, or leave these out with on_error=skip."
        )


def _start_or_continue(folder: pathlib.Path, source: str, tasks: list[Task]) -> None:
    """Throws away what an interrupted preparation of other raw data left."""
    plan = json.dumps(
        {
            "source": source,
            "units": [[task.name, [unit.key for unit in task.units]] for task in tasks],
        }
    )
    (folder / ".partial").mkdir(parents=True, exist_ok=True)
    path = folder / ".partial" / "plan.json"
    if path.is_file() and path.read_text(encoding="utf-8") == plan:
        return
    for entry in folder.glob(".partial/*.json"):
        entry.unlink()
    _write_text(path, plan)


def is_written(task: Task) -> bool:
    """Whether a shard is whole, and as strict as the task asks."""
    if not (task.path.is_file() and task.record.is_file()):
        return False
    return task.on_error == "skip" or not _entry(task)["skipped"]


def _entry(task: Task) -> dict:
    return json.loads(task.record.read_text(encoding="utf-8"))


def _write_all(tasks: list[Task], write: Callable[[list[Task], "_Progress"], None]) -> list[dict]:
    """Writes the shards that are missing; returns the entries of all."""
    with _Progress(tasks) as progress:
        waiting = [task for task in tasks if not is_written(task)]
        if waiting:
            write(waiting, progress)
    return [_entry(task) for task in tasks]


class _Progress:
    """A bar over all units with the counts of good, skipped and failed ones.

    `counts` is a list, or an array that worker processes share and add to; a thread shows it.
    """

    def __init__(self, tasks: list[Task]):
        self.counts = [0] * len(_OUTCOMES)
        self._already = collections.Counter()
        for task in tasks:
            if is_written(task):
                skipped = len(_entry(task)["skipped"])
                self._already.update(skipped=skipped, good=len(task.units) - skipped)
        total = sum(len(task.units) for task in tasks)
        self._bar = tqdm(total=total, desc=tasks[0].builder.name, unit="unit", disable=None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show_until_the_end, daemon=True)

    def __enter__(self) -> "_Progress":
        global _counts
        _counts = self.counts
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ended.set()
        self._thread.join()
        self._show()
        self._bar.close()

    def _show_until_the_end(self) -> None:
        while not self._ended.wait(0.2):
            self._show()

    def _show(self) -> None:
        counts = dict(zip(_OUTCOMES, self.counts, strict=True))
        counts = {name: count + self._already[name] for name, count in counts.items()}
        self._bar.set_postfix(counts, refresh=False)
        self._bar.update(sum(counts.values()) - self._bar.n)


_counts = [0] * len(_OUTCOMES)  # of this process's preparation


def _share_counts(counts) -> None:
    """Makes a worker process count into its parent's array."""
    global _counts
    _counts = counts


def _count(outcome: str) -> None:
    with getattr(_counts, "get_lock", contextlib.nullcontext)():
        _counts[_OUTCOMES.index(outcome)] += 1


def _write_by_pool(tasks: list[Task], progress: _Progress, workers: int | None) -> None:
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    if workers == 1:
        for task in tasks:
            _write_shard(task)
        return
    # Spawned, not forked: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    progress.counts = context.Array("q", len(_OUTCOMES))
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_share_counts, initargs=(progress.counts,)
    )
    try:
        for future in concurrent.futures.as_completed([pool.submit(_write_shard, task) for task in tasks]):
            future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError(
            "A worker process died, perhaps for want of memory. The same command goes on with "
            "what is missing; "
            "use fewer workers. A script that calls prepare() needs `if __name__ == '__main__':`."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write_shard(task: Task) -> None:
    write_shard(task, (read_unit(task, unit) for unit in task.units))


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
        with threadpool_limits(1):
            result = Result(unit, _records(task, unit))
        _count("good")
    except _BAD_INPUT as error:
        result = Result(unit, [], str(error) or type(error).__name__, type(error).__name__)
        _count("skipped" if task.on_error == "skip" else "failed")
    return result


def write_shard(task: Task, results: Iterable[Result]) -> None:
    """Writes one shard and its entry for the manifest, both under their final names only when
    whole.

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
            "sha256": _digest(temporary),
            "label_counts": labels,
            "subjects": sorted(subjects),
            "skipped": skipped,
        }
        _write_text(task.record, json.dumps(entry))
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
        if task.hash_subjects:
            example["key"] = _hashed(task.builder, example["key"])
        record, label = encode(example, task.manifest), example.get("label")
        labels = [] if label is None else [label if isinstance(label, str) else task.manifest.labels[label]]
        records.append((record, labels))
    if not records:
        raise ValueError("it gave no example")
    return records


def _subject(task: Task, unit: Unit) -> str:
    return _hashed(task.builder, unit.subject) if task.hash_subjects else unit.subject


def _hashed(builder: Builder, name: str) -> str:
    return hashlib.sha256(f"{builder.name}:{name}".encode()).hexdigest()[:16]


def _skipped(task: Task, result: Result) -> dict:
    if task.hash_subjects:  # paths in the reason can hold names
        key, reason = _hashed(task.builder, result.unit.key), result.kind
    else:
        key, reason = result.unit.key, result.error
    return {"split": task.split, "key": key, "reason": reason}


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


def tfds_features(manifest: Manifest) -> str:
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
    content = {
        "pythonClassName": f"{package}.features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }
    return json.dumps(content, indent=1) + "\n"


def tfds_info(manifest: Manifest) -> str:
    """`dataset_info.json`: the splits as TensorFlow Datasets reads them."""
    content = {
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
    return json.dumps(content, indent=1) + "\n"


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


def files_under(raw_dir: pathlib.Path) -> list[pathlib.Path]:
    """All files below a folder, also behind links to folders, in the order of their paths."""
    walk = os.walk(raw_dir, followlinks=True)
    return sorted(pathlib.Path(folder, name) for folder, _, names in walk for name in names)


def _fingerprint(builder: Builder, raw_dir: pathlib.Path | None) -> str:
    """Digest of the names and sizes of all raw files, and of the content of a table that stands for
    them; of the data set's name when it makes its own.
    """
    digest = hashlib.sha256(f"{builder.name} {builder.version}".encode())
    if raw_dir is not None:
        folder = raw_dir
        if raw_dir.is_file():
            folder = raw_dir.parent
            digest.update(raw_dir.read_bytes())
        for path in builder.raw_files(raw_dir):
            name = pathlib.Path(os.path.relpath(path, folder)).as_posix()
            digest.update(f"\n{name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def _remove_traces(folder: pathlib.Path, tasks: list[Task]) -> None:
    for path in (*(task.record for task in tasks), folder / ".partial" / "plan.json"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".partial/*.tmp"):  # of runs that were killed
        path.unlink(missing_ok=True)
    (folder / ".partial").rmdir()


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_text(path: pathlib.Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    return json.loads(json.dumps(options))
