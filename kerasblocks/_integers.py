"""One check for every integer that a user passes: Python's and NumPy's are taken, bools and floats are not."""

import operator
from typing import Any


def as_integer(name: str, value: Any, *, least: int) -> int:
    """Returns `value` as an int; raises `ValueError` unless it is an integer of at least `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}.")
    return number
