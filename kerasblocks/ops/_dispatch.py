"""The one place where an operation goes to its reference path in `keras.ops` or to the backend's faster one."""

from collections.abc import Callable
from typing import Any

import keras

from kerasblocks._backend_module import backend_module
from kerasblocks.ops.fast_paths import fast_paths_enabled


def with_fast_path(operation: str, reference: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes `operation` by the function of this name in the backend's own module.

    It takes the reference path, with the same arguments, where faster paths are off, for symbols, and where the
    faster path returns None.

    Raises:
        ImportError: a backend for which there are no such modules.
    """
    module = backend_module(f"kerasblocks.ops._{operation}")

    def compute(*arguments: Any) -> Any:
        if fast_paths_enabled() and not any(isinstance(argument, keras.KerasTensor) for argument in arguments):
            result = getattr(module, operation)(*arguments)
            if result is not None:
                return result
        return reference(*arguments)

    return compute
