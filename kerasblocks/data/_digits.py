"""The embedded default: 1,797 real handwritten digits (UCI optdigits, 8x8, 17 grey levels) from scikit-learn."""

import numpy as np

from kerasblocks.data._labels import stratified_split
from kerasblocks.data._raw import RawImages


def read_digits() -> RawImages:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("The embedded digits need scikit-learn. Install it with: pip install scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    train, test = stratified_split(labels)
    return RawImages(pixels[train], labels[train], pixels[test], labels[test], tuple("0123456789"))
