"""Golden steps: a second, plain statement of an objective beside ours, both computed on the same small networks.

A test states a paper's objective anew, as a list of `Turn`s in the order of the players, each a function of plain
arrays that calls networks as functions. On PyTorch the arrays are tensors: totals, terms, the gradient of each network
and all variables after whole steps must be ours. On the other backends the same lines run on NumPy arrays, and totals
and terms must be ours; that backends take equal steps is tested in `test_three_backends.py`.
"""

import math
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tests.checks import array, gradients, to_numpy

HAS_GRADIENTS = keras.backend.backend() == "torch"
if HAS_GRADIENTS:
    import torch as xp
else:
    import numpy as xp

EPSILON = 1e-7  # Keras's Adam


# --- networks ---


class Small(keras.layers.Layer):
    """Two dense layers on all inputs side by side, with smooth outputs and weights that the name decides.

    Outside of training it answers otherwise, as networks with dropout or batch statistics do.

    Args:
        name: of the network.
        width: numbers that all inputs of one example have together.
        outputs: shape of the output of one example; or a tuple or dict of shapes.
        bounded: outputs lie in [0, 1], or with "image" in [-1, 1].
    """

    def __init__(self, name: str, width: int, outputs, bounded: bool | str = False):
        super().__init__(name=name)
        self.bounded, self.single = bounded, not isinstance(outputs, dict) and not isinstance(outputs[0], tuple)
        self.outputs = (outputs,) if self.single else outputs
        shapes = self.outputs.values() if isinstance(self.outputs, dict) else self.outputs
        self.sizes = [math.prod(shape) for shape in shapes]
        random = np.random.default_rng(zlib.crc32(name.encode()))
        for weight, shape, scale in (
            ("inner", (width, 5), 2.0 / math.sqrt(width)),
            ("shift", (5,), 0.5),
            ("outer", (5, sum(self.sizes)), 0.4),
            ("offset", (sum(self.sizes),), 0.3),
        ):
            value = (scale * random.normal(size=shape)).astype("float32")
            setattr(self, weight, self.add_weight(shape=shape, initializer="zeros", name=weight))
            getattr(self, weight).assign(value)
        self.built = True

    def call(self, inputs, training=False):
        flat = [ops.reshape(ops.convert_to_tensor(x), (x.shape[0], -1)) for x in keras.tree.flatten(inputs)]
        hidden = ops.tanh(ops.matmul(ops.concatenate(flat, axis=1), self.inner) + self.shift)
        found = ops.matmul(hidden, self.outer) + self.offset
        found = found if training else 0.5 * found
        if self.bounded:
            found = ops.tanh(found) if self.bounded == "image" else ops.sigmoid(found)
        parts, start = [], 0
        names = self.outputs if isinstance(self.outputs, dict) else range(len(self.outputs))
        for name, size in zip(names, self.sizes, strict=True):
            parts.append(ops.reshape(found[:, start : start + size], (-1, *self.outputs[name])))
            start += size
        if isinstance(self.outputs, dict):
            return dict(zip(self.outputs, parts, strict=True))
        return parts[0] if self.single else tuple(parts)


def put_in(monkeypatch, module, factories: dict[str, Callable]) -> None:
    """Makes a module build small networks in the place of its own, which it names by these functions."""
    for name, make in factories.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, make)


# --- plain arrays ---


def detached(values):
    """The values, which carry no gradient."""
    return values.detach() if HAS_GRADIENTS else values


def beside(*values):
    """Arrays joined along the last axis."""
    return xp.concatenate(values, axis=-1)


def distance(a, b):
    """Mean absolute difference, a scalar."""
    return abs(a - b).mean()


def plain(values):
    """Tensors as the plain statement takes them."""
    return values if HAS_GRADIENTS else keras.tree.map_structure(array, values)


def as_tensors(batch):
    """A batch, or a pass that holds lists of dicts, as tensors."""
    return keras.tree.map_structure(ops.convert_to_tensor, batch)


