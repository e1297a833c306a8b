"""Computes with TensorFlow Addons 0.23 the numbers that `tfdisent` is held to.

Runs in its own environment (Python 3.11 with requirements.txt beside this file), never with
`tfdisent`: `--write` stores them in addons.npz, `--check` compares a new computation with the
stored file. Arrays are named `<case>/<array>`; a new case is a function in CASES.
"""

import argparse
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

STORED = pathlib.Path(__file__).with_name("addons.npz")
TOLERANCE = 1e-6  # of 1 + |value|: another CPU may sum in another order


def instance_normalization(random: np.random.RandomState) -> dict:
    """Two calls: epsilon at its default with gamma and beta, and 1e-5 with neither."""
    inputs = (3 + 2 * random.randn(2, 5, 6, 3)).astype("float32")
    gamma, beta = random.randn(2, 3).astype("float32")
    layer = tfa.layers.InstanceNormalization()
    layer.build(inputs.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    plain = tfa.layers.InstanceNormalization(epsilon=1e-5, center=False, scale=False)
    return {
        "inputs": inputs,
        "gamma": gamma,
        "beta": beta,
        "epsilon": np.float64(layer.epsilon),
        "outputs": layer(inputs),
        "plain_outputs": plain(inputs),
    }


def spectral_normalization(random: np.random.RandomState, layer, input_shape: tuple) -> dict:
    """One training call from a given kernel and u: the new u, the new kernel, the outputs."""
    inputs = random.randn(*input_shape).astype("float32")
    wrapper = tfa.layers.SpectralNormalization(layer)
    wrapper.build(input_shape)
    kernel = random.randn(*wrapper.w.shape).astype("float32")
    u = random.randn(*wrapper.u.shape).astype("float32")
    wrapper.w.assign(kernel)
    wrapper.u.assign(u)
    outputs = wrapper(inputs, training=True)
    return {
        "inputs": inputs,
        "kernel": kernel,
        "u": u,
        "outputs": outputs,
        "new_u": wrapper.u,
        "normalized_kernel": wrapper.w,
    }


def dense(random: np.random.RandomState) -> dict:
    return spectral_normalization(random, tf.keras.layers.Dense(4, use_bias=False), (3, 5))


def convolution(random: np.random.RandomState) -> dict:
    layer = tf.keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)
    return spectral_normalization(random, layer, (2, 6, 6, 3))


def transposed_convolution(random: np.random.RandomState) -> dict:
    layer = tf.keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False)
    return spectral_normalization(random, layer, (2, 3, 3, 3))


def stochastic_weight_averaging(random: np.random.RandomState) -> dict:
    """SGD under SWA: the weights after each of 12 steps, and the average after each."""
    start, period = 3, 2
    weights = tf.Variable(random.randn(4, 3).astype("float32"))
    optimizer = tfa.optimizers.SWA(tf.keras.optimizers.legacy.SGD(0.1), start_averaging=start, average_period=period)
    trajectory, averages = [], []
    for _ in range(12):
        gradient = tf.constant(random.randn(4, 3).astype("float32"))
        optimizer.apply_gradients([(gradient, weights)])
        trajectory.append(weights.numpy())
        averages.append(optimizer.get_slot(weights, "average").numpy())
    return {
        "start_averaging": np.int64(start),
        "average_period": np.int64(period),
        "trajectory": np.stack(trajectory),
        "averages": np.stack(averages),
    }


CASES = {
    "instance_normalization": instance_normalization,
    "spectral_normalization_dense": dense,
    "spectral_normalization_convolution": convolution,
    "spectral_normalization_transposed_convolution": transposed_convolution,
    "stochastic_weight_averaging": stochastic_weight_averaging,
}


def compute() -> dict[str, np.ndarray]:
    arrays = {"tensorflow": np.array(tf.__version__), "addons": np.array(tfa.__version__)}
    for case, function in CASES.items():
        # A generator of its own, seeded by the name: a new case leaves the others as they are.
        random = np.random.RandomState(list(case.encode()))
        arrays.update({f"{case}/{name}": np.array(x) for name, x in function(random).items()})
    return arrays


def difference(new: np.ndarray, stored: np.ndarray) -> float:
    if new.shape != stored.shape or new.dtype != stored.dtype:
        return float("inf")
    if new.dtype.kind == "U":
        return 0.0 if new == stored else float("inf")
    return float(np.max(np.abs(new - stored) / (1 + np.abs(stored)), initial=0.0))


def check(arrays: dict[str, np.ndarray]) -> int:
    with np.load(STORED) as file:
        stored = dict(file)
    worst = 0.0
    for name in sorted(stored.keys() | arrays.keys()):
        both = name in stored and name in arrays
        distance = difference(arrays[name], stored[name]) if both else float("inf")
        worst = max(worst, distance)
        if not distance <= TOLERANCE:
            print(f"{name}: differs by {distance:.3g}; allowed {TOLERANCE:g}", file=sys.stderr)
    print(f"{len(stored)} arrays in {STORED.name}: largest relative difference {worst:.3g}")
    return 0 if worst <= TOLERANCE else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--check", action="store_true", help="compare with the stored numbers")
    mode.add_argument("--write", action="store_true", help="store the numbers anew")
    options = parser.parse_args()
    arrays = compute()
    if options.check:
        return check(arrays)
    np.savez_compressed(STORED, **arrays)
    print(f"wrote {len(arrays)} arrays to {STORED.name} ({STORED.stat().st_size} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
