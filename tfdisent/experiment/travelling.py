"""A benchmark on travelling subjects, who were scanned on several scanners: trained runs of harmonisation beside what
needs no network.

    benchmark(["runs/harmonize-ixi", "runs/cyclegan-ixi"], dataset="manifest", raw_dir="travellers.csv")
"""

import dataclasses
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence

from tfdisent import datasets, files, report
from tfdisent.data import Manifest
from tfdisent.evaluation import harmonize, travelling
from tfdisent.evaluation.normalizations import KINDS
from tfdisent.examples import Examples
from tfdisent.experiment import folder
from tfdisent.experiment.run import Run, examples_of, open_run
from tfdisent.messages import say
from tfdisent.report import tables

SYSTEM = "harmonize"


@dataclasses.dataclass
class Compared:
    """A method that is compared: a run for each scanner, all to one target.

    Attributes:
        name: of the folder that was given.
        runs: {source: the run}.
    """

    name: str
    runs: dict[str, Run]

    @property
    def first(self) -> Run:
        """One of its runs."""
        return next(iter(self.runs.values()))

    @property
    def target(self) -> str:
        """The scanner that it harmonises to."""
        return self.first.config.target


def benchmark(
    run_dirs: Sequence[str | os.PathLike],
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    raw_dir: str | None = None,
    data: Mapping[str, str] | None = None,
    split: str | None = None,
    registration: str = "auto",
    output: str | os.PathLike | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """Measures trained runs, doing nothing and normalisations on subjects that were scanned on several scanners.

    Args:
        run_dirs: folders of runs, or folders of runs from several sources to one target.
        dataset: with the travelling subjects; by default that of the first run, whose test subjects may be such.
        data_dir, raw_dir, data: of that data set, as for training.
        split: of that data set; by default all.
        registration: one of `travelling.REGISTRATIONS`.
        output: folder of the results; default: travelling-<dataset> in the first of `run_dirs`.
        seed: of the segmentor.

    Returns:
        {method: {name: entry}}. travelling.md, travelling.json and travelling.html are written.

    Raises:
        FileNotFoundError: a folder holds no trained run.
        ValueError: runs that cannot be compared, data without travelling subjects, or with subjects that a run was
            trained on.
    """
    if not run_dirs:
        raise ValueError("Expected one run or more to measure, received none.")
    compared = [opened(path) for path in run_dirs]
    target, scanners = common_scanners(compared)
    say(f"travelling subjects on {', '.join(scanners)}")
    first = compared[0].first
    path, manifest = prepared(first, dataset, data_dir, raw_dir, data or {})
    travellers = found(path, manifest, first, scanners, target, split)
    for one in compared:
        require_unseen(travellers.subjects, one, manifest)
    say(f"    {len(travellers.subjects)} subjects, none of whom was trained on")

    say("fitting normalisations and the target's segmentor on training scans")
    train = {source: harmonize.Slices(run.examples("train"), run.config) for source, run in compared[0].runs.items()}
    methods = [travelling.nothing(scanners), *normalizing(compared[0], train)]
    methods += [
        travelling.by_model(title, {source: run.model for source, run in one.runs.items()})
        for title, one in zip(titles_of(compared), compared, strict=True)
    ]
    labels = tuple(first.manifest.mask_labels)
    segmentor = harmonize.fitted_segmentors(next(iter(train.values())), labels, seed, ("target",)).get("target")

    say("harmonising")
    measured = travelling.measured(travellers, methods, target, segmentor, len(labels), registration)
    results = {
        method.title: travelling.method_metrics(measured, method.title, travellers.scanners, labels)
        for method in methods
    }
    familiar = {source: harmonize.familiar_source(slices) for source, slices in train.items()}
    notes = travelling.unlike(measured, familiar)
    for note in notes:
        say(f"    warning: {note}")
    folder_of = pathlib.Path(output or pathlib.Path(run_dirs[0]) / f"travelling-{manifest.dataset}").expanduser()
    folder_of.mkdir(parents=True, exist_ok=True)
    flags = {"run_dir": ",".join(map(str, run_dirs)), "dataset": manifest.dataset, "split": split}
    flags |= {"data_dir": data_dir, "raw_dir": raw_dir, "output_dir": output and str(output)}
    flags |= {"registration": registration} if registration != "auto" else {}
    options = [f"--{name}={value}" for name, value in flags.items() if value]
    options += [f"--data={name}={value}" for name, value in (data or {}).items()]
    command = shlex.join(["tfdisent", "travelling", *options])
    _write(folder_of, results, measured, notes, travellers, methods, target, manifest, command)
    return results


# --- runs ---


def opened(path: str | os.PathLike) -> Compared:
    """The trained run in a folder, or those from several sources in its subfolders.

    Raises:
        FileNotFoundError: there is none.
        ValueError: they are of another system, or do not harmonise from different sources to one target.
    """
    path = pathlib.Path(path).expanduser()
    paths = [path] if (path / "config.json").is_file() else sorted(p.parent for p in path.glob("from-*/config.json"))
    if not paths:
        raise FileNotFoundError(f"Expected the folder of a run, or of runs from several sources, received {path}.")
    for one in paths:
        if (system := folder.read_record(one)["system"]) != SYSTEM:
            raise ValueError(f"{one} is a run of {system}: only {SYSTEM}, and what it is compared with, is measured.")
    runs = [open_run(str(one)) for one in paths]
    targets, sources = {run.config.target for run in runs}, [run.config.source for run in runs]
    if len(targets) > 1 or len(set(sources)) < len(sources):
        raise ValueError(
            f"Expected the runs in {path} to go from different scanners to one, received "
            f"{', '.join(f'{run.config.source} to {run.config.target}' for run in runs)}."
        )
    return Compared(path.name, dict(zip(sources, runs, strict=True)))


def common_scanners(compared: Sequence[Compared]) -> tuple[str, tuple[str, ...]]:
    """The one target, and all scanners that every method harmonises from, with the target last.

    Raises:
        ValueError: the targets or contrasts differ, or no source is common to all.
    """
    for what in ("target", "modality", "image_size", "normalize"):
        several = {one.name: getattr(one.first.config, what) for one in compared}
        if len(set(several.values())) > 1:
            said = ", ".join(f"{name} {value}" for name, value in several.items())
            raise ValueError(f"Expected runs of one {what}, received {said}. Measure them one by one.")
    target, every = compared[0].target, [set(one.runs) for one in compared]
    sources = [source for source in compared[0].runs if all(source in known for known in every)]
    if not sources:
        said = "; ".join(f"{one.name} from {', '.join(one.runs)}" for one in compared)
        raise ValueError(f"Expected runs from the same scanners, received {said}. Measure them one by one.")
    if left_out := sorted(set.union(*every) - set(sources)):
        say(f"    {', '.join(left_out)} left out, which not every run harmonises from")
    return target, (*sources, target)


def titles_of(compared: Sequence[Compared]) -> list[str]:
    """The methods' names in print, with those of their folders where they are the same, and numbers where these are."""
    titles = [one.first.title for one in compared]
    titles = [
        f"{title}, {one.name}" if titles.count(title) > 1 else title
        for title, one in zip(titles, compared, strict=True)
    ]
    return [f"{title} ({k + 1})" if titles.count(title) > 1 else title for k, title in enumerate(titles)]


def normalizing(one: Compared, train: Mapping[str, harmonize.Slices]) -> list[travelling.Method]:
    """Normalisations of each of its sources to the target, fitted on the training scans."""
    maps = {source: harmonize.fitted_normalizations(slices, slices.config) for source, slices in train.items()}
    return [
        travelling.by_map(title[0].upper() + title[1:], {source: found[kind] for source, found in maps.items()})
        for kind, title in KINDS.items()
        if all(kind in found for found in maps.values())
    ]


# --- data ---


def prepared(
    run: Run, dataset: str | None, data_dir: str | None, raw_dir: str | None, data: Mapping[str, str]
) -> tuple[pathlib.Path, Manifest]:
    """The prepared data set with the travelling subjects: the run's own, unless another is named."""
    if dataset in (None, run.settings.dataset) and not data and not raw_dir:
        return run.data_folder, run.manifest
    name, config = dataset or run.settings.dataset, run.config
    options = {**config.preparation(name, config.image_size), **data}
    path = datasets.prepare(name, data_dir or run.settings.data_dir, raw_dir, **options)
    return path, Manifest.read(path)


def found(
    path: pathlib.Path, manifest: Manifest, run: Run, scanners: Sequence[str], target: str, split: str | None
) -> travelling.Travellers:
    """The travelling subjects of a data set.

    Raises:
        ValueError: it lacks the contrast or the scanners, or there is no such subject.
    """
    modality = run.config.modality
    known = [name for name in scanners if name in manifest.domains]
    if modality not in manifest.modalities or target not in known or len(known) < 2:
        raise ValueError(
            f"Expected {modality} of {target} and of one or more of {', '.join(scanners[:-1])}, by these names, as the "
            f"run was trained on; received {manifest.dataset} with {', '.join(manifest.modalities)} of "
            f"{', '.join(manifest.domains) or 'no domains'}."
        )
    splits = [split] if split else list(manifest.splits)
    parts = [examples_of(path, name, **run.config.loading) for name in splits if manifest.split(name)["num_examples"]]
    travellers = travelling.Travellers(Examples.joined(*parts), manifest, modality, known)
    if not travellers.subjects:
        raise ValueError(
            f"Expected subjects with scans on two or more of {', '.join(known)}, received none in "
            f"{', '.join(splits)} of {manifest.dataset}. Give such scans one name in the column subject, and their "
            "scanner in domain, with a session for each."
        )
    if travellers.repeated:
        say(f"    {travellers.repeated} further scans of a subject on the same scanner, or in other planes, left out")
    return travellers


def require_unseen(subjects: Sequence[str], one: Compared, manifest: Manifest) -> None:
    """Raises ValueError where a run was trained on one of the subjects, on either scanner, or where that is not known.

    Those of its validation split count as seen where the best checkpoint was chosen by them.
    """
    for run in one.runs.values():
        if bool(manifest.options.get("hash_subjects")) != bool(run.manifest.options.get("hash_subjects")):
            raise ValueError(
                f"The subjects of {manifest.dataset} and of the training of {run.settings.folder} cannot be compared: "
                "those of one are hashed, and those of the other are not. Prepare both with --hash_subjects and one "
                "key, or both without."
            )
        splits = ["train", *(["val"] if run.settings.select == "best" else [])]
        seen = {name for split in splits for name in folder.read_subjects(run.settings.folder, split)}
        if both := sorted(seen & set(subjects)):
            raise ValueError(
                f"{run.settings.folder} was trained on {len(both)} of the {len(subjects)} travelling subjects, as "
                f"{both[0]}: what it has learned by heart would count as harmonisation. Leave them out of the "
                "training, or measure others, as with --split=test."
            )


# --- what is written ---


def _write(
    folder_of: pathlib.Path,
    results: Mapping[str, Mapping[str, Mapping]],
    measured: travelling.Measured,
    notes: list[str],
    travellers: travelling.Travellers,
    methods: Sequence[travelling.Method],
    target: str,
    manifest: Manifest,
    command: str,
) -> None:
    title = f"Travelling subjects of {manifest.dataset}, harmonised to {target}"
    summary = (
        f"{len(travellers.subjects)} subjects on {', '.join(travellers.scanners)}, none of whom any method was trained "
        f"on.\n\n{travelling.headline(results)}"
    )
    notes = [
        *notes,
        *(f"{travelling.TITLES[name]}: {of['protocol']}." for name, of in _protocols(results).items()),
    ]
    notes += [f"Not registered: {why}" for why in dict.fromkeys(measured.unregistered)]
    sections = [report.Section("All methods", travelling.table(results), notes)]
    for name in travelling.NAMES:
        lines = travelling.label_table(results, name)
        if lines:
            sections.append(report.Section(f"{travelling.TITLES[name]}, one by one", lines))
    pictures = travelling.draw_travellers(travellers, methods, target)
    sections += [report.Section(figure.name, figures=[figure]) for figure in pictures]
    content = {
        "dataset": manifest.dataset,
        "target": target,
        "scanners": list(travellers.scanners),
        "subjects": len(travellers.subjects),
        "methods": results,
    }
    files.write_json(folder_of / "travelling.json", content)
    text = [f"# {title}\n\n{summary}\n"]
    for section in sections:
        if section.lines:
            bullets = "".join(f"- {note}\n" for note in section.notes)
            text.append(f"## {section.heading}\n\n{tables.markdown(section.lines)}\n{bullets}")
    files.write_text(folder_of / "travelling.md", "\n".join(text) + f"\n```\n{command}\n```\n")
    page = report.write_comparison(
        folder_of / "travelling.html",
        title=title,
        summary=summary,
        sections=sections,
        environment=folder.environment(),
        command=command,
    )
    say(f"\n{tables.text(travelling.table(results))}\n{travelling.headline(results)}\n\nreport: {page}")


def _protocols(results: Mapping[str, Mapping[str, Mapping]]) -> dict[str, Mapping]:
    """{name: an entry of it that says how it was measured}."""
    return {name: of[name] for name in travelling.NAMES for of in results.values() if of[name]["protocol"]}
