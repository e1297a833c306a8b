"""Preparation of data sets: each becomes a folder of shards that `tfdisent.data.load` reads.

    from tfdisent.datasets import prepare
    folder = prepare("skin_phantom", "data", size=32)

`DATASETS` maps a data set's name to the module and the class of its builder, imported when it is asked for, as is
TensorFlow.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Sequence
from typing import Any, get_origin

__all__ = ["DATASETS", "builder_class", "dry_run", "make_builder", "prepare", "verify"]

DATASETS = {
    "abdomen_phantom": ("tfdisent.datasets.phantom", "AbdomenPhantom"),
    "bids": ("tfdisent.datasets.bids", "BIDS"),
    "brain_phantom": ("tfdisent.datasets.phantom", "BrainPhantom"),
    "brats": ("tfdisent.datasets.brats", "BraTS"),
    "cardiac_phantom": ("tfdisent.datasets.phantom", "CardiacPhantom"),
    "chaos": ("tfdisent.datasets.chaos", "CHAOS"),
    "ham10000": ("tfdisent.datasets.ham10000", "HAM10000"),
    "healthy_phantom": ("tfdisent.datasets.phantom", "HealthyPhantom"),
    "ixi": ("tfdisent.datasets.ixi", "IXI"),
    "lidc": ("tfdisent.datasets.lidc", "LIDC"),
    "lidc_patches": ("tfdisent.datasets.lidc_patches", "LIDCPatches"),
    "manifest": ("tfdisent.datasets.manifest", "Table"),
    "msseg": ("tfdisent.datasets.msseg", "MSSEG"),
    "nodule_phantom": ("tfdisent.datasets.phantom", "NodulePhantom"),
    "pet_phantom": ("tfdisent.datasets.phantom", "PETPhantom"),
    "retina_phantom": ("tfdisent.datasets.phantom", "RetinaPhantom"),
    "retouch": ("tfdisent.datasets.retouch", "RETOUCH"),
    "skin_phantom": ("tfdisent.datasets.phantom", "SkinPhantom"),
}


def builder_class(name: str) -> type:
    """The builder of a data set. Raises ValueError that lists the names there are."""
    if name not in DATASETS:
        raise ValueError(f"Unknown data set {name!r}. Known ones are: {', '.join(sorted(DATASETS))}.")
    module, attribute = DATASETS[name]
    return getattr(importlib.import_module(module), attribute)


def make_builder(dataset: str, options: dict[str, Any]):
    """The builder of a data set with its options; texts, as from the command line, become their field's type.

    Raises:
        ValueError: unknown data set or option, or a value of another type.
    """
    kind = builder_class(dataset)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in options:
        if name not in fields:
            raise ValueError(f"{dataset} has no option {name!r}. Its options are: {', '.join(fields)}.")
    return kind(**{name: _typed(fields[name], value) for name, value in options.items()})


def prepare(
    dataset: str,
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
    **options: Any,
) -> pathlib.Path:
    """Prepares a data set if it is not prepared yet; returns its folder for `tfdisent.data.load`.

    Worker processes are started: a script calls it under `if __name__ == "__main__":`, or with workers=1.

    Args:
        dataset: a name in `DATASETS`.
        data_dir: where prepared data sets lie.
        raw_dir: the raw data; not needed by phantoms, nor where the folder is whole.
        workers, on_error, hash_subjects, hash_key_file, engine, runner, runner_options: see
            `tfdisent.datasets.preparation.prepare`.
        **options: the data set's own, e.g. size=32.

    Raises:
        ImportError: engine="beam" without Apache Beam.
        ValueError: unknown data set or option, or bad input.
        FileNotFoundError: no raw data; says where to get it.
        OSError: the shards cannot be written.
    """
    builder = make_builder(dataset, options)
    from tfdisent.datasets import preparation

    return preparation.prepare(
        builder,
        data_dir,
        raw_dir,
        workers=workers,
        on_error=on_error,
        hash_subjects=hash_subjects,
        hash_key_file=hash_key_file,
        engine=engine,
        runner=runner,
        runner_options=runner_options,
    )


def dry_run(dataset: str, raw_dir: str | pathlib.Path | None = None, **options: Any) -> str:
    """What `prepare` would write, as a table; without `raw_dir`, where it is needed: where to get the raw data.

    Raises:
        ValueError: unknown data set or option, or bad input.
        FileNotFoundError: `raw_dir` does not exist.
    """
    builder = make_builder(dataset, options)
    from tfdisent.datasets import preparation

    return preparation.dry_run(builder, raw_dir)


def verify(folder: str | pathlib.Path):
    """Checks every shard of a prepared folder; returns its `Manifest`.

    Raises:
        OSError: names each shard that is missing or damaged.
    """
    from tfdisent.datasets import shards

    return shards.verify(folder)


def _typed(field: dataclasses.Field, value: Any) -> Any:
    kind = get_origin(field.type) or field.type
    try:
        if kind is tuple:
            return tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if kind is not str and isinstance(value, str) or kind is float:
            return kind(value)
        if not isinstance(value, kind):
            raise TypeError
        return value
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"Option {field.name} is of type {kind.__name__}, received {value!r}.") from None
