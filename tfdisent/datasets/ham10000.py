"""HAM10000: 10015 dermatoscopic photographs of skin lesions, 600 x 450 RGB, seven diagnoses.

Cite: Tschandl, Rosendahl, Kittler, "The HAM10000 dataset, a large collection of multi-source
dermatoscopic images of common pigmented skin lesions", Scientific Data 5, 180161 (2018),
https://doi.org/10.1038/sdata.2018.161
Licence: CC BY-NC 4.0 (non-commercial; see the terms at the source).
Get it: Harvard Dataverse, https://doi.org/10.7910/DVN/DBW86T, "Access dataset"; or its copies on
Kaggle and in the ISIC archive (challenge 2018, task 3). Unpack everything anywhere in one folder:

    HAM10000_images_part_1/ISIC_0024306.jpg ...     in any folders; copies of one are read once
    HAM10000_images_part_2/ISIC_0029306.jpg ...
    HAM10000_metadata[.csv|.tab]                    columns lesion_id, image_id, dx, ...
      or ISIC2018_Task3_Training_GroundTruth.csv    columns image, MEL, NV, BCC, AKIEC, ...
         ISIC2018_Task3_Training_LesionGroupings.csv    image, lesion_id; for a seeded split
    HAM10000_segmentations_lesion_tschandl/         masks, optional: ISIC_*_segmentation.png
    ISIC2018_Task3_Test_Images/ or _Test_Input/     the official test set, optional, with
    ISIC2018_Task3_Test_GroundTruth.csv             either form of table

DRAI (Havaei et al., section III-D) keeps nv, mel and bkl, cuts 48 x 48 patches centred on the lesion, resizes them to
64 x 64, and triples mel and bkl by random flips. A patch of 48 pixels of a photograph 600 x 450 would show a fragment
of a lesion, so that the photograph must have been made smaller first. Here the patch is a square of `crop_fraction` of
the shorter side, 48/64 by default, centred on the lesion's mask, or on the photograph where there is no mask (as for
all of the test set), and is enlarged where the mask would not fit. The square is kept in the records as `crop`.
Tripling and flips are done on the fly:

    load(folder, balance={"mel": 3, "bkl": 3}, augment=("flip", "crop"))
"""

import csv
import dataclasses
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.sources import files_under, one_of_copies, read_text, same_content

