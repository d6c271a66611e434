"""Causal attention in `keras.ops`, in float32 or better: the definition of the fused paths."""

import math
from typing import Any

import keras

from kerasblocks.ops._floating import accumulation_dtype, cast_to, dtype_of


def reference(query: Any, key: Any, value: Any, mask: Any, dropout: float = 0.0, seed: Any = None) -> Any:
    """Computes softmax(q · kᵀ / √d) · v; `mask`, (batch or 1, queries, keys), is True where a key is seen, or None.

    Without a mask, query i of as many queries as keys sees the keys up to i.
    """
    ops = keras.ops
    dtype, wide = dtype_of(query), accumulation_dtype(query.dtype)
    batch, queries, heads, features = ops.shape(query)
    keys, groups = ops.shape(key)[1], key.shape[2]
    if mask is None:
        places = ops.arange(keys, dtype="int32")
        mask = (places[None, :] <= places[:, None])[None]
    query, key, value = (ops.transpose(cast_to(each, wide), (0, 2, 1, 3)) for each in (query, key, value))
    # The queries of a group of heads are rows of one product with the keys that they share.
    rows = (heads // groups) * queries
    query = ops.reshape(query, (batch, groups, rows, features)) * (1 / math.sqrt(features))
    logits = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
    logits = ops.reshape(logits, (batch, heads, queries, keys))
    logits = ops.where(mask[:, None], logits, ops.cast(-1e30, wide))
    weights = ops.ones_like(logits) if key.shape[2] == 1 else ops.softmax(logits, axis=-1)  # Keras warns of one key.
    if dropout:
        weights = keras.random.dropout(weights, dropout, seed=seed)
    outputs = ops.matmul(ops.reshape(weights, (batch, groups, rows, keys)), value)
    outputs = ops.transpose(ops.reshape(outputs, (batch, heads, queries, features)), (0, 2, 1, 3))
    return cast_to(outputs, dtype)
