"""Dtypes of the operations: real numbers, integers cast as Keras casts them, sums in float32 or better."""

from typing import Any

import keras


def as_floating(x: Any) -> Any:
    """Returns the tensor `x` with a floating dtype, its own or, for integers and booleans, Keras's `floatx`.

    Raises:
        ValueError: a dtype that is not of real numbers.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if keras.backend.is_float_dtype(dtype):
        return x
    if not keras.backend.is_int_dtype(dtype) and dtype != "bool":
        raise ValueError(f"The input must consist of real numbers; got dtype {dtype!r}.")
    return keras.ops.cast(x, keras.backend.result_type(dtype, float))


def accumulation_dtype(*dtypes: Any) -> str:
    """Returns the dtype in which to add numbers of these dtypes: float64 if one of them is, else float32.

    Keras's `result_type` gives float32 for float64 and float32.
    """
    names = [keras.backend.standardize_dtype(dtype) for dtype in dtypes]
    return "float64" if "float64" in names else "float32"
