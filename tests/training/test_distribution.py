"""Two replicas with half a batch each train as one with the whole."""

import json
import os

import numpy as np
import pytest

from tfdisent.training import distribution
from tfdisent.training.distribution import choose

SCRIPT = """
import json
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
from keras import ops
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.training.adversarial import ReplicaSeedGenerator
from tfdisent.training.checkpoint import Checkpoints

# Fixed weights: from drawn ones, once in many runs, a value lies within rounding of a kink of leaky ReLU.
keras.utils.set_random_seed(0)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
BATCH, STEPS = 8, 3


def made(**options):
    model = DRAI(DRAIConfig(
        image_size=16, channels=1, content_dim=4, style_dim=4, generator_filters=2, encoder_filters=2,
        discriminator_filters=2, condition_units=4, code_units=4, joint_units=4, regressor_units=4,
        batch_norm=BATCH_NORM, dropout=0.0, initializer="he_normal", train_twice=False, average_momentum=0.9,
    ))
    # An epsilon above Adam's usual: else it blows the rounding of gradients that are nearly zero up to whole steps.
    model.compile({
        name: keras.optimizers.Adam(1e-3, 0.5, epsilon=1e-3, name=name) for name in ("discriminators", "generators")
    }, **options)
    return model


def data():
    random = np.random.default_rng(0)
    size = BATCH * STEPS + 3  # the last, smaller batch is dropped
    condition = np.eye(3, dtype="float32")[random.integers(0, 3, size)]
    arrays = {
        "image": random.uniform(-1, 1, (size, 16, 16, 1)),
        "condition": condition,
        "transformed": random.uniform(-1, 1, (size, 16, 16, 1)),
        "mismatched": np.roll(condition, 1, axis=1),
        "has_mismatch": np.ones(size),
        **{name: random.normal(size=(size, 4))
           for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise")},
    }
    arrays = {name: value.astype("float32") for name, value in arrays.items()}
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH, drop_remainder=True)


def largest_difference(ones, others):
    return max(float(np.abs(one - other).max()) for one, other in zip(ones, others, strict=True))


one = made(run_eagerly=True)
with strategy.scope():
    two = made()
two.set_weights(one.get_weights())
start = [value.numpy() for value in one.generator.trainable_variables]
logs = [model.fit(data(), verbose=0).history for model in (one, two)]
# Each replica's own copy, averages and batch statistics included.
copies = [[value.numpy() for value in strategy.experimental_local_results(v.value)] for v in two.weights]
report = {
    "weights": largest_difference(one.get_weights(), two.get_weights()),
    "moved": largest_difference([value.numpy() for value in one.generator.trainable_variables], start),
    "replicas": max(largest_difference([first], [second]) for first, second in copies),
    # Of a term's size where that is above 1: float32 has seven digits, whichever order a processor sums in.
    "logs": max(abs(logs[0][name][0] - logs[1][name][0]) / max(1, abs(logs[0][name][0])) for name in logs[0]),
    "terms": len(logs[0]),
}

checkpoints = Checkpoints(FOLDER)
checkpoints.save(two, 3)
with strategy.scope():
    resumed = made()
    checkpoints.restore(resumed)
with two.averaged():
    averaged = two.get_weights()
report["checkpoint"] = {
    "weights": largest_difference(two.get_weights(), resumed.get_weights()),
    "optimizers": largest_difference(*[
        [ops.convert_to_numpy(v) for v in model.optimizer.variables] for model in (two, resumed)
    ]),
    "averaged": largest_difference(averaged, two.get_weights()),
}

with strategy.scope():
    generator = ReplicaSeedGenerator(7)
draw = tf.function(lambda: keras.random.normal((1000,), seed=generator))
draws = [value.numpy() for _ in range(2) for value in strategy.experimental_local_results(strategy.run(draw))]
single = keras.random.normal((1000,), seed=keras.random.SeedGenerator(7)).numpy()
report["draws"] = {
    "correlations": [float(np.corrcoef(draws[i], draws[j])[0, 1]) for i in range(4) for j in range(i)],
    "first": largest_difference([draws[0]], [single]),
}
# What leaves replicas an uneven batch: sizes that two do not divide, and a last one that is smaller.
whole = {name: value.numpy() for name, value in next(iter(data())).items()}
report["refused"], given = {}, {
    "odd batches": (tf.data.Dataset.from_tensor_slices(whole).batch(3, drop_remainder=True), None),
    "a last one": (tf.data.Dataset.from_tensor_slices(whole).batch(6), None),
    "arrays in odd batches": (whole, 1),
    "arrays with a last one": (whole, 6),
}
for name, (x, size) in given.items():
    for method in (two.fit, two.evaluate):
        try:
            method(x, batch_size=size, verbose=0)
        except ValueError as error:
            report["refused"].setdefault(name, []).append(str(error))
before = two.get_weights()
two.fit(whole, batch_size=4, verbose=0)
one.fit(tf.data.Dataset.from_tensor_slices(whole).batch(3), verbose=0)  # one device takes any
report["even"] = largest_difference(before, two.get_weights())
print("REPORT" + json.dumps(report))
"""


@pytest.fixture(scope="module", params=[True, False], ids=["batch norm", "no batch norm"])
def report(request, run_python, tmp_path_factory):
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        pytest.skip("MirroredStrategy is TensorFlow's")
    folder = str(tmp_path_factory.mktemp("checkpoints"))
    output = run_python(f"FOLDER, BATCH_NORM = {folder!r}, {request.param}\n" + SCRIPT)
    report = json.loads(output.split("REPORT")[1])
    print("one replica against two:", report)
    return report


