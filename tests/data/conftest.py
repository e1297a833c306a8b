import dataclasses

import numpy as np
import pytest

from tfdisent.data.records import Feature, Manifest
from tfdisent.datasets.builder import Builder, Unit
from tfdisent.datasets.phantom import SkinPhantom
from tfdisent.datasets.preparation import prepare


@dataclasses.dataclass(frozen=True)
class Volumes(Builder):
    """Four subjects of five slices, two modalities, with every kind of feature."""

    name = "volumes"
    num_shards = 2

    dtype: str = "int16"

    def info(self, raw_dir):
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(6, 8, 2),
            image_dtype=self.dtype,
            modalities=("t1", "t2"),
            labels=("ill", "well"),
            condition_names=("age", "size", "dose"),
            domains=("here", "there"),
            factor_names=("turn",),
            mask_labels=("background", "lesion", "edge"),
            mask_channels=2,
            extra_features={
                "affine": Feature((4, 4), "float32"),
                "neighbours": Feature((6, 8), self.dtype),
            },
        )

    def splits(self, raw_dir):
        return {
            "train": [Unit(f"s{i}", f"s{i}", i) for i in range(3)],
            "test": [Unit("s3", "s3", 3)],
        }

    def examples(self, unit):
        random = np.random.default_rng(unit.source)
        for index in range(5):
            yield {
                "key": f"{unit.key}/{index}",
                "image": random.integers(0, 200, (6, 8, 2)).astype(self.dtype),
                "mask": random.integers(0, 3, (6, 8, 2)).astype(np.uint8),
                "available": np.array([1, 0], np.uint8),
                "modality": "t2",
                "slice_index": index,
                "num_slices": 5,
                "spacing": np.array([1, 1, 3.5]),
                "condition": random.normal(size=3),
                "label": "well" if unit.source % 2 else 0,
                "domain": "there",
                "factors": random.normal(size=1),
                "affine": random.normal(size=(4, 4)),
                "neighbours": random.integers(0, 200, (6, 8)).astype(self.dtype),
            }


@pytest.fixture(scope="session", params=["uint8", "int16", "float16"])
def volumes(request, tmp_path_factory):
    """A builder with every feature, and the folder it prepared."""
    builder = Volumes(request.param)
    return builder, prepare(builder, tmp_path_factory.mktemp("volumes"), workers=1)


@pytest.fixture(scope="session")
def skin_folder(tmp_path_factory):
    """50 training and 12 test images of 16 pixels."""
    return prepare(SkinPhantom(50, 12, size=16), tmp_path_factory.mktemp("skin"), workers=1)
