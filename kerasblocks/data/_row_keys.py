"""Samples known again by their bytes."""

import hashlib
from collections.abc import Sequence

import numpy as np


def row_keys(arrays: Sequence[np.ndarray]) -> list[bytes]:
    """Returns for every sample a key that those with equal bytes in all arrays share; −0 is 0."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(len(arrays[0]))]
    for array in arrays:
        if array.dtype.kind == "O":
            rows = [repr(row).encode() for row in array.reshape(len(array), -1).tolist()]
        else:
            if array.dtype.kind == "f":
                array = array + 0.0  # −0 becomes 0
            rows = [row.tobytes() for row in np.ascontiguousarray(array)]
        for digest, row in zip(digests, rows, strict=True):
            digest.update(row)
    return [digest.digest() for digest in digests]
