"""LIDC-IDRI: 1018 thoracic CT scans of 1010 patients, lung nodules outlined and rated by four readers.

Cite: Armato et al., "The Lung Image Database Consortium (LIDC) and Image Database Resource
Initiative (IDRI): a completed reference database of lung nodules on CT scans", Medical Physics 38,
915 (2011), https://doi.org/10.1118/1.3528204; data https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX
Licence: CC BY 3.0.
Get it: https://www.cancerimagingarchive.net/collection/lidc-idri (no registration, 133 GB): images
by the NBIA Data Retriever, and the readers' XML files, which lie beside the images or come as a zip
of their own. Any tree will do, e.g.

    LIDC-IDRI/LIDC-IDRI-0001/<StudyInstanceUID>/<SeriesInstanceUID>/000001.dcm ... 069.xml
    LIDC-IDRI/LIDC-IDRI-0001/01-01-2000-30178/3000566.000000-03192/1-001.dcm ... 069.xml
    LIDC-XML-only/tcia-lidc-xml/157/158.xml ...         instead of the XML files above, or as well
    manifest-*/metadata.csv                             is not read

Files are recognised by what is in them: CT images by Modality and SeriesInstanceUID (chest films lie in the same
folders), XML files by their root `LidcReadMessage` (those of chest films differ) and the series that they name. Reading
all tags takes about a millisecond a file.

DRAI (Havaei et al., section III-C) takes nodules that at least three readers outlined, drops those of median malignancy
3, cuts 48 x 48 patches around them from slices resampled to 256 x 256, enlarges them to 64 x 64, and describes each by
17 numbers: six ratings made binary, and five bins of size from 2 to 12. What it leaves open is an option here:

    resample    mm: pixels of `pixel_size` millimetres, so that a pixel means the same in every scan
                (1 mm is near 256 pixels over a chest); matrix: each slice 256 x 256, as printed;
                none: pixels as scanned. In each case the patch is cut from the slice and resized
                once, with antialiasing.
    thresholds  a median rating above is high, else low; for subtlety, calcification, sphericity,
                margin, texture, malignancy. Calcification of 5.5 sets absent (6) against any kind
                of it; 3 would be the other reading of the paper.
    size_unit   of the bins: mm, or pixels after resampling. Sizes below 4 are in the first bin and
                from 10 on in the last.
    slices      centre: the slice nearest to the nodule's centre of mass; all: each that it touches.

Marks of several readers are one nodule where they lie within one slice distance of each other; while that gives a
reader two marks in a nodule, the distance is reduced. The mask is where at least the share `agreement` of its readers
agree. A contour's pixels lie just outside of the nodule. Ratings out of range (0, or internal structure 5) are taken as
missing and counted in the dry run's notes; a rating that all readers lack is 0 in `ratings`, and neither low nor high
in `condition`.

A series must be one volume, by the rules of `tfdisent.volumes.read_dicom_header`: what is not (slices that are missing
or of another acquisition, a tilted gantry) is a problem that names the files, as is one whose slices are not axial. One
thing is allowed here: several images at one position, which no tag tells apart, as a few scans of the collection have.
That of the lower InstanceNumber is kept, whatever the others show, and marks on any of them count for the position.
(`read_dicom_series` takes copies only, and the higher number.)

Images of one scan under two patients, whatever their headers say, are a problem. Several XML files of one series must
hold the same marks. A folder that is no LIDC-IDRI-NNNN and holds series of several PatientIDs, as a flat one does,
gives each a subject of its own, numbered in the order of the files (`scans`, `scans-patient-2`); a series with files of
two PatientIDs is a problem.

Splits are by patient: train has those below LIDC-IDRI-0899, test the others; patients in folders of other names are
numbered in their order. Where one side stays empty, as in a part of the data, a seeded split is made. `query` are the
nodules of median malignancy 3 of the test patients, with which DRAI's retrieval is asked; their label is undecided, and
given as benign.

Images are HU as int16, clipped to -1024 (so that padding of -2000 is air) and 3071. Minimum and maximum in `intensity`
are `window`, which `load` maps to [-1, 1].

`lidc_patches` reads patches that were cut already, as 8-bit PNG with a table of the ratings.
"""

