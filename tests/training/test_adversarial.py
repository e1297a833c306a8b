"""The engine, on linear networks whose steps are known in closed form."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from tfdisent.training.adversarial import (
    AdversarialModel,
    Phase,
    ReplicaSeedGenerator,
    input_gradient,
)
from tfdisent.training.averaging import StochasticWeightAveraging
from tfdisent.training.callbacks import NonFiniteLoss

X = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
CRITIC_RATE, GENERATOR_RATE = 0.5, 0.125


class Players(AdversarialModel):
    """Generator x W and critic x w with the losses of a Wasserstein GAN; `turns` says who plays."""

    def __init__(self, turns=("critic", "generator"), num_passes=1):
        super().__init__()
        self.turns, self.num_passes = tuple(turns), num_passes
        self.generator = linear(2, "generator")
        self.critic = linear(1, "critic")

    def phases(self):
        every = {
            "critic": Phase(self.critic_loss, [self.critic], "critic"),
            "generator": Phase(self.generator_loss, [self.generator], "generator"),
        }
        return [every[name] for name in self.turns]

    def passes(self, batch):
        return [batch] * self.num_passes

    def critic_loss(self, batch, carried):
        fake = self.generator(batch["x"])
        total = ops.mean(self.critic(fake)) - ops.mean(self.critic(batch["x"]))
        return total, {"critic": total}, {"fake": fake}

    def generator_loss(self, batch, carried):
        total = -ops.mean(self.critic(self.generator(batch["x"])))
        return total, {"generator": total}, {}


def linear(units, name):
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(units, use_bias=False)], name=name)


def compiled(model, rates=None, **kwargs):
    rates = rates or {"critic": CRITIC_RATE, "generator": GENERATOR_RATE}
    names = {phase.optimizer for phase in model.phases()}
    model.built = True
    model.compile({name: keras.optimizers.SGD(rates[name]) for name in names}, **kwargs)
    return model


def step(model, x=X):
    """One training step; returns its logs."""
    history = model.fit({"x": x}, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    return {name: values[0] for name, values in history.history.items()}


def weights(network):
    return [ops.convert_to_numpy(v).copy() for v in network.trainable_variables]


def critic_step(w, generator):
    return w - CRITIC_RATE * ((X @ generator).mean(0) - X.mean(0))[:, None]


def generator_step(generator, w):
    return generator + GENERATOR_RATE * np.outer(X.mean(0), w)


@pytest.mark.parametrize("eagerly", [False, True])
def test_phases_run_in_order_each_with_its_own_learning_rate(eagerly):
    model = compiled(Players(), run_eagerly=eagerly)
    (generator,), (w,) = weights(model.generator), weights(model.critic)
    logs = step(model)
    moved = critic_step(w, generator)
    np.testing.assert_allclose(weights(model.critic)[0], moved, atol=1e-6)
    np.testing.assert_allclose(weights(model.generator)[0], generator_step(generator, moved), atol=1e-6)
    # The second player sees the first one already moved.
    assert logs["critic"] == pytest.approx(((X @ generator - X) @ w).mean(), abs=1e-6)
    assert logs["generator"] == pytest.approx(-(X @ generator @ moved).mean(), abs=1e-6)


@pytest.mark.parametrize("player, other", [("critic", "generator"), ("generator", "critic")])
def test_a_phase_moves_its_own_networks_and_leaves_the_others_bit_for_bit(player, other):
    model = compiled(Players(turns=[player]))
    before, before_other = weights(getattr(model, player)), weights(getattr(model, other))
    step(model)
    assert np.abs(weights(getattr(model, player))[0] - before[0]).max() > 1e-3
    np.testing.assert_array_equal(weights(getattr(model, other))[0], before_other[0])


def test_what_a_phase_carries_reaches_the_next_without_a_gradient():
    class Carrying(Players):
        def generator_loss(self, batch, carried):
            # 7 times the carried part would dominate the step if it had a gradient.
            total = ops.mean(self.generator(batch["x"])) + 7 * ops.mean(carried["fake"])
            return total, {"generator": total, "carried": ops.mean(carried["fake"])}, {}

    model = compiled(Carrying())
    (generator,) = weights(model.generator)
    logs = step(model)
    assert logs["carried"] == pytest.approx((X @ generator).mean(), abs=1e-6)
    expected = generator - GENERATOR_RATE * np.repeat(X.mean(0)[:, None], 2, axis=1) / 2
    np.testing.assert_allclose(weights(model.generator)[0], expected, atol=1e-6)


def test_nothing_is_carried_from_one_pass_to_the_next():
    seen = []

    class Watching(Players):
        def critic_loss(self, batch, carried):
            seen.append(sorted(carried))
            return super().critic_loss(batch, carried)

    step(compiled(Watching(num_passes=2), run_eagerly=True))
    assert seen == [[], []]


def test_a_variable_that_its_loss_does_not_reach_is_an_error_that_names_it():
    class Forgetful(Players):
        def critic_loss(self, batch, carried):
            total = ops.mean(ops.square(batch["x"] * self.critic.trainable_variables[0].value[0]))
            return total, {"critic": total}, {}

        def phases(self):
            return [Phase(self.critic_loss, [self.critic, self.generator], "critic")]

    with pytest.raises(ValueError, match=r"does not depend on .*generator.*kernel"):
        step(compiled(Forgetful()))


def test_a_loss_that_is_cut_off_by_a_stopped_gradient_is_an_error_that_names_the_variable():
    class Cut(Players):
        def critic_loss(self, batch, carried):
            total = ops.mean(self.critic(ops.stop_gradient(self.generator(batch["x"]))))
            return total, {"critic": total}, {}

        def phases(self):
            return [Phase(self.critic_loss, [self.critic, self.generator], "critic")]

    with pytest.raises(ValueError, match=r"does not depend on (?!.*critic).*generator.*kernel"):
        step(compiled(Cut()))


@pytest.mark.parametrize("names", [["critic"], ["critic", "generators"], ["critic", "generator", "third"]])
def test_optimizers_under_other_names_than_the_phases_use_are_refused(names):
    with pytest.raises(ValueError, match=r"each of \['critic', 'generator'\], received \['critic'"):
        Players().compile({name: keras.optimizers.SGD() for name in names})


def test_a_model_without_phases_is_told_to_define_them():
    with pytest.raises(TypeError, match="AdversarialModel must define `phases`"):
        AdversarialModel().compile({})


def test_every_optimizer_is_built_by_compile_and_belongs_to_the_saved_state():
    model = Players()
    optimizers = {name: keras.optimizers.Adam(name=name) for name in ("critic", "generator")}
    model.compile(optimizers)
    assert all(optimizer.built for optimizer in optimizers.values())
    # Adam: iterations, learning rate, and two moments for the one kernel of each.
    assert len(model.optimizer.variables) == 8


def test_a_loss_that_is_not_finite_stops_fit_with_the_terms_name():
    model = compiled(Players(turns=["generator", "critic"]))
    x = np.concatenate([X, np.full_like(X, np.nan)])
    with pytest.raises(NonFiniteLoss, match="at batch 1 .*generator = nan"):
        model.fit({"x": x}, batch_size=4, shuffle=False, verbose=0)


def test_only_the_terms_that_are_not_finite_are_named():
    class Half(Players):
        def critic_loss(self, batch, carried):
            total = ops.mean(self.critic(batch["x"]))
            return total, {"sound": total, "endless": ops.log(0.0 * ops.sum(ops.square(total)))}, {}

    with pytest.raises(NonFiniteLoss, match=r"endless = -inf\.") as error:
        step(compiled(Half(turns=["critic"])))
    assert "sound" not in str(error.value)


def test_no_later_callback_sees_a_step_that_is_not_finite():
    ended = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ended.append(batch))
    with pytest.raises(NonFiniteLoss):
        compiled(Players()).fit({"x": np.full_like(X, np.inf)}, batch_size=4, verbose=0, callbacks=[watch])
    assert ended == []


def test_input_gradient_is_the_derivative():
    x = ops.convert_to_tensor(X)
    np.testing.assert_allclose(ops.convert_to_numpy(input_gradient(lambda value: value**3, x)), 3 * X**2, rtol=1e-5)
    critic = linear(1, "critic")
    w = weights(critic)[0][:, 0]
    received = input_gradient(lambda value: ops.square(critic(value)), x)
    np.testing.assert_allclose(_numpy_detached(received), 2 * (X @ w)[:, None] * w[None], rtol=1e-5, atol=1e-6)


def test_a_gradient_penalty_moves_the_critic_by_its_second_derivative():
    class Penalised(Players):
        def critic_loss(self, batch, carried):
            gradient = input_gradient(lambda x: 0.5 * ops.square(self.critic(x)), batch["x"])
            penalty = ops.mean(ops.sum(ops.square(gradient), axis=-1))
            return penalty, {"penalty": penalty}, {}

    model = compiled(Penalised(turns=["critic"]))
    w = weights(model.critic)[0][:, 0].astype("float64")
    logs = step(model)
    scores = X @ w
    # D(x) = (x w)^2 / 2, so its gradient is (x w) w and the penalty the mean of (x w)^2 |w|^2.
    assert logs["penalty"] == pytest.approx((scores**2).mean() * (w @ w), rel=1e-5)
    slope = (2 * scores[:, None] * X * (w @ w) + 2 * (scores**2)[:, None] * w).mean(0)
    np.testing.assert_allclose(weights(model.critic)[0][:, 0], w - CRITIC_RATE * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("attempt", range(3))  # TensorFlow's graph once read the weights late, not every time
def test_a_network_that_two_phases_share_is_moved_by_both(attempt):
    class Shared(Players):
        def phases(self):
            return [
                Phase(self.critic_loss, [self.critic], "critic"),
                Phase(self.generator_loss, [self.generator, self.critic], "generator"),
            ]

    model = compiled(Shared())
    (generator,), (w,) = weights(model.generator), weights(model.critic)
    step(model)
    first = critic_step(w, generator)
    second = first + GENERATOR_RATE * (X @ generator).mean(0)[:, None]
    np.testing.assert_allclose(weights(model.critic)[0], second, atol=1e-6)
    np.testing.assert_allclose(weights(model.generator)[0], generator_step(generator, first), atol=1e-6)


def test_phases_can_share_one_optimizer_over_different_networks():
    class OneOptimizer(Players):
        def phases(self):
            return [phase._replace(optimizer="critic") for phase in super().phases()]

    model = compiled(OneOptimizer())
    step(model)
    assert int(model.optimizers["critic"].iterations) == 2


def test_two_passes_move_as_two_steps_and_log_their_mean():
    model, twice = compiled(Players()), compiled(Players(num_passes=2))
    twice.set_weights(model.get_weights())
    logs = [step(model), step(model)]
    logs_twice = step(twice)
    for one, other in zip(model.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    for name, value in logs_twice.items():
        assert value == pytest.approx((logs[0][name] + logs[1][name]) / 2, abs=1e-6)


@pytest.mark.backend("tensorflow", "jax")  # Keras has no steps_per_execution on PyTorch
def test_several_steps_per_execution_train_as_one_by_one():
    model, together = compiled(Players()), compiled(Players(), steps_per_execution=2)
    together.set_weights(model.get_weights())
    for each in (model, together):
        each.fit({"x": np.concatenate([X, 2 * X])}, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(model.get_weights(), together.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


class Weighed(Players):
    """A critic with two terms that weigh 3 and 0.5, and one that only is logged; then the generator."""

    def term_weights(self):
        return {"apart": 3.0, "size": 0.5, "constant": 0.0}

    def critic_loss(self, batch, carried):
        fake, scores = self.generator(batch["x"]), self.critic(batch["x"])
        noise = keras.random.normal((), seed=self.seed) if self.seed else 0.0
        terms = {
            "apart": ops.mean(self.critic(fake)) - ops.mean(scores),
            "size": ops.mean(ops.square(scores)) + noise * ops.mean(scores),
            "constant": ops.mean(batch["x"]),
        }
        return self.weighted(terms), terms, {"fake": fake}

    seed = None


def weighed_shares(model, x=X):
    """Those of the critic's terms in closed form, without noise."""
    (generator,), (w,) = weights(model.generator), weights(model.critic)
    apart = 3.0 * np.linalg.norm((x @ generator).mean(0) - x.mean(0))
    size = 0.5 * np.linalg.norm(2 * x.T @ (x @ w) / len(x))
    return {"apart": apart / (apart + size), "size": size / (apart + size), "constant": 0.0, "generator": 1.0}


