"""Causal attention for JAX: cuDNN's on a GPU that has it, else XLA's."""

from typing import Any

import jax
import keras


def causal_attention(query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Returns the attention, or None where only the reference path will do."""
    if jax.default_backend() == "cpu" or query.dtype.itemsize == 8 or 0 in query.shape:
        return None  # XLA's code for a CPU is no faster than the reference path's, and has no products of halves.
    return keras.ops.dot_product_attention(
        query, key, value, mask=None if mask is None else mask[:, None], is_causal=mask is None
    )
