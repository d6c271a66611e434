"""What a backend's instrumented train step has to do beside the step itself where there is nothing to do."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


def train_function(program: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the train function as it is."""
    return compiled


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    return result, lambda others: others


def optimizer_methods(program: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    return {}


def has_value(tensor: Any) -> bool:
    """Returns whether the tensor's numbers are there, which they are not while a function is traced."""
    return True


def random_state() -> None:
    """Returns the state of random numbers that lies outside of Keras's variables: there is none."""


def set_random_state(state: Any) -> None:
    """Sets the state of random numbers that lies outside of Keras's variables: there is none."""


@contextlib.contextmanager
def random_state_kept(state: None = None) -> Iterator[None]:
    """Puts back the state of random numbers that lies outside of Keras's variables: there is none."""
    yield
