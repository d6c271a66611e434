"""The instrumented train step of TensorFlow: what it carries from step to step lies in variables of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    return tf.stack([tf.sqrt(tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32)))) for tensor in tensors])


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor; that of an embedding comes as slices."""
    return tf.convert_to_tensor(gradient)


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return [tf.identity(tensor) for tensor in tensors]


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.variables = {name: tf.Variable(number, trainable=False) for name, number in numbers.items()}

    @property
    def values(self) -> dict[str, Any]:
        """The numbers as tensors."""
        return {name: variable.read_value() for name, variable in self.variables.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers."""
        self.variables[name].assign(number)


def train_step(instrumentation: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step that computes what was asked for."""

    def step(data: Any) -> Any:
        carry = instrumentation.carry
        with instrumentation.inside(lambda variable: tf.identity(variable.value), carry.values) as finish:
            logs, carried = finish(original(data))
        for name, number in carried.items():
            carry.set(name, number)
        return logs

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(step)
    return converted


def train_function(instrumentation: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the train function as it is."""
    return compiled


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    return result, lambda others: others


def optimizer_methods(instrumentation: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    return {}
