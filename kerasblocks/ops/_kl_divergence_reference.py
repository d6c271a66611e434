"""The Kullback-Leibler divergence of tempered softmaxes in `keras.ops`, differentiated by the backend."""

from typing import Any

from kerasblocks.ops._log_ratio import log_ratio


def kl_divergence(a: Any, b: Any, temperature: Any) -> Any:
    """Computes T² · KL(softmax(a / T) ‖ softmax(b / T)) over the last axis of logits in float32 or better."""
    return log_ratio(a, b, temperature).divergence[..., 0] * (temperature * temperature)
