"""Causal attention for JAX: cuDNN's on a GPU that has it, else XLA's."""

from typing import Any

import jax
import keras


def causal_attention(query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Returns the attention, or None where only the reference path will do."""
    on_cpu = jax.default_backend() == "cpu"
    if query.dtype.itemsize != 4 and on_cpu:
        return None  # A CPU's products of halves are in float32 all the same, or are not there; of float64 it has none.
    if 0 in query.shape:
        return None
    return keras.ops.dot_product_attention(
        query, key, value, mask=None if mask is None else mask[:, None], is_causal=mask is None
    )
