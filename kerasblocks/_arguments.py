"""Checks of the numbers and flags that a user passes; what is no number, NaN and infinities are refused."""

import math
import operator
from typing import Any

import numpy as np

_NO_NUMBERS = (str, bytes, bytearray, bool, np.bool_)


def as_integer(name: str, value: Any, *, least: int) -> int:
    """Returns `value` as an int; raises `ValueError` unless it is an integer of at least `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")
    return number


def as_number(name: str, value: Any) -> float:
    """Returns `value` as a float; raises `ValueError` unless it is a finite number."""
    try:
        number = math.nan if isinstance(value, _NO_NUMBERS) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number; got {value!r}.")
    return number


def as_rate(name: str, value: Any) -> float:
    """Returns `value` as a float; raises `ValueError` unless it is a number from 0 to below 1."""
    number = as_number(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must lie in 0 <= {name} < 1; got {value!r}.")
    return number


def as_flag(name: str, value: Any) -> bool:
    """Returns `value`; raises `ValueError` unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return value
