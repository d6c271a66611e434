"""A few functions over the last axis, on PyTorch its own: Keras's wrappers cost more there than small tensors do."""

from typing import Any

import keras


class _OfKeras:
    """Functions of `keras.ops`."""

    abs, clip, exp, expm1, log1p, sinh, tanh, where = (
        staticmethod(getattr(keras.ops, name))
        for name in ("abs", "clip", "exp", "expm1", "log1p", "sinh", "tanh", "where")
    )
    log_softmax = staticmethod(keras.ops.log_softmax)

    @staticmethod
    def sum(x: Any) -> Any:
        return keras.ops.sum(x, axis=-1, keepdims=True)


def plain(*tensors: Any) -> Any:
    """Returns the functions that compute on these tensors.

    `abs`, `clip`, `exp`, `expm1`, `log1p`, `sinh`, `tanh` and `where`, and over the last axis `log_softmax`, and
    `sum`, which keeps it.
    """
    return _OfKeras if any(isinstance(tensor, keras.KerasTensor) for tensor in tensors) else _own


def _of_backend() -> Any:
    if keras.backend.backend() != "torch":
        return _OfKeras
    from kerasblocks.ops import _plain_torch

    return _plain_torch


_own = _of_backend()
