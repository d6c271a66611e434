"""Rotary embedding in `keras.ops`: the definition of the faster path."""

import functools
from typing import Any

import keras
import numpy as np

from kerasblocks.ops._floating import accumulation_dtype, cast_to, dtype_of


def reference(x: Any, positions: Any, base: float) -> Any:
    """Turns each pair (xᵢ, xᵢ₊ₙ) of the last axis by the angle p · base^(−i/n), p the position along axis 1."""
    wide = accumulation_dtype(x.dtype)
    cosines, sines = _tables(x, positions, base, wide)
    tensor = cast_to(x, wide)
    return cast_to(tensor * cosines + keras.ops.roll(tensor, x.shape[-1] // 2, axis=-1) * sines, dtype_of(x))


@functools.lru_cache(maxsize=32)
def tables_of(length: int, features: int, base: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and signed sines, `(length, features)`, of the positions from 0 on."""
    angles = np.arange(length)[:, None] * _frequencies(features, base)
    cosines, sines = np.cos(angles), np.sin(angles)
    tables = np.concatenate([cosines, cosines], -1), np.concatenate([-sines, sines], -1)
    return tables[0].astype(dtype), tables[1].astype(dtype)


def _tables(x: Any, positions: Any, base: float, dtype: str) -> tuple[Any, ...]:
    """Returns the cosines, and the sines with the sign that each half of the features takes, to be multiplied by x."""
    ops = keras.ops
    length, features, inner = x.shape[1], x.shape[-1], (1,) * (len(x.shape) - 3)
    if positions is None and length is not None:
        tables = tables_of(length, features, base, dtype)
        return tuple(ops.reshape(ops.convert_to_tensor(each), (1, length, *inner, features)) for each in tables)
    if positions is None:
        positions = ops.arange(ops.shape(x)[1], dtype=dtype)
    positions = ops.cast(positions, dtype)
    angles = ops.expand_dims(positions, -1) * ops.convert_to_tensor(_frequencies(features, base).astype(dtype))
    cosines, sines = ops.cos(angles), ops.sin(angles)
    cosines, sines = ops.concatenate([cosines, cosines], axis=-1), ops.concatenate([-sines, sines], axis=-1)
    shape = ops.shape(cosines)
    return tuple(ops.reshape(each, (*shape[:-1], *inner, features)) for each in (cosines, sines))


def _frequencies(features: int, base: float) -> np.ndarray:
    frequencies: np.ndarray = base ** (-np.arange(0, features, 2) / features)
    return frequencies
