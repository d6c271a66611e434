"""IDX files, the format of MNIST and its kin: whole or not at all, and never more memory than the file justifies."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks.data._raw import RawImages

_FILES = {
    "x_train": ("train-images", "idx3"),
    "y_train": ("train-labels", "idx1"),
    "x_test": ("t10k-images", "idx3"),
    "y_test": ("t10k-labels", "idx1"),
}
_UNSIGNED_BYTE = 8
# zlib cannot shrink data by more than this factor, so a header that claims more than that is a lie.
_LARGEST_GZIP_RATIO = 1032


def holds_idx_files(folder: Path) -> bool:
    """Whether the folder has any file with one of the usual MNIST names."""
    return any(_find(folder, stem, kind) is not None for stem, kind in _FILES.values())


def read_idx_folder(folder: Path) -> RawImages:
    """Reads the four files of an MNIST-like folder, raw or gzipped."""
    arrays: dict[str, Any] = {}
    for name, (stem, kind) in _FILES.items():
        path = _find(folder, stem, kind)
        if path is None:
            raise FileNotFoundError(
                f"{folder}: a folder of IDX files must have {stem}-{kind}-ubyte or {stem}-{kind}-ubyte.gz; "
                "neither is there."
            )
        arrays[name] = read_idx(path, rank=3 if kind == "idx3" else 1)
    return RawImages(**arrays)


def read_idx(path: Path, rank: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes with `rank` dimensions.

    The header is big-endian: two zero bytes, the type (8 = unsigned byte), the rank, then one 32-bit size per
    dimension; the data follow in C order and end with the file.
    """
    compressed = path.suffix == ".gz"
    with gzip.open(path, "rb") if compressed else path.open("rb") as file:
        try:
            header = file.read(4 + 4 * rank)
            magic = bytes([0, 0, _UNSIGNED_BYTE, rank])
            if header[:4] != magic:
                raise ValueError(
                    f"{path}: an IDX file of {rank}-dimensional bytes must begin with {magic.hex()}; "
                    f"found {header[:4].hex() or 'nothing'}."
                )
            if len(header) < 4 + 4 * rank:
                raise ValueError(f"{path}: truncated: the header ends after {len(header)} of {4 + 4 * rank} bytes.")
            shape = struct.unpack(f">{rank}I", header[4:])
            expected = math.prod(shape)
            size = path.stat().st_size
            if expected > size * (_LARGEST_GZIP_RATIO if compressed else 1):
                raise ValueError(
                    f"{path}: truncated: the header announces {expected} bytes of data {shape}, "
                    f"more than a file of {size} bytes can hold."
                )
            data = file.read(expected + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: the gzip stream is truncated or damaged ({error}).") from error
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise ValueError(
            f"{path}: {'truncated' if len(data) < expected else 'over-long'}: the header announces "
            f"{expected} bytes of data {shape}; found {found}."
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _find(folder: Path, stem: str, kind: str) -> Path | None:
    for separator in ("-", "."):
        for ending in ("", ".gz"):
            path = folder / f"{stem}{separator}{kind}-ubyte{ending}"
            if path.is_file():
                return path
    return None
