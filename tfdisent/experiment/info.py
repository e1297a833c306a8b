"""What a run folder, an exported model or a data set is, in plain text."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tfdisent import datasets, files
from tfdisent.experiment import catalogue, folder

WIDTH = 16  # of the names before their values, at least


def describe(what: str) -> str:
    """Describes a run folder, an exported model (or all its versions), or a data set, prepared or by name.

    Raises:
        ValueError: it is none of these.
    """
    path = pathlib.Path(what).expanduser()
    if (path / "config.json").is_file():
        return describe_run(path)
    if cards := [path / "card.json"] if (path / "card.json").is_file() else sorted(path.glob("[0-9]*/card.json")):
        return "\n\n".join(describe_model(card.parent) for card in cards)
    if prepared := sorted(path.rglob("manifest.json")) if path.is_dir() else []:
        return "\n\n".join(describe_prepared(manifest.parent) for manifest in prepared)
    if what in datasets.DATASETS:
        return describe_data_set(what)
    raise ValueError(
        "Expected a run folder, an exported model, a prepared data set, or the name of a data set among "
        f"{', '.join(sorted(datasets.DATASETS))}; received {what!r}."
    )


def describe_run(run_dir: pathlib.Path) -> str:
    """Settings, steps done, and metrics."""
    record = folder.read_record(run_dir)
    config = record["config"]
    names = (re.fullmatch(r"step-(\d+)", path.name) for path in run_dir.glob("checkpoints/step-*"))
    steps = max((int(name[1]) for name in names if name), default=0)
    options = ", ".join(f"{name}={value}" for name, value in record["data_options"].items())
    lines = [
        f"run {run_dir}",
        _line("model", f"{record['model']} of system {record['system']}, preset {record['preset']}"),
        _line("data", record["dataset"] + f" ({options})" * bool(options)),
        _line("seed", record["seed"]),
        _line("steps done", f"{steps} of {config['steps']}"),
    ]
    if (run_dir / "export.json").is_file():
        done = files.read_json(run_dir / "export.json")
        lines.append(_line("exported", f"step {done['step']}, {done['path']}"))
    lines += ["", "config", *_lines(config)]
    if folder.is_finished(run_dir):
        lines += ["", "metrics", *_metric_lines(files.read_json(run_dir / "metrics.json"))]
    else:
        lines += ["", "not evaluated yet"]
    return "\n".join(lines)


def describe_model(version: pathlib.Path) -> str:
    """The model's card."""
    card = files.read_json(version / "card.json")
    lines = [f"model {version}", card["title"], *filter(None, [card.get("summary")])]
    for name, tensors in card["signatures"].items():
        sides = (", ".join(f"{key} {shape}" for key, shape in tensors[side].items()) for side in ("inputs", "outputs"))
        lines.append(_line(name, " -> ".join(sides)))
    for heading in ("training", "data", "config"):
        if card.get(heading):
            lines += ["", heading, *_lines(card[heading])]
    if card.get("metrics"):
        lines += ["", "metrics", *_metric_lines(card["metrics"])]
    return "\n".join(lines)


def describe_prepared(path: pathlib.Path) -> str:
    """Splits and counts of a prepared data set, and what an image is."""
    from tfdisent.data import Manifest

    manifest = Manifest.read(path)
    lines = [
        f"data set {path}",
        _line("name", f"{manifest.dataset} {manifest.version}"),
        _line("images", f"{' x '.join(map(str, manifest.image_shape))}, {manifest.image_dtype}"),
        _line("modalities", ", ".join(manifest.modalities)),
        _line("conditions", ", ".join(manifest.condition_names)),
        _line("skipped", len(manifest.skipped)),
        _line("licence", manifest.licence),
    ]
    for name, split in manifest.splits.items():
        labels = "".join(f", {label} {count}" for label, count in split.get("label_counts", {}).items())
        lines.append(_line(name, f"{split['num_examples']} images of {len(split['subjects'])} subjects{labels}"))
    return "\n".join(line for line in lines if not line.endswith(" "))


def describe_data_set(name: str) -> str:
    """What the data set is, where to get it, its options with their defaults, and which systems it serves."""
    builder = datasets.make_builder(name, {})
    serves = [system for system, names in catalogue.DATA.items() if name in names]
    lines = [f"data set {name}: {catalogue.ABOUT[name]}", _line("for", ", ".join(serves) or "none of the systems yet")]
    lines += ["", builder.raw_help or "It is made without raw data.", "", "options of its preparation"]
    return "\n".join([*lines, *_lines(dataclasses.asdict(builder))])


def _lines(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [_line(name, value, width) for name, value in values.items()]


def _metric_lines(metrics: Mapping[str, Mapping]) -> list[str]:
    values = {name: entry.get("value") for name, entry in metrics.items()}
    return _lines({name: "not computed" if value is None else f"{value:.4g}" for name, value in values.items()})


def _line(name: str, value: Any, width: int = WIDTH) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"  {name:<{width}}  {text}"
