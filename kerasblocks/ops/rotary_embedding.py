"""Rotary position embedding, which Keras has not: attention that depends on distances alone."""

from typing import Any

from kerasblocks._arguments import as_number
from kerasblocks.ops._dispatch import with_fast_path
from kerasblocks.ops._floating import as_floating, as_tensor
from kerasblocks.ops._rotary_embedding_reference import reference

turned = with_fast_path("rotary_embedding", reference)


def rotary_embedding(x: Any, positions: Any = None, *, base: float = 10_000.0) -> Any:
    """Turns each pair (xᵢ, xᵢ₊ₙ), n half the features, by the angle p · base^(−i/n), with p the position.

    The product of two vectors that are turned so depends on the distance of their positions alone. Angles and products
    are computed in float32 or better; the result is rounded once. (The first half of the features is paired with the
    second, as in Llama, where the paper pairs neighbours: the same up to the order of the features.)

    Args:
        x: tensor of shape `(batch, length, ..., features)`, with an even number of features.
        positions: None for 0, 1, …, length − 1; a tensor of shape `(length,)` or `(batch, length)` of others.
        base: base of the wavelengths, above 1: pair i turns once in 2π · base^(i/n) positions.

    Returns:
        A tensor of the shape of `x`, and of its dtype if that is a floating one, else of Keras's `floatx`.

    Raises:
        ValueError: a tensor of rank below 3, an odd or unknown number of features, positions of another shape, a
            `base` that is not a number above 1.

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021, section 3.2.

    Example:

    >>> import math
    >>> import keras, numpy as np
    >>> from kerasblocks.ops import rotary_embedding
    >>> x = np.array([[[1.0, 1.0]]], "float32")
    >>> keras.ops.convert_to_numpy(rotary_embedding(x, np.array([math.pi / 2]))).round(4).tolist()
    [[[-1.0, 1.0]]]
    """
    base = check_base(base)
    x = as_floating(as_tensor("rotary_embedding", x))
    check_features(tuple(x.shape))
    if positions is not None:
        positions = as_tensor("rotary_embedding", positions)
        check_positions(tuple(x.shape), tuple(positions.shape))
    return turned(x, positions, base)


def check_base(base: Any, name: str = "base") -> float:
    """Returns `base` as a float; raises `ValueError` unless it is a number above 1."""
    number = as_number(name, base)
    if number <= 1:
        raise ValueError(f"{name} must be above 1; got {base!r}.")
    return number


def check_features(shape: tuple[int | None, ...]) -> None:
    """Raises `ValueError` unless it is the shape of something that can be turned."""
    if len(shape) < 3:
        raise ValueError(f"x must have the shape (batch, length, ..., features); got {shape}.")
    if shape[-1] is None or shape[-1] % 2 or shape[-1] == 0:
        raise ValueError(f"The number of features must be even, for they are turned in pairs; got the shape {shape}.")


def check_positions(shape: tuple[int | None, ...], positions: tuple[int | None, ...]) -> None:
    """Raises `ValueError` unless there is a position for each place along axis 1 of a tensor of this shape."""
    wanted = shape[:2] if len(positions) == 2 else shape[1:2]
    if len(positions) not in (1, 2) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(positions, wanted, strict=True)
    ):
        raise ValueError(f"positions must have the shape (length,) or (batch, length), of x {shape}; got {positions}.")
