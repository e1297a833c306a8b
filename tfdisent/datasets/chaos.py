"""CHAOS, its MR part: T1 (dual echo: in and out of phase) and T2-SPIR of the abdomen.

Cite: Kavur et al., "CHAOS Challenge - combined (CT-MR) healthy abdominal organ segmentation",
Medical Image Analysis 69, 101950 (2021), https://doi.org/10.1016/j.media.2020.101950; data
https://doi.org/10.5281/zenodo.3431873
Licence: CC BY-NC-SA 4.0 (non-commercial).
Get it: CHAOS_Train_Sets.zip, and CHAOS_Test_Sets.zip if wanted, from Zenodo. Below any folders:

    Train_Sets/MR/<id>/T1DUAL/DICOM_anon/{InPhase,OutPhase}/IMG-0004-00002.dcm ...
    Train_Sets/MR/<id>/T1DUAL/Ground/IMG-0004-00002.png ...     of both phases
    Train_Sets/MR/<id>/T2SPIR/DICOM_anon/IMG-0002-00001.dcm ... Ground/IMG-0002-00001.png ...
    Test_Sets/MR/<id>/...                                       the same without Ground
    Train_Sets/CT/...                                           is not read

Images, or masks, of one kind of a patient that lie in two folders are a problem, and so are two patients with the same
images.

Masks belong to images by file name: that of the in-phase file, whose number is one above that of the out-phase file.
The phases are told apart by EchoTime (out 2.3 ms, in 4.6 ms), and where that is missing by even (in) and odd file
numbers, or else by the folder's name. Files of one folder are one series, since anonymisation gave each a series of its
own. Greys of masks are those of the organisers (about 63, 126, 189, 252) or of an older version of the data
(80, 160, 240, 255); others are an error.

T1 and T2 are separate acquisitions with other slices. A record is one T1 slice with the `candidates` T2 slices that lie
nearest to it in the scanner, the nearest first, each with its mask: channels T1 (one for each phase), then T2.
`partner_index` and `partner_distance` (mm) say which they are. T1 slices further than one T2 slice distance from all T2
slices are left out. This takes the place of the hand-made pairs of Chartsias et al. ("Disentangle, align and fuse for
multimodal and semi-supervised image segmentation", IEEE TMI 2021), whose other steps are kept: resampling in plane to
1.89 mm (masks by nearest neighbours), 192 x 192 pixels around the middle, the three folds. They pad with the edge's
value, here it is 0, the grey of air. The paper speaks of the in-phase image, the authors' code of the out-phase one:
`phase` chooses.

`fold` is one of the authors' three (their test and validation patients overlap between folds). Where patients of a fold
are missing, as in a part of the data, a seeded split is made. Test_Sets become a split `unlabelled`. `labelled` is 1
where there are masks.
"""

import dataclasses
import functools
import pathlib
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.sources import files_under
from tfdisent.datasets.splits import deal, seeded_split
from tfdisent.datasets.volumes import checked_contents
from tfdisent.intensity import volume_statistics
from tfdisent.volumes import MAX_GIGABYTES, Volume, canonical, preprocess, read_dicom_series

ORGANS = ("background", "liver", "right_kidney", "left_kidney", "spleen")
# Patients for validation and testing in each fold; the others train.
FOLDS = (
    {"val": ("31", "36", "13"), "test": ("10", "22", "34")},
    {"val": ("13", "3", "20"), "test": ("5", "15", "39")},
    {"val": ("37", "13", "33"), "test": ("1", "19", "32")},
)
_TEST_FOLDER = re.compile(r"^test$|test_?sets?")
PHASES = {"in": ("T1_in",), "out": ("T1_out",), "both": ("T1_in", "T1_out")}


def _held(fold: dict[str, tuple[str, ...]]) -> set[str]:
    """Patients of a fold that are not trained on."""
    return {name for names in fold.values() for name in names}


def _organ_of_grey() -> np.ndarray:
    table = np.full(256, 255, np.uint8)
    table[0] = 0
    for organ, (above, until, old) in enumerate(
        ((55, 70, 80), (110, 135, 160), (175, 200, 240), (240, 255, 255)), start=1
    ):
        table[above + 1 : until + 1] = organ
        table[old] = organ
    return table


