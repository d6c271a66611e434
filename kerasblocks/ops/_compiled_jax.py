"""Functions of tensors and a model's variables, compiled by JAX."""

from collections.abc import Callable
from typing import Any

import jax
import keras


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""

    def run(values: list[Any], arguments: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(list(zip(model().variables, values, strict=True))):
            return function(*arguments)

    jitted: Any = jax.jit(run)
    return lambda *arguments: jitted([variable.value for variable in model().variables], arguments)


def compiled_step(function: Callable[..., Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function: what calls it is compiled."""
    return function
