"""A SwiGLU gate and the matrix product after it for JAX, which computes the gate anew in the backward pass."""

from functools import partial
from typing import Any

import jax

from kerasblocks.ops._gated_projection_reference import reference


def gated_projection(gate_up: Any, kernel: Any, beta: float) -> Any:
    """Returns the product."""
    return _checkpointed(gate_up, kernel, beta)


@partial(jax.checkpoint, static_argnums=2)
def _checkpointed(gate_up: Any, kernel: Any, beta: float) -> Any:
    return reference(gate_up, kernel, beta)
