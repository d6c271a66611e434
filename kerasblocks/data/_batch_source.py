"""Batches of whatever `fit` takes, as NumPy arrays and from the start as often as asked."""

import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer

Batch = tuple[Any, Any, Any]
_BYTES = 2**30  # of samples that are held at once


class BatchSource:
    """Batches `(x, y, sample_weight)`, parts of which that are missing are None.

    Args:
        x: arrays (also nested in dicts, lists and tuples), or batches: a `PyDataset`, a `tf.data.Dataset`, a
            `DataLoader`, any object that can be iterated again and again, or a function without arguments that
            returns an iterator.
        y: labels, where x is arrays.
        sample_weight: weights, where x is arrays.
        batch_size: samples in a batch, where x is arrays.
        seed: of the order of arrays.

    Attributes:
        are_arrays: whether x is arrays.
        arrays: these, `(x, y, sample_weight)`.

    Raises:
        ValueError: an iterator that can be run through once only, labels beside batches, or arrays of unequal lengths.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self._batch_size = as_integer("batch_size", batch_size, least=1)
        self._seed = as_integer("seed", seed, least=0)
        self._iterate = _iteration_of(x)
        self.are_arrays = self._iterate is None
        if not self.are_arrays:
            if y is not None or sample_weight is not None:
                raise ValueError(
                    f"y and sample_weight must be part of the batches where x is a {type(x).__name__}; leave them out."
                )
            return
        self.arrays: Batch = tuple(  # type: ignore[assignment]
            None if part is None else keras.tree.map_structure(as_array, part) for part in (x, y, sample_weight)
        )
        lengths = {leaf.shape[:1] for leaf in keras.tree.flatten(self.arrays) if leaf is not None}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(f"x, y and sample_weight must be arrays with equally many samples; got {sorted(lengths)}.")
        if lengths == {(0,)}:
            raise ValueError("There must be at least one sample; got none.")

    def epoch(self, number: int) -> Iterator[Batch]:
        """Returns the batches of one epoch, of which arrays have each its own order."""
        if self._iterate is None:
            return self._of_arrays(number)
        return (_as_batch(each) for each in self._iterate())

    def batches(self) -> Iterator[Batch]:
        """Returns the batches of one epoch after another, without end."""
        number = 0
        while True:
            empty = True
            for batch in self.epoch(number):
                empty = False
                yield batch
            if empty:
                raise ValueError("There must be at least one batch; got none.")
            number += 1

    def samples(self, most: int, *, seconds: float = math.inf) -> Batch:
        """Returns samples, at most so many, joined: those of `places`.

        Arrays of several batches that differ in length, as padded texts do, are padded with zeros at their ends.

        Args:
            most: how many, at most; fewer where they would take more than a gigabyte.
            seconds: after which no further batch is read.
        """
        if self._iterate is None:
            return _rows_of(self.arrays, self.places(most))
        found: list[Batch] = []
        count, begin = 0, time.monotonic()
        for batch in self.epoch(0):
            found.append(batch)
            count += len(keras.tree.flatten(batch)[0])
            if count >= min(most, _fitting(batch)) or time.monotonic() - begin > seconds:
                break
        if not found:
            raise ValueError("There must be at least one batch; got none.")
        joined: Batch = keras.tree.map_structure(
            lambda *leaves: None if leaves[0] is None else _joined(leaves)[:most], *found
        )
        return joined

    def places(self, most: int) -> np.ndarray:
        """Returns the numbers of the samples that `samples` gives: of arrays a random choice, else the first ones."""
        if self._iterate is not None:
            return np.arange(most)
        count, most = self.count(), min(most, _fitting(self.arrays))
        if count <= most:
            return np.arange(count)
        chosen: np.ndarray = np.sort(np.random.default_rng(self._seed).permutation(count)[:most])
        return chosen

    def parts(self, rows: int) -> Iterator[Batch]:
        """Returns all samples of arrays, in their order and in parts of so many."""
        for start in range(0, self.count(), rows):
            yield _rows_of(self.arrays, slice(start, start + rows))

    def count(self) -> int:
        """Returns how many samples the arrays have."""
        return int(next(len(leaf) for leaf in keras.tree.flatten(self.arrays) if leaf is not None))

    def _of_arrays(self, number: int) -> Iterator[Batch]:
        count = self.count()
        order = np.argsort(np.random.default_rng([self._seed, number]).random(count), kind="stable")
        for start in range(0, count, self._batch_size):
            yield _rows_of(self.arrays, order[start : start + self._batch_size])


def validation_source(data: Any, *, seed: int = 0) -> BatchSource:
    """Returns the source of `validation_data` as `fit` takes them: `(x, y)`, `(x, y, sample_weight)`, or batches."""
    given = tuple(data) if isinstance(data, tuple | list) else (data,)
    if not 1 <= len(given) <= 3:
        raise ValueError(f"validation_data must be (x, y), (x, y, sample_weight) or batches; got {len(given)} parts.")
    return BatchSource(*given, seed=seed)


def _fitting(batch: Batch) -> int:
    """Returns how many samples like these take no more than a gigabyte."""
    leaves = [leaf for leaf in keras.tree.flatten(batch) if leaf is not None]
    size = sum(int(leaf.nbytes) // max(1, len(leaf)) for leaf in leaves)
    return max(1, _BYTES // max(1, size))


def _joined(leaves: Sequence[np.ndarray]) -> np.ndarray:
    """Returns arrays as one; shorter ones get zeros at their ends."""
    shapes = {leaf.shape[1:] for leaf in leaves}
    if len(shapes) > 1 and len({len(shape) for shape in shapes}) == 1 and leaves[0].dtype.kind in "biuf":
        largest = np.max([*shapes], axis=0)
        leaves = [
            np.pad(leaf, [(0, 0), *((0, int(most - size)) for most, size in zip(largest, leaf.shape[1:], strict=True))])
            for leaf in leaves
        ]
    return np.concatenate(leaves)


def _rows_of(arrays: Batch, chosen: np.ndarray | slice) -> Batch:
    rows: Batch = keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[chosen], arrays)
    return rows


def as_array(data: Any) -> np.ndarray:
    """Returns an array or a tensor of any backend as NumPy's."""
    if isinstance(data, np.ndarray):
        return data
    if hasattr(data, "detach"):  # PyTorch's, which may lie on a device or belong to a graph
        data = data.detach().cpu()
        if "bfloat16" in str(data.dtype):  # which NumPy does not know
            data = data.float()
        return np.asarray(data.numpy())
    if hasattr(data, "to_numpy"):  # pandas
        return np.asarray(data.to_numpy())
    return np.asarray(data)


