"""A SwiGLU gate and the matrix product after it, which keep half of what the composition keeps for the gradient."""

import importlib
from typing import Any

import keras

from kerasblocks.ops._gated_projection_reference import reference
from kerasblocks.ops.fast_paths import fast_paths_enabled

_fast = importlib.import_module(f"kerasblocks.ops._gated_projection_{keras.backend.backend()}")


def gated_projection(gate_up: Any, kernel: Any, beta: float = 1.0) -> Any:
    """Computes (swish_β(gate) ⊙ up) · kernel, where `gate_up` holds gate and up side by side.

    For the gradient only `gate_up` and `kernel` are kept; the gate's output and the product's input, as many
    numbers again, are computed anew in the backward pass.

    Args:
        gate_up: tensor of shape `(..., 2 · hidden)`.
        kernel: tensor of shape `(hidden, outputs)`, of the same floating dtype.
        beta: β, a number.

    Returns:
        A tensor of shape `(..., outputs)`.
    """
    if fast_paths_enabled() and not isinstance(gate_up, keras.KerasTensor):
        result = _fast.gated_projection(gate_up, kernel, beta)
        if result is not None:
            return result
    return reference(gate_up, kernel, beta)
