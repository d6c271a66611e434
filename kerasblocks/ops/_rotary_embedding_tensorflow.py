"""Rotary embedding for TensorFlow: the reference path."""

from typing import Any


def rotary_embedding(x: Any, positions: Any, base: float) -> Any:
    """Returns None: the reference path will do."""
    return None
