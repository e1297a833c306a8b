"""Patches of LIDC-IDRI's nodules that were cut already, with a table of their ratings.

Cite, licence: as `tfdisent/datasets/lidc.py`, which reads the scans themselves (133 GB). Patches of this form are made
by https://github.com/aquamarineaqua/LIDC-IDRI_patch_generation. In any folders:

    all_patches_metadata.csv, or a patches_metadata.csv for each patient
    LIDC-IDRI-0054/LIDC-IDRI-0054_n0_k83_img.png      8-bit grey, of any size, windowed
    LIDC-IDRI-0054/LIDC-IDRI-0054_n0_k83_mask.png     above 127 is nodule

with a row for each slice of a nodule and the columns patient_id, nodule_index, k_global (number of the slice), img_path
and mask_path (of which the names count: pictures of one name must be copies, of one patient), area_mm2 (of the mask,
from which the size of a pixel follows), ann_subtlety ... ann_malignancy, and maybe scan_id, which tells apart the scans
of a patient that has two.

Records are those of `tfdisent/datasets/lidc.py`, in 8 bits: nodules of malignancy 3 are left out, the patch
is `patch` millimetres around the mask, or as much as the picture has, and the size of a nodule is the
diameter of a circle with its largest area. There are few nodules, so all their slices are taken by
default.
"""

import csv
import dataclasses
import io
import pathlib
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.lidc import (
    BINARISED,
    LABELS,
    LIDC,
    check_choices,
    condition,
    cut,
    make_numbers,
)
from tfdisent.datasets.lidc_readings import MALIGNANCY, RATINGS
from tfdisent.datasets.sources import files_under, one_of_copies, read_text, same_content
from tfdisent.datasets.splits import seeded_split


@dataclasses.dataclass(frozen=True)
class LIDCPatches(Builder):
    """Cut patches of LIDC-IDRI; the module's docstring says what is read.

    Args:
        size: side of the patches, pixels.
        patch: side of the patch, millimetres; smaller where the picture is.
        slices: "centre", the slice of the largest area, or "all".
        thresholds: as of `LIDC`.
        test_fraction: of the patients.
        seed: of the split.
    """

    name = "lidc_patches"
    raw_help = (
        "The folder must hold patches as PNG files and (all_)patches_metadata.csv with patient_id, img_path, "
        "mask_path, area_mm2 and the ratings ann_*; tfdisent/datasets/lidc_patches.py says more. The scans themselves "
        "are read by --dataset=lidc."
    )

    size: int = 64
    patch: float = 48.0
    slices: str = "all"
    thresholds: tuple[float, ...] = (3.0, 5.5, 3.0, 3.0, 3.0, 3.0)
    test_fraction: float = 0.25
    seed: int = 0

    def __post_init__(self):
        check_choices(self, slices=("centre", "all"))
        make_numbers(self, "thresholds", len(BINARISED))
        if not (8 <= self.size <= 512 and 1 <= self.patch <= 512 and 0 < self.test_fraction < 1):
            raise ValueError(
                "lidc_patches: expected size of 8 to 512 pixels, patch of 1 to 512 mm and 0 < test_fraction < 1, "
                f"received {self.size}, {self.patch} and {self.test_fraction}."
            )

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return dataclasses.replace(
            LIDC().info(raw_dir),
            dataset=self.name,
            version=self.version,
            image_shape=(self.size, self.size, 1),
            image_dtype="uint8",
            extra_features={
                "ratings": Feature((len(RATINGS),), "float32"),
                "diameter": Feature((), "float32"),  # millimetres
            },
            description="LIDC-IDRI: patches of lung nodules on CT, windowed to 8 bits, with ratings of "
            f"{', '.join(RATINGS)}",
            seed=self.seed,
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        files = files_under(raw_dir)
        pictures = defaultdict(list)
        for path in files:
            if path.suffix.lower() == ".png":
                pictures[path.name].append(path)
        tables = [path for path in files if path.name.lower().endswith("patches_metadata.csv")]
        # The table of all patients repeats those of each one.
        whole = [path for path in tables if path.name.lower().startswith("all_")]
        nodules, owners = defaultdict(dict), {}
        for table in whole or tables:
            for row in _patch_rows(table):
                owner, first = owners.setdefault(row.image, (row.patient, table))
                if owner != row.patient:
                    raise ValueError(
                        f"{row.image} is of the patient {owner} in {first} and of {row.patient} in {table}. Correct "
                        "one, or give the pictures different names."
                    )
                earlier, said = nodules[row.patient, row.nodule].setdefault(row.image, (table, row))
                if not _same_row(said, row):
                    raise ValueError(
                        f"{earlier} and {table} say different things of {row.image}. Remove one row, or tell the "
                        "patient's scans apart in a column scan_id."
                    )
        if not nodules:
            raise FileNotFoundError(f"No patches_metadata.csv under {raw_dir}.\n{self.raw_help}")
        units = []
        for (patient, nodule), rows in nodules.items():
            rows = list(rows.values())
            ratings, largest = rows[0][1].ratings, max(rows, key=lambda row: row[1].area)
            if ratings[MALIGNANCY] == 3 or np.isnan(ratings[MALIGNANCY]):
                continue
            diameter = 2 * np.sqrt(largest[1].area / np.pi)
            for table, row in rows if self.slices == "all" else [largest]:
                image, mask, problem = None, None, ""
                if missing := [name for name in (row.image, row.mask) if name not in pictures]:
                    problem = f"{table} names {missing[0]}, which is not there"
                else:
                    (image, of_image), (mask, of_mask) = (one_of_copies(pictures[n]) for n in (row.image, row.mask))
                    problem = of_image or of_mask
                source = (image, mask, row.area, row.plane, ratings, diameter)
                label = LABELS[int(ratings[MALIGNANCY] > 3)]
                key = f"{patient}-{nodule}-s{row.plane}"
                units.append(Unit(key, patient, source, label, problem))
        units = _told_apart(units)
        patients = {unit.subject for unit in units if not unit.problem}
        fractions = {"test": self.test_fraction}
        test = set(seeded_split(list(patients), fractions, self.seed)["test"])
        return {
            "train": [unit for unit in units if unit.subject not in test],
            "test": [unit for unit in units if unit.subject in test],
        }

    def examples(self, unit: Unit) -> Iterator[dict]:
        path, mask_path, area, plane, ratings, diameter = unit.source
        image, mask = _read_grey(path), _read_grey(mask_path) > 127
        if mask.shape != image.shape or not mask.any():
            raise ValueError(
                f"{mask_path} is of shape {mask.shape} with {mask.sum()} pixels of nodule, expected {image.shape} and "
                "some. Get it again."
            )
        pixel = float(np.sqrt(area / mask.sum()))  # millimetres
        side = min(self.patch / pixel, *image.shape)
        rows, columns = np.nonzero(mask)
        left, top = (
            min(max(axis.mean() + 0.5 - side / 2, 0), length - side)
            for axis, length in ((columns, image.shape[1]), (rows, image.shape[0]))
        )
        box = left, top, left + side, top + side
        patch = cut(image.astype(np.float32), box, self.size, fill=0)
        patch_mask = cut(mask.astype(np.float32), box, self.size, fill=0) >= 0.5
        yield {
            "image": np.rint(patch).clip(0, 255).astype(np.uint8)[..., None],
            "mask": patch_mask.astype(np.uint8)[..., None],
            "label": unit.group,
            "condition": condition(ratings, diameter, self.thresholds),
            "ratings": np.nan_to_num(ratings),
            "diameter": diameter,
            "slice_index": plane,
            "num_slices": plane + 1,  # of which more is not known
            "spacing": np.array([pixel * side / self.size, pixel * side / self.size, 0]),
        }


def _read_grey(path: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("L", "1"):
                raise ValueError(f"its mode is {image.mode}, expected 8-bit grey")
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}). Get it again.") from error


