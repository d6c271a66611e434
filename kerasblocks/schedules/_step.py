"""What every schedule does with a step: NumPy for numbers and arrays, `keras.ops` for tensors."""

from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_number


def namespace_and_step(step: Any) -> tuple[Any, Any]:
    """Returns what to compute with, `keras.ops` or `numpy`, and the step as its tensor or array, signed or floating.

    Raises:
        ValueError: a step that is neither a number, nor an array, nor a tensor of real numbers.
    """
    if isinstance(step, keras.Variable):
        step = step.value
    if keras.ops.is_tensor(step) or isinstance(step, keras.KerasTensor):
        dtype = keras.backend.standardize_dtype(step.dtype)
        if keras.backend.is_float_dtype(dtype):
            return keras.ops, keras.ops.cast(step, "float32")
        if keras.backend.is_int_dtype(dtype):
            return keras.ops, keras.ops.cast(step, "int32") if dtype.startswith("uint") else step
        raise ValueError(f"step must consist of real numbers; got a tensor of dtype {dtype}.")
    array = np.asarray(step)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"step must be a number, an array or a tensor of real numbers; got {step!r}.")
    return np, array.astype("float64" if array.dtype.kind == "f" else "int64")


def as_floating(namespace: Any, number: Any) -> Any:
    """Returns an array in float64, a tensor in float32."""
    return number.astype("float64") if namespace is np else keras.ops.cast(number, "float32")


def as_result(step: Any, rate: Any) -> Any:
    """Returns the rate as a float where the step is one of Python's numbers, else as the array or tensor it is."""
    return float(rate) if isinstance(step, int | float) else rate


def as_learning_rate(name: str, value: Any) -> float:
    """Returns `value` as a float; raises `ValueError` unless it is a finite number that is not negative."""
    number = as_number(name, value)
    if number < 0:
        raise ValueError(f"{name} must be 0 or more; got {value!r}.")
    return number
