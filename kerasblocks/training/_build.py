"""Makes a model's variables before its first step, as that step would make them."""

import contextlib
from collections.abc import Iterator
from typing import Any


def build(model: Any, batch: Any) -> None:
    """Makes the variables of the model, its optimizer and its metrics, whichever are missing."""
    try:
        model._symbolic_build(data_batch=batch)
    except Exception:  # A model that runs eagerly only, of which the metrics alone may be left to the step.
        if not model.built:
            raise
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)


@contextlib.contextmanager
def as_built(model: Any) -> Iterator[None]:
    """Keeps Keras from building the model again under a TensorFlow strategy; it would need equal shares of a batch."""
    model.__dict__["_maybe_symbolic_build"] = lambda **_: None
    try:
        yield
    finally:
        del model.__dict__["_maybe_symbolic_build"]
