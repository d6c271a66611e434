"""Swish with a slope, x · σ(βx); Keras has β = 1 only."""

from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_number
from kerasblocks.ops._floating import accumulation_dtype, as_floating


@keras.saving.register_keras_serializable(package="kerasblocks")
def swish(x: Any, beta: Any = 1.0) -> Any:
    """Computes x · σ(βx), with σ the logistic function.

    β = 1 is SiLU; β → ∞ tends to ReLU; β = 0 is x / 2.

    Args:
        x: tensor of any shape; integers are cast to Keras's `floatx`.
        beta: β, a number or a tensor that broadcasts with `x`.

    Returns:
        A tensor of the shape of `x` (broadcast with `beta`) and of its dtype.

    Raises:
        ValueError: an `x` that does not consist of real numbers, a `beta` that is neither a finite number nor a tensor.

    Source: Ramachandran, Zoph and Le, "Searching for activation functions", 2017.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import swish
    >>> round(float(keras.ops.convert_to_numpy(swish(np.array([2.0], "float32"), beta=0.0))[0]), 4)
    1.0
    """
    if not isinstance(x, keras.KerasTensor):
        x = keras.ops.convert_to_tensor(x)
    x = as_floating(x)
    if not hasattr(beta, "shape") or isinstance(beta, np.generic):
        beta = as_number("beta", beta)
        if beta == 1:
            return keras.ops.silu(x)
    wide = keras.ops.cast(x, accumulation_dtype(x.dtype))
    return keras.ops.cast(wide * keras.ops.sigmoid(keras.ops.cast(beta, wide.dtype) * wide), x.dtype)