import dataclasses
import hashlib
import pathlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.lidc_readings import (
    MALIGNANCY,
    RATINGS,
    Nodule,
    Reading,
    Series,
    Slice,
    nodules_of,
    read_xml,
)
from tfdisent.datasets.sources import files_under, grouped
from tfdisent.datasets.splits import cut_into_folds, seeded_split
from tfdisent.intensity import intensity_statistics
from tfdisent.volumes import MAX_GIGABYTES, read_dicom_header, read_dicom_series

BINARISED = ("subtlety", "calcification", "sphericity", "margin", "texture", "malignancy")
SIZE_BINS = (2, 4, 6, 8, 10, 12)
LABELS = ("benign", "malignant")
CONDITIONS = tuple(
    [f"{name}_{level}" for name in BINARISED for level in ("low", "high")]
    + [f"size_{low}_{low + 2}" for low in SIZE_BINS[:-1]]
)
_HU = (-1024, 3071)
_CASE = re.compile(r"LIDC-IDRI-(\d{4})", re.IGNORECASE)
_TAGS = """
    Modality PatientID SeriesInstanceUID SOPInstanceUID InstanceNumber ImagePositionPatient
    PixelSpacing Rows Columns
""".split()


class _Source(NamedTuple):
    """What `examples` needs of a series; spacing (3,) in millimetres along y, x and z."""

    nodules: tuple[Nodule, ...]
    spacing: np.ndarray
    num_slices: int


