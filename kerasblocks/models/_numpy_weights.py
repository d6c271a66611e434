"""Starting weights drawn by NumPy, the same bits on every backend; one seed of Keras gives each other numbers."""

import math
from typing import Any

import keras
import numpy as np

from kerasblocks.layers._joined_weights import JoinedInitializer

_TRUNCATED_NORMAL_STDDEV = 0.87962566103423978  # of a unit normal cut off at two standard deviations


def draw_weights(model: keras.Model, seed: int) -> None:
    """Replaces every weight of `model` by a draw from its layer's own initializer's distribution.

    A weight called `NAME` is drawn from the layer's `NAME_initializer`, the convention of Keras's layers and
    of ours. Each weight has a PCG64 stream of its own, numbered in the order of the layers, so that the shape of
    one does not change the draw of another.

    Raises:
        ValueError: a weight whose initializer is not known.
    """
    init, position = keras.initializers, 0
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            initializer = getattr(layer, f"{variable.name}_initializer", None)
            if isinstance(layer, keras.layers.ReversibleEmbedding):
                initializer = layer.embeddings_initializer  # of the other matrix, too
            if isinstance(layer, keras.layers.EinsumDense) and isinstance(initializer, init.VarianceScaling):
                initializer = None  # Keras derives its fans from the equation and keeps them to itself.
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, position])))
            try:
                value = _draw(initializer, tuple(variable.shape), rng)
            except NotImplementedError:
                raise ValueError(
                    f"Cannot draw the weight {variable.path!r} with NumPy: its layer's "
                    f"{variable.name}_initializer is {initializer!r}, whose distribution is not known here."
                ) from None
            variable.assign(value.astype("float32"))
            position += 1


def _draw(initializer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    init = keras.initializers
    match initializer:
        case init.Zeros():
            return np.zeros(shape)
        case init.Ones():
            return np.ones(shape)
        case init.Constant():
            return np.broadcast_to(np.asarray(initializer.value, "float64"), shape)
        case init.RandomUniform():
            return rng.uniform(initializer.minval, initializer.maxval, shape)
        case init.RandomNormal():
            return rng.normal(initializer.mean, initializer.stddev, shape)
        case init.TruncatedNormal():
            return initializer.mean + initializer.stddev * _truncated_normal(shape, rng)
        case JoinedInitializer():
            return np.concatenate([_draw(part, (*shape[:-1], width), rng) for part, width in initializer.parts], -1)
        case init.VarianceScaling():
            return _variance_scaling(initializer, shape, rng)
        case _:
            raise NotImplementedError


def _variance_scaling(initializer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    fan_in, fan_out = _fans(initializer, shape)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
    stddev = math.sqrt(initializer.scale / max(1.0, fan))
    if initializer.distribution == "uniform":
        return rng.uniform(-math.sqrt(3) * stddev, math.sqrt(3) * stddev, shape)
    if initializer.distribution == "untruncated_normal":
        return rng.normal(0.0, stddev, shape)
    return stddev / _TRUNCATED_NORMAL_STDDEV * _truncated_normal(shape, rng)


def _fans(initializer: Any, shape: tuple[int, ...]) -> tuple[float, float]:
    """Numbers of inputs and outputs of a unit, counted as Keras counts them for a weight of this shape."""
    input_axes, output_axes = initializer.input_axes, initializer.output_axes
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    receptive_field = math.prod(shape[:-2])
    return shape[-2] * receptive_field, shape[-1] * receptive_field


def _truncated_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = rng.normal(size=shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.normal(size=int(outside.sum()))
    return values
