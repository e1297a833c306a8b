import keras
import numpy as np
import pytest

from tfdisent.downstream import classifier
from tfdisent.downstream.classifier import ImageClassifier, PositionRegressor

# Keras reads variables with `np.array(variable)` when it saves, which numpy >= 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def _blobs(num_images, *, size=16, seed=0):
    """Images with one bright blob: its colour is the label (0 or 1), its centre the factors."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, num_images)
    factors = rng.uniform(-0.6, 0.6, (num_images, 2))
    grid = np.linspace(-1, 1, size)
    squared = (grid - factors[:, :1, None]) ** 2 + (grid[:, None] - factors[:, 1:, None]) ** 2
    blob = 2 * np.exp(-8 * squared)[..., None]
    colours = np.array([[1.0, 0.2, 0.2], [0.2, 0.2, 1.0]])[labels][:, None, None]
    return (blob * colours - 1).astype("float32"), labels, factors


@pytest.fixture(scope="module")
def judge():
    images, labels, _ = _blobs(128)
    judge = ImageClassifier(2, (16, 16, 3), kind="convnet", features_dim=24)
    judge.fit(images, labels, epochs=15, batch_size=32, learning_rate=4e-3)
    return judge


def test_classifier_learns_and_gives_features_and_logits(judge):
    images, labels, _ = _blobs(50, seed=1)
    assert judge.accuracy(images, labels) > 0.95
    assert judge.features(images).shape == (50, 24)
    assert judge.features(images).dtype == np.float32
    assert judge.logits(images).shape == (50, 2)


def test_outputs_do_not_depend_on_the_batch_size(judge):
    images, _, _ = _blobs(10)
    np.testing.assert_allclose(judge.features(images, batch_size=3), judge.features(images), atol=1e-5)
    assert judge.features(images[:0]).shape == (0, 24)


def test_logits_are_a_linear_function_of_the_features(judge):
    images, _, _ = _blobs(10)
    kernel, bias = judge.network.get_layer("logits").get_weights()
    np.testing.assert_allclose(judge.features(images) @ kernel + bias, judge.logits(images), atol=1e-4)


def test_saved_classifier_gives_the_same_outputs(judge, tmp_path):
    images, _, _ = _blobs(10)
    judge.save(tmp_path / "judge")
    assert sorted(p.name for p in (tmp_path / "judge").iterdir()) == [
        "config.json",
        "judge.npz",
    ]
    loaded = ImageClassifier.load(tmp_path / "judge")
    np.testing.assert_allclose(loaded.logits(images), judge.logits(images), atol=1e-6)
    assert loaded.description == judge.description == ("small convnet, 24-d, from scratch, trained on the data set")


def test_loading_says_what_is_wrong_with_the_folder(judge, tmp_path):
    with pytest.raises(FileNotFoundError, match="no judge is saved here"):
        ImageClassifier.load(tmp_path)
    judge.save(tmp_path)
    with pytest.raises(ValueError, match="not a saved PositionRegressor"):
        PositionRegressor.load(tmp_path)


def test_the_same_seed_gives_the_same_judge():
    images, labels, _ = _blobs(32)

    def outputs(seed):
        judge = ImageClassifier(2, (16, 16, 3), kind="convnet", features_dim=4, seed=seed)
        judge.fit(images, labels, steps=2, seed=seed)
        return judge.logits(images)

    first = outputs(1)
    np.testing.assert_allclose(outputs(1), first, atol=1e-5)
    assert np.abs(outputs(2) - first).max() > 1e-3


def test_judges_compute_in_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        judge = ImageClassifier(2, (16, 16, 3), kind="convnet", features_dim=4)
        assert {layer.compute_dtype for layer in judge.network.layers} == {"float32"}
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)


def test_large_and_oblong_images_are_shrunk_with_antialias():
    judge = ImageClassifier(2, (256, 128, 1), kind="convnet", features_dim=4)
    stripes = np.zeros((1, 256, 128, 1), "float32")
    stripes[:, ::2], stripes[:, 1::2] = 1, -1  # finer than what is left: must average out
    shrunk = keras.ops.convert_to_numpy(classifier._resize(stripes, (64, 32)))
    np.testing.assert_allclose(shrunk[:, 1:-1], 0, atol=1e-5)
    assert np.isfinite(judge.features(stripes)).all()


def test_regressor_locates_the_blob(tmp_path):
    images, _, factors = _blobs(256)
    factors = 100 * factors + 7  # any units
    judge = PositionRegressor(2, (16, 16, 3), width=24)
    judge.fit(images, factors, epochs=12, batch_size=32, learning_rate=5e-3)
    test_images, _, test_factors = _blobs(50, seed=1)
    error = judge.predict(test_images) - (100 * test_factors + 7)
    assert np.sqrt(np.mean(error**2)) < 6  # of a range of 120
    judge.save(tmp_path)
    loaded = PositionRegressor.load(tmp_path)
    np.testing.assert_allclose(loaded.predict(test_images), judge.predict(test_images), rtol=1e-5)


def test_regressor_refuses_what_it_cannot_learn():
    images, _, factors = _blobs(8)
    judge = PositionRegressor(2, (16, 16, 3), width=4)
    with pytest.raises(ValueError, match="cannot use 'symmetry'"):
        judge.fit(images, factors, epochs=1, augment=("symmetry",))
    with pytest.raises(ValueError, match=r"factors to be finite and \(8, 2\)"):
        judge.fit(images, factors[:, :1], epochs=1)
    with pytest.raises(ValueError, match="Factor 1 is constant"):
        judge.fit(images, factors * [1, 0], epochs=1)


def test_images_that_do_not_fit_are_refused(judge):
    images, labels, _ = _blobs(4)
    with pytest.raises(ValueError, match=r"shape \(N, 16, 16, 3\)"):
        judge.features(images[:, :8])
    with pytest.raises(ValueError, match="received uint8. For uint8: images / 127.5 - 1"):
        judge.features(images.astype("uint8"))
    with pytest.raises(ValueError, match=r"to lie in \[-1, 1\]"):
        judge.features(images * 3)
    with pytest.raises(ValueError, match="finite"):
        judge.features(images * np.nan)
    with pytest.raises(ValueError, match="labels to be 4 integers"):
        judge.accuracy(images, labels[:3])
    with pytest.raises(ValueError, match=r"labels to lie in \[0, 2\)"):
        judge.accuracy(images, labels + 1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "resnet"}, "kind to be one of"),
        ({"kind": "inception", "features_dim": 96}, "768 wide"),
        ({"kind": "convnet", "features_dim": 2}, "features_dim to be 4 or more"),
        ({"num_classes": 1}, "num_classes to be 2 or more"),
        ({"image_shape": (16, 16)}, r"image_shape to be \(H, W, C\)"),
    ],
)
def test_impossible_judges_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**{"num_classes": 2, "image_shape": (16, 16, 3), **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "either epochs or steps"),
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({"steps": 0}, "at least one step"),
        ({"steps": 1, "augment": ("shear",)}, "augment to be a sequence of"),
        ({"steps": 1, "augment": "blur"}, "augment to be a sequence of"),
    ],
)
def test_impossible_trainings_are_refused(judge, arguments, message):
    images, labels, _ = _blobs(4)
    with pytest.raises(ValueError, match=message):
        judge.fit(images, labels, **arguments)


def test_symmetry_gives_all_eight_and_keeps_the_values():
    image = np.arange(4.0, dtype="float32").reshape(1, 2, 2, 1) / 4
    rng = np.random.default_rng(0)
    turned = classifier._augmented(image.repeat(200, axis=0), ("symmetry",), rng)
    assert len({tuple(picture.ravel()) for picture in turned}) == 8
    np.testing.assert_array_equal(np.sort(turned.reshape(200, 4)), [[0, 0.25, 0.5, 0.75]] * 200)


def test_blur_keeps_flat_images_and_noise_stays_in_range():
    rng = np.random.default_rng(0)
    flat = np.full((20, 8, 8, 1), 0.3, "float32")
    np.testing.assert_allclose(classifier._augmented(flat, ("blur",), rng), flat, atol=1e-6)
    noisy = classifier._augmented(np.ones((20, 8, 8, 1), "float32"), ("noise",), rng)
    assert noisy.max() <= 1 and noisy.min() < 1
    assert 0 < (noisy == 1).all(axis=(1, 2, 3)).sum() < 20  # some images are left clean


def _statistics(judge):
    """Batch norm's moving averages, and those after one training batch."""
    variables = judge.network.get_layer("mixed3").non_trainable_variables
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    judge.network(np.ones((2, *judge.image_shape), "float32"), training=True)
    return before, [keras.ops.convert_to_numpy(variable) for variable in variables]


