"""Models that the tests of `tfdisent.apply` share."""

import pytest
import tensorflow as tf

from tests.apply.scans import KNOWN, save_model


@pytest.fixture(scope="session")
def identity(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    return save_model(folder, lambda image: image, card={"data": KNOWN}, name="harmonize")


@pytest.fixture(scope="session")
def negative(tmp_path_factory):
    """T1 is what it is, T2 its negative, "T2 / FS" all 1."""

    def function(image, target):
        share = target[:, None, None]
        return image * (share[..., :1] - share[..., 1:2]) + share[..., 2:]

    card = {"data": KNOWN, "config": {"modalities": ["T1", "T2", "T2 / FS"]}}
    return save_model(tmp_path_factory.mktemp("negative"), function, targets=3, card=card)


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory):
    """Of T1 and T2, of which one may be missing: their mean, and labels "bright" in T1 and, before that, in T2."""

    def function(image, available):
        share = available[:, None, None, :]
        t1, t2 = tf.unstack(tf.cast(image > 0, tf.float32) * share, axis=-1)
        mean = tf.reduce_sum(image * share, -1, keepdims=True) / tf.reduce_sum(share, -1, keepdims=True)
        tissue = tf.stack([(1 - t1) * (1 - t2), t1 * (1 - t2), t2], axis=-1)
        return {"image": mean, "tissue": tissue}

    names = ["background", "bright in T1", "bright in T2"]
    outputs = {"image": {"kind": "image", "names": ["mean"]}, "tissue": {"kind": "labels", "names": names}}
    card = {"data": KNOWN, "inputs": ["T1", "T2"], "outputs": outputs}
    folder = tmp_path_factory.mktemp("segmenter")
    return save_model(folder, function, channels=2, available=True, card=card, name="segment")


@pytest.fixture(scope="session")
def completer(tmp_path_factory):
    """Of T1 and T2: T1 is the mean of what there is, T2 its negative; and labels "bright", whatever the target."""

    def function(image, target, available):
        share = available[:, None, None, :]
        mean = tf.reduce_sum(image * share, -1, keepdims=True) / tf.reduce_sum(share, -1, keepdims=True)
        sign = (target[:, :1] - target[:, 1:])[:, None, None]
        bright = tf.cast(mean > 0, tf.float32)
        return {"image": sign * mean, "tissue": tf.concat([1 - bright, bright], -1)}

    outputs = {
        "image": {"kind": "image", "names": ["T1", "T2"]},
        "tissue": {"kind": "labels", "names": ["background", "bright"], "per_target": False},
    }
    card = {"data": KNOWN, "inputs": ["T1", "T2"], "outputs": outputs}
    folder = tmp_path_factory.mktemp("completer")
    return save_model(folder, function, channels=2, targets=2, available=True, card=card, name="complete")


@pytest.fixture(scope="session")
def needs_both(tmp_path_factory):
    """The difference of T1 and T2, of which none may be missing."""
    card = {"data": KNOWN, "inputs": ["T1", "T2"], "outputs": {"image": {"kind": "image", "names": []}}}
    folder = tmp_path_factory.mktemp("needs_both")
    return save_model(folder, lambda image: image[..., :1] - image[..., 1:], channels=2, card=card, name="subtract")
