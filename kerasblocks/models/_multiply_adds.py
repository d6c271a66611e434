"""The products that are added up in one call of a layer, by its class."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras

from kerasblocks.layers import CausalSelfAttention, CodeDistance, ConnectionTableConv2D, SwiGLU

Shape = tuple[Any, ...]
Formula = Callable[..., Any]
_layers = keras.layers


def has_formula(layer: Any) -> bool:
    """Returns whether the products of a layer are known as a whole, with those of the layers inside it."""
    return _formula(layer) is not None


def multiply_adds(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any) -> int | None:
    """Returns how many products one call adds up; None where that is not known.

    Layers of Keras and of ours that have no formula and no matrix among their weights have none.
    """
    formula = _formula(layer)
    if formula is not None:
        return int(formula(layer, args, kwargs, tuple(keras.tree.flatten(outputs)[0].shape)))
    own = type(layer).__module__.partition(".")[0] in ("keras", "kerasblocks") and not isinstance(layer, _layers.Lambda)
    return 0 if own and all(len(weight.shape) < 2 for weight in layer.weights) else None


def _formula(layer: Any) -> Formula | None:
    return next((formula for kinds, formula in _FORMULAS if isinstance(layer, kinds)), None)


def _product(sizes: Iterable[int]) -> int:
    return math.prod(sizes)


def _size(weight: Any) -> int:
    return _product(weight.shape)


def _product_with_last(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(returned) * args[0].shape[-1]


def _einsum_dense(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    _, rest = layer.equation.replace(" ", "").split(",")
    kernel, outputs = rest.split("->")
    letters = zip(kernel.replace(".", ""), layer.kernel.shape, strict=True)
    return _product(returned) * _product(size for letter, size in letters if letter not in outputs)


def _convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(returned) * _product(layer.kernel.shape[:-1])


def _transposed_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(args[0].shape) * _product(layer.kernel.shape[:-1])


def _depthwise_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(returned) * _product(layer.kernel_size)


def _separable_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    between = layer.depthwise_kernel.shape[-2] * layer.depth_multiplier
    return _product(returned) // layer.filters * between * (_product(layer.kernel_size) + layer.filters)


def _table_convolution(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    connections = sum(map(len, layer.connections))
    return _product(returned) // len(layer.connections) * connections * _product(layer.kernel_size)


def _embedding(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    reverse = kwargs.get("reverse", args[1] if len(args) > 1 else False)
    return _product(returned) * args[0].shape[-1] if reverse else 0


def _recurrent(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(args[0].shape[:2]) * (_size(layer.cell.kernel) + _size(layer.cell.recurrent_kernel))


def _swiglu(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    return _product(returned[:-1]) * (_size(layer.gate_up.kernel) + _size(layer.down.kernel))


def _self_attention(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    _, length, _ = args[0].shape
    kernel, last = layer.query_key_value.kernel, layer.output_projection.kernel
    return _product(returned[:-1]) * (_size(kernel) + _size(last) + 2 * length * last.shape[0])


def _attention(layer: Any, args: Any, kwargs: Any, returned: Shape) -> Any:
    given = dict(zip(("query", "value", "key"), args, strict=False)) | kwargs
    queries = _product(given["query"].shape[1:-1])
    keys = _product(given["value"].shape[1:-1])
    hidden = _product(layer._query_dense.kernel.shape[1:]) + _size(layer._output_dense.kernel) // returned[-1]
    by_query = _size(layer._query_dense.kernel) + _size(layer._output_dense.kernel) + keys * hidden
    by_key = _size(layer._key_dense.kernel) + _size(layer._value_dense.kernel)
    return returned[0] * (queries * by_query + keys * by_key)


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
    (SwiGLU, _swiglu),
    (CausalSelfAttention, _self_attention),
    ((_layers.MultiHeadAttention, _layers.GroupQueryAttention), _attention),
)
