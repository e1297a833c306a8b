import numpy as np
import pytest

from tfdisent import metrics
from tfdisent.downstream import judge

# Keras reads variables with `np.array(variable)` when it saves, which numpy >= 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (24, 8, 8, 1)).astype("float32")


@pytest.fixture
def fits(monkeypatch):
    """Counts how often a classifier is fitted."""
    count = []
    fit = judge.ImageClassifier.fit
    monkeypatch.setattr(
        judge.ImageClassifier,
        "fit",
        lambda *arguments, **options: (count.append(1), fit(*arguments, **options))[1],
    )
    return count


def test_features_of_a_fitted_classifier_feed_the_distances(images):
    labels = np.arange(24) % 2
    classifier = judge.fit_classifier(images, labels, 2, kind="convnet", epochs=1)
    mean, _ = metrics.kernel_distance(classifier.features(images[:12]), classifier.features(images[12:]))
    assert np.isfinite(mean)
    assert 1 <= metrics.inception_score(classifier.logits(images)) <= 2


def test_a_judge_is_kept_and_fitted_anew_when_its_data_change(images, fits, tmp_path):
    def fitted(labels):
        return judge.fit_classifier(images, labels, 2, kind="convnet", epochs=1, directory=tmp_path / "judge")

    labels = np.arange(24) % 2
    first = fitted(labels)
    again = fitted(labels)
    assert len(fits) == 1
    np.testing.assert_allclose(again.logits(images), first.logits(images), atol=1e-6)
    fitted(1 - labels)
    assert len(fits) == 2


def test_a_position_regressor_is_kept_too(images, tmp_path):
    factors = np.random.default_rng(0).normal(size=(24, 2))
    first = judge.fit_position_regressor(images, factors, epochs=1, directory=tmp_path)
    again = judge.fit_position_regressor(images, factors, epochs=1, directory=tmp_path)
    assert first.predict(images).shape == (24, 2)
    np.testing.assert_allclose(again.predict(images), first.predict(images), atol=1e-6)


def test_a_kept_judge_that_is_damaged_is_fitted_anew(images, fits, tmp_path, capsys):
    def fitted():
        labels = np.arange(24) % 2
        return judge.fit_classifier(images, labels, 2, kind="convnet", epochs=1, directory=tmp_path)

    first = fitted()
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-50]), lambda path: path.unlink()):
        damage(tmp_path / "judge.npz")
        np.testing.assert_allclose(fitted().logits(images), first.logits(images), atol=1e-5)
        assert "judge.npz" in "".join(capsys.readouterr())
    assert len(fits) == 3
