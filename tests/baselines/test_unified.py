"""The methods that the unified framework is compared with: their terms, their steps, their verbs, their sizes."""

import dataclasses
import functools
import importlib.util
import itertools
import json
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import (
    Judge,
    array,
    check_training_resumes,
    gradients,
    kernels,
    moved,
    tensors,
    trained_once,
    values,
)
from tfdisent.baselines import unified as baselines
from tfdisent.baselines.method import method
from tfdisent.baselines.unified import (
    METHODS,
    TCMGAN,
    Pix2Pix,
    Pix2PixConfig,
    TCMGANConfig,
    beside,
    gradient_penalty,
    modality_loss,
    scaled_gradient,
)
from tfdisent.losses import dice_loss
from tfdisent.systems.unified import Unified, UnifiedConfig
from tfdisent.training.adversarial import AdversarialModel

SMALL = {
    "image_size": 32,
    "modalities": ("T1", "T2", "FLAIR"),
    "filters": 2,
    "discriminator_filters": 2,
    "initializer": "he_normal",
}
TINY = {
    "pix2pix": Pix2PixConfig(**SMALL, pairs=("T1 to T2", "FLAIR to T1")),
    "tcmgan": TCMGANConfig(**SMALL, segmentor_filters=2),
}
# The last test compares their steps with the other backends', in processes of their own.
pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="compiles the operations of many small networks, for minutes",
)
ONE_BACKEND = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="training of some length: that steps are the same is tested elsewhere",
)
CLASSES = {"pix2pix": Pix2Pix, "tcmgan": TCMGAN}
B, M = 4, 3
DRAWN = {
    "target_modality": np.array([0, 2, 2, 0], "int32"),
    "interpolation": np.array([0.1, 0.4, 0.7, 0.9], "float32").reshape(B, 1, 1, 1),
}


def made(name, seed=0, **changes):
    """A model with weights of its own, whose steps run without compilation."""
    keras.utils.set_random_seed(seed)
    model = CLASSES[name](dataclasses.replace(TINY[name], **changes), seed=seed)
    model.compile(run_eagerly=True)
    return model


def examples(size=B, seed=0, **more):
    random = np.random.default_rng(seed)
    image = random.uniform(-1, 1, (size, 32, 32, M)).astype("float32")
    mask = np.zeros((size, 32, 32, 1), "uint8")
    mask[:, 8:20, 4:16] = 3
    return {"image": image, "mask": mask, **more}


def step(model, batch=None):
    return trained_once(model, batch or examples(), B)


def chosen(model, **batch):
    """The one pass that a step makes of a batch."""
    (only,) = model.passes(tensors({**examples(), **DRAWN, **batch}))
    return only


def losses(model, batch):
    """Totals and terms of all players on one pass."""
    found, carried = {}, {}
    for phase in model.phases():
        total, terms, new = phase.loss(batch, carried)
        found |= {f"total of {phase.optimizer}": float(array(total)), **values(terms)}
        carried |= new
    return found


@pytest.fixture(scope="module")
def untrained():
    """Models whose weights are left alone, by name."""
    return {name: made(name) for name in CLASSES}


@pytest.fixture
def tcmgan(untrained):
    return untrained["tcmgan"]


@pytest.fixture
def pix2pix(untrained):
    return untrained["pix2pix"]


def with_config(model, monkeypatch, **changes):
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, **changes))


# --- the step ---


def documented_terms(name):
    rows = re.findall(r"^\| (\w+) \| .* \| ([a-z0-9 ]+) \|$", baselines.__doc__, re.MULTILINE)
    return {term for term, models in rows if name in models.split()}


@pytest.mark.parametrize("name, count", [("pix2pix", 3), ("tcmgan", 8)])
def test_the_logs_are_the_terms_that_the_docstrings_table_gives_the_model(name, count):
    logs = step(made(name))
    assert set(logs) == documented_terms(name)
    assert len(logs) == count
    assert np.all(np.isfinite(list(logs.values())))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("player", ["discriminators", "generators"])
def test_a_player_moves_all_of_its_networks_and_no_others(name, player):
    class Alone(CLASSES[name]):
        def phases(self):
            return [phase for phase in super().phases() if phase.optimizer == player]

        def discriminator_loss(self, batch, carried):
            if name == "pix2pix":
                _, _, carried = self.generator_loss(batch, {})
                carried = {key: ops.stop_gradient(value) for key, value in carried.items()}
            return super().discriminator_loss(batch, carried)

    keras.utils.set_random_seed(0)
    model = Alone(TINY[name])
    AdversarialModel.compile(model, {player: keras.optimizers.Adam(1e-3)}, run_eagerly=True)
    networks = {phase.optimizer: phase.networks for phase in CLASSES[name].phases(model)}
    before = {owner: kernels(networks[owner]) for owner in networks}
    step(model)
    for owner in networks:
        after = moved(before[owner], kernels(networks[owner]))
        assert all(after) if owner == player else not any(after)


