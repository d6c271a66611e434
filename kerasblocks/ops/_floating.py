"""Dtypes of the operations: real numbers, integers cast as Keras casts them, sums in float32 or better."""

import functools
from typing import Any

import keras


@functools.cache
def _name(dtype: Any) -> str:
    return str(keras.backend.standardize_dtype(dtype))


def dtype_of(x: Any) -> str:
    """Returns the name of the tensor's dtype; Keras looks a name up anew at every call, which small tensors feel."""
    return _name(x.dtype)


def cast_to(x: Any, dtype: str) -> Any:
    """Returns the tensor, not a variable, in this dtype: itself if it has it, where Keras's cast would do work."""
    return x if hasattr(x, "dtype") and dtype_of(x) == dtype else keras.ops.cast(x, dtype)


def as_tensor(operation: str, x: Any) -> Any:
    """Returns `x` as a tensor of the backend.

    Raises:
        ValueError: it is a symbol, whose sizes the operation would need.
    """
    if isinstance(x, keras.KerasTensor):
        raise ValueError(f"{operation} takes tensors, no symbols of a Functional model: use it in a layer; got {x}.")
    return keras.ops.convert_to_tensor(x)


def as_floating(x: Any) -> Any:
    """Returns the tensor `x` with a floating dtype, its own or, for integers and booleans, Keras's `floatx`.

    Raises:
        ValueError: a dtype that is not of real numbers.
    """
    dtype = dtype_of(x)
    if keras.backend.is_float_dtype(dtype):
        return x
    if not keras.backend.is_int_dtype(dtype) and dtype != "bool":
        raise ValueError(f"The input must consist of real numbers; got dtype {dtype!r}.")
    return keras.ops.cast(x, keras.backend.result_type(dtype, float))


def accumulation_dtype(*dtypes: Any) -> str:
    """Returns the dtype in which to add numbers of these dtypes: float64 if one of them is, else float32.

    Keras's `result_type` gives float32 for float64 and float32.
    """
    return "float64" if "float64" in [_name(dtype) for dtype in dtypes] else "float32"