def functions(model) -> SimpleNamespace:
    """The model's networks as functions of plain arrays, in training mode, by name; several arguments make a list."""

    def function(network):
        def call(*inputs):
            return plain(network(list(inputs) if len(inputs) > 1 else inputs[0], training=True))

        call.network = network
        return call

    return SimpleNamespace(**{name: function(network) for name, network in small_networks(model).items()})


def small_networks(model) -> dict[str, Small]:
    """All of a model's networks by name."""
    return {layer.name: layer for layer in model._flatten_layers() if isinstance(layer, Small)}


def input_gradient(function: Callable, inputs, *others, share=1.0):
    """Gradient (B, ...) in a network's first input (B, ...), of the sum of its first output, in closed form.

    Args:
        function: the network.
        inputs, *others: what it is called with.
        share: of each number of the output in the sum, (B, outputs) or one for all.
    """
    network = function.network
    inner, shift, outer = (plain(v.value) for v in (network.inner, network.shift, network.outer))
    hidden = xp.tanh(beside(*(x.reshape(len(x), -1) for x in (inputs, *others))) @ inner + shift)
    slope = share * xp.ones((len(inputs), network.sizes[0])) @ outer[:, : network.sizes[0]].T
    gradient = ((1 - hidden**2) * slope) @ inner.T
    return gradient[:, : math.prod(inputs.shape[1:])].reshape(inputs.shape)


# --- statements, and what must equal ours ---


class Stated(NamedTuple):
    """What one player's turn is on one pass.

    Attributes:
        total: what is minimised, a scalar.
        terms: its parts, unweighted, by the names of our logs.
        objectives: for each network that moves, by name, the scalar whose gradient moves it; by default the total.
        made: what later players get, without a gradient.
    """

    total: object
    terms: dict
    objectives: dict
    made: dict


class Turn(NamedTuple):
    """A player's turn: the name of its optimizer, and (networks, batch, made, config) -> `Stated`."""

    player: str
    state: Callable


def check_values(model, turns: list[Turn], batch: dict, rtol: float = 2e-5) -> None:
    """Order of players, totals, terms and the networks that move are those of the plain statement."""
    phases, networks = model.phases(), functions(model)
    assert [phase.optimizer for phase in phases] == [turn.player for turn in turns]
    carried, made, ours, stated = {}, {}, as_tensors(batch), plain(as_tensors(batch))
    for phase, turn in zip(phases, turns, strict=True):
        total, terms, new = phase.loss(ours, carried)
        expected = turn.state(networks, stated, made, model.config)
        carried = {**carried, **{name: ops.stop_gradient(value) for name, value in new.items()}}
        made = {**made, **{name: detached(value) for name, value in expected.made.items()}}
        assert terms.keys() == expected.terms.keys()
        for name, value in {**expected.terms, "total": expected.total}.items():
            found = float(array(total if name == "total" else terms[name]))
            np.testing.assert_allclose(
                found, float(detached(value)), rtol=rtol, atol=1e-6, err_msg=f"{turn.player}: {name}"
            )
        assert {network.name for network in phase.networks} == set(expected.objectives)


def check_gradients(model, turns: list[Turn], batch: dict) -> None:
    """The gradient of our total in each network is that of what the plain statement has this network minimise."""
    networks, of_name = functions(model), small_networks(model)
    carried, made, batch = {}, {}, as_tensors(batch)
    for phase, turn in zip(model.phases(), turns, strict=True):
        expected = turn.state(networks, batch, made, model.config)
        for name, objective in expected.objectives.items():
            variables = of_name[name].trainable_variables
            ours = gradients(lambda phase=phase, carried=carried: phase.loss(batch, carried)[0], variables)
            theirs = stated_gradients(objective, variables)
            for one, other, variable in zip(ours, theirs, variables, strict=True):
                scale = np.abs(other).max()
                assert scale > 1e-7, f"{name} is not reached"
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * scale, err_msg=variable.path)
        _, _, new = phase.loss(batch, carried)
        carried = {**carried, **{key: ops.stop_gradient(value) for key, value in new.items()}}
        made = {**made, **{key: detached(value) for key, value in expected.made.items()}}


def stated_gradients(objective, variables) -> list[np.ndarray]:
    """Gradients of what the plain statement has a network minimise, on PyTorch."""
    found = xp.autograd.grad(objective, [variable.value for variable in variables], retain_graph=True)
    return [gradient.numpy() for gradient in found]


