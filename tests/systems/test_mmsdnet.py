"""The mmsdnet system: its loss terms, its step, what unlabelled slices cannot do, its transformer, its verbs."""

import dataclasses
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import array, moved, tensors, trained_once, values, weights
from tests.tiny import MMSDNET
from tfdisent.systems import mmsdnet
from tfdisent.systems.mmsdnet import MMSDNet, MMSDNetConfig

B, M, SIZE = 3, 2, 48
TINY = MMSDNetConfig(**MMSDNET, learning_rate=1e-3)


def made(seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = MMSDNet(dataclasses.replace(TINY, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(many=M, seed=0, **more):
    random = np.random.default_rng(seed)
    return {
        "image": random.uniform(-1, 1, (B, SIZE, SIZE, many)).astype("float32"),
        "mask": random.integers(0, 3, (B, SIZE, SIZE, many)).astype("int32"),
        **more,
    }


def one_pass(model, **batch):
    (only,) = model.passes(tensors({**examples(), **batch}))
    return only


@pytest.fixture(scope="module")
def model():
    """For what leaves the weights alone."""
    return made()


def documented_terms():
    names = set(re.findall(r"^\| ([a-z_]+) \|", mmsdnet.__doc__, re.MULTILINE)) - {"term"}
    return {name.replace("_i", f"_{i}") if name.endswith("_i") else name for name in names for i in range(M)}


# --- the step ---


@pytest.mark.backend("torch")
@pytest.mark.parametrize("decoder", ["film", "spade"])
def test_a_step_moves_every_network_and_logs_the_terms_of_the_docstrings_table(decoder):
    model = made(decoder=decoder, alignment_weight=1.0)
    players = [*model.networks, model.mask_discriminator, *model.image_discriminators]
    before = [weights([network]) for network in players]
    logs = trained_once(model, examples(), B)
    assert set(logs) == documented_terms()
    assert np.all(np.isfinite(list(logs.values())))
    for network, kernel in zip(players, before, strict=True):
        assert any(moved(kernel, weights([network]))), network.name


def test_alignment_is_a_term_where_it_has_a_weight():
    assert "alignment" not in made().term_weights()
    assert made(alignment_weight=2.0).term_weights()["alignment"] == 2.0


@pytest.mark.backend("torch")
def test_modalities_have_paths_of_their_own_and_one_decoder():
    model = made(modalities=("T1", "T2", "FLAIR"))
    assert len({id(v) for e in model.anatomy_encoders for v in e.variables}) == 3 * len(
        model.anatomy_encoders[0].variables
    )
    assert len(model.networks) == 3 + 5  # one decoder of the anatomy for all
    assert np.all(np.isfinite(list(trained_once(model, examples(3), B).values())))


def test_each_weight_multiplies_its_own_term(model, monkeypatch):
    names = ("segmentation", "mask_adversarial", "reconstruction", "image_adversarial", "kl", "code_regression")
    factors = dict(zip(names, (2.0, 3.0, 5.0, 7.0, 11.0, 13.0), strict=True))
    config = dataclasses.replace(model.config, **{f"{name}_weight": factor for name, factor in factors.items()})
    monkeypatch.setattr(model, "config", config)
    total, terms, _ = model.network_terms(one_pass(model), {})
    found = values(terms)
    assert float(array(total)) == pytest.approx(sum(factors[n] * found[n] for n in names), rel=1e-5)


# --- labels ---


@pytest.mark.backend("torch")
def test_the_labels_of_what_is_not_labelled_change_no_bit():
    """As with no target labels at all: masks of zeros and masks of anything train the same weights."""
    labelled = np.tile(np.float32([[1, 0]]), (B, 1))
    trained = []
    for keep in (1, 0):
        model, batch = made(), examples(labelled=labelled)
        batch["mask"][..., 1] *= keep
        trained_once(model, batch, B)
        trained.append(weights([*model.networks, model.mask_discriminator, *model.image_discriminators]))
    assert not any(moved(*trained))


def test_real_masks_are_drawn_from_labelled_slices_first(model):
    labelled = np.float32([[1, 0], [0, 0], [1, 1]])
    one = one_pass(model, labelled=labelled)
    flags = array(one["labelled"]).reshape(-1)
    for row in array(one["real"]):
        assert flags[row].sum() == 3 and len(set(row.tolist())) == B


def test_without_any_label_the_segmentation_term_is_zero(model):
    _, terms, made_ = model.network_terms(one_pass(model, labelled=np.zeros((B, M), "float32")), {})
    assert values(terms)["segmentation"] == 0
    one = one_pass(model, labelled=np.zeros((B, M), "float32"))
    assert np.isfinite(float(array(model.mask_terms(0, one, made_)[0])))


def test_the_segmentation_error_is_zero_for_the_truth_and_one_in_dice_for_what_misses_all_of_it(model):
    truth = np.zeros((1, SIZE, SIZE, 3), "float32")
    truth[..., 0] = 1
    truth[:, 4:9, 4:9] = 0, 1, 0
    wrong = truth[..., [0, 2, 1]]
    at = [
        float(array(mmsdnet.segmentation_error(*tensors({"p": p, "t": truth}).values(), model.config))[0])
        for p in (truth, wrong)
    ]
    share = 25 / SIZE**2
    assert at == pytest.approx([0, 1 + 0.01 * share * -np.log(1e-7)], abs=1e-4)


# --- anatomy, transformer, verbs ---


def test_every_pixel_of_an_anatomy_is_in_exactly_one_channel(model):
    anatomy = array(model.encode(examples()["image"][..., :1], "T1")["anatomy"])
    assert set(np.unique(anatomy.round(5))) == {0, 1}
    np.testing.assert_allclose(anatomy.sum(-1), 1, atol=1e-5)


def test_at_first_nothing_is_deformed_and_the_fused_anatomy_is_the_maximum(model):
    image = examples()["image"]
    one, two = (model.encode(image[..., i : i + 1], i)["anatomy"] for i in range(M))
    found = model.align(one, two)
    np.testing.assert_allclose(array(found["anatomy"]), array(one), atol=1e-5)
    assert not array(found["field"]).any()
    np.testing.assert_allclose(array(model.fuse(image, "T2")), np.maximum(array(one), array(two)), atol=1e-5)


def test_align_gives_the_moving_anatomy_at_pixel_plus_field():
    model = made()
    dense = next(layer for layer in model.transformer.layers if layer.name.startswith("dense") and layer.units == 50)
    dense.bias.assign(np.tile(np.float32([2, -3]) / (SIZE - 1), 25))
    one, two = (model.encode(examples()["image"][..., i : i + 1], i)["anatomy"] for i in range(M))
    found = model.align(one, two)
    np.testing.assert_allclose(array(found["field"]), np.broadcast_to([2, -3], (B, SIZE, SIZE, 2)), atol=1e-3)
    np.testing.assert_allclose(array(found["anatomy"])[:, :-2, 3:], array(one)[:, 2:, :-3], atol=1e-3)


def test_predictions_are_of_the_target_alone_of_the_source_deformed_to_it_and_of_both(model):
    image = examples()["image"]
    found = model.predictions(image)
    one, two = (array(model.encode(image[..., i : i + 1], i)["anatomy"]) for i in range(M))
    anatomy = {"fused": np.maximum(one, two), "deformed": one, "target": two}
    assert found.keys() == anatomy.keys()
    for kind, expected in anatomy.items():
        np.testing.assert_allclose(array(found[kind]), array(model.segment(expected)), atol=1e-5)
    np.testing.assert_allclose(array(found["fused"]), array(model(image)), atol=1e-6)


def test_verbs_have_the_documented_shapes(model):
    code = model.encode(examples()["image"][..., :1], "T1")
    assert array(model.segment(code["anatomy"])).shape == (B, SIZE, SIZE, 3)
    assert array(model.reconstruct(code["anatomy"], code["code"])).shape == (B, SIZE, SIZE, 1)
    np.testing.assert_allclose(model.predict(examples()["image"], verbose=0).sum(-1), 1, atol=1e-5)


@pytest.mark.backend("torch")
def test_evaluation_uses_the_averaged_weights():
    model = made(averaging_start=0, averaging_interval=1)
    kept = []
    for seed in range(2):
        trained_once(model, examples(seed=seed), B)
        kept.append(weights([model.segmentor]))
    with model.averaged():
        for average, one, two in zip(weights([model.segmentor]), *kept, strict=True):
            np.testing.assert_allclose(average, (one + two) / 2, atol=1e-6)


# --- candidates ---


def with_candidates():
    """A slice of the target with three candidates of the source before it."""
    return examples(many=4, seed=5)


def weights_of(model, image):
    *others, own = (model.anatomy(ops.convert_to_tensor(image[..., k : k + 1]), int(k == 3)) for k in range(4))
    return array(model.pair_weights([model.deformed(one, own) for one in others], own))


@pytest.mark.backend("torch")
def test_a_step_with_candidates_moves_the_balancer_and_logs_the_same_terms():
    model = made(candidates=3, alignment_weight=1.0)
    before = weights([model.balancer])
    logs = trained_once(model, with_candidates(), B)
    assert set(logs) == documented_terms() and np.all(np.isfinite(list(logs.values())))
    assert any(moved(before, weights([model.balancer])))
    assert made().balancer is None


def test_the_exported_segment_takes_one_slice_of_each_modality_and_agrees_with_equal_candidates():
    model, image = made(candidates=3), with_candidates()["image"]
    signatures = model.signatures()
    assert list(signatures)[:2] == ["segment", "segment_candidates"]
    (pair, shapes), (all_of_them, more) = signatures["segment"], signatures["segment_candidates"]
    assert shapes["image"][-1] == 2 and more["image"][-1] == 4
    one, target = image[..., :1], image[..., 3:]
    by_pair = array(pair(ops.concatenate([one, target], axis=-1))["labels"])
    by_all = array(all_of_them(ops.concatenate([one, one, one, target], axis=-1))["labels"])
    np.testing.assert_allclose(by_pair, by_all, atol=1e-5)


def test_permuted_candidates_permute_the_weights_and_leave_the_prediction():
    model, order = made(candidates=3), [2, 0, 1]
    for variable in model.balancer.trainable_variables:  # biases are 0 at first
        variable.assign_add(np.random.default_rng(0).normal(size=variable.shape).astype("float32"))
    image = with_candidates()["image"]
    turned = image[..., [*order, 3]]
    one, other = weights_of(model, image), weights_of(model, turned)
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)
    assert np.ptp(one, axis=1).min() > 1e-4
    np.testing.assert_allclose(other, one[:, order], atol=1e-5)
    for kind, found in model.predictions(image).items():
        np.testing.assert_allclose(array(found), array(model.predictions(turned)[kind]), atol=1e-5)


def test_the_prediction_of_candidates_is_the_mean_of_their_fused_labels_by_their_weights():
    model, image = made(candidates=3), with_candidates()["image"]
    *others, own = (array(model.encode(image[..., k : k + 1], int(k == 3))["anatomy"]) for k in range(4))
    labels = [array(model.segment(np.maximum(one, own))) for one in others]  # nothing is deformed at first
    expected = np.einsum("bk,kbhwl->bhwl", weights_of(model, image), np.stack(labels))
    np.testing.assert_allclose(array(model(image)), expected, atol=1e-5)


def test_overlap_is_that_of_dice_over_the_sizes_of_both():
    model, random = made(candidates=3), np.random.default_rng(1)
    for variable in model.balancer.trainable_variables:
        variable.assign_add(random.normal(size=variable.shape).astype("float32"))
    # Soft, and of other sizes: where each pixel has one channel all sizes are equal.
    own, *others = (size * random.random((B, 48, 48, 3)).astype("float32") for size in (1.0, 0.2, 0.6, 1.4))
    overlap = [2 * (one * own).sum((1, 2, 3)) / (one.sum((1, 2, 3)) + own.sum((1, 2, 3))) for one in others]
    expected = array(model.balancer(np.stack(overlap, axis=1)))
    assert np.ptp(expected, axis=1).min() > 1e-3
    found = array(model.pair_weights([ops.convert_to_tensor(one) for one in others], ops.convert_to_tensor(own)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_candidate_that_overlaps_more_has_more_weight_where_the_balancer_rises_with_overlap():
    model = made(candidates=3)
    for variable in model.balancer.trainable_variables:
        variable.assign(ops.ones(variable.shape))
    own = model.encode(with_candidates()["image"][..., 3:], 1)["anatomy"]
    found = array(model.pair_weights([own, ops.flip(own, axis=-1), 0.5 * own], own))
    assert np.all(found[:, 0] > found[:, 1:].max(axis=1))


def test_data_whose_records_are_of_the_source_are_refused_with_the_mend():
    manifest = {"image_shape": (64, 64, 4), "mask_labels": ("background", "liver"), "mask_channels": 4}
    manifest = SimpleNamespace(dataset="mine", modalities=("T1", "T2"), options={"reference": "T1"}, **manifest)
    config = dataclasses.replace(TINY, candidates=3)
    with pytest.raises(ValueError, match="--data=reference=T2"):
        config.check_manifest(manifest)
    manifest.options["reference"] = "T2"
    config.check_manifest(manifest)
    assert config.annotated == {3: 1.0} and config.channel_modalities == (0, 0, 0, 1)


# --- bad input ---


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 32}, "48 or more"),
        ({"image_size": 50}, "multiples of 16"),
        ({"modalities": ("T1",)}, "two or more different names"),
        ({"mask_labels": ("background",)}, "two or more different names"),
        ({"anatomy": "soft"}, "'argmax' or 'rounding'"),
        ({"control_points": 1}, "control_points >= 2"),
        ({"target_annotations": 1.5}, "target_annotations from 0 to 1"),
        ({"candidates": 2, "modalities": ("T1", "T2", "FLAIR")}, "two modalities where there are candidates"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


def test_unknown_modalities_and_wrong_shapes_are_refused(model):
    with pytest.raises(ValueError, match="modality among T1, T2"):
        model.encode(examples()["image"][..., :1], "CT")
    with pytest.raises(ValueError, match="image"):
        model.fuse(examples(3)["image"], "T2")


@pytest.mark.parametrize("changes", [{"mask_channels": 1}, {"image_shape": (64, 64, 3)}, {"mask_labels": ()}])
def test_data_without_a_slice_and_a_label_map_of_each_modality_are_refused(changes):
    manifest = {"image_shape": (64, 64, 2), "mask_labels": ("background", "liver"), "mask_channels": 2, **changes}
    manifest = SimpleNamespace(dataset="mine", modalities=("T1", "T2"), **manifest)
    with pytest.raises(ValueError, match="a slice and a label map of each of T1, T2, received mine"):
        TINY.check_manifest(manifest)


def test_a_batch_without_masks_or_with_those_of_one_modality_is_refused(model):
    for batch in ({"image": examples()["image"]}, {**examples(), "mask": examples(1)["mask"]}):
        with pytest.raises(ValueError, match="Expected a 'mask' of the shape of 'image'"):
            model.passes(tensors(batch))
