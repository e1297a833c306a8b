"""CycleGAN and its kin: their networks, semantic dropout, and what they give without a segmentation."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import array, tensors, trained_once
from tests.tiny import HARMONIZE
from tfdisent.baselines import harmonize
from tfdisent.baselines.harmonize import METHODS, CycleGANConfig
from tfdisent.systems.harmonize import HarmonizeConfig

B, SIZE, K = 2, 32, 3


def made(name, seed=0, **changes):
    keras.utils.set_random_seed(seed)
    method = next(method for method in METHODS if method.name == name)
    settings = HARMONIZE | {"learning_rate_decay": 0.0} | method.changes | changes
    model = method.model(method.model.config_class(**settings), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(seed=0, **more):
    random = np.random.default_rng(seed)
    found = {name: random.uniform(-1, 1, (B, SIZE, SIZE, 1)).astype("float32") for name in ("source", "target")}
    return found | {f"{n}_mask": random.integers(0, K, (B, SIZE, SIZE)).astype("int32") for n in found} | more


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", [method.name for method in METHODS])
def test_every_method_trains_and_harmonizes(name):
    model = made(name, **({"num_blocks": 2} if name == "cyclegan_resnet" else {}))
    logs = trained_once(model, examples(), B)
    assert np.all(np.isfinite(list(logs.values())))
    has_segmentation = name not in ("cyclegan", "cyclegan_resnet")
    assert ("segmentation" in logs) == has_segmentation
    found = model.harmonize(examples()["source"])
    assert ("labels" in found) == has_segmentation
    assert found["image"].shape == (B, SIZE, SIZE, 1)
    assert set(model.volume_io()["outputs"]) == set(found)
    assert ("segment_source" in model.signatures()) == has_segmentation


def kept(model, batch):
    (drawn,) = model.passes(tensors(batch))
    return {name: array(value) for name, value in drawn.items()}


def test_semantic_dropout_keeps_pixels_of_classes_that_both_domains_show_and_greys_the_others():
    batch = examples()
    batch["source_mask"][batch["source_mask"] == 2] = 0  # common to both are 0 and 1
    found = [kept(made("semgan", seed, semantic_dropout=0.999), batch) for seed in range(6)]
    seen = set()
    for drawn in found:
        classes = set(np.unique(batch["target_mask"][drawn["target_kept"][..., 0] > 0]).tolist())
        assert classes and classes <= {0, 1}
        seen.add(tuple(sorted(classes)))
        for name in ("source", "target"):
            dropped = drawn[f"{name}_kept"] == 0
            assert (drawn[name][dropped] == 0).all()
            np.testing.assert_array_equal(drawn[name][~dropped], batch[name][~dropped])
            assert set(np.unique(batch[f"{name}_mask"][~dropped[..., 0]])) <= classes
    assert (0, 1) in seen and len(seen) > 1  # drawn with replacement: both, or one of them


def test_a_slice_without_a_label_map_is_kept_whole():
    batch = examples(source_labelled=np.array([0, 1], "float32"), target_labelled=np.ones(B, "float32"))
    drawn = kept(made("semgan", semantic_dropout=0.999), batch)
    np.testing.assert_array_equal(drawn["source"][0], batch["source"][0])
    assert (drawn["source_kept"][1] == 0).any()


@pytest.mark.backend("torch")
def test_without_a_common_class_nothing_but_grey_is_left_and_the_loss_is_finite():
    batch = examples()
    batch["source_mask"][:], batch["target_mask"][:] = 0, 1
    model = made("semgan", semantic_dropout=0.999)
    assert (kept(model, batch)["source"] == 0).all()
    assert np.all(np.isfinite(list(trained_once(model, batch, B).values())))


def test_classes_are_dropped_in_the_share_of_steps_that_the_config_says():
    model, batch = made("semgan"), tensors(examples())
    dropped = [bool((array(model.draw(batch)["source_kept"]) == 0).any()) for _ in range(120)]
    # In a third of the steps that drop, three draws of three classes keep two or three of them.
    assert 0.1 < np.mean(dropped) < 0.45


@pytest.mark.backend("torch")
def test_cyclegan_ignores_label_maps():
    one, other = examples(), examples()
    other["source_mask"][:] = 0
    logs = [trained_once(made("cyclegan"), batch, B) for batch in (one, other)]
    assert logs[0] == logs[1]


@pytest.mark.backend("torch")
def test_the_unets_parameters_are_those_of_the_public_code():
    network = harmonize.generator(CycleGANConfig())
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == 57_527_573


def test_cyclegans_own_network_has_nine_blocks_and_ends_between_minus_one_and_one():
    settings = HARMONIZE | {"filters": 4, "backbone": "residual"}
    network = harmonize.generator(CycleGANConfig(**settings))
    sums = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.Add)]
    assert len(sums) == 9
    made_of = array(network(ops.convert_to_tensor(10 * examples()["source"])))
    assert np.abs(made_of).max() <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "vit"}, "backbone"),
        ({"semantic_dropout": 0.3, "segmentation_weight": 0.0, "generated_segmentation_weight": 0.0}, "segmentation"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CycleGANConfig(**HARMONIZE | changes)


def test_presets_fit_the_configs_of_all_methods():
    for method in METHODS:
        for preset in HarmonizeConfig.PRESETS:
            assert method.model.config_class.preset(preset, **method.changes).steps > 0


def test_the_unet_ends_between_minus_one_and_one():
    network = harmonize.generator(CycleGANConfig(**HARMONIZE))
    *_, last = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    last.bias.assign([100.0])
    made_of = array(network(ops.convert_to_tensor(examples()["source"])))
    np.testing.assert_allclose(made_of, 1.0, atol=1e-6)
