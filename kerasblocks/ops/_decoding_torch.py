"""What decoding takes from PyTorch: a step's operations, recorded so that no layer is called; a place in a cache."""

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx

EAGER_STEPS = 64
"""Steps that are taken before one is recorded, which takes about as long as these."""


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""

    def run(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, arguments))

    return run


def compiled_step(function: Callable[..., Any], model: Callable[[], Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function, by PyTorch's compiler where that is wanted, else recorded when it has been called often."""
    return torch.compile(function, dynamic=False) if wanted is True else _Recorded(function, model)


def put(cache: Any, new: Any, start: Any) -> Any:
    """Returns the cache with what is new from place `start` of axis 1 on, written into it."""
    places = torch.arange(new.shape[1], device=cache.device) + start
    return cache.index_copy_(1, places, new)


class _Recorded:
    """A function of tensors that are always of the same shapes, from some call on the operations of one such call.

    A function that looks at the values of its tensors cannot be recorded, and stays as it is.
    """

    def __init__(self, function: Callable[..., Any], model: Callable[[], Any]) -> None:
        self._function, self._model = function, model
        self._calls = 0
        self._variables: list[Any] = []
        self._operations: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        self._calls += 1
        if self._calls == EAGER_STEPS + 1:
            self._record(arguments)
        if self._operations is None:
            return self._function(*arguments)
        return self._operations([variable.value for variable in self._variables], *arguments)

    def _record(self, arguments: tuple[Any, ...]) -> None:
        self._variables = self._model().variables

        def run(values: list[Any], *arguments: Any) -> Any:
            with keras.StatelessScope(list(zip(self._variables, values, strict=True))):
                return self._function(*arguments)

        values = [variable.value for variable in self._variables]
        try:
            # With tensors that have no values, so that none is taken for a constant.
            self._operations = make_fx(run, tracing_mode="fake")(values, *arguments)
        except Exception:  # whatever a layer raises that needs values
            self._operations = None
