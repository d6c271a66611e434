"""Arrays of any usual layout made into the pixels that `ImageData` holds: channels and size are settled here."""

from typing import Any

import numpy as np

# ITU-R BT.601 luma, the weights that image libraries use to turn colour into grey.
_LUMA = np.array([0.299, 0.587, 0.114], "float32")


def as_pixels(x: np.ndarray, where: str) -> np.ndarray:
    """Returns `x` as `(images, height, width, channels)`, uint8 or float32 in 0..1, without losing a value."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise ValueError(f"{where} must have rank 3 (grey images) or 4; got shape {x.shape}.")
    if x.dtype == np.uint8 or x.size == 0:
        return x
    if np.issubdtype(x.dtype, np.integer):
        _require_range(x, 255, where)
        return x.astype("uint8")
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"{where} must hold numbers (integers 0..255 or floats); got {x.dtype}.")
    if not np.isfinite(x).all():
        index = int(np.argwhere(~np.isfinite(x))[0][0])
        raise ValueError(f"{where} must be finite; image {index} has NaN or infinite pixels.")
    if x.max() > 1 and np.array_equal(x, np.round(x)):
        _require_range(x, 255, where)
        return x.astype("uint8")
    _require_range(x, 1, where)
    return x.astype("float32")


def fit_images(x: np.ndarray, image_size: tuple[int, int] | None, channels: int | None, where: str) -> np.ndarray:
    """Returns the images with the wanted number of channels and size (bilinear, as Pillow does it)."""
    if channels is not None and x.shape[-1] != channels:
        x = _with_channels(x, channels, where)
    if image_size is not None and x.shape[1:3] != image_size:
        x = _resized(x, image_size)
    return x


def pillow(purpose: str) -> Any:
    """Returns the `PIL` package; says what to install when it is missing."""
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise ImportError(f"{purpose} needs Pillow. Install it with: pip install pillow") from error
    return PIL


def _with_channels(x: np.ndarray, channels: int, where: str) -> np.ndarray:
    if x.shape[-1] == 1 and channels == 3:
        return np.repeat(x, 3, axis=-1)
    if x.shape[-1] == 3 and channels == 1:
        grey: np.ndarray = (x.astype("float32") @ _LUMA)[..., None]
        return grey.round().astype("uint8") if x.dtype == np.uint8 else grey.clip(0, 1)
    raise ValueError(
        f"{where}: cannot turn {x.shape[-1]} channels into {channels}; only 1 to 3 and 3 to 1 are defined. "
        "Leave `channels` out to keep the images as they are."
    )


def _resized(x: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    image = pillow("Resizing images").Image
    height, width = image_size
    out = np.empty((len(x), height, width, x.shape[-1]), x.dtype)
    for source, target in zip(x, out, strict=True):
        for channel in range(x.shape[-1]):
            plane = image.fromarray(np.ascontiguousarray(source[..., channel]))
            target[..., channel] = plane.resize((width, height), image.Resampling.BILINEAR)
    if x.dtype == np.float32:
        np.clip(out, 0, 1, out=out)
    return out


def _require_range(x: np.ndarray, most: int, where: str) -> None:
    if x.min() < 0 or x.max() > most:
        raise ValueError(
            f"{where} must hold pixels as integers in 0..255 or as floats in 0..1; got {x.dtype} from "
            f"{x.min():g} to {x.max():g}."
        )