def test_inception_without_imagenet_weights_warns_and_starts_from_scratch(monkeypatch, tmp_path):
    build = keras.applications.InceptionV3

    def offline(*arguments, weights=None, **options):
        if weights is not None:
            raise Exception("URL fetch failure")
        return build(*arguments, weights=weights, **options)

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.warns(UserWarning, match="URL fetch failure.*starts from random weights"):
        judge = ImageClassifier(2, (16, 16, 3))
    assert judge.weights_source == "scratch"
    assert judge.description.startswith("InceptionV3 to mixed3, 768-d, from scratch")
    assert judge.network.get_layer("mixed3").input_shape[1:] == (75, 75, 3)  # enlarged inside
    before, after = _statistics(judge)
    assert all(np.abs(new - old).max() > 0 for new, old in zip(after, before, strict=True))
    judge.save(tmp_path)
    loaded = ImageClassifier.load(tmp_path)
    assert loaded.weights_source == "scratch"
    images, _, _ = _blobs(2)
    features = loaded.features(images)
    assert features.shape == (2, 768)
    expected = judge.network(images, training=False)["features"]
    np.testing.assert_allclose(features, keras.ops.convert_to_numpy(expected), atol=1e-4)


def test_inception_starts_from_imagenet_weights_and_keeps_their_statistics(monkeypatch):
    build = keras.applications.InceptionV3
    downloaded = []

    def online(*arguments, weights=None, **options):
        model = build(*arguments, weights=None, **options)
        if weights == "imagenet":
            downloaded.append(model.layers[1].get_weights()[0])
        return model

    monkeypatch.setattr(keras.applications, "InceptionV3", online)
    judge = ImageClassifier(2, (16, 16, 1))  # one channel is shown three times
    assert judge.weights_source == "imagenet"
    trunk = judge.network.get_layer("mixed3")
    np.testing.assert_array_equal(trunk.layers[1].get_weights()[0], downloaded[0])
    for before, after in zip(*_statistics(judge), strict=True):
        np.testing.assert_array_equal(after, before)
    assert trunk.trainable_variables  # the convolutions still learn