class Adam:
    """Kingma and Ba, Algorithm 1, in the order that Sec. 2 gives at its end, on one player's variables."""

    def __init__(self, rate: float, beta_1: float, beta_2: float, clip_norm: float | None):
        self.rate, self.beta_1, self.beta_2, self.clip_norm = rate, beta_1, beta_2, clip_norm
        self.steps, self.first, self.second = 0, {}, {}

    def move(self, variables: dict, gradients: dict) -> None:
        """One step down the gradients; both by path."""
        self.steps += 1
        norm = math.sqrt(sum(float((g.astype("float64") ** 2).sum()) for g in gradients.values()))
        share = min(1.0, self.clip_norm / norm) if self.clip_norm else 1.0
        rate = self.rate * math.sqrt(1 - self.beta_2**self.steps) / (1 - self.beta_1**self.steps)
        for path, variable in variables.items():
            g = share * gradients[path]
            self.first[path] = self.beta_1 * self.first.get(path, 0.0) + (1 - self.beta_1) * g
            self.second[path] = self.beta_2 * self.second.get(path, 0.0) + (1 - self.beta_2) * g**2
            step = rate * self.first[path] / (np.sqrt(self.second[path]) + EPSILON)
            variable.assign(to_numpy(variable) - step)


def check_step(make: Callable, turns: list[Turn], batch: dict, averaged: set[str], rates: dict | None = None) -> None:
    """Two training steps: all variables, logs and averages are those of the plain statement with plain Adam.

    Args:
        make: () -> a compiled model, each time of the same weights and seed.
        turns: the plain statement.
        batch: of both steps, with what a step draws where its passes do not draw again.
        averaged: names of the networks of which averages are kept.
        rates: of each player, where they are not the config's `learning_rate`.
    """
    ours, twin = make(), make()
    c = twin.config
    optimizers = {
        turn.player: Adam((rates or {}).get(turn.player, c.learning_rate), c.beta_1, c.beta_2, c.clip_norm)
        for turn in turns
    }
    of_name, networks = small_networks(twin), functions(twin)
    averages = {name: [to_numpy(v).copy() for v in of_name[name].variables] for name in averaged}
    for step in range(2):
        logs = ours.train_on_batch(batch, return_dict=True)
        passes, expected = twin.passes(as_tensors(batch)), {}
        for one in passes:
            made = {}
            for turn in turns:
                stated = turn.state(networks, one, made, c)
                variables, found = {}, {}
                for name, objective in stated.objectives.items():
                    values = of_name[name].trainable_variables
                    variables |= {v.path: v for v in values}
                    found |= {v.path: g for v, g in zip(values, stated_gradients(objective, values), strict=True)}
                optimizers[turn.player].move(variables, found)
                made |= {name: detached(value) for name, value in stated.made.items()}
                for name, value in stated.terms.items():
                    expected[name] = expected.get(name, 0.0) + float(detached(value)) / len(passes)
        assert logs.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(float(logs[name]), value, rtol=1e-3, atol=1e-5, err_msg=name)
        rate = max(optimizer.rate for optimizer in optimizers.values())
        for name, network in small_networks(ours).items():
            for one, other in zip(network.variables, of_name[name].variables, strict=True):
                np.testing.assert_allclose(to_numpy(one), to_numpy(other), atol=0.05 * rate, err_msg=one.path)
        kept = min(c.average_momentum, (1 + step) / (10 + step))
        for name, values in averages.items():
            now = [to_numpy(v) for v in small_networks(ours)[name].variables]
            averages[name] = [kept * a + (1 - kept) * b for a, b in zip(values, now, strict=True)]
    live = {name: [to_numpy(v).copy() for v in network.variables] for name, network in small_networks(ours).items()}
    with ours.averaged():
        for name, network in small_networks(ours).items():
            for value, found in zip(averages.get(name, live[name]), network.variables, strict=True):
                np.testing.assert_allclose(to_numpy(found), value, atol=1e-6, err_msg=f"average of {found.path}")
