"""Cross-validation: a run for each fold of the subjects, and what they say together.

Every subject tests in one fold (`tfdisent.datasets.splits`). The folder holds

fold-0/ fold-1/ ...               a run each, as any other: what was stopped continues, what is finished is passed over
folds.md folds.html folds.json    every metric: its mean and spread over the folds, pooled, and that of each fold
test-subjects.csv                 which subject tests in which fold

and is written after every run, each of which a process of its own trains.
"""

import dataclasses
import math
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdisent import datasets, files, report
from tfdisent.datasets.splits import units_by_split
from tfdisent.experiment import reproduction
from tfdisent.experiment.folder import environment, flags_text, is_finished
from tfdisent.experiment.settings import Settings, command_of
from tfdisent.messages import say
from tfdisent.report import tables


def cross_validate(settings: Settings, folds: int) -> list[int]:
    """Trains and evaluates a run for each fold, and writes what they say together; nothing is exported.

    Args:
        settings: of all runs. Their folder, by default the run's with "-folds<K>" behind it, is that of the result.
        folds: how many.

    Returns:
        The folds that failed; another call tries them again.

    Raises:
        ValueError: the subjects cannot be cut into so many folds, or the settings do not go with folds; nothing is
            trained then.
        Stopped: by a signal, which the run in progress got too; it has saved its state.
        BlockingIOError: another process has the folder, naming it.
    """
    if folds < 2:
        raise ValueError(f"Expected --folds of 2 or more, received {folds}.")
    if settings.num_hosts > 1 or settings.coordinator:
        raise ValueError("--folds trains on one host: leave out --coordinator and --num_hosts.")
    if settings.judge_dir:
        raise ValueError("--folds: a fold's judges must not know its test images. Leave out --judge_dir.")
    if given := sorted({"folds", "fold"} & settings.data.keys()):
        raise ValueError(f"--folds={folds} trains all folds: leave out --data={given[0]}=...")
    if not settings.run_dir:
        settings = dataclasses.replace(settings, run_dir=f"{settings.folder}-folds{folds}")
    runs = [_of_fold(settings, folds, fold) for fold in range(folds)]
    _check_data(runs[0])
    with files.locked(settings.folder, "cross-validation"):
        return _trained_and_written(settings, runs)


def _of_fold(settings: Settings, folds: int, fold: int) -> Settings:
    """Settings of the run of one fold."""
    options = {"folds": str(folds), "fold": str(fold)}
    run_dir = str(settings.folder / f"fold-{fold}")
    return dataclasses.replace(settings, data={**settings.data, **options}, run_dir=run_dir, export=False)


def _check_data(run: Settings) -> None:
    """Raises ValueError if the subjects cannot be cut, where that can be known before the data are prepared."""
    builder = datasets.make_builder(run.dataset, run.preparation)
    raw_dir = run.raw_dir and pathlib.Path(run.raw_dir).expanduser()
    if not builder.raw_help or (raw_dir and raw_dir.exists()):
        units_by_split(builder, raw_dir)


def _is_done(run: Settings) -> bool:
    """Whether the run is finished by these very settings; if others are there, its own command says which differ."""
    path = run.folder / "flags.txt"
    return is_finished(run.folder) and path.is_file() and path.read_text(encoding="utf-8") == flags_text(run)


def _trained_and_written(settings: Settings, runs: list[Settings]) -> list[int]:
    failed: list[int] = []
    for fold, run in enumerate(runs):
        say(f"\n[fold {fold} of 0 to {len(runs) - 1}] {run.folder}")
        if _is_done(run):
            say("done before")
        elif not reproduction.train(run):
            failed.append(fold)
            continue
        text = write(settings, runs)
    if len(failed) < len(runs):
        say(f"\n{text}")
    for fold in failed:
        say(f"failed: fold {fold}; the same command tries it again")
    return failed


