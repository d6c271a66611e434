"""Checkpoints on disk, whole or passed over: arrays as safetensors, and a JSON file with checksums of both."""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks._whole_file import is_temporary, whole_file
from kerasblocks.training._safetensors import read_arrays, write_arrays

_FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d{12})\.json")
_ARRAYS = ".safetensors"
_BROKEN = ".broken"

Read = Callable[[Sequence[str]], list[np.ndarray]]


class BrokenCheckpointError(ValueError):
    """A checkpoint that is torn, truncated or changed."""


class CheckpointFolder:
    """The checkpoints of one run, each known by the number of steps before it.

    Args:
        path: the folder, made by the first `write`.
        keep: how many of the newest are kept.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self._keep = path, keep

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, the newest first; whether they are whole only `read` can tell."""
        if not self.path.is_dir():
            return []
        found = (_NAME.fullmatch(file.name) for file in self.path.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def write(self, step: int, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint, of which nothing is seen before it is whole, and removes those too many."""
        self.path.mkdir(exist_ok=True)
        with whole_file(self._file(step, _ARRAYS)) as temporary:
            size, checksum = write_arrays(temporary, arrays)
        vouched = content | {"format": _FORMAT, "bytes": size, "sha256": checksum}
        text = json.dumps({"checksum": _hash(_canonical(vouched)), "content": vouched}, indent=1)
        with whole_file(self._file(step, ".json")) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        for old in self.steps()[self._keep :]:
            self._file(old, ".json").unlink()  # The arrays go last: without its JSON a checkpoint is none.
            self._file(old, _ARRAYS).unlink(missing_ok=True)

    def read(self, step: int) -> tuple[dict[str, Any], Read]:
        """Returns the content and what reads arrays by their names, after a look at every byte of both.

        Raises:
            BrokenCheckpointError: a file is missing, torn, or not as it was written.
        """
        file = self._file(step, ".json")
        try:
            whole = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise BrokenCheckpointError(f"{file}: not the JSON that was written ({error}).") from error
        content = whole.get("content") if isinstance(whole, dict) else None
        if not isinstance(content, dict) or whole.get("checksum") != _hash(_canonical(content)):
            raise BrokenCheckpointError(f"{file}: not as it was written: its checksum differs.")
        if content.get("format") != _FORMAT:
            raise BrokenCheckpointError(f"{file}: of another format, {content.get('format')!r} instead of {_FORMAT}.")
        arrays = self._file(step, _ARRAYS)
        if not arrays.is_file():
            raise BrokenCheckpointError(f"{arrays}: the file is missing.")
        if arrays.stat().st_size != content["bytes"]:
            raise BrokenCheckpointError(
                f"{arrays}: has {arrays.stat().st_size} bytes instead of {content['bytes']}; it was not written whole."
            )
        with arrays.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != content["sha256"]:
                raise BrokenCheckpointError(f"{arrays}: not as it was written: its checksum differs.")

        def read(names: Sequence[str]) -> list[np.ndarray]:
            try:
                return read_arrays(arrays, names)
            except (ValueError, OSError) as error:
                raise BrokenCheckpointError(str(error)) from error

        return content, read

    def newest(self) -> tuple[dict[str, Any], Read] | tuple[None, None]:
        """Returns what `read` does of the newest whole checkpoint, None where there has never been one.

        Broken ones are named in a warning and renamed.

        Raises:
            ValueError: there are checkpoints, and none is whole.
        """
        steps = self.steps()
        for step in steps:
            try:
                return self.read(step)
            except BrokenCheckpointError as error:
                warnings.warn(f"A broken checkpoint is passed over: {error}", stacklevel=4)  # at Run.fit
                self._pass_over(step)
        if steps:
            raise ValueError(f"{self.path}: no checkpoint is whole. Choose another folder to begin anew.")
        return None, None

    def _pass_over(self, step: int) -> None:
        """Renames a broken checkpoint, so that it counts for nothing any more."""
        for suffix in (".json", _ARRAYS):
            file = self._file(step, suffix)
            if file.exists():
                file.replace(file.with_name(file.name + _BROKEN))

    def tidy(self) -> None:
        """Removes what a process that was killed has left: half-written files, and arrays without their JSON."""
        if not self.path.is_dir():
            return
        known = {self._file(step, _ARRAYS) for step in self.steps()}
        for file in self.path.iterdir():
            if is_temporary(file) or (file.suffix == _ARRAYS and file not in known):
                file.unlink()

    def _file(self, step: int, suffix: str) -> Path:
        return self.path / f"checkpoint-{step:012d}{suffix}"


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