@pytest.mark.parametrize("num_passes", [1, 2])
def test_a_terms_share_is_the_norm_of_its_weighted_gradient_over_the_sum_in_its_phase(num_passes):
    model = compiled(Weighed(num_passes=num_passes))
    assert model.gradient_shares({"x": X}) == pytest.approx(weighed_shares(model), abs=1e-6)
    assert model.gradient_shares({"x": X[:2]}) == pytest.approx(weighed_shares(model, X[:2]), abs=1e-6)


def test_shares_are_of_the_present_weights_and_change_nothing():
    model = compiled(Weighed())
    model.seed = keras.random.SeedGenerator(0)
    drawn, before = model.gradient_shares({"x": X}), model.get_weights()
    assert model.gradient_shares({"x": X}) == drawn != pytest.approx(weighed_shares(model))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizers["critic"].iterations) == 0
    model = compiled(Weighed())
    first = model.gradient_shares({"x": X})
    step(model, 3 * X)
    assert model.gradient_shares({"x": X}) == pytest.approx(weighed_shares(model), abs=1e-6)
    assert abs(first["apart"] - weighed_shares(model)["apart"]) > 0.01


def test_what_a_phase_minimises_is_the_sum_of_its_weighted_terms():
    model = compiled(Weighed())
    total, terms, _ = model.critic_loss({"x": ops.convert_to_tensor(X)}, {})
    assert float(_numpy_detached(total)) == pytest.approx(
        3.0 * float(_numpy_detached(terms["apart"])) + 0.5 * float(_numpy_detached(terms["size"])), abs=1e-6
    )


