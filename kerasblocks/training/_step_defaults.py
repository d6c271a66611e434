"""What a backend's instrumented train step has to do beside the step itself where there is nothing to do."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np


def train_function(program: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the train function as it is."""
    return compiled


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    return result, lambda others: others


def optimizer_methods(program: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    return {}


def array_of(variable: Any) -> np.ndarray:
    """Returns the variable's numbers, which may be the memory that they lie in; waits for the device."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def shares_of(variable: Any) -> list[np.ndarray]:
    """Returns what each replica has summed up for itself: there is nothing."""
    return []


def set_shares(variable: Any, values: Sequence[np.ndarray]) -> None:
    """Gives each replica its own: there is nothing."""


def replicas(model: Any) -> int:
    """Returns how many replicas of the model run the step side by side, each seeing its own part of the batch only."""
    return 1


def check_replicas(model: Any) -> None:
    """Refuses what several replicas cannot do: there is nothing."""


def scope_of(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Returns what must be in force where the model's variables are made."""
    return contextlib.nullcontext()


def inner_methods(program: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns methods of the optimizer that makes the updates."""
    return {}


def whole_batch(model: Any, batch: Any) -> Any:
    """Returns the batch of all replicas."""
    return batch


def has_value(tensor: Any) -> bool:
    """Returns whether the tensor's numbers are there, which they are not while a function is traced."""
    return True


def without_gradients() -> contextlib.AbstractContextManager[Any]:
    """Within, nothing is kept for a backward pass: nothing is to be done where that is decided later."""
    return contextlib.nullcontext()


def random_state() -> None:
    """Returns the state of random numbers that lies outside of Keras's variables: there is none."""


def set_random_state(state: Any) -> None:
    """Sets the state of random numbers that lies outside of Keras's variables: there is none."""


def shuffle_state() -> None:
    """Returns the state that decides how `fit` shuffles arrays, beside the generators: there is none."""


def set_shuffle_state(state: None) -> None:
    """Sets the state that decides how `fit` shuffles arrays, beside the generators: there is none."""


@contextlib.contextmanager
def random_state_kept(state: None = None) -> Iterator[None]:
    """Puts back the state of random numbers that lies outside of Keras's variables: there is none."""
    yield