_ORGAN_OF_GREY = _organ_of_grey()


class _Patient(NamedTuple):
    """Paths of one patient's files: images by folder (InPhase, OutPhase, T2SPIR), masks by T1 and T2, None where there
    is no Ground.
    """

    images: dict[str, tuple[pathlib.Path, ...]]
    masks: dict[str, tuple[pathlib.Path, ...] | None]


@dataclasses.dataclass(frozen=True)
class CHAOS(Builder):
    """CHAOS as T1 slices with their T2 candidates; the module's docstring says more.

    Args:
        phase: of T1: "in", "out", or "both" as two channels.
        candidates: how many T2 slices come with each T1 slice.
        size: height and width, pixels.
        pixel_size: millimetres.
        split: "paper", "seeded", or "auto": the paper's where all its patients are there.
        fold: 0, 1 or 2 of the paper's, or of as many as `folds` says.
        test_fraction: of the patients, in a seeded split, and as many for validation.
        seed: of the split.
        max_gigabytes: of one series, unpacked, that are read at most.
    """

    name = "chaos"
    raw_help = (
        "Get CHAOS_Train_Sets.zip from https://doi.org/10.5281/zenodo.3431873 (CC BY-NC-SA 4.0). The folder must hold "
        "MR/<id>/T1DUAL and MR/<id>/T2SPIR; tfdisent/datasets/chaos.py says more."
    )

    phase: str = "in"
    candidates: int = 3
    size: int = 192
    pixel_size: float = 1.89
    split: str = "auto"
    test_fraction: float = 0.15
    seed: int = 0
    max_gigabytes: float = MAX_GIGABYTES

    def __post_init__(self):
        if self.phase not in PHASES:
            raise ValueError(f"Expected phase to be in, out or both, received {self.phase!r}.")
        if self.split not in ("auto", "paper", "seeded"):
            raise ValueError(f"Expected split to be auto, paper or seeded, received {self.split!r}.")
        if not self.folds and not 0 <= self.fold < len(FOLDS):
            raise ValueError(f"Expected fold to be 0 to {len(FOLDS) - 1}, received {self.fold}.")
        if not (1 <= self.candidates <= 16 and 8 <= self.size <= 1024):
            raise ValueError(
                f"chaos: expected 1 to 16 candidates and size of 8 to 1024 pixels, received {self.candidates} and "
                f"{self.size}."
            )
        if not 0.1 <= self.pixel_size <= 20 or not 0 < self.test_fraction < 0.5:
            raise ValueError(
                f"chaos: expected pixel_size of 0.1 to 20 mm and 0 < test_fraction < 0.5, received {self.pixel_size} "
                f"and {self.test_fraction}."
            )
        if not 0 <= self.max_gigabytes <= 1e6:
            raise ValueError(f"Expected max_gigabytes to be 0 to 1e6, received {self.max_gigabytes}.")

    @property
    def _num_channels(self) -> int:
        return len(PHASES[self.phase]) + self.candidates

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(self.size, self.size, self._num_channels),
            image_dtype="int16",
            modalities=(*PHASES[self.phase], "T2"),
            mask_labels=ORGANS,
            mask_channels=1 + self.candidates,  # of T1, then of each candidate
            extra_features={
                "labelled": Feature((), "int64"),
                "partner_index": Feature((self.candidates,), "int64"),
                "partner_distance": Feature((self.candidates,), "float32"),
            },
            description="CHAOS: T1 and T2-SPIR of the abdomen, T1 slices with the nearest T2 slices",
            homepage="https://chaos.grand-challenge.org",
            citation="Kavur et al., Medical Image Analysis 69, 101950 (2021), "
            "https://doi.org/10.1016/j.media.2020.101950",
            licence="CC BY-NC-SA 4.0",
            seed=self.seed,
        )

    def own_folds(self, raw_dir: pathlib.Path) -> int:
        found = {unit.subject for unit, is_test in self._units(raw_dir) if not is_test}
        is_whole = all(_held(fold) <= found for fold in FOLDS)
        return len(FOLDS) if self.split == "paper" or (self.split == "auto" and is_whole) else 0

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        units = self._units(raw_dir)
        labelled = [unit for unit, is_test in units if not is_test]
        unlabelled = [unit for unit, is_test in units if is_test]
        if not labelled:
            raise FileNotFoundError(
                f"No MR/<id>/T1DUAL or T2SPIR of training patients under {raw_dir}.\n{self.raw_help}"
            )
        fold = FOLDS[self.fold]
        held = _held(fold)
        missing = sorted(held - {unit.subject for unit in labelled})
        if self.split == "paper" and missing:
            raise ValueError(
                f"chaos: fold {self.fold} needs patient {missing[0]}, who is not under {raw_dir}. Get all training "
                "sets, or use split=seeded."
            )
        if self.split == "seeded" or missing:
            patients = [unit.subject for unit in labelled if not unit.problem]
            fractions = {"val": self.test_fraction, "test": self.test_fraction}
            splits = deal(labelled, seeded_split(patients, fractions, self.seed))
        else:
            train = [unit.subject for unit in labelled if unit.subject not in held]
            splits = deal(labelled, {"train": train, **fold})
        return {**splits, "unlabelled": unlabelled} if unlabelled else splits

    def units(self, raw_dir: pathlib.Path) -> list[Unit]:
        return [unit for unit, _ in self._units(raw_dir)]

    def _units(self, raw_dir: pathlib.Path) -> list[tuple[Unit, bool]]:
        """All patients, each with whether it is of Test_Sets."""
        patients = _find_patients(raw_dir)
        units = [
            Unit(
                f"MR-{subject}",
                subject,
                patient,
                problem=self._problem(subject, patient, is_test),
                modalities=_modalities(patient, self.phase),
            )
            for (subject, is_test), patient in patients.items()
        ]
        units = checked_contents(units, lambda unit: _folders(unit.source))
        return list(zip(units, (is_test for _, is_test in patients), strict=True))

    def examples(self, unit: Unit) -> Iterator[dict]:
        patient: _Patient = unit.source
        phases = _by_phase(patient)
        first, *others = (phases[name] for name in PHASES[self.phase])
        read = functools.partial(_read, max_gigabytes=self.max_gigabytes)
        reference, t1_mask = read(first, patient.masks["T1"], offsets=(0, 1))
        t1 = [reference, *(read(files, None, offsets=(0,))[0] for files in others)]
        t2, t2_mask = read(patient.images["T2SPIR"], patient.masks["T2"], offsets=(0,))
        # The phases are one acquisition, but can have matrices of different sizes (patient 35).
        order = [preprocess.candidate_partners(reference, volume, 1)[:, 0] for volume in t1]
        for volume, indices in zip(t1, order, strict=True):
            apart = np.abs(volume.positions[indices] - reference.positions).max()
            if apart > reference.spacing[2] / 2:
                raise ValueError(
                    f"{volume.files[0].parent}: its slices lie up to {apart:.1f} mm from those of "
                    f"{reference.files[0].parent}. Get both again."
                )
        partners = preprocess.candidate_partners(reference, t2, self.candidates)
        distances = np.abs(reference.positions[:, None] - t2.positions[partners])
        statistics = [volume_statistics(volume.array) for volume in (*t1, t2)]
        statistics += [statistics[-1]] * (self.candidates - 1)
        t1_planes = [self._planes(volume) for volume in t1]
        t2_planes = self._planes(t2)
        t1_mask, t2_mask = (self._planes(mask, labels=True) for mask in (t1_mask, t2_mask))
        chosen = np.flatnonzero(distances[:, 0] <= t2.spacing[2])
        if not len(chosen):
            raise ValueError(
                f"{t2.files[0].parent} lies {distances.min():.0f} mm and more from all slices of "
                f"{reference.files[0].parent}: they are of different places. Get both again."
            )
        for index in chosen.tolist():
            near = partners[index]
            channels = [planes[indices[index]] for planes, indices in zip(t1_planes, order, strict=True)]
            yield {
                "key": f"{unit.key}/{index:03d}",
                "image": np.stack([*channels, *t2_planes[near]], axis=-1),
                "mask": np.stack([t1_mask[index], *t2_mask[near]], axis=-1),
                "labelled": int(patient.masks["T1"] is not None),
                "partner_index": near,
                "partner_distance": distances[index],
                "slice_index": index,
                "num_slices": len(reference.array),
                "spacing": np.array([self.pixel_size, self.pixel_size, reference.spacing[2]]),
                "intensity": np.stack(statistics),
            }

    def _planes(self, volume: Volume, labels: bool = False) -> np.ndarray:
        volume = preprocess.resample_in_plane(volume, self.pixel_size, labels=labels)
        return preprocess.crop_or_pad(volume.array, (self.size, self.size))

    def _problem(self, subject: str, patient: _Patient, is_test: bool) -> str:
        wanted = {"in": ("InPhase",), "out": ("OutPhase",), "both": ("InPhase", "OutPhase")}
        for name, paths in (*patient.images.items(), *((f"masks of {t}", m) for t, m in patient.masks.items())):
            folders = sorted({str(path.parent) for path in paths or ()})
            if len(folders) > 1:
                return f"patient {subject} has {name} in two folders, {folders[0]} and {folders[1]}. Remove one."
        missing = [name for name in (*wanted[self.phase], "T2SPIR") if not patient.images.get(name)]
        if not is_test:
            missing += [f"masks of {name}" for name, masks in patient.masks.items() if not masks]
        return f"patient {subject} has no {', '.join(missing)}; get it again" if missing else ""


