"""One process at a time in a run's folder; the lock of a process that was killed is gone with it."""

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

fcntl: Any = None
with contextlib.suppress(ImportError):  # Windows has none.
    fcntl = importlib.import_module("fcntl")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, where the system can lock folders.

    Raises:
        FileExistsError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise FileExistsError(f"{folder}: another process is at this run.") from None
    finally:
        os.close(descriptor)
