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