def _modalities(patient: _Patient, phase: str) -> tuple[str, ...]:
    folders = {"T1_in": "InPhase", "T1_out": "OutPhase", "T2": "T2SPIR"}
    return tuple(name for name in (*PHASES[phase], "T2") if patient.images.get(folders[name]))


def _folders(patient: _Patient) -> dict[str, str]:
    """The folder of each series, which holds nothing else."""
    return {name: str(paths[0].parent) for name, paths in patient.images.items()}


def _find_patients(raw_dir: pathlib.Path) -> dict[tuple[str, bool], _Patient]:
    """Files by patient and whether it is of Test_Sets."""
    images = defaultdict(lambda: defaultdict(list))
    masks = defaultdict(lambda: defaultdict(list))
    for path in files_under(raw_dir):
        parts = path.relative_to(raw_dir).parts
        folders = [part.lower() for part in parts[:-1]]
        kind = next((name for name in ("t1dual", "t2spir") if name in folders), None)
        if kind is None or folders.index(kind) == 0:
            continue
        place = folders.index(kind)
        key = parts[place - 1], any(map(_TEST_FOLDER.search, folders[: place - 1]))
        suffix = path.suffix.lower()
        if "ground" in folders[place:] and suffix == ".png":
            masks[key]["T1" if kind == "t1dual" else "T2"].append(path)
        elif "dicom_anon" in folders[place:] and suffix in (".dcm", ".ima", ""):
            phases = {"inphase": "InPhase", "outphase": "OutPhase"}
            name = phases.get(folders[-1]) if kind == "t1dual" else "T2SPIR"
            if name:
                images[key][name].append(path)
    return {
        key: _Patient(
            {name: tuple(paths) for name, paths in images[key].items()},
            {name: tuple(masks[key][name]) or None for name in ("T1", "T2")},
        )
        for key in sorted(images.keys() | masks.keys())
    }


