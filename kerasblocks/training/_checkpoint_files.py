"""Checkpoints on disk, whole or passed over: arrays as HDF5, and a JSON file that vouches for them with checksums."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerasblocks._whole_file import is_temporary, whole_file

_FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d{12})\.json")
_BROKEN = ".broken"


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
        image = _as_hdf5(arrays)
        with whole_file(self._file(step, ".h5")) as temporary:
            temporary.write_bytes(image)
        dtypes = {name: array.dtype.name for name, array in arrays.items()}
        vouched = content | {"format": _FORMAT, "bytes": len(image), "sha256": _hash(image), "dtypes": dtypes}
        text = json.dumps({"checksum": _hash(_canonical(vouched)), "content": vouched}, indent=1)
        with whole_file(self._file(step, ".json")) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        for old in self.steps()[self._keep :]:
            self._file(old, ".json").unlink()  # The arrays go last: without its JSON a checkpoint is none.
            self._file(old, ".h5").unlink(missing_ok=True)

    def read(self, step: int) -> tuple[dict[str, Any], "ArrayReader"]:
        """Returns what was written, after a look at every byte of it.

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
        arrays = self._file(step, ".h5")
        if not arrays.is_file():
            raise BrokenCheckpointError(f"{arrays}: the file is missing.")
        if arrays.stat().st_size != content["bytes"]:
            raise BrokenCheckpointError(
                f"{arrays}: has {arrays.stat().st_size} bytes instead of {content['bytes']}; it was not written whole."
            )
        with arrays.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != content["sha256"]:
                raise BrokenCheckpointError(f"{arrays}: not as it was written: its checksum differs.")
        return content, ArrayReader(arrays, content["dtypes"])

    def pass_over(self, step: int) -> None:
        """Renames a broken checkpoint, so that it counts for nothing any more."""
        for suffix in (".json", ".h5"):
            file = self._file(step, suffix)
            if file.exists():
                file.replace(file.with_name(file.name + _BROKEN))

    def tidy(self) -> None:
        """Removes what a process that was killed has left: half-written files, and arrays without their JSON."""
        if not self.path.is_dir():
            return
        known = {self._file(step, ".h5") for step in self.steps()}
        for file in self.path.iterdir():
            if is_temporary(file) or (file.suffix == ".h5" and file not in known):
                file.unlink()

    def _file(self, step: int, suffix: str) -> Path:
        return self.path / f"checkpoint-{step:012d}{suffix}"


class ArrayReader:
    """Reads the arrays of a checkpoint; takes no memory that the file's own size does not account for."""

    def __init__(self, file: Path, dtypes: dict[str, str]) -> None:
        self._file, self._dtypes = file, dtypes

    def read(self, names: list[str]) -> Iterator[np.ndarray]:
        """Yields the arrays of these names.

        Raises:
            BrokenCheckpointError: one is missing or not stored plainly.
        """
        try:
            with h5py.File(self._file, "r") as file:
                for name in names:
                    yield self._array(file, name)
        except (OSError, KeyError, RuntimeError) as error:
            raise BrokenCheckpointError(f"{self._file}: cannot be read ({error}).") from error

    def _array(self, file: h5py.File, name: str) -> np.ndarray:
        stored = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
        if (
            not isinstance(stored, h5py.Dataset)
            or stored.dtype.kind not in "biuf"
            or stored.is_virtual
            or stored.external
            or stored.chunks is not None
            or (stored.size and stored.id.get_storage_size() != stored.nbytes)
        ):
            raise BrokenCheckpointError(f"{self._file}: has no plain array {name!r}.")
        dtype = np.dtype(_dtype(self._dtypes[name]))
        array: np.ndarray = stored[()]
        return np.asarray(array).view(dtype) if dtype.kind == "V" else np.asarray(array, dtype)


def _as_hdf5(arrays: dict[str, np.ndarray]) -> memoryview:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            # HDF5 does not know bfloat16 and the like: their bits are stored.
            file[name] = array.view(f"u{array.itemsize}") if array.dtype.kind == "V" else array
    return image.getbuffer()


def _dtype(name: str) -> Any:
    if name in np.sctypeDict:
        return name
    import ml_dtypes  # Keras brings it.

    return getattr(ml_dtypes, name)


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _hash(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
