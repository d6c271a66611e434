"""Small students and teachers, and data for them."""

from typing import Any

import keras
import numpy as np
from arrays import random

X = random((48, 8))
Y = np.arange(48) % 3


def net(width: int = 6, classes: int = 3, seed: int = 0, **options: Any) -> keras.Model:
    """Returns a model of 8 numbers to logits with the layers "hidden" and "logits"."""
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(width, "tanh", name="hidden")
    layers = [hidden, *options.pop("between", ()), keras.layers.Dense(classes, name="logits", **options)]
    return keras.Sequential([keras.Input((8,)), *layers])


class Subclassed(keras.Model):
    """A model that tells nothing before it is called."""

    def __init__(self, classes: int = 3, activation: str | None = None) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(5, "tanh", name="hidden")
        self.last = keras.layers.Dense(classes, activation, name="logits")

    def call(self, x: Any) -> Any:
        return self.last(self.hidden(x))


def crossentropy(**options: Any) -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def weights(model: keras.Model) -> list[np.ndarray]:
    """Returns copies of all that a model keeps: weights, moving averages, seeds."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, "float64")
    logits = logits - logits.max(-1, keepdims=True)
    found: np.ndarray = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return found


def divergence(teacher: np.ndarray, student: np.ndarray, temperature: float) -> np.ndarray:
    """Returns T² · KL for each row, by NumPy in float64."""
    t, s = log_softmax(teacher / temperature), log_softmax(student / temperature)
    found: np.ndarray = temperature**2 * (np.exp(t) * (t - s)).sum(-1)
    return found
