"""What an array of labels holds, in numbers: of which kind, how many of each class, in which order."""

import dataclasses
import math
from typing import Any

import numpy as np

from kerasblocks.data._figures import ArrayFigures, common_figures

_CLASSES = 1000  # integer labels with more distinct values are numbers, not classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFigures(ArrayFigures):
    """What one array of the labels holds, beside what every array has.

    Attributes:
        kind: `"classes"` (whole numbers, few distinct ones), `"one-hot"`, `"probabilities"` (rows that add up to 1),
            `"flags"` (several columns of 0 and 1), `"numbers"`, or `"other"`.
        counts: of classes and one-hot labels, how many samples (or positions) each class has, by its number.
        absent: the classes from 0 on without a sample, up to `num_classes` or the largest that is there.
        imbalance: the largest count by the smallest of those that are there.
        out_of_range: how many labels lie outside 0..num_classes − 1, where `num_classes` is given.
        longest_run: how many samples in a row have the same class, at most, in the order of the data.
        expected_run: the longest run that a random order would have, about.
        runs: how many runs of one class there are.
        expected_runs: how many a random order would have.
    """

    kind: str
    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    absent: list[int] = dataclasses.field(default_factory=list)
    imbalance: float | None = None
    out_of_range: int = 0
    longest_run: int | None = None
    expected_run: float | None = None
    runs: int | None = None
    expected_runs: float | None = None


def label_figures(path: str, array: np.ndarray, num_classes: int | None) -> LabelFigures:
    told, numbers = common_figures(array)
    base: dict[str, Any] = {"path": path, "dtype": str(array.dtype), "shape": array.shape[1:]}
    if numbers is None or "least" not in told:
        return LabelFigures(**base, kind="other", **told)
    kind, classes = _kind(numbers)
    if classes is None:
        return LabelFigures(**base, kind=kind, **told)
    known = (
        classes[~np.isnan(classes)].astype("int64") if classes.dtype.kind == "f" else classes.astype("int64").ravel()
    )
    values, counts = np.unique(known, return_counts=True)
    number = num_classes or (array.shape[-1] if kind == "one-hot" else int(values.max()) + 1)
    there = set(values.tolist())
    told |= {
        "counts": dict(zip(values.tolist(), counts.tolist(), strict=True)),
        "absent": [each for each in range(max(0, min(number, _CLASSES))) if each not in there],
        "imbalance": float(counts.max() / counts.min()),
        "out_of_range": int(((known < 0) | (known >= number)).sum()) if num_classes else 0,
    }
    if classes.ndim == 1 and len(known) > 1:
        told |= _runs(known, counts / counts.sum())
    return LabelFigures(**base, kind=kind, **told)


def _kind(numbers: np.ndarray) -> tuple[str, np.ndarray | None]:
    """Returns what kind of labels these are, and the class of each where they are of classes."""
    known = numbers[~np.isnan(numbers)] if numbers.dtype.kind == "f" else numbers
    whole = known.dtype.kind != "f" or bool((known == np.floor(known)).all())
    if numbers.ndim >= 2 and numbers.shape[-1] > 1:
        zero_or_one = bool(np.isin(known, (0, 1)).all())
        with np.errstate(invalid="ignore"):
            sums = numbers.sum(-1, dtype="float64")
        if zero_or_one and (sums == 1).all():
            return "one-hot", numbers.argmax(-1)
        if known.min() >= 0 and (abs(sums - 1) < 1e-3).all():
            return "probabilities", None
        if zero_or_one and numbers.ndim == 2:
            return "flags", None
    if whole and len(np.unique(known)) <= min(_CLASSES, max(2, known.size // 2)):
        return "classes", numbers[..., 0] if numbers.ndim >= 2 and numbers.shape[-1] == 1 else numbers
    return "numbers", None


def _runs(labels: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
    """Returns runs of equal labels, beside those of a random order."""
    ends = np.flatnonzero(np.append(labels[1:] != labels[:-1], True))
    lengths = np.diff(np.append(-1, ends))
    largest = float(shares.max())
    alone = 1 - float((shares**2).sum())
    longest = len(labels) if largest == 1 else math.log(max(2, len(labels) * (1 - largest))) / -math.log(largest)
    return {
        "longest_run": int(lengths.max()),
        "expected_run": float(max(1.0, longest)),
        "runs": len(lengths),
        "expected_runs": 1 + (len(labels) - 1) * alone,
    }
