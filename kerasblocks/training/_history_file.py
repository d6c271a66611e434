"""A run's history on disk after every epoch, whole at any moment; Keras's CSVLogger writes in place."""

import csv
from typing import Any

import keras

from kerasblocks.training.data_parallel import current_replicas
from kerasblocks.training.run_directory import RunDirectory


class HistoryFile(keras.callbacks.Callback):
    """Writes the logs of all epochs so far to the run's `history.csv`."""

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
        if not current_replicas().is_first:
            return
        columns = dict.fromkeys(name for row in self._rows for name in row)
        with self.run.writing("history.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows."""
        return {"rows": list(self._rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the rows that `state_dict` has returned."""
        self._rows = list(state["rows"])
