"""RMS normalization in `keras.ops`, differentiable as often as one likes: the definition of the faster paths."""

import math
from typing import Any

import keras

from kerasblocks.ops._floating import accumulation_dtype

_LARGEST_WINDOW = 2.0**-8


def reference(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
    """Computes x / √(mean(x², axes) + ε) · scale; `window` multiplies x before it is squared."""
    ops = keras.ops
    scaled = ops.cast(x, accumulation_dtype(x.dtype)) * window
    if window > _LARGEST_WINDOW and keras.backend.standardize_dtype(x.dtype) != "float16":
        # So small an ε leaves no room: sums of the largest inputs would overflow.
        scaled = ops.clip(scaled, -(2.0**96), 2.0**96)
    squares, sizes = ops.square(scaled), [ops.shape(x)[axis] for axis in axes]
    if keras.backend.standardize_dtype(scaled.dtype) == "float32" or None in sizes:
        mean = ops.mean(squares, axis=axes, keepdims=True)
    else:  # Keras computes the mean in float32 for float64 too.
        mean = ops.sum(squares, axis=axes, keepdims=True) / ops.cast(math.prod(sizes), scaled.dtype)
    # Not rsqrt: its derivatives are high powers of the result, which overflow.
    y = scaled * ops.reciprocal(ops.sqrt(mean + epsilon * window**2))
    return ops.cast(_times_scale(y, scale, axes), x.dtype)


def of_one_number(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """Computes the norm over a single number, x / √(x² + ε) · scale.

    Its usual derivative is lost to cancellation when x² ≫ ε; that of √(1 − ε / (x² + ε)) keeps its digits there.
    """
    ops = keras.ops
    wide = ops.cast(x, accumulation_dtype(x.dtype)) * epsilon**-0.5
    large = ops.abs(wide) > 1
    outer, inner = ops.where(large, wide, 1.0), ops.where(large, 0.0, wide)
    y = ops.where(
        large,
        ops.sign(outer) * ops.sqrt(1 - ops.reciprocal(1 + ops.square(outer))),
        inner * ops.reciprocal(ops.sqrt(1 + ops.square(inner))),
    )
    return ops.cast(_times_scale(y, scale, axes), x.dtype)


def _times_scale(y: Any, scale: Any, axes: tuple[int, ...]) -> Any:
    if scale is None:
        return y
    rank = len(y.shape)
    if axes != tuple(range(rank - len(axes), rank)):
        scale = keras.ops.reshape(scale, [y.shape[axis] if axis in axes else 1 for axis in range(rank)])
    return y * scale
