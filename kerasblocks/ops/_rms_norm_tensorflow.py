"""RMS normalization for TensorFlow: the gradient by hand, whose sums over rows are matrix products."""

from typing import Any

import tensorflow as tf


def rms_norm(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
    """Returns the normalized tensor, or None where the reference path is as good."""
    width = x.shape[-1]
    if axes != (len(x.shape) - 1,) or width is None:
        return None
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32

    def forward(x: Any, weight: Any) -> tuple[Any, Any]:
        wide = tf.cast(x, dtype)
        factor = _factor(wide, epsilon, window)
        normal = wide * factor
        return tf.cast(normal if weight is None else normal * weight, x.dtype), factor

    def backward(x: Any, weight: Any, factor: Any, upstream: Any) -> tuple[Any, Any]:
        normal, upstream = tf.cast(x, dtype) * factor, tf.cast(upstream, dtype)
        scaled = upstream if weight is None else upstream * weight
        product = tf.reshape(upstream * normal, (-1, width))
        # As matrix products these two sums are several times faster on a CPU.
        by_weight = tf.linalg.matvec(product, tf.ones(tf.shape(product)[:1], dtype), transpose_a=True)
        along = tf.linalg.matvec(product, tf.ones((width,), dtype) if weight is None else weight) / width
        return tf.cast((scaled - normal * tf.reshape(along, tf.shape(factor))) * factor, x.dtype), by_weight

    @tf.custom_gradient
    def plain(x: Any) -> Any:
        y, factor = forward(x, None)
        return y, lambda upstream: backward(x, None, factor, upstream)[0]

    @tf.custom_gradient
    def weighted(x: Any, weight: Any) -> Any:
        y, factor = forward(x, weight)
        return y, lambda upstream: backward(x, weight, factor, upstream)

    return plain(x) if scale is None else weighted(x, scale)


def _factor(wide: Any, epsilon: float, window: float) -> Any:
    # Multiplying by the window is a pass over x that only the rare large input needs: it is taken on demand on a
    # CPU. On a GPU a condition would wait for the device, and XLA there fuses the product.
    if tf.config.list_logical_devices("GPU"):
        return _windowed_factor(wide, epsilon, window)
    mean = tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True)
    return tf.cond(
        tf.math.is_finite(tf.reduce_max(mean)),
        lambda: tf.math.rsqrt(mean + epsilon),
        lambda: _windowed_factor(wide, epsilon, window),
    )


def _windowed_factor(wide: Any, epsilon: float, window: float) -> Any:
    mean = tf.reduce_mean(tf.square(wide * window), axis=-1, keepdims=True)
    return window * tf.math.rsqrt(mean + epsilon * window**2)