@dataclasses.dataclass(frozen=True)
class LIDC(Builder):
    """LIDC-IDRI as patches around nodules; the module's docstring says what the options decide.

    Args:
        size: side of the patches, pixels.
        patch: side of the patch in pixels after resampling, before it is resized to `size`.
        resample: "mm", "matrix" or "none".
        pixel_size: millimetres, for resample="mm".
        slices: "centre" or "all".
        min_readers: how many readers must have outlined a nodule.
        agreement: share of them that must agree on a pixel of the mask.
        thresholds: of the six binary ratings.
        size_unit: "mm" or "pixels".
        window: HU that become -1 and 1.
        split: "paper", "seeded", or "auto": the paper's where both sides have nodules.
        first_test_case: number of the first patient for testing.
        test_fraction: of the patients, in a seeded split.
        seed: of the split.
        max_gigabytes: of one series, unpacked, that are read at most.
    """

    name = "lidc"
    raw_help = (
        "Get it from https://www.cancerimagingarchive.net/collection/lidc-idri (CC BY 3.0). The folder must hold the "
        "CT series as DICOM files and the readers' XML files, in any tree; tfdisent/datasets/lidc.py says more."
    )
    part_of = {"query": "test"}

    size: int = 64
    patch: int = 48
    resample: str = "mm"
    pixel_size: float = 1.0
    slices: str = "centre"
    min_readers: int = 3
    agreement: float = 0.5
    thresholds: tuple[float, ...] = (3.0, 5.5, 3.0, 3.0, 3.0, 3.0)
    size_unit: str = "mm"
    window: tuple[float, ...] = (-1000.0, 400.0)
    split: str = "auto"
    first_test_case: int = 899
    test_fraction: float = 0.15
    seed: int = 0
    max_gigabytes: float = MAX_GIGABYTES

    def __post_init__(self):
        check_choices(
            self,
            resample=("mm", "matrix", "none"),
            slices=("centre", "all"),
            size_unit=("mm", "pixels"),
            split=("auto", "paper", "seeded"),
        )
        make_numbers(self, "thresholds", len(BINARISED))
        make_numbers(self, "window", 2)
        for name in ("agreement", "test_fraction"):
            if not 0 < getattr(self, name) <= 1 or self.test_fraction == 1:
                raise ValueError(f"Expected {name} to be a fraction, received {getattr(self, name)}.")
        if not (8 <= self.size <= 512 and 8 <= self.patch <= 512 and 0.1 <= self.pixel_size <= 10):
            raise ValueError(
                "lidc: expected size and patch of 8 to 512 pixels and pixel_size of 0.1 to 10 mm, received "
                f"{self.size}, {self.patch} and {self.pixel_size}."
            )
        if not 1 <= self.min_readers <= 4:
            raise ValueError(f"Expected min_readers to be 1 to 4, received {self.min_readers}.")
        if not self.window[0] < self.window[1]:
            raise ValueError(f"Expected window to be two rising HU, received {self.window}.")
        if not 0 <= self.max_gigabytes <= 1e6:
            raise ValueError(f"Expected max_gigabytes to be 0 to 1e6, received {self.max_gigabytes}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(self.size, self.size, 1),
            image_dtype="int16",
            modalities=("CT",),
            labels=LABELS,
            condition_names=CONDITIONS,
            mask_labels=("background", "nodule"),
            extra_features={
                "ratings": Feature((len(RATINGS),), "float32"),
                "num_readers": Feature((), "int64"),
                "diameter": Feature((), "float32"),  # millimetres
                # Left, top, width and height of the patch in the slice, pixels.
                "crop": Feature((4,), "float32"),
            },
            description=f"LIDC-IDRI: lung nodules on CT in HU, with the median ratings of {', '.join(RATINGS)}",
            homepage="https://www.cancerimagingarchive.net/collection/lidc-idri",
            citation="Armato et al., Medical Physics 38, 915 (2011), https://doi.org/10.1118/1.3528204",
            licence="CC BY 3.0",
            seed=self.seed,
        )

    def own_folds(self, raw_dir: pathlib.Path) -> int:
        return self.folds  # as whose patients test, their queries do

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        files = files_under(raw_dir)
        readings, problems = _read_xml_files(raw_dir, files)
        if not readings:
            raise FileNotFoundError(
                f"No XML file of a CT's readers (LidcReadMessage) under {raw_dir}.\n{self.raw_help}"
            )
        series, bad_files = _index_images(raw_dir, files)
        problems += bad_files
        if not series:
            raise FileNotFoundError(f"No CT images (DICOM) under {raw_dir}.\n{self.raw_help}")
        annotated = _told_apart([one for one in series if one.uid in readings])
        if not annotated:
            raise FileNotFoundError(
                f"None of the {len(series)} CT series under {raw_dir} is one of the {len(readings)} that the XML files "
                "name. Get the XML files of these scans."
            )
        units = {"decided": [], "query": []}
        for one in annotated:
            try:
                source, note = self._source(one, readings[one.uid])
            except (OSError, ValueError) as error:
                problems.append(Unit(one.name, one.subject, problem=str(error)))
                continue
            is_query = [nodule.ratings[MALIGNANCY] == 3 for nodule in source.nodules]
            for kind, suffix in (("decided", ""), ("query", "-query")):
                kept = tuple(
                    nodule for nodule, query in zip(source.nodules, is_query, strict=True) if query == (kind == "query")
                )
                if kept:
                    unit = Unit(
                        one.name + suffix,
                        one.subject,
                        source._replace(nodules=kept),
                        f"{len(kept)} nodules",
                        note=note,
                    )
                    units[kind].append(unit)
                    note = ""
        test = self._test_patients(units["decided"], {one.subject for one in series})
        found = {
            "train": [unit for unit in units["decided"] if unit.subject not in test] + problems,
            "test": [unit for unit in units["decided"] if unit.subject in test],
            "query": [unit for unit in units["query"] if unit.subject in test],
        }
        return found if found["query"] else {name: found[name] for name in ("train", "test")}

    def examples(self, unit: Unit) -> Iterator[dict]:
        source: _Source = unit.source
        slices = {}  # each is read once, also where it crosses several nodules
        for nodule in source.nodules:
            for plane in self._chosen(nodule):
                path, index, (rows, columns) = nodule.planes[plane]
                if path not in slices:
                    slices[path] = _read_hu(path, self.max_gigabytes)
                slice_hu = slices[path]
                mask = np.zeros(slice_hu.shape, np.float32)
                if rows.max() >= mask.shape[0] or columns.max() >= mask.shape[1]:
                    raise ValueError(
                        f"{path} is of {mask.shape} pixels, and a nodule lies outside of it. Get it again."
                    )
                mask[rows, columns] = 1
                width, height = (self.patch * step for step in self._pixels(source, mask.shape))
                box = columns.mean() + 0.5 - width / 2, rows.mean() + 0.5 - height / 2
                box += box[0] + width, box[1] + height
                hu = np.rint(cut(slice_hu, box, self.size, fill=_HU[0])).astype(np.int16)
                statistics = intensity_statistics(hu[..., None])
                statistics[0, :2] = self.window
                scale = np.array([height, width, self.size]) / self.size
                malignancy = nodule.ratings[MALIGNANCY]
                diameter = nodule.diameter
                if self.size_unit == "pixels":
                    diameter /= self._pixels(source, mask.shape)[0] * source.spacing[1]
                yield {
                    "key": f"{unit.key}-n{nodule.number}-s{index}",
                    "image": hu[..., None],
                    "mask": (cut(mask, box, self.size, fill=0) >= 0.5).astype(np.uint8)[..., None],
                    "label": LABELS[int(malignancy > 3)],
                    "condition": condition(nodule.ratings, diameter, self.thresholds),
                    "ratings": np.nan_to_num(nodule.ratings),
                    "num_readers": nodule.num_readers,
                    "diameter": nodule.diameter,
                    "crop": np.array([box[0], box[1], width, height]),
                    "intensity": statistics,
                    "slice_index": index,
                    "num_slices": source.num_slices,
                    "spacing": source.spacing * scale,
                }

    def _chosen(self, nodule: Nodule) -> Iterable[int]:
        if self.slices == "all":
            return range(len(nodule.planes))
        indices = np.array([index for _, index, _ in nodule.planes])
        areas = np.array([pixels.shape[1] for _, _, pixels in nodule.planes])
        return [int(np.abs(indices - np.average(indices, weights=areas)).argmin())]

    def _pixels(self, source: _Source, shape: tuple[int, int]) -> tuple[float, float]:
        """Width and height of a pixel after resampling, in pixels of the slice."""
        if self.resample == "mm":
            return self.pixel_size / source.spacing[1], self.pixel_size / source.spacing[0]
        return (shape[1] / 256, shape[0] / 256) if self.resample == "matrix" else (1.0, 1.0)

    def _source(self, series: Series, readings: list[Reading]) -> tuple[_Source, str]:
        if series.problem:
            raise ValueError(series.problem)
        reading, *others = readings
        if differing := [other for other in others if not reading.agrees_with(other)]:
            raise ValueError(
                f"{reading.path} and {differing[0].path} are readings of one series and differ. Remove one."
            )
        files = [one.path for one in series.slices]
        normal = read_dicom_header(files, max_gigabytes=self.max_gigabytes).affine[:3, 2]
        if abs(normal[2]) < 0.99 * np.linalg.norm(normal):
            raise ValueError(f"{files[0].parent} is not axial, and marks are placed by height. Remove it.")
        nodules, spacing, num_slices = nodules_of(series, reading, self.min_readers, self.agreement)
        note = (
            f"{reading.path}: {reading.num_missing} ratings out of range are taken as missing"
            if reading.num_missing
            else ""
        )
        return _Source(tuple(nodules), spacing, num_slices), note

    def _test_patients(self, units: list[Unit], patients: set[str]) -> set[str]:
        numbers = {
            patient: int(match[1]) if (match := _CASE.fullmatch(patient)) else rank
            for rank, patient in enumerate(sorted(patients), 1)
        }
        test = {patient for patient in patients if numbers[patient] >= self.first_test_case}
        used = {unit.subject for unit in units}
        if self.folds:
            if self.split == "paper":
                self.refuse_folds("split=paper")
            return set(cut_into_folds(dict.fromkeys(used, ""), self.fold, self.folds, seed=self.seed)["test"])
        if self.split == "paper" or (self.split == "auto" and used & test and used - test):
            return test
        return set(seeded_split(list(used), {"test": self.test_fraction}, self.seed)["test"])


