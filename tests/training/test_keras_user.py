"""The models as somebody uses them who knows Keras: files, `fit` in all its forms, callbacks, and what is refused."""

import importlib
import importlib.util
import json

import keras
import numpy as np
import pytest
from keras import ops

from tests.checks import same_state, to_numpy
from tests.tiny import NARROWEST, TWO_MODALITIES
from tfdisent import _registration, layers
from tfdisent.baselines import drai as drai_baselines
from tfdisent.baselines import harmonize as harmonize_baselines
from tfdisent.baselines import margin as margin_baselines
from tfdisent.baselines import mmsdnet as mmsdnet_baselines
from tfdisent.baselines import unified as unified_baselines
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.systems.unified import Unified, UnifiedConfig

TINY = DRAIConfig(**NARROWEST, channels=1, train_twice=False, batch_size=4, learning_rate=1e-3)
TINY_SLICES = UnifiedConfig(**TWO_MODALITIES, learning_rate_decay=0.5, steps=6)
MODELS = {
    "drai": lambda: DRAI(TINY, seed=3),
    "cinfogan": lambda: drai_baselines.CInfoGAN(TINY, seed=3),
    "dcinfogan": lambda: drai_baselines.DCInfoGAN(TINY, seed=3),
    "cavae": lambda: drai_baselines.CAVAE(TINY, seed=3),
    "dcavae": lambda: drai_baselines.DCAVAE(TINY, seed=3),
    "unified": lambda: Unified(TINY_SLICES, seed=3),
    "pix2pix": lambda: unified_baselines.Pix2Pix(unified_baselines.Pix2PixConfig(**TWO_MODALITIES), seed=3),
    "tcmgan": lambda: unified_baselines.TCMGAN(
        unified_baselines.TCMGANConfig(**TWO_MODALITIES, source="T1", segmentation_weight=0.0), seed=3
    ),
}
RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(-1, 1, (8, 16, 16, 1)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(8) % 3]
SLICES = RANDOM.uniform(-1, 1, (8, 32, 32, 2)).astype("float32")


def compiled(name="drai", **settings):
    """A compiled model, always with the same weights."""
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    model.compile(**settings)
    return model


def batch_of(model):
    return {"image": X, "condition": Y} if "condition" in model.batch_shapes() else {"image": SLICES}


def trained(model, **settings):
    model.fit(batch_of(model), batch_size=4, shuffle=False, verbose=0, **settings)
    return model


def state(model):
    return [to_numpy(v).copy() for v in [*model.variables, *model.optimizer.variables]]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def drai():
    return compiled()


@pytest.fixture(scope="module")
def unified():
    return compiled("unified")


# --- files ---


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_model_has_the_saved_ones_config_and_seed_and_weights(tmp_path, name):
    model = MODELS[name]()
    config = model.get_config()
    assert json.loads(json.dumps(config)) == config and config["seed"] == 3
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is type(model) and loaded.config == model.config
    assert_equal([to_numpy(v) for v in model.variables], [to_numpy(v) for v in loaded.variables])


@pytest.mark.parametrize("name", ["drai", "unified"])
def test_training_continues_after_saving_and_loading_as_without_it(tmp_path, name):
    straight = trained(compiled(name), epochs=2)
    trained(model := compiled(name)).save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    same_state(loaded, model)
    assert isinstance(loaded.optimizers["generators"], keras.optimizers.Adam)
    same_state(trained(loaded), straight)


def test_the_optimizers_that_were_given_come_back_with_their_state(tmp_path):
    rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 2, 0.5)
    model = trained(compiled(optimizer=keras.optimizers.SGD(rate, momentum=0.9), run_eagerly=False))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert all(isinstance(o, keras.optimizers.SGD) for o in loaded.optimizers.values())
    assert [float(o.learning_rate) for o in loaded.optimizers.values()] == pytest.approx([5e-4] * 2)
    assert {int(o.iterations) for o in loaded.optimizers.values()} == {2}
    same_state(trained(loaded), trained(model))


LOAD = """
import {first}
import {second}
from tfdisent import data as unrelated  # loads no system
models = {{name: keras.models.load_model(f"{folder}/{{name}}.keras") for name in {names}}}
print(*(f"{{name}}={{type(model).__name__}}" for name, model in models.items()))
keras.models.load_model("{folder}/encoder.keras")
"""


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize(
    "first, second, names", [("tfdisent", "keras", list(MODELS)), ("keras", "tfdisent", ["unified"])]
)
def test_a_fresh_process_that_imports_the_package_alone_loads_every_model(tmp_path, run_python, first, second, names):
    models = {name: MODELS[name]() for name in names}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    models["unified"].encoder.save(tmp_path / "encoder.keras")  # a network with layers of ours
    loaded = run_python(LOAD.format(first=first, second=second, folder=tmp_path, names=names))
    assert loaded.split() == [f"{name}={type(model).__name__}" for name, model in models.items()]


