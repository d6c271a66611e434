"""The one switch between the reference paths in `keras.ops` and the faster ones of each backend."""

import contextlib
import contextvars
import os
from collections.abc import Iterator

from kerasblocks._arguments import as_flag

_VALUES = {"1": True, "0": False}
_VARIABLE = "KERASBLOCKS_FAST_PATHS"


def _from_environment() -> bool:
    value = os.environ.get(_VARIABLE, "1")
    if value not in _VALUES:
        raise ValueError(f"{_VARIABLE} must be 1 (on, the default) or 0 (off); got {value!r}.")
    return _VALUES[value]


_default = _from_environment()
_override: contextvars.ContextVar[bool | None] = contextvars.ContextVar("kerasblocks_fast_paths", default=None)


def fast_paths_enabled() -> bool:
    """Tells whether the faster paths of the backend in use may be taken.

    True unless the environment variable `KERASBLOCKS_FAST_PATHS` was `0` when the library was imported, or
    `use_fast_paths(False)` is in force. A function that has been compiled keeps the path with which it was
    traced.
    """
    override = _override.get()
    return _default if override is None else override


@contextlib.contextmanager
def use_fast_paths(enabled: bool) -> Iterator[None]:
    """Turns the faster paths on or off inside a `with` block; both give the same numbers up to rounding.

    A function that has been compiled keeps the path with which it was traced, so the block has to hold the
    first call of a train step or `jit`-compiled function.

    Args:
        enabled: whether the faster paths may be taken.

    Raises:
        ValueError: an `enabled` that is neither True nor False.

    Example:

    >>> import keras
    >>> from kerasblocks.ops import fast_paths_enabled, use_fast_paths
    >>> with use_fast_paths(False):
    ...     fast_paths_enabled()
    False
    """
    token = _override.set(as_flag("enabled", enabled))
    try:
        yield
    finally:
        _override.reset(token)
