"""The instrumented train step of TensorFlow: what it carries from step to step lies in variables of its own."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from kerasblocks.training._build import build
from kerasblocks.training._step_defaults import logs_of as logs_of
from kerasblocks.training._step_defaults import optimizer_methods as optimizer_methods
from kerasblocks.training._step_defaults import random_state as random_state
from kerasblocks.training._step_defaults import random_state_kept as random_state_kept
from kerasblocks.training._step_defaults import set_random_state as set_random_state
from kerasblocks.training._step_defaults import train_function as train_function


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    return tf.stack([tf.sqrt(tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32)))) for tensor in tensors])


def zero_if_finite(tensors: Sequence[Any]) -> Any:
    """Returns for each of one tensor or more 0 if all its numbers are finite, else NaN."""
    return tf.where(tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors]), 0.0, float("nan"))


def all_finite(tensor: Any) -> Any:
    """Returns whether all numbers of a tensor are finite."""
    return tf.reduce_all(tf.math.is_finite(tensor))


def whole_number(tensor: Any) -> Any:
    """Returns an integer scalar as an int32 tensor."""
    return tf.cast(tensor, tf.int32)


def gradients(loss_of: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Returns the gradients of what `loss_of` returns, by each variable, None for those that it does not depend on."""
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        loss = loss_of()
    return [None if each is None else dense(each) for each in tape.gradient(loss, values)]


def has_value(tensor: Any) -> bool:
    """Returns whether the tensor's numbers are there, which they are not while a function is traced."""
    return not tf.is_symbolic_tensor(tensor)


def row(parts: Sequence[Any]) -> Any:
    """Returns scalars and vectors one after another as a float32 matrix of one row."""
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], 0)[None]


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor; that of an embedding comes as slices."""
    return tf.convert_to_tensor(gradient)


def differences(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """Returns the tensors less the other ones."""
    return [one - another for one, another in zip(first, second, strict=True)]


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


def train_step(program: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step that computes what was asked for."""

    def step(data: Any) -> Any:
        variables: list[Any] = []
        if program.undoes:
            _build(program, data)
            variables = [variable for part in program.state() for variable in part]
        before = copies([variable.value for variable in variables])
        carry = program.carry
        with program.inside(lambda variable: tf.identity(variable.value), carry.values) as finish:
            logs, carried, verdict = finish(original(data), lambda variable: variable.value)
        for name, number in carried.items():
            carry.set(name, number)
        return _undone(program, verdict, logs, variables, before) if program.undoes else logs

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(step)
    return converted


def _build(program: Any, data: Any) -> None:
    """Makes the variables that the first step would make, for there they would have no value before it."""
    with tf.init_scope():
        build(program.model, data)


def _undone(program: Any, verdict: Any, logs: dict[str, Any], variables: list[Any], before: list[Any]) -> Any:
    """Puts the variables back where the step is undone, and returns the logs."""
    metrics = program.model.get_metrics_result()
    names = program.metrics_in(logs, metrics)

    def undo() -> list[Any]:
        if len(variables) < sum(map(len, program.state())):  # This step has made the metrics'.
            program.model.reset_metrics()
        for variable, old in zip(variables, before, strict=True):
            seed = program.is_seed(variable)
            variable.assign(tf.where(verdict.stopped, old, variable.value) if seed else old)
        metrics = program.model.get_metrics_result()
        return [tf.cast(metrics[name], logs[name].dtype) for name in names]

    changed = tf.cond(verdict.undone, undo, lambda: [logs[name] for name in names])
    return logs | dict(zip(names, changed, strict=True))


def watched(arguments: tuple[Any, ...], steps: int, keep: Callable[[Any], object]) -> tuple[Any, ...]:
    """Returns the arguments of a train function of so many steps, so that `keep` is called with each batch."""
    (iterator,) = arguments
    batches = list(itertools.islice(iterator, steps))
    if not batches:
        raise StopIteration
    for batch in batches:
        keep(batch)
    return (iter(batches),)
