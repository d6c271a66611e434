"""Batches that an epoch may begin in the middle of; Keras begins every epoch with its first."""

import sys
from types import FrameType
from typing import Any

import keras
import numpy as np

from kerasblocks.data._digest import digest_of
from kerasblocks.training.data_parallel import Replicas

_WRAP = (
    "Wrap arrays as kerasblocks.data.ArrayBatches(x, y, batch_size=32, seed=0), or write a class with "
    "batch(epoch, index) and __len__."
)


def checked_batches(batches: Any) -> Any:
    """Returns `batches` if they can be resumed exactly.

    Raises:
        TypeError: they cannot; the message says what to do.
    """
    if callable(getattr(batches, "batch", None)) and hasattr(batches, "__len__"):
        module = type(batches).__module__.partition(".")[0]
        if module not in ("tensorflow", "torch"):
            if len(batches) < 1:
                raise ValueError(f"There must be at least one batch in an epoch; {batches!r} has none.")
            if digest_of(batches.batch(0, 0)) != digest_of(batches.batch(0, 0)):
                raise TypeError(f"batch(0, 0) of {type(batches).__qualname__} is another batch the second time.")
            return batches
    kind = f"{type(batches).__module__}.{type(batches).__qualname__}"
    raise TypeError(
        f"A run needs batches that it can ask for by epoch and index, so as to begin anywhere; {kind} cannot be "
        f"resumed exactly. {_WRAP}"
    )


def checked_shares(batches: Any, count: int) -> None:
    """Refuses batches with fewer samples than there are devices.

    Raises:
        ValueError: there is one, with what to do about it.
    """
    least = min(len(keras.tree.flatten(batches.batch(0, index))[0]) for index in {0, len(batches) - 1})
    if least < count:
        raise ValueError(
            f"A batch has {least} samples, too few for {count} devices: take larger batches, or leave the last one "
            "out (drop_remainder=True)."
        )


class ResumableBatches(keras.utils.PyDataset):
    """The batches of one epoch from a place on, or the part of one process in them.

    Attributes:
        epoch: the epoch whose batches come.
        start: the first batch that comes.
    """

    def __init__(self, batches: Any, replicas: Replicas) -> None:
        super().__init__()
        self._batches, self._replicas = batches, replicas
        self.epoch = self.start = 0

    @property
    def num_batches(self) -> int:
        return len(self._batches) - self.start

    def __getitem__(self, index: int) -> Any:
        batch = self._batches.batch(self.epoch, self.start + index)
        if self._replicas.processes == 1:
            return batch
        return keras.tree.map_structure(self._share, batch)

    def _share(self, part: Any) -> Any:
        return None if part is None else np.array_split(part, self._replicas.processes)[self._replicas.process]

    def on_epoch_begin(self) -> None:
        """Tells Keras's iterator, which has counted the batches when the fit began, how many come in this epoch."""
        frame: FrameType | None = sys._getframe(1)
        try:
            while frame is not None and not hasattr(frame.f_locals.get("self"), "_num_batches"):
                frame = frame.f_back
            if frame is None:
                raise RuntimeError(f"This version of Keras counts batches in another way (keras {keras.__version__}).")
            frame.f_locals["self"]._num_batches = self.num_batches
        finally:
            del frame
