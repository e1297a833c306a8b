"""What mmsdnet is compared with: what each learns from, whose statistics it has, and by which stream it predicts."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.checks import array, moved, tensors, trained_once, weights
from tests.tiny import MMSDNET
from tfdisent.baselines.method import method
from tfdisent.baselines.mmsdnet import METHODS, DualStream, SegmenterConfig

B, M, SIZE = 3, 2, 48
SHARED = {field.name for field in dataclasses.fields(SegmenterConfig)}
TINY = {name: value for name, value in MMSDNET.items() if name in SHARED} | {"learning_rate": 1e-3}
NAMES = ["unet_single", "unet_both", "unet_source", "dual_stream"]


def made(name, seed=0, **changes):
    keras.utils.set_random_seed(seed)
    known = method(METHODS, name)
    model = known.model(known.model.config_class(**TINY, **known.changes, **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(seed=0, **more):
    random = np.random.default_rng(seed)
    return {
        "image": random.uniform(-1, 1, (B, SIZE, SIZE, M)).astype("float32"),
        "mask": random.integers(0, 3, (B, SIZE, SIZE, M)).astype("int32"),
        **more,
    }


def trained(name, batch, **changes):
    model = made(name, **changes)
    trained_once(model, batch, B)
    return weights(model.networks)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", NAMES)
def test_a_step_moves_the_networks_and_the_prediction_is_of_labels(name):
    model = made(name)
    before = weights(model.networks)
    logs = trained_once(model, examples(), B)
    assert set(logs) == {"segmentation"} and np.isfinite(logs["segmentation"])
    assert any(moved(before, weights(model.networks)))
    (kind,) = model.predictions(examples()["image"])
    assert kind == ("source_only" if name == "unet_source" else "target")
    np.testing.assert_allclose(array(model(examples()["image"])).sum(-1), 1, atol=1e-5)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name, read", [("unet_single", (1,)), ("unet_source", (0,)), ("unet_both", (0, 1))])
def test_a_u_net_learns_from_the_modalities_that_it_is_trained_on_alone(name, read):
    plain = trained(name, examples())
    for i in range(M):
        changed = examples()
        changed["image"][..., i] *= -1
        assert any(moved(plain, trained(name, changed))) == (i in read)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("name", ["unet_both", "dual_stream"])
def test_slices_without_labels_have_no_part_in_weights_or_statistics(name):
    labelled = np.tile(np.float32([[1, 0]]), (B, 1))
    changed = examples(labelled=labelled)
    changed["image"][..., 1] *= -1
    changed["mask"][..., 1] = 0
    models = []
    for batch in (examples(labelled=labelled), changed):
        models.append(made(name))
        trained_once(models[-1], batch, B)
    for one, other in zip(*(model.networks for model in models), strict=True):
        for a, b in zip(one.variables, other.variables, strict=True):
            np.testing.assert_array_equal(array(a.value), array(b.value))


def test_streams_share_the_innermost_stages_and_nothing_else():
    model = made("dual_stream")
    owners = [{id(v) for v in network.variables} for network in model.networks]
    assert (
        len(set.union(*owners))
        == sum(map(len, owners))
        == len(model.trainable_variables) + sum(len(network.non_trainable_variables) for network in model.networks)
    )
    assert [len(model.encoders), len(model.decoders)] == [M, M]


def test_a_target_without_labels_is_seen_by_the_sources_stream():
    image = examples()["image"]
    one, two = made("dual_stream"), made("dual_stream", target_annotations=0.0)
    expected = array(one.probabilities(*tensors({"x": image[..., 1:]}).values(), 0, keras.ops.ones(B)))
    np.testing.assert_allclose(array(two(image)), expected, atol=1e-6)
    assert np.abs(array(one(image)) - expected).max() > 1e-4


def test_a_u_net_of_the_target_asks_for_slices_with_its_labels_alone():
    model, asked = made("unet_single"), []

    def load(split, **options):
        asked.append(options)
        return [{"labelled": np.float32([[1, 0], [1, 1]])}, {"labelled": np.float32([[1, 1]])}]

    model.stream(load, start_step=4)
    assert asked[-1]["start_step"] == 4 and asked[-1]["rows"].tolist() == [1, 2]


def test_a_u_net_of_the_target_without_labels_is_refused():
    with pytest.raises(ValueError, match="target_annotations above 0"):
        made("unet_single", target_annotations=0.0)


def test_methods_of_all_shares_are_known_by_name():
    names = [known.name for known in METHODS]
    assert names[0] == "mmsdnet" and {"mmsdnet_12", "unet_both_0", "dual_stream_50", "unet_single_25"} < set(names)
    assert not {"unet_single_0", "unet_source_50"} & set(names) and len(set(names)) == len(names) == 30
    for known in METHODS:
        assert known.model.config_class.preset("quick", **known.changes).steps == 1500


def test_a_perfect_prediction_costs_nothing(monkeypatch):
    model, batch = made("dual_stream"), examples()
    truth = np.eye(3, dtype="float32")[batch["mask"]]
    monkeypatch.setattr(
        DualStream, "probabilities", lambda self, image, i, *_, **__: tensors({"p": truth[:, :, :, i]})["p"]
    )
    (one,) = model.passes(tensors(batch))
    assert float(array(model.loss_terms(one, {})[0])) == pytest.approx(0, abs=1e-5)
