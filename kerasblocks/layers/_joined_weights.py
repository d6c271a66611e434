"""Matrices that lie side by side in one weight, each of them initialized, regularized and constrained for itself."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras


class JoinedInitializer(keras.initializers.Initializer):
    """Initializes each matrix by its own initializer.

    Args:
        initializers: one for each matrix.
        columns: how many columns each has.
    """

    def __init__(self, initializers: Sequence[Any], columns: Sequence[int]) -> None:
        self.parts = tuple(zip(initializers, columns, strict=True))

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        parts = [initializer((*shape[:-1], width), dtype=dtype) for initializer, width in self.parts]
        return keras.ops.concatenate(parts, axis=-1)


class JoinedConstraint(keras.constraints.Constraint):
    """Constrains each matrix of these many columns."""

    def __init__(self, constraint: Any, columns: Sequence[int]) -> None:
        self.constraint, self.columns = constraint, tuple(columns)

    def __call__(self, w: Any) -> Any:
        return keras.ops.concatenate([self.constraint(part) for part in _parts(w, self.columns)], axis=-1)


class JoinedRegularizer(keras.regularizers.Regularizer):
    """Regularizes each matrix of these many columns; what has another width is taken as a whole."""

    def __init__(self, regularizer: Any, columns: Sequence[int]) -> None:
        self.regularizer, self.columns = regularizer, tuple(columns)

    def __call__(self, x: Any) -> Any:
        if x.shape[-1] != sum(self.columns):  # the small matrix A of an adaptation, which the matrices share
            return self.regularizer(x)
        return sum(self.regularizer(part) for part in _parts(x, self.columns))


def separate(initializer: Any, count: int) -> list[Any]:
    """Returns initializers of so many weights; copies of one random initializer would draw equal numbers."""
    config = initializer.get_config() if isinstance(initializer, keras.initializers.Initializer) else {}
    seed = config.get("seed", initializer)
    if seed is not None and not isinstance(seed, int):
        return [initializer] * count  # It draws nothing, or draws anew at every call.
    seeds = [None if seed is None else seed + number for number in range(count)]
    return [type(initializer).from_config({**config, "seed": each}) for each in seeds]


def serialized(initializer: Any) -> Any:
    """Returns the configuration of an initializer, or None."""
    return None if initializer is None else keras.initializers.serialize(initializer)


def _parts(x: Any, columns: tuple[int, ...]) -> list[Any]:
    found: list[Any] = keras.ops.split(x, list(itertools.accumulate(columns[:-1])), axis=-1)
    return found
