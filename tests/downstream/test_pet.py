"""The network that draws PET: what it learns, what its gates do, and what it refuses."""

import numpy as np
import pytest

from tfdisent.downstream.pet import PETSynthesizer
from tfdisent.networks import attention_unet


def slices(count, seed=0):
    """Slices (N, 16, 16, 2) of two tissues, and PET, which takes up the one and not the other."""
    random = np.random.default_rng(seed)
    tissue = random.uniform(size=(count, 4, 4)).repeat(4, axis=1).repeat(4, axis=2) > 0.5
    noise = 0.05 * random.normal(size=(count, 16, 16, 2))
    images = np.stack([tissue, ~tissue], axis=-1) + noise
    return images.astype("float32"), np.where(tissue, 0.6, -0.6)[..., None].astype("float32")


@pytest.fixture(scope="module")
def network():
    return PETSynthesizer((16, 16, 2), filters=4, num_levels=2)


@pytest.mark.backend("torch")
def test_it_learns_the_uptake_of_tissues_and_a_change_hides_them():
    images, pet = slices(32)
    learnt, blind = (PETSynthesizer((16, 16, 2), filters=4, num_levels=2) for _ in range(2))
    settings = {"epochs": 15, "batch_size": 8, "learning_rate": 2e-2}
    report = learnt.fit(images, pet, **settings)
    blind.fit(images, pet, **settings, change=lambda given, random: np.zeros_like(given))
    assert report["steps"] == 60
    images, pet = slices(16, seed=1)
    error, without = (np.abs(one.predict(images) - pet[..., 0]).mean() for one in (learnt, blind))
    assert error < 0.3 < 0.45 < without


def test_it_draws_in_the_range_of_pet_whatever_the_batch(network):
    images, _ = slices(5)
    made = network.predict(100 * images)
    assert made.shape == (5, 16, 16) and np.abs(made).max() <= 1
    np.testing.assert_allclose(network.predict(100 * images, batch_size=2), made, atol=1e-5)
    assert network.predict(images[:0]).shape == (0, 16, 16)


def test_a_gate_that_is_shut_lets_nothing_of_its_size_through():
    made = attention_unet((16, 16, 1), filters=4, num_levels=2)
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 1)).astype("float32")
    gate = next(layer for layer in made.layers if layer.name == "gate_8")
    kernel, _ = gate.get_weights()
    outputs = []
    for bias in (-1e4, 1e4):
        gate.set_weights([0 * kernel, np.array([bias], "float32")])
        outputs.append(made.predict_on_batch(image))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-4
    assert all(0 <= layer.output.shape[-1] == 1 for layer in made.layers if layer.name.startswith("gate_"))


IMAGES, PET = np.zeros((2, 16, 16, 2), "float32"), np.zeros((2, 16, 16, 1), "float32")


@pytest.mark.parametrize(
    "images, pet, options, message",
    [
        (IMAGES[..., :1], PET, {}, r"shape \(N, 16, 16, 2\), which this PETSynthesizer was made for"),
        (IMAGES * np.nan, PET, {}, "images to be finite"),
        (IMAGES, PET[:1], {}, r"PET to be \(2, 16, 16, 1\) floats"),
        (IMAGES, PET.astype(int), {}, "floats, received .* of int64"),
        (IMAGES, PET + 3, {}, r"PET to lie in \[-1, 1\] and be finite, received 3.0 to 3.0"),
        (IMAGES[:0], PET[:0], {}, "slices with PET to learn from, received none"),
        (IMAGES, PET, {"epochs": 0}, "epochs and batch_size to be 1 or more"),
        (IMAGES, PET, {"learning_rate": 0}, "learning_rate above 0"),
    ],
)
def test_impossible_trainings_are_refused(network, images, pet, options, message):
    with pytest.raises(ValueError, match=message):
        network.fit(images, pet, **options)


@pytest.mark.parametrize("shape, levels", [((16, 16), 2), ((16, 20, 1), 3), ((16, 16, 1), 1)])
def test_impossible_networks_are_refused(shape, levels):
    with pytest.raises(ValueError, match="Expected"):
        PETSynthesizer(shape, filters=2, num_levels=levels)
