"""Tokens are whole numbers below the size of a vocabulary; what is none is refused, not wrapped."""

from typing import Any

import numpy as np


def in_vocabulary(tokens: Any, vocabulary_size: int) -> np.ndarray:
    """Returns the tokens as an array.

    Raises:
        ValueError: what are no whole numbers in a row, or one that is not in the vocabulary.
    """
    array = np.asarray(tokens)
    if array.size == 0:
        return np.zeros(0, "int32")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"tokens must be whole numbers in a row; got an array of shape {array.shape} and dtype {array.dtype}."
        )
    if array.min() < 0 or array.max() >= vocabulary_size:
        raise ValueError(
            f"Tokens must lie in 0..{vocabulary_size - 1}, the vocabulary; got {array.min()}..{array.max()}."
        )
    return array
