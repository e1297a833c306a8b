"""Small heads as NIfTI files, for raw folders that tests write."""

import nibabel
import numpy as np

LPS_1MM = np.diag([-1.0, -1.0, 1.0, 1.0])


def brain(seed=0, shape=(24, 20, 10), scale=100):
    """Skull-stripped int16 image (x, y, z): an ellipsoid of noise in [`scale`, 2 `scale`) on 0."""
    grid = [np.linspace(-1, 1, length) for length in shape]
    inside = sum(axis**2 for axis in np.meshgrid(*grid, indexing="ij")) < 0.8
    values = np.random.default_rng(seed).integers(scale, 2 * scale, shape)
    return np.where(inside, values, 0).astype(np.int16)


def lesion(shape=(24, 20, 10), codes=(1,), seed=0):
    """Label map with a box of 4 x 4 x 2 voxels of each code, side by side in the middle."""
    labels = np.zeros(shape, np.uint8)
    x, y, z = shape[0] // 2 - 2 * len(codes), shape[1] // 2 - 2, shape[2] // 2 - 1
    for index, code in enumerate(codes):
        labels[x + 4 * index : x + 4 * index + 4, y : y + 4, z : z + 2] = code
    return labels


def write(path, array, affine=LPS_1MM, dtype=None):
    """Writes (x, y, z) values; the axes of `LPS_1MM` are those of BraTS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.astype(dtype or array.dtype), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def subjects(splits):
    return {split: {unit.subject for unit in units} for split, units in splits.items()}


def assert_disjoint(splits):
    """No subject is in two splits, and none is lost."""
    found = subjects(splits)
    names = [name for split in found.values() for name in split]
    assert len(names) == len(set(names))
    return found
