"""What an array of inputs holds, in numbers: range, missing values, features that never change."""

import dataclasses
from typing import Any

import numpy as np

from kerasblocks.data._figures import NAMED, ArrayFigures, common_figures


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputFigures(ArrayFigures):
    """What one array of the inputs holds, beside what every array has.

    Attributes:
        mean, deviation: of the finite numbers, None where there is none; the standard deviation.
        features: how many features there are: those of the last axis for sequences, else all positions.
        constant: how many features have one value in all samples.
        constant_features: the first of them, as flat indices.
        scales: the smallest and the largest standard deviation of a feature that is not constant.
        widest_feature: the flat index of the feature with the largest.
    """

    mean: float | None = None
    deviation: float | None = None
    features: int = 0
    constant: int = 0
    constant_features: list[int] = dataclasses.field(default_factory=list)
    scales: tuple[float, float] | None = None
    widest_feature: int | None = None


def input_figures(path: str, array: np.ndarray) -> InputFigures:
    told, numbers = common_figures(array)
    base: dict[str, Any] = {"path": path, "dtype": str(array.dtype), "shape": array.shape[1:]}
    if numbers is None or "least" not in told:
        return InputFigures(**base, **told)
    known = numbers[~np.isnan(numbers)] if told.get("missing") or told.get("infinite") else numbers
    is_sequence = array.ndim == 3
    rows = numbers.reshape(-1, array.shape[-1]) if is_sequence else numbers.reshape(len(numbers), -1)
    with np.errstate(invalid="ignore"):
        low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
    constant = np.flatnonzero(~(low < high)) if len(rows) > 1 else np.array([], int)
    varying = np.flatnonzero(low < high)
    told |= {
        "mean": float(known.mean(dtype="float64")),
        "deviation": float(known.std(dtype="float64")),
        "features": rows.shape[1],
        "constant": len(constant),
        "constant_features": constant[:NAMED].tolist(),
    }
    if varying.size:
        deviations = np.nanstd(rows[:, varying], axis=0, dtype="float64")
        told |= {
            "scales": (float(deviations.min()), float(deviations.max())),
            "widest_feature": int(varying[deviations.argmax()]),
        }
    return InputFigures(**base, **told)
