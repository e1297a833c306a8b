"""What the adversarial engine costs: DRAI's step through it, and one written by hand in TensorFlow.

Both take the same losses, networks, optimizers and averages. The engine's has phases, `minimize`, `fit` and its
callbacks; the other is one `tf.function` in a Python loop. They train in turns, in one process.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks import Measurement
from benchmarks.step import StepTimes, compiled, examples
from tfdisent.systems.drai import DRAI
from tfdisent.training.adversarial import phase_variables


def measure(steps: int = 10, rounds: int = 3, **settings) -> Measurement:
    """Images per second of the quick preset's step, and its time over that of the one by hand.

    Args:
        steps: of each of the two in a round.
        rounds: turns.
        **settings: fields of `DRAIConfig` to change.

    Raises:
        RuntimeError: the two do not compute the same.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError("The step by hand is TensorFlow's: set KERAS_BACKEND=tensorflow.")
    settings = settings | {"train_twice": False}
    model, twin = (compiled("quick", "float32", settings) for _ in range(2))
    size, step = model.config.batch_size, by_hand(twin)

    data = examples(model.config, 2)
    times = StepTimes()
    history = model.fit(data, batch_size=size, shuffle=False, verbose=0, callbacks=[times])
    losses = {name: values[-1] for name, values in history.history.items()}
    _check_same(losses, _loop(step, data, size)[1])

    data, first = examples(model.config, steps + 1), times.first
    times, by_hand_seconds = StepTimes(), []
    for _ in range(rounds):
        model.fit(data, batch_size=size, shuffle=False, verbose=0, callbacks=[times])
        by_hand_seconds += _loop(step, data, size)[0]
    median = statistics.median(times.warm)
    ratio = median / statistics.median(by_hand_seconds)
    return Measurement(size / median, "images/s", times.warm, first, "the step written by hand", ratio)


def by_hand(model: DRAI):
    """DRAI's step for one pass, as one would write it without the engine."""
    generators, discriminators = (phase_variables(phase) for phase in model.phases())
    d_optimizer, g_optimizer = (model.optimizers[x] for x in ("discriminators", "generators"))

    @tf.function(jit_compile=model.jit_compile)
    def step(batch):
        batch = model.draw(batch)
        with tf.GradientTape() as tape:
            total, g_terms, made = model.generator_loss(batch, {})
        g_optimizer.apply(tape.gradient(total, [v.value for v in generators]), generators)
        with tf.GradientTape() as tape:
            total, d_terms, _ = model.discriminator_loss(batch, made)
        d_optimizer.apply(tape.gradient(total, [v.value for v in discriminators]), discriminators)
        model.averages.update()
        return d_terms | g_terms

    return step


def _loop(step, data: dict[str, np.ndarray], size: int) -> tuple[list[float], dict[str, float]]:
    """One pass over the data: seconds of each step but the first, and the last losses."""
    seconds, losses, last = [], {}, time.perf_counter()
    for batch in tf.data.Dataset.from_tensor_slices(data).batch(size).prefetch(tf.data.AUTOTUNE):
        losses = {name: float(value) for name, value in step(batch).items()}
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
    return seconds[1:], losses


def _check_same(engine: dict[str, float], by_hand: dict[str, float]) -> None:
    differences = {name: (engine[name], by_hand[name]) for name in engine}
    if engine.keys() != by_hand.keys() or not np.allclose(*zip(*differences.values(), strict=True), rtol=1e-3):
        raise RuntimeError(f"Expected the same losses after two steps, received {differences}.")
