"""Nested values as those that JSON has."""

import math
from typing import Any

import numpy as np


def json_values(content: Any) -> Any:
    """Returns dicts, lists, strings and Python's numbers; NaN and infinite numbers become None."""
    if isinstance(content, dict):
        return {str(name): json_values(value) for name, value in content.items()}
    if isinstance(content, list | tuple | np.ndarray):
        return [json_values(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    return None if isinstance(content, float) and not math.isfinite(content) else content