def test_a_phase_without_any_gradient_has_shares_of_0():
    class Flat(Players):
        def critic_loss(self, batch, carried):
            terms = {"flat": 0.0 * ops.mean(self.critic(batch["x"]))}
            return self.weighted(terms), terms, {}

    assert compiled(Flat(turns=["critic"])).gradient_shares({"x": X}) == {"flat": 0.0}


def averaging():
    model = Players()
    model.track_averages([model.generator], 0.5)
    return compiled(model)


def test_averages_follow_the_weights_after_every_step():
    model = averaging()
    (expected,) = weights(model.generator)
    for n in range(3):
        step(model)
        momentum = min(0.5, (1 + n) / (10 + n))
        expected = momentum * expected + (1 - momentum) * weights(model.generator)[0]
    with model.averaged():
        np.testing.assert_allclose(weights(model.generator)[0], expected, atol=1e-6)


def test_a_policy_of_averaging_may_be_any_average_of_variables():
    model = Players()
    model.track_averages([model.generator], functools.partial(StochasticWeightAveraging, start=1))
    compiled(model)
    trajectory = []
    for _ in range(3):
        step(model)
        trajectory.append(weights(model.generator)[0])
    with model.averaged():
        np.testing.assert_allclose(weights(model.generator)[0], np.mean(trajectory[1:], axis=0), atol=1e-6)


