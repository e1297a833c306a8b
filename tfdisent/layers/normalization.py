"""Normalisation of activations (instance norm, batch norm by group) and of weights (spectral norm)."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="tfdisent")
class InstanceNormalization(keras.layers.Layer):
    """Normalises every channel of every example over its own positions.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with mean and (biased) variance over the spatial axes;
    gamma and beta are per channel (Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022). Statistics are float32 at
    least, also under mixed precision. The default epsilon is TensorFlow Addons'; PyTorch's is 1e-5, without gamma and
    beta. A map of a single position gives beta.

    Args:
        epsilon: added to the variance, > 0.
        center: whether to learn beta (starts at 0).
        scale: whether to learn gamma (starts at 1).

    Input and output shape: `(batch, *spatial, channels)` with one spatial axis or more.
    """

    def __init__(self, epsilon: float = 1e-3, center: bool = True, scale: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        if not epsilon > 0:
            raise ValueError(f"InstanceNormalization: `epsilon` must be greater than 0. Received: {epsilon}.")
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.gamma = None
        self.beta = None

    def build(self, input_shape) -> None:
        if len(input_shape) < 3 or input_shape[-1] is None:
            raise ValueError(
                "InstanceNormalization expects (batch, *spatial, channels) with a known number of channels. Received "
                f"shape: {tuple(input_shape)}."
            )
        channels = (input_shape[-1],)
        # autocast=False: the parameters meet float32 statistics, so they are not rounded first.
        if self.scale:
            self.gamma = self.add_weight(shape=channels, initializer="ones", name="gamma", autocast=False)
        if self.center:
            self.beta = self.add_weight(shape=channels, initializer="zeros", name="beta", autocast=False)

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = tuple(range(1, len(inputs.shape) - 1))
        x = x - ops.mean(x, axis=axes, keepdims=True)
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + self.epsilon)
        if self.scale:
            x = x * self.gamma
        if self.center:
            x = x + self.beta
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        config = {"epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="tfdisent")
class GroupwiseBatchNormalization(keras.layers.Layer):
    """Batch normalisation with statistics of its own for each group of images, such as a modality or a scanner.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`. In training mean and (biased) variance are those of the
    call's examples of weight 1, and move the averages of the call's group alone; an example of weight 0 has no part in
    them, and a call without any other moves nothing and is normalised by the averages. In inference they are the
    group's averages, so that both modes see a group alike (Chang et al., Domain-Specific Batch Normalization, Sec. 3.2,
    CVPR 2019, https://arxiv.org/abs/1906.03950; gamma and beta are shared here). Statistics are float32 at least.

    Args:
        momentum: of the averages, in [0, 1).
        epsilon: added to the variance, > 0.

    Call arguments:
        inputs: [(B, *spatial, C), weights (B,) of 0 and 1, one-hot group (1, K)]; of more rows of the group the first
            one counts, for all.

    Returns:
        (B, *spatial, C).
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= momentum < 1 or not epsilon > 0:
            raise ValueError(
                "GroupwiseBatchNormalization: `momentum` must be in [0, 1) and `epsilon` greater than 0. Received: "
                f"{momentum} and {epsilon}."
            )
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, input_shape) -> None:
        features, _, group = input_shape
        channels, groups = features[-1], group[-1]
        self.gamma = self.add_weight((channels,), "ones", name="gamma", autocast=False)
        self.beta = self.add_weight((channels,), "zeros", name="beta", autocast=False)
        held = {"trainable": False, "autocast": False}
        self.moving_mean = self.add_weight((groups, channels), "zeros", name="moving_mean", **held)
        self.moving_variance = self.add_weight((groups, channels), "ones", name="moving_variance", **held)

    def call(self, inputs, training: bool = False):
        features, weight, group = inputs
        x = ops.cast(features, keras.backend.result_type(features.dtype, "float32"))
        group = ops.one_hot(ops.argmax(group[:1], axis=1), group.shape[-1], dtype=x.dtype)  # (1, K)
        mean = ops.matmul(group, self.moving_mean.value)[0]
        variance = ops.matmul(group, self.moving_variance.value)[0]
        if training:
            there = ops.any(weight > 0)
            moments = self._moments(x, ops.cast(weight, x.dtype))
            mean, variance = (ops.where(there, new, old) for new, old in zip(moments, (mean, variance), strict=True))
            share = (1.0 - self.momentum) * ops.transpose(group) * ops.cast(there, x.dtype)  # (K, 1)
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average + share * (ops.stop_gradient(value)[None] - average))
        x = (x - mean) * (ops.rsqrt(variance + self.epsilon) * self.gamma) + self.beta
        return ops.cast(x, self.compute_dtype)

    def _moments(self, x, weight):
        axes = tuple(range(len(x.shape) - 1))
        counts = ops.reshape(weight > 0, (-1, *[1] * (len(x.shape) - 1)))
        positions = ops.cast(np.prod(x.shape[1:-1]), x.dtype)
        size = ops.maximum(ops.sum(weight), 1.0) * positions
        mean = ops.sum(ops.where(counts, x, 0.0), axis=axes) / size
        variance = ops.sum(ops.where(counts, ops.square(x - mean), 0.0), axis=axes) / size
        return mean, variance

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self) -> dict:
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable(package="tfdisent")
class SpatialModulation(keras.layers.Layer):
    """Multiplies features by 1 + a gain and adds a shift, both of their own at each position.

    The second half of spatially adaptive normalisation (Park et al., SPADE, Eq. 1, CVPR 2019,
    https://arxiv.org/abs/1903.07291). Of one map several features may be modulated, K for each in turn, so that the
    maps, which cost most of SPADE, are made once and not K times.

    Call arguments:
        inputs: [features (N * K, H, W, C), gain (N, H, W, C), shift (N, H, W, C)].

    Returns:
        (N * K, H, W, C).
    """

    def call(self, inputs):
        features, gain, shift = inputs
        shape = ops.shape(features)
        apart = ops.reshape(features, (ops.shape(gain)[0], -1, *shape[1:]))
        return ops.reshape(apart * (1.0 + gain[:, None]) + shift[:, None], shape)

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable(package="tfdisent")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides a layer's kernel by its largest singular value.

    Miyato et al. 2018 (https://arxiv.org/abs/1802.05957), Algorithm 1 and Eq. 8. With W the kernel as a matrix of
    `kernel.shape[-1]` columns (the paper's W transposed) and u the stored vector, each call computes,
    `power_iterations` times,

        v = W u / |W u|,    u' = W^T v / |W^T v|,    and then    sigma = v^T W u',

    and runs the layer with `kernel / sigma`. The gradient goes through sigma, with u' and v held constant, as in the
    paper. The kernel itself stays as the optimizer left it; u' is stored only when `training=True`. The same kernel and
    u thus give the same output in training and inference. Regularisers and constraints of the layer see the raw kernel.
    sigma is computed in float32 at least, also under mixed precision.

    `keras.layers.SpectralNormalization` differs: it overwrites the kernel with the normalised one. The matrix' columns
    are always the kernel's last axis, as in TensorFlow Addons; for transposed convolutions these are the input
    channels, where PyTorch takes the output channels.

    Args:
        layer: a layer with a `kernel` or `embeddings` weight (Dense, Conv1D-3D, their transposes, Embedding) and no
            other state. It keeps its dtype policy; the wrapper takes none.
        power_iterations: number of iterations per call, >= 1.
        epsilon: a norm up to this counts as zero: a zero kernel stays zero, and u as it was.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        power_iterations: int = 1,
        epsilon: float = 1e-12,
        **kwargs,
    ) -> None:
        # The wrapper works in the variables' dtype and casts nothing, so that it reads the raw
        # kernel unrounded; the wrapped layer opens its own mixed-precision scope.
        super().__init__(layer, dtype=layer.variable_dtype, autocast=False, **kwargs)
        if power_iterations < 1:
            raise ValueError(
                f"SpectralNormalization: `power_iterations` must be 1 or more. Received: {power_iterations}."
            )
        if layer.activity_regularizer is not None:
            raise ValueError(
                f"SpectralNormalization: `activity_regularizer` of layer {layer.name!r} would be lost; give it to "
                "SpectralNormalization(..., activity_regularizer=...) instead."
            )
        self.power_iterations = power_iterations
        self.epsilon = epsilon

    def build(self, input_shape=None) -> None:
        super().build(input_shape)
        self.u = self.add_weight(
            shape=(self._raw_kernel.shape[-1],),
            initializer=keras.initializers.RandomNormal(),
            trainable=False,
            dtype=self._dtype_of_sigma,
            autocast=False,
            name="u",
        )

    @property
    def _raw_kernel(self) -> keras.Variable:
        # Looked up, not kept as an attribute: Keras would save it again as the wrapper's own.
        for name in ("kernel", "embeddings"):
            variable = getattr(self.layer, name, None)
            if isinstance(variable, keras.Variable):
                return variable
        raise ValueError(
            "SpectralNormalization needs a layer with a `kernel` or `embeddings` variable (without LoRA). Received: "
            f"{type(self.layer).__name__} {self.layer.name!r}."
        )

    @property
    def _dtype_of_sigma(self) -> str:
        return keras.backend.result_type(self.layer.variable_dtype, "float32")

    def normalized_kernel(self):
        """Returns `(kernel / sigma, u')` for the current kernel and u; changes neither."""
        kernel = ops.cast(self._raw_kernel.value, self._dtype_of_sigma)
        matrix = ops.reshape(kernel, (-1, kernel.shape[-1]))
        constant = ops.stop_gradient(matrix)
        u = self.u.value
        for _ in range(self.power_iterations):
            v = self._unit(ops.matmul(constant, u))
            u = self._unit(ops.matmul(v, constant))
        sigma = ops.dot(v, ops.matmul(matrix, u))
        is_zero = sigma <= self.epsilon
        return kernel / ops.where(is_zero, 1.0, sigma), ops.where(is_zero, self.u.value, u)

    def _unit(self, vector):
        return vector / ops.maximum(ops.norm(vector), self.epsilon)

    def call(self, inputs, training: bool = False):
        kernel, u = self.normalized_kernel()
        if training:
            self.u.assign(u)
        # The layer reads its variables through this scope, which gives it the normalised kernel and
        # leaves the variable alone. A scope hides the outer one: it must hold the others too.
        raw = self._raw_kernel
        others = [(variable, variable) for variable in self.layer.variables if variable is not raw]
        with keras.StatelessScope([(raw, kernel), *others], initialize_variables=False):
            return self.layer(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, training: bool = False):
        return self.layer.compute_output_spec(inputs)

    def get_config(self) -> dict:
        config = super().get_config()
        del config["dtype"]  # the wrapped layer's
        return {**config, "power_iterations": self.power_iterations, "epsilon": self.epsilon}
