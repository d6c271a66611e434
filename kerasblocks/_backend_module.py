"""The one place that knows the backends there are, and loads what is written for the one in use."""

import importlib
from types import ModuleType

import keras

_BACKENDS = ("jax", "tensorflow", "torch")


def backend_module(name: str) -> ModuleType:
    """Returns the module of this name with the backend's behind it, `PACKAGE._NAME_BACKEND`.

    Raises:
        ImportError: a backend for which there is none.
    """
    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise ImportError(
            f"kerasblocks runs on the backends {', '.join(_BACKENDS)}; got {backend!r}. "
            "Set KERAS_BACKEND to one of them."
        )
    return importlib.import_module(f"{name}_{backend}")
