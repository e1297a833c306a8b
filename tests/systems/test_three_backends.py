"""One file of weights, the same batches and the same draws: every backend takes the same steps.

After SGD, and not Adam, which divides a gradient by its size: where one is nearly zero, the rounding in which backends
differ would decide the sign of a whole step. And from a fixed seed: of forty tried, one has an activation so near to
the kink of a leaky ReLU or of an absolute value that a change of the weights in their last bit takes the other slope.
"""

import importlib.util
import itertools

import numpy as np
import pytest

SCRIPT = """
import keras
import numpy as np
from tfdisent.systems.drai import DRAI, DRAIConfig

batches = dict(np.load(FOLDER + "/batches.npz"))
for batch_norm in (True, False):
    keras.utils.set_random_seed(0)
    model = DRAI(DRAIConfig(
        image_size=16, channels=1, content_dim=4, style_dim=4, generator_filters=4, encoder_filters=4,
        discriminator_filters=4, condition_units=4, code_units=8, joint_units=8, regressor_units=8,
        batch_norm=batch_norm, dropout=0.0, train_twice=False, initializer="he_normal", average_momentum=0.9,
    ))
    weights = f"{FOLDER}/{batch_norm}.weights.h5"
    if keras.backend.backend() == "tensorflow":
        model.save_weights(weights)
    model.load_weights(weights)
    model.compile(
        {name: keras.optimizers.SGD(1e-2, name=name) for name in ("discriminators", "generators")},
        run_eagerly=EAGERLY,
    )
    start = model.generator.get_weights()
    logs = model.fit(batches, batch_size=4, shuffle=False, verbose=0).history
    np.savez(
        f"{FOLDER}/{keras.backend.backend()}-{batch_norm}.npz", *model.get_weights(),
        moved=max(np.abs(a - b).max() for a, b in zip(model.generator.get_weights(), start, strict=True)),
        logs=[logs[name][0] for name in sorted(logs)],
    )
"""
BACKENDS = ("tensorflow", "jax", "torch")


@pytest.fixture(scope="module")
def trained(run_python, tmp_path_factory):
    """{(backend, batch_norm): weights, losses and the largest change after three steps}, for what is installed."""
    folder = tmp_path_factory.mktemp("backends")
    random = np.random.default_rng(0)
    condition = np.eye(3, dtype="float32")[random.integers(0, 3, 12)]
    batches = {
        "image": random.uniform(-1, 1, (12, 16, 16, 1)),
        "condition": condition,
        "transformed": random.uniform(-1, 1, (12, 16, 16, 1)),
        "mismatched": np.roll(condition, 1, axis=1),
        "has_mismatch": random.integers(0, 2, 12),
        **{
            name: random.normal(size=(12, 4))
            for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise")
        },
    }
    np.savez(folder / "batches.npz", **{name: value.astype("float32") for name, value in batches.items()})
    results = {}
    for backend in filter(importlib.util.find_spec, BACKENDS):
        # JAX compiles each eager operation by itself, which takes longer than the whole step at once.
        settings = f"FOLDER, EAGERLY = {str(folder)!r}, {backend != 'jax'}\n"
        run_python(settings + SCRIPT, env={"KERAS_BACKEND": backend})
        for batch_norm in (True, False):
            with np.load(folder / f"{backend}-{batch_norm}.npz") as result:
                results[backend, batch_norm] = dict(result)
    return results


@pytest.mark.slow
@pytest.mark.backend("tensorflow")  # it starts the other two itself
@pytest.mark.parametrize("batch_norm", [True, False], ids=["batch norm", "no batch norm"])
@pytest.mark.parametrize("one, other", list(itertools.combinations(BACKENDS, 2)))
def test_three_steps_from_the_same_weights_agree(trained, one, other, batch_norm):
    for backend in (one, other):
        if (backend, batch_norm) not in trained:
            pytest.skip(f"{backend} is not installed")
    ours, theirs = trained[one, batch_norm], trained[other, batch_norm]
    weights = [name for name in ours if name.startswith("arr_")]
    largest = max(np.abs(ours[name] - theirs[name]).max() for name in weights)
    print(f"{one} and {other}, batch norm {batch_norm}: largest weight difference {largest:.2g}")
    assert ours["moved"] > 1e-2
    assert largest < 1e-5
    np.testing.assert_allclose(ours["logs"], theirs["logs"], rtol=1e-5, atol=1e-5)
