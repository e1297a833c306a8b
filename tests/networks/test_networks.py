"""Encoders, decoders and discriminators: sizes of the published ones, shapes, what a code does, what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from tfdisent.networks import (
    num_halvings,
    patch_discriminator,
    residual_decoder,
    residual_encoder,
    small_normal,
    spade_decoder,
    strided_unet,
    unet_decoder,
    unet_encoder,
)
from tfdisent.networks.blocks import modulated
from tfdisent.networks.spade import spade


def array(tensor):
    return ops.convert_to_numpy(tensor)


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def unet(**settings):
    return (
        unet_encoder((32, 48, 2), filters=3, num_levels=4, initializer=keras.initializers.HeNormal),
        unet_decoder(
            (32, 48, 1),
            filters=3,
            num_levels=4,
            initializer=keras.initializers.HeNormal,
            **settings,
        ),
    )


def residual(**settings):
    return (
        residual_encoder((32, 48, 2), filters=3, initializer=keras.initializers.HeNormal),
        residual_decoder((32, 48, 1), filters=3, initializer=keras.initializers.HeNormal, **settings),
    )


# --- the published sizes: numbers of parameters that were counted in the public TC-MGAN ---


def test_the_u_net_of_tc_mgan_has_its_41_822_593_parameters():
    # T2 and a one-hot code of three go in as one image of four channels.
    encoder, decoder = unet_encoder((128, 128, 4)), unet_decoder((128, 128, 1))
    assert encoder.count_params() + decoder.count_params() == 41_822_593


def test_the_discriminator_of_tc_mgan_has_its_11_203_520_parameters():
    discriminator = patch_discriminator((128, 128, 2), num_classes=3)
    assert discriminator.count_params() == 11_203_520
    assert [tuple(output.shape) for output in discriminator.outputs] == [(None, 4, 4, 1), (None, 3)]


@pytest.mark.parametrize("channels, code_dim", [(4, 0), (1, 3)])
def test_the_segmentor_of_tc_mgan_has_its_6_129_025_parameters(channels, code_dim):
    segmentor = strided_unet((128, 128, channels), code_dim=code_dim)
    assert sum(int(np.prod(v.shape)) for v in segmentor.trainable_variables) == 6_129_025


def test_nearest_upsampling_needs_nine_sixteenths_of_the_decoders_kernels():
    def kernels(upsampling):
        decoder = unet_decoder((32, 32, 1), filters=4, num_levels=5, upsampling=upsampling)
        return sum(np.prod(v.shape) for v in decoder.variables if len(v.shape) == 4)

    assert kernels("nearest") * 16 == kernels("transposed") * 9


def test_level_0_adds_less_than_a_hundredth_of_the_weights():
    def parameters(**settings):
        return sum(part((128, 128, 1), **settings).count_params() for part in (unet_encoder, unet_decoder))

    assert 1 < parameters(level_0=True) / parameters() < 1.01


# --- encoder and decoder ---


def test_level_0_is_at_full_resolution_and_reaches_the_image_pixel_by_pixel():
    """A pixel of the image changes level_0 in its neighbourhood only, and a feature of level_0 the image likewise."""
    settings = {"filters": 3, "num_levels": 4, "level_0": True, "initializer": keras.initializers.HeNormal}
    encoder, decoder = unet_encoder((32, 48, 1), **settings), unet_decoder((32, 48, 1), code_dim=2, **settings)
    image, code = images(1, 32, 48, 1), ops.eye(2)[:1]
    other = image.copy()
    other[0, 16, 24] += 1.0
    found = {name: array(values) for name, values in encoder(image).items()}
    assert found["level_0"].shape == (1, 32, 48, 3)
    assert set(found) == set(decoder.input) - {"code"} == {f"level_{k}" for k in range(5)}
    moved = np.argwhere(np.abs(found["level_0"] - array(encoder(other)["level_0"]))[0].max(axis=-1) > 0)
    assert len(moved) and np.abs(moved - [16, 24]).max() <= 2
    changed = {**found, "level_0": found["level_0"].copy()}
    changed["level_0"][0, 16, 24] += 1.0
    given = [{name: ops.convert_to_tensor(v) for name, v in features.items()} for features in (found, changed)]
    shown = [array(decoder({**features, "code": code})) for features in given]
    moved = np.argwhere(np.abs(shown[0] - shown[1])[0, ..., 0] > 0)
    assert len(moved) and np.abs(moved - [16, 24]).max() <= 2


def test_a_level_halves_the_map_and_doubles_the_channels_up_to_eight_times():
    encoder = unet_encoder((128, 128, 1), filters=2)
    shapes = {name: tuple(output.shape[1:]) for name, output in encoder.output.items()}
    assert shapes == {
        "level_1": (64, 64, 2),
        "level_2": (32, 32, 4),
        "level_3": (16, 16, 8),
        "level_4": (8, 8, 16),
        "level_5": (4, 4, 16),
        "level_6": (2, 2, 16),
        "level_7": (1, 1, 16),
    }


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@pytest.mark.parametrize("network", [unet, residual])
def test_a_decoder_turns_what_its_encoder_gives_into_an_image(network, upsampling):
    encoder, decoder = network(code_dim=3, upsampling=upsampling)
    features = encoder(images(2, 32, 48, 2))
    image = array(decoder({**features, "code": ops.eye(3)[:2]}))
    assert image.shape == (2, 32, 48, 1)
    assert image.dtype == np.float32
    assert 0 < np.abs(image).max() <= 1


@pytest.mark.parametrize("network", [unet, residual])
def test_without_a_code_the_features_are_all_that_a_decoder_takes(network):
    encoder, decoder = network()
    assert set(decoder.input) == set(encoder.output)
    assert array(decoder(encoder(images(1, 32, 48, 2)))).shape == (1, 32, 48, 1)


def test_only_a_decoder_that_merges_can_turn_fine_detail_around():
    """Where all of a skip is positive, a last stage without `merge` is linear in it: second differences vanish."""

    def second_difference(merge):
        encoder, decoder = unet(code_dim=3, merge=merge)
        features = dict(encoder(images(1, 32, 48, 2)))
        skip, code = ops.abs(features["level_1"]) + 1.0, ops.eye(3)[:1]

        def before_tanh(scale):
            image = array(last({**features, "level_1": scale * skip, "code": code}))
            return image.astype("float64")

        last = keras.Model(decoder.input, decoder.layers[-1].input)
        one, two, three = (before_tanh(scale) for scale in (0.2, 0.6, 1.0))
        return np.abs(one - 2 * two + three).max()

    assert second_difference(merge=False) < 1e-4
    assert second_difference(merge=True) > 1e-2


def test_a_modulated_channel_has_the_gain_and_shift_that_it_is_told():
    features, told = keras.Input((2, 3, 4)), keras.Input((5,))
    model = keras.Model([features, told], modulated(features, told))
    x, given = images(2, 2, 3, 4), images(2, 5, seed=1)
    np.testing.assert_array_equal(array(model([x, given])), x)
    gain, shift = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    gain.kernel.assign(images(5, 4, seed=2))
    shift.kernel.assign(images(5, 4, seed=3))
    expected = x * (1 + given @ images(5, 4, seed=2))[:, None, None]
    expected = expected + (given @ images(5, 4, seed=3))[:, None, None]
    np.testing.assert_allclose(array(model([x, given])), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
def test_a_decoder_that_merges_needs_no_code(upsampling):
    encoder, decoder = unet(merge=True, upsampling=upsampling)
    assert array(decoder(encoder(images(2, 32, 48, 2)))).shape == (2, 32, 48, 1)


@pytest.mark.parametrize("network", [unet, residual])
def test_another_code_gives_another_image_of_the_same_features(network):
    encoder, decoder = network(code_dim=3)
    features = encoder(np.repeat(images(1, 32, 48, 2), 3, axis=0))
    decoded = array(decoder({**features, "code": ops.eye(3)}))
    assert min(np.abs(decoded[i] - decoded[i - 1]).mean() for i in range(3)) > 1e-3


def test_every_level_reaches_the_image():
    encoder, decoder = unet()
    features = encoder(images(1, 32, 48, 2))
    whole = array(decoder(features))
    for name in features:
        without = array(decoder({**features, name: ops.zeros_like(features[name])}))
        assert np.abs(without - whole).max() > 1e-4, name


@pytest.mark.parametrize("network", [unet, residual])
def test_an_example_does_not_influence_another_ones_image(network):
    encoder, decoder = network()
    batch = images(3, 32, 48, 2)
    together, alone = array(decoder(encoder(batch))), array(decoder(encoder(batch[1:2])))
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


def test_a_normalisation_of_ones_own_takes_the_place_of_instance_norm():
    def batch_norm():
        return keras.layers.BatchNormalization()

    encoder = unet_encoder((32, 32, 1), filters=2, num_levels=4, normalization=batch_norm)
    kinds = [type(layer).__name__ for layer in encoder.layers]
    assert kinds.count("BatchNormalization") == 2  # neither the first nor the innermost level
    assert "InstanceNormalization" not in kinds


def test_kernels_of_equal_shape_start_with_weights_of_their_own():
    kernels = [v for v in residual_encoder((32, 32, 1), filters=16).variables if len(v.shape) == 4]
    one, other = (ops.convert_to_numpy(kernel) for kernel in kernels[-2:])
    assert one.shape == other.shape
    assert np.abs(one - other).max() > 0
    assert one.std() == pytest.approx(0.02, rel=0.05)


def test_bfloat16_networks_still_give_float32_images_and_scores():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        encoder, decoder = unet(code_dim=2)
        discriminator = patch_discriminator(
            (32, 48, 1), filters=2, num_levels=2, num_classes=2, initializer=small_normal
        )
        segmentor = strided_unet((32, 48, 1), filters=2, num_levels=2)
    finally:
        keras.config.set_dtype_policy("float32")
    features = encoder(images(2, 32, 48, 2))
    image = decoder({**features, "code": ops.eye(2)})
    assert keras.backend.standardize_dtype(features["level_1"].dtype) == "bfloat16"
    for output in (image, *discriminator(image), segmentor(image)):
        assert keras.backend.standardize_dtype(output.dtype) == "float32"


# --- discriminator ---


def test_without_classes_a_discriminator_gives_scores_alone():
    discriminator = patch_discriminator((32, 48, 1), filters=2, num_levels=3)
    assert array(discriminator(images(2, 32, 48, 1))).shape == (2, 4, 6, 1)


def test_the_classes_see_the_whole_map_of_an_oblong_image():
    discriminator = patch_discriminator((32, 48, 1), filters=2, num_levels=3, num_classes=5)
    image = images(1, 32, 48, 1)
    scores, classes = discriminator(image)
    assert array(scores).shape == (1, 4, 6, 1)
    assert array(classes).shape == (1, 5)
    for corner in ((slice(4), slice(4)), (slice(-4, None), slice(-4, None))):
        changed = image.copy()
        changed[0][corner] += 1
        assert np.abs(array(discriminator(changed)[1]) - array(classes)).min() > 0


def test_a_change_in_a_corner_leaves_the_score_of_the_opposite_patch():
    discriminator = patch_discriminator((64, 64, 1), filters=2, num_levels=2)
    image = images(1, 64, 64, 1)
    changed = image.copy()
    changed[:, :8, :8] += 1
    difference = array(discriminator(changed) - discriminator(image))[0, :, :, 0]
    assert np.abs(difference[0, 0]) > 0
    assert not difference[8:, 8:].any()


# --- segmentor ---


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_a_segmentor_gives_a_probability_for_each_pixel(num_outputs):
    segmentor = strided_unet((32, 48, 2), num_outputs=num_outputs, filters=2, num_levels=3)
    found = array(segmentor(images(2, 32, 48, 2)))
    assert found.shape == (2, 32, 48, num_outputs)
    assert 0 < found.min() and found.max() < 1
    if num_outputs > 1:
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_segmentor_hears_its_code_and_the_scale_only_if_it_does_not_standardise(standardize):
    segmentor = strided_unet((32, 32, 1), code_dim=2, filters=4, num_levels=2, standardize=standardize)
    image = ops.convert_to_tensor(np.repeat(images(1, 32, 32, 1), 2, axis=0))
    one = array(segmentor({"image": image, "code": ops.eye(2)}))
    scaled = array(segmentor({"image": 3 * image + 1, "code": ops.eye(2)}))
    assert np.abs(one[0] - one[1]).max() > 1e-4
    assert (np.abs(one - scaled).max() < 1e-4) == standardize


# --- sizes ---


@pytest.mark.parametrize(
    "size, settings, expected",
    [
        ((128, 128), {"at_most": 7}, 7),
        ((256, 256), {"at_most": 7}, 7),
        ((240, 240), {"at_most": 7}, 4),
        ((192, 160), {"at_most": 7}, 5),
        ((32, 32), {"at_most": 7}, 5),
        ((128, 128), {"at_most": 5, "smallest": 4}, 5),
        ((32, 32), {"at_most": 5, "smallest": 4}, 3),
        ((31, 32), {"at_most": 5}, 0),
    ],
    ids=str,
)
def test_a_size_is_halved_while_nothing_remains(size, settings, expected):
    assert num_halvings(*size, **settings) == expected


@pytest.mark.parametrize("make", [unet_encoder, unet_decoder, patch_discriminator, strided_unet])
def test_more_levels_than_halvings_are_refused(make):
    with pytest.raises(ValueError, match="received 5 levels for 240 x 240"):
        make((240, 240, 1), num_levels=5)


@pytest.mark.parametrize("make", [unet_decoder, residual_decoder])
def test_an_unknown_upsampling_is_refused_and_the_known_ones_are_named(make):
    with pytest.raises(ValueError, match="'transposed' or 'nearest', received 'bilinear'"):
        make((128, 128, 1), upsampling="bilinear")


# --- the SPADE decoder ---


def spade_inputs(decoder, size=2, seed=0):
    random = np.random.default_rng(seed)
    return {
        name: random.uniform(0, 1, (size, *tensor.shape[1:])).astype("float32")
        for name, tensor in decoder.input.items()
    }


@pytest.mark.parametrize("shape, coarsest", [((192, 160, 3), 6 * 5), ((64, 64, 1), 4 * 4), ((32, 64, 1), 4 * 8)])
def test_a_spade_decoder_starts_from_four_pixels_a_side_or_more(shape, coarsest):
    decoder = spade_decoder(shape, anatomy_channels=4, code_dim=5, filters=8, hidden_filters=2)
    (dense,) = [layer for layer in decoder.layers if isinstance(layer, keras.layers.Dense)]
    assert dense.units == coarsest * 8
    assert decoder.output.shape == (None, *shape)


def test_its_blocks_of_192_x_160_pixels_have_the_papers_128_128_128_64_32_16_channels():
    decoder = spade_decoder((192, 160, 3), anatomy_channels=4, code_dim=16)
    sums = [layer.output.shape[1:] for layer in decoder.layers if isinstance(layer, keras.layers.Add)]
    assert [depth for *_, depth in sums] == [128, 128, 128, 64, 32, 16]
    assert [side for side, *_ in sums] == [6, 12, 24, 48, 96, 192]


@pytest.mark.parametrize("modulate", [False, True])
def test_what_a_spade_decoder_draws_depends_on_anatomy_and_code_of_each_image_alone(modulate):
    settings = {"anatomy_channels": 4, "code_dim": 5, "filters": 8, "hidden_filters": 2, "modulate": modulate}
    decoder = spade_decoder((32, 32, 1), **settings)
    given = spade_inputs(decoder)
    before = array(decoder(given))
    assert -1 <= before.min() < before.max() <= 1
    for name in ("anatomy", "code"):
        changed = {**given, name: given[name].copy()}
        changed[name][1] += 0.5
        after = array(decoder(changed))
        np.testing.assert_array_equal(after[0], before[0])
        assert np.abs(after[1] - before[1]).max() > 1e-4


def test_spade_of_features_is_their_normalised_value_times_one_plus_a_gain_plus_a_shift():
    features, anatomy = keras.Input((4, 4, 3)), keras.Input((4, 4, 2))
    model = keras.Model([features, anatomy], spade(features, anatomy, hidden_filters=5))
    *_, convolution = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    convolution.set_weights([np.zeros(convolution.kernel.shape), np.array([1, 1, 1, 0.5, 0.5, 0.5])])
    x = images(2, 4, 4, 3)
    expected = 2 * (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5) + 0.5
    np.testing.assert_allclose(array(model([x, images(2, 4, 4, 2)])), expected, atol=1e-4)


def test_a_spade_decoder_draws_each_anatomy_in_the_look_of_several_codes_as_if_they_were_alone():
    settings = {"anatomy_channels": 4, "code_dim": 5, "filters": 8, "hidden_filters": 2, "modulate": True}
    decoder = spade_decoder((16, 16, 1), **settings)
    given, random = spade_inputs(decoder), np.random.default_rng(1)
    codes = random.normal(size=(2, 3, 5)).astype("float32")
    at_once = array(decoder({**given, "code": codes.reshape(6, 5)})).reshape(2, 3, 16, 16, 1)
    for k in range(3):
        np.testing.assert_allclose(at_once[:, k], array(decoder({**given, "code": codes[:, k]})), atol=1e-5)