@pytest.mark.parametrize("name", CLASSES)
def test_every_trainable_variable_belongs_to_one_player(untrained, name):
    model = untrained[name]
    owned = [id(v) for p in model.phases() for n in p.networks for v in n.trainable_variables]
    assert sorted(owned) == sorted(id(v) for v in model.trainable_variables)


@pytest.mark.parametrize("name", CLASSES)
def test_training_that_is_saved_and_restored_equals_training_in_one_piece(tmp_path, name):
    settings = {"pairs": ("T1 to T2",)} if name == "pix2pix" else {"steps": 4}
    new = functools.partial(made, name, **settings)
    check_training_resumes(new, step, (examples(seed=1), examples(seed=2)), tmp_path)


def gradual(size, seed=0):
    """Discs in front of a slope, which the second modality shows inverted and the third brighter, and their masks."""
    random = np.random.default_rng(seed)
    grid = np.linspace(-1, 1, 32)
    centres = random.uniform(-0.4, 0.4, (2, size, 1, 1))
    disc = np.hypot(grid - centres[0], grid[:, None] - centres[1]) < 0.4
    anatomy = 0.3 * grid + disc - 0.4
    image = np.stack([anatomy, -anatomy, 0.5 * anatomy + 0.4], axis=-1).astype("float32")
    return {"image": image, "mask": disc[..., None].astype("uint8")}


@ONE_BACKEND
@pytest.mark.parametrize("name", CLASSES)
def test_a_few_slices_are_learnt_by_heart(name):
    changes = {"pix2pix": {"pairs": ("T2 to T1",)}, "tcmgan": {"steps": 10_000}}[name]
    keras.utils.set_random_seed(0)
    config = dataclasses.replace(TINY[name], filters=8, merge=True, learning_rate=2e-3, average_momentum=0.0, **changes)
    model = CLASSES[name](config)
    model.compile()
    data = gradual(4)
    source, target = data["image"][..., 1:2], data["image"][..., :1]

    def error():
        return np.abs(array(model.translate(source, "T1", "T2")) - target).mean()

    before = error()
    repeated = {key: np.tile(value, (80, 1, 1, 1)) for key, value in data.items()}
    model.fit(repeated, batch_size=4, shuffle=False, verbose=0)
    assert error() < 0.3 * before
    assert error() < 0.3 * np.abs(source - target).mean()


# --- what is missing ---


def available(*missing):
    found = np.ones((B, M), "float32")
    for subject, modality in missing:
        found[subject, modality] = 0
    return found


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("value", [1e3, np.nan])
def test_what_is_not_available_enters_no_loss_whatever_its_channel_holds(untrained, name, value):
    model, image = untrained[name], examples()["image"]
    here = available((0, 1), (1, 2), (3, 0), (3, 1), (3, 2))
    spoilt = np.where(here[:, None, None] == 1, image, value).astype("float32")
    blank = np.where(here[:, None, None] == 1, image, -1).astype("float32")
    received = losses(model, chosen(model, image=spoilt, available=here))
    assert received == losses(model, chosen(model, image=blank, available=here))
    assert np.all(np.isfinite(list(received.values())))


def test_a_subject_without_one_of_the_two_counts_for_nothing_in_pix2pix(pix2pix):
    image = examples()["image"]
    one = losses(pix2pix, chosen(pix2pix, available=available((2, 0))))
    rest = losses(pix2pix, chosen(pix2pix, image=image[[0, 1, 3]]))
    assert one == pytest.approx(rest, rel=1e-5)  # T1 is in both pairs


