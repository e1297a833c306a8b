"""BraTS: MR images of gliomas (T1, contrast-enhanced T1, T2, FLAIR) with the tumour's parts drawn.

All scans are skull-stripped, registered to one another and resampled to 240 x 240 x 155 voxels of 1 mm; the background
is 0.

Cite: Menze et al., "The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS)", IEEE TMI 34,
1993 (2015), https://doi.org/10.1109/TMI.2014.2377694; Bakas et al., Scientific Data 4, 170117
(2017), https://doi.org/10.1038/sdata.2017.117; Bakas et al., https://arxiv.org/abs/1811.02629
Licence: for research, after registration; see the terms of the edition.
Get it: Synapse (https://www.synapse.org/brats), or a copy on Kaggle. Unpack it anywhere in one
folder. All editions from 2017 on are read, .nii and .nii.gz, however the folders are nested:

    MICCAI_BraTS_2018_Data_Training/HGG/Brats18_2013_10_1/Brats18_2013_10_1_t1.nii.gz
                                                          ... _t1ce, _t2, _flair, _seg
                                    LGG/...
    MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz ...
                                  name_mapping.csv        Grade and BraTS_2020_subject_ID, optional
    MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001/...   cases without _seg
    BraTS2021_00000/BraTS2021_00000_t1.nii.gz ...
    BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz ...       -t1c, -t2w, -t2f, -seg

A case is what begins alike in one folder; the files of several cases may lie in one. A case of two folders, or with two
files for one modality (T1ce and T1c, .nii and .nii.gz), is a problem.

Masks hold 0 background, 1 necrosis (with non-enhancing tumour up to 2020), 2 oedema, 3 enhancing tumour, whose code in
the files was 4 up to 2021 and is 3 since. A file with both codes is of another scheme (2013, 2024) and an error. The
segmentation of case 355 of 2020 has another name: in a folder of one case without _seg, the one file that is no
modality is taken for it.

Protocols:

unified   Liu et al. (ISBI 2021): slices 240 x 240 with at least 2000 brain pixels in every
          modality. 100 subjects for the translator (train), 85 to test and 100 for the segmentor
          (segmentation) of the 285 of 2018, of other editions as many in proportion; drawn by the
          seed, for the paper's lists were not published.
margin    Ouyang et al. (IPMI 2021): the middle 192 x 160 (anterior-posterior x right-left) of
          slices 50 to 104, each with the one below and above as channels; five folds of which
          `fold` tests, and a tenth of the others is for validation. The published folds are of
          369 training and 125 validation cases shuffled together, and cannot be rebuilt from 369.
plain     240 x 240, every slice that shows brain in all modalities, test_fraction and val_fraction.
"""

import dataclasses
import pathlib
import re
from typing import ClassVar

import numpy as np

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import files_under, one_of_each, read_table
from tfdisent.datasets.splits import deal, fold_split, seeded_split
from tfdisent.datasets.volumes import Scans, VolumeBuilder

MODALITIES = ("t1", "t1ce", "t2", "flair")
NUM_FOLDS = 5
_SYNONYMS = {
    **{"t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce"},
    **{"t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair", "fla": "flair", "seg": "seg"},
}
_FILE = re.compile(rf"(.+)[_-]({'|'.join(_SYNONYMS)})\.nii(\.gz)?", re.IGNORECASE)
# Sessions of one patient: the last number of Brats18_CBICA_AAB_1 and of BraTS-GLI-00000-000.
_SESSION = re.compile(r"(Brats1\d_.+)_\d+|(BraTS-[A-Z]+-\d+)-\d+", re.IGNORECASE)
# What differs from the defaults of the fields, which are those of "unified".
_PROTOCOLS = {
    "unified": {},
    "margin": {
        "size": "192x160",
        "slice_range": ("50", "104"),
        "min_foreground": 0,
        "neighbours": 1,
    },
    "plain": {"min_foreground": 1},
}


