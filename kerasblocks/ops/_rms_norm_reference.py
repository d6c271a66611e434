"""RMS normalization in `keras.ops`, differentiable as often as one likes: the definition of the faster paths."""

from typing import Any

import keras


def reference(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
    """Computes x / √(mean(x², axes) + ε) · scale; `window` multiplies x before it is squared."""
    ops = keras.ops
    scaled = ops.cast(x, keras.backend.result_type(x.dtype, "float32")) * window
    mean = ops.mean(ops.square(scaled), axis=axes, keepdims=True)
    # Not rsqrt: its derivatives are high powers of the result, which overflow.
    y = scaled * ops.reciprocal(ops.sqrt(mean + epsilon * window**2))
    return ops.cast(_times_scale(y, scale, axes), x.dtype)


def of_one_number(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """Is the norm over a single number, x / √(x² + ε), whose derivative is lost to cancellation when x² ≫ ε.

    With q = ε / (x² + ε), |y| = √(1 − q) keeps its digits there.
    """
    ops = keras.ops
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32")) * epsilon**-0.5
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
