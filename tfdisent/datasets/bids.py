"""Any data set in the Brain Imaging Data Structure: T1w, T2w, FLAIR, T1w after contrast, PET.

Cite: Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 160044 (2016),
https://doi.org/10.1038/sdata.2016.44, and the data set's own paper.
Licence: the data set's own (dataset_description.json).
Get it: e.g. https://openneuro.org, or convert one's own. The folder:

    participants.tsv                            optional: participant_id, and columns for
                                                domain (site) and label (group)
    sub-01/anat/sub-01_T1w.nii.gz               or sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz
                sub-01_ce-gadolinium_T1w.nii.gz     modality T1w_ce
                sub-01_T2w.nii.gz, sub-01_FLAIR.nii.gz
           pet/sub-01_trc-18FFDG_pet.nii.gz         modality pet
    derivatives/lesions/sub-01/anat/sub-01_label-lesion_mask.nii.gz      --mask=label-lesion_mask
    derivatives/brain/sub-01/anat/sub-01_desc-brain_mask.nii.gz          --brain_mask=desc-brain_mask

Modalities of a session must lie on one grid, which raw data seldom do: point --raw_dir at the folder of a pipeline that
registered them (derivatives/<pipeline>, laid out alike). Where a session has several images of one modality,
--select=acq-highres,space-MNI says which; of several runs the first is taken.
"""

import csv
import dataclasses
import pathlib
import re

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit, files_under
from tfdisent.datasets.volumes import Scans, VolumeBuilder

MODALITIES = ("T1w", "T1w_ce", "T2w", "FLAIR", "pet")
_FILE = re.compile(
    r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?((?:_[A-Za-z0-9]+-[A-Za-z0-9+]+)*)_([A-Za-z0-9]+)"
    r"\.nii(?:\.gz)?"
)


@dataclasses.dataclass(frozen=True)
class BIDS(VolumeBuilder):
    """A data set in BIDS; the other options are those of `VolumeBuilder`. `modalities` are some of T1w, T1w_ce, T2w,
    FLAIR, pet; by default those that occur.

    Args:
        mask: end of the names of label maps, e.g. "label-lesion_mask"; empty: none.
        brain_mask: end of the names of brain masks, e.g. "desc-brain_mask"; empty: none.
        select: entities that an image must have where there are several, e.g. "acq-highres".
        domain: column of participants.tsv that is the domain, if there is one.
        label: column of participants.tsv that is the label, if there is one.
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
            description=f"Axial slices of {raw_dir.name}, in BIDS.",
            citation="Gorgolewski et al., Scientific Data 3, 160044 (2016), https://doi.org/10.1038/sdata.2016.44",
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        return self.seeded_splits(self.units(raw_dir))

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        images: dict[tuple[str, str], dict[str, list[pathlib.Path]]] = {}
        masks: dict[tuple[str, str], dict[str, list[pathlib.Path]]] = {}
        for path in files_under(raw_dir):
            match = _FILE.fullmatch(path.name)
            if not match:
                continue
            session = match[1], match[2] or ""
            is_derivative = "derivatives" in path.relative_to(raw_dir).parts
            ending = f"{match[3]}_{match[4]}"
            for kind in ("mask", "brain_mask"):
                wanted = getattr(self, kind)
                if wanted and ending.endswith(f"_{wanted}"):
                    masks.setdefault(session, {}).setdefault(kind, []).append(path)
            modality = _modality(match[3], match[4])
            if modality and not is_derivative and path.parent.name in ("anat", "pet"):
                images.setdefault(session, {}).setdefault(modality, []).append(path)
        present = {modality for found in images.values() for modality in found}
        modalities = self.modalities or tuple(name for name in MODALITIES if name in present)
        if unknown := [name for name in modalities if images and name not in present]:
            raise FileNotFoundError(f"{raw_dir} has no image {unknown[0]}. It has {', '.join(sorted(present))}.")
        people = _participants(raw_dir / "participants.tsv")
        columns = {column for person in people.values() for column in person}
        domain, label = (name if name in columns else "" for name in (self.domain, self.label))
        return [
            self._unit(
                session,
                {modality: found.get(modality, []) for modality in modalities},
                masks.get(session) or masks.get((session[0], ""), {}),
                people.get(session[0], {}),
                (domain, label),
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
    ) -> Unit:
        key = "_".join(filter(None, session))
        problems = []
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
                problems.append(f"participants.tsv does not tell the {name} of {session[0]}")
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
        without_run = {re.sub(r"_run-\d+", "", path.name) for path in paths}
        if len(without_run) > 1:
            names = ", ".join(path.name for path in paths[:4])
            return "", f"it is not clear which of {names} to read; choose with select=acq-..."
        return (str(sorted(paths)[0]), "") if paths else ("", "")


def _modality(entities: str, suffix: str) -> str:
    if suffix == "T1w" and "_ce-" in entities:
        return "T1w_ce"
    return suffix if suffix in MODALITIES else ""


def _participants(path: pathlib.Path) -> dict[str, dict[str, str]]:
    """Rows of participants.tsv by participant_id."""
    if not path.is_file():
        return {}
    rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    if rows and "participant_id" not in rows[0]:
        raise ValueError(f"{path} lacks the column participant_id. Its columns: {list(rows[0])}.")
    return {row["participant_id"]: {name: (value or "").strip() for name, value in row.items() if name} for row in rows}
