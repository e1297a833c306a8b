"""The margin system's step in plain PyTorch is of our networks and runs."""

import math

import pytest

from benchmarks.beside_torch import number_of_parameters
from tests.tiny import MARGIN
from tfdisent.systems.margin import Margin, MarginConfig

margin_torch = pytest.importorskip("benchmarks.margin_torch", reason="PyTorch is not installed")
from benchmarks import torch_step  # noqa: E402

# Sides, widths and numbers that differ, so that none can stand in the place of another.
CHANGES = {"image_size": (32, 64), "neighbours": 1, "filters": 3, "spade_filters": 5, "anatomy_channels": 6}
MODEL_ALONE = ("modalities", "neighbours")


@pytest.fixture(scope="module")
def sizes():
    values = {name: value for name, value in {**MARGIN, **CHANGES}.items() if name not in MODEL_ALONE}
    return margin_torch.Sizes(**values, num_modalities=2, num_slices=3)


def test_its_networks_have_as_many_parameters_as_ours(sizes):
    ours = Margin(MarginConfig(**{**MARGIN, **CHANGES}, routing="scalar"))
    theirs = margin_torch.Networks(sizes)
    for network, part in (
        (ours.anatomy_encoders[0], theirs.encoder),
        (ours.anatomy_decoder, theirs.anatomy_decoder),
        (ours.modality_encoders[0], theirs.modality_encoder),
        (ours.decoder, theirs.decoder),
    ):
        assert sum(math.prod(v.shape) for v in network.trainable_variables) == torch_step.number_of_parameters(part)
    assert number_of_parameters(ours.networks) == torch_step.number_of_parameters(theirs)


def test_a_step_moves_every_network_and_its_loss_is_finite(sizes):
    import torch

    torch.manual_seed(0)
    networks = margin_torch.Networks(sizes)
    before = [p.detach().clone() for p in networks.parameters()]
    optimizer = torch.optim.Adam(networks.parameters(), 1e-3)
    assert math.isfinite(margin_torch.step(networks, optimizer, 3))
    moved = [not torch.equal(old, new) for old, new in zip(before, networks.parameters(), strict=True)]
    assert sum(moved) > 0.95 * len(moved)


def test_networks_of_another_size_are_refused():
    with pytest.raises(RuntimeError, match="Expected networks of 7 parameters, built"):
        margin_torch.measure(7)
