"""Event files for TensorBoard on every backend; Keras's own callback imports TensorFlow."""

import os
import time
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np


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

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar
        except ImportError as error:
            raise ImportError(
                "TensorBoardScalars needs tensorboardX. Install it with: pip install tensorboardX"
            ) from error
        self.log_dir = Path(log_dir).absolute()
        # Not tensorboardX.SummaryWriter: its thread may hold events back after flush(), and two writers made in
        # one second share a file name.
        self._events_writer, self._event, self._scalar = EventsWriter, Event, scalar
        self._writers: dict[str, Any] = {}
        weakref.finalize(self, _close, self._writers)  # When fit raises, Keras never calls on_train_end.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Closes what a fit that raised has left open, and makes the folder before any work is done."""
        _close(self._writers)
        self.log_dir.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes and flushes one point a log entry."""
        for name, value in (logs or {}).items():
            number = np.asarray(value)
            if number.size != 1 or number.dtype.kind not in "biuf":
                raise ValueError(f"TensorBoardScalars writes single numbers; the log entry {name!r} is {value!r}.")
            summary = self._scalar(f"epoch_{name.removeprefix('val_')}", float(number.item()))
            event = self._event(wall_time=time.time(), step=epoch, summary=summary)
            self._writer("validation" if name.startswith("val_") else "train").write_event(event)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the files."""
        _close(self._writers)

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            path = self.log_dir / folder
            path.mkdir(parents=True, exist_ok=True)
            self._writers[folder] = self._events_writer(str(path / "events"), f".{os.getpid()}.{time.time_ns()}")
        return self._writers[folder]


def _close(writers: dict[str, Any]) -> None:
    for writer in writers.values():
        writer.close()
    writers.clear()
