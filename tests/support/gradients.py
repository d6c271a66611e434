"""Outputs and gradients of a layer on the backend in use, and of a NumPy oracle by central differences."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np


def output_and_gradients(
    layer: keras.layers.Layer, x: np.ndarray, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Returns layer(x) and the gradients of Σ layer(x) · upstream by x and by each trainable weight."""
    backend = keras.backend.backend()
    if not layer.built:
        layer.build(x.shape)
    x, upstream = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(upstream)
    weights = [variable.value for variable in layer.trainable_variables]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
            total = tf.reduce_sum(output * upstream)
        by_x, by_weights = tape.gradient(total, (x, weights))
    elif backend == "jax":
        import jax

        def total_of(x, weights):
            output, _ = layer.stateless_call(weights, [v.value for v in layer.non_trainable_variables], x)
            return (output * upstream).sum(), output

        (_, output), (by_x, by_weights) = jax.value_and_grad(total_of, (0, 1), has_aux=True)(x, weights)
    else:
        import torch

        x = x.requires_grad_()
        output = layer(x)
        by_x, *by_weights = torch.autograd.grad((output * upstream).sum(), (x, *weights))
    to_numpy = keras.ops.convert_to_numpy
    return to_numpy(output), to_numpy(by_x), [to_numpy(gradient) for gradient in by_weights]


def function_and_gradients(
    function: Callable[..., Any], arguments: Sequence[np.ndarray], upstream: np.ndarray
) -> list[np.ndarray]:
    """Returns function(*arguments) and the gradients of Σ function(*arguments) · upstream by every argument."""
    backend = keras.backend.backend()
    arguments = [keras.ops.convert_to_tensor(argument) for argument in arguments]
    upstream = keras.ops.convert_to_tensor(upstream)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(arguments)
            output = function(*arguments)
        gradients = tape.gradient(output, arguments, upstream)
    elif backend == "jax":
        import jax

        output, pull_back = jax.vjp(function, *arguments)
        gradients = pull_back(upstream)
    else:
        import torch

        for argument in arguments:
            argument.requires_grad_()
        output = function(*arguments)
        gradients = torch.autograd.grad(output, arguments, upstream)
    return [keras.ops.convert_to_numpy(each) for each in (output, *gradients)]


def second_derivatives(function: Callable[[Any], Any], x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """Returns the gradient by x of Σ g², where g is the gradient by x of Σ function(x) · upstream."""
    backend = keras.backend.backend()
    x, upstream = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(upstream)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(function(x) * upstream)
            squares = tf.reduce_sum(inner.gradient(total, x) ** 2)
        second = outer.gradient(squares, x)
    elif backend == "jax":
        import jax

        def squares_of(x):
            return (jax.grad(lambda x: (function(x) * upstream).sum())(x) ** 2).sum()

        second = jax.grad(squares_of)(x)
    else:
        import torch

        x.requires_grad_()
        (first,) = torch.autograd.grad((function(x) * upstream).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
    return keras.ops.convert_to_numpy(second)


def numeric_gradients(
    function: Callable[..., np.ndarray], arguments: Sequence[np.ndarray], upstream: np.ndarray, step: float = 1e-6
) -> list[np.ndarray]:
    """Returns the gradients of Σ function(*arguments) · upstream by every argument, in float64."""
    arguments = [argument.astype("float64") for argument in arguments]
    gradients = []
    for argument in arguments:
        gradient = np.zeros_like(argument)
        for index in np.ndindex(argument.shape):
            kept = argument[index]
            argument[index] = kept + step
            above = (function(*arguments) * upstream).sum()
            argument[index] = kept - step
            below = (function(*arguments) * upstream).sum()
            argument[index] = kept
            gradient[index] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Asserts that the largest difference is at most `tolerance` times the largest expected entry."""
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0.0)
    assert np.abs(actual - expected).max(initial=0.0) <= tolerance * scale
