"""The mmsdnet system's step in plain PyTorch is of our networks, deforms as ours does, and runs."""

import math

import numpy as np
import pytest

from tests.tiny import MMSDNET
from tfdisent.layers.transformer import thin_plate_basis
from tfdisent.systems.mmsdnet import MMSDNet, MMSDNetConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from benchmarks import mmsdnet_torch  # noqa: E402
from benchmarks.torch_step import number_of_parameters  # noqa: E402

pytestmark = pytest.mark.backend("torch")

# Widths that differ, so that none can stand in the place of another.
WIDTHS = {"filters": 2, "modality_filters": 3, "segmentor_filters": 4, "transformer_filters": 5, "anatomy_channels": 6}


@pytest.fixture(scope="module")
def networks():
    return mmsdnet_torch.Networks(sizes())


def sizes():
    values = {
        name: value for name, value in MMSDNET.items() if name not in ("modalities", "mask_labels", "spade_filters")
    }
    return mmsdnet_torch.Sizes(**values | WIDTHS, num_labels=len(MMSDNET["mask_labels"]))


def test_its_networks_have_as_many_parameters_as_ours(networks):
    ours = MMSDNet(MMSDNetConfig(**MMSDNET | WIDTHS))
    pairs = [
        (ours.anatomy_encoders[1], networks.anatomy_encoders[1]),
        (ours.mask_discriminator, networks.discriminators[0]),
        (ours.image_discriminators[0], networks.discriminators[1]),
    ]
    parts = ("anatomy_decoder", "modality_encoder", "transformer", "segmentor", "decoder")
    for one, other in pairs + [(getattr(ours, part), getattr(networks, part)) for part in parts]:
        found = sum(math.prod(v.shape) for v in one.trainable_variables)
        assert found == number_of_parameters(other), one.name
    assert mmsdnet_torch.Sizes().image_size == MMSDNetConfig().image_size


def test_its_thin_plate_splines_are_ours():
    ours = thin_plate_basis(12, 12, 5)
    np.testing.assert_allclose(mmsdnet_torch.thin_plate_basis(12, 5).numpy(), ours, atol=1e-5)


def test_without_offsets_an_anatomy_stays_where_it_is(networks):
    moving, fixed = torch.rand(2, 1, WIDTHS["anatomy_channels"], 48, 48)
    np.testing.assert_allclose(networks.transformer(moving, fixed).detach(), moving, atol=1e-5)


def test_a_step_moves_every_network(networks):
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    optimizers = mmsdnet_torch.optimizers_of(networks)
    assert all(math.isfinite(mmsdnet_torch.step(networks, optimizers, 2)) for _ in range(2))
    moved = {name.partition(".")[0] for name, p in networks.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name.partition(".")[0] for name in before}


def test_networks_of_another_size_are_an_error():
    with pytest.raises(RuntimeError, match="networks of 7 parameters"):
        mmsdnet_torch.measure(7, sizes()._asdict())
