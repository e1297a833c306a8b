"""The folder of a run: what it records, and whether the one that is there is of the same settings.

config.json environment.json flags.txt    settings, versions and machine, and flags that repeat the run
splits/<split>.txt                        subjects of each split
splits/train-annotated-<modality>.txt     those of them whose labels were read, where not all were
checkpoints/ metrics.csv tensorboard/     training
gradients.csv                             each loss term's share of the gradient in it, where that was asked for
validation.csv trend.csv best/            what was measured in it on other images, and the best checkpoint by that
samples/                                  pictures of progress
metrics.json report.html figures/         evaluation
judges/                                   networks that judged the images
export.json                               which step is exported, and where to
"""

import dataclasses
import json
import os
import pathlib
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from importlib import metadata
from typing import Any

from tfdisent import data, files
from tfdisent.experiment import catalogue
from tfdisent.experiment.settings import Settings, flags_of, text_of

PACKAGES = ("tfdisent", "tensorflow", "keras", "jax", "torch", "numpy", "tensorflow-gan")


def check_folder(settings: Settings, config: Any, manifest: Any) -> dict[str, Any] | None:
    """The record of the run that is in the folder, after checking that it is of the same settings; None if none is.

    Raises:
        ValueError: it is the folder of other settings, naming those that differ, or config.json is damaged.
        FileNotFoundError: there are checkpoints without config.json.
    """
    run_dir = settings.folder
    path = run_dir / "config.json"
    if not path.is_file():
        if any(run_dir.glob("checkpoints/step-*")):
            raise FileNotFoundError(
                f"{run_dir} has checkpoints, but config.json, which says of what settings they are, is missing. "
                "Restore it from a copy, or give another --run_dir."
            )
        return None
    old = read_record(run_dir)
    # A field that the config did not have then is at its default.
    old["config"] = _plain(dataclasses.asdict(type(config)())) | old["config"]
    differences = _differences(old, _plain(record_of(settings, config, manifest)))
    if differences:
        raise ValueError(
            f"{run_dir} is a run with other settings: {'; '.join(differences)}. Give those again to continue it, or "
            "another --run_dir to start a new one."
        )
    return old


def write_folder(settings: Settings, config: Any, manifest: Any, before: dict[str, Any] | None, done: int) -> None:
    """Writes what the run folder records before training starts or continues.

    Args:
        settings, config, manifest: of the run.
        before: the record that `check_folder` found.
        done: steps that are trained.

    Raises:
        ValueError: fewer steps are asked for than are done, or a schedule over all steps would change midway without
            `settings.extend`; nothing is written then.
    """
    run_dir = settings.folder
    if done > config.steps:
        raise ValueError(
            f"{run_dir} is trained for {done} steps, more than the {config.steps} that are asked for. Give "
            f"--steps={done} or more, `tfdisent evaluate --run_dir={run_dir}` to measure it as it is, or another "
            "--run_dir."
        )
    record = record_of(settings, config, manifest)
    extended = list((before or {}).get("extended", ()))
    total = before["config"]["steps"] if before else config.steps
    if done and total != config.steps and config.scheduled:
        if not settings.extend:
            scheduled = " and ".join(config.scheduled)
            raise ValueError(
                f"{run_dir} was planned for {total} steps, of which {done} are done, and "
                f"{scheduled} follow a schedule over all of them: going on to {config.steps} would "
                f"not be a training of {config.steps} steps. Give another --run_dir for that; --extend, to go on with "
                f"the schedules of a training of {config.steps} steps from step {done} on; or --steps={total}, to end "
                "as planned."
            )
        extended.append(done)
    if extended:
        record["extended"] = extended
    if done < config.steps:
        (run_dir / "metrics.json").unlink(missing_ok=True)  # of the shorter training
    (run_dir / "splits").mkdir(parents=True, exist_ok=True)
    files.write_json(run_dir / "config.json", record)
    files.write_text(run_dir / "flags.txt", flags_text(settings))
    files.write_json(run_dir / "environment.json", environment())
    for split in manifest.splits:
        subjects = manifest.split(split)["subjects"]
        _write_lines(run_dir / "splits" / f"{split}.txt", subjects)
    for channel, share in config.annotated.items():
        subjects = data.annotated_subjects(manifest.split("train")["subjects"], share, settings.seed)
        _write_lines(run_dir / "splits" / f"train-annotated-{manifest.modalities[channel]}.txt", subjects)


def flags_text(settings: Settings) -> str:
    """The content of flags.txt: what repeats a run, a flag in each line."""
    flags = [f"# tfdisent train {settings.system}", *flags_of(settings, defaults=True)]
    return "".join(f"{flag}\n" for flag in flags)


