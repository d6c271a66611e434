"""Batches whose order is a pure function of seed and epoch; Keras shuffles with global generators."""

import functools
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._digest import digest_of
from kerasblocks.data._epoch_batches import EpochBatches, order_of_epoch


class ArrayBatches(EpochBatches):
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

    @property
    def arrays(self) -> tuple[Any, ...]:
        """`(x,)`, `(x, y)` or `(x, y, sample_weight)`, all samples in the order in which they were given."""
        return self._arrays

    def __len__(self) -> int:
        whole, rest = divmod(self.num_samples, self.batch_size)
        return whole + (1 if rest and not self.drop_remainder else 0)

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
        position = self._place(index)
        chosen = slice(position * self.batch_size, (position + 1) * self.batch_size)
        rows = order_of_epoch(self.num_samples, self.seed, epoch)[chosen] if self.shuffle else chosen
        x = keras.tree.map_structure(lambda array: _as_input(array[rows]), self._arrays[0])
        return (x, *(keras.tree.map_structure(lambda array: array[rows].copy(), part) for part in self._arrays[1:]))

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the batches are made of: the settings and a SHA-256 of the arrays, which takes a pass over them."""
        names = ("num_samples", "batch_size", "shuffle", "seed", "drop_remainder")
        return {name: getattr(self, name) for name in names} | {"arrays": digest_of(self._arrays)}


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
