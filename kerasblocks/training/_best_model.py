"""Keeps the model of the best epoch so far, written whole; Keras's ModelCheckpoint writes in place."""

from typing import Any

import keras

from kerasblocks.training.run_directory import RunDirectory


class BestModel(keras.callbacks.EarlyStopping):
    """Writes the run's `best.keras`; its patience has no end, so that it only tells which epoch is the best."""

    only_writes = True

    def __init__(self, run: RunDirectory, monitor: str) -> None:
        super().__init__(monitor, patience=2**62)
        self.run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the model if the epoch is the best so far."""
        names = list(logs or {})
        if self.monitor not in names:
            raise ValueError(f"best={self.monitor!r} is no log entry of an epoch; there are {', '.join(names)}.")
        super().on_epoch_end(epoch, logs)
        if self.best_epoch == epoch:
            with self.run.writing("best.keras") as path:
                self.model.save(path)
