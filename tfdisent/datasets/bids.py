"""Any data set in the Brain Imaging Data Structure: T1w, T2w, FLAIR, T1w after contrast, PET.

Cite: Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 160044 (2016),
https://doi.org/10.1038/sdata.2016.44, and the data set's own paper.
Licence: the data set's own (dataset_description.json).
Get it: e.g. https://openneuro.org, or convert one's own. The folder:

    participants.tsv                            optional: participant_id, and columns for
                                                domain (site) and label (group)
    sub-01/sub-01_sessions.tsv                  optional: session_id, and these columns where they differ between the
                                                sessions of a subject, as of one who was scanned at several sites
    sub-01/anat/sub-01_T1w.nii.gz               or sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz
                sub-01_ce-gadolinium_T1w.nii.gz     modality T1w_ce
                sub-01_T2w.nii.gz, sub-01_FLAIR.nii.gz
           pet/sub-01_trc-18FFDG_pet.nii.gz         modality pet
    derivatives/lesions/sub-01/anat/sub-01_label-lesion_mask.nii.gz      --mask=label-lesion_mask
    derivatives/brain/sub-01/anat/sub-01_desc-brain_mask.nii.gz          --brain_mask=desc-brain_mask

Images are read from sub-<label>[/ses-<label>]/anat and pet alone, masks also from derivatives/<pipeline>; sourcedata,
code and data sets within the data set (folders with a dataset_description.json of their own) are passed over. A file
that names another subject or session than its folders is a problem, and so are two files of one name (in two pipelines,
or as .nii and .nii.gz).

Modalities of a session must lie on one grid, which raw data seldom do: point --raw_dir at the folder of a pipeline that
registered them (derivatives/<pipeline>, laid out alike). Where a session has several images of one modality,
--select=acq-highres,space-MNI says which; of several runs the first is taken.
"""

import dataclasses
import pathlib
import re

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import Row, files_under, read_table
from tfdisent.datasets.volumes import Scans, VolumeBuilder

MODALITIES = ("T1w", "T1w_ce", "T2w", "FLAIR", "pet")
_FILE = re.compile(
    r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?((?:_[A-Za-z0-9]+-[A-Za-z0-9+]+)*)_([A-Za-z0-9]+)"
    r"\.nii(?:\.gz)?"
)
_PASSED_OVER = ("sourcedata", "code")
_DESCRIPTION = "dataset_description.json"  # of each data set in BIDS


