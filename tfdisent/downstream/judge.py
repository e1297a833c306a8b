"""Judges that are trained on real images once and then kept in a folder, to be loaded by the next evaluation.

The networks are in `tfdisent.downstream.classifier` and `tfdisent.downstream.autoencoder`.
"""

import hashlib
import pathlib
from collections.abc import Callable

import numpy as np

from tfdisent import files
from tfdisent.downstream.autoencoder import DomainAutoencoder
from tfdisent.downstream.classifier import ImageClassifier, PositionRegressor
from tfdisent.examples import Selection
from tfdisent.messages import say

FINGERPRINT = "fit.json"  # settings and checksum of the data that a kept judge was trained on


def fit_classifier(
    images: np.ndarray | Selection,
    labels: np.ndarray,
    num_classes: int,
    *,
    kind: str = "inception",
    epochs: int = 10,
    seed: int = 0,
    directory=None,
) -> ImageClassifier:
    """Returns the classifier behind FID, KID, IS and CGAcc (DRAI, Sec. III-C.2), trained on real images.

    Args:
        images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
        labels: (N,) integers in [0, num_classes).
        num_classes: number of classes.
        kind: "inception" (the paper's) or "convnet" (for two CPU cores and small images).
        epochs: passes over the images.
        seed: seed of weights, order and augmentation.
        directory: where to keep the classifier. One that was trained with the same images, labels and settings and kept
            there is loaded instead; any other is replaced.
    """
    images = Selection.of(images)
    settings = {"num_classes": num_classes, "kind": kind, "epochs": epochs, "seed": seed}

    def fit() -> ImageClassifier:
        judge = ImageClassifier(num_classes, images.shape[1:], kind=kind, seed=seed)
        judge.fit(images, labels, epochs=epochs, seed=seed)
        return judge

    return _kept(ImageClassifier, directory, _fingerprint(settings, images, labels), fit)


def fit_position_regressor(
    images: np.ndarray | Selection,
    factors: np.ndarray,
    *,
    epochs: int = 10,
    seed: int = 0,
    directory=None,
) -> PositionRegressor:
    """Returns a regressor of factors, trained on images whose factors are known.

    Args:
        images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
        factors: (N, F) floats, any units.
        epochs, seed, directory: as for `fit_classifier`.
    """
    images = Selection.of(images)
    settings = {"epochs": epochs, "seed": seed}

    def fit() -> PositionRegressor:
        judge = PositionRegressor(np.shape(factors)[1], images.shape[1:], seed=seed)
        judge.fit(images, factors, epochs=epochs, seed=seed)
        return judge

    return _kept(PositionRegressor, directory, _fingerprint(settings, images, factors), fit)


def fit_domain_autoencoder(
    images: np.ndarray | Selection,
    domains: np.ndarray,
    num_domains: int = 2,
    *,
    filters: int = 64,
    num_blocks: int = 6,
    epochs: int = 120,
    seed: int = 0,
    directory=None,
) -> DomainAutoencoder:
    """Returns the autoencoder behind FID and KID of harmonised images, trained on real images of all domains.

    Args:
        images: (N, H, W, C) floats in [-1, 1], or a selection of examples, which is streamed.
        domains: (N,) integers in [0, num_domains).
        num_domains: number of domains.
        filters, num_blocks: of its network; the defaults are the paper's.
        epochs, seed, directory: as for `fit_classifier`.
    """
    images = Selection.of(images)
    size = {"filters": filters, "num_blocks": num_blocks}

    def fit() -> DomainAutoencoder:
        judge = DomainAutoencoder(images.shape[1:], num_domains, seed=seed, **size)
        judge.fit(images, domains, epochs=epochs, seed=seed)
        return judge

    settings = {"num_domains": num_domains, "epochs": epochs, "seed": seed, **size}
    return _kept(DomainAutoencoder, directory, _fingerprint(settings, images, domains), fit)


def _kept(judge_class: type, directory, fingerprint: dict, fit: Callable):
    """The judge that is kept in a folder, if it was trained on the same; otherwise a new one, which replaces it."""
    if directory is None:
        return fit()
    path = pathlib.Path(directory) / FINGERPRINT
    if path.is_file() and files.read_json(path) == fingerprint:
        try:
            return judge_class.load(directory)
        except (OSError, ValueError) as error:
            say(f"a judge is trained anew, as the one that was kept cannot be read: {error}")
    judge = fit()
    path.unlink(missing_ok=True)  # it is written last, so that a killed save leaves none
    judge.save(directory)
    files.write_json(path, fingerprint)
    return judge


def _fingerprint(settings: dict, images: Selection, targets: np.ndarray) -> dict:
    """The settings and a checksum of the data."""
    targets = np.ascontiguousarray(targets)
    digest = hashlib.sha256(f"{images.shape}{targets.dtype}{targets.shape}".encode())
    for items, columns in images.batches():
        for array in (items, columns["image"], targets[items]):
            digest.update(np.ascontiguousarray(array).data)
    return {**settings, "data": digest.hexdigest()}
