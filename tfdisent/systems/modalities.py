"""What models of slices in several modalities share: sizes that follow from their config, and names of modalities."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from keras import ops

from tfdisent.intensity import BOUNDED
from tfdisent.training.system import TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigOfSlices(TrainingConfig):
    """What follows from `image_size` and `modalities`, of all configs that have them, and how these are checked."""

    image_size: int | tuple[int, int] = 128
    modalities: tuple[str, ...] = ("T1", "T1ce", "T2", "FLAIR")
    normalize: str = "slice"

    CHOICES: ClassVar = {"normalize": BOUNDED}

    def __post_init__(self):
        if not isinstance(self.image_size, int):  # JSON gives lists
            object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "modalities", tuple(self.modalities))
        sides = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
        if len(sides) > 2 or not all(side >= 32 and side % 16 == 0 for side in sides):
            raise ValueError(
                "Expected image_size to be one or two multiples of 16 from 32, as 128 or (192, 160); received "
                f"{self.image_size}."
            )
        if len(self.modalities) < 2 or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(
                f"Expected modalities to be two or more different names, received {self.modalities}: there is nothing "
                "to translate otherwise."
            )
        super().__post_init__()

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Names of the modalities."""
        return {"modalities": tuple(manifest.modalities)}

    @classmethod
    def preparation(cls, dataset: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
        """A phantom is drawn at any size; of a volume another size would be another piece."""
        return {"size": image_size} if dataset.endswith("_phantom") else {}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if there are not two modalities."""
        if len(manifest.modalities) < 2:
            raise ValueError(
                f"Expected data of two or more modalities, received {manifest.dataset} with "
                f"{', '.join(manifest.modalities)}; train on others, as brain_phantom or brats."
            )

    @property
    def num_modalities(self) -> int:
        """M."""
        return len(self.modalities)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Of a slice in one modality, (H, W, 1)."""
        size = self.image_size
        return (*(size if isinstance(size, tuple) else (size, size)), 1)

    def check_batch(self, image) -> None:
        """Raises ValueError unless images are (B, H, W, M)."""
        expected = (*self.image_shape[:2], self.num_modalities)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"Expected images of shape (B, {', '.join(map(str, expected))}), a channel for each of "
                f"{', '.join(self.modalities)}; received {tuple(image.shape)}."
            )


def is_code(modality) -> bool:
    """Whether modalities are given as codes (B, M), and not by name or index."""
    return len(getattr(modality, "shape", ())) == 2


def checked_code(code, names: tuple[str, ...]):
    """The codes; a ValueError unless they are (B, M)."""
    if code.shape[1] != len(names):
        raise ValueError(f"Expected codes of shape (B, {len(names)}), received {tuple(code.shape)}.")
    return code


def modality_indices(wanted, names: tuple[str, ...], size: int, role: str) -> list[int]:
    """Indices of modalities, one for each of `size` images.

    Args:
        wanted: names, indices or one-hot codes (B, M); one name or index stands for all.
        names: of the modalities, M.
        size: B.
        role: what they are, for errors: "source" or "target".

    Raises:
        ValueError: for a modality that is not among them, or another number of them than 1 or B.
    """
    if is_code(wanted):
        wanted = ops.convert_to_numpy(checked_code(wanted, names)).argmax(axis=1)
    index = []
    for one in np.atleast_1d(wanted).tolist():
        if one in names:
            index.append(names.index(one))
        elif type(one) is int and 0 <= one < len(names):
            index.append(one)
        else:
            raise ValueError(
                f"Expected a {role} among {', '.join(names)}, or an index from 0 to {len(names) - 1}; received {one!r}."
            )
    if len(index) not in (1, size):
        raise ValueError(f"Expected 1 {role} or {size}, one an image; received {len(index)}.")
    return index * size if len(index) == 1 else index