def test_a_subject_without_the_source_counts_for_nothing_in_tcmgan(tcmgan, monkeypatch):
    with_config(tcmgan, monkeypatch, segmentation_weight=0.0)  # its batch norm sees a blank slice
    rest = [0, 1, 3]
    one = losses(tcmgan, chosen(tcmgan, available=available((2, 1))))
    batch = {name: value[rest] for name, value in {**examples(), **DRAWN}.items()}
    assert one == pytest.approx(losses(tcmgan, chosen(tcmgan, **batch)), rel=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_a_batch_without_any_modality_has_no_loss(untrained, name):
    model = untrained[name]
    assert not any(losses(model, chosen(model, available=np.zeros((B, M), "float32"))).values())


# --- Pix2Pix ---


def test_four_modalities_make_twelve_pairs():
    config = Pix2PixConfig()
    assert len(config.pairs) == 12
    assert config.pairs[:4] == ("T1 to T1ce", "T1 to T2", "T1 to FLAIR", "T1ce to T1")
    assert sorted(config.pair_indices) == list(itertools.permutations(range(4), 2))


@ONE_BACKEND
def test_pairs_that_train_together_learn_what_each_would_alone():
    together = made("pix2pix")
    pairs = together.config.pairs
    alone = [made("pix2pix", pairs=(pair,)) for pair in pairs]
    for k, model in enumerate(alone):
        model.generators[0].set_weights(together.generators[k].get_weights())
        model.discriminators[0].set_weights(together.discriminators[k].get_weights())
    for model in (together, *alone):
        step(model, examples(seed=1))
        step(model, examples(seed=2))
    for k, model in enumerate(alone):
        for one, other in (
            (model.generators[0], together.generators[k]),
            (model.discriminators[0], together.discriminators[k]),
        ):
            for ours, theirs in zip(kernels([one]), kernels([other]), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("share_batch", [False, True])
def test_a_pair_gets_the_whole_batch_or_its_share_of_it(pix2pix, monkeypatch, share_batch):
    with_config(pix2pix, monkeypatch, share_batch=share_batch)
    image = examples()["image"]
    first, second = chosen(pix2pix, available=available((0, 1), (3, 2)))["pairs"]
    rows = ([0, 2], [1, 3]) if share_batch else ([0, 1, 2, 3], [0, 1, 2, 3])
    np.testing.assert_array_equal(array(first["source"])[1:], image[rows[0]][1:, ..., :1])
    np.testing.assert_array_equal(array(first["target"])[1:], image[rows[0]][1:, ..., 1:2])
    np.testing.assert_array_equal(array(second["source"])[:-1], image[rows[1]][:-1, ..., 2:])
    np.testing.assert_array_equal(array(second["target"]), image[rows[1]][..., :1])
    assert array(first["weight"]).tolist() == [0.0] + [1.0] * (len(rows[0]) - 1)
    assert array(second["weight"]).tolist() == [1.0] * (len(rows[1]) - 1) + [0.0]


def test_with_shares_all_pairs_learn():
    model = made("pix2pix", share_batch=True)
    before = kernels(model.generators)
    step(model)
    assert all(moved(before, kernels(model.generators)))


def test_pix2pix_terms_are_those_of_its_paper(pix2pix, monkeypatch):
    batch = chosen(pix2pix)

    def judge(pair):
        def score(shown):
            is_real = ops.all(ops.equal(shown, beside(pair["target"], pair["source"])))
            return ops.where(is_real, 2.0, -3.0) * ops.ones((B, 4, 4, 1))

        return Judge(score)

    monkeypatch.setattr(pix2pix, "discriminators", [judge(pair) for pair in batch["pairs"]])
    found = losses(pix2pix, batch)
    real, generated = np.log1p(np.exp(-2.0)), np.log1p(np.exp(-3.0))
    assert found["d_adversarial"] == pytest.approx((real + generated) / 2, rel=1e-5)
    assert found["total of discriminators"] == pytest.approx(real + generated, rel=1e-5)  # 2 pairs
    assert found["g_adversarial"] == pytest.approx(np.log1p(np.exp(3.0)), rel=1e-5)
    image = examples()["image"]
    errors = [
        np.abs(array(pix2pix.translate(image[..., i : i + 1], j, i)) - image[..., j : j + 1]).mean()
        for i, j in ((0, 1), (2, 0))
    ]
    assert found["translation"] == pytest.approx(np.mean(errors), rel=1e-4)
    expected = 2 * (100 * found["translation"] + found["g_adversarial"])
    assert found["total of generators"] == pytest.approx(expected, rel=1e-5)


def test_each_slice_is_translated_by_the_network_of_its_pair(pix2pix):
    image = examples()["image"][..., :1]
    first = array(pix2pix.translate(image, "T2", "T1"))
    second = array(pix2pix.translate(image, target=0, source="FLAIR"))
    np.testing.assert_allclose(first, array(pix2pix.generators[0](image)), atol=1e-6)
    mixed = pix2pix.translate(image, ["T1", "T2", "T1", "T2"], ["FLAIR", "T1", "FLAIR", "T1"])
    expected = np.stack([second[0], first[1], second[2], first[3]])
    np.testing.assert_allclose(array(mixed), expected, atol=1e-5)
    codes = np.eye(M)[[0, 1, 0, 1]], np.eye(M)[[2, 0, 2, 0]]
    np.testing.assert_array_equal(array(pix2pix.translate(image, *codes)), array(mixed))


# --- TC-MGAN ---


def test_networks_have_the_parameters_of_the_public_code():
    config = TCMGANConfig()
    counts = [
        sum(int(np.prod(v.shape)) for v in network.trainable_variables)
        for network in (
            baselines.generator(config, 1, 3),
            baselines.discriminator(config, 3),
            baselines.segmentor(config),
        )
    ]
    assert counts == [41_822_593, 11_203_520, 6_129_025]


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0, 3.0])
def test_the_gradient_penalty_of_a_linear_critic_is_known(slope):
    image = ops.convert_to_tensor(examples()["image"])
    # The sum over the map of 4 patches has a gradient of 4 * slope in each of 32 * 32 * M pixels.
    received = gradient_penalty(lambda x: slope * ops.sum(x) * ops.ones((B, 2, 2, 1)), image)
    expected = (4 * slope * np.sqrt(32 * 32 * M) * B - 1) ** 2  # every score sums over the batch
    np.testing.assert_allclose(array(received), [expected] * B, rtol=1e-4)


