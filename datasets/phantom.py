"""Phantoms as data sets: images with known factors, made from code; no raw data is needed.

skin_phantom   `tfdisent.phantoms.skin`: drawn dermatoscopic images of skin lesions, labels bkl,
               mel and nv in equal parts, with each image's factors and the lesion's mask.
               Part of this project, Apache-2.0.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

from datasets.builder import Builder, Unit
from tfdisent.data.records import Manifest
from tfdisent.phantoms import skin

# Test images are those of the endless series from here on, so that they stay the same with any
# num_train.
_FIRST_TEST_IMAGE = 10_000_000


@dataclasses.dataclass(frozen=True)
class SkinPhantom(Builder):
    """Images 0 ... num_train - 1 of the series that `seed` names for training, others of it for
    testing.
    """

    name = "skin_phantom"

    num_train: int = 5000
    num_test: int = 1000
    size: int = 64
    seed: int = 0

    def __post_init__(self):
        if not (1 <= self.num_train <= _FIRST_TEST_IMAGE and self.num_test >= 1 and self.seed >= 0):
            raise ValueError(
                "skin_phantom needs 1 <= num_train <= 10 million, num_test >= 1 and seed >= 0, "
                "received "
                f"num_train={self.num_train}, num_test={self.num_test}, seed={self.seed}."
            )
        if not 16 <= self.size <= 1024:
            raise ValueError(
                f"skin_phantom needs 16 <= size <= 1024 pixels, received size={self.size}."
            )

    def info(self, raw_dir: pathlib.Path | None) -> Manifest:
        return Manifest(
            dataset=self.name,
            version=self.version,
            image_shape=(self.size, self.size, 3),
            modalities=("dermatoscopy",),
            labels=skin.LABELS,
            condition_names=skin.LABELS,
            factor_names=skin.FACTORS,
            mask_labels=("skin", "lesion"),
            description="Drawn dermatoscopic images of skin lesions with known factors.",
            licence="Apache-2.0",
            seed=self.seed,
        )

    def splits(self, raw_dir: pathlib.Path | None) -> dict[str, list[Unit]]:
        counts = {"train": (0, self.num_train), "test": (_FIRST_TEST_IMAGE, self.num_test)}
        return {
            split: [
                Unit(key, key, (index, index % 3), group=skin.LABELS[index % 3])
                for index in range(first, first + count)
                for key in [f"{split}-{index - first:06d}"]
            ]
            for split, (first, count) in counts.items()
        }

    def examples(self, unit: Unit) -> Iterator[dict]:
        index, label = unit.source
        factors = skin.draw_factors(label, seed=self.seed, index=index)
        image, mask = skin.render(label, factors, size=self.size, seed=self.seed, index=index)
        yield {"image": image, "mask": mask[..., None], "label": label, "factors": factors}
