"""Batches of single steps for `fit`, which begins its running means anew at every epoch: one step an epoch."""

from collections.abc import Iterator
from typing import Any

import keras

KEPT = 8  # batches that Keras may have asked for ahead


class StepBatches(keras.utils.PyDataset):
    """The next batches of an iterator, made as they are asked for.

    To be fitted with `steps_per_epoch=1` and `shuffle=False`, so that one iterator of Keras serves all epochs.
    """

    def __init__(self, batches: Iterator[Any], steps: int) -> None:
        super().__init__()
        self._batches, self._made, self._steps = batches, 0, steps
        self._newest: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._steps + KEPT

    def __getitem__(self, index: int) -> Any:
        while self._made <= index:  # Keras asks for the first one several times.
            batch = tuple(part for part in next(self._batches) if part is not None)
            self._newest = {at: each for at, each in self._newest.items() if at > self._made - KEPT}
            self._newest[self._made] = batch
            self._made += 1
        return self._newest[index]
