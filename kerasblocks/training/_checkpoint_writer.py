"""Checkpoints written beside the training, one at a time, by a thread that lets the steps go first."""

import concurrent.futures
import contextlib
import os
import sys
import threading
from typing import Any

import numpy as np

from kerasblocks.training._checkpoint_files import CheckpointFolder


class CheckpointWriter:
    """Writes one checkpoint at a time beside the training."""

    def __init__(self, checkpoints: CheckpointFolder) -> None:
        self._checkpoints = checkpoints
        self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=_step_back)
        self._writing: concurrent.futures.Future[None] | None = None
        self._step = 0

    def is_busy(self) -> bool:
        """Returns whether a checkpoint is being written."""
        return self._writing is not None and not self._writing.done()

    def wait(self) -> None:
        """Waits for the checkpoint that is being written, and raises where it could not be."""
        if self._writing is not None:
            concurrent.futures.wait([self._writing])
        self.check()

    def write(self, step: int, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Begins to write; the last checkpoint must have been written."""
        self._step = step
        self._writing = self._thread.submit(self._checkpoints.write, step, content, arrays)

    def check(self) -> None:
        """Raises where the last checkpoint could not be written."""
        if self._writing is None or not self._writing.done():
            return
        error = self._writing.exception()
        if error is not None:
            self._writing = None
            raise OSError(
                f"{self._checkpoints.path}: the checkpoint after step {self._step} could not be written: {error}. "
                "The training has stopped, earlier checkpoints are whole: make room, then start it again."
            ) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()


def _step_back() -> None:
    """Lets this thread run when no step wants the processor, where the system can do so for a thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
