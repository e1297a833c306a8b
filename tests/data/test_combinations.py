"""Every normalisation with every size, dtype and augmentation, against NumPy, SciPy and Pillow."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from tfdisent.data import as_arrays, augment, load
from tfdisent.data.records import IMAGE_DTYPES, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.preparation import prepare
from tfdisent.intensity import NORMALIZATIONS

SIDE, COUNT, SEED = 12, 3, 5
SIZES = (None, 7, (18, 25))


@dataclasses.dataclass(frozen=True)
class Squares(Builder):
    """Three volumes of two slices and two channels; the second channel of the last one is constant."""

    name = "squares"
    num_shards = 1

    dtype: str = "int16"

    def info(self, raw_dir):
        return Manifest(
            self.name,
            self.version,
            (SIDE, SIDE, 2),
            self.dtype,
            modalities=("a", "b"),
            mask_labels=("no", "yes", "maybe"),
        )

    def splits(self, raw_dir):
        return {"train": [Unit(f"s{i}", f"s{i}", i) for i in range(COUNT)]}

    def examples(self, unit):
        for index, image in enumerate(volume(unit.source, self.dtype)):
            mask = np.random.default_rng(index).integers(0, 3, (SIDE, SIDE, 1)).astype(np.uint8)
            statistics = [by_numpy(volume(unit.source, self.dtype)[..., channel]) for channel in range(2)]
            yield {
                "key": f"{unit.key}/{index}",
                "image": image,
                "mask": mask,
                "intensity": np.array(statistics, np.float32),
            }


def volume(number, dtype):
    """(2, SIDE, SIDE, 2), with values as large and as small as the dtype has them."""
    low, high = {"uint8": (3, 250), "int16": (-3000, 9000), "float16": (-4, 60), "float32": (1e-9, 4e-9)}[dtype]
    array = np.random.default_rng(number).uniform(low, high, (2, SIDE, SIDE, 2)).astype(dtype)
    if number == COUNT - 1:
        array[..., 1] = array[0, 0, 0, 1]
    return array


def by_numpy(values):
    values = values.astype(np.float64)
    percentiles = np.percentile(values, (0.5, 1, 99, 99.5))
    return [values.min(), values.max(), values.mean(), values.std(), *percentiles]


def normalized(image, whole, normalize, dtype):
    """One channel (H, W) of a slice of the volume `whole`."""
    image, whole = image.astype(np.float64), whole.astype(np.float64)
    if np.ptp(whole) == 0 and not (dtype == "uint8" and normalize == "volume"):
        return np.full_like(image, 0.0 if normalize == "zscore" else -1.0)
    if normalize == "zscore":
        return (image - whole.mean()) / whole.std()
    low, high = {
        "volume": (0, 255) if dtype == "uint8" else (whole.min(), whole.max()),
        "percentile": np.percentile(whole, (0.5, 99.5)),
        "slice": (image.min(), image.max()),
    }[normalize]
    return np.clip(-1 + 2 * (image - low) / (high - low), -1, 1)


def resized(image, mask, size):
    if size is None:
        return image, mask
    height, width = (size, size) if isinstance(size, int) else size
    channels = [
        Image.fromarray(image[..., channel].astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        for channel in range(2)
    ]
    rows, columns = ((np.arange(new) + 0.5) * SIDE // new for new in (height, width))
    return np.stack(channels, axis=-1), mask[np.ix_(rows.astype(int), columns.astype(int))]


def turned(array, symmetry):
    array = array.swapaxes(0, 1) if symmetry & 4 else array
    array = array[::-1] if symmetry & 2 else array
    return array[:, ::-1] if symmetry & 1 else array


def cropped(array, box, order):
    top, left, bottom, right = box
    height, width, channels = array.shape
    rows, columns = np.linspace(top, bottom, height) * (height - 1), np.linspace(left, right, width) * (width - 1)
    places = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([ndimage.map_coordinates(array[..., c], places, order=order) for c in range(channels)], axis=-1)


def augmented(images, masks, names, step):
    for index, name in enumerate(names):
        seed = tf.random.experimental.stateless_fold_in([SEED, step], index)
        if name == "crop":
            boxes = augment.draw_crop(seed, len(images)).numpy()
            images = [cropped(image, box, 1) for image, box in zip(images, boxes, strict=True)]
            masks = [cropped(mask, box, 0) for mask, box in zip(masks, boxes, strict=True)]
        else:
            draw = {"symmetry": augment.draw_symmetry, "flip": augment.draw_flip}[name]
            draws = draw(seed, len(images)).numpy()
            images = [turned(image, drawn) for image, drawn in zip(images, draws, strict=True)]
            masks = [turned(mask, drawn) for mask, drawn in zip(masks, draws, strict=True)]
    return images, masks


@pytest.fixture(scope="module", params=IMAGE_DTYPES)
def squares(request, tmp_path_factory):
    return request.param, prepare(Squares(request.param), tmp_path_factory.mktemp("squares"), workers=1)


@pytest.mark.parametrize("names", [(), ("symmetry",), ("flip", "crop")], ids="-".join)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_images_and_masks_are_what_numpy_makes_of_them(squares, normalize, size, names):
    dtype, folder = squares
    options = {"normalize": normalize, "image_size": size, "augment": names, "seed": SEED, "shuffle": False}
    if "symmetry" in names and isinstance(size, tuple):  # which quarter turns do not leave as it is
        with pytest.raises(ValueError, match="augment='flip'"):
            load(folder, batch_size=4, **options)
        return
    keys = [key.decode() for key in as_arrays(folder, metadata=True)["key"]]
    images, masks = [], []
    for key in keys:
        number, index = int(key[1]), int(key[3])
        whole = volume(number, dtype)
        channels = [normalized(whole[index, ..., c], whole[..., c], normalize, dtype) for c in range(2)]
        mask = np.random.default_rng(index).integers(0, 3, (SIDE, SIDE, 1)).astype(np.uint8)
        image, mask = resized(np.stack(channels, axis=-1), mask, size)
        images.append(image)
        masks.append(mask)
    batches = load(folder, batch_size=4, drop_remainder=False, **options)
    starts = itertools.count(0, 4)
    for step, (start, batch) in enumerate(zip(starts, batches.as_numpy_iterator(), strict=False)):
        expected = augmented(images[start : start + 4], masks[start : start + 4], names, step)
        assert batch["image"].dtype == np.float32 and batch["mask"].dtype == np.uint8
        # uint8, float16 and the float32 of 1e-9 alike: rounding is that of float32 at the size of the result.
        np.testing.assert_allclose(batch["image"], expected[0], atol=2e-5)
        np.testing.assert_array_equal(batch["mask"], expected[1])
        if normalize != "zscore":
            assert np.abs(batch["image"]).max() <= 1
    assert step == 1


def test_a_zscore_is_not_cut_by_resizing(squares):
    _, folder = squares
    image = as_arrays(folder, normalize="zscore", image_size=(18, 25))["image"]
    assert image.min() < -1.2 and image.max() > 1.2