DIAGNOSES = {
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
PAPER_CLASSES = ("bkl", "mel", "nv")  # of Havaei et al.
_IMAGE = re.compile(r"(ISIC_\d+)\.jpe?g", re.IGNORECASE)
_MASK = re.compile(r"(ISIC_\d+)_segmentation\.png", re.IGNORECASE)
_TRAIN_TABLE = re.compile(
    r"ham10000_metadata(\.(csv|tab|tsv|txt))?|isic2018_task3_training_groundtruth\.csv",
    re.IGNORECASE,
)
_GROUPS_TABLE = re.compile(r"isic2018_task3_training_lesiongroupings\.csv", re.IGNORECASE)
_TEST_TABLE = re.compile(r"isic2018_task3_test_groundtruth\.(csv|tab)", re.IGNORECASE)
_TEST_FOLDER = re.compile(r"isic2018_task3_test_(images|input)", re.IGNORECASE)
_OTHER_FOLDER = re.compile(r"isic2018_task3_validation_.*", re.IGNORECASE)


class _Row(NamedTuple):
    """One line of a table; no lesion where the table does not say."""

    image: str
    lesion: str
    diagnosis: str


@dataclasses.dataclass(frozen=True)
class HAM10000(Builder):
    """HAM10000 as square patches around the lesion.

    Args:
        size: side of the patches, pixels.
        classes: which diagnoses; others are left out. Empty: the paper's three (bkl, mel, nv), or those of them that
            the table has, as in a part of the data.
        split: "official" trains on HAM10000 and tests on the test set of ISIC 2018, task 3; "seeded" splits HAM10000 by
            lesion, within each class; "auto" is "official" if the test set is there.
        test_fraction: of the lesions of each class, in a seeded split.
        crop_fraction: side of the patch, of the shorter side of the photograph.
        lesions: "table" splits by the lesions of the table, and refuses a seeded split where it does not name them;
            "image" takes each photograph that has no lesion in the table as one of its own, which puts photographs of
            one lesion on both sides of the split.
        seed: of the split.
    """

    name = "ham10000"
    raw_help = (
        "Get it from https://doi.org/10.7910/DVN/DBW86T (CC BY-NC 4.0). The folder must hold HAM10000_metadata (or "
        ".csv, .tab) and the photographs ISIC_*.jpg, e.g. in HAM10000_images_part_1 and _part_2; "
        "tfdisent/datasets/ham10000.py says what else is read. To try without: --dataset=skin_phantom."
    )

    size: int = 64
    classes: tuple[str, ...] = ()
    split: str = "auto"
    test_fraction: float = 0.15
    crop_fraction: float = 0.75
    lesions: str = "table"
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(sorted(self.classes)))
        if unknown := sorted(set(self.classes) - DIAGNOSES.keys()):
            raise ValueError(f"ham10000 has no class {unknown[0]!r}. Its classes are: {', '.join(DIAGNOSES)}.")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"Expected classes to name each class once, received {self.classes}.")
        if self.split not in ("auto", "official", "seeded"):
            raise ValueError(f"Expected split to be auto, official or seeded, received {self.split!r}.")
        if self.lesions not in ("table", "image"):
            raise ValueError(f"Expected lesions to be table or image, received {self.lesions!r}.")
        for name in ("test_fraction", "crop_fraction"):
            if not 0 < getattr(self, name) <= 1 or self.test_fraction == 1:
                raise ValueError(f"Expected {name} to be a fraction, received {getattr(self, name)}.")
        if not 8 <= self.size <= 450:
            raise ValueError(f"Expected size to be 8 to 450 pixels, received {self.size}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        if not self.classes:
            return self._with_classes(raw_dir).info(raw_dir)
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(self.size, self.size, 3),
            modalities=("dermatoscopy",),
            labels=self.classes,
            condition_names=self.classes,
            # Left, top and side of the patch in the photograph, and whether a mask placed it.
            extra_features={"crop": Feature((4,), "int64")},
            description="HAM10000: "
            + ", ".join(f"{name} {DIAGNOSES[name]}" for name in self.classes)
            + (
                ". Photographs without a lesion in the table are split each on its own: one lesion may be in train and "
                "test"
                if self.lesions == "image"
                else ""
            ),
            homepage="https://doi.org/10.7910/DVN/DBW86T",
            citation="Tschandl et al., Scientific Data 5, 180161 (2018), https://doi.org/10.1038/sdata.2018.161",
            licence="CC BY-NC 4.0",
            seed=self.seed,
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        if not self.classes:
            return self._with_classes(raw_dir).splits(raw_dir)
        files = _Files.find(raw_dir)
        if not files.train_table:
            raise FileNotFoundError(f"No HAM10000_metadata (or .csv, .tab) under {raw_dir}.\n{self.raw_help}")
        if not files.train_images:
            raise FileNotFoundError(f"No photographs ISIC_*.jpg under {raw_dir}.\n{self.raw_help}")
        official = self.split == "official" or (self.split == "auto" and bool(files.test_images))
        lesions = {row.image: row.lesion for row in _read_table(files.groups_table)} if files.groups_table else {}
        rows = [row._replace(lesion=row.lesion or lesions.get(row.image, "")) for row in _read_table(files.train_table)]
        train = self._units(rows, files.train_images, files, files.train_table)
        if official:
            self.refuse_folds("the official test set (leave that out with split=seeded)")
        else:
            without = [unit.key for unit in train if not unit.problem and unit.subject == unit.key]
            if without and self.lesions == "table":
                raise ValueError(
                    f"{files.train_table} does not say of {len(without)} photographs ({without[0]}, ...) which lesion "
                    "they show, so that a seeded split would put photographs of one lesion into train and test. Add "
                    "HAM10000_metadata with its column lesion_id, ISIC2018_Task3_Training_LesionGroupings.csv, or the "
                    "official test set; or accept the leak by lesions=image."
                )
            return self._seeded(_joined(train))
        if not (files.test_images and files.test_table):
            raise FileNotFoundError(
                f"The official test set under {raw_dir} needs ISIC2018_Task3_Test_Images/*.jpg and "
                "ISIC2018_Task3_Test_GroundTruth.csv. Add what is missing, or use split=seeded."
            )
        test = self._units(_read_table(files.test_table), files.test_images, files, files.test_table)
        self._check_classes(train, "train")
        return _told_apart(_joined(train), _joined(test))

    def examples(self, unit: Unit) -> Iterator[dict]:
        path, mask_path = unit.source
        photograph = _decoded(path)
        if photograph.mode != "RGB":
            raise ValueError(f"{path} is of mode {photograph.mode}, expected an RGB photograph. Get it again.")
        if min(photograph.size) < self.size:
            raise ValueError(f"{path} has {photograph.size} pixels, fewer than size={self.size}. Use a smaller size.")
        left, top, side = self._patch(photograph.size, mask_path)
        # Lanczos widens its support when it reduces, so that nothing aliases.
        patch = photograph.resize(
            (self.size, self.size), Image.Resampling.LANCZOS, (left, top, left + side, top + side)
        )
        yield {
            "image": np.asarray(patch),
            "label": unit.group,
            "crop": np.array([left, top, side, mask_path is not None]),
        }

    def _with_classes(self, raw_dir: pathlib.Path) -> "HAM10000":
        table = _Files.find(raw_dir).train_table
        found = {row.diagnosis for row in _read_table(table)} if table else set()
        present = tuple(name for name in PAPER_CLASSES if name in found)
        return dataclasses.replace(self, classes=present or PAPER_CLASSES)

    def _patch(self, photograph_size: tuple[int, int], mask_path: pathlib.Path | None) -> tuple[int, int, int]:
        """Left, top and side of the square to cut out, inside the photograph."""
        width, height = photograph_size
        shorter = min(width, height)
        centre, extent = (width / 2, height / 2), 0
        if mask_path is not None:
            mask = np.asarray(_decoded(mask_path).convert("L")) > 127
            if mask.shape != (height, width):
                raise ValueError(
                    f"{mask_path} is of shape {mask.shape}, its photograph {(height, width)}. Get it again."
                )
            if not mask.any():
                raise ValueError(f"{mask_path} is empty. Get it again, or remove it to cut around the centre.")
            y, x = np.nonzero(mask)
            centre = x.mean() + 0.5, y.mean() + 0.5
            extent = 2.2 * max(abs(axis - axis.mean()).max() for axis in (x, y))  # with a margin of a tenth
        side = min(shorter, max(round(self.crop_fraction * shorter), round(extent), self.size))
        left = min(max(round(centre[0] - side / 2), 0), width - side)
        top = min(max(round(centre[1] - side / 2), 0), height - side)
        return left, top, side

    def _units(self, rows: list[_Row], images: dict, files: "_Files", table: pathlib.Path) -> list[Unit]:
        """A unit for each photograph of the chosen classes, and one with a problem for each that lacks a row or a
        file.
        """
        units = []
        for row in rows:
            if row.diagnosis not in DIAGNOSES:
                problem = f"{table}: {row.image} has the unknown diagnosis {row.diagnosis!r}"
            elif row.diagnosis not in self.classes:
                continue
            else:
                problem = files.problems.get(row.image, "")
                if row.image not in images:
                    problem = f"{row.image}, a row of {table}, has no photograph {row.image}.jpg"
            source = (images.get(row.image), files.masks.get(row.image))
            units.append(Unit(row.image, row.lesion or row.image, source, row.diagnosis, problem))
        for image in sorted(images.keys() - {row.image for row in rows}):
            units.append(Unit(image, image, problem=f"{images[image]} has no row in {table}"))
        return units

    def _seeded(self, units: list[Unit]) -> dict[str, list[Unit]]:
        splits = {"train": [unit for unit in units if unit.problem], "test": []}
        for index, name in enumerate(self.classes):
            lesions = defaultdict(list)
            for unit in units:
                if unit.group == name and not unit.problem:
                    lesions[unit.subject].append(unit)
            if len(lesions) < 2:
                raise ValueError(
                    f"ham10000: class {name!r} has {len(lesions)} lesions with photographs, and a split into train and "
                    "test needs 2. Leave it out: "
                    f"--classes={','.join(other for other in self.classes if other != name)}"
                )
            order = np.random.default_rng((self.seed, index)).permutation(sorted(lesions))
            num_test = min(len(order) - 1, max(1, round(self.test_fraction * len(order))))
            for position, lesion in enumerate(order.tolist()):
                splits["test" if position < num_test else "train"] += lesions[lesion]
        return splits

    def _check_classes(self, units: list[Unit], split: str) -> None:
        present = {unit.group for unit in units if not unit.problem}
        if missing := [name for name in self.classes if name not in present]:
            raise ValueError(
                f"ham10000: no photograph of class {', '.join(missing)} in split {split}. Leave it out by --classes."
            )


class _Files(NamedTuple):
    """What lies in the raw folder: photographs and masks by the image's name, and files of one name that differ."""

    train_images: dict[str, pathlib.Path]
    test_images: dict[str, pathlib.Path]
    masks: dict[str, pathlib.Path]
    problems: dict[str, str]
    train_table: pathlib.Path | None
    groups_table: pathlib.Path | None
    test_table: pathlib.Path | None

    @classmethod
    def find(cls, raw_dir: pathlib.Path) -> "_Files":
        images, test_images, masks, tables = (defaultdict(list) for _ in range(4))
        for path in files_under(raw_dir):
            folders = path.relative_to(raw_dir).parts[:-1]
            if any(_OTHER_FOLDER.fullmatch(folder) for folder in folders):
                continue
            if match := _IMAGE.fullmatch(path.name):
                is_test = any(_TEST_FOLDER.fullmatch(folder) for folder in folders)
                (test_images if is_test else images)[match[1].upper()].append(path)
            elif match := _MASK.fullmatch(path.name):
                masks[match[1].upper()].append(path)
            else:
                for pattern in (_TRAIN_TABLE, _GROUPS_TABLE, _TEST_TABLE):
                    if pattern.fullmatch(path.name):
                        tables[pattern].append(path)
        # HAM10000_metadata sorts before the challenge's one-hot table and says more.
        first = {pattern: min(paths, key=lambda path: path.name.lower()) for pattern, paths in tables.items()}
        problems = {}

        def single(found: dict[str, list[pathlib.Path]]) -> dict[str, pathlib.Path]:
            # Copies of one photograph, as in Kaggle's two spellings of a folder, count once.
            problems.update({name: problem for name, paths in found.items() if (problem := one_of_copies(paths)[1])})
            return {name: paths[0] for name, paths in found.items()}

        images, test_images, masks = map(single, (images, test_images, masks))
        return cls(images, test_images, masks, problems, *map(first.get, (_TRAIN_TABLE, _GROUPS_TABLE, _TEST_TABLE)))


def _joined(units: list[Unit]) -> list[Unit]:
    """The units, lesions of which one and the same photograph is shown as one lesion, whatever the table calls them."""
    named = {str(unit.source[0]): unit for unit in units if not unit.problem}
    for group in same_content(named):
        lesions = {named[path].subject for path in group}
        if len({named[path].group for path in group}) > 1:
            problem = f"{group[0]} and {group[1]} are one photograph with two diagnoses. Remove one."
            units = [unit._replace(problem=problem) if unit.subject in lesions else unit for unit in units]
        units = [unit._replace(subject=min(lesions)) if unit.subject in lesions else unit for unit in units]
        named = {str(unit.source[0]): unit for unit in units if unit.source}
    return units


def _told_apart(train: list[Unit], test: list[Unit]) -> dict[str, list[Unit]]:
    """The splits, with a problem where one and the same photograph is in both."""
    in_train, in_test = ({str(unit.source[0]) for unit in units if not unit.problem} for units in (train, test))
    problems = {}
    for group in same_content([*sorted(in_train), *sorted(in_test)]):
        for path in in_test.intersection(group):
            if other := next((other for other in group if other in in_train), None):
                said = f"{other} of HAM10000 and {path} of the test set are one photograph. Remove one."
                problems |= {other: said, path: said}

    def told(units: list[Unit]) -> list[Unit]:
        return [
            unit._replace(problem=problems.get(str(unit.source[0]), "")) if not unit.problem else unit for unit in units
        ]

    return {"train": told(train), "test": told(test)}


def _decoded(path: pathlib.Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}). Get it again.") from error


