"""What decoding takes from TensorFlow: functions of tensors and a model's variables, compiled; a place in a cache."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def surroundings() -> Any:
    """Returns what else decides what a function computes, beside its arguments and the model."""
    return None


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""
    graph = tf.function(function)
    return lambda *arguments: graph(*map(tf.convert_to_tensor, arguments))


def compiled_step(function: Callable[..., Any], model: Callable[[], Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function: what calls it is compiled."""
    return function


def put(cache: Any, new: Any, start: Any) -> Any:
    """Returns the cache with what is new from place `start` of axis 1 on."""
    return keras.ops.slice_update(cache, (0, start, *(0,) * (len(cache.shape) - 2)), new)