def condition(ratings: np.ndarray, diameter: float, thresholds: Sequence[float]) -> np.ndarray:
    """The description of a nodule that DRAI is given (Havaei et al., section III-C).

    Args:
        ratings: (9,) in the order of `RATINGS`, NaN where missing.
        diameter: in the unit of the size bins.
        thresholds: (6,) in the order of `BINARISED`; a rating above is high.

    Returns:
        (17,) float32, `CONDITIONS`: low and high of each rating, one of them 1 unless the rating is missing, and one of
        five size bins.
    """
    levels = np.zeros((len(BINARISED), 2), np.float32)
    for index, (name, threshold) in enumerate(zip(BINARISED, thresholds, strict=True)):
        rating = ratings[list(RATINGS).index(name)]
        if not np.isnan(rating):
            levels[index, int(rating > threshold)] = 1
    sizes = np.zeros(len(SIZE_BINS) - 1, np.float32)
    sizes[np.digitize(diameter, SIZE_BINS[1:-1])] = 1
    return np.concatenate([levels.ravel(), sizes])


def _index_images(raw_dir: pathlib.Path, files: list[pathlib.Path]) -> tuple[list[Series], list[Unit]]:
    """All CT series, and a unit with a problem for each file that should be an image and is not."""
    slices, patients, mixed, problems = defaultdict(list), {}, {}, []
    for path in files:
        if path.suffix.lower() not in (".dcm", ".dicom", ".ima", ""):
            continue
        try:
            tags = _tags(path)
        except ValueError as error:
            key = path.relative_to(raw_dir).as_posix()
            problems.append(Unit(key, _case(raw_dir, path), problem=str(error)))
            continue
        if tags is not None:
            uid, patient, one = tags
            slices[uid].append(one)
            if patients.setdefault(uid, patient) != patient:
                mixed[uid] = f"{slices[uid][0].path} and {path} are of one series and of two PatientIDs. Remove one."
    # One patient's series are one subject, wherever they lie; names come from paths alone.
    subjects, series, sharing = {}, [], Counter()
    for uid, found in sorted(slices.items(), key=lambda item: item[1][0].path):
        case = _case(raw_dir, found[0].path)
        patient = patients[uid] or case
        if patient not in subjects:
            sharing[case] += 1
            # A folder of LIDC-IDRI is one patient's, whatever the tags say; another may hold those of many.
            is_own = sharing[case] == 1 or _CASE.fullmatch(case)
            subjects[patient] = case if is_own else f"{case}-patient-{sharing[case]}"
        subject = subjects[patient]
        number = sum(one.subject == subject for one in series)
        name = f"{subject}-{number + 1}" if number else subject
        series.append(Series(uid, subject, name, found, mixed.get(uid, "")))
    return series, problems