def _by_phase(patient: _Patient) -> dict[str, tuple[pathlib.Path, ...]]:
    """Files of T1 by phase: by echo time, or else by the files' numbers, or else as the folders say."""
    found = {
        "T1_in": patient.images.get("InPhase", ()),
        "T1_out": patient.images.get("OutPhase", ()),
    }
    if not all(found.values()):
        return found
    swapped = {"T1_in": found["T1_out"], "T1_out": found["T1_in"]}
    echoes = {name: _echo_time(paths[0]) for name, paths in found.items()}
    if all(echoes.values()) and echoes["T1_in"] != echoes["T1_out"]:
        return found if echoes["T1_in"] > echoes["T1_out"] else swapped
    is_odd = {name: {_number(path) % 2 for path in paths} for name, paths in found.items()}
    return swapped if is_odd == {"T1_in": {1}, "T1_out": {0}} else found


def _echo_time(path: pathlib.Path) -> float:
    """Milliseconds; 0 where the file does not say."""
    import pydicom  # only data sets of DICOM files wait for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged header is an error when pixels are read
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["EchoTime"])
            return max(0.0, float(data.get("EchoTime") or 0))
        except Exception:  # by the damage, pydicom raises errors of its own and of Python
            return 0.0


def _number(path: pathlib.Path) -> int:
    """The last number in a file's name."""
    return int((re.findall(r"\d+", path.stem) or ["0"])[-1])


