"""The harmonisation's step in plain PyTorch is of our networks and runs."""

import math

import pytest

from tests.tiny import HARMONIZE
from tfdisent.systems import harmonize
from tfdisent.systems.harmonize import DOMAINS, Harmonize, HarmonizeConfig

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from benchmarks import harmonize_torch  # noqa: E402
from benchmarks.torch_step import number_of_parameters  # noqa: E402

pytestmark = pytest.mark.backend("torch")

# Widths that differ, so that none can stand in the place of another.
WIDTHS = {"filters": 2, "segmentor_filters": 3, "extractor_filters": 4, "discriminator_filters": 5, "num_levels": 3}


@pytest.fixture(scope="module")
def networks():
    return harmonize_torch.Networks(sizes(WIDTHS))


def sizes(changes):
    values = {name: value for name, value in HARMONIZE.items() if name != "labels"}
    return harmonize_torch.Sizes(**values | changes, num_classes=len(HARMONIZE["labels"]))


def test_its_networks_have_as_many_parameters_as_ours(networks):
    ours = Harmonize(HarmonizeConfig(**HARMONIZE | WIDTHS))
    for group in ("generators", "extractors", "segmentors", "discriminators"):
        for name in DOMAINS:
            found = sum(math.prod(v.shape) for v in getattr(ours, group)[name].trainable_variables)
            assert found == number_of_parameters(getattr(networks, group)[name]), group


def test_those_of_the_papers_size_have_the_public_codes_counts_less_what_it_never_uses():
    with torch.device("meta"):
        networks = harmonize_torch.Networks(harmonize_torch.Sizes())
    counted = {
        group: number_of_parameters(getattr(networks, group)["source"])
        for group in ("generators", "extractors", "segmentors", "discriminators")
    }
    assert counted == {
        "generators": 59_935_105 - 10_229_760 - 14_659_776,
        "extractors": 14_659_776 - (7 * 7 - 4 * 4) * 512 * 512,
        "segmentors": 57_533_720,
        "discriminators": 660_929,
    }
    assert harmonize.HarmonizeConfig().image_size == harmonize_torch.Sizes().image_size


def test_a_step_moves_every_network(networks):
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    losses = harmonize_torch.step(networks, harmonize_torch.optimizers_of(networks), 2)
    assert all(math.isfinite(loss) for loss in losses)
    # What an instance norm takes away again has no gradient: biases, and extractors that dropout switched off.
    still = {name for name, p in networks.named_parameters() if torch.equal(p, before[name])}
    assert not [name for name in still if name.endswith("weight") and "extractors" not in name]


def test_networks_of_another_size_are_an_error():
    with pytest.raises(RuntimeError, match="networks of 7 parameters"):
        harmonize_torch.measure(7, sizes(WIDTHS)._asdict())
