"""Convolution between the pairs of maps that a table names; Keras has full and grouped convolution only."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer


@keras.saving.register_keras_serializable(package="kerasblocks")
class ConnectionTableConv2D(keras.layers.Layer):
    """2D convolution in which every output map sees the input maps that a table lists for it.

    out[..., o] = activation(bias[o] + Σ_{i ∈ connections[o]} in[..., i] ∗ kernel[i→o]), stride 1

    The kernel has one `kernel_size` patch per connection and none for pairs that are not connected,
    so it has `height · width · Σ len(connections[o])` weights.

    Args:
        connections: for every output map the input maps it sees, as sequences of indices from 0.
        kernel_size: side of the patch or `(height, width)`.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"`, `"channels_first"`, or None for Keras's setting.
        activation: an activation or its name; None for none.
        use_bias: whether every output map has a bias.
        kernel_initializer: initializer of the patches, called with shape
            `(height, width, number of connections)`, from which initializers that scale with the
            fans (`"he_normal"` and its kin) take wrong ones; None for the uniform distribution of
            Glorot & Bengio with the table's mean fans, U(−√(6/(fan_in + fan_out)), +...).
        bias_initializer: initializer of the biases.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, height, width, channels)` (`channels_last`).

    Returns:
        A tensor of shape `(batch, new height, new width, len(connections))` in the compute dtype.

    Raises:
        ValueError: an empty table, an output map without inputs or with one twice, an index that
            is negative or beyond the input's channels, inputs that are not of rank 4 or, with
            `"valid"` padding, smaller than the patch.

    Source: layer C3 of LeNet-5: LeCun et al., "Gradient-based learning applied to document
    recognition", Proc. IEEE 86(11), 1998, section II.B.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import ConnectionTableConv2D
    >>> layer = ConnectionTableConv2D([[0, 1], [1, 2], [0, 1, 2]], 5)
    >>> layer(keras.ops.ones((2, 14, 14, 3))).shape == (2, 10, 10, 3)
    True
    >>> layer.count_params()  # 7 connections of 25 weights and 3 biases
    178
    """

    def __init__(
        self,
        connections: Sequence[Sequence[int]],
        kernel_size: int | tuple[int, int],
        *,
        padding: str = "valid",
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connections = _check_table(connections)
        self.kernel_size = _check_kernel_size(kernel_size)
        if padding not in ("valid", "same"):
            raise ValueError(f'padding must be "valid" or "same"; got {padding!r}.')
        self.padding = padding
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(f'data_format must be "channels_last" or "channels_first"; got {data_format!r}.')
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(
            _glorot_uniform(self.connections, self.kernel_size) if kernel_initializer is None else kernel_initializer
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    @property
    def filters(self) -> int:
        """Number of output maps."""
        return len(self.connections)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[self._channel_axis]
        largest = max(max(inputs) for inputs in self.connections)
        if channels is None or largest >= channels:
            raise ValueError(
                f"connections name input map {largest}, so the input needs at least {largest + 1} channels; "
                f"got input shape {tuple(input_shape)}."
            )
        self.compute_output_shape(input_shape)
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={self._channel_axis: channels})
        count = sum(len(inputs) for inputs in self.connections)
        # Position of every pair (input map, output map) in the kernel; pairs not connected point at a zero patch.
        positions = np.full((channels, self.filters), count, "int32")
        seen = 0
        for output, inputs in enumerate(self.connections):
            positions[list(inputs), output] = np.arange(seen, seen + len(inputs))
            seen += len(inputs)
        self._positions = positions
        self.kernel = self.add_weight(
            name="kernel", shape=(*self.kernel_size, count), initializer=self.kernel_initializer
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer=self.bias_initializer)

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        self.compute_output_shape(inputs.shape)  # refuses inputs that are too small
        patches = ops.convert_to_tensor(self.kernel)
        patches = ops.pad(patches, [[0, 0], [0, 0], [0, 1]])
        kernel = ops.take(patches, self._positions.reshape(-1), axis=-1)
        kernel = ops.reshape(kernel, (*self.kernel_size, *self._positions.shape))
        outputs = ops.conv(
            ops.cast(inputs, self.compute_dtype), kernel, padding=self.padding, data_format=self.data_format
        )
        if self.use_bias:
            shape = (1, self.filters, 1, 1) if self._channel_axis == 1 else (1, 1, 1, self.filters)
            outputs = outputs + ops.reshape(self.bias, shape)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        spatial = input_shape[1:3] if self._channel_axis == -1 else input_shape[2:4]
        if self.padding == "valid":
            if any(side is not None and side < kernel for side, kernel in zip(spatial, self.kernel_size, strict=True)):
                raise ValueError(
                    f"The input must be at least as high and wide as kernel_size={self.kernel_size}; "
                    f"got input shape {tuple(input_shape)}."
                )
            spatial = tuple(
                side if side is None else side - kernel + 1
                for side, kernel in zip(spatial, self.kernel_size, strict=True)
            )
        maps = (*spatial, self.filters) if self._channel_axis == -1 else (self.filters, *spatial)
        return (input_shape[0], *maps)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "connections": [list(inputs) for inputs in self.connections],
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1


def _check_table(connections: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    if not isinstance(connections, Iterable) or not (outputs := list(connections)):
        raise ValueError(f"connections must list at least one output map; got {connections!r}.")
    table = []
    for output, inputs in enumerate(outputs):
        seen = list(inputs) if isinstance(inputs, Iterable) else []
        if not seen or len(set(seen)) != len(seen):
            raise ValueError(f"connections[{output}] must list different input maps; got {inputs!r}.")
        table.append(tuple(as_integer(f"every entry of connections[{output}]", i, least=0) for i in seen))
    return tuple(table)


def _glorot_uniform(
    connections: tuple[tuple[int, ...], ...], kernel_size: tuple[int, int]
) -> keras.initializers.Initializer:
    weights = math.prod(kernel_size) * sum(len(inputs) for inputs in connections)
    fan_in, fan_out = weights / len(connections), weights / len({i for inputs in connections for i in inputs})
    limit = math.sqrt(6 / (fan_in + fan_out))
    return keras.initializers.RandomUniform(-limit, limit)


def _check_kernel_size(kernel_size: int | tuple[int, int]) -> tuple[int, int]:
    height, width = (
        kernel_size if isinstance(kernel_size, list | tuple) and len(kernel_size) == 2 else [kernel_size] * 2
    )
    return as_integer("kernel_size", height, least=1), as_integer("kernel_size", width, least=1)
