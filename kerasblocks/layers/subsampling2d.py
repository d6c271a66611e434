"""Trainable sub-sampling; Keras's pooling layers have no weights."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer
from kerasblocks.ops._floating import accumulation_dtype


@keras.saving.register_keras_serializable(package="kerasblocks")
class Subsampling2D(keras.layers.Layer):
    """Sums non-overlapping patches of every map, then scales and shifts the map by trained numbers.

    out[..., c] = activation(coefficient[c] · Σ_{patch} in[..., c] + bias[c])

    Rows and columns that do not fill a patch are left out, as in pooling with `"valid"` padding. All
    is computed in float32 or better under every precision policy; the result is cast to the compute
    dtype.

    Args:
        pool_size: side of the square patch, which is also the stride.
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's setting.
        activation: an activation or its name; None for none.
        coefficient_initializer: initializer of the coefficients; None for the constant
            `1 / pool_size²`, with which the layer starts as average pooling.
        bias_initializer: initializer of the biases.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, height, width, channels)` (`channels_last`).

    Returns:
        A tensor of shape `(batch, height // pool_size, width // pool_size, channels)` in the
        compute dtype.

    Raises:
        ValueError: a `pool_size` below 1 or larger than the input, inputs that are not of rank 4,
            or an unknown number of channels.

    Source: layers S2 and S4 of LeNet-5: LeCun et al., "Gradient-based learning applied to document
    recognition", Proc. IEEE 86(11), 1998, section II.B.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import Subsampling2D
    >>> layer = Subsampling2D(2)
    >>> outputs = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 5, 4, 3))))
    >>> outputs.shape, float(outputs.max()), layer.count_params()
    ((1, 2, 2, 3), 1.0, 6)
    """

    def __init__(
        self,
        pool_size: int = 2,
        *,
        data_format: str | None = None,
        activation: Any = None,
        coefficient_initializer: Any = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = as_integer("pool_size", pool_size, least=1)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f'data_format must be "channels_last" or "channels_first"; got {data_format!r}.')
        self.activation = keras.activations.get(activation)
        self.coefficient_initializer = keras.initializers.get(
            keras.initializers.Constant(1 / pool_size**2)
            if coefficient_initializer is None
            else coefficient_initializer
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[self._channel_axis]
        if channels is None:
            raise ValueError(f"The number of channels must be known; got input shape {tuple(input_shape)}.")
        self.compute_output_shape(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={self._channel_axis: channels})
        self.coefficient = self.add_weight(
            name="coefficient", shape=(channels,), initializer=self.coefficient_initializer, autocast=False
        )
        self.bias = self.add_weight(name="bias", shape=(channels,), initializer=self.bias_initializer, autocast=False)

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        self.compute_output_shape(inputs.shape)  # refuses inputs that are too small
        dtype = accumulation_dtype(self.variable_dtype)
        inputs = ops.cast(inputs, dtype)
        means = ops.average_pool(inputs, self.pool_size, strides=self.pool_size, data_format=self.data_format)
        shape = (1, -1, 1, 1) if self._channel_axis == 1 else (1, 1, 1, -1)
        coefficient = ops.reshape(ops.cast(self.coefficient, dtype), shape) * self.pool_size**2
        outputs = self.activation(means * coefficient + ops.reshape(ops.cast(self.bias, dtype), shape))
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        shape = list(input_shape)
        for axis in (2, 3) if self._channel_axis == 1 else (1, 2):
            side = shape[axis]
            if side is not None:
                if side < self.pool_size:
                    raise ValueError(
                        f"The input must be at least pool_size={self.pool_size} high and wide; "
                        f"got input shape {tuple(input_shape)}."
                    )
                shape[axis] = side // self.pool_size
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "coefficient_initializer": keras.initializers.serialize(self.coefficient_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1
