"""What decoding takes from JAX: functions of tensors and a model's variables, compiled."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from kerasblocks.ops._decoding_reference import compiled_step as compiled_step
from kerasblocks.ops._decoding_reference import put as put
from kerasblocks.ops._decoding_reference import surroundings as surroundings


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""

    def run(values: list[Any], arguments: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(list(zip(model().variables, values, strict=True))):
            return function(*arguments)

    jitted: Any = jax.jit(run)
    return lambda *arguments: jitted([variable.value for variable in model().variables], arguments)
