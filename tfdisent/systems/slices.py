"""What systems of slices share: their settings, their batches, and the names of modalities."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from keras import ops

from tfdisent.intensity import BOUNDED
from tfdisent.training.system import System, TrainingConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SliceConfig(TrainingConfig):
    """Settings of images that are slices of volumes.

    Attributes:
        image_size: height and width in pixels, one number or two, multiples of `MULTIPLE_OF` from 32.
        normalize: what becomes [-1, 1], see `tfdisent.data.load`: the minimum and maximum of each "slice", or of the
            "volume", or its "percentile"s.
        neighbours: slices on each side that an image has as further channels; a field of configs that have them.
        MULTIPLE_OF: what the networks ask of height and width.
    """

    image_size: int | tuple[int, int] = 128
    normalize: str = "slice"

    neighbours: ClassVar[int] = 0
    MULTIPLE_OF: ClassVar[int] = 16
    CHOICES: ClassVar = {"normalize": BOUNDED}

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.image_size, int):  # JSON gives lists
            object.__setattr__(self, "image_size", tuple(self.image_size))
        sides = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
        if len(sides) not in (1, 2) or not all(side >= 32 and side % self.MULTIPLE_OF == 0 for side in sides):
            raise ValueError(
                f"Expected image_size to be one or two multiples of {self.MULTIPLE_OF} from 32, as 128 or (192, 160); "
                f"received {self.image_size}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of a slice with its neighbours, in one modality, (H, W, 1 + 2 * neighbours)."""
        size = self.image_size
        return (*(size if isinstance(size, tuple) else (size, size)), 1 + 2 * self.neighbours)

    @classmethod
    def preparation(cls, dataset: str, image_size: int | tuple[int, int]) -> dict[str, Any]:
        """A phantom is drawn at any size; of a volume another size would be another piece."""
        return {"size": image_size} if dataset.endswith("_phantom") else {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityConfig(SliceConfig):
    """Settings of slices in several aligned modalities, which are the channels of a batch.

    Attributes:
        modalities: their names, in the order of the channels.
        FEWEST_MODALITIES: how many there must be.
    """

    modalities: tuple[str, ...] = ("T1", "T1ce", "T2", "FLAIR")

    FEWEST_MODALITIES: ClassVar[int] = 2

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "modalities", tuple(self.modalities))
        if len(set(self.modalities)) < max(self.FEWEST_MODALITIES, len(self.modalities)):
            raise ValueError(f"Expected modalities to be {self._fewest} different names, received {self.modalities}.")

    @property
    def num_modalities(self) -> int:
        """Number of modalities, M."""
        return len(self.modalities)

    @classmethod
    def data_fields(cls, manifest: Any) -> dict[str, Any]:
        """Names of the modalities."""
        return {"modalities": tuple(manifest.modalities)}

    def check_manifest(self, manifest: Any) -> None:
        """Raises ValueError if there are too few modalities."""
        if len(manifest.modalities) < self.FEWEST_MODALITIES:
            raise ValueError(
                f"Expected data of {self._fewest} modalities, received {manifest.dataset} with "
                f"{', '.join(manifest.modalities)}; train on others, as brain_phantom or brats."
            )

    @property
    def num_channels(self) -> int:
        """Channels of a batch: each modality's slice, with its neighbours."""
        return self.num_modalities * (1 + 2 * self.neighbours)

    @property
    def _fewest(self) -> str:
        return f"{('no', 'one', 'two', 'three', 'four')[self.FEWEST_MODALITIES]} or more"


class SliceSystem(System):
    """A system of slices in several aligned modalities, some of which may be missing; its config is a `ModalityConfig`.

    `fit` takes batches {"image": (B, H, W, M) in [-1, 1], "available": (B, M) of 0 and 1, by default 1}, or these two
    as x and y; other keys are ignored.
    """

    config_class: type[ModalityConfig]
    optional_inputs = ("available",)

    def batch_shapes(self) -> dict[str, tuple]:
        """Slices with a channel for each modality, and which of these there are."""
        config = self.config
        return {"image": (*config.image_shape[:2], config.num_channels), "available": (config.num_modalities,)}

    def check_batch(self, image) -> None:
        """Raises ValueError unless images are (B, H, W, M)."""
        expected = self.batch_shapes()["image"]
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"Expected images of shape (B, {', '.join(map(str, expected))}), a channel for each of "
                f"{', '.join(self.config.modalities)}; received {tuple(image.shape)}."
            )

    def available(self, batch: dict):
        """Which modalities there are (B, M), 0 or 1: all, unless the batch says otherwise."""
        everything = ops.ones((ops.shape(batch["image"])[0], self.config.num_modalities))
        return ops.cast(batch.get("available", everything), "float32")

    def told(self, modality: int, image):
        """The one-hot modality (B, M) of slices (B, ...) that are all in one, by its index."""
        one = np.eye(self.config.num_modalities, dtype="float32")[[modality]]
        return ops.broadcast_to(ops.convert_to_tensor(one), (ops.shape(image)[0], self.config.num_modalities))

    def checked_slices(self, image):
        """The slices of a verb, each in one modality, (B, H, W, 1), as float32, checked."""
        return self.checked("image", image, self.config.image_shape)


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
