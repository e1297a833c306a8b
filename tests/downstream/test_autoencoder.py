"""The autoencoder that compares scanners: its size is the paper's, and it tells and makes what it was trained on."""

import keras
import numpy as np
import pytest

from tfdisent.downstream.autoencoder import DomainAutoencoder
from tfdisent.downstream.judge import fit_domain_autoencoder

# Keras reads variables with `np.array(variable)` when it saves, which numpy >= 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def waves(count, seed=0):
    """A wave of some direction and phase, smooth in domain 0 and grainy in domain 1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] / 16
    angle, phase = random.uniform(0, 2 * np.pi, (2, count, 1, 1))
    images = 0.7 * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) + phase)[..., None]
    domains = np.arange(count) % 2
    images += 0.2 * domains[:, None, None, None] * random.normal(size=images.shape)
    return np.clip(images, -1, 1).astype("float32"), domains


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    found = fit_domain_autoencoder(*waves(192), filters=4, num_blocks=1, epochs=50, directory=folder)
    return found, folder


def test_the_paper_s_network_has_the_parameters_of_the_public_code():
    network = DomainAutoencoder((128, 128, 1)).network
    trained = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert trained == 9_929_090 + 1025  # a logit for each of two domains, and not one for both
    assert network.output["features"].shape == (None, 1024)


def test_it_tells_the_domain_of_images_that_it_has_not_seen_and_makes_them_again(judge):
    images, domains = waves(40, seed=1)
    assert (judge[0].told(images) == domains).mean() > 0.9
    made = judge[0].network.predict_on_batch(images)["reconstruction"]
    smooth = domains == 0
    followed = np.corrcoef(made[smooth].ravel(), images[smooth].ravel())[0, 1]
    assert followed > 0.6 > np.corrcoef(made[smooth].ravel(), images[smooth][::-1].ravel())[0, 1]


def test_a_kept_one_is_loaded_and_gives_the_same(judge):
    images, _ = waves(6, seed=2)
    loaded = DomainAutoencoder.load(judge[1])
    np.testing.assert_allclose(loaded.features(images), judge[0].features(images), atol=1e-6)
    stamp = (judge[1] / "judge.npz").stat().st_mtime_ns
    fit_domain_autoencoder(*waves(192), filters=4, num_blocks=1, epochs=50, directory=judge[1])
    assert (judge[1] / "judge.npz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DomainAutoencoder((20, 16, 1)), "multiples of 8"),
        (lambda: DomainAutoencoder((16, 16, 1), 1), "num_domains of 2 or more"),
        (
            lambda: DomainAutoencoder((16, 16, 1), filters=2, num_blocks=0).fit(waves(4)[0], np.arange(4), steps=1),
            r"domains to lie in \[0, 2\)",
        ),
        (
            lambda: DomainAutoencoder((16, 16, 1), filters=2, num_blocks=0).fit(waves(4)[0], np.zeros(4), steps=1),
            "domains to be 4 integers",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert keras.config.dtype_policy().name == "float32"