def test_the_gradient_penalty_of_a_critic_that_says_nothing_can_be_learnt_from():
    image, slope = ops.convert_to_tensor(examples()["image"]), keras.Variable(0.0)

    def penalty():
        return ops.sum(gradient_penalty(lambda x: slope * ops.sum(x) * ops.ones((B, 1, 1, 1)), image))

    (received,) = gradients(penalty, [slope])
    assert np.isfinite(received)


def test_the_penalty_is_taken_between_real_and_generated_slices_and_not_along_the_source():
    tcmgan = made("tcmgan")
    batch, shown = chosen(tcmgan), []
    made_of = array(tcmgan.generator({"image": batch["source"], "code": batch["code"]}))

    def judge(pair):
        shown.append(array(pair))
        scores = ops.sum(0.5 * pair[..., :1] ** 2 + 1e3 * pair[..., 1:], axis=(1, 2))
        return scores[:, None, None] * ops.ones((1, 1, 1, 1)), ops.zeros((len(pair), 2))

    tcmgan.discriminator = Judge(judge)
    found = losses(tcmgan, batch)
    share = DRAWN["interpolation"]
    between = share * array(batch["target"]) + (1 - share) * made_of
    np.testing.assert_allclose(shown[1][..., :1], between, atol=1e-5)
    np.testing.assert_array_equal(shown[1][..., 1:], array(batch["source"]))
    norm = np.sqrt((between**2).sum(axis=(1, 2, 3)))  # the gradient of half the square is the image
    assert found["gradient_penalty"] == pytest.approx(((norm - 1) ** 2).mean(), rel=1e-4)


def test_adversarial_terms_are_sums_over_the_map():
    tcmgan = made("tcmgan")
    batch = chosen(tcmgan)

    def judge(pair):
        both = ops.convert_to_tensor(np.arange(len(pair), dtype="float32")) + 0.0 * ops.sum(pair)
        return both[:, None, None, None] * ops.ones((1, 2, 3, 1)), ops.zeros((len(pair), 2))

    tcmgan.discriminator = Judge(judge)
    found = losses(tcmgan, batch)
    assert found["d_adversarial"] == 6 * (5.5 - 1.5)  # generated slices come after the real ones
    assert found["g_adversarial"] == -6 * 1.5
    assert found["d_modality"] == found["g_modality"] == pytest.approx(2 * np.log(2), rel=1e-5)


def test_the_modality_loss_sums_over_modalities():
    logits = np.array([[1.0, -2.0, 0.5]], "float32")
    p = 1 / (1 + np.exp(-logits[0]))
    expected = -np.log(1 - p[0]) - np.log(p[1]) - np.log(1 - p[2])
    received = modality_loss(logits, np.eye(3, dtype="float32")[[1]])
    np.testing.assert_allclose(array(received), [expected], rtol=1e-5)


def test_the_translation_term_is_a_sum_over_pixels(tcmgan):
    batch = chosen(tcmgan)
    _, terms, _ = tcmgan.generator_loss(batch, {})
    generated = tcmgan.translate(batch["source"], DRAWN["target_modality"])
    error = np.abs(array(generated) - array(batch["target"])).sum(axis=(1, 2, 3)).mean()
    assert values(terms)["translation"] == pytest.approx(error, rel=1e-4)


def test_each_weight_multiplies_its_own_term(tcmgan, monkeypatch):
    with_config(
        tcmgan,
        monkeypatch,
        translation_weight=2.0,
        modality_weight=3.0,
        gradient_penalty_weight=5.0,
    )
    found = losses(tcmgan, chosen(tcmgan))
    expected = found["d_adversarial"] + 3 * found["d_modality"] + 5 * found["gradient_penalty"]
    assert found["total of discriminators"] == pytest.approx(expected, rel=1e-5)
    expected = 2 * found["translation"] + found["g_adversarial"] + 3 * found["g_modality"]
    expected += found["segmentor"]  # whose gradient for the generator is weighted on its way
    assert found["total of generators"] == pytest.approx(expected, rel=1e-5)


