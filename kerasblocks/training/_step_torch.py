"""The instrumented train step of PyTorch: what it carries from step to step lies in tensors of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    wide = [tensor.detach().float() for tensor in tensors]
    return torch.stack(torch._foreach_norm(wide))  # one kernel for many tensors


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor."""
    return gradient


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return [tensor.detach().clone() for tensor in tensors]


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any]) -> None:
        self.values = {name: keras.ops.convert_to_tensor(number) for name, number in numbers.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers, between two steps."""
        self.values[name] = keras.ops.convert_to_tensor(number)


def train_step(instrumentation: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step that computes what was asked for."""

    def step(data: Any) -> Any:
        carry = instrumentation.carry
        with instrumentation.inside(lambda variable: variable.value.detach().clone(), carry.values) as finish:
            logs = original(data)
            with torch.no_grad():
                logs, carry.values = finish(logs)
        return logs

    return step


def train_function(instrumentation: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the train function as it is."""
    return compiled


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    return result, lambda others: others


def optimizer_methods(instrumentation: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    return {}
