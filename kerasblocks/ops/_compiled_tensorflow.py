"""Functions of tensors and a model's variables, compiled by TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""
    graph = tf.function(function)
    return lambda *arguments: graph(*map(tf.convert_to_tensor, arguments))


def compiled_step(function: Callable[..., Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function: what calls it is compiled."""
    return function