def test_one_pass_of_the_segmentor_gives_both_players_the_gradient_of_their_own_loss(tcmgan, monkeypatch):
    with_config(tcmgan, monkeypatch, segmentation_weight=50.0)
    batch = chosen(tcmgan)
    x, y, code, mask = (batch[name] for name in ("source", "target", "code", "lesion"))

    def dice(image):
        found = tcmgan.segmentor({"image": image, "code": code}, training=True)
        return ops.mean(dice_loss(found, mask))

    def of_generator():
        with_config(tcmgan, monkeypatch, segmentation_weight=0.0)
        total, _, _ = tcmgan.generator_loss(batch, {})
        with_config(tcmgan, monkeypatch, segmentation_weight=50.0)
        return total + 50.0 * dice(tcmgan.generator({"image": x, "code": code}, training=True))

    def of_segmentor():
        generated = tcmgan.generator({"image": x, "code": code}, training=True)
        return 0.7 * dice(ops.stop_gradient(generated)) + 0.3 * dice(y)

    for network, textbook in ((tcmgan.generator, of_generator), (tcmgan.segmentor, of_segmentor)):
        variables = [v for v in network.trainable_variables if len(v.shape) == 4]
        ours = gradients(lambda: tcmgan.generator_loss(batch, {})[0], variables)
        for one, other in zip(ours, gradients(textbook, variables), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


def test_a_scaled_gradient_leaves_the_values():
    image = keras.Variable([1.5, -2.0])
    np.testing.assert_array_equal(array(scaled_gradient(image.value, 5.0)), [1.5, -2.0])
    (received,) = gradients(lambda: ops.sum(scaled_gradient(image.value, 5.0) ** 2), [image])
    np.testing.assert_allclose(received, [15.0, -20.0])


def drawn(model, size, **batch):
    full = {"available": np.ones((size, M), "float32"), **batch}
    return array(model.draw(tensors(full))["target_modality"])


def test_targets_are_drawn_among_the_other_modalities_equally_often(tcmgan):
    targets = np.stack([drawn(tcmgan, 60) for _ in range(20)])
    counts = np.bincount(targets.ravel(), minlength=M)
    assert counts[1] == 0  # T2 is the source
    assert min(counts[0], counts[2]) > 500  # 600 expected
    assert np.any(targets[0] != targets[1])


def test_only_available_targets_are_drawn(tcmgan):
    here = np.tile(np.array([[1, 1, 0], [0, 1, 1]], "float32"), (30, 1))
    targets = drawn(tcmgan, 60, available=here)
    assert targets.tolist() == [0, 2] * 30


def test_a_pass_holds_the_slices_drawn_the_targets_code_and_the_whole_tumour(tcmgan):
    batch, image = chosen(tcmgan), examples()["image"]
    np.testing.assert_array_equal(array(batch["source"]), image[..., 1:2])
    targets = image[np.arange(B), :, :, DRAWN["target_modality"]][..., None]
    np.testing.assert_array_equal(array(batch["target"]), targets)
    assert array(batch["code"]).tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    np.testing.assert_array_equal(array(batch["lesion"]), examples()["mask"] / 3)
    flat = chosen(tcmgan, mask=examples()["mask"][..., 0])
    np.testing.assert_array_equal(array(flat["lesion"]), array(batch["lesion"]))


def test_lesions_weigh_more_in_what_every_baseline_is_trained_for(monkeypatch):
    """The error inside the mask counts 1 + weight times, outside of it once."""
    for name in ("pix2pix", "tcmgan"):
        model = made(name)
        with_config(model, monkeypatch, lesion_weight=3.0)
        batch = tensors({"lesion": np.eye(32, dtype="float32")[None, ..., None]})
        error = array(model.translation_error(ops.ones((1, 32, 32, 1)), ops.zeros((1, 32, 32, 1)), batch))
        assert error == pytest.approx(1 + 3 / 32)


def test_without_a_segmentor_no_masks_are_needed():
    model = made("tcmgan", segmentation_weight=0.0)
    before = kernels([model.segmentor])
    logs = step(model, {"image": examples()["image"]})
    assert set(logs) == documented_terms("tcmgan") - {"tumour_consistency", "segmentor"}
    assert not any(moved(before, kernels([model.segmentor])))


def test_the_learning_rate_falls_at_fractions_of_the_training(tcmgan):
    schedule = tcmgan.learning_rate("generators")
    steps = tcmgan.config.steps
    rates = [float(array(schedule(int(f * steps)))) for f in (0, 0.29, 0.31, 0.61, 0.91)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 1e-4, 5e-5, 1e-5], rtol=1e-5)
    assert isinstance(tcmgan.optimizers["generators"]._learning_rate, type(schedule))


