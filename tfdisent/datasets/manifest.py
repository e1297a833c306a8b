"""Anyone's volumes, by a table: private data, and sets without a reader of their own (ERI, BOLD, NCANDA, ZeroDose,
MS-CMRSeg, ADNI).

--raw_dir is the table, with a header and one line for each modality of each subject, separated by
commas, tabs or semicolons. Paths are relative to the table's folder and stay inside of it, links
included; backslashes are read as slashes:

    subject,domain,modality,image,label,split,condition:age,condition:dose
    p001,Verio,T1,p001/t1.nii.gz,p001/lesions.nii.gz,train,63,0.5
    p001,Verio,FLAIR,p001/flair.nii.gz,,,,
    p002,Aera,T1,p002/t1.nii.gz,p002/lesions.nii.gz,test,48,1

    subject     the patient; never in two splits
    session     optional: several scans of one subject
    modality    any name; each subject has each (or --allow_missing=true), all on one grid
    image       a volume: .nii, .nii.gz, .mhd, .mha, or a folder with one DICOM series
    domain      optional: scanner or site
    label       optional: a label map (a path that ends as a volume's does), or the name of a class
    mask        optional: a label map, where `label` is the name of a class
    brain_mask  optional: everything outside is set to `background`
    split       optional: its split; without any, subjects are split by a seed
    condition:  optional, before a name: numbers that become the condition, as in condition:age; --condition=age takes a
                column of that name too. Other columns are not read, and a note says which

What belongs to the subject (domain, label, mask, split, conditions) need not be repeated in each of
its lines, and must not differ between them. With --own_masks=true a label map is that of the line's own image, as
misaligned modalities have them. Name what the label maps hold:
--mask_labels=background,myocardium,blood,right --mask_codes=0,200,500,600

Licence and citation are the data's own.
"""

import dataclasses
import math
import os
import pathlib
import re

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import Row, read_table
from tfdisent.datasets.splits import deal
from tfdisent.datasets.volumes import Scans, VolumeBuilder

_COLUMNS = (
    "subject",
    "session",
    "modality",
    "image",
    "domain",
    "label",
    "mask",
    "brain_mask",
    "split",
)
_NEEDED = ("subject", "modality", "image")
_CONDITION = "condition:"  # before the name of a column of numbers
_VOLUME = re.compile(r".*\.(nii|nii\.gz|mhd|mha)", re.IGNORECASE)
_SPLIT = re.compile(r"[A-Za-z0-9_]+")


