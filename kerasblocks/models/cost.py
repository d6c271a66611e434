"""What a model costs: parameters, multiply-adds and activations of each layer; Keras counts the first only."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import ml_dtypes  # noqa: F401 - NumPy learns bfloat16 by it
import numpy as np
from keras.src.backend import compute_output_spec

from kerasblocks._replaced_calls import calls_replaced
from kerasblocks.models._multiply_adds import has_formula, multiply_adds

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What one call of a layer costs, for one sample.

    Attributes:
        name: the layer's path in the model.
        kind: name of its class.
        output_shape: shape of what it returns, without the batch; of several outputs, the first.
        parameters: numbers in its weights; 0 where they were counted for an earlier call.
        multiply_adds: products that are added up, with weights or of attention; None where that is not known.
        activation_bytes: memory of what it returns.
    """

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    multiply_adds: int | None
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """What a model costs, for one sample; as text it is a table.

    Attributes:
        layers: one row for each call of a layer, in the order of the calls.
    """

    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass, of the layers where they are known."""
        return sum(layer.multiply_adds or 0 for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Memory of what all layers return."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the layers whose multiply-adds are not known."""
        return tuple(layer.name for layer in self.layers if layer.multiply_adds is None)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns the rows as dicts, for a data frame or JSON."""
        return [dataclasses.asdict(layer) for layer in self.layers]

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("layer", "kind", "output", "parameters", "multiply-adds", "activation bytes")]
        for each in self.layers:
            rows.append((each.name, each.kind, " x ".join(map(str, each.output_shape)), *map(_number, _figures(each))))
        rows.append(("in all", "", "", *map(_number, _figures(self))))
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if place < 3 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if self.unknown:
            lines.append(f"not known, and not in the sum: the multiply-adds of {', '.join(self.unknown)}")
        return "\n".join(lines)


def cost(model: keras.Model, input_shape: Any = None) -> ModelCost:
    """Counts parameters, multiply-adds and activations of each layer, for one sample of a forward pass.

    Multiply-adds are those of products with weights and of attention (all positions with all, whatever the mask), the
    figure that papers give, half of the floating-point operations; sums, activations, normalizations and pooling are
    not counted. Activations are what the layers return, in their compute dtype, as a training step keeps it at least; a
    batch takes its size times as much. Layers inside of others have rows of their own, but for those of `SwiGLU` and of
    attention, which are one.

    Args:
        model: a model that has been built.
        input_shape: shape of a sample, without the batch, or a dict, list or tuple of such, as the model takes its
            inputs; None for that of the model, where it is known.

    Returns:
        A `ModelCost`: `str(...)` is a table, `.layers` the rows, `.parameters`, `.multiply_adds` and
        `.activation_bytes` the sums. Multiply-adds are None where they are not known: of foreign classes without layers
        inside, `Lambda`, `RNN` with a cell of one's own, convolutional LSTMs. What a foreign class computes beside the
        layers inside is not seen; weights of its own beside theirs have a row.

    Raises:
        ValueError: something else than a model that has been built; sizes that are not known.

    Source: the count of Sze et al., "Efficient processing of deep neural networks", Proc. IEEE 105(12), 2017.

    Example:

    >>> from kerasblocks.models import cost, lenet5
    >>> counted = cost(lenet5())
    >>> counted.parameters, counted.multiply_adds, counted.layers[0].output_shape
    (61706, 416520, (28, 28, 6))
    """
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            f"model must be a Keras model that has been built; got {model!r}. Call it or its build() first."
        )
    rows: list[LayerCost] = []
    counted: set[int] = set()
    inside: list[Any] = []  # the layer that is counted as a whole, while it calls its own

    def noting(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if layer is model:  # which a backend may trace more than once
                rows.clear()
                counted.clear()
            whole = not inside and layer is not model and _is_whole(layer)
            if whole:
                inside.append(layer)
            try:
                outputs = original(*args, **kwargs)
            finally:
                if whole:
                    inside.pop()
            if not inside:
                new = [weight for weight in getattr(layer, "weights", []) if id(weight) not in counted]
                counted.update(map(id, new))
                if whole:
                    rows.append(_cost_of(layer, new, multiply_adds(layer, args, kwargs, outputs), outputs))
                elif new:  # of its own, beside those of the layers inside
                    rows.append(_cost_of(layer, new, None if any(len(each.shape) > 1 for each in new) else 0, None))
            return outputs

        return call

    with calls_replaced(_parts(model), noting):
        compute_output_spec(model, _inputs(model, input_shape), training=False)
    return ModelCost(tuple(rows))


def _parts(model: Any) -> list[Any]:
    """Returns all layers, and the operations between them that multiply."""
    found = dict.fromkeys(model._flatten_layers())
    for layer in list(found):
        for each in getattr(layer, "operations", []):
            if not isinstance(each, keras.layers.Layer) and has_formula(each):
                found[each] = None
    return list(found)


def _inputs(model: Any, shape: Any) -> Any:
    """Returns symbols of one sample."""
    known = getattr(getattr(model, "_functional", None) or model, "_inputs_struct", None)
    if shape is None:
        if known is None:
            raise ValueError(f"The inputs of {model.name!r} are not known: pass input_shape.")
        return keras.tree.map_structure(lambda each: _symbol(each.shape[1:], each.dtype), known)
    if isinstance(shape, dict):
        named = known if isinstance(known, dict) else {}
        if named and named.keys() != shape.keys():
            raise ValueError(
                f"input_shape must name the inputs of {model.name!r}, {sorted(named)}; got {sorted(shape)}."
            )
        return {name: _symbol(each, getattr(named.get(name), "dtype", "float32")) for name, each in shape.items()}
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], list | tuple):
        listed = known if isinstance(known, list | tuple) and len(known) == len(shape) else [None] * len(shape)
        return [_symbol(each, getattr(one, "dtype", "float32")) for each, one in zip(shape, listed, strict=True)]
    return _symbol(shape, getattr(known, "dtype", "float32"))


def _symbol(shape: Any, dtype: str) -> Any:
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(
            f"The sizes of a sample must be known and whole numbers above 0; got {shape!r}. Pass input_shape, without "
            "the batch."
        )
    return keras.KerasTensor((1, *shape), dtype)


def _is_whole(layer: Any) -> bool:
    """Returns whether a layer is counted as one, not by the layers inside it."""
    if isinstance(layer, keras.layers.InputLayer):
        return False
    return has_formula(layer) or not any(layer._flatten_layers(include_self=False))


def _cost_of(layer: Any, new: list[Any], products: int | None, outputs: Any) -> LayerCost:
    returned = [each for each in keras.tree.flatten(outputs) if hasattr(each, "shape")]
    return LayerCost(
        name=getattr(layer, "path", None) or layer.name,
        kind=type(layer).__name__,
        output_shape=tuple(returned[0].shape[1:]) if returned else (),
        parameters=sum(math.prod(weight.shape) for weight in new),
        multiply_adds=products,
        activation_bytes=sum(math.prod(each.shape) * _bytes(layer, each) for each in returned),
    )


def _bytes(layer: Any, tensor: Any) -> int:
    """Returns the bytes of a number; PyTorch's tensors without values do not always have the layer's dtype."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    wanted = getattr(layer, "compute_dtype", dtype)
    return int(np.dtype(wanted if keras.backend.is_float_dtype(dtype) else dtype).itemsize)


def _figures(row: LayerCost | ModelCost) -> tuple[int, int | None, int]:
    return row.parameters, row.multiply_adds, row.activation_bytes


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
