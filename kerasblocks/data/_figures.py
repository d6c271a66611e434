"""What arrays of inputs and of labels have in common in an audit: their numbers, as far as they are finite."""

import dataclasses
from typing import Any

import numpy as np

NAMED = 5  # samples, features or pairs that are named of each finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayFigures:
    """What one array holds.

    Attributes:
        path: its place, as `x` or `x['name']`.
        dtype: its dtype.
        shape: its shape without the samples.
        missing: how many numbers are NaN.
        infinite: how many are infinite.
        bad_samples: the first samples with a number that is one or the other.
        least, largest: of the finite numbers, None where there is none.
        whole: whether all finite numbers are integers.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    missing: int = 0
    infinite: int = 0
    bad_samples: list[int] = dataclasses.field(default_factory=list)
    least: float | None = None
    largest: float | None = None
    whole: bool = False


def numbers_of(array: np.ndarray) -> np.ndarray | None:
    """Returns the array with numbers that NumPy reckons with, None for text and objects."""
    if array.dtype.kind in "biuf":
        return array.astype("float32") if array.dtype == np.float16 else array
    if array.dtype.kind in "SUMm":  # Text that looks like a number is none.
        return None
    try:  # ml_dtypes, or objects that are numbers
        if array.dtype.kind == "O" and any(isinstance(each, str | bytes) for each in array.reshape(-1)[:100]):
            return None
        return array.astype("float32" if array.dtype.kind == "V" else "float64")
    except (TypeError, ValueError):
        return None


def common_figures(array: np.ndarray) -> tuple[dict[str, Any], np.ndarray | None]:
    """Returns what inputs and labels have in common, and the finite numbers, others as NaN."""
    numbers = numbers_of(array)
    if numbers is None or not numbers.size:
        return {}, None
    finite = np.isfinite(numbers) if numbers.dtype.kind == "f" else None
    if finite is None or finite.all():
        return {"least": float(numbers.min()), "largest": float(numbers.max()), "whole": _whole(numbers)}, numbers
    bad = np.flatnonzero(~finite.reshape(len(finite), -1).all(1))
    missing = int(np.isnan(numbers).sum())
    told = {
        "missing": missing,
        "infinite": int(finite.size - finite.sum()) - missing,
        "bad_samples": bad[:NAMED].tolist(),
    }
    if finite.any():
        known = numbers[finite]
        told |= {"least": float(known.min()), "largest": float(known.max()), "whole": _whole(known)}
    return told, np.where(finite, numbers, np.nan)


def joined_figures(one: dict[str, Any], other: dict[str, Any], start: int) -> dict[str, Any]:
    """Returns the common figures of two parts of an array, of which the second begins at the sample `start`."""
    found = {name: one.get(name, 0) + other.get(name, 0) for name in ("missing", "infinite")}
    found["bad_samples"] = [*one.get("bad_samples", []), *(start + each for each in other.get("bad_samples", []))][
        :NAMED
    ]
    ranges = [each for each in (one, other) if "least" in each]
    if ranges:
        found |= {
            "least": min(each["least"] for each in ranges),
            "largest": max(each["largest"] for each in ranges),
            "whole": all(each["whole"] for each in ranges),
        }
    return found


def _whole(numbers: np.ndarray) -> bool:
    return numbers.dtype.kind != "f" or bool((numbers == np.floor(numbers)).all())
