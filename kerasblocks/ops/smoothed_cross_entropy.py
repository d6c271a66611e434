"""Cross-entropy of integer labels with label smoothing; Keras smooths one-hot labels only."""

from typing import Any

import keras

from kerasblocks._arguments import as_rate
from kerasblocks.ops._floating import accumulation_dtype


def smoothed_cross_entropy(labels: Any, logits: Any, smoothing: float = 0.1) -> Any:
    """Computes (1 − s) · (−log p[label]) + s · mean(−log p) with p = softmax(logits), in log space.

    This is the cross-entropy against (1 − s) times the one-hot label plus s times the uniform
    distribution.

    Args:
        labels: tensor of shape `(...,)`, or `(..., 1)`, of integers, or of whole floating numbers, for Keras casts
            the labels that it hands to a loss.
        logits: tensor of shape `(..., classes)`.
        smoothing: s, from 0 (none) to below 1.

    Returns:
        A tensor of shape `(...,)`: float64 if the logits are, else float32.

    Raises:
        ValueError: `smoothing` outside 0 ≤ s < 1, labels whose shape does not fit the logits'.

    Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
    section 7.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import smoothed_cross_entropy
    >>> loss = smoothed_cross_entropy(np.array([1]), np.array([[0.0, 0.0]], "float32"), smoothing=0.5)
    >>> round(float(keras.ops.convert_to_numpy(loss)[0]), 4)
    0.6931
    """
    smoothing = as_rate("smoothing", smoothing)
    ops = keras.ops
    logits = logits if isinstance(logits, keras.KerasTensor) else ops.convert_to_tensor(logits)
    log_p = ops.log_softmax(ops.cast(logits, accumulation_dtype(logits.dtype)), axis=-1)
    labels = ops.cast(labels, "int32")
    _check_shapes(tuple(labels.shape), tuple(logits.shape))
    if len(labels.shape) == len(log_p.shape) - 1:
        labels = ops.expand_dims(labels, -1)
    chosen = ops.squeeze(ops.take_along_axis(log_p, labels, axis=-1), axis=-1)
    return -(1 - smoothing) * chosen - smoothing * ops.mean(log_p, axis=-1)


def _check_shapes(labels: tuple[int | None, ...], logits: tuple[int | None, ...]) -> None:
    column = len(labels) == len(logits) and labels[-1:] == (1,)
    sizes = labels[:-1] if column else labels
    fits = len(logits) > 0 and len(sizes) == len(logits) - 1
    if not fits or any(a != b for a, b in zip(sizes, logits[:-1], strict=True) if None not in (a, b)):
        raise ValueError(
            f"labels must have the shape of the logits without the classes, {logits[:-1]}, or one column more; "
            f"got {labels} for logits {logits}."
        )
