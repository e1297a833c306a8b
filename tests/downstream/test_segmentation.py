import keras
import numpy as np
import pytest

from tfdisent import metrics
from tfdisent.downstream.segmentation import NVNet, Segmentor


def _discs(num_images, *, num_labels=1, seed=0):
    """Noisy slices (N, 32, 32, 2) in [-1, 1], two contrasts of a head with a disc in it, and masks of the discs.

    A disc of label 1 is bright in the first contrast and dark in the second, one of label 2 the other way round. Every
    fourth slice has none.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, num_labels + 1, num_images)
    labels[::4] = 0
    centres = rng.uniform(-0.4, 0.4, (2, num_images, 1, 1))
    radii = rng.uniform(0.2, 0.4, (num_images, 1, 1))
    grid = np.linspace(-1, 1, 32)
    inside = np.hypot(grid - centres[0], grid[:, None] - centres[1]) < radii
    masks = (inside * labels[:, None, None]).astype("uint8")
    disc = np.array([0, 0.3, -0.3])[masks]
    head = 0.6 * (np.hypot(grid, grid[:, None]) < 0.9) - 0.3
    images = np.stack([head + disc, head - disc], axis=-1)
    return (images + rng.normal(0, 0.05, images.shape)).clip(-1, 1).astype("float32"), masks


@pytest.fixture(scope="module")
def segmentor():
    images, masks = _discs(64)
    segmentor = Segmentor((32, 32, 2), filters=8, num_levels=2)
    report = segmentor.fit(images, masks, epochs=8, batch_size=16, learning_rate=2e-2)
    assert report["steps"] == 8 * 4
    assert 0 < report["loss"] < 0.2
    return segmentor


def test_it_learns_discs_and_leaves_slices_without_any_empty(segmentor):
    images, masks = _discs(40, seed=1)
    predicted = segmentor.predict(images)
    assert predicted.shape == masks.shape
    assert predicted.dtype == np.uint8
    scores = metrics.dice(masks, predicted, (1,), smooth=1)
    assert scores[masks.any(axis=(1, 2))].mean() > 0.9
    assert scores[::4].mean() > 0.9


def test_probabilities_are_thresholded_at_a_half(segmentor):
    images, _ = _discs(4, seed=1)
    probabilities = segmentor.probabilities(images)
    assert probabilities.shape == (4, 32, 32, 1)
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(segmentor.predict(images), probabilities[..., 0] > 0.5)


def test_the_scale_of_a_channel_is_all_the_same_to_it(segmentor):
    # Real contrasts in [0, 1] beside synthesised ones in [-1, 1], which the public code mixes.
    images, _ = _discs(8, seed=1)
    mixed = images.copy()
    mixed[..., 0] = (mixed[..., 0] + 1) / 2
    expected = segmentor.probabilities(images)
    np.testing.assert_allclose(segmentor.probabilities(mixed), expected, atol=1e-3)
    as_stored = np.rint(images * 1000 + 1000).astype("int16")
    np.testing.assert_allclose(segmentor.probabilities(as_stored), expected, atol=1e-2)


def test_channels_without_any_signal_are_no_trouble(segmentor):
    blank = np.full((2, 32, 32, 2), -1, "float32")
    assert np.isfinite(segmentor.probabilities(blank)).all()


def test_outputs_do_not_depend_on_the_batch_size(segmentor):
    images, _ = _discs(7)
    np.testing.assert_allclose(
        segmentor.probabilities(images, batch_size=3), segmentor.probabilities(images), atol=1e-5
    )
    assert segmentor.predict(images[:0]).shape == (0, 32, 32)


@pytest.mark.backend("torch")
@pytest.mark.parametrize(
    "kind, size", [(Segmentor, {"filters": 2, "num_levels": 2, "standardize": False}), (NVNet, {"filters": 8})]
)
def test_whichever_segmentor_was_saved_is_loaded_and_part_of_a_graph(kind, size, tmp_path):
    made = kind((16, 16, 2), 2, seed=1, **size)
    made.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "segmentor.npz"}
    loaded, images = Segmentor.load(tmp_path), np.random.default_rng(0).normal(size=(2, 16, 16, 2)).astype("float32")
    assert type(loaded) is type(made)
    found = keras.ops.convert_to_numpy(loaded.label_probabilities(images))
    assert found.shape == (2, 16, 16, 2)
    np.testing.assert_allclose(found, made.probabilities(images), atol=1e-5)


def test_loading_says_what_is_wrong_with_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no segmentor is saved here"):
        Segmentor.load(tmp_path)
    (tmp_path / "config.json").write_text('{"judge": "ImageClassifier"}')
    with pytest.raises(ValueError, match="not a saved Segmentor"):
        Segmentor.load(tmp_path)


def test_several_labels_are_told_apart():
    images, masks = _discs(96, num_labels=2)
    segmentor = Segmentor((32, 32, 2), 2, filters=8, num_levels=2)
    segmentor.fit(images, masks, epochs=12, batch_size=16, learning_rate=1e-2)
    images, masks = _discs(40, num_labels=2, seed=1)
    predicted = segmentor.predict(images)
    for label in (1, 2):
        assert np.nanmean(metrics.dice(masks, predicted, (label,))) > 0.8
    probabilities = segmentor.probabilities(images)
    assert probabilities.shape == (40, 32, 32, 2)
    assert 0 <= probabilities.min() and probabilities.sum(axis=-1).max() < 1.0001


def test_the_same_seeds_give_the_same_segmentor():
    images, masks = _discs(16)

    def trained(order):
        segmentor = Segmentor((32, 32, 2), filters=4, num_levels=1, seed=1)
        segmentor.fit(images, masks, epochs=2, batch_size=8, learning_rate=1e-2, seed=order)
        return segmentor.probabilities(images)

    first = trained(order=1)
    np.testing.assert_allclose(trained(order=1), first, atol=1e-5)
    assert np.abs(trained(order=2) - first).max() > 1e-3
    kernels = [Segmentor((8, 8, 1), num_levels=1, seed=k).network.get_weights()[0] for k in (1, 2)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_at_full_width_it_has_the_parameters_of_the_public_code():
    network = Segmentor((128, 128, 4)).network
    trainable = sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)
    assert trainable == 6_129_025
    convolutions = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    widths = [layer.filters for layer in network.layers if isinstance(layer, convolutions)]
    assert widths == [64, 128, 256, 512, 512, 256, 128, 1]


def test_it_computes_in_float32_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        segmentor = Segmentor((16, 16, 1), filters=4)
        assert {layer.compute_dtype for layer in segmentor.network.layers} == {"float32"}
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.backend("torch")
def test_shapes_and_values_are_those_of_pytorchs_layers():
    import torch

    segmentor = Segmentor((8, 8, 3), filters=4, num_levels=1)
    down, up = (layer for layer in segmentor.network.layers if "conv" in layer.name)
    kernels = [torch.tensor(layer.get_weights()[0].transpose(3, 2, 0, 1)) for layer in (down, up)]
    images = torch.randn(2, 3, 8, 8)
    standard = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True, correction=0)
    h = torch.relu(torch.nn.functional.conv2d(standard, kernels[0], stride=2, padding=1))
    h = torch.nn.functional.conv_transpose2d(h, kernels[1], stride=2, padding=1, output_padding=1)
    expected = torch.sigmoid(h)[:, 0].numpy()
    got = segmentor.probabilities(images.permute(0, 2, 3, 1).numpy())[..., 0]
    np.testing.assert_allclose(got, expected, atol=1e-4)


IMAGES, MASKS = np.zeros((4, 32, 32, 2)), np.ones((4, 32, 32), int)


@pytest.mark.parametrize(
    "images, masks, message",
    [
        (IMAGES[..., :1], MASKS, r"shape \(N, 32, 32, 2\), which this Segmentor was made for"),
        (IMAGES[0], MASKS, r"shape \(N, 32, 32, 2\)"),
        (IMAGES * np.nan, MASKS, "images to be finite, received 8192 values"),
        (IMAGES, MASKS[:3], r"masks to be \(4, 32, 32\), one per image"),
        (IMAGES, MASKS[:, :16], r"masks to be \(4, 32, 32\)"),
        (IMAGES, MASKS * 0.5, "of integers or booleans, received shape .* of float64"),
        (IMAGES, MASKS * 4, "masks to hold labels 0 to 1, received 4 to 4. For one foreground: masks"),
        (IMAGES, -MASKS, "masks to hold labels 0 to 1, received -1 to -1"),
    ],
)
def test_images_and_masks_that_do_not_fit_are_refused(segmentor, images, masks, message):
    with pytest.raises(ValueError, match=message):
        segmentor.fit(images, masks, epochs=1)


def test_masks_without_any_label_are_nothing_to_learn(segmentor):
    with pytest.raises(ValueError, match="The 4 masks are all empty: nothing to learn"):
        segmentor.fit(IMAGES, MASKS * 0)
    with pytest.raises(ValueError, match="The 0 masks are all empty"):
        segmentor.fit(IMAGES[:0], MASKS[:0])


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"smooth": 0}])
def test_impossible_trainings_are_refused(segmentor, options):
    with pytest.raises(ValueError, match="epochs and batch_size to be 1 or more"):
        segmentor.fit(IMAGES, MASKS, **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image_shape": (32, 32)}, r"image_shape to be \(H, W, C\)"),
        ({"image_shape": (32, 40, 1)}, "to be multiples of 16, received image_shape"),
        ({"num_labels": 0}, r"num_labels to lie in \[1, 255\]"),
        ({"filters": 0}, "filters and num_levels to be 1 or more"),
        ({"num_levels": 0}, "filters and num_levels to be 1 or more"),
    ],
)
def test_impossible_segmentors_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Segmentor(**{"image_shape": (32, 32, 1), **arguments})


def test_the_cross_entropy_finds_a_small_label_beside_large_ones():
    """Three labels, of which the last is four pixels in every slice: the Dice loss alone may lose it."""
    random = np.random.default_rng(0)
    masks = np.zeros((48, 16, 16), np.uint8)
    masks[:, 2:14, 2:14] = 1
    masks[:, 5:11, 5:11] = 2
    for mask, (row, column) in zip(masks, random.integers(3, 12, (48, 2)), strict=True):
        mask[row : row + 2, column : column + 2] = 3
    images = (np.array([-1, 0.1, 0.5, 1])[masks] + 0.05 * random.normal(size=masks.shape))[..., None]
    segmentor = Segmentor((16, 16, 1), 3, filters=8, num_levels=2, standardize=False)
    segmentor.fit(images, masks, epochs=60, batch_size=16, learning_rate=3e-3, class_weights=(1, 1, 1, 4))
    found = segmentor.predict(images)
    assert (found == masks).mean() > 0.97 and ((found == 3) & (masks == 3)).sum() > 0.8 * (masks == 3).sum()


@pytest.mark.parametrize("class_weights", [(1, 1), (1, 1, 1, -1)])
def test_class_weights_are_one_for_each_class(class_weights):
    masks = np.ones((1, 16, 16), np.uint8)
    with pytest.raises(ValueError, match="for the background and 3 labels"):
        Segmentor((16, 16, 1), 3, filters=2, num_levels=1).fit(
            np.zeros((1, 16, 16, 1)), masks, class_weights=class_weights
        )


def test_without_standardisation_a_segmentor_sees_a_scanner_s_gain():
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 1))
    for standardize in (True, False):
        segmentor = Segmentor((16, 16, 1), filters=2, num_levels=1, standardize=standardize)
        one, two = (segmentor.probabilities(gain * images) for gain in (1, 3))
        assert np.allclose(one, two, atol=1e-3) == standardize


def test_what_a_change_makes_of_the_images_is_learnt_from():
    images, masks = _discs(8)
    seen = []

    def change(given, random):
        seen.append((given.shape, random.integers(1000)))
        return given[..., :2]

    segmentor = Segmentor((32, 32, 2), filters=2, num_levels=1)
    wide = np.concatenate([images, np.full_like(images, np.nan)], axis=-1)  # of which the network is to see nothing
    segmentor.fit(wide, masks, epochs=2, batch_size=4, change=change)
    assert [shape for shape, _ in seen] == 4 * [(4, 32, 32, 4)]
    assert len({draw for _, draw in seen}) > 2  # another draw for each batch
    assert np.isfinite(segmentor.probabilities(images)).all()


# --- NVNet ---


@pytest.fixture(scope="module")
def nvnet():
    """As small as it can be: (16, 16, 2), two labels."""
    return NVNet((16, 16, 2), 2, filters=8, latent_dim=4)


@pytest.mark.backend("torch")
def test_nvnet_learns_squares_and_to_draw_its_input():
    random = np.random.default_rng(0)
    masks = np.zeros((8, 16, 16), np.uint8)
    for mask, (row, column) in zip(masks, random.integers(2, 8, (8, 2)), strict=True):
        mask[row : row + 6, column : column + 6] = 1
    images = (masks + 0.05 * random.normal(size=masks.shape))[..., None]
    network = NVNet((16, 16, 1), filters=8, latent_dim=4)
    before = network.learner.predict_on_batch(images)["reconstruction"]
    network.fit(images, masks, epochs=30, batch_size=8, learning_rate=3e-3, class_weights=(1, 3))
    after = network.learner.predict_on_batch(images)["reconstruction"]
    assert metrics.dice(masks, network.predict(images), (1,)).mean() > 0.8
    assert np.square(after - images).mean() < 0.8 * np.square(before - images).mean()


def test_nvnets_losses_are_dice_with_squares_and_a_tenth_of_the_branchs(nvnet):
    random = np.random.default_rng(0)
    found = random.dirichlet(np.ones(3), (2, 16, 16)).astype("float32")
    true = np.eye(3, dtype="float32")[random.integers(3, size=(2, 16, 16))][..., 1:]
    settings = nvnet._settings(1e-3, 10, 1.0, None)
    ours = found[..., 1:]
    expected = [1 - 2 * (ours * true)[..., k].sum() / (ours**2 + true**2)[..., k].sum() for k in (0, 1)]
    labels = keras.ops.convert_to_numpy(settings["loss"]["labels"](true, found))
    assert float(labels) == pytest.approx(np.mean(expected), abs=1e-5)
    weighted = nvnet._settings(1e-3, 10, 1.0, (1, 5, 3))["loss"]["labels"]
    whole = np.concatenate([1 - true.sum(-1, keepdims=True), true], axis=-1)
    entropy = -(np.array([1, 5, 3]) * whole * np.log(found)).sum(-1).mean()
    assert float(keras.ops.convert_to_numpy(weighted(true, found))) == pytest.approx(np.mean(expected) + entropy, 1e-4)
    moments = np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]], "float32")
    divergence = keras.ops.convert_to_numpy(settings["loss"]["moments"](None, moments))
    np.testing.assert_allclose(divergence, [0.5 / 4, 0], atol=1e-6)
    assert settings["loss"]["reconstruction"] == "mse"
    assert settings["loss_weights"] == {"labels": 1, "reconstruction": 0.1, "moments": 0.1}
    rate = settings["optimizer"].learning_rate
    assert float(keras.ops.convert_to_numpy(rate)) == pytest.approx(1e-3)


def test_nvnet_predicts_without_its_branch(nvnet):
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 2))
    probabilities = nvnet.probabilities(images)
    assert probabilities.shape == (3, 16, 16, 2) and 0 <= probabilities.min() <= probabilities.max() <= 1
    assert set(nvnet.learner.output) == {"labels", "reconstruction", "moments"}
    assert nvnet.network.count_params() < nvnet.learner.count_params()


@pytest.mark.backend("torch")
def test_nvnet_takes_volumes():
    network = NVNet((16, 16, 32, 1), filters=8, latent_dim=2)
    volumes = np.random.default_rng(0).normal(size=(1, 16, 16, 32, 1))
    report = network.fit(volumes, volumes[..., 0] > 1, epochs=1, batch_size=1)
    assert np.isfinite(report["loss"]) and report["steps"] == 1
    assert network.predict(volumes).shape == (1, 16, 16, 32)


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((16, 24, 1), {}, r"sides that are multiples of 16, received \(16, 24, 1\)"),
        ((16, 1), {}, r"\(H, W, C\) or \(D, H, W, C\)"),
        ((16, 16, 1), {"filters": 12}, "filters to be a multiple of 8, received 12"),
        ((16, 16, 1), {"num_labels": 0}, r"num_labels to lie in \[1, 255\]"),
    ],
)
def test_impossible_nvnets_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        NVNet(shape, **options)


def test_nvnet_has_the_papers_blocks_at_four_sizes(nvnet):
    widths = [layer.filters for layer in nvnet.network.layers if isinstance(layer, keras.layers.Conv2D)]
    down = [8, *2 * [8], *[16] * 5, *[32] * 5, *[64] * 9]  # 1, 2, 2 and 4 blocks of two convolutions
    up = [32, *2 * [32], 16, *2 * [16], 8, *2 * [8], 3]
    assert sorted(widths) == sorted(down + up)
