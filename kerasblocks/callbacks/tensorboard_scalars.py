"""Event files for TensorBoard on every backend; Keras's own callback imports TensorFlow."""

import os
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks.callbacks._event_file import EventFile


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the logs of every epoch as TensorBoard scalars, without TensorFlow.

    Tags and folders are those of `keras.callbacks.TensorBoard`: `epoch_NAME` under `train`, and what
    Keras calls `val_NAME` as `epoch_NAME` under `validation`, so that the two lie in one chart. The
    step is the epoch, counted from 0. Files are flushed after every epoch.

    Args:
        log_dir: the folder to write to.

    Raises:
        ImportError: tensorboardX is not installed.
        OSError: the folder cannot be made (when training begins).
        ValueError: a log entry is not a single number.

    Example:

    >>> import os, tempfile
    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import TensorBoardScalars
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[TensorBoardScalars(folder)])
    ...     os.listdir(folder)
    ['train']
    """

    async_safe = True  # Nothing is done per batch.
    only_writes = True

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.log_dir = Path(log_dir).absolute()
        self._files = {part: EventFile(self.log_dir / part, "TensorBoardScalars") for part in ("train", "validation")}
        weakref.finalize(self, _close, self._files)  # When fit raises, Keras never calls on_train_end.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Closes what a fit that raised has left open, and makes the folder before any work is done."""
        _close(self._files)
        self.log_dir.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes and flushes one point a log entry."""
        for name, value in (logs or {}).items():
            number = np.asarray(value)
            if number.size != 1 or number.dtype.kind not in "biuf":
                raise ValueError(f"TensorBoardScalars writes single numbers; the log entry {name!r} is {value!r}.")
            file = self._files["validation" if name.startswith("val_") else "train"]
            file.add(f"epoch_{name.removeprefix('val_')}", float(number.item()), epoch)
        for file in self._files.values():
            file.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the files."""
        _close(self._files)


def _close(files: dict[str, EventFile]) -> None:
    for file in files.values():
        file.close()
