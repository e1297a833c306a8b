"""bfloat16 where it saves time, float32 where it would cost exactness."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.tiny import NARROW
from tfdisent.systems.drai import DRAI, DRAIConfig

CONFIG = DRAIConfig(**NARROW, channels=1, dropout=0.0, train_twice=False, initializer="he_normal")


def made(policy):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        return DRAI(CONFIG)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    image = random.uniform(-1, 1, (8, 16, 16, 1)).astype("float32")
    normal = {
        name: random.normal(size=(8, 4)).astype("float32")
        for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise")
    }
    condition = np.eye(3, dtype="float32")[np.arange(8) % 3]
    return {
        "image": image,
        "condition": condition,
        "transformed": image[:, ::-1].copy(),
        "mismatched": np.roll(condition, 1, axis=1),
        "has_mismatch": np.ones(8, "float32"),
        **normal,
    }


@pytest.fixture(scope="module")
def steps(batch):
    """One step in float32 and one in bfloat16 from the same weights: {policy: (model, logs, moved)}."""
    models = {policy: made(policy) for policy in ("float32", "mixed_bfloat16")}
    models["mixed_bfloat16"].set_weights(models["float32"].get_weights())
    done = {}
    for policy, model in models.items():
        model.compile(
            {name: keras.optimizers.SGD(1e-3, name=name) for name in ("discriminators", "generators")},
            run_eagerly=keras.backend.backend() != "jax",
        )
        start = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
        history = model.fit(batch, batch_size=8, shuffle=False, verbose=0)
        logs = {name: values[0] for name, values in history.history.items()}
        end = [ops.convert_to_numpy(v) for v in model.trainable_variables]
        moved = np.concatenate([(a - b).ravel() for a, b in zip(end, start, strict=True)])
        done[policy] = model, logs, moved
    return done


def test_the_networks_compute_in_bfloat16_and_keep_their_weights_in_float32(steps):
    model, *_ = steps["mixed_bfloat16"]
    convolutions = [layer for layer in model.image_discriminator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert {average.dtype for average in model.average_variables[1:]} == {"float32"}


def test_loss_terms_are_float32(batch):
    model = made("mixed_bfloat16")
    tensors = model.draw({name: ops.convert_to_tensor(value) for name, value in batch.items()})
    carried = {}
    for loss in (model.generator_loss, model.discriminator_loss):
        total, terms, carried = loss(tensors, carried)
        for value in (total, *terms.values()):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"


def test_what_users_get_is_float32(steps, batch):
    model, *_ = steps["mixed_bfloat16"]
    for value in (model.generate(batch["condition"]), *model.encode(batch["image"]).values()):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


def test_a_step_in_bfloat16_goes_the_way_of_the_step_in_float32(steps):
    (_, logs, moved), (_, mixed_logs, mixed_moved) = steps["float32"], steps["mixed_bfloat16"]
    for name, value in logs.items():
        assert mixed_logs[name] == pytest.approx(value, rel=0.1, abs=0.02), name
    relative = np.linalg.norm(mixed_moved - moved) / np.linalg.norm(moved)
    print(f"bfloat16 against float32, relative difference of the step: {relative:.4f}")
    assert 0 < relative < 0.3


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_float16_is_refused_for_bfloat16(policy):
    model = made(policy)
    with pytest.raises(ValueError, match=r'received float16: .*set_dtype_policy\("mixed_bfloat16"\)'):
        model.compile()


def test_a_part_in_float16_is_found_wherever_it_is():
    keras.utils.set_random_seed(0)

    class Half(DRAI):
        def __init__(self):
            super().__init__(CONFIG)
            self.judge = keras.Sequential([keras.layers.Dense(1, dtype="mixed_float16")])

    with pytest.raises(ValueError, match="received float16"):
        Half().compile()
