"""Gives each reader mutated files, and counts what ends in anything but a volume or an error of ours.

    python -m tests.campaigns.fuzz --tries=100000 [--readers=nifti,nifti_gz,metaimage,dicom,dicom_header,png,jpeg,table]

A mutation changes, inserts, cuts or doubles bytes, mostly near the front, where headers are. "slow" took more than ten
seconds; "error without the file's name" is one of ours that does not say which file. Memory is that of the process.
"""

import argparse
import collections
import csv
import io
import math
import pathlib
import random
import tempfile
import time
import warnings

import nibabel
import numpy as np
import SimpleITK as sitk
from PIL import Image

from tests.campaigns import common
from tfdisent.datasets import ham10000, make_builder
from tfdisent.datasets.preparation import dry_run
from tfdisent.messages import USER_ERRORS
from tfdisent.volumes import read_dicom_header, read_dicom_series, read_metaimage, read_nifti

SLOW = 10.0  # seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tries", type=int, default=100_000, help="of this call, added to those in --output")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--minutes", type=float, default=math.inf, help="in all, shared by the readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("fuzz.json"))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    table = common.Table(given.output)
    rng, readers = table.rng(given.seed), given.readers.split(",")
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for name in readers:
            table.add(of(name, pathlib.Path(folder), given.tries, given.minutes / len(readers), rng))
    table.show()


def of(name: str, folder: pathlib.Path, tries: int, minutes: float, rng: random.Random) -> dict:
    """The row of one reader."""
    make, read, file = READERS[name]
    path = folder / file
    make(path)
    original, counts, slowest = path.read_bytes(), collections.Counter(), 0.0
    for number in common.counted(tries, minutes):
        path.write_bytes(mutated(original, rng))
        begin = time.monotonic()
        try:
            read(path)
            counts["read"] += 1
        except USER_ERRORS as error:
            counts["refused"] += 1
            if path.name not in str(error) and str(folder) not in str(error):  # a table's may name a volume beside it
                counts["unnamed"] += 1
                told(counts, name, number, error)
        except Exception as error:
            counts["foreign"] += 1
            told(counts, name, number, error)
        seconds = time.monotonic() - begin
        slowest = max(slowest, seconds)
        counts["slow"] += seconds > SLOW
    path.unlink()
    return {
        "reader": name,
        "files": counts["read"] + counts["refused"] + counts["foreign"],
        "read": counts["read"],
        "refused": counts["refused"],
        "error without the file's name": counts["unnamed"],
        "foreign errors": counts["foreign"],
        "slow": counts["slow"],
        "slowest (s)": round(slowest, 2),
        "peak memory (MiB)": round(common.peak_mebibytes(), 1),
    }


def told(counts, name: str, number: int, error: Exception) -> None:
    """Prints the first of each kind of error."""
    kind = (type(error).__name__, str(error)[:40])
    if not counts[kind]:
        print(f"{name}, file {number}: {error!r}"[:300], flush=True)
    counts[kind] += 1


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(max(1, min(len(changed), 512 if rng.random() < 0.7 else len(changed))))
        kind = rng.randrange(5)
        if kind == 0:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[place : place + 4] = rng.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x80\x3f")
            )
        elif kind == 2:
            changed[place:place] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            del changed[place : place + rng.randint(1, 8)]
        elif rng.random() < 0.3:
            del changed[place:]
        else:
            changed[place:place] = changed[place : place + 16]
    return bytes(changed)


# --- readers, and what they read ---


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, (6, 7, 8)).astype(np.int16)


def make_nifti(path, seed: int = 0):
    nibabel.save(nibabel.Nifti1Image(voxels(seed), np.diag([-1, 1, 2, 1])), path)


def make_metaimage(path):
    sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(path))


def make_dicom(path):
    image = sitk.GetImageFromArray(voxels()[0])
    for tag, value in (("0020|0032", "0\\0\\0"), ("0020|0037", "1\\0\\0\\0\\1\\0"), ("0008|0060", "MR")):
        image.SetMetaData(tag, value)
    sitk.WriteImage(image, str(path))


def make_image(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3), np.uint8)).save(path)


def make_table(path):
    rows = [("subject", "modality", "image", "split", "age")]
    for subject in range(4):
        for modality in ("T1", "T2"):
            name = f"{subject}_{modality}.nii"
            make_nifti(path.parent / name, seed=len(rows))
            rows.append((f"s{subject}", modality, name, "train" if subject else "test", 40 + subject))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_text(text.getvalue())


def read_table(path):
    return dry_run(make_builder("manifest", {}), path)


READERS = {
    "nifti": (make_nifti, read_nifti, "a.nii"),
    "nifti_gz": (make_nifti, read_nifti, "a.nii.gz"),
    "metaimage": (make_metaimage, read_metaimage, "a.mha"),
    "dicom": (make_dicom, lambda path: read_dicom_series([path]), "a.dcm"),
    "dicom_header": (make_dicom, lambda path: read_dicom_header([path]), "a.dcm"),
    "png": (make_image, ham10000._decoded, "a.png"),
    "jpeg": (make_image, ham10000._decoded, "a.jpg"),
    "table": (make_table, read_table, "a.csv"),
}

if __name__ == "__main__":
    main()