def test_after_the_context_the_live_weights_are_back_bit_for_bit_also_after_an_error():
    model = averaging()
    step(model)
    live, critic = weights(model.generator), weights(model.critic)
    with model.averaged():
        assert np.abs(weights(model.generator)[0] - live[0]).max() > 0
        np.testing.assert_array_equal(weights(model.critic)[0], critic[0])
    np.testing.assert_array_equal(weights(model.generator)[0], live[0])
    with pytest.raises(KeyError), model.averaged():
        raise KeyError
    np.testing.assert_array_equal(weights(model.generator)[0], live[0])


def test_averages_are_part_of_the_models_weights_but_no_phase_moves_them():
    model = averaging()
    assert len(model.weights) == len(Players().weights) + 2  # the count and one kernel
    assert len(model.trainable_variables) == 2


def test_a_model_without_averages_keeps_its_weights_in_the_context():
    model = Players()
    live = weights(model.generator)
    with model.averaged():
        np.testing.assert_array_equal(weights(model.generator)[0], live[0])


def test_the_first_replica_draws_what_keras_would_draw_and_never_twice_the_same():
    ours, theirs = ReplicaSeedGenerator(3), keras.random.SeedGenerator(3)
    first = [ops.convert_to_numpy(keras.random.normal((4,), seed=ours)) for _ in range(2)]
    np.testing.assert_array_equal(first[0], ops.convert_to_numpy(keras.random.normal((4,), seed=theirs)))
    assert np.abs(first[0] - first[1]).min() > 0


def _numpy_detached(tensor):
    return ops.convert_to_numpy(ops.stop_gradient(tensor))
