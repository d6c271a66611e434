"""Cross-entropy of integer labels with label smoothing; Keras smooths one-hot labels only."""

from typing import Any

import keras


def smoothed_cross_entropy(labels: Any, logits: Any, smoothing: float = 0.1) -> Any:
    """Computes (1 − s) · (−log p[label]) + s · mean(−log p) with p = softmax(logits), in log space and float32.

    This is the cross-entropy against (1 − s) times the one-hot label plus s times the uniform
    distribution.

    Args:
        labels: integer tensor of shape `(...,)`, or `(..., 1)` as Keras may hand it to a loss.
        logits: tensor of shape `(..., classes)`.
        smoothing: s, from 0 (none) to below 1.

    Returns:
        A float32 tensor of shape `(...,)`.

    Raises:
        ValueError: `smoothing` outside 0 ≤ s < 1.

    Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016,
    section 7.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import smoothed_cross_entropy
    >>> loss = smoothed_cross_entropy(np.array([1]), np.array([[0.0, 0.0]], "float32"), smoothing=0.5)
    >>> round(float(keras.ops.convert_to_numpy(loss)[0]), 4)
    0.6931
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in 0 <= s < 1; got {smoothing!r}.")
    ops = keras.ops
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    labels = ops.cast(labels, "int32")
    if len(labels.shape) == len(log_p.shape) - 1:
        labels = ops.expand_dims(labels, -1)
    chosen = ops.squeeze(ops.take_along_axis(log_p, labels, axis=-1), axis=-1)
    return -(1 - smoothing) * chosen - smoothing * ops.mean(log_p, axis=-1)
