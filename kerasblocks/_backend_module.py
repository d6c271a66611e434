"""The one place that knows the backends there are, and loads what is written for the one in use."""

import importlib
import importlib.util
from types import ModuleType

_BACKENDS = ("jax", "tensorflow", "torch")

try:
    import keras
except ModuleNotFoundError as error:  # Keras takes TensorFlow unless told otherwise.
    if error.name not in _BACKENDS:
        raise
    found = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    what_to_do = f"set KERAS_BACKEND to {' or '.join(found)}" if found else f"install one of {', '.join(_BACKENDS)}"
    raise ImportError(f"Keras's backend is {error.name}, which is not installed: {what_to_do}.") from error


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
