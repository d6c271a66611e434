"""Attention to what came before, by the backend's fused kernel where it has one; Keras leaves the masks to the user."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_rate
from kerasblocks.ops._causal_attention_reference import reference
from kerasblocks.ops._dispatch import with_fast_path
from kerasblocks.ops._floating import as_floating, as_tensor, dtype_of

_attention = with_fast_path("causal_attention", reference)


def causal_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    start: Any = None,
    key_mask: Any = None,
    segment_ids: Any = None,
    window: int | None = None,
    dropout: float = 0.0,
    seed: Any = None,
) -> Any:
    """Computes softmax(q · kᵀ / √d) · v, where each query sees the keys up to its own position.

    Each query sees itself, whatever the masks say, so that no softmax is taken over nothing. With fewer heads of keys
    and values than of queries, each serves a group of the latter (grouped-query attention). Products and softmax of
    the reference path are in float32 or better.

    Args:
        query: tensor of shape `(batch, queries, heads, features)`.
        key: tensor of shape `(batch, keys, key-value heads, features)`; the heads are a multiple of the key-value
            heads.
        value: tensor of the shape of `key`.
        start: place of the first query among the keys, an integer or a scalar tensor; None for 0.
        key_mask: None, or a tensor of shape `(batch, keys)`, True where a key may be seen.
        segment_ids: None, or a tensor of shape `(batch, keys)`: a query sees its own segment only. Not with `start`.
        window: how many keys a query sees at most, its own included; None for all.
        dropout: rate at which weights are dropped, 0 ≤ dropout < 1; takes the reference path.
        seed: a `keras.random.SeedGenerator` or an integer; needed by `dropout`.

    Returns:
        A tensor of the shape and dtype of `query`.

    Raises:
        ValueError: shapes or dtypes that do not fit, a window below 1, a dropout outside its range or without a
            seed.

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.2.1; Ainslie et al., "GQA: training
    generalized multi-query transformer models from multi-head checkpoints", EMNLP 2023; Beltagy et al., "Longformer",
    2020 (window).

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import causal_attention
    >>> value = np.array([1.0, 3.0], "float32").reshape(1, 2, 1, 1)
    >>> alike = np.zeros((1, 2, 1, 1), "float32")
    >>> keras.ops.convert_to_numpy(causal_attention(alike, alike, value)).ravel().tolist()
    [1.0, 2.0]
    """
    query, key, value = (as_floating(as_tensor("causal_attention", each)) for each in (query, key, value))
    _check(tuple(query.shape), tuple(key.shape), tuple(value.shape), start)
    dtypes = [dtype_of(each) for each in (query, key, value)]
    if len(set(dtypes)) > 1:
        raise ValueError(f"query, key and value must have one dtype; got {', '.join(dtypes)}.")
    window = None if window is None else as_integer("window", window, least=1)
    dropout = as_rate("dropout", dropout)
    if dropout and seed is None:
        raise ValueError("dropout needs a seed: a keras.random.SeedGenerator or an integer.")
    if isinstance(start, int) and not 0 <= start <= max(0, (key.shape[1] or start) - (query.shape[1] or 0)):
        raise ValueError(
            f"start must leave room for the queries among the keys; got start={start} for {query.shape[1]} queries and "
            f"{key.shape[1]} keys."
        )
    key_mask, segment_ids = (
        None if each is None else as_tensor("causal_attention", each) for each in (key_mask, segment_ids)
    )
    check_of_keys("key_mask", key_mask, tuple(key.shape))
    check_of_keys("segment_ids", segment_ids, tuple(key.shape))
    if segment_ids is not None and start is not None:
        raise ValueError("segment_ids are those of all queries and keys; they do not go with start.")
    return attend(query, key, value, mask_of(query, key, start, key_mask, segment_ids, window), dropout, seed)


def check_of_keys(name: str, values: Any, key: tuple[int | None, ...]) -> None:
    """Raises `ValueError` unless there is a value for each key, `(batch, keys)`, whole numbers or truth values."""
    if values is None:
        return
    if len(values.shape) != 2 or _differ(tuple(values.shape), key[:2]):
        raise ValueError(f"{name} must have the shape (batch, length), {key[:2]}; got {tuple(values.shape)}.")
    if name == "segment_ids" and keras.backend.is_float_dtype(dtype_of(values)):
        raise ValueError(f"segment_ids must be whole numbers; got dtype {dtype_of(values)}.")


def attend(query: Any, key: Any, value: Any, mask: Any, dropout: float, seed: Any) -> Any:
    """Computes `causal_attention` of arguments that have been checked, of what the mask lets be seen."""
    if dropout:
        return reference(query, key, value, mask, dropout, seed)
    return _attention(query, key, value, mask)


def mask_of(query: Any, key: Any, start: Any, key_mask: Any, segment_ids: Any, window: int | None) -> Any:
    """Returns which keys each query sees, of shape (batch or 1, queries, keys); None for all up to its own position."""
    short = window is None or (key.shape[1] is not None and key.shape[1] <= window)
    if start is None and key_mask is None and segment_ids is None and short:
        return None
    start = 0 if start is None else start
    ops = keras.ops
    queries = (ops.arange(ops.shape(query)[1], dtype="int32") + ops.cast(start, "int32"))[None, :, None]
    keys = ops.arange(ops.shape(key)[1], dtype="int32")[None, None, :]
    seen = keys <= queries
    if window is not None:
        seen = ops.logical_and(seen, keys > queries - window)
    if key_mask is not None:
        seen = ops.logical_and(seen, ops.cast(key_mask, "bool")[:, None, :])
    if segment_ids is not None:
        segment_ids = ops.cast(segment_ids, "int32")
        seen = ops.logical_and(seen, segment_ids[:, :, None] == segment_ids[:, None, :])
    return ops.logical_or(seen, keys == queries)


def _check(query: tuple[Any, ...], key: tuple[Any, ...], value: tuple[Any, ...], start: Any) -> None:
    told = f"got query {query}, key {key}, value {value}"
    if len(query) != 4 or len(key) != 4 or _differ(key, value):
        raise ValueError(
            "query must have the shape (batch, queries, heads, features), key and value (batch, keys, key-value heads, "
            f"features); {told}."
        )
    if _differ((query[0], query[3]), (key[0], key[3])) or None in (query[2], key[2], query[3]):
        raise ValueError(f"query and key must have the same batch and features, and known heads; {told}.")
    if key[2] == 0 or query[2] % key[2]:
        raise ValueError(f"The heads must be a multiple of the key-value heads; {told}.")
    if start is None and _differ(query[1:2], key[1:2]):
        raise ValueError(f"Without start there must be as many queries as keys; {told}.")


def _differ(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) != len(other) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(one, other, strict=True)
    )
