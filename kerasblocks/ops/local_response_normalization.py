"""Local response normalization over neighbouring channels; Keras has none."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_number
from kerasblocks.ops._floating import accumulation_dtype, as_floating, cast_to, dtype_of


def local_response_normalization(
    x: Any, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, axis: int = -1
) -> Any:
    """Computes yᵢ = xᵢ / (k + (α / size) · Σⱼ xⱼ²)^β, j the `size` channels around i, zeros beyond the first and last.

    The sum runs from i − ⌊size / 2⌋ to i + ⌊(size − 1) / 2⌋. As in PyTorch α multiplies the mean of the squares; the
    paper's α multiplies their sum: pass `size` times that one. Computed in float32 or better and rounded once.

    Args:
        x: tensor of rank 2 or more; integers are cast to Keras's `floatx`.
        size: channels in the sum, 1 or more.
        alpha: α, 0 or more.
        beta: β, a finite number.
        k: k, above 0.
        axis: axis of the channels, not that of the batch.

    Returns:
        A tensor of the shape and floating dtype of `x`.

    Raises:
        ValueError: a `size` below 1, an `alpha` below 0, a `k` that is not above 0, what are no finite numbers, an axis
            that `x` has not or that is its first.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    NeurIPS 2012, section 3.3.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import local_response_normalization
    >>> x = np.array([[1.0, 2.0, 3.0]], "float32")
    >>> y = local_response_normalization(x, size=3, alpha=3.0, beta=1.0)
    >>> [round(float(each), 4) for each in keras.ops.convert_to_numpy(y)[0]]
    [0.1667, 0.1333, 0.2143]
    """
    size, alpha, beta, k, axis = check_settings(size, alpha, beta, k, axis)
    if not isinstance(x, keras.KerasTensor):
        x = keras.ops.convert_to_tensor(x)
    return normalized(as_floating(x), size, alpha, beta, k, check_channels(axis, len(x.shape)))


def check_settings(size: Any, alpha: Any, beta: Any, k: Any, axis: Any) -> tuple[int, float, float, float, int]:
    """Returns the arguments as numbers; raises `ValueError` where one is out of its range."""
    size, alpha, beta, k = as_integer("size", size, least=1), *map(as_number, ("alpha", "beta", "k"), (alpha, beta, k))
    if alpha < 0:
        raise ValueError(f"alpha must be 0 or more; got {alpha!r}.")
    if k <= 0:
        raise ValueError(f"k must be above 0, or zeros would be divided by 0; got {k!r}.")
    return size, alpha, beta, k, as_integer("axis", axis, least=-(2**31))


def check_channels(axis: int, rank: int) -> int:
    """Returns the axis counted from the first; raises `ValueError` unless a tensor of this rank has such channels."""
    if not -rank <= axis < rank or axis % rank == 0:
        raise ValueError(f"axis must be one of the axes after the first, of an input of rank {rank}; got {axis}.")
    return axis % rank


def normalized(x: Any, size: int, alpha: float, beta: float, k: float, axis: int) -> Any:
    """Computes `local_response_normalization` of arguments that have been checked."""
    ops = keras.ops
    wide = cast_to(x, accumulation_dtype(x.dtype))
    if alpha == 0 or beta == 0:
        return cast_to(wide * k**-beta, dtype_of(x))
    around = [(0, 0)] * len(x.shape)
    channels = ops.shape(x)[axis]
    beyond = channels - 1 if isinstance(channels, int) and channels > 0 else size  # No window reaches further.
    around[axis] = min(size // 2, beyond), min((size - 1) // 2, beyond)
    squares = ops.pad(ops.square(wide), around)
    before = (slice(None),) * axis
    total = squares[(*before, slice(0, channels))]
    for shift in range(1, sum(around[axis]) + 1):
        total = total + squares[(*before, slice(shift, channels + shift))]
    return cast_to(wide * ops.power(total * (alpha / size) + k, -beta), dtype_of(x))
