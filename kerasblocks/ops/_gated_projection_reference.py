"""A SwiGLU gate and the matrix product after it in `keras.ops`: the definition of the paths that keep less."""

from typing import Any

import keras

from kerasblocks.ops.swiglu import swiglu


def reference(gate_up: Any, kernel: Any, beta: float) -> Any:
    """Computes (swish_β(gate) ⊙ up) · kernel."""
    return keras.ops.matmul(gated(gate_up, beta), kernel)


def gated(gate_up: Any, beta: float) -> Any:
    """Computes swish_β(gate) ⊙ up of two tensors that lie side by side."""
    gate, up = keras.ops.split(gate_up, 2, axis=-1)
    return swiglu(gate, up, beta=beta)
