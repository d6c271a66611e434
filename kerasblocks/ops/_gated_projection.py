"""A SwiGLU gate and the matrix product after it, which keep less for the gradient than their composition."""

from typing import Any

from kerasblocks.ops._dispatch import with_fast_path
from kerasblocks.ops._gated_projection_reference import reference

_gated_projection = with_fast_path("gated_projection", reference)


def gated_projection(gate_up: Any, kernel: Any, beta: float = 1.0) -> Any:
    """Computes (swish_β(gate) ⊙ up) · kernel, where `gate_up` holds gate and up side by side.

    What lies between is computed anew in the backward pass: on PyTorch and TensorFlow only `gate_up` and `kernel`
    are kept for the gradient, on JAX the product's input too.

    Args:
        gate_up: tensor of shape `(..., 2 · hidden)`.
        kernel: tensor of shape `(hidden, outputs)`, of the same floating dtype.
        beta: β, a number.

    Returns:
        A tensor of shape `(..., outputs)`.
    """
    return _gated_projection(gate_up, kernel, beta)
