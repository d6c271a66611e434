"""Windows of a series that share a part with another one, as they do where they overlap and are split at random."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kerasblocks.data._row_keys import row_keys

_LEAST = 8  # positions
_PARTS = 50_000  # of the training windows, at most, that are compared


def overlapping(train: np.ndarray, other: np.ndarray) -> list[tuple[int, int]]:
    """Returns pairs `(other, train)` of windows of which half of one is found, bit for bit and anywhere, in the other.

    Both are of shape `(samples, positions, ...)`; only real numbers tell that they are of one series.
    """
    if (
        train.dtype.kind != "f"
        or train.ndim not in (2, 3)
        or train.shape[1] < _LEAST
        or train.shape[1:] != other.shape[1:]
    ):
        return []
    length = train.shape[1] // 2
    offsets = train.shape[1] - length + 1
    train = train[: max(1, _PARTS // offsets)]
    parts = np.moveaxis(sliding_window_view(train, length, axis=1), -1, 2).reshape(-1, length, *train.shape[2:])
    places = {key: place // offsets for place, key in enumerate(row_keys([parts]))}
    pairs = []
    for half in (other[:, :length], other[:, -length:]):
        tells = _distinct(half) > length // 2  # A row of equal numbers is in many windows.
        keys = row_keys([half])
        pairs += [(place, places[key]) for place, key in enumerate(keys) if tells[place] and key in places]
    return sorted(dict(pairs).items())


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Returns how many different numbers follow each other in each row, of its first feature."""
    first = rows if rows.ndim == 2 else rows[:, :, 0]
    found: np.ndarray = (np.diff(np.sort(first, axis=1), axis=1) != 0).sum(1) + 1
    return found
