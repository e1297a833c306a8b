"""Models and cards: what is read of them, and what is told of those that cannot be used."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.apply.scans import KNOWN, SIZE, save_model
from tfdisent.apply.model import Output, chosen_targets, load_model, targets_of


def test_the_highest_version_is_taken(identity, tmp_path):
    for version, change in (("2", 0.0), ("10", 1.0)):
        save_model(
            tmp_path / version,
            lambda image, change=change: image * 0 + change,
            card={"data": KNOWN},
        )
    model = load_model(tmp_path)
    assert model.run(np.zeros((1, *SIZE, 1), np.float32))["image"].max() == 1


def test_targets_are_those_of_training(negative):
    model = load_model(negative)
    assert chosen_targets(model, ["T2", "T1", "T2"]) == ("T2", "T1")
    assert chosen_targets(model, ["all"]) == ("T1", "T2", "T2 / FS")
    assert load_model(negative, modalities=["a", "b", "c"]).targets == ("a", "b", "c")
    with pytest.raises(ValueError, match="Unknown --target=FLAIR. .* trained on T1, T2, T2 / FS"):
        chosen_targets(model, ["FLAIR"])
    with pytest.raises(ValueError, match="Give --target, once or more often, of T1, T2"):
        chosen_targets(model, [])


def test_missing_stands_alone_for_a_model_whose_targets_are_inputs(completer, negative):
    model = load_model(completer)
    assert chosen_targets(model, ["missing"]) == ("missing",) and chosen_targets(model, []) == (None,)
    assert targets_of(model, ("missing",), {"T2": "file"}) == ("T1",)
    assert targets_of(model, ("missing",), {"T1": "file", "T2": "file"}) == (None,)
    assert targets_of(model, ("T2",), {"T2": "file"}) == ("T2",)
    for path, names in ((completer, ["missing", "T1"]), (negative, ["missing"])):
        with pytest.raises(ValueError, match="--target=missing stands alone, for a model whose targets are among"):
            chosen_targets(load_model(path), names)


def test_a_model_without_targets_takes_none(identity):
    with pytest.raises(ValueError, match="Leave out --target=T2: the model's harmonize has no"):
        chosen_targets(load_model(identity), ["T2"])


def test_what_the_card_lacks_can_be_given(tmp_path):
    def function(image, target):
        return image * target[:, None, None, :1]

    model = save_model(tmp_path / "bare", function, targets=2)
    with pytest.raises(ValueError, match="does not say how .* Give --normalize=volume|percentile"):
        load_model(model)
    with pytest.raises(ValueError, match="translates to 2 modalities, .*: none. Give --modalities"):
        load_model(model, normalize="volume")
    with pytest.raises(ValueError, match="for them are: T1. Give --modalities"):
        load_model(model, normalize="volume", modalities=["T1"])
    known = {"normalize": "zscore", "modalities": ["T1", "T2"], "pixel_spacing": 2.0}
    found = load_model(model, **known)
    assert found.targets == ("T1", "T2") and found.pixel_spacing == (2.0, 2.0)
    assert load_model(model, **{**known, "pixel_spacing": 0}).pixel_spacing is None


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("{", "card.json is damaged"),
        ("[]", "not a model's card"),
        ('{"data": {"normalize": "rank"}}', "is 'rank'.*Give --normalize="),
        ('{"signatures": {"segment": {}}}', "no signature 'segment'. It offers: .*image. -> image"),
        ('{"data": {"pixel_spacing": [1, "x"]}}', "data.pixel_spacing .*expected millimetres"),
    ],
)
def test_a_card_that_cannot_be_used_is_told(card, message, tmp_path):
    model = save_model(tmp_path / "model", lambda image: image)
    (model / "card.json").write_text(card)
    known = {} if "rank" in card else {"normalize": "volume"}
    with pytest.raises(ValueError, match=message):
        load_model(model, **known)


def test_a_card_whose_training_scans_are_damaged_is_told(tmp_path):
    folder = save_model(tmp_path / "model", lambda image: image, card={"data": KNOWN, "familiar": {"mean": [1.0]}})
    with pytest.raises(ValueError, match="familiar is damaged: .*Export the model again"):
        load_model(folder)


def test_a_model_that_does_not_turn_images_into_images_says_what_it_offers(tmp_path):
    module = tf.Module()
    spec = {"condition": tf.TensorSpec([None, 3]), "style": tf.TensorSpec([None, 3])}
    module.call = tf.function(lambda condition, style: {"image": (condition + style)[..., None, None]})
    signature = module.call.get_concrete_function(**spec)
    tf.saved_model.save(module, str(tmp_path / "drai"), {"generate": signature})
    (tmp_path / "drai/card.json").write_text('{"signatures": {"generate": {}}}')
    message = r"does not turn images into images: .*offers: generate\(condition, style\) -> image"
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "drai", normalize="volume")


def test_a_model_of_several_channels_says_what_is_expected(tmp_path):
    module = tf.Module()
    module.call = tf.function(lambda image: {"image": image})
    signature = module.call.get_concrete_function(image=tf.TensorSpec([None, 8, 8, 3]))
    tf.saved_model.save(module, str(tmp_path / "model"), {"serving_default": signature})
    with pytest.raises(ValueError, match=r"\(8, 8, 3\) into \(8, 8, 3\), expected .*one\s*channel"):
        load_model(tmp_path / "model", normalize="volume")


def test_a_damaged_model_is_told(identity, tmp_path):
    with pytest.raises(OSError, match="is not a SavedModel: it has no saved_model.pb"):
        load_model(tmp_path, normalize="volume")
    (tmp_path / "saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(OSError, match="is a damaged SavedModel .*Export it again"):
        load_model(tmp_path, normalize="volume")
    (tmp_path / "saved_model.pb").write_bytes((identity / "saved_model.pb").read_bytes())
    with pytest.raises(OSError, match="is a damaged SavedModel"):
        load_model(tmp_path, normalize="volume")


# --- several inputs and outputs ---


def test_a_card_names_inputs_and_outputs(segmenter, needs_both):
    model = load_model(segmenter)
    assert model.inputs == ("T1", "T2") and model.takes_missing and model.targets == ()
    labels = Output("labels", ("background", "bright in T1", "bright in T2"))
    assert model.outputs == {"image": Output("image", ("mean",)), "tissue": labels}
    assert [output.channels for output in model.outputs.values()] == [1, 3]
    assert not load_model(needs_both).takes_missing


def test_a_card_of_before_inputs_and_outputs_is_of_one_image_to_one_image(negative):
    model = load_model(negative)
    assert model.inputs == ("image",) and model.outputs == {"image": Output("image")}
    assert model.targets == ("T1", "T2", "T2 / FS")


def test_targets_may_be_named_by_the_output(tmp_path):
    def function(image, target):
        return image * target[:, None, None, :1]

    card = {"data": KNOWN, "inputs": ["image"], "outputs": {"image": {"kind": "image", "names": ["a", "b"]}}}
    path = save_model(tmp_path / "model", function, targets=2, card=card)
    assert load_model(path).targets == ("a", "b")


def test_what_a_missing_input_is_filled_with_changes_no_bit(segmenter):
    model = load_model(segmenter)
    stack = np.random.default_rng(0).uniform(-1, 1, (3, *SIZE, 2)).astype(np.float32)
    found = []
    for filling in (-1, 0, 0.7, 5):
        stack[..., 1] = filling
        found.append(model.run(stack, None, (1, 0)))
    for other in found[1:]:
        for name in ("image", "tissue"):
            np.testing.assert_array_equal(found[0][name], other[name])
    np.testing.assert_array_equal(found[0]["image"][..., 0], stack[..., 0])
    # It does matter where the input is there.
    assert np.abs(model.run(stack)["image"] - found[0]["image"]).max() > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": "T1"}, "has inputs 'T1', expected a list of different names"),
        ({"inputs": ["T1", "T1"]}, "expected a list of different names"),
        ({"outputs": ["image"]}, r"has outputs \['image'\], expected {name: {'kind': 'image' or 'labels'"),
        ({"outputs": {"image": {"kind": "mesh"}}}, "expected {name"),
        ({"outputs": {"image": {"kind": "image", "per_target": "no"}}}, "'per_target': true or false"),
        ({"outputs": {"tissue": {"kind": "labels", "names": ["one"]}}}, "two names or more for labels"),
        (
            {"outputs": {"edges": {"kind": "image"}}},
            r"to edges. It offers: segment\(available, image\) -> image, tissue",
        ),
        ({"inputs": ["T1", "T2", "PD"]}, "one channel for each input .T1, T2, PD., image and class"),
        ({"outputs": {"tissue": {"kind": "labels", "names": ["a", "b"]}}}, r"\(32, 28, 2\) into \(32, 28, 3\)"),
    ],
)
def test_inputs_and_outputs_that_do_not_fit_the_model_are_told(change, message, segmenter, tmp_path):
    for path in segmenter.iterdir():
        (tmp_path / path.name).symlink_to(path)
    card = json.loads((segmenter / "card.json").read_text())
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)
