"""Preparation of data sets, from nothing to a whole folder.

The result holds the start of the pool, whose processes load TensorFlow. `first` is that start: the preparation of a few
images.
"""

import io
import pathlib
import tempfile
import time

import numpy as np
from PIL import Image

from benchmarks import Measurement
from tfdisent.data import Manifest
from tfdisent.datasets import prepare

# Of the phantom that preparation makes and `benchmarks.pipeline` reads.
PHANTOM = {"num_train": 1000, "num_test": 200}


def skin_phantom(
    folder: str, num_train: int = PHANTOM["num_train"], num_test: int = PHANTOM["num_test"]
) -> Measurement:
    """Images per second that are drawn at 64 x 64 and written, one process a core."""
    few = {"num_train": 8, "num_test": 8}
    fewer = {"num_train": max(1, num_train // 10), "num_test": max(1, num_test // 10)}
    with tempfile.TemporaryDirectory() as spare:
        first, _ = _preparation("skin_phantom", f"{spare}/few", **few)
        alone = _preparation("skin_phantom", f"{spare}/alone", workers=1, **fewer)
    options = {"num_train": num_train, "num_test": num_test}
    return _measurement(first, alone, _preparation("skin_phantom", f"{folder}/prepared", **options))


def ham10000(num_images: int = 1000) -> Measurement:
    """JPEG photographs of 600 x 450 per second that are read, cut, resized and written."""
    with tempfile.TemporaryDirectory() as spare:
        few, raw = pathlib.Path(spare) / "few_raw", pathlib.Path(spare) / "raw"
        write_photographs(few, 16)
        write_photographs(raw, num_images)
        first, _ = _preparation("ham10000", f"{spare}/few", few)
        alone = _preparation("ham10000", f"{spare}/alone", raw, workers=1)
        return _measurement(first, alone, _preparation("ham10000", f"{spare}/prepared", raw))


def _preparation(
    dataset: str,
    data_dir: str,
    raw_dir: pathlib.Path | None = None,
    workers: int | None = None,
    **options,
) -> tuple[float, int]:
    """Seconds of a preparation, and how many images it wrote."""
    start = time.perf_counter()
    directory = prepare(dataset, data_dir, raw_dir, workers=workers, **options)
    seconds = time.perf_counter() - start
    splits = Manifest.read(directory).splits
    return seconds, sum(entry["num_examples"] for entry in splits.values())


def _measurement(first: float, alone: tuple[float, int], whole: tuple[float, int]) -> Measurement:
    seconds, num_images = whole
    alone_seconds, alone_images = alone
    ratio = (seconds / num_images) / (alone_seconds / alone_images)
    rate = num_images / seconds
    return Measurement(rate, "images/s", [seconds], first, "one process, started", ratio)


def write_photographs(folder: pathlib.Path, num_images: int) -> None:
    """A folder like HAM10000's: JPEG photographs of 600 x 450, some 230 kB each, and a table."""
    pictures = [_photograph(np.random.default_rng(k)) for k in range(min(num_images, 16))]
    images = folder / "HAM10000_images_part_1"
    images.mkdir(parents=True)
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for k in range(num_images):
        (images / f"ISIC_{k:07d}.jpg").write_bytes(pictures[k % len(pictures)])
        rows.append(f"HAM_{k:07d},ISIC_{k:07d},{('bkl', 'mel', 'nv')[k % 3]},histo,50.0,female,back")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _photograph(rng: np.random.Generator) -> bytes:
    """A dark blot on noisy skin, as JPEG."""
    y, x = np.mgrid[-1:1:450j, -1:1:600j]
    blot = np.exp(-4.0 * (x**2 + y**2))[..., None] * rng.uniform(60, 140, 3)
    image = np.array([220.0, 170.0, 150.0]) - blot + rng.normal(0.0, 32.0, (450, 600, 3))
    file = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype("uint8")).save(file, "JPEG", quality=95)
    return file.getvalue()
