"""Squared Euclidean distances of vectors to a set of codes in one matrix product; Keras has no such operation."""

from typing import Any

import keras


def squared_distance(x: Any, codes: Any) -> Any:
    """Computes d[..., k] = Σⱼ (x[..., j] − codes[k, j])², as |x|² − 2 x·codesᵀ + |codes|² in float32 or better.

    Args:
        x: tensor of shape `(..., features)`.
        codes: tensor of shape `(count, features)`.

    Returns:
        A tensor of shape `(..., count)`, never negative: float64 if an input is, else float32.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import squared_distance
    >>> x, codes = np.array([[3.0, 4.0]], "float32"), np.array([[0.0, 0.0], [3.0, 3.0]], "float32")
    >>> keras.ops.convert_to_numpy(squared_distance(x, codes)).tolist()
    [[25.0, 1.0]]
    """
    ops = keras.ops
    x, codes = ops.convert_to_tensor(x), ops.convert_to_tensor(codes)
    dtype = keras.backend.result_type(x.dtype, codes.dtype, "float32")
    x, codes = ops.cast(x, dtype), ops.cast(codes, dtype)
    products = ops.matmul(x, ops.transpose(codes))
    x_norms = ops.sum(ops.square(x), axis=-1, keepdims=True)
    distances = x_norms - 2 * products + ops.sum(ops.square(codes), axis=-1)
    return ops.maximum(distances, 0)