def _told_apart(series: list[Series]) -> list[Series]:
    """The series, with a problem where those of two patients show the same images, which may end in train and in test.

    Of each series the middle slice is read, and all only where these agree.
    """
    names = {one.uid: one for one in series if not one.problem}

    def middle(uid: str) -> tuple:
        slices = sorted(names[uid].slices, key=lambda one: one.z)
        return len(slices), _pixels(slices[len(slices) // 2].path)

    def whole(uid: str) -> tuple:
        return tuple(sorted(_pixels(one.path) for one in names[uid].slices))

    problems = {}
    for group in [same for near in grouped(names, middle) for same in grouped(near, whole)]:
        first = names[group[0]]
        if other := next((names[uid] for uid in group if names[uid].subject != first.subject), None):
            folders = f"{first.slices[0].path.parent} and {other.slices[0].path.parent}"
            said = f"{folders} show the same images, of the patients {first.subject} and {other.subject}. Remove one."
            problems |= dict.fromkeys(group, said)
    return [one._replace(problem=one.problem or problems.get(one.uid, "")) for one in series]


def _pixels(path: pathlib.Path) -> str:
    """Digest of a file's pixels as they are stored."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return hashlib.sha256(pydicom.dcmread(path, specific_tags=["PixelData"]).PixelData).hexdigest()
        except Exception as error:  # by the damage, pydicom raises errors of its own and of Python
            raise ValueError(f"{path} has no pixels ({type(error).__name__}).") from error


def _tags(path: pathlib.Path) -> tuple[str, str, Slice] | None:
    """Series, patient and slice of a CT image; None for other modalities and what is not DICOM.

    Raises:
        ValueError: a file that should be a CT image and cannot be used.
    """
    import pydicom  # only data sets of DICOM files wait for it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters here of a header is checked below
        try:
            if not path.suffix and not pydicom.misc.is_dicom(path):
                return None
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            if data.get("Modality") != "CT":
                return None
            z = float(data.ImagePositionPatient[2])
            spacing = tuple(float(step) for step in data.PixelSpacing)
            shape = (int(data.Rows), int(data.Columns))
            if not (np.isfinite(z) and len(spacing) == 2 and 0 < min(spacing) <= max(spacing) < 1e3):
                raise ValueError("its position or spacing is not a number")
            number = int(data.get("InstanceNumber") or 0)
            one = Slice(path, z, number, str(data.SOPInstanceUID), spacing, shape)
            return str(data.SeriesInstanceUID), str(data.get("PatientID", "")), one
        except Exception as error:  # by the damage, pydicom raises errors of its own and of Python
            raise ValueError(
                f"{path} is not a CT image with its position ({type(error).__name__}). Get it again, or remove it."
            ) from error


def _case(raw_dir: pathlib.Path, path: pathlib.Path) -> str:
    """The patient as the folders name it: LIDC-IDRI-NNNN, or else the first folder."""
    folders = path.relative_to(raw_dir).parts[:-1]
    for folder in reversed(folders):
        if _CASE.fullmatch(folder):
            return folder.upper()
    return folders[0] if folders else "patient"


def _read_xml_files(raw_dir: pathlib.Path, files: list[pathlib.Path]) -> tuple[dict[str, list[Reading]], list[Unit]]:
    """Readings by series, one of each file that has them, and a unit with a problem for each file that cannot be
    read.
    """
    readings, problems = defaultdict(list), []
    for path in files:
        if path.suffix.lower() == ".xml":
            try:
                found = read_xml(path)
            except ValueError as error:
                key = path.relative_to(raw_dir).as_posix()
                problem = f"{path} is not a readers' XML file ({error}). Get it again, or remove it."
                problems.append(Unit(key, _case(raw_dir, path), problem=problem))
                continue
            if found is not None:
                readings[found[0]].append(found[1])
    return readings, problems


def _read_hu(path: pathlib.Path, max_gigabytes: float) -> np.ndarray:
    """(H, W) float32, HU clipped to what CT can mean; padding outside of the field becomes air."""
    return read_dicom_series([path], max_gigabytes=max_gigabytes).array[0].astype(np.float32).clip(*_HU)


def cut(image: np.ndarray, box: Sequence[float], size: int, fill: float) -> np.ndarray:
    """The box (left, top, right, bottom) of an image (H, W) float32, resized to (size, size) with antialiasing; `fill`
    outside of the image.
    """
    margin = max(0, *(int(np.ceil(reach)) for reach in _overlap(image.shape, box))) + 1
    padded = np.pad(image, margin, constant_values=fill)
    shifted = tuple(float(edge) + margin for edge in box)
    resized = Image.fromarray(padded).resize((size, size), Image.Resampling.BILINEAR, shifted)
    return np.asarray(resized)


def _overlap(shape: tuple[int, int], box: Sequence[float]) -> tuple[float, ...]:
    """How far a box reaches beyond each side of an image."""
    left, top, right, bottom = box
    return -left, -top, right - shape[1], bottom - shape[0]


def check_choices(builder: Builder, **choices: tuple[str, ...]) -> None:
    for name, values in choices.items():
        if getattr(builder, name) not in values:
            raise ValueError(f"Expected {name} to be one of {', '.join(values)}, received {getattr(builder, name)!r}.")


def make_numbers(builder: Builder, name: str, count: int) -> None:
    """Turns a field of texts, as from the command line, into so many numbers."""
    given = getattr(builder, name)
    try:
        numbers = tuple(float(number) for number in given)
    except ValueError:
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"Expected {name} to be {count} numbers, received {given}.")
    object.__setattr__(builder, name, numbers)
