"""Images that lie in files or in memory, taken alike."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks.data._pixels import fit_images
from kerasblocks.data.load_image import load_image


def as_image_sources(images: Iterable[Any]) -> tuple[Path | np.ndarray, ...]:
    """Returns each image as `as_image_source` does; raises `ValueError` for one path in the place of several."""
    if isinstance(images, str | bytes | os.PathLike):
        raise ValueError(f"images must be several paths or arrays; got the one path {images!r}. See find_images.")
    return tuple(map(as_image_source, images))


def as_image_source(image: Any) -> Path | np.ndarray:
    """Returns an array as it is and anything else as a path; raises `ValueError` for an array that is no image."""
    if not isinstance(image, np.ndarray):
        return Path(image)
    if image.dtype != np.uint8 or image.ndim != 3 or 0 in image.shape or image.shape[-1] not in (1, 3):
        raise ValueError(
            f"An image must be a file, or a uint8 array of shape (height, width, 1 or 3); got {image.dtype} "
            f"{image.shape}."
        )
    return image


def pixels_of(image: Path | np.ndarray, channels: int, max_pixels: int | None = None) -> np.ndarray:
    """Returns uint8 pixels of shape `(height, width, channels)`; raises as `load_image` does."""
    if isinstance(image, Path):
        return load_image(image, channels=channels, max_pixels=max_pixels)
    pixels: np.ndarray = fit_images(image[None], None, channels, "image")[0]
    return pixels