class _Row(NamedTuple):
    """One line of a table of patches."""

    patient: str
    nodule: str
    plane: int
    image: str
    mask: str
    area: float
    ratings: np.ndarray


def _same_row(one: _Row, other: _Row) -> bool:
    return one[:-1] == other[:-1] and np.array_equal(one.ratings, other.ratings, equal_nan=True)


def _told_apart(units: list[Unit]) -> list[Unit]:
    """The units, with a problem where patients have one and the same picture, which may end in train and in test."""
    owners, problems = {str(unit.source[0]): unit.subject for unit in units if not unit.problem}, {}
    for group in same_content(owners):
        first = group[0]
        if other := next((path for path in group if owners[path] != owners[first]), None):
            said = (
                f"{first} and {other} are one picture, of the patients {owners[first]} and {owners[other]}. Remove one."
            )
            problems |= dict.fromkeys(group, said)
    return [unit._replace(problem=unit.problem or problems.get(str(unit.source[0]), "")) for unit in units]


def _patch_rows(path: pathlib.Path) -> Iterator[_Row]:
    names = ("patient_id", "nodule_index", "k_global", "img_path", "mask_path", "area_mm2")
    needed = {*names, *(f"ann_{name}" for name in RATINGS)}
    with io.StringIO(read_text(path), newline="") as file:
        reader = csv.DictReader(file)
        if missing := sorted(needed - set(reader.fieldnames or ())):
            raise ValueError(f"{path} lacks the column {missing[0]}. Get it again.")
        for row in reader:
            try:
                ratings = np.array([float(row[f"ann_{name}"]) for name in RATINGS])
                in_range = (ratings >= 1) & (ratings <= list(RATINGS.values()))
                area = float(row["area_mm2"])
                if not 0 < area < 1e6:
                    raise ValueError("area_mm2 is out of range")
                # Only names count, of paths as Windows or others write them.
                image, mask = (pathlib.PureWindowsPath(row[name]).name for name in ("img_path", "mask_path"))
                yield _Row(
                    row["patient_id"],
                    # Patients with two scans have a nodule 0 in each.
                    f"{row.get('scan_id') or 0}-n{int(row['nodule_index'])}",
                    int(row["k_global"]),
                    image,
                    mask,
                    area,
                    np.where(in_range, ratings, np.nan),
                )
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: {error}. Correct it, or get the table again."
                ) from error
