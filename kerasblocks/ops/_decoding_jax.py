"""What decoding takes from JAX: functions of tensors and a model's variables, compiled; a place in a cache."""

from collections.abc import Callable
from typing import Any

import jax
import keras


def surroundings() -> Any:
    """Returns what else decides what a function computes, beside its arguments and the model."""
    return None


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""

    def run(values: list[Any], arguments: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(list(zip(model().variables, values, strict=True))):
            return function(*arguments)

    jitted: Any = jax.jit(run)
    return lambda *arguments: jitted([variable.value for variable in model().variables], arguments)


def compiled_step(function: Callable[..., Any], model: Callable[[], Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function: what calls it is compiled."""
    return function


def put(cache: Any, new: Any, start: Any) -> Any:
    """Returns the cache with what is new from place `start` of axis 1 on."""
    return keras.ops.slice_update(cache, (0, start, *(0,) * (len(cache.shape) - 2)), new)
