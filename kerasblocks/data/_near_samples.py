"""Samples that nearly are others: found among random projections, and confirmed on the samples themselves."""

from collections.abc import Sequence

import numpy as np

_DIMENSIONS = 48
_NEAR = 0.05  # of the distance between two samples drawn at random
_NUMBERS = 2**26  # of the samples compared, at most
_BLOCK = 512
_WITHIN = 2000  # training samples that are compared with the others
_LEAST_FEATURES = 8  # With fewer, neighbours are near by chance.


def near_pairs(
    train: Sequence[np.ndarray], other: Sequence[np.ndarray], seed: int
) -> tuple[list[tuple[int, int]], float]:
    """Returns pairs `(other, train)` of samples nearer than 5 % of the distance between two drawn at random.

    Where that is common among the training samples themselves, or there are too few features to tell, there is none.

    Returns:
        One pair for each sample of `other` that has one, and the share of training samples that lie as near to another
        one that is no copy.
    """
    numeric = [place for place, each in enumerate(train) if each.dtype.kind == "f" or each.dtype == np.uint8]
    features = sum(int(np.prod(train[place].shape[1:])) for place in numeric)
    if features < _LEAST_FEATURES or len(numeric) < len(train):
        return [], 0.0
    most = max(2, _NUMBERS // features)
    first, second = _standard(
        *(np.concatenate([_rows(each[at][:most]) for at in numeric], 1) for each in (train, other))
    )
    if len(first) < 2:
        return [], 0.0
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(first), (2, 1000))
    distances = np.sqrt(((first[pairs[0]] - first[pairs[1]]) ** 2).sum(1))[pairs[0] != pairs[1]]
    limit = _NEAR * float(np.median(distances)) if distances.size else 0.0
    matrix = (rng.normal(size=(first.shape[1], _DIMENSIONS)) / np.sqrt(_DIMENSIONS)).astype("float32")
    small = first @ matrix
    within = rng.permutation(len(first))[:_WITHIN]
    gaps = _gaps(first, first[within], _nearest(small, small[within], within))
    nearest = _nearest(small, second @ matrix, None)
    found = np.flatnonzero(_gaps(first, second, nearest) < limit)
    expected = float(((gaps < limit) & (gaps > 1e-6 * limit)).mean())
    return [(int(place), int(nearest[place])) for place in found], expected


def _rows(array: np.ndarray) -> np.ndarray:
    rows: np.ndarray = np.nan_to_num(array.reshape(len(array), -1).astype("float32"), posinf=0, neginf=0)
    return rows


def _standard(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both with the mean of the features removed, and features of other scales made comparable."""
    mean, deviation = first.mean(0), first.std(0)
    widths = deviation[deviation > 0]
    alike = not widths.size or widths.max() < 100 * np.median(widths)
    scale = np.float32(1) if alike else np.where(deviation > 0, deviation, 1)
    return (first - mean) / scale, (second - mean) / scale


def _nearest(points: np.ndarray, asked: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """Returns the place of the nearest point to each that is asked for, but for its `own`."""
    squares = (points**2).sum(1)
    places = np.empty(len(asked), int)
    for start in range(0, len(asked), _BLOCK):
        part = asked[start : start + _BLOCK]
        distance = squares - 2 * part @ points.T
        if own is not None:
            distance[np.arange(len(part)), own[start : start + _BLOCK]] = np.inf
        places[start : start + _BLOCK] = distance.argmin(1)
    return places


def _gaps(first: np.ndarray, asked: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    gaps: np.ndarray = np.sqrt(((first[nearest] - asked) ** 2).sum(1))
    return gaps