def test_every_model_and_layer_is_known_to_keras_by_name():
    listed = {name for names in _registration.CLASSES.values() for name in names}
    systems = (drai_baselines, harmonize_baselines, margin_baselines, mmsdnet_baselines, unified_baselines)
    methods = [method for system in systems for method in system.METHODS]
    assert {method.model.__name__ for method in methods} | set(layers.__all__) == listed
    for module, names in _registration.CLASSES.items():
        for name in names:
            one = getattr(importlib.import_module(module), name)
            assert keras.saving.get_registered_object(f"tfdisent>{name}") is one


def test_optimizers_are_saved_under_their_public_names():
    config = compiled(optimizer="adam").get_compile_config()
    assert {(o["module"], o["class_name"]) for o in config["optimizers"].values()} == {("keras.optimizers", "Adam")}


ELSEWHERE = """
import keras, numpy as np, tfdisent
from keras import ops
model = keras.models.load_model("{folder}/m.keras")
again = type(model)(model.config)
again.load_weights("{folder}/m.weights.h5")
x = np.load("{folder}/x.npy")
np.save("{folder}/y.npy", [ops.convert_to_numpy(ops.stop_gradient(m(x))) for m in (model, again)])
print([int(o.iterations) for o in model.optimizers.values()])
"""


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_files_are_read_under_another_backend(tmp_path, run_python, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model = trained(compiled())
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    np.save(tmp_path / "x.npy", X)
    assert run_python(ELSEWHERE.format(folder=tmp_path), {"KERAS_BACKEND": backend}).strip() == "[2, 2]"
    for read in np.load(tmp_path / "y.npy"):
        np.testing.assert_allclose(read, to_numpy(model(X)), atol=1e-5)


# --- fit, evaluate, predict ---


def test_a_dict_and_a_pair_of_arrays_train_alike():
    one, other = compiled(), compiled()
    assert_equal(state(one), state(other))
    trained(one)
    other.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    assert_equal(state(one), state(other))


@pytest.mark.parametrize("name", ["drai", "unified", "tcmgan"])
def test_evaluation_gives_the_terms_of_training_and_changes_nothing(name):
    model = compiled(name)
    before, seeds = state(model), model.seed_generator.state
    terms = model.evaluate(batch_of(model), batch_size=8, verbose=0, return_dict=True)
    assert_equal(before, state(model))
    again = model.evaluate(batch_of(model), batch_size=8, verbose=0)
    assert again == list(terms.values()) and all(map(np.isfinite, again))
    assert seeds is model.seed_generator.state
    # A step of the same batch and random numbers; its later phases see the earlier ones' networks moved.
    logs = model.train_on_batch(batch_of(model), return_dict=True)
    assert logs.keys() == terms.keys()
    first = "d_" if name == "tcmgan" else "g_"
    for term in [term for term in terms if term.startswith(first)]:
        assert float(logs[term]) == pytest.approx(terms[term], rel=1e-4), term


def test_the_terms_of_an_evaluation_are_means_over_examples():
    class Mean(Unified):
        def generator_loss(self, batch, carried):
            total, _, made = super().generator_loss(batch, carried)
            return total, {"mean": ops.mean(batch["source"])}, made

    model = Mean(TINY_SLICES)
    model.compile()
    values = np.repeat(np.arange(5, dtype="float32") / 10, 32 * 32 * 2).reshape(5, 32, 32, 2)
    terms = model.evaluate({"image": values}, batch_size=2, verbose=0, return_dict=True)  # 2, 2 and 1
    assert terms["mean"] == pytest.approx(0.2, abs=1e-4)  # that of the batches' means is 0.23


def test_validation_leaves_training_as_it_is_and_uses_averaged_weights():
    with_validation, without = compiled("unified"), compiled("unified")
    validation = {"image": SLICES[:2]}
    history = trained(with_validation, validation_data=validation).history.history
    trained(without)
    assert_equal(state(with_validation), state(without))
    assert {f"val_{name}" for name in history if not name.startswith("val_")} < set(history)
    with without.averaged():
        without.averages = None  # evaluated as they are now
        expected = without.evaluate(validation, verbose=0, return_dict=True)
    assert history["val_cycle"][-1] == pytest.approx(expected["cycle"], rel=1e-5)


def test_predictions_are_what_a_call_gives_with_averaged_weights(drai, unified):
    with drai.averaged():
        expected = to_numpy(drai(X))
    for given in (X, {"image": X, "condition": Y}):
        np.testing.assert_allclose(drai.predict(given, batch_size=4, verbose=0), expected, atol=1e-5)
    image, target = SLICES[..., :1], np.array([0, 1] * 4)
    with unified.averaged():
        expected = to_numpy(unified.translate(image, target))
    for asked in (target, np.eye(2, dtype="float32")[target]):
        received = unified.predict({"image": image, "target": asked}, batch_size=4, verbose=0)
        np.testing.assert_allclose(received, expected, atol=1e-5)
    np.testing.assert_allclose(to_numpy(unified({"image": image, "target": target})).shape, image.shape)


def test_a_call_that_lacks_what_it_needs_says_what():
    with pytest.raises(ValueError, match="'image', 'target', since the modality wanted must be told"):
        MODELS["unified"]()(SLICES[..., :1])
    with pytest.raises(ValueError, match="images and conditions, since CAVAE infers style alone"):
        MODELS["cavae"]()(X)


@pytest.mark.backend("tensorflow", "jax")  # PyTorch's tensors have values in `predict` too
def test_pix2pix_says_that_a_compiled_predict_cannot_choose_its_network():
    batch = {"image": SLICES[..., :1], "target": np.ones(8, "int32"), "source": np.zeros(8, "int32")}
    model = MODELS["pix2pix"]()
    assert to_numpy(model(batch)).shape == (8, 32, 32, 1)
    with pytest.raises(ValueError, match="call `translate`, or compile with run_eagerly=True"):
        model.predict(batch, verbose=0)


def test_a_summary_lists_the_networks(drai):
    lines = []
    drai.summary(print_fn=lines.append)
    assert "style_encoder" in "".join(lines)


# --- compile and callbacks ---


@pytest.mark.parametrize("given", ["sgd", keras.optimizers.SGD(0.25), {"optimizer": "sgd"}])
def test_one_rule_makes_an_optimizer_for_every_player(given):
    model = MODELS["drai"]()
    model.compile(**given) if isinstance(given, dict) else model.compile(given)
    optimizers = model.optimizers
    assert all(isinstance(one, keras.optimizers.SGD) for one in optimizers.values())
    assert optimizers["generators"] is not optimizers["discriminators"]
    if isinstance(given, keras.optimizers.Optimizer):
        assert {float(one.learning_rate) for one in optimizers.values()} == {0.25}


def test_losses_and_metrics_of_keras_are_refused(drai):
    for given in ({"loss": "mse"}, {"metrics": ["mae"]}):
        with pytest.raises(ValueError, match="neither loss nor metrics, since DRAI has its own"):
            MODELS["drai"]().compile("adam", **given)
    with pytest.raises(ValueError, match="balance the batches"):
        drai.fit(X, Y, sample_weight=np.ones(8), verbose=0)


def test_a_schedule_and_a_plateau_change_every_players_rate():
    model = compiled("unified", optimizer=keras.optimizers.Adam(1e-3))
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    trained(model, epochs=2, callbacks=[halve])
    assert [float(o.learning_rate) for o in model.optimizers.values()] == pytest.approx([5e-4] * 2)
    plateau = keras.callbacks.ReduceLROnPlateau("val_cycle", mode="min", factor=0.1, patience=1, min_delta=1e9)
    trained(model, epochs=3, callbacks=plateau, validation_data={"image": SLICES})
    assert [float(o.learning_rate) for o in model.optimizers.values()] == pytest.approx([5e-6] * 2)


def test_older_callbacks_that_set_one_rate_keep_the_players_proportion():
    model = MODELS["unified"]()
    model.compile({"generators": keras.optimizers.SGD(0.2), "discriminators": keras.optimizers.SGD(0.1)})
    model.optimizer.learning_rate = 0.05  # the discriminators' come first
    assert {name: float(o.learning_rate) for name, o in model.optimizers.items()} == pytest.approx(
        {"discriminators": 0.05, "generators": 0.1}
    )


def test_training_ends_early_on_a_validation_term_and_the_best_model_is_kept(tmp_path):
    callbacks = [
        keras.callbacks.EarlyStopping("val_cycle", mode="min", patience=1, min_delta=1e9, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "val_cycle", save_best_only=True, mode="min"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
    ]
    model = trained(compiled("unified"), epochs=9, callbacks=callbacks, validation_data={"image": SLICES})
    assert len(model.history.history["val_cycle"]) < 9
    best = keras.models.load_model(tmp_path / "best.keras")
    terms = best.evaluate({"image": SLICES}, batch_size=4, verbose=0, return_dict=True)
    assert np.isfinite(terms["cycle"])
    MODELS["unified"]().load_weights(tmp_path / "1.weights.h5", skip_mismatch=False)


@pytest.mark.backend("tensorflow")
def test_tensorboard_logs_the_terms_of_training_and_validation(tmp_path):
    trained(compiled("unified"), callbacks=keras.callbacks.TensorBoard(tmp_path), validation_data={"image": SLICES})
    assert {path.name for path in tmp_path.iterdir()} == {"train", "validation"}


def test_a_batch_is_trained_on_and_its_terms_given():
    model = compiled()
    before = to_numpy(model.generator.trainable_variables[0]).copy()
    terms = model.train_on_batch(X, Y, return_dict=True)
    assert terms["g_image"] > 0 and not np.array_equal(before, to_numpy(model.generator.trainable_variables[0]))
    assert len(model.train_on_batch({"image": X, "condition": Y})) == len(terms)


# --- what comes in ---

BAD = {
    "labels": ((X, np.arange(8) % 3), r"conditions of shape \(B, 3\), received \(8,\); convert .*to_categorical"),
    "a column of labels": ((X, np.ones((8, 1))), r"\(8, 1\); convert class labels"),
    "no condition": ((X, None), "a batch with 'image', 'condition', received 'image'; add 'condition'"),
    "another key": (({"images": X, "condition": Y}, None), "received 'images', 'condition'; add 'image'"),
    "another size": ((X[:, :8], Y), r"images of shape \(B, 16, 16, 1\), received \(8, 8, 16, 1\)"),
    "bytes": (((127.5 + 127.5 * X).astype("uint8"), Y), r"floats in \[-1, 1\], received uint8; .*/ 127.5 - 1"),
    "0 to 255": ((127.5 + 127.5 * X, Y), r"in \[-1, 1\], received values from 0 to 2\d\d"),
    "NaN": ((np.where(X > 0.99, np.nan, X), Y), "finite images, received NaN"),
    "a condition without a value": ((X, np.where(Y > 0, np.inf, Y)), "finite conditions, received NaN or infinite"),
}


@pytest.mark.parametrize("what", BAD)
def test_data_that_do_not_fit_are_refused_before_they_are_trained_on(drai, what):
    (x, y), message = BAD[what]
    for use in (drai.fit, drai.evaluate, drai.train_on_batch):
        settings = {} if use == drai.train_on_batch else {"verbose": 0}
        with pytest.raises(ValueError, match=message):
            use(x, y, **settings)
    with pytest.raises(ValueError, match=message):
        drai.fit(X, Y, validation_data=(x, y), verbose=0)


def test_verbs_refuse_images_of_another_scale(drai, unified):
    for image, message in (
        ((127.5 + 127.5 * X).astype("uint8"), "received uint8"),
        (127.5 + 127.5 * X, "received values from"),
        (np.full_like(X, np.nan), "received NaN"),
        (ops.convert_to_tensor(127.5 + 127.5 * X), "received values from"),
    ):
        with pytest.raises(ValueError, match=message):
            drai.encode(image)
    with pytest.raises(ValueError, match="received values from"):
        unified.translate(100 * SLICES[..., :1], "T1")


@pytest.mark.backend("tensorflow")
def test_a_data_set_of_tensorflow_is_looked_at_too(drai):
    import tensorflow as tf

    for image, message in ((127.5 + 127.5 * X, "received values from"), (X[:, :8], "received")):
        data = tf.data.Dataset.from_tensor_slices((image, Y)).batch(4)
        with pytest.raises(ValueError, match=message):
            drai.fit(data, verbose=0)
    good = tf.data.Dataset.from_tensor_slices({"image": X, "condition": Y}).batch(4)
    assert drai.evaluate(good, verbose=0)
    with pytest.raises(ValueError, match="received uint8"):  # in the step itself
        drai.fit(
            good.map(lambda b: {**b, "image": tf.cast(b["image"], "uint8")}).repeat(), steps_per_epoch=1, verbose=0
        )
