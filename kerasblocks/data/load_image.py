"""One image file decoded to uint8 pixels, or a clear error: never clipped, cut short or blown up in memory."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._pixels import fit_images, pillow

# Pillow names the layout of the file in the tile: ";16B" is a big-endian channel of 16 bits, ";16" a pixel of 16 bits.
_DEEP_RAW_MODE = re.compile(r";16[BLNS]")
_GREY_MODES = ("1", "L", "LA", "La")
_EIGHT_BIT_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


class _RefusedImageError(ValueError):
    """An error of ours, told apart from those of Pillow."""


def load_image(
    path: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Decodes an image file.

    The orientation that a camera noted in the file is applied; transparent pixels are laid on black.

    Args:
        path: the file, in any 8-bit format that Pillow decodes.
        image_size: side of a square or `(height, width)` to resize to (bilinear); None keeps the size.
        channels: 1 (grey) or 3 (RGB); None gives 1 for a grey image and 3 otherwise.
        max_pixels: images with more are refused before they are decoded; None for Pillow's limit, some 89 million.

    Returns:
        An array of shape `(height, width, channels)` and dtype uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a whole image, holds several frames, has more than 8 bits a
            channel, or has so many pixels that it may be a decompression bomb.
        ImportError: Pillow is not installed.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from kerasblocks.data import load_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "grey.png")
    ...     Image.fromarray(np.full((20, 30), 7, "uint8")).save(path)
    ...     load_image(path, image_size=8, channels=3).shape
    (8, 8, 3)
    """
    size = as_image_size(image_size)
    check_channels(channels)
    max_pixels = None if max_pixels is None else as_integer("max_pixels", max_pixels, least=1)
    with _opened(Path(path), max_pixels) as image:
        if channels is None:
            channels = 1 if image.mode in _GREY_MODES else 3
        upright = pillow("Decoding images").ImageOps.exif_transpose(image)
        if upright.mode in ("LAB", "HSV"):
            upright = upright.convert("RGB")  # Pillow has no direct way from these to grey.
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            black = pillow("Decoding images").Image.new("RGBA", rgba.size, (0, 0, 0, 255))
            upright = pillow("Decoding images").Image.alpha_composite(black, rgba)
        pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    resized: np.ndarray = fit_images(pixels[None], size, None, str(path))[0]
    return resized


def is_grey(path: Path) -> bool:
    """Whether the header of an image file says grey; raises as `load_image` does, short of decoding."""
    with _opened(path) as image:
        return image.mode in _GREY_MODES


def as_image_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Returns `(height, width)`; raises `ValueError` for anything but positive integers."""
    if image_size is None:
        return None
    size = tuple(image_size) if isinstance(image_size, list | tuple) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in size):
        raise ValueError(f"image_size must be a positive integer or (height, width) of them; got {image_size!r}.")
    return size


def check_channels(channels: int | None) -> None:
    """Raises `ValueError` unless `channels` is None, 1 or 3."""
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise ValueError(f"channels must be 1 (grey), 3 (RGB) or None (as in the source); got {channels!r}.")


@contextlib.contextmanager
def _opened(path: Path, max_pixels: int | None = None) -> Iterator[Any]:
    image_module = pillow("Decoding images").Image
    most = max_pixels or image_module.MAX_IMAGE_PIXELS or math.inf
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file.")
    try:
        # Without changing how warnings are treated, for threads decode beside each other.
        with image_module.open(path) as image:
            if image.width * image.height > most:
                raise _RefusedImageError(
                    f"{path}: refused, it may be a decompression bomb: {image.width} x {image.height} pixels, more "
                    f"than {most:,}."
                )
            if getattr(image, "n_frames", 1) > 1:
                raise _RefusedImageError(
                    f"{path}: an image file must hold one picture; it holds {image.n_frames} frames."
                )
            if image.mode not in _EIGHT_BIT_MODES:
                raise _RefusedImageError(
                    f"{path}: images must have 8 bits a channel; this one has Pillow's mode {image.mode!r}. "
                    "Convert it first."
                )
            if any(_DEEP_RAW_MODE.search(str(tile.args)) for tile in image.tile):
                raise _RefusedImageError(
                    f"{path}: images must have 8 bits a channel; this one has 16, of which Pillow would drop half. "
                    "Convert it first."
                )
            yield image
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: refused, it may be a decompression bomb ({error}).") from error
    except Exception as error:  # Damaged files make Pillow raise errors of many kinds.
        if isinstance(error, _RefusedImageError | PermissionError | MemoryError):
            raise
        raise ValueError(f"{path}: not a whole image file ({error}).") from error