def _iteration_of(x: Any) -> Callable[[], Iterator[Any]] | None:
    """Returns what begins an iteration over batches, None for arrays."""
    if isinstance(x, keras.utils.PyDataset):
        return lambda: (x[index] for index in range(_length(x)))
    if inspect.isgenerator(x) or (hasattr(x, "__next__") and hasattr(x, "__iter__")):
        raise ValueError(
            "A generator or iterator can be run through once only: pass a function that makes one, as in "
            "lambda: my_generator()."
        )
    if callable(x) and not hasattr(x, "shape") and not hasattr(x, "__iter__"):
        return lambda: iter(x())
    if hasattr(x, "__array__") or hasattr(x, "shape") or isinstance(x, list | tuple | dict) or np.isscalar(x):
        return None
    if hasattr(x, "__iter__"):
        return lambda: iter(x)
    raise ValueError(f"x must be arrays, batches, or a function that returns an iterator over batches; got {x!r}.")


def _length(dataset: Any) -> int:
    count = dataset.num_batches
    if count is None:
        raise ValueError("A PyDataset without an end cannot be looked at; give it a length.")
    return int(count)


def _as_batch(batch: Any) -> Batch:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
    return tuple(None if part is None else keras.tree.map_structure(as_array, part) for part in (x, y, sample_weight))  # type: ignore[return-value]