def test_translations_differ_by_target_and_an_example_is_answered_alone_as_in_its_batch(tcmgan):
    image = examples()["image"][..., 1:2]
    one, other = (array(tcmgan.translate(image, target)) for target in ("T1", "FLAIR"))
    assert one.shape == image.shape and np.abs(one).max() <= 1
    assert np.abs(one - other).max() > 1e-4
    mixed = array(tcmgan.translate(image, [0, 2, 0, 2], source="T2"))
    np.testing.assert_allclose(mixed, np.stack([one[0], other[1], one[2], other[3]]), atol=1e-5)
    (function, shapes), *_ = tcmgan.signatures().values()
    assert shapes == {"image": (None, 32, 32, 1), "target": (None, M)}
    codes = np.eye(M, dtype="float32")[[0, 2, 0, 2]]
    np.testing.assert_allclose(array(function(image, codes)["image"]), mixed, atol=1e-6)


# --- what both share ---


@pytest.mark.parametrize("name", CLASSES)
def test_they_must_be_told_the_source_and_do_not_encode(untrained, name):
    assert untrained[name].needs_source
    assert not hasattr(untrained[name], "encode")


@pytest.mark.parametrize("name", CLASSES)
def test_verbs_leave_every_variable_as_it_was(untrained, name):
    model = untrained[name]
    before = [array(v.value).copy() for v in model.variables]
    model.translate(np.zeros((2, 32, 32, 1), "float32"), "T1", {"pix2pix": 2, "tcmgan": 1}[name])
    assert not any(moved(before, [array(v.value) for v in model.variables]))


def test_pix2pix_exports_a_signature_for_each_pair(pix2pix):
    signatures = pix2pix.signatures()
    assert list(signatures) == ["T1_to_T2", "FLAIR_to_T1"]
    image = examples()["image"][..., :1]
    for (function, shapes), (source, target) in zip(signatures.values(), (("T1", "T2"), ("FLAIR", "T1")), strict=True):
        assert shapes == {"image": (None, 32, 32, 1)}
        expected = array(pix2pix.translate(image, target, source))
        np.testing.assert_allclose(array(function(image)["image"]), expected, atol=1e-6)


def test_their_cards_say_in_which_modality_volumes_are_taken_and_given(pix2pix, tcmgan):
    assert pix2pix.volume_io() == {"inputs": ["T1"], "outputs": {"image": {"kind": "image", "names": ["T2"]}}}
    names = ["T1", "T2", "FLAIR"]
    assert tcmgan.volume_io() == {"inputs": ["T2"], "outputs": {"image": {"kind": "image", "names": names}}}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("settings", [{"image_size": (32, 48)}, {"merge": True}], ids=str)
def test_a_step_is_made_on_oblong_slices_and_with_merged_levels(name, settings):
    model = made(name, **settings)
    height, width, _ = model.config.image_shape
    images = np.random.default_rng(0).uniform(-1, 1, (B, height, width, M)).astype("float32")
    batch = {"image": images, "mask": np.ones((B, height, width), "uint8")}
    assert np.all(np.isfinite(list(step(model, batch).values())))


@pytest.mark.parametrize("name", CLASSES)
def test_slices_of_background_alone_leave_a_step_finite(name):
    model = made(name)
    batch = {
        "image": np.full((B, 32, 32, M), -1.0, "float32"),
        "mask": np.zeros((B, 32, 32, 1), "uint8"),
    }
    assert np.all(np.isfinite(list(step(model, batch).values())))
    assert all(np.all(np.isfinite(array(v.value))) for v in model.trainable_variables)


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_is_rebuilt_from_its_config(untrained, name):
    config = json.loads(json.dumps(untrained[name].get_config()))
    again = CLASSES[name].from_config(config)
    assert again.config == TINY[name]
    assert [v.shape for v in again.weights] == [v.shape for v in untrained[name].weights]


