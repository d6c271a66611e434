"""A run's history on disk after every epoch, whole at any moment; Keras's CSVLogger writes in place."""

import csv
from typing import Any

import keras

from kerasblocks.training import RunDirectory


class RunHistory(keras.callbacks.Callback):
    """Writes the logs of all epochs so far to the run's `history.csv`, one row an epoch, from 0.

    Unless the logs have a `learning_rate`, the optimizer's at the end of the epoch joins them, so that `History` and
    the callbacks that stand behind this one in the list have it too. The file is written anew to a temporary name and
    renamed every epoch.

    Args:
        run: the started run directory.

    Example:

    >>> import tempfile
    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import RunHistory
    >>> from kerasblocks.training import RunDirectory
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = RunDirectory(folder)
    ...     run.start({})
    ...     _ = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[RunHistory(run)])
    ...     (run.path / "history.csv").read_text().splitlines()[0]
    'epoch,loss,learning_rate'
    """

    async_safe = True  # Nothing is done per batch.

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run = run
        self._rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins a new history."""
        self._rows = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds a row and writes the file."""
        logs = {} if logs is None else logs
        if "learning_rate" not in logs:
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._rows.append({"epoch": epoch, **logs})
        columns = dict.fromkeys(name for row in self._rows for name in row)
        with self.run.writing("history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
