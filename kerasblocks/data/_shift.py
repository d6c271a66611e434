"""How far two data sets lie apart, beside what chance would do."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from kerasblocks.data._figures import numbers_of

_FEATURES = 256  # at most, that are compared


@dataclasses.dataclass(frozen=True)
class Shift:
    """How far the validation data lie from the training data.

    Attributes:
        statistic: the largest two-sample Kolmogorov-Smirnov statistic of the compared quantities, 0 to 1.
        threshold: what it exceeds once in a thousand times where both are drawn alike, whichever is the largest.
        quantity: which one: `x[3]`, a feature by its flat index, or `mean of x` or `deviation of x`, of each sample.
        means: its means in training and validation, None where only labels are compared.
        labels: half of Σ |share in training − share in validation| over the classes, None without classes.
        labels_threshold: what that exceeds once in a thousand times, about.
    """

    statistic: float
    threshold: float
    quantity: str
    means: tuple[float, float] | None
    labels: float | None = None
    labels_threshold: float | None = None


def shift_between(leaves: Sequence[tuple[str, np.ndarray]], others: Sequence[tuple[str, np.ndarray]]) -> Shift | None:
    """Returns the quantity whose distributions differ most."""
    quantities: list[tuple[str, np.ndarray, np.ndarray]] = []
    for (path, leaf), (_, other) in zip(leaves, others, strict=True):
        known, others_known = numbers_of(leaf), numbers_of(other)
        if known is None or others_known is None:
            continue
        one, two = (each.reshape(len(each), -1).astype("float64") for each in (known, others_known))
        if one.shape[1] > 1:
            for name, measure in (("mean", np.nanmean), ("deviation", np.nanstd)):
                quantities.append((f"{name} of {path}", measure(one, axis=1), measure(two, axis=1)))
        if leaf.ndim == 2 or one.shape[1] == 1:
            quantities += [
                (f"{path}[{place}]", one[:, place], two[:, place]) for place in range(min(one.shape[1], _FEATURES))
            ]
    found = [(_kolmogorov_smirnov(one, two), name, one, two) for name, one, two in quantities]
    if not found:
        return None
    statistic, name, one, two = max(found, key=lambda each: each[0])
    counts = [int((~np.isnan(each)).sum()) for each in (one, two)]
    size = max(1, counts[0] * counts[1]) / max(1, sum(counts))
    threshold = math.sqrt(math.log(2 * len(found) / 1e-3) / (2 * size))
    return Shift(statistic, threshold, name, (float(np.nanmean(one)), float(np.nanmean(two))))


def with_labels(shift: Shift | None, counts: dict[int, int], others: dict[int, int]) -> Shift:
    one, two = ({number: count / sum(each.values()) for number, count in each.items()} for each in (counts, others))
    distance = sum(abs(one.get(number, 0) - two.get(number, 0)) for number in {*one, *two}) / 2
    size = sum(counts.values()) * sum(others.values()) / (sum(counts.values()) + sum(others.values()))
    # The mean of the distance between two samples of one distribution is at most √(classes / size) / 2, and
    # McDiarmid's inequality bounds what lies above it.
    threshold = math.sqrt(len({*one, *two}) / size) / 2 + math.sqrt(math.log(1e3) / (2 * size))
    base = shift or Shift(0.0, 1.0, "none", None)
    return dataclasses.replace(base, labels=distance, labels_threshold=threshold)


def _kolmogorov_smirnov(one: np.ndarray, two: np.ndarray) -> float:
    one, two = np.sort(one[~np.isnan(one)]), np.sort(two[~np.isnan(two)])
    if not len(one) or not len(two):
        return 0.0
    every = np.concatenate([one, two])
    gaps = np.searchsorted(one, every, "right") / len(one) - np.searchsorted(two, every, "right") / len(two)
    return float(np.abs(gaps).max())
