"""The principal components of colour, along which AlexNet's jitter moves an image; Keras has no such jitter."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._digest import digest_of
from kerasblocks.data.load_image import load_image


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
        """Returns [p₁ p₂ p₃] [α₁λ₁ α₂λ₂ α₃λ₃]ᵀ, float32 of shape `(3,)`."""
        shift: np.ndarray = (self.axes @ (alpha * self.variances)).astype("float32")
        return shift

    @property
    def digest(self) -> str:
        """SHA-256 of the numbers."""
        return digest_of((self.mean, self.variances, self.axes))


def colour_components(files: Iterable[str | os.PathLike[str]], *, most: int = 1000, side: int = 32) -> ColourComponents:
    """Finds the principal components of colour of image files.

    Args:
        files: paths of the image files; those that are no whole images are passed over.
        most: how many of them are looked at, spread evenly.
        side: what images are reduced to before.

    Returns:
        A `ColourComponents`.

    Raises:
        ValueError: no whole image; numbers below 1.

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
    paths = [Path(file) for file in files]
    most, side = as_integer("most", most, least=1), as_integer("side", side, least=1)
    places = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    images = []
    for place in places:
        try:
            images.append(load_image(paths[place], image_size=side, channels=3))
        except ValueError:
            continue
    if not images:
        raise ValueError(f"There must be at least one whole image; got {len(paths)} files.")
    pixels = np.stack(images).reshape(-1, 3) / 255.0
    variances, axes = np.linalg.eigh(np.cov(pixels, rowvar=False, bias=True))
    axes = axes[:, ::-1] * np.where(axes[:, ::-1].sum(0) < 0, -1, 1)
    return ColourComponents(pixels.mean(0), np.maximum(variances[::-1], 0), axes)
