"""Convolutions that Keras does not have."""

import keras
from keras import ops

# What a row of a 3 x 3 kernel adds to the rows of the 4 x 4 kernel that an input stamps on 4 x 4 outputs: a pixel
# becomes two, and a transposed convolution stamps its kernel mirrored to how a convolution reads through it.
SPREAD = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))


@keras.saving.register_keras_serializable(package="tfdisent")
class UpsampleConv2D(keras.layers.Layer):
    """Nearest-neighbour upsampling by 2, then a 3 x 3 convolution with zero padding, in one operation.

    Output and weights are those of `UpSampling2D(2)` followed by `Conv2D(filters, 3, padding="same")`, the
    way to enlarge without checkerboards (Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard).
    The pair is a transposed convolution of stride 2, whose 4 x 4 kernel is the 3 x 3 one summed over the
    2 x 2 pixels that each input becomes: 4 multiplications for an output value in place of 9.

    Args:
        filters: output channels.
        use_bias: adds a bias per channel.
        kernel_initializer: of the 3 x 3 kernel, shape (3, 3, input channels, filters).

    Call arguments:
        inputs: (B, H, W, C), channels last.

    Returns:
        (B, 2H, 2W, filters).
    """

    def __init__(self, filters: int, use_bias: bool = True, kernel_initializer="glorot_uniform", **kwargs) -> None:
        super().__init__(**kwargs)
        if filters < 1:
            raise ValueError(f"UpsampleConv2D: `filters` must be 1 or more. Received: {filters}.")
        self.filters, self.use_bias = filters, use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape) -> None:
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias") if self.use_bias else None

    def call(self, inputs):
        # Per axis first; then (x, y, in, out) as (y, x, out, in).
        spread = ops.convert_to_tensor(SPREAD, self.kernel.dtype)
        stamp = ops.tensordot(spread, ops.tensordot(spread, self.kernel, [[1], [0]]), [[1], [1]])
        stamp = ops.transpose(stamp, (1, 0, 3, 2))
        outputs = ops.conv_transpose(inputs, stamp, strides=2, padding="same", data_format="channels_last")
        return outputs if self.bias is None else outputs + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


ROUTINGS = ("one_hot", "scalar")


@keras.saving.register_keras_serializable(package="tfdisent")
class CondConv2D(keras.layers.Layer):
    """A convolution with zero padding whose kernel is mixed from experts as a condition says, once a call.

    `kernel = sum over e of sigmoid(r_e) * W_e`, where r is a dense layer of the condition (Yang et al., CondConv, Sec.
    3, NeurIPS 2019, https://arxiv.org/abs/1904.04971). Ouyang et al., IPMI 2021, Sec. 3.1, condition on the modality;
    they write the sigmoid around the convolution, and their code has it here. Kernels are mixed and not outputs, so
    that a call costs one convolution, whatever the number of experts.

    Args:
        filters: output channels.
        kernel_size: height and width of the kernel.
        strides: in rows and columns.
        num_experts: E.
        routing: what the dense layer of the experts' weights sees: the "one_hot" condition, so that each condition has
            weights of its own; or its "scalar" 1, 2, ..., K, as the public code, which makes the weights of an expert
            rise or fall in the order of the conditions.
        kernel_initializer: of each expert's kernel, shape (kernel_size, kernel_size, input channels, filters).

    Call arguments:
        inputs: [(B, H, W, C), one-hot condition (1, K)]; of more rows of the condition the first one counts, for all.

    Returns:
        (B, H / strides, W / strides, filters), rounded up.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        num_experts: int = 3,
        routing: str = "one_hot",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        numbers = {"filters": filters, "kernel_size": kernel_size, "strides": strides, "num_experts": num_experts}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"CondConv2D: `{name}` must be 1 or more. Received: {number}.")
        if routing not in ROUTINGS:
            raise ValueError(f"CondConv2D: `routing` must be one of {', '.join(ROUTINGS)}. Received: {routing!r}.")
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.num_experts, self.routing = num_experts, routing
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape) -> None:
        features, condition = input_shape
        shape = (self.kernel_size, self.kernel_size, features[-1], self.filters)

        def experts(_, dtype=None):  # each as if it were alone: an initializer's scale goes by the shape
            return ops.stack(
                [_another(self.kernel_initializer, k)(shape, dtype=dtype) for k in range(self.num_experts)]
            )

        seen = condition[-1] if self.routing == "one_hot" else 1
        self.kernel = self.add_weight((self.num_experts, *shape), experts, name="kernel")
        self.bias = self.add_weight((self.filters,), "zeros", name="bias")
        self.route_kernel = self.add_weight((seen, self.num_experts), "glorot_uniform", name="route_kernel")
        self.route_bias = self.add_weight((self.num_experts,), "zeros", name="route_bias")

    def call(self, inputs):
        features, condition = inputs
        condition = ops.cast(condition[:1], self.compute_dtype)
        if self.routing == "scalar":
            condition = ops.sum(condition * ops.arange(1, condition.shape[-1] + 1, dtype=self.compute_dtype), 1)[
                :, None
            ]
        share = ops.sigmoid(ops.matmul(condition, self.route_kernel) + self.route_bias)[0]  # (E,)
        kernel = ops.tensordot(share, self.kernel, 1)
        outputs = ops.conv(features, kernel, self.strides, padding="same", data_format="channels_last")
        return outputs + self.bias

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape[0]
        sides = [None if side is None else -(-side // self.strides) for side in (height, width)]
        return (batch, *sides, self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "num_experts": self.num_experts,
            "routing": self.routing,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _another(initializer, number: int):
    """An initializer that is like another but draws values of its own: one draws the same values at every call."""
    settings = initializer.get_config()
    seed = settings.get("seed")
    return type(initializer).from_config(settings | ({"seed": seed + number} if isinstance(seed, int) else {}))