def summarize(found: Sequence[dict[str, float]], subjects: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Each metric over folds.

    Args:
        found: {metric: value} of each fold; NaN, or nothing, where a fold could not compute it.
        subjects: how many test in each fold.

    Returns:
        {metric: {"mean", "std" (of a sample, n - 1; None of one fold), "pooled" (mean weighted by the subjects),
        "folds" (each value, or None)}}; None of a metric that no fold has.
    """
    results = {}
    for name in dict.fromkeys(name for values in found for name in values):
        each = np.array([values.get(name, math.nan) for values in found], float)
        there = np.isfinite(each)
        values, weights = each[there], np.asarray(subjects, float)[there]
        results[name] = {
            "mean": float(values.mean()) if len(values) else None,
            "std": float(values.std(ddof=1)) if len(values) > 1 else None,
            "pooled": float((values * weights).sum() / weights.sum()) if weights.sum() else None,
            "folds": [float(value) if is_there else None for value, is_there in zip(each, there, strict=True)],
        }
    return results


def tested_by(runs: Sequence[Settings]) -> list[list[str]]:
    """Who tests in each run, from its folder.

    Raises:
        ValueError: a subject is there twice, naming the runs.
    """
    found = [(run.folder / "splits" / "test.txt").read_text(encoding="utf-8").splitlines() for run in runs]
    first: dict[str, pathlib.Path] = {}
    for run, subjects in zip(runs, found, strict=True):
        for subject in subjects:
            if first.setdefault(subject, run.folder) != run.folder:
                raise ValueError(
                    f"A subject tests in {first[subject]} and in {run.folder}. Delete both and train again."
                )
    return found


def write(settings: Settings, runs: Sequence[Settings]) -> str:
    """Writes what the finished runs say together; returns it as text for a terminal."""
    folder = settings.folder
    done = [fold for fold, run in enumerate(runs) if _is_done(run)]
    subjects = tested_by([runs[fold] for fold in done])
    counts = [len(names) for names in subjects]
    metrics = summarize([tables.numbers(files.read_json(runs[fold].folder / "metrics.json")) for fold in done], counts)
    rows = [f"{fold},{name}" for fold, names in zip(done, subjects, strict=True) for name in names]
    files.write_text(folder / "test-subjects.csv", "\n".join(["fold,subject", *rows]) + "\n")
    content = {"folds": len(runs), "done": done, "test_subjects": counts, "metrics": metrics}
    files.write_json(folder / "folds.json", content)
    lines = [["Metric", "mean ± spread", "pooled", *(f"fold {fold}" for fold in done)]]
    lines += [_line(name, found) for name, found in metrics.items()]
    title = f"{settings.method.title} on {settings.dataset}, {len(runs)} folds"
    tested = ", ".join(f"{count} of fold {fold}" for fold, count in zip(done, counts, strict=True))
    summary = (
        f"{len(done)} of {len(runs)} folds are done, preset {settings.preset}, seed {settings.seed}. Test subjects: "
        f"{tested}; each tests in one fold, which test-subjects.csv lists.\n\n"
        "The spread is the standard deviation over folds (n - 1); pooled is the mean weighted by the folds' test "
        "subjects. Folds share most of their training subjects, so that the spread tells less than that of runs on "
        "other data."
    )
    command = f"{command_of(settings)} {shlex.join([f'--folds={len(runs)}'])}"
    files.write_text(folder / "folds.md", f"# {title}\n\n{summary}\n\n{tables.markdown(lines)}\n```\n{command}\n```\n")
    page = report.write_comparison(
        folder / "folds.html",
        title=title,
        summary=summary,
        sections=[report.Section("Metrics", lines)],
        environment=environment(),
        command=command,
    )
    return f"{tables.text(lines)}\nwritten: {folder / 'folds.md'}, {page}"


def _line(name: str, found: dict[str, Any]) -> list[str]:
    """The cells of a metric."""

    def cell(value: float | None, std: float | None = None) -> str:
        return "–" if value is None else tables.format_value(value, std)

    return [
        tables.short_label(name),
        cell(found["mean"], found["std"]),
        cell(found["pooled"]),
        *map(cell, found["folds"]),
    ]
