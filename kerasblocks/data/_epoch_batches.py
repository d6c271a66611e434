"""Batches that are a pure function of epoch and index, whoever asks for them; Keras tells a PyDataset no epoch."""

import abc
import functools
import operator
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer


class EpochBatches(keras.utils.PyDataset, abc.ABC):
    """Base of the batches here: `batch(epoch, index)`, and a `fit` that counts the epochs for it.

    Attributes:
        shuffle: whether the order is not that of the data, so that `predict` refuses the batches.
        epoch: the epoch whose batches `batches[index]` gives; `fit` sets it.
    """

    shuffle: bool
    in_order = "make the ArrayBatches with shuffle=False"  # what gives the samples in order

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""

    @abc.abstractmethod
    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns batch `index` of epoch `epoch`: a pure function, whatever was asked before."""

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = as_integer("epoch", value, least=0)

    @property
    def workers(self) -> int:
        """Always 1: several workers would fetch batches behind the epoch's back."""
        return 1

    @workers.setter
    def workers(self, value: int) -> None:
        if value != 1:
            raise ValueError(f"{type(self).__name__} makes its batches in one worker; got workers={value!r}.")

    @property
    def use_multiprocessing(self) -> bool:
        """Always False, as `workers` is always 1."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            raise ValueError(
                f"{type(self).__name__} makes its batches in this process; got use_multiprocessing={value!r}."
            )

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.batch(self.epoch, index)

    def iterate(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Returns an iterator over the batches of one epoch from batch `start` on: a loop can begin anywhere."""
        epoch, start = as_integer("epoch", epoch, least=0), as_integer("start", start, least=0)
        if start > len(self):
            raise ValueError(f"start must lie in 0..{len(self)}, the batches of an epoch; got {start}.")
        return (self.batch(epoch, index) for index in range(start, len(self)))

    def _place(self, index: int) -> int:
        """Returns the place of a batch in its epoch; raises `IndexError` if there is none."""
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"index must lie in 0..{len(self) - 1}, the batches of an epoch; got {index}.")
        return position

    def on_epoch_begin(self) -> None:
        """Called by Keras before every epoch: takes the epoch from the `fit` that runs, and holds the order."""
        caller: FrameType | None = sys._getframe(1)
        try:
            _follow_fit(self, caller)
        finally:
            del caller


@functools.lru_cache(maxsize=8)
def order_of_epoch(samples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the places of the samples in the order in which an epoch visits them."""
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(samples)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)
    return order


def _follow_fit(batches: EpochBatches, caller: FrameType | None) -> None:
    """Tells `batches` the epoch that `fit` counts and keeps Keras's adapter from permuting the batches.

    Keras tells a PyDataset neither: the adapter calls `on_epoch_begin()` without arguments, once more on some
    backends than on others. The caller is `PyDatasetAdapter.on_epoch_begin`, above it stands
    `EpochIterator._enumerate_iterator` and the `fit`, `evaluate` or `predict` that owns the iterator; the
    adapter makes its order after this call.
    """
    while caller is not None and caller.f_locals.get("self") is batches:
        caller = caller.f_back  # A subclass that has its own `on_epoch_begin`.
    adapter = caller.f_locals.get("self") if caller is not None else None
    if getattr(adapter, "py_dataset", None) is not batches:
        return  # Called by a loop of the user's own, who sets `epoch`.
    if adapter is None or not hasattr(adapter, "shuffle"):
        raise RuntimeError(_UNKNOWN_KERAS)
    adapter.shuffle = False
    frame = caller
    while frame is not None and not (
        frame.f_code.co_name in ("fit", "evaluate", "predict") and "epoch_iterator" in frame.f_locals
    ):
        frame = frame.f_back
    if frame is None:
        if batches.shuffle:
            raise RuntimeError(_UNKNOWN_KERAS)
        return
    variables = frame.f_locals
    if frame.f_code.co_name == "predict" and batches.shuffle:
        raise ValueError(
            f"predict gives its outputs in the order of the batches, and these are shuffled: {batches.in_order}."
        )
    if frame.f_code.co_name != "fit":
        return  # Evaluation keeps the epoch.
    if not {"epoch", "epochs", "initial_epoch"} <= {*frame.f_code.co_varnames, *frame.f_code.co_cellvars}:
        raise RuntimeError(_UNKNOWN_KERAS)
    if "epoch" not in variables:
        return  # Before the first epoch Keras takes one batch to build the model.
    steps = variables["epoch_iterator"].steps_per_epoch
    if steps not in (None, len(batches)) and variables["epochs"] - variables["initial_epoch"] > 1:
        raise ValueError(
            f"steps_per_epoch={steps} cuts epochs apart that have {len(batches)} batches: leave it out, "
            "give fewer samples, or fit one epoch."
        )
    batches.epoch = variables["epoch"]


_UNKNOWN_KERAS = (
    "This version of Keras drives a PyDataset in a way that kerasblocks does not know, so the epoch and the "
    f"order cannot be told (keras {keras.__version__}). Loop over batch(epoch, index) with train_on_batch."
)
