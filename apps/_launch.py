"""Starting an app: Keras's backend is chosen before Keras is imported, and bad input ends in one clear line.

All else that apps share lives in the library; this cannot, for importing the library imports Keras,
and Keras takes its backend once and for all when it is imported.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Literal

Backend = Literal["jax", "tensorflow", "torch"]
_BACKENDS: tuple[Backend, ...] = ("jax", "tensorflow", "torch")


def choose_backend(requested: Backend | None) -> Backend:
    """Sets `KERAS_BACKEND` and returns it: `requested`, else what it is set to, else the first one installed.

    Ends the program with a message that says what to install when there is none to choose.

    Raises:
        RuntimeError: Keras has been imported with another backend, which it keeps.
    """
    wanted = requested or os.environ.get("KERAS_BACKEND") or None
    if wanted is None:
        installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
        if not installed:
            sys.exit("error: no backend is installed. Install one with: pip install jax (or tensorflow, or torch)")
        wanted = installed[0]
        print(f"Backend: {wanted} (the first one installed; --backend or KERAS_BACKEND chooses another)")
    chosen = next((name for name in _BACKENDS if name == wanted), None)
    if chosen is None:
        sys.exit(f"error: the backend must be one of {', '.join(_BACKENDS)}; KERAS_BACKEND is {wanted!r}.")
    if importlib.util.find_spec(chosen) is None:
        sys.exit(f"error: the backend {chosen} is not installed. Install it with: pip install {chosen}")
    if "keras" in sys.modules and (before := sys.modules["keras"].config.backend()) != chosen:
        raise RuntimeError(f"Keras has been imported with the backend {before}; choose {chosen} before that.")
    os.environ["KERAS_BACKEND"] = chosen
    return chosen


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Ends the program with the message of an error that the user's input has caused, without a traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}. The apps need: pip install '.[apps]'")
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
