"""Arrays in a file of the safetensors format, written and hashed in one pass without a copy of them.

The format (https://github.com/huggingface/safetensors): the length of a header as 8 bytes, little-endian; the header,
JSON that tells dtype, shape and place of every array; the arrays' bytes. There is nothing in it that could run, and
what is read is never more than the file's own bytes.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "U16": np.dtype("uint16"),
    "I16": np.dtype("int16"),
    "U32": np.dtype("uint32"),
    "I32": np.dtype("int32"),
    "U64": np.dtype("uint64"),
    "I64": np.dtype("int64"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_arrays(file: Path, arrays: dict[str, np.ndarray]) -> tuple[int, str]:
    """Writes the arrays; returns the file's size in bytes and its SHA-256 (hexadecimal)."""
    header, end = {}, 0
    for name, array in arrays.items():
        place = [end, end := end + array.nbytes]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": place}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays begin at a multiple of 8
    digest = hashlib.sha256()
    with file.open("wb", buffering=0) as opened:
        for part in (memoryview(len(text).to_bytes(8, "little") + text), *map(_bytes_of, arrays.values())):
            digest.update(part)
            while part:
                part = part[opened.write(part) :]
    return 8 + len(text) + end, digest.hexdigest()


def read_arrays(file: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Returns the arrays of these names.

    Raises:
        ValueError: one is not there, or the header is not the file's.
    """
    with file.open("rb") as opened:
        size = file.stat().st_size
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 + length:
            raise ValueError(f"{file}: is shorter than its header says.")
        try:
            header = json.loads(opened.read(length))
            places = [_place(header[name], size - 8 - length) for name in names]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{file}: has no arrays {', '.join(names[:3])} ... that are whole ({error!r}).") from error
        found = []
        for dtype, shape, start in places:
            array = np.empty(shape, dtype)
            opened.seek(8 + length + start)
            opened.readinto(_bytes_of(array))
            found.append(array)
    return found


def _place(entry: dict[str, Any], size: int) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Returns dtype, shape and first byte of an array that lies in a file with so many bytes of arrays."""
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    if any(not isinstance(number, int) or number < 0 for number in (*shape, start, end)):
        raise ValueError(f"places must be integers of at least 0: {entry}")
    if end > size or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{entry} does not fit into {size} bytes")
    return dtype, shape, start


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view("uint8").data