@dataclasses.dataclass(frozen=True)
class Table(VolumeBuilder):
    """Volumes by a table; the other options are those of `VolumeBuilder`.

    Args:
        condition: columns of numbers that become the condition; empty: those whose name begins with "condition:".
        allow_outside: allow paths that leave the table's folder, links included.
        own_masks: each modality has a label map of its own, in its line, and masks have a channel for each; a subject
            has all of them or none.
    """

    name = "manifest"
    raw_help = (
        "raw_dir is a table (.csv or .tsv) with the columns subject, modality, image, and optionally session, domain, "
        "label, mask, brain_mask, split and condition:NAME; tfdisent/datasets/manifest.py shows one."
    )

    condition: tuple[str, ...] = ()
    allow_outside: bool = False
    own_masks: bool = False

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return self.manifest(
            self.units(raw_dir),
            condition_names=tuple(self._conditions(raw_dir, _read(raw_dir))),
            description="Volumes by a table.",  # whose name can be a patient's
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        units = self.units(raw_dir)
        lines_of: dict[str, list[Row]] = {}
        for line in _read(raw_dir):
            lines_of.setdefault(line.values["subject"], []).append(line)
        given = {subject: _common(raw_dir, lines, "split") for subject, lines in lines_of.items()}
        if not any(given.values()):
            return self.seeded_splits(units)
        self.refuse_folds(f"the column split of {raw_dir}")
        if missing := sorted(subject for subject, split in given.items() if not split):
            raise ValueError(
                f"{raw_dir} gives a split to some subjects, and none to {', '.join(missing[:5])}. Give one to all, or "
                "to none for a split by seed."
            )
        if odd := sorted(split for split in set(given.values()) if not _SPLIT.fullmatch(split)):
            raise ValueError(f"{raw_dir} has the split {odd[0]!r}; use letters, digits and underscores.")
        splits: dict[str, list[str]] = {}
        for subject, split in given.items():
            splits.setdefault(split, []).append(subject)
        return deal(units, splits)

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        sessions = _sessions(raw_dir)
        lines = [line for group in sessions.values() for line in group]
        conditions = self._conditions(raw_dir, lines)
        found = dict.fromkeys(line.values["modality"] for line in lines)
        modalities = self.modalities or tuple(sorted(found))
        if unknown := [name for name in modalities if name not in found]:
            raise ValueError(f"{raw_dir} has no modality {unknown[0]!r}. It has {', '.join(sorted(found))}.")
        units = [self._unit(raw_dir, key, group, modalities, conditions) for key, group in sessions.items()]
        if unread := [n for n in lines[0].values if n not in _COLUMNS and n not in conditions.values()]:
            note = (
                f"{raw_dir}: the columns {', '.join(unread)} are not read; --condition=NAME makes numbers a condition"
            )
            units[0] = units[0]._replace(note=note)
        for column in ("domain", "label"):
            with_it = [unit for unit in units if getattr(unit.source, column)]
            if with_it and len(with_it) < len(units):
                lacking = next(u.key for u in units if not getattr(u.source, column))
                raise ValueError(
                    f"{raw_dir} gives a {column} to {with_it[0].key} and none to {lacking}. Give one to all, or to "
                    "none."
                )
        if not self.mask_labels and any(unit.source.mask or unit.source.masks for unit in units):
            raise ValueError(
                f"{raw_dir} has label maps. Say what they hold, as in --mask_labels=background,lesion --mask_codes=0,1."
            )
        return units

    def raw_files(self, raw_dir: pathlib.Path) -> list[pathlib.Path]:
        """The files that the table names, as far as they are there."""
        scans = [unit.source for unit in self.index(raw_dir)]
        named = {p for s in scans for p in (*s.images.values(), s.mask, s.brain_mask) if p}
        return [pathlib.Path(path) for path in sorted(named) if os.path.exists(path)]

    def _unit(
        self,
        table: pathlib.Path,
        key: tuple[str, str],
        lines: list[Row],
        modalities: tuple[str, ...],
        conditions: dict[str, str],
    ) -> Unit:
        subject, session = key
        images = dict.fromkeys(modalities, "")
        seen: dict[str, int] = {}
        for line in lines:
            modality = line.values["modality"]
            if modality in seen:
                raise ValueError(
                    f"{table}, lines {seen[modality]} and {line.number}: two images of {subject}, {modality}. Remove "
                    "one, or tell sessions apart in a column session."
                )
            seen[modality] = line.number
            if modality in images:
                images[modality] = self._path(table, line, line.values["image"])
        label, mask = ("", "") if self.own_masks else (_common(table, lines, name) for name in ("label", "mask"))
        masks = self._own_masks(table, lines, modalities) if self.own_masks else ()
        if _VOLUME.fullmatch(label):
            if mask and mask != label:
                raise ValueError(
                    f"{table}, line {lines[0].number}: {subject} has the label map {label} and the mask {mask}. Keep "
                    "one."
                )
            label, mask = "", label
        brain_mask = _common(table, lines, "brain_mask")
        mask, brain_mask = (self._path(table, lines[0], path) if path else "" for path in (mask, brain_mask))
        missing = [path for path in (*images.values(), mask, brain_mask, *masks) if path and not os.path.exists(path)]
        problem = ""
        if missing:
            problem = f"{table}, line {lines[0].number}: {subject} needs {missing[0]}, not found"
        domain = _common(table, lines, "domain")
        condition = tuple(_number(table, lines, column) for column in conditions.values())
        scans = Scans(images, mask, brain_mask, domain, label, condition, masks=masks)
        unit_key = f"{subject}/{session}" if session else subject
        return Unit(unit_key, subject, scans, label or domain, problem)

    def num_masks(self, scans: Scans) -> int:
        return len(scans.images) if self.own_masks else 1

    def _own_masks(self, table: pathlib.Path, lines: list[Row], modalities: tuple[str, ...]) -> tuple[str, ...]:
        """The label maps of a subject's modalities, all or none."""
        given = {}
        for line in lines:
            label, mask = (line.values.get(name, "") for name in ("label", "mask"))
            if path := mask or label:
                given[line.values["modality"]] = self._path(table, line, path)
        missing = [name for name in modalities if name not in given]
        if missing and len(missing) < len(modalities):
            raise ValueError(
                f"{table}, line {lines[0].number}: {lines[0].values['subject']} has label maps, and none of "
                f"{missing[0]}. With own_masks=true each modality has one, or none has."
            )
        return () if missing else tuple(given[name] for name in modalities)

    def _path(self, table: pathlib.Path, line: Row, text: str) -> str:
        folder = os.path.abspath(table.parent)
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(text.replace("\\", "/"))))
        home, target = os.path.realpath(folder), os.path.realpath(path)
        if os.path.commonpath([home, target]) != home and not self.allow_outside:
            raise ValueError(
                f"{table}, line {line.number}: {text} leaves the folder of the table. Move the table or the file, or "
                "use allow_outside=true."
            )
        return path

    def _conditions(self, table: pathlib.Path, lines: list[Row]) -> dict[str, str]:
        """The columns of the condition's numbers, by their names without the prefix."""
        columns = tuple(lines[0].values)
        marked = {name.removeprefix(_CONDITION): name for name in columns if name.startswith(_CONDITION)}
        known = {name: name for name in columns} | marked
        if unknown := [name for name in self.condition if name not in known]:
            raise ValueError(f"{table} has no column {unknown[0]!r}. Its columns are: {', '.join(columns)}.")
        return {name: known[name] for name in self.condition} or marked


