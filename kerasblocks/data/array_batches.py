"""Batches whose order is a pure function of seed and epoch; Keras shuffles with global generators."""

import functools
import operator
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._digest import digest_of


class ArrayBatches(keras.utils.PyDataset):
    """Batches of arrays in an order that `seed` and the epoch decide alone, on every backend.

    Epoch e visits the samples in the order `argsort(r)`, where r are the first raw 64-bit outputs of
    NumPy's PCG64 bit generator seeded with `SeedSequence([seed, e])`; raw outputs are the part of
    NumPy's random numbers that is promised never to change. Every sample is visited once an epoch.

    In `fit` the epoch is the one that `fit` itself counts (`initial_epoch` included), and the order
    is held also under `fit`'s default `shuffle=True`, which would permute the batches with Python's
    global generator. One object serves one `fit` at a time, for it holds that one's epoch; make
    another for another. In a loop of your own, call `batch(epoch, index)`, or set `batches.epoch`.

    Images stay `uint8` in memory: `uint8` inputs of rank 3 or more, `(samples, height, width, ...)`,
    are handed out as `float32` divided by 255. All other inputs, and `y` and `sample_weight`, are
    handed out unchanged.

    Args:
        x: array of shape `(samples, ...)`, or a (nested) dict, list or tuple of such arrays.
        y: targets, likewise; None for none.
        sample_weight: weights, likewise; needs `y`.
        batch_size: samples in a batch.
        shuffle: whether epochs are shuffled; without, every epoch keeps the arrays' order.
            `predict`, whose outputs come in the order of the batches, refuses shuffled ones.
        seed: non-negative integer.
        drop_remainder: whether to leave out the last batch when it is smaller than `batch_size`.

    Attributes:
        epoch: the epoch whose batches `batches[index]` gives; `fit` sets it.

    Raises:
        ValueError: no samples, arrays of unequal lengths, `sample_weight` without `y`,
            `batch_size` < 1, `seed` < 0, or a dropped remainder that leaves no batch.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import ArrayBatches
    >>> batches = ArrayBatches(np.arange(10.0), np.arange(10), batch_size=4, seed=3)
    >>> len(batches)
    3
    >>> x, y = batches.batch(epoch=1, index=2)
    >>> x.shape, np.array_equal(x, y)
    ((2,), True)
    >>> np.array_equal(x, batches.batch(1, 2)[0])
    True
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = False,
    ) -> None:
        super().__init__()
        if sample_weight is not None and y is None:
            raise ValueError("sample_weight needs y: Keras reads a batch as (x, y, sample_weight).")
        self.batch_size = as_integer("batch_size", batch_size, least=1)
        self.seed = as_integer("seed", seed, least=0)
        self.shuffle = bool(shuffle)
        self.drop_remainder = bool(drop_remainder)
        self._arrays = tuple(
            keras.tree.lists_to_tuples(keras.tree.map_structure(functools.partial(_as_array, name), part))
            for name, part in (("x", x), ("y", y), ("sample_weight", sample_weight))
            if part is not None
        )
        if not keras.tree.flatten(self._arrays[:1]) or x is None:
            raise ValueError(f"x must hold at least one array; got {x!r}.")
        lengths = {len(array) for array in keras.tree.flatten(self._arrays)}
        if len(lengths) != 1:
            raise ValueError(f"x, y and sample_weight must have equally many samples; got {sorted(lengths)}.")
        self.num_samples = lengths.pop()
        if self.num_samples == 0:
            raise ValueError("There must be at least one sample; got none.")
        if len(self) == 0:
            raise ValueError(
                f"drop_remainder=True leaves no batch: {self.num_samples} samples are fewer than "
                f"batch_size={self.batch_size}."
            )
        self.epoch = 0

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
            raise ValueError(f"ArrayBatches makes its batches in one worker; got workers={value!r}.")

    @property
    def use_multiprocessing(self) -> bool:
        """Always False, as `workers` is always 1."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            raise ValueError(f"ArrayBatches makes its batches in this process; got use_multiprocessing={value!r}.")

    @property
    def arrays(self) -> tuple[Any, ...]:
        """`(x,)`, `(x, y)` or `(x, y, sample_weight)`, all samples in the order in which they were given."""
        return self._arrays

    def __len__(self) -> int:
        whole, rest = divmod(self.num_samples, self.batch_size)
        return whole + (1 if rest and not self.drop_remainder else 0)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self.batch(self.epoch, index)

    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns batch `index` of epoch `epoch`: a pure function, whatever was asked before.

        Args:
            epoch: non-negative integer.
            index: 0 to `len(self) - 1`; negative ones count from the end.

        Returns:
            `(x,)`, `(x, y)` or `(x, y, sample_weight)`, each nested as it was given, lists as tuples.

        Raises:
            IndexError: there is no such batch in an epoch.
        """
        epoch = as_integer("epoch", epoch, least=0)
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"index must lie in 0..{len(self) - 1}, the batches of an epoch; got {index}.")
        chosen = slice(position * self.batch_size, (position + 1) * self.batch_size)
        rows = _order(self.num_samples, self.seed, epoch)[chosen] if self.shuffle else chosen
        x = keras.tree.map_structure(lambda array: _as_input(array[rows]), self._arrays[0])
        return (x, *(keras.tree.map_structure(lambda array: array[rows].copy(), part) for part in self._arrays[1:]))

    def iterate(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Any, ...]]:
        """Returns an iterator over the batches of one epoch from batch `start` on: a loop can begin anywhere."""
        epoch, start = as_integer("epoch", epoch, least=0), as_integer("start", start, least=0)
        if start > len(self):
            raise ValueError(f"start must lie in 0..{len(self)}, the batches of an epoch; got {start}.")
        return (self.batch(epoch, index) for index in range(start, len(self)))

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the batches are made of: the settings and a SHA-256 of the arrays, which takes a pass over them."""
        names = ("num_samples", "batch_size", "shuffle", "seed", "drop_remainder")
        return {name: getattr(self, name) for name in names} | {"arrays": digest_of(self._arrays)}

    def on_epoch_begin(self) -> None:
        """Called by Keras before every epoch: takes the epoch from the `fit` that runs, and holds the order."""
        caller: FrameType | None = sys._getframe(1)
        try:
            _follow_fit(self, caller)
        finally:
            del caller


def _follow_fit(batches: ArrayBatches, caller: FrameType | None) -> None:
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
            "predict gives its outputs in the order of the batches, and these are shuffled: "
            "make the ArrayBatches with shuffle=False."
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
    "This version of Keras drives a PyDataset in a way that ArrayBatches does not know, so the epoch and the "
    f"order cannot be told (keras {keras.__version__}). Loop over batch(epoch, index) with train_on_batch."
)


@functools.lru_cache(maxsize=8)
def _order(samples: int, seed: int, epoch: int) -> np.ndarray:
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(samples)
    order = np.argsort(bits, kind="stable")
    order.setflags(write=False)
    return order


def _as_array(name: str, value: Any) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(value))
    if array.ndim == 0:
        raise ValueError(f"{name} must have a first axis of samples; got a scalar.")
    if array.dtype.kind in "OUS":
        raise ValueError(f"{name} must hold numbers; got dtype {array.dtype}.")
    return array


def _as_input(batch: np.ndarray) -> np.ndarray:
    if batch.dtype == np.uint8 and batch.ndim >= 3:
        return batch.astype("float32") / np.float32(255)
    return batch.copy()
