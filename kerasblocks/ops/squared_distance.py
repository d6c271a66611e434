"""Squared Euclidean distances of vectors to a set of codes, summed in float32; Keras has no such operation."""

from typing import Any

import keras

from kerasblocks.ops._floating import accumulation_dtype


def squared_distance(x: Any, codes: Any) -> Any:
    """Computes d[..., k] = Σⱼ (x[..., j] − codes[k, j])² in float32 or better.

    The differences are squared one by one: the form |x|² − 2 x·codesᵀ + |codes|² needs less memory
    and loses the digits of small distances.

    Args:
        x: tensor of shape `(..., features)`.
        codes: tensor of shape `(count, features)`.

    Returns:
        A tensor of shape `(..., count)`: float64 if an input is, else float32.

    Raises:
        ValueError: codes that are no matrix, or vectors of different lengths.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import squared_distance
    >>> x, codes = np.array([[3.0, 4.0]], "float32"), np.array([[0.0, 0.0], [3.0, 3.0]], "float32")
    >>> keras.ops.convert_to_numpy(squared_distance(x, codes)).tolist()
    [[25.0, 1.0]]
    """
    ops = keras.ops
    x, codes = ops.convert_to_tensor(x), ops.convert_to_tensor(codes)
    if len(codes.shape) != 2 or not len(x.shape) or x.shape[-1] != codes.shape[-1]:
        raise ValueError(
            "x must have the shape (..., features) and codes (count, features); "
            f"got {tuple(x.shape)} and {tuple(codes.shape)}."
        )
    dtype = accumulation_dtype(x.dtype, codes.dtype)
    differences = ops.expand_dims(ops.cast(x, dtype), -2) - ops.cast(codes, dtype)
    return ops.sum(ops.square(differences), axis=-1)
