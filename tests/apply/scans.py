"""Volumes with known values, and small SavedModels with known effects."""

import json

import nibabel
import numpy as np
import tensorflow as tf
from nibabel import orientations

KNOWN = {"normalize": "volume", "pixel_spacing": 1.0}
SIZE = (32, 28)


def save_model(folder, function, *, channels=1, targets=0, available=False, size=SIZE, card=None, name="translate"):
    """A SavedModel of function(image[, target][, available]) -> image or {output: images}, with a card."""
    module = tf.Module()
    specs = {"image": tf.TensorSpec([None, *size, channels], tf.float32)}
    if targets:
        specs["target"] = tf.TensorSpec([None, targets], tf.float32)
    if available:
        specs["available"] = tf.TensorSpec([None, channels], tf.float32)

    def call(**inputs):
        made = function(**inputs)
        return made if isinstance(made, dict) else {"image": made}

    module.call = tf.function(call)
    signature = module.call.get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), {name: signature, "serving_default": signature})
    if card is not None:
        (folder / "card.json").write_text(json.dumps({"signatures": {name: {}}, **card}))
    return folder


def brain(seed=0, shape=(20, 26, 16)):
    """A ball of noise with a hole, 100 to 900, in a background of 0; x, y, z."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    values = np.random.default_rng(seed).integers(100, 900, shape)
    return np.where((radius < 0.9) & (radius > 0.15), values, 0).astype(np.int16)


def save(path, array, orientation="LPS", spacing=(1, 1, 1)):
    """Writes an array whose axes run to the right, anterior and superior, as stored otherwise."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -7, -9.5, 4
    image = nibabel.Nifti1Image(array, affine)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(orientation))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)
    return path


def values(path):
    return np.array(nibabel.load(path, mmap=False).dataobj)


def expected(array):
    """What the identity makes of `brain`: its range as 0 to 1, 0 outside."""
    low, high = array[array > 0].min(), array.max()
    inside = np.zeros(array.shape, bool)
    inside[np.abs(array) > 0] = True
    scaled = (array.astype(np.float32) - low) / (high - low)
    return np.where(inside, scaled, 0)
