"""Volumes: a BraTS-like tree prepared, and its slices read back.

The brains are ellipsoids of smooth noise, so that they pack like skull-stripped MR images.
"""

import gzip
import pathlib
import statistics
import tempfile
import time

import nibabel
import numpy as np
from scipy import ndimage

from benchmarks import Measurement
from tfdisent import data
from tfdisent.data import Manifest
from tfdisent.datasets import prepare

# 55 slices of 192 x 160, as `margin`'s paper crops them; four modalities.
CROP = {"protocol": "plain", "size": "192x160", "slice_range": "50,104", "min_foreground": 1}
WHOLE = {"protocol": "unified"}


def preparation(num_subjects: int = 8, cropped: bool = True, workers: int = 1) -> Measurement:
    """Slices per second written, and the time over that of merely unpacking the .nii.gz files.

    Args:
        num_subjects: of five volumes of 240 x 240 x 155 each.
        cropped: 55 slices of 192 x 160 of each subject; or all of 240 x 240 with enough brain.
        workers: processes, 1 for a comparison without their start.
    """
    options = CROP if cropped else WHOLE
    with tempfile.TemporaryDirectory() as spare:
        raw = pathlib.Path(spare) / "raw"
        files = write_brains(raw, num_subjects)
        ours, unpacking, slices = [], [], 0
        for turn in range(4):  # in turns, as the machine's speed drifts; the first warms up
            start = time.perf_counter()
            for file in files:
                with gzip.open(file) as packed:
                    packed.read()
            middle = time.perf_counter()
            folder = prepare("brats", f"{spare}/{turn}", raw, workers=workers, **options)
            unpacking.append(middle - start)
            ours.append(time.perf_counter() - middle)
            splits = Manifest.read(folder).splits
            slices = sum(entry["num_examples"] for entry in splits.values())
    median = statistics.median(ours[1:])
    ratio = median / statistics.median(unpacking[1:])
    return Measurement(slices / median, "slices/s", ours[1:], ours[0], "unpacking the files alone", ratio)


def reading(num_subjects: int = 8, batch_size: int = 32, normalize: str = "volume", rounds: int = 10) -> Measurement:
    """Slices of 192 x 160 x 4 (int16) per second, shuffled, batched and normalised."""
    with tempfile.TemporaryDirectory() as spare:
        raw = pathlib.Path(spare) / "raw"
        write_brains(raw, num_subjects)
        folder = prepare("brats", spare, raw, workers=1, **CROP)
        shards = sorted(folder.glob("*-train.*"))
        loaded = data.load(folder, batch_size=batch_size, normalize=normalize, repeat=True)
        iterator, seconds = iter(loaded), []
        batches = max(10, Manifest.read(folder).split("train")["num_examples"] // batch_size)
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(batches):
                next(iterator)
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for shard in shards:
            shard.read_bytes()
        bare = time.perf_counter() - start
        bare /= Manifest.read(folder).split("train")["num_examples"]
    median = statistics.median(seconds[1:])
    rate = batches * batch_size / median
    return Measurement(rate, "slices/s", seconds[1:], seconds[0], "reading the files' bytes", 1 / rate / bare)


def write_brains(folder: pathlib.Path, num_subjects: int) -> list[pathlib.Path]:
    """A tree like BraTS 2018's; returns its files."""
    rng = np.random.default_rng(0)
    shape, files = (240, 240, 155), []
    x, y, z = np.ogrid[:240, :240, :155]
    inside = ((x - 120) / 68) ** 2 + ((y - 120) / 85) ** 2 + ((z - 75) / 68) ** 2 < 1
    affine = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    noise = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), 1.2)
    brain = np.where(inside, 400 + 1500 * noise, 0).clip(0, 3000).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    labels[100:130, 100:140, 60:90], labels[110:120, 110:120, 65:80] = 2, 4
    for index in range(num_subjects):
        subject = folder / f"Brats18_X_{index}_1"
        subject.mkdir(parents=True)
        for shift, name in enumerate(("t1", "t1ce", "t2", "flair", "seg")):
            array = labels if name == "seg" else np.roll(brain, shift + index, axis=0)
            files.append(subject / f"{subject.name}_{name}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(array, affine), files[-1])
    return files
