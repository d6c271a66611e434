"""LeNet-5, AlexNet and the small transformer in plain JAX, with the training loop that one would write for them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._loop_settings import BETA_1, EPSILON, LoopSettings

Weights = list[Any]


class Loop:
    """Trains one network; `epoch` takes a step with every batch.

    Args:
        settings: what the training is.
        weights: the starting weights, in the order and the layout of Keras.
    """

    def __init__(self, settings: LoopSettings, weights: Sequence[np.ndarray]) -> None:
        warmup, rest = settings.warmup_steps, settings.steps - settings.warmup_steps

        def rate(step: Any) -> Any:
            falling = 0.5 * (1 + jnp.cos(jnp.pi * (step - warmup) / rest))
            return settings.rate * jnp.where(step < warmup, (step + 1) / warmup, falling)

        optimizer = optax.adamw(
            rate, BETA_1, settings.beta_2, EPSILON, weight_decay=settings.weight_decay, mask=_is_matrix
        )
        if settings.clipnorm is not None:
            optimizer = optax.chain(optax.clip_by_global_norm(settings.clipnorm), optimizer)
        network = functools.partial(_NETWORKS[settings.case], settings)

        def loss_of(weights: Weights, x: Any, y: Any, key: Any) -> tuple[Any, Any]:
            logits = network(weights, x, key)
            wanted = y if y.ndim == logits.ndim else jax.nn.one_hot(y, logits.shape[-1])
            smoothed = optax.smooth_labels(wanted, settings.label_smoothing) if settings.label_smoothing else wanted
            hits = (logits.argmax(-1) == wanted.argmax(-1)).mean() if settings.accuracy else 0.0
            return optax.softmax_cross_entropy(logits, smoothed).mean(), hits

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, x: Any, y: Any) -> Any:
            weights, slots, key, sums = state
            key, mine = jax.random.split(key)
            (loss, hits), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, x, y, mine)
            updates, slots = optimizer.update(gradients, slots, weights)
            return (optax.apply_updates(weights, updates), slots, key, sums + jnp.stack([loss, hits])), loss

        begin = [jnp.asarray(each) for each in weights]
        self._state = begin, optimizer.init(begin), jax.random.key(0), jnp.zeros(2)
        self._step = step

    def epoch(self, batches: Any) -> list[float]:
        """Takes a step with each batch and returns their losses, when the device has done them all."""
        losses = []
        for x, y in batches:
            self._state, loss = self._step(self._state, x, y)
            losses.append(loss)
        return [float(loss) for loss in losses]


def _is_matrix(weights: Weights) -> list[bool]:
    return [each.ndim > 1 for each in weights]


def _convolution(x: Any, kernel: Any, bias: Any, stride: int = 1, padding: str = "VALID") -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers) + bias


def _largest(x: Any) -> Any:
    window = tuple(min(3, side) for side in x.shape[1:3])
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, 2, 2, 1), "VALID")


def _mean_of_four(x: Any) -> Any:
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def _dropped(x: Any, rate: float, key: Any) -> Any:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0) if rate else x


def _lenet5(settings: LoopSettings, weights: Weights, x: Any, key: Any) -> Any:
    x = settings.scale * x + jnp.asarray(settings.offset)
    for kernel, bias in (weights[0:2], weights[2:4]):
        x = _mean_of_four(jax.nn.relu(_convolution(x, kernel, bias)))
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ weights[4] + weights[5])
    x = jax.nn.relu(x @ weights[6] + weights[7])
    return x @ weights[8] + weights[9]


def _alexnet(settings: LoopSettings, weights: Weights, x: Any, key: Any) -> Any:
    x = settings.scale * x + jnp.asarray(settings.offset)
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for number in range(5):
        first = number == 0
        x = _convolution(
            x, weights[2 * number], weights[2 * number + 1], 4 if first else 1, "VALID" if first else "SAME"
        )
        x = jax.nn.relu(x)
        if number in (0, 1, 4):
            x = _largest(x)
    x = x.reshape(len(x), -1)
    for number, each in ((10, 0), (12, 1)):
        x = _dropped(x, settings.dropout, jax.random.fold_in(key, each))
        x = jax.nn.relu(x @ weights[number] + weights[number + 1])
    return x @ weights[14] + weights[15]


def _transformer(settings: LoopSettings, weights: Weights, tokens: Any, key: Any) -> Any:
    embedding, *blocks, last = weights
    x = embedding[tokens]
    for place in range(0, len(blocks), 8):
        joined, out, *query_key, scale, gate_up, down, scale_2 = blocks[place : place + 8]
        x = x + _attention(settings, _rms_norm(x) * scale, joined, *query_key) @ out
        gate, up = jnp.split((_rms_norm(x) * scale_2) @ gate_up, 2, -1)
        x = x + (jax.nn.silu(gate) * up) @ down
    return (_rms_norm(x) * last) @ embedding.T


def _rms_norm(x: Any) -> Any:
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def _attention(settings: LoopSettings, x: Any, joined: Any, query_scale: Any, key_scale: Any) -> Any:
    batch, length, _ = x.shape
    heads, groups = settings.heads
    x = (x @ joined).reshape(batch, length, heads + 2 * groups, -1)
    query = _turned(_rms_norm(x[:, :, :heads]) * query_scale)
    key = _turned(_rms_norm(x[:, :, heads : heads + groups]) * key_scale)
    seen = jax.nn.dot_product_attention(query, key, x[:, :, heads + groups :], is_causal=True)
    return seen.reshape(batch, length, -1)


def _turned(x: Any) -> Any:
    length, half = x.shape[1], x.shape[-1] // 2
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(half) / half)
    cosine, sine = (jnp.asarray(each[:, None], "float32") for each in (np.cos(angles), np.sin(angles)))
    left, right = x[..., :half], x[..., half:]
    return jnp.concatenate([left * cosine - right * sine, right * cosine + left * sine], -1)


_NETWORKS = {"lenet5": _lenet5, "alexnet": _alexnet, "transformer": _transformer}