def _read(
    files: Sequence[pathlib.Path],
    masks: Sequence[pathlib.Path] | None,
    offsets: tuple[int, ...],
    max_gigabytes: float,
) -> tuple[Volume, Volume]:
    """A series as int16 and its masks as ids of `ORGANS`, all 0 where there are none."""
    stored = read_dicom_series(files, same_series=False, max_gigabytes=max_gigabytes)
    low, high = float(stored.array.min()), float(stored.array.max())
    if low < -(2**15) or high >= 2**15:
        raise ValueError(f"{files[0].parent} holds values from {low:g} to {high:g}, beyond 16 bits.")
    organs = np.zeros(stored.array.shape, np.uint8)
    for index, path in enumerate(_paired(stored.files, files, masks, offsets) if masks else ()):
        plane = _read_mask(path)
        if plane.shape != organs.shape[1:]:
            raise ValueError(
                f"{path} is of shape {plane.shape}, its image {stored.files[index]} of {organs.shape[1:]}. Get both "
                "again."
            )
        organs[index] = plane
    image = canonical(stored._replace(array=np.rint(stored.array).astype(np.int16)))
    if not image.files:
        raise ValueError(f"{files[0].parent} is not axial. Get it again.")
    return image, canonical(stored._replace(array=organs))


def _paired(
    slices: Sequence[pathlib.Path],
    files: Sequence[pathlib.Path],
    masks: Sequence[pathlib.Path],
    offsets: tuple[int, ...],
) -> list[pathlib.Path]:
    """The mask of each slice: the one of its name, or of its number plus an offset where that fits all files of the
    series. Files that were left out (of one position) may have masks as well.
    """
    by_stem = {path.stem.lower(): path for path in masks}
    stems = {}
    for offset in offsets:
        stems = {file: _shifted(file.stem.lower(), offset) for file in files}
        if by_stem.keys() == set(stems.values()):
            return [by_stem[stems[file]] for file in slices]
    stems = {file: file.stem.lower() for file in files}
    lacking = [file for file in files if stems[file] not in by_stem]
    if len(lacking) < len(files) or len(offsets) == 1:
        if lacking:
            raise ValueError(f"{lacking[0]} has no mask {lacking[0].stem}.png in {masks[0].parent}. Get it again.")
        extra = min(by_stem.keys() - set(stems.values()))
        raise ValueError(f"{by_stem[extra]} has no image in {files[0].parent}. Get it again.")
    raise ValueError(
        f"The masks in {masks[0].parent} ({masks[0].name}, ...) are not named after the images in {files[0].parent} "
        f"({files[0].name}, ...), nor by numbers one above. Get both again."
    )


def _shifted(stem: str, offset: int) -> str:
    """The stem with its last number raised: img-0004-00002 for img-0004-00001."""
    return re.sub(r"\d+(?=\D*$)", lambda match: f"{int(match[0]) + offset:0{len(match[0])}}", stem)


def _read_mask(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode != "L":
                raise ValueError(f"its mode is {image.mode}, expected 8-bit grey")
            greys = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}). Get it again.") from error
    organs = _ORGAN_OF_GREY[greys]
    if organs.max() == 255:
        unknown, counts = np.unique(greys[organs == 255], return_counts=True)
        raise ValueError(
            f"{path} holds the unknown grey {unknown[0]} ({counts[0]} pixels), expected 0, 63 liver, 126 right kidney, "
            "189 left kidney, 252 spleen, or 80, 160, 240, 255. Get it again."
        )
    return organs
