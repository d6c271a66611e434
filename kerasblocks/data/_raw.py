"""What a reader hands to `load_images`: arrays as they were found, before channels, size and limit are settled."""

from typing import NamedTuple

import numpy as np


class RawImages(NamedTuple):
    """Images of rank 3 or 4 and labels of both splits; `class_names` is None when the source names no classes."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...] | None = None
