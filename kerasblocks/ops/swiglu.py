"""The gate of a SwiGLU feed-forward layer, which Keras has not."""

from typing import Any

import keras

from kerasblocks.ops._floating import as_floating
from kerasblocks.ops.swish import swish


def swiglu(gate: Any, up: Any, *, beta: float = 1.0) -> Any:
    """Computes swish_β(gate) ⊙ up, with swish_β(x) = x · σ(βx).

    Args:
        gate: tensor of any shape; integers are cast to Keras's `floatx`.
        up: tensor of the same shape and dtype.
        beta: β, a number.

    Returns:
        A tensor of the shape of `gate` and of its floating dtype.

    Raises:
        ValueError: tensors of different shapes or dtypes or ones that do not consist of real numbers, a `beta`
            that is neither a finite number nor a tensor.

    Source: Shazeer, "GLU variants improve Transformer", 2020, equation 5.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import swiglu
    >>> result = swiglu(np.array([0.0, 100.0], "float32"), np.array([5.0, 5.0], "float32"))
    >>> keras.ops.convert_to_numpy(result).tolist()
    [0.0, 500.0]
    """
    gate, up = (
        each if isinstance(each, keras.KerasTensor) else keras.ops.convert_to_tensor(each) for each in (gate, up)
    )
    if len(gate.shape) != len(up.shape) or any(
        left != right for left, right in zip(gate.shape, up.shape, strict=True) if None not in (left, right)
    ):
        raise ValueError(f"gate and up must have one shape; got {tuple(gate.shape)} and {tuple(up.shape)}.")
    gate, up = as_floating(gate), as_floating(up)
    dtypes = [keras.backend.standardize_dtype(each.dtype) for each in (gate, up)]
    if dtypes[0] != dtypes[1]:
        raise ValueError(f"gate and up must have one dtype; got {dtypes[0]} and {dtypes[1]}.")
    return swish(gate, beta) * up
