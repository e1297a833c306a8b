"""MSSEG 2016: 53 patients with multiple sclerosis on four scanners, lesions drawn by seven experts.

Cite: Commowick et al., "Multiple sclerosis lesions segmentation from multiple experts: The MICCAI
2016 challenge dataset", NeuroImage 244, 118589 (2021),
https://doi.org/10.1016/j.neuroimage.2021.118589
Licence: for research, after an agreement.
Get it: https://shanoir.irisa.fr, with an account. Unpack it anywhere in one folder. Both trees are
read, .nii and .nii.gz:

    Training/Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz     T1, T2, DP, GADO
                                  Raw_Data/FLAIR.nii.gz ...
                                  Masks/Consensus.nii.gz, ManualSegmentation_1.nii.gz ..., Brain_Mask.nii.gz
    Testing/Center_03/Patient_01/...

    01016SACH/3DFLAIR.nii.gz, 3DT1, 3DT1GADO, T2, DP          the tree of 2016: the first two digits
              Consensus.nii.gz, ManualSegmentation_1 ..., Mask_registered    are the centre; "preproc"
                                                              in a folder's name marks preprocessed

Two files of a patient for one contrast or mask (3DFLAIR and FLAIR, .nii and .nii.gz, two trees) are a problem.

Centres are domains: 01 Siemens Verio 3 T (Rennes), 03 GE Discovery 3 T (Bordeaux, test only),
07 Siemens Aera 1.5 T (Lyon), 08 Philips Ingenia 3 T (Lyon). FLAIR is stored in sagittal order; here
all slices are axial. Masks are on the grid of the preprocessed FLAIR, and hold 0 background and 1
lesion (`consensus` of the raters; it is empty for some patients).

Ren et al. (TMI, harmonisation) take the preprocessed FLAIR of the 15 training patients, five of a scanner, and leave
one of each scanner out in turn: `--fold=0` to 4. They register to MNI first; here slices are resampled to 1 mm pixels
instead, and are 256 x 256.
"""

import dataclasses
import pathlib
import re
from collections import defaultdict
from collections.abc import Sequence

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import files_under, one_of_each
from tfdisent.datasets.splits import deal
from tfdisent.datasets.volumes import Scans, VolumeBuilder

SCANNERS = {
    "01": "Siemens Verio",
    "03": "GE Discovery",
    "07": "Siemens Aera",
    "08": "Philips Ingenia",
}
MODALITIES = ("FLAIR", "T1", "T2", "PD", "GADO")
_CENTRE = re.compile(r"cent(?:er|re)_?(\d{1,2})", re.IGNORECASE)
_PATIENT = re.compile(r"patient_?(\d+)", re.IGNORECASE)
_OLD_PATIENT = re.compile(r"(\d{2})\d{3}[A-Z]{4}", re.IGNORECASE)
_PREPROCESSED = re.compile(r"(?<!un)pre-?_?proc", re.IGNORECASE)
_ROLES = {
    **{"flair": "FLAIR", "t1": "T1", "t2": "T2", "dp": "PD", "pd": "PD"},
    **{"gado": "GADO", "t1gado": "GADO", "t1_gado": "GADO", "t1-gado": "GADO"},
    **{"consensus": "rater 0", "brain_mask": "brain", "mask_registered": "brain"},
    **{f"manualsegmentation_{rater}": f"rater {rater}" for rater in range(1, 8)},
}


