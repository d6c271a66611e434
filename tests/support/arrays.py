"""Arrays in and out of a test."""

from typing import Any

import keras
import numpy as np


def random(shape: tuple[int, ...] | int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def to_numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
