"""Layers whose calls are seen from outside, and calls that leave no trace; Keras has neither for subclassed models."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from kerasblocks._backend_module import backend_module
from kerasblocks._replaced_calls import Call, calls_replaced

_backend = backend_module("kerasblocks.training._step")


class LayerOutputs:
    """What some layers of a model return while it is called; of a layer that is called several times, the last.

    Args:
        layers: the layers, by the names under which their outputs are given.
    """

    def __init__(self, layers: dict[str, Any]) -> None:
        self._layers = layers
        self._lock = threading.Lock()
        self._found = threading.local()  # TensorFlow runs its replicas in threads, which may take turns in one call.
        self._users = 0
        self._watching = contextlib.ExitStack()

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, Any]]:
        """Gives a dict that is filled by the calls inside."""
        if not self._layers:
            yield {}
            return
        with self._lock:
            if not self._users:
                self._watching.enter_context(calls_replaced([*self._layers.values()], self._noting))
            self._users += 1
        before = getattr(self._found, "outputs", None)
        self._found.outputs = outputs = dict[int, Any]()
        named: dict[str, Any] = {}
        try:
            yield named
            named.update({name: outputs[id(each)] for name, each in self._layers.items() if id(each) in outputs})
        finally:
            self._found.outputs = before
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._watching.close()

    def _noting(self, layer: Any, original: Call) -> Call:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            found = getattr(self._found, "outputs", None)
            if found is not None:
                found[id(layer)] = outputs
            return outputs

        return call


@contextlib.contextmanager
def without_trace(variables: Sequence[Any]) -> Iterator[None]:
    """Within, no gradients are prepared for, and what is assigned to the variables is forgotten in the end."""
    # The scope inside hides those outside, in which JAX has the variables' values.
    values = [(variable, variable.value) for variable in variables]
    with _backend.without_gradients(), keras.StatelessScope(values):
        yield
