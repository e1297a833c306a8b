"""Sampling, and operations whose gradient is not that of their forward pass."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfdisent")
class GaussianSampling(keras.layers.Layer):
    """Draws `mean + exp(log_variance / 2) * noise`: the reparameterised normal distribution.

    Kingma and Welling 2014, Sec. 2.4 (https://arxiv.org/abs/1312.6114). The gradient reaches both inputs. It samples in
    inference too; use the mean directly where no noise is wanted.

    Args:
        seed: int, or None for a random one. The generator's state is one of `variables`, but Keras leaves it out of
            weights files.

    Call arguments:
        inputs: pair `(mean, log_variance)` of tensors of one shape.
        noise: standard normal tensor of that shape, in place of a draw (serving, tests).
    """

    def __init__(self, seed: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, noise=None):
        mean, log_variance = inputs
        if noise is None:
            noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + ops.exp(log_variance / 2) * noise

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self) -> dict:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="tfdisent")
class GradientReversal(keras.layers.Layer):
    """Returns its input; multiplies the gradient by `-scale` on the way back.

    Ganin and Lempitsky 2015, Eq. 15-16 (https://arxiv.org/abs/1409.7495).

    Args:
        scale: factor lambda of the reversed gradient, >= 0; fixed once a training step is compiled.
    """

    def __init__(self, scale: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if not scale >= 0:
            raise ValueError(f"GradientReversal: `scale` must be 0 or more. Received: {scale}.")
        self.scale = scale
        self.built = True  # no weights

    def call(self, inputs):
        value = ops.stop_gradient(inputs)
        return value - self.scale * (inputs - value)  # the bracket is exactly 0, its gradient 1

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="tfdisent")
class StraightThroughRounding(keras.layers.Layer):
    """Rounds to the nearest integer (halves to even); passes the gradient through unchanged.

    The straight-through estimator of Bengio et al. 2013, Sec. 4 (https://arxiv.org/abs/1308.3432).
    """

    def call(self, inputs):
        return ops.stop_gradient(ops.round(inputs)) + (inputs - ops.stop_gradient(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="tfdisent")
class StraightThroughOneHot(keras.layers.Layer):
    """One in the largest channel, the first of several, 0 in the others; passes the gradient through unchanged.

    The straight-through estimator of Bengio et al. 2013, Sec. 4 (https://arxiv.org/abs/1308.3432), of the argmax over
    the last axis. Unlike rounded probabilities, of which all may be 0, it always has a channel.
    """

    def call(self, inputs):
        hard = ops.one_hot(ops.argmax(inputs, axis=-1), inputs.shape[-1], dtype=self.compute_dtype)
        return ops.stop_gradient(hard) + (inputs - ops.stop_gradient(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape
