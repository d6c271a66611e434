"""LeNet-5, AlexNet and the small transformer in plain TensorFlow, with the training loop that one would write."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks._loop_settings import BETA_1, EPSILON, LoopSettings


class Loop:
    """Trains one network; `epoch` takes a step with every batch.

    Args:
        settings: what the training is.
        weights: the starting weights, in the order and the layout of Keras.
    """

    def __init__(self, settings: LoopSettings, weights: Sequence[np.ndarray]) -> None:
        self._weights = [tf.Variable(each) for each in weights]
        self._first = [tf.Variable(tf.zeros_like(each)) for each in weights]
        self._second = [tf.Variable(tf.zeros_like(each)) for each in weights]
        self._number = tf.Variable(0.0)
        self._sums = tf.Variable([0.0, 0.0])
        network, variables = _NETWORKS[settings.case], self._weights
        warmup, rest = settings.warmup_steps, settings.steps - settings.warmup_steps

        @tf.function(reduce_retracing=True)
        def step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = network(settings, variables, x)
                classes = logits.shape[-1]
                if y.dtype.is_integer and not settings.label_smoothing:
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
                else:
                    wanted = tf.one_hot(y, classes) if y.dtype.is_integer else y
                    share = settings.label_smoothing
                    losses = tf.nn.softmax_cross_entropy_with_logits(wanted * (1 - share) + share / classes, logits)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, variables)
            gradients = [tf.convert_to_tensor(each) for each in gradients]
            if settings.clipnorm is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, settings.clipnorm)
            count = self._number
            falling = 0.5 * (1 + tf.cos(math.pi * (count - warmup) / rest))
            rate = settings.rate * tf.where(count < warmup, (count + 1) / warmup, falling)
            self._number.assign_add(1.0)
            scaled = rate * tf.sqrt(1 - settings.beta_2**self._number) / (1 - BETA_1**self._number)
            for weight, first, second, gradient in zip(variables, self._first, self._second, gradients, strict=True):
                if len(weight.shape) > 1:
                    weight.assign_sub(rate * settings.weight_decay * weight)
                first.assign_add((gradient - first) * (1 - BETA_1))
                second.assign_add((tf.square(gradient) - second) * (1 - settings.beta_2))
                weight.assign_sub(scaled * first / (tf.sqrt(second) + EPSILON))
            hits = tf.constant(0.0)
            if settings.accuracy:
                classes_of_samples = y if y.dtype.is_integer else tf.argmax(y, -1)
                found = tf.equal(tf.argmax(logits, -1, classes_of_samples.dtype), classes_of_samples)
                hits = tf.reduce_mean(tf.cast(found, "float32"))
            self._sums.assign_add([loss, hits])
            return loss

        self._step = step

    def epoch(self, batches: Any) -> list[float]:
        """Takes a step with each batch and returns their losses, when the device has done them all."""
        losses = [self._step(tf.convert_to_tensor(x), tf.convert_to_tensor(y)) for x, y in batches]
        return [float(loss) for loss in losses]


def _lenet5(settings: LoopSettings, weights: Sequence[Any], x: Any) -> Any:
    x = settings.scale * x + tf.constant(settings.offset)
    for kernel, bias in (weights[0:2], weights[2:4]):
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias))
        x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(x, (-1, math.prod(x.shape[1:])))
    x = tf.nn.relu(x @ weights[4] + weights[5])
    x = tf.nn.relu(x @ weights[6] + weights[7])
    return x @ weights[8] + weights[9]


def _alexnet(settings: LoopSettings, weights: Sequence[Any], x: Any) -> Any:
    x = settings.scale * x + tf.constant(settings.offset)
    x = tf.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for number in range(5):
        first = number == 0
        x = tf.nn.conv2d(x, weights[2 * number], 4 if first else 1, "VALID" if first else "SAME")
        x = tf.nn.relu(tf.nn.bias_add(x, weights[2 * number + 1]))
        if number in (0, 1, 4):
            x = tf.nn.max_pool2d(x, [min(3, side) for side in x.shape[1:3]], 2, "VALID")
    x = tf.reshape(x, (-1, math.prod(x.shape[1:])))
    for number in (10, 12):
        x = tf.nn.dropout(x, settings.dropout) if settings.dropout else x
        x = tf.nn.relu(x @ weights[number] + weights[number + 1])
    return x @ weights[14] + weights[15]


def _transformer(settings: LoopSettings, weights: Sequence[Any], tokens: Any) -> Any:
    embedding, *blocks, last = weights
    x = tf.gather(embedding, tokens)
    for place in range(0, len(blocks), 8):
        joined, out, query_scale, key_scale, scale, gate_up, down, scale_2 = blocks[place : place + 8]
        x += _times(_attention(settings, _rms_norm(x) * scale, joined, query_scale, key_scale), out)
        gate, up = tf.split(_times(_rms_norm(x) * scale_2, gate_up), 2, -1)
        x += _times(tf.nn.silu(gate) * up, down)
    return _times(_rms_norm(x) * last, tf.transpose(embedding))


def _times(x: Any, kernel: Any) -> Any:
    shape = tf.shape(x)
    flat = tf.reshape(x, (-1, x.shape[-1])) @ kernel
    return tf.reshape(flat, (shape[0], shape[1], kernel.shape[-1]))


def _rms_norm(x: Any) -> Any:
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6)


def _attention(settings: LoopSettings, x: Any, joined: Any, query_scale: Any, key_scale: Any) -> Any:
    length = x.shape[1]
    heads, groups = settings.heads
    x = tf.reshape(_times(x, joined), (-1, length, heads + 2 * groups, joined.shape[-1] // (heads + 2 * groups)))
    features = x.shape[-1]
    query = _turned(_rms_norm(x[:, :, :heads]) * query_scale)
    key = _turned(_rms_norm(x[:, :, heads : heads + groups]) * key_scale)
    query = tf.reshape(query, (-1, length, groups, heads // groups, features))
    products = tf.einsum("bqghd,bkgd->bghqk", query, key) / math.sqrt(features)
    seen = tf.constant(np.tril(np.ones((length, length), bool)))
    shares = tf.nn.softmax(tf.where(seen, products, -1e30))
    found = tf.einsum("bghqk,bkgd->bqghd", shares, x[:, :, heads + groups :])
    return tf.reshape(found, (-1, length, heads * features))


def _turned(x: Any) -> Any:
    length, half = x.shape[1], x.shape[-1] // 2
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cosine, sine = (tf.constant(each[:, None], "float32") for each in (np.cos(angles), np.sin(angles)))
    left, right = x[..., :half], x[..., half:]
    return tf.concat([left * cosine - right * sine, right * cosine + left * sine], -1)


_NETWORKS = {"lenet5": _lenet5, "alexnet": _alexnet, "transformer": _transformer}