@pytest.mark.slow
def test_two_replicas_with_half_a_batch_each_train_as_one_with_the_whole(report):
    assert report["moved"] > 1e-3
    assert report["weights"] < 1e-5
    assert report["replicas"] == 0


@pytest.mark.slow
def test_the_logged_losses_are_those_of_the_whole_batch(report):
    assert report["terms"] == 17
    assert report["logs"] < 1e-5


@pytest.mark.slow
def test_a_distributed_model_is_restored_whole(report):
    assert report["checkpoint"]["weights"] == report["checkpoint"]["optimizers"] == 0
    assert report["checkpoint"]["averaged"] > 0


@pytest.mark.slow
def test_replicas_draw_different_numbers(report):
    assert max(map(abs, report["draws"]["correlations"])) < 0.15
    assert report["draws"]["first"] == 0


@pytest.mark.slow
def test_an_uneven_batch_never_reaches_replicas(report):
    assert {name: len(errors) for name, errors in report["refused"].items()} == dict.fromkeys(
        ("odd batches", "a last one", "arrays in odd batches", "arrays with a last one"), 2
    )
    for errors in report["refused"].values():
        assert all("batches that 2 replicas divide evenly, the last one too" in error for error in errors)
    assert report["even"] > 0


def test_a_batch_that_devices_divide_evenly_is_fine_and_another_is_refused_naming_both(monkeypatch):
    monkeypatch.setattr(distribution, "available", lambda: ["a", "b", "c"])
    for devices, batch_size in ((1, 7), ("1", 16), (2, 16), (3, 15), ("all", 9)):
        distribution.check_batch(devices, batch_size)
    for devices, number in ((3, 3), ("all", 3)):
        expected = rf"{number} devices divide evenly \(--devices={devices}\), received --batch_size=16: .*=15 or 18"
        with pytest.raises(ValueError, match=expected):
            distribution.check_batch(devices, 16)
    with pytest.raises(ValueError, match="batch_size=3 or 6"):
        distribution.check_batch(3, 2)
    with pytest.raises(ValueError, match="from 1 to 3, received 4"):
        distribution.check_batch(4, 16)


@pytest.mark.backend("torch")
def test_a_backend_of_one_device_refuses_others():
    distribution.check_batch(1, 7)
    with pytest.raises(ValueError, match="--devices=1 on the torch backend"):
        distribution.check_batch(2, 8)


def test_all_devices_or_the_first_few_can_be_chosen():
    assert choose("all", ["a", "b", "c"]) == ["a", "b", "c"]
    assert choose(2, ["a", "b", "c"]) == choose("2", ["a", "b", "c"]) == ["a", "b"]


@pytest.mark.parametrize("devices", [0, 4, "-1", "some", ""])
def test_a_number_of_devices_that_are_not_there_is_refused(devices):
    with pytest.raises(ValueError, match=f"'all' or a number from 1 to 3, received {devices!r}"):
        choose(devices, ["a", "b", "c"])


@pytest.mark.backend("tensorflow")
def test_a_scope_that_is_entered_again_is_of_the_same_devices(run_python):
    out = run_python("""
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tfdisent.training import distribution

with distribution.scope("all"):
    strategy = tf.distribute.get_strategy()
with distribution.scope(2), strategy.scope():  # as Keras enters that of the model in `fit`
    print(strategy.num_replicas_in_sync, tf.distribute.get_strategy() is strategy)
""")
    assert out.split() == ["2", "True"]


@pytest.mark.backend("jax")
@pytest.mark.slow
def test_two_devices_of_jax_train_as_one_with_the_whole_batch(run_python, tmp_path):
    code = """
import numpy as np
from tests.tiny import NARROW
from tfdisent.systems.drai import DRAI, DRAIConfig
from tfdisent.training import distribution
import keras

random = np.random.default_rng(0)
data = {"image": random.uniform(-1, 1, (16, 16, 16, 3)).astype("float32"),
        "condition": np.eye(3, dtype="float32")[random.integers(0, 3, 16)]}
with distribution.scope(DEVICES):
    keras.utils.set_random_seed(0)
    model = DRAI(DRAIConfig(**NARROW, train_twice=False), seed=0)
    # An epsilon above Adam's usual: else it blows the rounding of gradients that are nearly zero up to whole steps.
    model.compile({name: keras.optimizers.Adam(1e-3, 0.5, epsilon=1e-3, name=name)
                   for name in ("discriminators", "generators")})
    before = model.get_weights()
    model.fit(data, batch_size=8, epochs=2, shuffle=False, verbose=0)
assert max(np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)) > 1e-3
np.savez(FILE, *model.get_weights())
"""
    weights = []
    for devices in (1, 2):
        file = str(tmp_path / f"{devices}.npz")
        flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
        run_python(f"FILE, DEVICES = {file!r}, {devices}\n{code}", env={"XLA_FLAGS": flags})
        with np.load(file) as saved:
            weights.append([saved[name] for name in saved.files])
    difference = max(float(np.abs(one - two).max()) for one, two in zip(*weights, strict=True))
    print(f"one device against two: {difference:.2g}")
    assert difference < 1e-5
