"""A SwiGLU gate and the matrix product after it for TensorFlow, with a gradient that computes the gate anew."""

from typing import Any

import tensorflow as tf


def gated_projection(gate_up: Any, kernel: Any, beta: float) -> Any:
    """Returns the product, or None where the reference path widens half precision and saves nothing by it."""
    if beta != 1 and gate_up.dtype in (tf.float16, tf.bfloat16):
        return None

    @tf.custom_gradient
    def project(gate_up: Any, kernel: Any) -> Any:
        gate, up = tf.split(gate_up, 2, axis=-1)
        sizes = tf.shape(gate)

        def gradient(upstream: Any) -> tuple[Any, Any]:
            sigmoid = tf.sigmoid(beta * gate)
            swish = gate * sigmoid
            flat = tf.reshape(upstream, (-1, kernel.shape[1]))
            by_kernel = tf.matmul(tf.reshape(swish * up, (-1, kernel.shape[0])), flat, transpose_a=True)
            by_product = tf.reshape(tf.matmul(flat, kernel, transpose_b=True), sizes)
            # Beyond ±1e4 the sigmoid is 0 or 1, and what may have overflowed is multiplied by 0.
            argument = tf.clip_by_value(beta * gate, -1e4, 1e4)
            by_gate = by_product * up * (sigmoid * (1 + argument * (1 - sigmoid)))
            return tf.concat([by_gate, by_product * swish], axis=-1), by_kernel

        product = tf.reshape(gate * tf.sigmoid(beta * gate) * up, (-1, kernel.shape[0]))
        outputs = tf.reshape(tf.matmul(product, kernel), tf.concat([sizes[:-1], tf.shape(kernel)[1:]], 0))
        outputs.set_shape([*gate_up.shape[:-1], kernel.shape[1]])
        return outputs, gradient

    return project(gate_up, kernel)
