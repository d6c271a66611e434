"""The products that are added up in one call of a layer, by its class."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras.src.ops import numpy as _operations

from kerasblocks.layers import CausalSelfAttention, CodeDistance, ConnectionTableConv2D, SwiGLU

Shape = tuple[Any, ...]
Formula = Callable[..., Any]
_layers = keras.layers
_NUMBER_BY_NUMBER = (_layers.PReLU, _layers.LayerNormalization, _layers.RMSNormalization)


def has_formula(layer: Any) -> bool:
    """Returns whether the products of a layer are known as a whole, with those of the layers inside it."""
    return _formula(layer) is not None


def multiply_adds(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> int | None:
    """Returns how many products one call of a layer or operation adds up; None where that is not known.

    Layers of Keras and of ours that work number by number have none.
    """
    formula = _formula(layer)
    if formula is not None:
        first = args or tuple(kwargs.values())[:1]
        found = formula(layer, first, kwargs, tuple(keras.tree.flatten(outputs)[0].shape))
        return None if found is None else int(found)
    own = type(layer).__module__.partition(".")[0] in ("keras", "kerasblocks") and not isinstance(layer, _layers.Lambda)
    plain = isinstance(layer, _NUMBER_BY_NUMBER) or all(len(weight.shape) < 2 for weight in layer.weights)
    return 0 if own and plain else None


def _formula(layer: Any) -> Formula | None:
    return next((formula for kinds, formula in _FORMULAS if isinstance(layer, kinds)), None)


def _size(weight: Any) -> int:
    return math.prod(weight.shape)


def _product_with_last(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(returned) * args[0].shape[-1]


def _einsum_dense(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    _, rest = layer.equation.replace(" ", "").split(",")
    kernel, outputs = rest.split("->")
    letters = zip(kernel.replace(".", ""), layer.kernel.shape, strict=True)
    return math.prod(returned) * math.prod(size for letter, size in letters if letter not in outputs)


def _convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(returned) * math.prod(layer.kernel.shape[:-1])


def _transposed_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(args[0].shape) * math.prod(layer.kernel.shape[:-1])


def _depthwise_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(returned) * math.prod(layer.kernel_size)


def _separable_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    between = layer.depthwise_kernel.shape[-2] * layer.depth_multiplier
    return math.prod(returned) // layer.filters * between * (math.prod(layer.kernel_size) + layer.filters)


def _table_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    connections = sum(map(len, layer.connections))
    return math.prod(returned) // len(layer.connections) * connections * math.prod(layer.kernel_size)


def _embedding(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    reverse = kwargs.get("reverse", args[1] if len(args) > 1 else False)
    return math.prod(returned) * args[0].shape[-1] if reverse else 0


def _recurrent(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(args[0].shape[:2]) * (_size(layer.cell.kernel) + _size(layer.cell.recurrent_kernel))


def _swiglu(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return math.prod(returned[:-1]) * (_size(layer.gate_up.kernel) + _size(layer.down.kernel))


def _self_attention(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    _, length, _ = args[0].shape
    kernel, last = layer.query_key_value.kernel, layer.output_projection.kernel
    return math.prod(returned[:-1]) * (_size(kernel) + _size(last) + 2 * length * last.shape[0])


def _attention(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    given = dict(zip(("query", "value", "key"), args, strict=False)) | kwargs
    query, value = given["query"].shape, given["value"].shape
    axes = getattr(layer, "_attention_axes", None) or range(1, len(query) - 1)
    seen = math.prod(value[axis] for axis in axes)
    query_kernel, value_kernel = layer._query_dense.kernel.shape, layer._value_dense.kernel.shape
    heads = query_kernel[1]
    by_query = math.prod(query_kernel) + _size(layer._output_dense.kernel)
    by_query += seen * heads * (query_kernel[-1] + value_kernel[-1])
    by_key = _size(layer._key_dense.kernel) + math.prod(value_kernel)
    return math.prod(query[:-1]) * by_query + math.prod(value[:-1]) * by_key


def _plain_attention(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    query, value, *key = (each.shape for each in args[0])
    return math.prod(query[:-1]) * value[1] * ((key[0] if key else value)[-1] + value[-1])


def _dot(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return math.prod(returned) * args[0][0].shape[axes]


def _not_known(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return None


_FORMULAS: tuple[tuple[Any, Formula], ...] = (
    ((_layers.Dense, CodeDistance), _product_with_last),
    (_layers.EinsumDense, _einsum_dense),
    ((_layers.DepthwiseConv1D, _layers.DepthwiseConv2D), _depthwise_convolution),
    ((_layers.SeparableConv1D, _layers.SeparableConv2D), _separable_convolution),
    (
        (_layers.Conv1DTranspose, _layers.Conv2DTranspose, _layers.Conv3DTranspose),
        _transposed_convolution,
    ),
    ((_layers.Conv1D, _layers.Conv2D, _layers.Conv3D), _convolution),
    (ConnectionTableConv2D, _table_convolution),
    (_layers.Embedding, _embedding),
    ((_layers.SimpleRNN, _layers.LSTM, _layers.GRU), _recurrent),
    # How often the cell is called depends on how a backend traces the loop.
    ((_layers.RNN, _layers.ConvLSTM1D, _layers.ConvLSTM2D, _layers.ConvLSTM3D), _not_known),
    ((_layers.Attention, _layers.AdditiveAttention), _plain_attention),
    (_layers.Dot, _dot),
    (_operations.Matmul, _product_with_last),
    ((_operations.Dot, _operations.Einsum, _operations.Inner, _operations.Tensordot, _operations.Vdot), _not_known),
    (SwiGLU, _swiglu),
    (CausalSelfAttention, _self_attention),
    ((_layers.MultiHeadAttention, _layers.GroupQueryAttention), _attention),
)
