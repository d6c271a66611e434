"""How much a sample tells: equal ones are to be expected in tables of a few choices, and elsewhere tell of copies."""

from collections.abc import Sequence

import numpy as np

_COLUMNS = 512  # of a table, at most, that are looked at for choices


def bits_of(leaves: Sequence[np.ndarray]) -> float:
    """Returns the entropy of a sample in bits, as if its features were independent, of up to 64 of them."""
    bits = 0.0
    for leaf in leaves:
        rows = leaf.reshape(len(leaf), -1)
        if rows.dtype.kind in "OU":
            rows = rows.astype(str)
        rows = _choices_as_numbers(rows)
        # Spread over all, for the first ones of an image are its border.
        for feature in np.unique(np.linspace(0, rows.shape[1] - 1, 64).round().astype(int)) if rows.shape[1] else ():
            _, counts = np.unique(rows[:, feature], return_counts=True)
            part = counts / len(rows)
            bits += float(-(part * np.log2(part)).sum())
    return bits


def _choices_as_numbers(rows: np.ndarray) -> np.ndarray:
    """Returns rows of a table with neighbouring columns of 0 and 1, of which at most one is 1, as one column."""
    if rows.dtype.kind not in "biuf" or not 2 <= rows.shape[1] <= _COLUMNS:
        return rows
    flags = np.asarray(np.isin(rows, (0, 1)).all(0))
    if not flags.any():
        return rows
    columns: list[np.ndarray] = []
    choice = np.zeros(len(rows))
    for place, is_flag in enumerate(flags):
        column = rows[:, place].astype("float64")
        if is_flag and not ((choice > 0) & (column > 0)).any():
            choice = choice + (place + 1) * column
            continue
        columns.append(choice)
        choice = (place + 1) * column if is_flag else np.zeros(len(rows))
        if not is_flag:
            columns.append(column)
    return np.stack([*columns, choice], 1)
