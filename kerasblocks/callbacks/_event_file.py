"""TensorBoard event files of scalars that are on the disk when asked for; tensorboardX's own writer holds some back."""

import os
import time
from pathlib import Path
from typing import Any


class EventFile:
    """One event file in a folder, made with its first scalar.

    Args:
        folder: where the file is put; it is made with the file.
        used_by: who needs tensorboardX, for the error.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, used_by: str) -> None:
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar
        except ImportError as error:
            raise ImportError(f"{used_by} needs tensorboardX. Install it with: pip install tensorboardX") from error
        # Not tensorboardX.SummaryWriter: its thread may hold events back after flush(), and two writers made in
        # one second share a file name.
        self._events_writer, self._event, self._scalar = EventsWriter, Event, scalar
        self._folder = folder
        self._writer: Any = None

    def add(self, tag: str, value: float, step: int) -> None:
        """Writes one point."""
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = self._events_writer(str(self._folder / "events"), f".{os.getpid()}.{time.time_ns()}")
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._scalar(tag, value)))

    def flush(self) -> None:
        """Puts what was written on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Closes the file; the next scalar begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
