"""The divergence for TensorFlow: of large logits little is kept for the gradient, which is computed anew."""

from typing import Any

import tensorflow as tf

from kerasblocks.ops._log_ratio import gradient_by_a, gradient_by_b, log_ratio

_LARGE = 1 << 20  # logits


def kl_divergence(a: Any, b: Any, temperature: Any) -> Any:
    """Returns the divergence, or None where the reference path will do."""
    if tf.is_tensor(temperature):
        return None  # It may have a gradient, too.
    size = a.shape.num_elements()
    if (size is not None and size < _LARGE) or (size is None and (a.shape[-1] or 0) < _LARGE >> 10):
        return None

    @tf.custom_gradient
    def compute(a: Any, b: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            ratio = log_ratio(a, b, temperature)
            by_a, by_b = gradient_by_a(ratio, temperature), gradient_by_b(ratio, temperature)
            return by_a * upstream[..., None], by_b * upstream[..., None]

        return log_ratio(a, b, temperature).divergence[..., 0] * (temperature * temperature), gradient

    return compute(a, b)