def _sessions(table: pathlib.Path) -> dict[tuple[str, str], list[Row]]:
    """The table's lines by subject and session."""
    sessions: dict[tuple[str, str], list[Row]] = {}
    for line in _read(table):
        key = line.values["subject"], line.values.get("session", "")
        sessions.setdefault(key, []).append(line)
    return sessions


def _read(table: pathlib.Path) -> list[Row]:
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not a file. {Table.raw_help}")
    written, rows = read_table(table)
    columns = [name.lower() if name.lower() in _COLUMNS else name for name in written]
    if missing := [name for name in _NEEDED if name not in columns]:
        raise ValueError(
            f"{table} lacks the column {', '.join(missing)}. Its columns are: {', '.join(columns) or 'none'}."
        )
    if len(set(columns)) < len(columns):
        raise ValueError(f"{table} has a column twice: {', '.join(columns)}.")
    if not rows:
        raise ValueError(f"{table} has no lines below its header.")
    lines = [row._replace(values=dict(zip(columns, row.values.values(), strict=True))) for row in rows]
    for line in lines:
        if empty := [name for name in _NEEDED if not line.values[name]]:
            raise ValueError(f"{table}, line {line.number}: {', '.join(empty)} is empty.")
    return lines


def _common(table: pathlib.Path, lines: list[Row], column: str) -> str:
    """The one value that a subject's lines have in a column, or are empty in it."""
    values: dict[str, int] = {}
    for line in lines:
        if value := line.values.get(column, ""):
            values.setdefault(value, line.number)
    if len(values) > 1:
        (first, one), (second, other) = list(values.items())[:2]
        raise ValueError(
            f"{table}, lines {one} and {other}: {lines[0].values['subject']} has {column} {first!r} and {second!r}, "
            "expected one."
        )
    return next(iter(values), "")


def _number(table: pathlib.Path, lines: list[Row], column: str) -> float:
    text = _common(table, lines, column)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{table}, line {lines[0].number}: {column} is {text!r}, expected a number. Choose the columns of the "
            "condition with condition=age,..., or remove this one."
        )
    return number