IMAGE = np.zeros((2, 32, 32, 1), "float32")
WRONG = {
    "pair": (
        "pix2pix",
        lambda m: m.translate(IMAGE, "FLAIR", "T1"),
        "T1 to T2, FLAIR to T1; received 'T1 to FLAIR'",
    ),
    "self-translation": (
        "pix2pix",
        lambda m: m.translate(IMAGE, "T1", "T1"),
        "received 'T1 to T1'",
    ),
    "unknown source": (
        "pix2pix",
        lambda m: m.translate(IMAGE, "T1", "PD"),
        "a source among T1, T2, FLAIR, or an index from 0 to 2; received 'PD'",
    ),
    "unknown target": ("pix2pix", lambda m: m.translate(IMAGE, 3, "T1"), "a target .* received 3"),
    "number of sources": (
        "pix2pix",
        lambda m: m.translate(IMAGE, "T2", ["T1"] * 3),
        "1 source or 2, one an image; received 3",
    ),
    "codes": (
        "pix2pix",
        lambda m: m.translate(IMAGE, np.eye(2), "T1"),
        r"\(B, 3\), received \(2, 2\)",
    ),
    "several channels": (
        "pix2pix",
        lambda m: m.translate(np.zeros((2, 32, 32, 3)), "T2", "T1"),
        r"\(B, 32, 32, 1\), received \(2, 32, 32, 3\)",
    ),
    "training channels": (
        "pix2pix",
        lambda m: m.passes({"image": np.zeros((2, 32, 32, 4), "float32")}),
        r"\(B, 32, 32, 3\), a channel for each of T1, T2, FLAIR; received \(2, 32, 32, 4\)",
    ),
    "other source": (
        "tcmgan",
        lambda m: m.translate(IMAGE, "T1", source=["T2", "FLAIR"]),
        "slices in T2.*received source FLAIR. Train another with source=FLAIR",
    ),
    "source as target": (
        "tcmgan",
        lambda m: m.translate(IMAGE, ["T1", "T2"]),
        "a target among T1, FLAIR; received T2, which is the source",
    ),
    "no mask": (
        "tcmgan",
        lambda m: m.passes(tensors({"image": examples()["image"]})),
        "a mask.*received image.*segmentation_weight=0",
    ),
    "mask of another size": (
        "tcmgan",
        lambda m: m.passes(tensors({**examples(), "mask": np.zeros((B, 16, 16), "uint8")})),
        r"\(B, 32, 32\) or \(B, 32, 32, 1\), received \(4, 16, 16\)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_argument_is_an_error_that_says_what_was_expected(untrained, what):
    name, call, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        call(untrained[name])


# --- configs and names ---


@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
def test_a_config_is_frozen_and_survives_json(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.image_size = 64
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    "config, wrong, message",
    [
        (Pix2PixConfig, {"image_size": 100}, "image_size.*received 100"),
        (Pix2PixConfig, {"modalities": ("T1",)}, "two or more.*received"),
        (Pix2PixConfig, {"learning_rate": 0.0}, "learning_rate > 0, received 0.0"),
        (Pix2PixConfig, {"translation_weight": -1.0}, "translation_weight >= 0, received -1.0"),
        (Pix2PixConfig, {"pairs": ("T1 to T1",)}, "pairs among T1 to T1ce.*received 'T1 to T1'"),
        (Pix2PixConfig, {"pairs": ("T1 to T2", "T1 to T2")}, "pairs that differ"),
        (Pix2PixConfig, {"share_batch": True, "batch_size": 8}, ">= 12, one image a pair; rec.* 8"),
        (TCMGANConfig, {"source": "PD"}, "one of T1, T1ce, T2, FLAIR, received 'PD'"),
        (TCMGANConfig, {"segmentor_filters": 0}, "segmentor_filters.*received 0"),
        (TCMGANConfig, {"gradient_penalty_weight": -1.0}, "gradient_penalty_weight >= 0"),
    ],
)
def test_an_impossible_value_is_refused_by_name(config, wrong, message):
    with pytest.raises(ValueError, match=message):
        config(**wrong)


def test_presets_are_each_models_own():
    pix2pix, tcmgan = Pix2PixConfig.preset("quick"), TCMGANConfig.preset("quick")
    assert (pix2pix.share_batch, pix2pix.batch_size, pix2pix.steps, pix2pix.learning_rate) == (True, 48, 1200, 1e-3)
    assert (tcmgan.translation_weight, tcmgan.steps, tcmgan.batch_size) == (0.4, 2400, 16)
    assert TCMGANConfig.preset("small").translation_weight == 0.1
    for config in (Pix2PixConfig, TCMGANConfig):
        assert config.preset("paper") == config()
        assert config().learning_rate == 2e-4


def test_tcmgan_needs_masks_unless_it_has_no_segmentor():
    brains = SimpleNamespace(dataset="ixi", modalities=("T1", "T2"), mask_labels=())
    with pytest.raises(ValueError, match="masks of the tumour, received ixi.*segmentation_weight=0"):
        TCMGANConfig().check_manifest(brains)
    TCMGANConfig(segmentation_weight=0.0).check_manifest(brains)


def test_fields_that_all_share_mean_the_same_and_have_the_same_type():
    types = {field.name: field.type for field in dataclasses.fields(UnifiedConfig)}
    for field in dataclasses.fields(baselines.TranslatorConfig):
        assert field.type == types[field.name]


def test_models_have_names_titles_and_configs_that_exist():
    sources = ("T1", "T1ce", "T2", "FLAIR")
    by_source = [f"tcmgan_{source}" for source in sources]
    ablations = ["no_disentanglement", "no_adversarial", "no_cycle", "no_adversarial_cycle", "translation_only"]
    assert [known.name for known in METHODS] == ["unified", "pix2pix", "tcmgan", *by_source, *ablations]
    assert len({known.title for known in METHODS}) == len(METHODS)
    for known in METHODS:
        fields = {field.name for field in dataclasses.fields(known.model.config_class)}
        assert known.changes.keys() <= fields
    assert {method(METHODS, name).model.config_class for name in ablations} == {UnifiedConfig}
    assert [method(METHODS, name).changes["source"] for name in by_source] == list(sources)


@pytest.mark.parametrize(
    "name, left_out",
    [
        ("no_disentanglement", {"disentanglement"}),
        ("no_adversarial", {"g_adversarial", "g_modality"}),
        ("no_cycle", {"cycle"}),
        ("no_adversarial_cycle", {"g_adversarial", "g_modality", "cycle"}),
        ("translation_only", {"g_adversarial", "g_modality", "cycle", "disentanglement"}),
    ],
)
def test_an_ablation_is_the_framework_without_the_terms_that_it_is_called_after(name, left_out):
    _, _, model_class, changes = method(METHODS, name)
    assert model_class is Unified

    def terms(changes):
        model = Unified(UnifiedConfig(**SMALL, **changes))
        (batch,) = model.passes(tensors(examples()))
        return set(model.generator_loss(batch, {})[1])

    assert terms({}) - terms(changes) == left_out


# --- backends: as tests/systems/test_three_backends.py, which says why after SGD and from a fixed seed ---

BACKENDS = ("tensorflow", "jax", "torch")
SCRIPT = """
import keras
import numpy as np
from tfdisent.baselines.unified import Pix2Pix, Pix2PixConfig, TCMGAN, TCMGANConfig

batches = dict(np.load(FOLDER + "/batches.npz"))
settings = dict(
    image_size=32, modalities=("T1", "T2", "FLAIR"), filters=2, discriminator_filters=2, initializer="he_normal",
    upsampling="nearest", average_momentum=0.9,
)
for name, make, rate in (
    ("pix2pix", lambda: Pix2Pix(Pix2PixConfig(**settings, pairs=("T1 to T2",))), 1e-3),
    ("tcmgan", lambda: TCMGAN(TCMGANConfig(**settings, segmentor_filters=2)), 1e-4),
):
    keras.utils.set_random_seed(0)
    model = make()
    weights = f"{FOLDER}/{name}.weights.h5"
    if keras.backend.backend() == "tensorflow":
        model.save_weights(weights)
    model.load_weights(weights)
    model.compile(
        {player: keras.optimizers.SGD(rate, name=player) for player in ("discriminators", "generators")},
        run_eagerly=EAGERLY,
    )
    start = model.get_weights()
    logs = model.fit(batches, batch_size=4, shuffle=False, verbose=0).history
    np.savez(
        f"{FOLDER}/{keras.backend.backend()}-{name}.npz", *model.get_weights(),
        moved=max(np.abs(a - b).max() for a, b in zip(model.get_weights(), start, strict=True)),
        logs=[logs[term][0] for term in sorted(logs)],
    )
"""


@pytest.fixture(scope="module")
def trained(run_python, tmp_path_factory):
    """{(backend, model): weights, losses and the largest change after two steps}, for what is installed."""
    folder = tmp_path_factory.mktemp("backends")
    random = np.random.default_rng(0)
    here = np.ones((8, 3), "float32")
    here[[1, 6], [2, 1]] = 0
    np.savez(
        folder / "batches.npz",
        image=random.uniform(-1, 1, (8, 32, 32, 3)).astype("float32"),
        mask=(random.uniform(size=(8, 32, 32, 1)) > 0.7).astype("uint8"),
        available=here,
        target_modality=np.array([0, 0, 2, 2, 0, 2, 0, 2], "int32"),
        interpolation=random.uniform(size=(8, 1, 1, 1)).astype("float32"),
    )
    results = {}
    for backend in filter(importlib.util.find_spec, BACKENDS):
        settings = f"FOLDER, EAGERLY = {str(folder)!r}, {backend != 'jax'}\n"
        run_python(settings + SCRIPT, env={"KERAS_BACKEND": backend})
        for name in CLASSES:
            with np.load(folder / f"{backend}-{name}.npz") as result:
                results[backend, name] = dict(result)
    return results


@pytest.mark.slow
@pytest.mark.backend("tensorflow")  # it starts the other two itself
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("one, other", list(itertools.combinations(BACKENDS, 2)))
def test_two_steps_from_the_same_weights_agree(trained, one, other, name):
    for backend in (one, other):
        if (backend, name) not in trained:
            pytest.skip(f"{backend} is not installed")
    ours, theirs = trained[one, name], trained[other, name]
    kernels = [key for key in ours if key.startswith("arr_")]
    largest = max(np.abs(ours[key] - theirs[key]).max() for key in kernels)
    print(f"{one} and {other}, {name}: largest weight difference {largest:.2g}")
    assert ours["moved"] > 1e-3
    assert largest < 1e-5
    np.testing.assert_allclose(ours["logs"], theirs["logs"], rtol=1e-5, atol=1e-5)