def _write_lines(path: pathlib.Path, lines: Iterable[str]) -> None:
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def record_of(settings: Settings, config: Any, manifest: Any) -> dict[str, Any]:
    """What config.json says of a run."""
    return {
        "system": settings.system,
        "model": settings.model,
        "dataset": settings.dataset,
        "preset": settings.preset,
        "data_options": {name: text_of(value) for name, value in settings.data.items()},
        "data_version": manifest.version,
        "data_source": manifest.source,
        "seed": settings.seed,
        "mixed_precision": settings.mixed_precision,
        "config": dataclasses.asdict(config),
    }


def read_record(run_dir: str | os.PathLike) -> dict[str, Any]:
    """The content of a run's config.json.

    Raises:
        FileNotFoundError: it is not the folder of a run.
        ValueError: the file is damaged, naming it.
    """
    path = pathlib.Path(run_dir).expanduser() / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"Expected the folder of a run, received {path.parent}, where config.json is missing.")
    record = files.read_json(path)
    kinds = {name: str for name in ("system", "dataset", "preset")} | {"config": dict, "data_options": dict}
    missing = [
        name for name, kind in kinds.items() if not isinstance(record, dict) or not isinstance(record.get(name), kind)
    ]
    if missing:
        raise ValueError(f"{path} is damaged: {', '.join(missing)} missing or of another type. Restore it from a copy.")
    return {"model": record["system"], **record}  # the oldest runs do not name the model


def read_subjects(run_dir: str | os.PathLike, split: str) -> list[str]:
    """The subjects of a split that a run was trained with, from its folder; [] of a split that it did not have.

    Raises:
        FileNotFoundError: the list of the training subjects is missing, without which nobody knows who they are.
    """
    path = pathlib.Path(run_dir).expanduser() / "splits" / f"{split}.txt"
    if not path.is_file():
        if split == "train":
            raise FileNotFoundError(f"{path}, the subjects that the run was trained on, is missing. Restore it.")
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def config_of(record: dict[str, Any], run_dir: str | os.PathLike) -> Any:
    """The config of a run from its record.

    Raises:
        ValueError: the record is not that of a config of this version, naming the file.
    """
    try:
        return catalogue.method(record["system"], record["model"]).model.config_class(**record["config"])
    except (TypeError, ValueError) as error:
        path = pathlib.Path(run_dir).expanduser() / "config.json"
        raise ValueError(f"{path} is damaged, or of another version of tfdisent: {error}") from error


def read_settings(run_dir: str | os.PathLike, **others: Any) -> Settings:
    """The settings of a run.

    Args:
        run_dir: folder of the run.
        **others: fields that are not those of the run, such as another data set; None leaves the run's.
    """
    run_dir, record = pathlib.Path(run_dir).expanduser(), read_record(run_dir)
    others = {name: value for name, value in others.items() if value is not None}
    if others.get("dataset", record["dataset"]) != record["dataset"]:
        others.setdefault("data", {})
    recorded = {
        **{name: record[name] for name in ("system", "model", "dataset", "preset", "seed", "mixed_precision")},
        "data": record["data_options"],
        "data_dir": _flag(run_dir, "data_dir") or "data",
        "run_dir": str(run_dir),
        "select": _flag(run_dir, "select") or "last",
    }
    settings = Settings(**{**recorded, **others})
    preset = _plain(dataclasses.asdict(settings.provisional_config))
    changes = {
        name: value
        for name, value in record["config"].items()
        if preset.get(name) != value and name not in settings.method.changes
    }
    return dataclasses.replace(settings, steps=changes.pop("steps", None), changes=changes)


def _flag(run_dir: pathlib.Path, name: str) -> str | None:
    """The value of a flag in the run's flags.txt, where it is listed."""
    path = run_dir / "flags.txt"
    found = re.search(rf"^--{name}=(.*)$", path.read_text(), re.MULTILINE) if path.is_file() else None
    return found and found[1]


def is_finished(run_dir: pathlib.Path) -> bool:
    """Whether a run is trained and evaluated; its metrics are removed when it is to be trained further."""
    return (run_dir / "metrics.json").is_file()


def environment() -> dict[str, Any]:
    """Versions, backend, machine and commit."""
    import keras

    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "commit": _commit() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def save_figures(directory: pathlib.Path, figures: list) -> None:
    """Writes a report's pictures as PNG files too, named by their headings; earlier ones are removed."""
    from PIL import Image

    directory.mkdir(exist_ok=True)
    for path in directory.glob("*.png"):
        path.unlink()
    for figure in figures:
        name = figure_file(figure.name)
        number = sum(path.stem.startswith(name) for path in directory.glob("*.png"))
        Image.fromarray(figure.image).save(directory / f"{name}{f'-{number + 1}' * bool(number)}.png")


def figure_file(heading: str) -> str:
    """The name of a figure's file, without its ending."""
    return re.sub("[^a-z0-9]+", "-", heading.lower()).strip("-")


def _plain(content: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(content))


def _differences(old: dict, new: dict) -> list[str]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now)
        elif before != now and name not in ("steps", "extended"):  # the total may grow when the run is continued
            found.append(f"{name} was {before}, is now {now}")
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository around it would be another project's
        return ""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