@dataclasses.dataclass(frozen=True)
class BraTS(VolumeBuilder):
    """BraTS; the other options are those of `VolumeBuilder`.

    Args:
        protocol: "unified", "margin" or "plain"; see the module's docstring. Options that are given beside it stay as
            given.
        fold: which fold tests: of the five of protocol "margin", or of `folds`.
        unlabelled: take cases without segmentation, such as the official validation cases, as split "unlabelled".
            Otherwise those in a folder called validation are passed over, and others are a problem.
    """

    name = "brats"
    num_shards: ClassVar[int] = 32
    raw_help = (
        "Get it from https://www.synapse.org/brats (registration), or a copy on Kaggle. The folder must hold one "
        "folder a case, e.g. Brats18_2013_10_1 with Brats18_2013_10_1_t1.nii.gz, _t1ce, _t2, _flair and _seg; "
        "tfdisent/datasets/brats.py says what else is read."
    )

    protocol: str = "unified"
    unlabelled: bool = False
    size: str = "240x240"
    min_foreground: int = 2000
    dtype: str = "int16"
    modalities: tuple[str, ...] = MODALITIES
    mask_labels: tuple[str, ...] = ("background", "necrosis", "oedema", "enhancing")
    mask_codes: tuple[str, ...] = ("0", "1", "2", "4|3")

    def __post_init__(self):
        if self.protocol not in _PROTOCOLS:
            raise ValueError(f"Expected protocol to be one of {', '.join(_PROTOCOLS)}, received {self.protocol!r}.")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, value in _PROTOCOLS[self.protocol].items():
            if getattr(self, name) == defaults[name]:
                object.__setattr__(self, name, value)
        super().__post_init__()
        if unknown := sorted(set(self.modalities) - set(MODALITIES)):
            raise ValueError(f"brats has no modality {unknown[0]!r}, but {', '.join(MODALITIES)}.")
        if not self.folds and not 0 <= self.fold < NUM_FOLDS:
            raise ValueError(f"Expected fold to be 0 to {NUM_FOLDS - 1}, received {self.fold}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return self.manifest(
            self.units(raw_dir),
            description="BraTS: slices of T1, contrast-enhanced T1, T2 and FLAIR of gliomas.",
            homepage="https://www.synapse.org/brats",
            citation="Menze et al., IEEE TMI 34, 1993 (2015), https://doi.org/10.1109/TMI.2014.2377694",
            licence="for research, after registration",
        )

    def own_folds(self, raw_dir: pathlib.Path) -> int:
        return NUM_FOLDS if self.protocol == "margin" else 0

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        units = self.units(raw_dir)
        labelled = [unit for unit in units if unit.source.mask or unit.problem]
        others = [unit for unit in units if not (unit.source.mask or unit.problem)]
        subjects = [unit.subject for unit in labelled if not unit.problem]
        if self.protocol == "unified":
            shares = {"test": 85 / 285, "segmentation": 100 / 285}
            splits = deal(labelled, seeded_split(subjects, shares, self.seed))
        elif self.protocol == "margin":
            folds = fold_split(subjects, self.fold, NUM_FOLDS, 0.1, self.seed)
            splits = deal(labelled, folds)
        else:
            splits = self.seeded_splits(labelled)
        return {**splits, "unlabelled": others} if others else splits

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        cases, grades = _find_cases(raw_dir)
        folders: dict[str, list[pathlib.Path]] = {}
        for folder, name in cases:
            folders.setdefault(name, []).append(folder)
        units = []
        for (folder, name), found in cases.items():
            if folder != folders[name][0]:
                continue
            files, problem = one_of_each(name, found)
            if len(folders[name]) > 1:
                problem = f"{name} lies in {folder} and in {folders[name][1]}. Remove one."
            places = (raw_dir.name, *folder.relative_to(raw_dir).parts)
            if "seg" not in files and not self.unlabelled:
                if any("validation" in place.lower() for place in places):
                    continue
                problem = problem or (
                    f"{name} in {folder} has no segmentation (_seg.nii.gz). Get it again, or take it with "
                    "unlabelled=true."
                )
            match = _SESSION.fullmatch(name)
            subject = (match[1] or match[2]) if match else name
            grade = next((p for p in places if p in ("HGG", "LGG")), grades.get(name, ""))
            images = {modality: files.get(modality, "") for modality in self.modalities}
            units.append(Unit(name, subject, Scans(images, files.get("seg", "")), grade, problem))
        return units

    def mask_ids(self, path: str, codes: np.ndarray) -> np.ndarray:
        if self.mask_codes == type(self).mask_codes and (codes == 3).any() and (codes == 4).any():
            raise ValueError(
                f"{path} holds both codes 3 and 4, as in the editions of 2013 and 2024, where they mean other parts. "
                "Name them in mask_labels and mask_codes."
            )
        return super().mask_ids(path, codes)


def _find_cases(
    raw_dir: pathlib.Path,
) -> tuple[dict[tuple[pathlib.Path, str], dict[str, list[pathlib.Path]]], dict[str, str]]:
    """Files by role of each case, a folder and the name with which its files begin; grades by name."""
    cases: dict[tuple[pathlib.Path, str], dict[str, list[pathlib.Path]]] = {}
    odd: dict[pathlib.Path, list[pathlib.Path]] = {}
    grades = {}
    for path in files_under(raw_dir):
        if match := _FILE.fullmatch(path.name):
            roles = cases.setdefault((path.parent, match[1]), {})
            roles.setdefault(_SYNONYMS[match[2].lower()], []).append(path)
        elif path.name.lower().endswith((".nii", ".nii.gz")):
            odd.setdefault(path.parent, []).append(path)
        elif path.name.lower().startswith("name_mapping") and path.suffix.lower() == ".csv":
            grades |= _grades(path)
    for folder, paths in odd.items():
        beside = [roles for (place, _), roles in cases.items() if place == folder]
        if len(paths) == len(beside) == 1:
            beside[0].setdefault("seg", paths)
    return cases, grades


def _grades(path: pathlib.Path) -> dict[str, str]:
    """Grade (HGG or LGG) by the name of the case in any of the editions."""
    _, rows = read_table(path)
    return {
        name: row.values["Grade"]
        for row in rows
        if row.values.get("Grade")
        for column, name in row.values.items()
        if column != "Grade"
    }
