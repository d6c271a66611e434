"""What decoding takes from TensorFlow: functions of tensors and a model's variables, compiled."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kerasblocks.ops._decoding_reference import compiled_step as compiled_step
from kerasblocks.ops._decoding_reference import put as put
from kerasblocks.ops._decoding_reference import surroundings as surroundings


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""
    graph = tf.function(function)
    return lambda *arguments: graph(*map(tf.convert_to_tensor, arguments))
