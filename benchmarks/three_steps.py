"""Three training steps of a small DRAI from the same weights, on the same batches: what every backend must agree on;
and before them the share of each loss term in the gradient.

After SGD, and not Adam, which divides a gradient by its size: where one is nearly zero, the rounding in which backends
differ would decide the sign of a whole step. And from a fixed seed: of forty tried, one has an activation so near to
the kink of a leaky ReLU or of an absolute value that a change of the weights in their last bit takes the other slope.

Importing this module imports no Keras, so that results can be compared where no backend is chosen.
"""

import pathlib

import numpy as np

BATCH_SIZE, STEPS = 4, 3


def small_model(batch_norm: bool):
    """The system with few and narrow layers, and without what is random in training."""
    import keras

    from tfdisent.systems.drai import DRAI, DRAIConfig

    keras.utils.set_random_seed(0)
    return DRAI(
        DRAIConfig(
            image_size=16,
            channels=1,
            content_dim=4,
            style_dim=4,
            generator_filters=4,
            encoder_filters=4,
            discriminator_filters=4,
            condition_units=4,
            code_units=8,
            joint_units=8,
            regressor_units=8,
            batch_norm=batch_norm,
            dropout=0.0,
            train_twice=False,
            initializer="he_normal",
            average_momentum=0.9,
            r1_weight=0.0 if batch_norm else 0.5,
        )
    )


def prepare(folder: str, batch_norms=(True, False)) -> None:
    """Writes the weights that all start from, and batches with everything that a step would draw."""
    random, num = np.random.default_rng(0), BATCH_SIZE * STEPS
    condition = np.eye(3, dtype="float32")[random.integers(0, 3, num)]
    batches = {
        "image": random.uniform(-1, 1, (num, 16, 16, 1)),
        "condition": condition,
        "transformed": random.uniform(-1, 1, (num, 16, 16, 1)),
        "mismatched": np.roll(condition, 1, axis=1),
        "has_mismatch": random.integers(0, 2, num),
        **{
            name: random.normal(size=(num, 4))
            for name in ("style", "content_noise", "inferred_style_noise", "inferred_content_noise")
        },
    }
    np.savez(f"{folder}/batches.npz", **{name: value.astype("float32") for name, value in batches.items()})
    for batch_norm in batch_norms:
        small_model(batch_norm).save_weights(f"{folder}/{batch_norm}.weights.h5")


def take(folder: str, name: str, batch_norms=(True, False)) -> None:
    """Trains on what `prepare` wrote, and writes the weights after it under `name`.

    Args:
        folder: that of `prepare`.
        name: of the result.
        batch_norms: with batch normalisation in encoders and discriminators, without, or both in turn.
    """
    import keras

    batches = dict(np.load(f"{folder}/batches.npz"))
    for batch_norm in batch_norms:
        model = small_model(batch_norm)
        model.load_weights(f"{folder}/{batch_norm}.weights.h5")
        # JAX compiles each eager operation by itself, which takes longer than the whole step at once.
        eagerly = keras.backend.backend() != "jax"
        optimizers = {player: keras.optimizers.SGD(1e-2, name=player) for player in ("discriminators", "generators")}
        model.compile(optimizers, run_eagerly=eagerly)
        first = {key: values[:BATCH_SIZE] for key, values in batches.items()}
        shares = model.gradient_shares(first) if not batch_norm else {}  # once, as JAX compiles it for seconds
        start = model.generator.get_weights()
        logs = model.fit(batches, batch_size=BATCH_SIZE, shuffle=False, verbose=0).history
        moved = max(np.abs(a - b).max() for a, b in zip(model.generator.get_weights(), start, strict=True))
        losses = [logs[term][0] for term in sorted(logs)]
        results = {"moved": moved, "logs": losses, "shares": list(shares.values())}
        np.savez(result_file(folder, name, batch_norm), *model.get_weights(), **results)


def result_file(folder: str, name: str, batch_norm: bool) -> pathlib.Path:
    """Where `take` writes a result: arrays arr_0, ... of weights, "logs" of losses, "moved" the largest change, and
    without batch normalisation "shares" of the terms in the gradient, by their names.
    """
    return pathlib.Path(folder) / f"{name}-{batch_norm}.npz"


def largest_difference(one: dict, other: dict) -> float:
    """Largest difference between the weights of two results."""
    weights = [key for key in one if key.startswith("arr_")]
    return float(max(np.abs(one[key] - other[key]).max() for key in weights))
