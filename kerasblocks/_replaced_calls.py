"""Calls of layers and operations, seen or changed from outside for a while; Keras has no hooks."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Call = Callable[..., Any]


@contextlib.contextmanager
def calls_replaced(operations: Sequence[Any], replaced_by: Callable[[Any, Call], Call]) -> Iterator[None]:
    """Puts `replaced_by(operation, call)` in the place of every operation's `call`, on the instances, for a while."""
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for operation in operations:
            attributes = operation.__dict__
            for name in ("call", "quantized_call"):
                if hasattr(operation, name):
                    replaced.append((attributes, name, attributes.get(name)))
                    attributes[name] = replaced_by(operation, getattr(operation, name))
        yield
    finally:
        for attributes, name, before in reversed(replaced):
            if before is None:
                attributes.pop(name)
            else:
                attributes[name] = before
