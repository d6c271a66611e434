"""An `.npz` file with the four arrays, read without pickle and without more memory than the file justifies."""

import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from kerasblocks.data._raw import RawImages

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# zlib cannot shrink data by more than this factor, so a size beyond that is a lie.
_LARGEST_RATIO = 1032
# zipfile reports encryption and unknown methods as RuntimeError, impossible positions as OSError.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError, RuntimeError, OSError)


def read_npz(path: Path) -> RawImages:
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in _ARRAYS if name not in found]
            if missing:
                raise ValueError(
                    f"{path}: must hold the arrays {', '.join(_ARRAYS)}; missing {', '.join(missing)}, "
                    f"found {', '.join(found) or 'none'}."
                )
            arrays = {name: _read(archive, name, path) for name in _ARRAYS}
            names = _read(archive, "class_names", path) if "class_names" in found else None
    except _DAMAGE as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path}: not a whole .npz file ({error}).") from error
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U" or len(names) == 0):
        raise ValueError(f"{path}: class_names must be a vector of strings; got {names.dtype} {names.shape}.")
    return RawImages(**arrays, class_names=None if names is None else tuple(names.tolist()))


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        info = archive.getinfo(name)
    try:
        if info.file_size > _LARGEST_RATIO * min(info.compress_size, path.stat().st_size):
            raise ValueError(f"it announces {info.file_size} bytes, more than the file can hold")
        with archive.open(info) as member:
            announced = _announced_bytes(member)
            if announced > info.file_size:
                raise ValueError(f"its header announces {announced} bytes, the archive holds {info.file_size}")
        with archive.open(info) as member:
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):
                raise ValueError("more bytes follow than its header announces")
            return array
    except ValueError as error:
        raise ValueError(f"{path}: array {name} cannot be read ({error}).") from error


def _announced_bytes(member: IO[bytes]) -> int:
    version = np.lib.format.read_magic(member)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(member)
    if dtype.hasobject:
        raise ValueError("it is an array of Python objects (pickled), which are refused; save numbers")
    return math.prod(shape) * dtype.itemsize