def _read_table(path: pathlib.Path) -> list[_Row]:
    """Rows of any of the tables, by the names in their header; the delimiter is whichever the header holds."""
    text = read_text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",\t;", key=header.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    lines = [{name.strip().lower(): (value or "").strip() for name, value in line.items() if name} for line in reader]
    columns = lines[0].keys() if lines else set()
    if columns >= {"image_id", "dx"}:
        return [_Row(line["image_id"].upper(), line.get("lesion_id", ""), line["dx"].lower()) for line in lines]
    if columns >= {"image", "lesion_id"}:
        return [_Row(line["image"].upper(), line["lesion_id"], "") for line in lines]
    if columns >= {"image", *DIAGNOSES}:
        return [_Row(line["image"].upper(), "", _hottest(line, path)) for line in lines]
    raise ValueError(
        f"{path} has the columns {', '.join(columns) or 'none'}. Expected image_id and dx, or image and a column for "
        "each of MEL, NV, BCC, AKIEC, BKL, DF, VASC."
    )


def _hottest(line: dict[str, str], path: pathlib.Path) -> str:
    hot = [name for name in DIAGNOSES if line[name] and float(line[name]) == 1]
    if len(hot) != 1:
        raise ValueError(f"{path}: {line['image']} has {len(hot)} diagnoses, expected exactly one 1 in its row.")
    return hot[0]
