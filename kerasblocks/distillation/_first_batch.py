"""The inputs of the first batch of whatever `fit` is given, which then gives it once more."""

import itertools
import types
from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module

_backend = backend_module("kerasblocks.training._step")
_SAMPLES = 32


def first_batch(data: Any) -> tuple[Any, Any]:
    """Returns the inputs of a few samples, None where they cannot be had, and the data to fit."""
    if isinstance(data, types.GeneratorType):
        first = next(data, None)
        if first is None:
            return None, data
        return _few(_inputs(first)), (batch for batch in itertools.chain([first], data))
    if isinstance(data, keras.utils.PyDataset):
        return _few(_inputs(data[0])), data
    if type(data).__module__.startswith("tensorflow") and hasattr(data, "take"):
        return _first(data.take(1)), data
    if hasattr(data, "batch_sampler"):
        with _backend.random_state_kept():  # A loader draws a number for every iterator.
            return _first(data), data
    leaves = keras.tree.flatten(data)
    if leaves and all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        return _few(data), data
    return None, data


def _first(batches: Any) -> Any:
    for batch in batches:
        return _few(_inputs(batch))
    return None


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch


def _few(x: Any) -> Any:
    """Returns tensors of the first samples."""
    if x is None:
        return None

    def few(part: Any) -> Any:
        array = part[:_SAMPLES]
        if hasattr(array, "detach"):
            array = array.detach().cpu().numpy()
        return keras.ops.convert_to_tensor(np.asarray(array))

    return keras.tree.map_structure(few, x)
