"""RMS normalization that survives large inputs and trains faster than Keras's where tensors are large, on a CPU."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import keras

from kerasblocks._arguments import as_number
from kerasblocks.ops._dispatch import with_fast_path
from kerasblocks.ops._floating import accumulation_dtype, as_floating, cast_to, dtype_of
from kerasblocks.ops._rms_norm_reference import of_one_number, reference

_LEAST_EPSILON = 1e-24  # Its power −3/2 is met in the gradient of a zero input.

_rms_norm = with_fast_path("rms_norm", reference)


def rms_norm(x: Any, scale: Any = None, *, axis: int | Sequence[int] = -1, epsilon: float = 1e-6) -> Any:
    """Computes x / √(mean(x², axis) + ε) · scale in float32 or better.

    In float32, with the default ε, the mean of n squares overflows above 3e23 / √n (Keras's: 2e19 / √n). There
    the result is zero and its gradient finite.

    Args:
        x: tensor of any shape of rank 1 or more.
        scale: None, or a tensor whose shape is the sizes of the normalized axes, in ascending order of the axes.
        axis: the axis or axes of the mean; negative ones count from the end.
        epsilon: ε, 1e-24 or more.

    Returns:
        A tensor of the shape of `x`, and of its dtype if that is a floating one, else of Keras's `floatx`.

    Raises:
        ValueError: an `epsilon` below 1e-24, a scalar `x`, an axis that is repeated or that `x` has not,
            or a `scale` of another shape.

    Source: Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import rms_norm
    >>> y = rms_norm(np.array([[1.0, -1.0, 1.0], [2.0, 2.0, 2.0]], "float32"), epsilon=1e-12)
    >>> keras.ops.convert_to_numpy(y).round(4).tolist()
    [[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    epsilon = check_epsilon(epsilon)
    if not isinstance(x, keras.KerasTensor):
        x = keras.ops.convert_to_tensor(x)
    axes = check_axes(axis, len(x.shape))
    if scale is not None:
        scale = keras.ops.cast(scale, accumulation_dtype(x.dtype))
        _check_scale(x.shape, scale.shape, axes)
    return normalize(x, scale, axes, epsilon)


def normalize(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float) -> Any:
    """Computes `rms_norm` of arguments that have been checked."""
    x = as_floating(x)
    dtype = dtype_of(x)
    if scale is not None:
        scale = cast_to(scale, accumulation_dtype(dtype))
    if all(x.shape[axis] == 1 for axis in axes):
        return of_one_number(x, scale, axes, epsilon)
    return _rms_norm(x, scale, axes, epsilon, _window(dtype, epsilon))


@functools.cache
def _window(dtype: str, epsilon: float) -> float:
    """Returns the power of two by which x is multiplied before it is squared.

    It moves ε towards the lower end of the range of numbers, so that squares far above it do not overflow. A
    power of two rounds nothing. ε · window² stays large enough for its power −5/2, which is met in second
    derivatives, or where ε is so small that this leaves little room, for its power −3/2, met in first ones.
    """
    if dtype == "float16":
        return 1.0
    bits = 1024 if dtype == "float64" else 128
    second, first = ((-share * bits - math.log2(epsilon)) / 2 for share in (0.38, 0.61))
    return 2.0 ** min(0, math.ceil(max(min(second, -8), first)))


def check_epsilon(epsilon: Any) -> float:
    """Returns `epsilon` as a float; raises `ValueError` unless it is a finite number of `_LEAST_EPSILON` or more."""
    number = as_number("epsilon", epsilon)
    if number <= 0:
        raise ValueError(f"epsilon must be above 0; got {epsilon!r}.")
    if number < _LEAST_EPSILON:
        raise ValueError(f"epsilon must be {_LEAST_EPSILON} or more, for float32 to hold gradients; got {epsilon!r}.")
    return number


def as_axes(axis: Any) -> int | list[int] | tuple[int, ...]:
    """Returns `axis` with its integers as ints; raises `ValueError` unless it is one or several different ones."""
    several = isinstance(axis, list | tuple)
    try:
        numbers = [operator.index(each) for each in (axis if several else [axis]) if not isinstance(each, bool)]
    except TypeError:
        numbers = []
    if len(numbers) < (len(axis) if several else 1):
        raise ValueError(f"axis must be an integer or several in a tuple or list; got {axis!r}.")
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"axis must name one axis or several different ones; got {axis!r}.")
    return type(axis)(numbers) if several else numbers[0]


def check_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Returns the axes of a tensor of this rank as non-negative integers in ascending order.

    Raises:
        ValueError: an axis that is not an integer, is out of range or comes twice; no axis; rank 0.
    """
    given = as_axes(axis)
    if rank < 1:
        raise ValueError("The input must have rank 1 or more; got a scalar.")
    axes = set()
    for number in (given,) if isinstance(given, int) else given:
        if not -rank <= number < rank:
            raise ValueError(f"axis {number} is out of range for an input of rank {rank}; got axis={axis!r}.")
        if number % rank in axes:
            raise ValueError(f"axis names axis {number % rank} twice for an input of rank {rank}; got axis={axis!r}.")
        axes.add(number % rank)
    return tuple(sorted(axes))


def _check_scale(shape: Sequence[int | None], scale_shape: Sequence[int | None], axes: tuple[int, ...]) -> None:
    wanted = tuple(shape[axis] for axis in axes)
    fits = len(scale_shape) == len(wanted) and all(
        want is None or have is None or want == have for want, have in zip(wanted, scale_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"scale must have the shape of the normalized axes, {wanted}; got {tuple(scale_shape)} "
            f"(input {tuple(shape)}, axes {axes})."
        )
