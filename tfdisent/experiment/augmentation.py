"""Labelled synthetic images from a trained run, and how much they help a classifier.

DRAI's paper suggests this use in Sec. V: rare classes are filled up with generated images. The images are written as a
prepared data set, which `tfdisent.data.load` reads as any other:

    split "train"   added to the real training images, it makes `per_class` images of each class
    split "rest"    added to split "train", it makes `per_class` images of each class without real ones

Each image has the condition of a real training image of its class, drawn at random, so that attributes occur together
as they do in real images. Style and content noise are drawn for each image.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import shlex
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from PIL import Image

from tfdisent import files, report
from tfdisent.data import Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.preparation import prepare
from tfdisent.evaluation import augmentation
from tfdisent.examples import Examples
from tfdisent.experiment.folder import environment
from tfdisent.experiment.run import Run, alone, examples_of
from tfdisent.intensity import INTENSITY, intensity_statistics
from tfdisent.messages import say
from tfdisent.report import figures

SPLITS = ("train", "rest")
CHUNK = 1000  # images generated before they are stored in their narrower dtype
SHOWN = 8  # images of each class in the sheet


@alone("augmentation")
def augment(
    run: Run,
    *,
    per_class: int | None = None,
    output: str | pathlib.Path | None = None,
    seed: int | None = None,
) -> pathlib.Path:
    """Writes synthetic images from a trained run, and a report in its folder on how much they help a classifier.

    Args:
        run: of a model that generates images of classes.
        per_class: see `synthesize`.
        output: the folder of the images; by default `<run_dir>/synthetic`.
        seed: of conditions, style and noise; by default that of the run.

    Returns:
        The folder of the synthetic images.

    Raises:
        ValueError: the model does not generate images of classes, or as of `synthesize`.
        ArithmeticError, OSError: as of `synthesize`.
        BlockingIOError: another process has the run folder, naming it.
    """
    if run.evaluation.generate is None:
        raise ValueError(f"Expected a run of a model that makes images of classes; {run.title} does not generate any.")
    say(f"1/3 synthetic images: {run.state['step']} of {run.config.steps} steps are done")
    run.manifest.split("test")  # to measure on; a missing one is an error before hours of work, not after
    output = pathlib.Path(output or run.run_dir / "synthetic").expanduser()
    synthesize(run, output, per_class=per_class, seed=run.settings.seed if seed is None else seed)
    say("2/3 comparison")
    measure(run, output)
    return output


def synthesize(run: Run, output: pathlib.Path, *, per_class: int | None = None, seed: int = 0) -> None:
    """Writes labelled synthetic images by the averaged weights; those that the same call has written before are kept.

    Args:
        run: trained.
        output: the folder to write, absent or empty.
        per_class: images that each class is to have; a class that has as many gets none. By default as many as the most
            frequent class has. One without any real image is left out.
        seed: of conditions, style and noise.

    Raises:
        ValueError: the data have no labels, nothing is to be added, or the folder holds something else.
        ArithmeticError: the model's images are not finite.
        OSError: the folder cannot be written; nothing is left in it.
    """
    manifest = run.manifest
    missing = additions(manifest, per_class)
    for label in manifest.labels:
        if label not in missing:
            say(f"    class {label} has no training image to learn it from: left out")
    origin = {
        "name": f"{manifest.dataset}_synthetic",
        "run": run.run_dir.resolve().name,
        "model": run.title,
        "step": run.state["step"],
        "weights": weights_digest(run.model),
        "trained_on": f"{manifest.dataset} {manifest.version} {manifest.source}".strip(),
        "per_class": per_class or max(manifest.split("train")["label_counts"].values()),
        "seed": seed,
    }
    if _is_there(output, origin):
        say(f"    they are there already: {output}")
        return
    _written_whole(output, functools.partial(_write, run, missing, origin))
    counts = ", ".join(f"{count} {label}" for label, count in missing.items())
    say(f"    to be added to the real ones: {counts}; in {output}")


def measure(run: Run, output: pathlib.Path, **settings: Any) -> None:
    """Writes `augmentation.json` and `report-augmentation.html`, unless they are of these images already.

    Args:
        run: whose data and folder.
        output: the synthetic images.
        **settings: kind, seeds and steps of `tfdisent.evaluation.augmentation.compare`.
    """
    made = Manifest.read(output)
    done = {"synthetic": made.options, "classifier": {k: str(v) for k, v in settings.items()}}
    record, page = run.run_dir / "augmentation.json", run.run_dir / "report-augmentation.html"
    if record.is_file() and page.is_file():
        old = json.loads(record.read_text())
        if {name: old.get(name) for name in done} == done:
            say(f"    done already\n\nreport: {page}")
            return
    real = examples_of(run.data_folder, "train")
    synthetic = _everything(output)
    metrics, pictures = augmentation.compare(
        real,
        synthetic,
        examples_of(run.data_folder, "test"),
        made.labels,
        per_class=made.options["per_class"],
        log=lambda message: say(f"    {message}"),
        **settings,
    )
    files.write_json(record, {**done, "metrics": metrics})

    say("3/3 report")
    report.write_report(
        run.run_dir,
        name=page.name,
        title=f"Synthetic images by {run.title}: {made.dataset}",
        summary=f"{made.description}\n\n{augmentation.headline(metrics)}",
        metrics=metrics,
        figures=[_picture(real, synthetic, made.labels), *pictures],
        config=dataclasses.asdict(run.config),
        environment=environment(),
        data=dataclasses.asdict(made),
        command=shlex.join(["tfdisent", "augment", f"--run_dir={run.run_dir}"]),
    )
    say(f"\n{augmentation.headline(metrics)}\n\nreport: {page}")


def additions(manifest: Manifest, per_class: int | None = None) -> dict[str, int]:
    """How many images each class lacks to `per_class`, or to the most frequent one; those without any are left out.

    Raises:
        ValueError: the data have no labels, or nothing is lacking.
    """
    counts = manifest.split("train")["label_counts"]
    counts = {label: count for label, count in counts.items() if count}
    if not counts:
        raise ValueError(
            f"Expected training images with labels, to balance their classes; {manifest.dataset} has none."
        )
    if per_class is not None and per_class < 1:
        raise ValueError(f"Expected at least 1 image per class, received {per_class}.")
    missing = {label: max(0, (per_class or max(counts.values())) - count) for label, count in counts.items()}
    if not any(missing.values()):
        have = ", ".join(f"{label} {count}" for label, count in counts.items())
        raise ValueError(
            f"There is nothing to add: {manifest.dataset} has {have} training images, and each class was to have "
            f"{per_class or max(counts.values())}. Ask for more than {min(counts.values())} per class."
        )
    return missing


def splits_of(folder: pathlib.Path) -> list[str]:
    """Those of `SPLITS` that a folder of synthetic images has."""
    return [split for split in SPLITS if split in Manifest.read(folder).splits]


def weights_digest(model: Any) -> str:
    """Names the averaged weights that the model generates with."""
    digest = hashlib.sha256()
    with model.averaged():
        for variable in model.trainable_variables:
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
    return digest.hexdigest()[:16]


def to_stored(images: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: str) -> np.ndarray:
    """Images (N, H, W, C) in [-1, 1] as a record holds them: -1 becomes `low` and 1 `high`, each (N, C).

    Raises:
        ArithmeticError: an image is not finite.
    """
    if not np.isfinite(images).all():
        raise ArithmeticError(
            "The model's images are not finite: its training has failed. Train it again with a smaller learning rate."
        )
    low, high = (bound[:, None, None, :].astype("float64") for bound in (low, high))
    values = low + (np.clip(images.astype("float64"), -1, 1) + 1) / 2 * (high - low)
    return (values if np.dtype(dtype).kind == "f" else np.rint(values)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class _Synthetic(Builder):
    """Generated images as a data set; its options tell where they are from.

    Args:
        manifest: what a record looks like.
        images: a file of their images, one after the other.
        records: by split, in order, the number of each image and what else its record holds.
    """

    name: str
    run: str
    model: str
    step: int
    weights: str
    trained_on: str
    per_class: int
    seed: int
    commit: str
    manifest: dataclasses.InitVar[Manifest]
    images: dataclasses.InitVar[pathlib.Path]
    records: dataclasses.InitVar[dict[str, list[tuple[int, dict]]]]

    def __post_init__(self, manifest, images, records):
        object.__setattr__(self, "_manifest", manifest)
        object.__setattr__(self, "_images", images)
        object.__setattr__(self, "_records", records)

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return self._manifest

    def splits(self, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
        splits, number = {}, 0
        for split, records in self._records.items():
            keys = [f"synthetic-{number + k:06d}" for k in range(len(records))]
            splits[split] = [Unit(key, key, (split, k)) for k, key in enumerate(keys)]
            number += len(records)
        return splits

    def examples(self, unit: Unit) -> Iterator[dict]:
        split, index = unit.source
        number, record = self._records[split][index]
        shape, dtype = self._manifest.image_shape, np.dtype(self._manifest.image_dtype)
        size = int(np.prod(shape))
        image = np.fromfile(self._images, dtype, size, offset=number * size * dtype.itemsize)
        yield {**record, "image": image.reshape(shape)}


def _write(run: Run, missing: dict[str, int], origin: dict, work_dir: pathlib.Path) -> pathlib.Path:
    """Generates the images and prepares them in `work_dir`; returns the prepared folder, with a sheet of them."""
    manifest, real = run.manifest, examples_of(run.data_folder, "train")
    per_class = origin["per_class"]
    counts = {
        split: {label: n if split == "train" else per_class - n for label, n in missing.items()} for split in SPLITS
    }
    numbers = {split: sum(of_split.values()) for split, of_split in counts.items()}
    labels = np.concatenate(
        [np.full(n, manifest.labels.index(k)) for split in SPLITS for k, n in counts[split].items()]
    )
    records = []
    with (work_dir / "images").open("wb") as images:
        for record in _generated(run, real, labels, origin["seed"]):
            images.write(record.pop("image").tobytes())
            records.append(record)
    commit = environment()["commit"]
    description = (
        f"Synthetic images: made by {run.title}, run {origin['run']}, step {origin['step']}, code at commit {commit}, "
        f"seed {origin['seed']}, after {manifest.dataset} {manifest.version}. They must not be used for diagnosis. "
        f"Split train brings each class to {per_class} images together with the real training images; with split rest "
        "it is a set of as many of each class without real ones."
    )
    if left_out := [label for label in manifest.labels if label not in missing]:
        description += f" Left out, as without training images: {', '.join(left_out)}."
    builder = _Synthetic(
        **origin,
        commit=commit,
        manifest=Manifest(
            dataset=origin["name"],
            version=_Synthetic.version,
            image_shape=manifest.image_shape,
            image_dtype=manifest.image_dtype,
            modalities=manifest.modalities,
            labels=manifest.labels,
            condition_names=manifest.condition_names,
            description=description,
            homepage=manifest.homepage,
            citation=manifest.citation,
            licence=manifest.licence,
            seed=origin["seed"],
        ),
        images=work_dir / "images",
        records={
            split: [(start + k, record) for k, record in enumerate(records[start : start + numbers[split]])]
            for split, start in zip(SPLITS, (0, numbers["train"]), strict=True)
            if numbers[split]
        },
    )
    prepared = prepare(builder, work_dir, workers=1)
    Image.fromarray(_sheet(_everything(prepared), manifest.labels)).save(prepared / "samples.png")
    return prepared


def _generated(run: Run, real: Examples, labels: np.ndarray, seed: int) -> Iterator[dict]:
    """An example for each label, as `tfdisent.datasets.builder` takes them."""
    manifest = run.manifest
    rng = np.random.default_rng(seed)
    sources = np.empty(len(labels), int)  # the real image whose condition it gets
    for k in np.unique(labels):
        own = labels == k
        sources[own] = rng.choice(np.flatnonzero(real["label"] == k), own.sum())
    is_byte = manifest.image_dtype == "uint8"
    with run.model.averaged():
        for start in range(0, len(labels), CHUNK):
            rows = sources[start : start + CHUNK]
            images = run.evaluation.generate(run.model, real["condition"][rows], rng)
            intensity = real["intensity"][rows]
            # `load` maps 0 to 255 of a byte to [-1, 1], and of other dtypes the record's minimum to its maximum.
            low, high = (
                intensity[..., INTENSITY.index("min")],
                intensity[..., INTENSITY.index("max")],
            )
            if is_byte:
                low, high = np.zeros_like(low), np.full_like(high, 255)
            images = to_stored(images, low, high, manifest.image_dtype)
            for image, row, lowest, highest in zip(images, rows, low, high, strict=True):
                statistics = intensity_statistics(image)
                if not is_byte:
                    statistics[:, INTENSITY.index("min")] = lowest
                    statistics[:, INTENSITY.index("max")] = highest
                yield {
                    "image": image,
                    "intensity": statistics,
                    **{name: real[name][row] for name in ("condition", "modality", "spacing")},
                    "label": int(real["label"][row]),
                }


def _is_there(output: pathlib.Path, origin: dict) -> bool:
    """Whether the folder holds these images already.

    Raises:
        ValueError: it holds something else.
    """
    if (output / "manifest.json").is_file():
        options = Manifest.read(output).options
        changed = [
            f"{name} was {options.get(name)}, is now {value}"
            for name, value in origin.items()
            if options.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"{output} holds other synthetic images: {'; '.join(changed)}. Delete it to write these, or give "
                "another folder."
            )
        return True
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(f"{output} is to hold the synthetic images, and holds something else. Give another folder.")
    return False


def _written_whole(output: pathlib.Path, write) -> None:
    """Moves what `write(work_dir)` prepares to `output`, or leaves nothing there."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work_dir:
            write(pathlib.Path(work_dir)).rename(output)
    except OSError as error:
        raise OSError(
            f"The synthetic images cannot be written to {output}: {error.__cause__ or error}. Free space there, or "
            "give another folder."
        ) from error


def _everything(folder: pathlib.Path) -> Examples:
    """The synthetic images of all splits of a folder."""
    return Examples.joined(*(examples_of(folder, split) for split in splits_of(folder)))


def _sheet(synthetic: Examples, labels: tuple[str, ...], real: Examples | None = None) -> np.ndarray:
    """A row of synthetic images for each class, after a real one where they are given."""
    present = np.unique(synthetic["label"])
    rows = [np.flatnonzero(synthetic["label"] == k) for k in present]
    count = min(SHOWN, *map(len, rows))
    samples = synthetic.take(np.concatenate([of_class[:count] for of_class in rows]))["image"]
    samples = samples.reshape(len(rows), count, *samples.shape[1:])
    examples = None
    if real is not None:
        examples = real.take([np.argmax(real["label"] == k) for k in present])["image"]
    return figures.condition_grid(samples, [labels[k] for k in present], examples)


def _picture(real: Examples, synthetic: Examples, labels: tuple[str, ...]) -> report.Figure:
    return report.Figure(
        "Synthetic images",
        "Each row one class: a real training image first, then synthetic ones as they were written, with conditions of "
        "real ones. Look for the class in every image, for variety, and for images that are alike.",
        _sheet(synthetic, labels, real),
    )