@dataclasses.dataclass(frozen=True)
class BIDS(VolumeBuilder):
    """A data set in BIDS; the other options are those of `VolumeBuilder`. `modalities` are some of T1w, T1w_ce, T2w,
    FLAIR, pet; by default those that occur.

    Args:
        mask: end of the names of label maps, e.g. "label-lesion_mask"; empty: none.
        brain_mask: end of the names of brain masks, e.g. "desc-brain_mask"; empty: none.
        select: entities that an image must have where there are several, e.g. "acq-highres".
        domain: column of participants.tsv, or of a subject's sessions.tsv, that is the domain, if there is one.
        label: the same of the label.
    """

    name = "bids"
    raw_help = (
        "raw_dir is a folder in BIDS, e.g. from https://openneuro.org, with "
        "sub-01[/ses-a]/anat/sub-01[_ses-a]_T1w.nii.gz; tfdisent/datasets/bids.py says what else is read."
    )

    mask: str = ""
    brain_mask: str = ""
    select: tuple[str, ...] = ()
    domain: str = "site"
    label: str = "group"

    def __post_init__(self):
        if self.mask and not self.mask_labels:
            object.__setattr__(self, "mask_labels", ("background", "lesion"))
        super().__post_init__()
        if unknown := sorted(set(self.modalities) - set(MODALITIES)):
            raise ValueError(f"bids has no modality {unknown[0]!r}, but {', '.join(MODALITIES)}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return self.manifest(
            self.units(raw_dir),
            description="Axial slices of a data set in BIDS.",
            citation="Gorgolewski et al., Scientific Data 3, 160044 (2016), https://doi.org/10.1038/sdata.2016.44",
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        return self.seeded_splits(self.units(raw_dir))

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        images: dict[tuple[str, str], dict[str, list[pathlib.Path]]] = {}
        masks: dict[tuple[str, str], dict[str, list[pathlib.Path]]] = {}
        misplaced: dict[tuple[str, str], str] = {}
        files, nested = _own_files(raw_dir)
        for path in files:
            match = _FILE.fullmatch(path.name)
            if not match:
                continue
            session = match[1], match[2] or ""
            folders = path.relative_to(raw_dir).parts[:-1]
            places = tuple(folder for folder in folders if folder.startswith(("sub-", "ses-")))
            ending = f"{match[3]}_{match[4]}"
            used = False
            for kind in ("mask", "brain_mask"):
                wanted = getattr(self, kind)
                if wanted and ending.endswith(f"_{wanted}"):
                    masks.setdefault(session, {}).setdefault(kind, []).append(path)
                    used = True
            modality = _modality(match[3], match[4])
            if modality and places and folders in ((*places, "anat"), (*places, "pet")):
                images.setdefault(session, {}).setdefault(modality, []).append(path)
                used = True
            if used and set(places) - set(session):
                misplaced.setdefault(session, f"{path} names another subject or session than its folders. Move it.")
        if nested and not images:
            raise FileNotFoundError(
                f"{raw_dir} has no sub-*/anat of its own, but data sets within it. Give one of them: "
                f"{', '.join(nested[:5])}."
            )
        present = {modality for found in images.values() for modality in found}
        modalities = self.modalities or tuple(name for name in MODALITIES if name in present)
        if unknown := [name for name in modalities if images and name not in present]:
            raise FileNotFoundError(f"{raw_dir} has no image {unknown[0]}. It has {', '.join(sorted(present))}.")
        people = _table(raw_dir / "participants.tsv", "participant_id")
        subjects = {subject for subject, _ in images}
        visits = {name: _table(raw_dir / name / f"{name}_sessions.tsv", "session_id") for name in subjects}
        told = {session: people.get(session[0], {}) | visits[session[0]].get(session[1], {}) for session in images}
        columns = {column for values in told.values() for column in values}
        domain, label = (name if name in columns else "" for name in (self.domain, self.label))
        return [
            self._unit(
                session,
                {modality: found.get(modality, []) for modality in modalities},
                masks.get(session) or masks.get((session[0], ""), {}),
                told[session],
                (domain, label),
                misplaced.get(session, ""),
            )
            for session, found in sorted(images.items())
        ]

    def _unit(
        self,
        session: tuple[str, str],
        images: dict[str, list[pathlib.Path]],
        masks: dict[str, list[pathlib.Path]],
        person: dict[str, str],
        columns: tuple[str, str],
        problem: str,
    ) -> Unit:
        key = "_".join(filter(None, session))
        problems = [problem]
        chosen = {}
        for name, paths in images.items():
            chosen[name], problem = self._choice(paths)
            problems.append(problem)
        files = {}
        for kind in ("mask", "brain_mask"):
            files[kind], problem = self._choice(masks.get(kind, []))
            problems.append(problem)
            if getattr(self, kind) and not files[kind] and not problem:
                problems.append(f"{key} has no file that ends in _{getattr(self, kind)}.nii.gz")
        words = ["" if person.get(name) == "n/a" else person.get(name, "") for name in columns]
        for name, word in zip(columns, words, strict=True):
            if name and not word:
                problems.append(f"participants.tsv does not tell the {name} of {session[0]}, nor does its sessions.tsv")
        scans = Scans(chosen, files["mask"], files["brain_mask"], *words)
        problem = next(filter(None, problems), "")
        return Unit(key, session[0], scans, words[1] or words[0], problem)

    def _choice(self, paths: list[pathlib.Path]) -> tuple[str, str]:
        """The one of several files to read, or why it is not clear which."""
        if len(paths) > 1:
            selected = [
                path for path in paths if set(self.select) <= set(re.sub(r"\.nii(\.gz)?$", "", path.name).split("_"))
            ]
            paths = selected or paths
        by_name: dict[str, list[pathlib.Path]] = {}
        for path in paths:
            by_name.setdefault(re.sub(r"\.nii(\.gz)?$", "", path.name), []).append(path)
        for name, same in by_name.items():
            if len(same) > 1:
                return "", f"{same[0]} and {same[1]} are both {name}. Remove one."
        if len({re.sub(r"_run-\d+", "", name) for name in by_name}) > 1:
            names = ", ".join(path.name for path in paths[:4])
            return "", f"it is not clear which of {names} to read; choose with select=acq-..."
        return (str(min(paths)), "") if paths else ("", "")


def _modality(entities: str, suffix: str) -> str:
    if suffix == "T1w" and "_ce-" in entities:
        return "T1w_ce"
    return suffix if suffix in MODALITIES else ""


def _table(path: pathlib.Path, key: str) -> dict[str, dict[str, str]]:
    """Rows of participants.tsv or a subject's sessions.tsv by their first column."""
    if not path.is_file():
        return {}
    columns, rows = read_table(path, "\t")
    if key not in columns:
        raise ValueError(f"{path} lacks the column {key}. Its columns: {', '.join(columns) or 'none'}.")
    found: dict[str, Row] = {}
    for row in rows:
        first = found.setdefault(row.values[key], row)
        if first is not row:
            raise ValueError(
                f"{path}, lines {first.number} and {row.number}: {row.values[key]} is there twice. Remove one."
            )
    return {name: row.values for name, row in found.items()}


def _own_files(raw_dir: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """Files of the data set itself and of its derivatives, and the data sets within it, by their folders."""
    files = files_under(raw_dir)
    nested = set()
    for path in files:
        place = path.relative_to(raw_dir).parts[:-1]
        if path.name == _DESCRIPTION and place and not (place[0] == "derivatives" and len(place) <= 2):
            nested.add(place)
    own = []
    for path in files:
        places = path.relative_to(raw_dir).parts[:-1]
        is_within = any(places[: depth + 1] in nested for depth in range(len(places)))
        if not is_within and not set(places) & set(_PASSED_OVER):
            own.append(path)
    return own, ["/".join(places) for places in sorted(nested)]
