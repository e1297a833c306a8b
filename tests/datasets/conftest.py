import csv

import numpy as np
import pytest
from PIL import Image

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def photograph(path, seed, mode="RGB"):
    """60 x 45 pixels of skin with a dark square lesion; its corner is (10 + seed % 20, 12)."""
    image = np.random.default_rng(seed).integers(170, 200, (45, 60, 3)).astype(np.uint8)
    left = 10 + seed % 20
    image[12:24, left : left + 14] = (90, 40, 30)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).convert(mode).save(path, quality=90)


def table(path, columns, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([columns, *rows])


@pytest.fixture
def ham(tmp_path):
    """A raw folder like HAM10000's: 4 lesions of each class, the first of each photographed twice.

    `ham.rows` are the rows of its table, which `ham.write(path, delimiter)` writes.
    """

    class Raw:
        directory = tmp_path / "raw"
        rows = []

        def write(self, name="HAM10000_metadata", delimiter=","):
            table(self.directory / name, COLUMNS, self.rows, delimiter)

        def photo(self, name, seed=0, mode="RGB"):
            photograph(self.directory / name, seed, mode)

        def remove_table(self):
            (self.directory / "HAM10000_metadata").unlink()

    raw, number = Raw(), 0
    raw.rows = []
    for diagnosis in ("nv", "mel", "bkl", "df"):
        for lesion in range(4):
            for _ in range(2 if lesion == 0 else 1):
                image = f"ISIC_{24000 + number:07d}"
                raw.rows.append((f"HAM_{diagnosis}{lesion}", image, diagnosis, "histo", "", "", "back"))
                raw.photo(f"HAM10000_images_part_{1 + number % 2}/{image}.jpg", number)
                number += 1
    raw.write()
    return raw
