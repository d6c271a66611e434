"""What attention has read before, at hand while a model reads on: keys and values, found by the order of the calls."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

from kerasblocks._backend_module import backend_module
from kerasblocks.ops.causal_attention import mask_of

_backend = backend_module("kerasblocks.ops._decoding")
_now = threading.local()


class Decoding:
    """Keys and values of one pass of a model over tokens, and of the passes before.

    Args:
        start: place of the first token of this pass, an integer or a scalar tensor.
        key_mask: tensor of shape `(batch, places)`, True where there is a token that may be seen.
        caches: keys and values, `(batch, places, key-value heads, features)`, of each call of attention; None in the
            first pass, from whose tokens they are made.

    Attributes:
        caches: with those of this pass.
    """

    def __init__(self, start: Any, key_mask: Any, caches: list[tuple[Any, Any]] | None = None) -> None:
        self.caches: list[tuple[Any, Any]] = []
        self._start, self._key_mask, self._before = start, key_mask, caches
        self._masks: dict[Any, Any] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator["Decoding"]:
        """Within, calls of attention in this thread read and write here."""
        before, _now.decoding = current(), self
        try:
            yield self
        finally:
            _now.decoding = before

    def extended(self, key: Any, value: Any) -> tuple[Any, Any]:
        """Returns the keys and values of all places for the next call of attention, given those of this pass."""
        if self._before is not None:
            kept = self._before[len(self.caches)]
            key, value = (
                _backend.put(old, keras.ops.cast(new, old.dtype), self._start)
                for old, new in zip(kept, (key, value), strict=True)
            )
        self.caches.append((key, value))
        return key, value

    def positions(self, length: Any) -> Any:
        """Returns the places of the tokens of this pass."""
        return keras.ops.arange(length, dtype="int32") + keras.ops.cast(self._start, "int32")

    def mask(self, query: Any, key: Any, window: int | None) -> Any:
        """Returns which keys each query sees; it is made once for all calls of attention of a pass."""
        kind = query.shape[1], key.shape[1], window
        if kind not in self._masks:
            self._masks[kind] = mask_of(query, key, self._start, self._key_mask, None, window)
        return self._masks[kind]


def current() -> Decoding | None:
    """Returns the pass that is active in this thread."""
    return getattr(_now, "decoding", None)
