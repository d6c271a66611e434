"""Functions of tensors and a model's variables on PyTorch: as they are, or a step of theirs compiled where wanted."""

from collections.abc import Callable
from typing import Any

import keras
import torch


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays."""

    def run(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, arguments))

    return run


def compiled_step(function: Callable[..., Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function, compiled where that is wanted."""
    return torch.compile(function, dynamic=False) if wanted is True else function
