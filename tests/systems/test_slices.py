"""Settings and batches of systems of slices, also those that no system here uses yet."""

import dataclasses
import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from tfdisent.systems.slices import ModalityConfig, SliceConfig, SliceSystem, modality_indices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stacks(ModalityConfig):
    """Slices with neighbours in three modalities or more."""

    neighbours: int = 1

    MULTIPLE_OF: ClassVar = 8
    FEWEST_MODALITIES: ClassVar = 3


class StackSystem(SliceSystem):
    config_class = Stacks


def test_slices_of_one_modality_need_no_names():
    config = SliceConfig(image_size=(64, 32))
    assert config.image_shape == (64, 32, 1)
    assert not hasattr(config, "modalities")
    assert config.preparation("retina_phantom", 64) == {"size": 64}
    SliceConfig().check_manifest(SimpleNamespace(dataset="retouch", modalities=("OCT",)))


def test_neighbouring_slices_are_channels_of_each_modality():
    config = Stacks(image_size=40)
    assert config.image_shape == (40, 40, 3)
    assert StackSystem(config).batch_shapes() == {"image": (40, 40, 12), "available": (4,)}
    assert Stacks(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_each_class_says_which_sizes_and_how_many_modalities_it_takes():
    with pytest.raises(ValueError, match="multiples of 8 from 32.*received 36"):
        Stacks(image_size=36)
    with pytest.raises(ValueError, match="multiples of 16 from 32.*received 40"):
        SliceConfig(image_size=40)
    with pytest.raises(ValueError, match="three or more different names, received"):
        Stacks(modalities=("T1", "T2"))
    with pytest.raises(ValueError, match="three or more modalities, received chaos with InPhase, OutPhase"):
        Stacks().check_manifest(SimpleNamespace(dataset="chaos", modalities=("InPhase", "OutPhase")))


def test_modalities_are_found_by_name_index_and_code():
    names = ("T1", "T2", "FLAIR")
    assert modality_indices("T2", names, 3, "target") == [1, 1, 1]
    assert modality_indices([0, 2], names, 2, "target") == [0, 2]
    assert modality_indices(np.eye(3)[[2, 0]], names, 2, "target") == [2, 0]
