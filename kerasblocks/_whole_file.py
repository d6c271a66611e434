"""Files that are whole or absent: written under a temporary name, flushed to the disk, renamed."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".writing-"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path of the same suffix; on success what was written there becomes the file `path`.

    On error the temporary file is removed, and an earlier file stays as it was.

    Raises:
        ValueError: no file was written.
    """
    with temporary_file(path) as temporary:
        yield temporary
        if not temporary.is_file():
            raise ValueError(f"{path.name}: a file must be written to the temporary path; there is none.")
        flush(temporary)
        temporary.replace(path)


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path`, of the same suffix; what is there in the end is removed."""
    temporary = path.parent / f"{_PREFIX}{uuid.uuid4().hex}-{path.name}"
    try:
        yield temporary
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def is_temporary(path: Path) -> bool:
    """Returns whether the file is one that a process was writing when it was killed, or is writing now."""
    return path.name.startswith(_PREFIX)


def flush(path: Path) -> None:
    """Puts what was written to the file on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