@dataclasses.dataclass(frozen=True)
class MSSEG(VolumeBuilder):
    """MSSEG 2016; the other options are those of `VolumeBuilder`.

    Args:
        split: "leave_one_out": of the training patients, number `fold` of each scanner tests; "official": the folders
            Training and Testing (the first also has the split "val" if val_fraction is set).
        fold: see split; with `folds` one of as many.
        images: "preprocessed" or "raw". Raw images of a patient lie on different grids.
        rater: whose mask, 1 to 7; 0 is the consensus.
    """

    name = "msseg"
    raw_help = (
        "Get it from https://shanoir.irisa.fr (account and agreement). The folder must hold "
        "Training/Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz and Masks/Consensus.nii.gz beside "
        "it, or the tree of 2016 with 01016SACH/3DFLAIR.nii.gz; tfdisent/datasets/msseg.py says more."
    )

    split: str = "leave_one_out"
    images: str = "preprocessed"
    rater: int = 0
    modalities: tuple[str, ...] = ("FLAIR",)
    size: str = "256x256"
    pixel_spacing: float = 1.0
    mask_labels: tuple[str, ...] = ("background", "lesion")

    def __post_init__(self):
        super().__post_init__()
        for name, choices in (
            ("split", ("leave_one_out", "official")),
            ("images", ("preprocessed", "raw")),
            ("rater", range(8)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected {name} to be one of {', '.join(map(str, choices))}, received {getattr(self, name)!r}."
                )
        if unknown := sorted(set(self.modalities) - set(MODALITIES)):
            raise ValueError(f"msseg has no modality {unknown[0]!r}, but {', '.join(MODALITIES)}.")
        if self.fold < 0:
            raise ValueError(f"Expected fold to be 0 or more, received {self.fold}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return self.manifest(
            self.units(raw_dir),
            description="MSSEG 2016: axial slices of multiple sclerosis by scanner, with lesions.",
            homepage="https://shanoir.irisa.fr",
            citation="Commowick et al., NeuroImage 244, 118589 (2021), "
            "https://doi.org/10.1016/j.neuroimage.2021.118589",
            licence="for research, after an agreement",
        )

    def own_folds(self, raw_dir: pathlib.Path) -> int:
        if self.split == "official":
            return 0
        training = [unit for unit in self.units(raw_dir) if not unit.key.startswith("Testing")]
        return min(map(len, _by_scanner(training).values()), default=0)

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        units = self.units(raw_dir)
        testing = [unit for unit in units if unit.key.startswith("Testing")]
        training = [unit for unit in units if not unit.key.startswith("Testing")]
        if self.split == "official":
            self.refuse_folds("split=official")
            if not testing or not training:
                raise FileNotFoundError(
                    f"The official split needs the folders Training and Testing under {raw_dir}. Add them, or use "
                    "split=leave_one_out."
                )
            only_val = dataclasses.replace(self, test_fraction=0.0)
            return {**only_val.seeded_splits(training), "test": testing}
        patients = _by_scanner(training)
        fewest = min(map(len, patients.values()), default=0)
        if fewest < 2 or self.fold >= fewest:
            raise ValueError(
                f"fold {self.fold} needs {max(2, self.fold + 1)} training patients of each scanner under {raw_dir}, "
                "found " + (", ".join(f"{len(p)} of {name}" for name, p in patients.items()) or "none") + "."
            )
        left_out = [sorted(names)[self.fold] for names in patients.values()]
        rest = [name for names in patients.values() for name in names if name not in left_out]
        return deal(training, {"train": rest, "test": left_out})

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        found: dict[tuple[str, str], dict[str, list[pathlib.Path]]] = {}
        for path in files_under(raw_dir):
            stem = re.sub(r"\.nii(\.gz)?$", "", path.name.lower())
            if stem == path.name.lower():
                continue
            places = (raw_dir.name, *path.relative_to(raw_dir).parts[:-1])
            patient = _patient(places)
            role = _ROLES.get(stem.removesuffix("_preprocessed").removeprefix("3d"))
            if not (patient and role):
                continue
            if role in MODALITIES:
                is_preprocessed = any(map(_PREPROCESSED.search, (*places, stem)))
                if is_preprocessed != (self.images == "preprocessed"):
                    continue
            found.setdefault(patient, {}).setdefault(role, []).append(path)
        return [self._unit(patient, roles) for patient, roles in sorted(found.items())]

    def _unit(self, patient: tuple[str, str], roles: dict[str, list[pathlib.Path]]) -> Unit:
        key, centre = patient
        wanted = (*self.modalities, f"rater {self.rater}", "brain")
        files, twice = one_of_each(key, {role: paths for role, paths in roles.items() if role in wanted})
        scanner = SCANNERS.get(centre, f"centre {centre}")
        mask = files.get(f"rater {self.rater}", "")
        whose = f"ManualSegmentation_{self.rater}" if self.rater else "Consensus"
        problem = twice
        if not mask:
            problem = f"{key} has no {whose}.nii.gz (beside {min(min(paths) for paths in roles.values())})"
        # The brain mask is on the grid of the preprocessed images.
        brain = files.get("brain", "") if self.images == "preprocessed" else ""
        images = {name: files.get(name, "") for name in self.modalities}
        return Unit(key, key, Scans(images, mask, brain, domain=scanner), scanner, problem)


def _patient(places: tuple[str, ...]) -> tuple[str, str] | None:
    """Name and centre of the patient that a file's folders tell."""
    centre = next(filter(None, map(_CENTRE.fullmatch, places)), None)
    patient = next(filter(None, map(_PATIENT.fullmatch, places)), None)
    part = "Testing" if any(place.lower().startswith("test") for place in places[1:]) else "Training"
    if centre and patient:
        number = centre[1].zfill(2)
        return f"{part}-Center_{number}-Patient_{patient[1].zfill(2)}", number
    old = next(filter(None, map(_OLD_PATIENT.fullmatch, places)), None)
    if old:
        return f"{part}-{old[0].upper()}", old[1]
    return None


def _by_scanner(units: Sequence[Unit]) -> dict[str, list[str]]:
    """Patients that can be read, by scanner."""
    patients = defaultdict(list)
    for unit in units:
        if not unit.problem:
            patients[unit.source.domain].append(unit.subject)
    return patients
