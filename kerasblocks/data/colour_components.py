"""The principal components of colour, along which AlexNet's jitter moves an image; Keras has no such jitter."""

import dataclasses
import os
from collections.abc import Iterable

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._digest import digest_of
from kerasblocks.data._image_sources import as_image_sources, pixels_of
from kerasblocks.data._pixels import fit_images


@dataclasses.dataclass(frozen=True, eq=False)
class ColourComponents:
    """Mean and principal components of the colours of images, pixels from 0 to 1.

    Attributes:
        mean: mean of red, green and blue, `(3,)`.
        variances: λ, the eigenvalues of their covariance, falling, `(3,)`.
        axes: p, its eigenvectors as columns, `(3, 3)`, each with a positive sum.
    """

    mean: np.ndarray
    variances: np.ndarray
    axes: np.ndarray

    def shift(self, alpha: np.ndarray) -> np.ndarray:
        """Returns α₁λ₁ p₁ + α₂λ₂ p₂ + α₃λ₃ p₃, float32 of shape `(3,)`."""
        shift: np.ndarray = (self.axes @ (alpha * self.variances)).astype("float32")
        return shift

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers."""
        return digest_of((self.mean, self.variances, self.axes))


def colour_components(
    images: Iterable[str | os.PathLike[str] | np.ndarray],
    *,
    most: int = 1000,
    side: int = 32,
    max_pixels: int | None = None,
) -> ColourComponents:
    """Finds the principal components of colour of images.

    Args:
        images: paths of image files, or uint8 arrays; files that are no whole images are passed over.
        most: how many of them are looked at, spread evenly.
        side: what images are reduced to before.
        max_pixels: files with more pixels are passed over; by default those beyond Pillow's own limit.

    Returns:
        A `ColourComponents`.

    Raises:
        ValueError: no whole image within the limit; numbers below 1.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    NeurIPS 2012, section 4.1.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from kerasblocks.data import colour_components
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "grey.png")
    ...     Image.fromarray(np.repeat(np.arange(0, 256, 17, "uint8").reshape(4, 4, 1), 3, -1)).save(path)
    ...     found = colour_components([path], side=4)
    >>> (found.axes[:, 0] * 3**0.5).round(3).tolist(), (found.variances[1:] < 1e-9).all().item()
    ([1.0, 1.0, 1.0], True)
    """
    sources = as_image_sources(images)
    most, side = as_integer("most", most, least=1), as_integer("side", side, least=1)
    max_pixels = None if max_pixels is None else as_integer("max_pixels", max_pixels, least=1)
    places = np.unique(np.linspace(0, len(sources) - 1, min(most, len(sources))).round().astype(int))
    found = []
    for place in places:
        try:
            found.append(fit_images(pixels_of(sources[place], 3, max_pixels)[None], (side, side), None, "image")[0])
        except (ValueError, FileNotFoundError):
            continue
    if not found:
        raise ValueError(
            f"There must be at least one whole image of at most max_pixels={max_pixels}; of {len(sources)} given, "
            f"{len(places)} were looked at and none is."
        )
    pixels = np.stack(found).reshape(-1, 3) / 255.0
    variances, axes = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    axes = axes[:, ::-1] * np.where(axes[:, ::-1].sum(0) < 0, -1, 1)
    return ColourComponents(pixels.mean(0), np.maximum(variances[::-1], 0), axes)
