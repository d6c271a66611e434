"""The instrumented train step of JAX: what it carries from step to step rides beside Keras's state."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    return jnp.stack([jnp.sqrt(jnp.sum(jnp.square(tensor.astype("float32")))) for tensor in tensors])


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor."""
    return gradient


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return list(tensors)


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.values = {name: jnp.asarray(number) for name, number in numbers.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers, between two steps."""
        self.values[name] = jnp.asarray(number)


def train_step(instrumentation: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step whose state has the carried numbers as its fifth part."""

    def step(state: Any, data: Any) -> Any:
        *keras_state, carried = state
        known = dict(zip(map(id, instrumentation.optimizer.variables), keras_state[2], strict=True))
        with instrumentation.inside(lambda variable: known[id(variable)], carried) as finish:
            logs, new_state = original(tuple(keras_state), data)
            logs, carried = finish(logs)
        return logs, (*new_state, carried)

    return step


def train_function(instrumentation: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train function of Keras's signature around one whose state has a fifth part."""

    def function(state: Any, iterator: Any) -> Any:
        carry = instrumentation.carry
        logs, (*state, carry.values) = compiled((*state, carry.values), iterator)
        return logs, tuple(state)

    return function


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    logs, state = result
    return logs, lambda others: (others, state)


def optimizer_methods(instrumentation: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    original = optimizer.stateless_apply

    def stateless_apply(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
        known = dict(zip(map(id, optimizer.variables), optimizer_variables, strict=True))

        def run() -> Any:
            result = original(optimizer_variables, grads, trainable_variables)
            return result, lambda: result[0]

        return instrumentation.update(
            optimizer._trainable_variables, grads, trainable_variables, lambda variable: known[id(variable)], run
        )

    return {"stateless_apply": stateless_apply}
