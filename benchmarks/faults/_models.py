"""Small models of four kinds with data that they can learn, compiled as they should be."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasblocks.data import load_images
from kerasblocks.layers import CausalSelfAttention, ResidualBlock, RMSNorm, SwiGLU

CLASSES, TOKENS, LENGTH = 4, 20, 12


@dataclasses.dataclass
class Trial:
    """A model and what it is to be trained on; a fault changes one of them."""

    model: Any
    x: Any
    y: Any
    validation: tuple[Any, Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def table(samples: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of ten numbers, and which of four weighted sums is the largest."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, 10)).astype("float32")
    return x, (x @ rng.normal(size=(10, CLASSES)) + 0.1 * rng.normal(size=(samples, CLASSES))).argmax(1)


def digits(size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Returns handwritten digits from 0 to 1."""
    data = load_images("digits", image_size=size)
    return data.x_train / np.float32(255), data.y_train


def tokens(samples: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Returns texts of tokens, and of which of four groups they hold most."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, TOKENS, (samples, LENGTH))
    counts = np.stack([(x % CLASSES == group).sum(1) for group in range(CLASSES)], 1)
    return x, (counts + rng.random(counts.shape)).argmax(1)


def split(x: np.ndarray, y: np.ndarray, part: float = 0.8) -> tuple[Any, Any, tuple[Any, Any]]:
    """Returns training inputs and labels, and the others."""
    count = int(part * len(x))
    return x[:count], y[:count], (x[count:], y[count:])


def finish(
    layers: list[Any], shape: tuple[int, ...], optimizer: Any = None, loss: Any = None, dtype: str = "float32"
) -> Any:
    """Returns the layers as a compiled model."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
    model.compile(
        optimizer or keras.optimizers.Adam(3e-3),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"] if loss is None else None,
    )
    return model


def dense(head: Any = None, hidden: Callable[[], list[Any]] | None = None, **compiled: Any) -> Trial:
    """Returns a multilayer perceptron on rows of numbers."""
    keras.utils.set_random_seed(0)
    x, y, validation = split(*table())
    layers = hidden() if hidden else [keras.layers.Dense(32, "relu"), keras.layers.Dense(32, "relu")]
    return Trial(finish([*layers, head or keras.layers.Dense(CLASSES)], (10,), **compiled), x, y, validation)


def convolutional(head: Any = None, hidden: Callable[[], list[Any]] | None = None, **compiled: Any) -> Trial:
    """Returns a small convolutional network on digits."""
    keras.utils.set_random_seed(0)
    x, y, validation = split(*digits())
    layers = (
        hidden()
        if hidden
        else [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
        ]
    )
    return Trial(finish([*layers, head or keras.layers.Dense(10)], (16, 16, 1), **compiled), x, y, validation)


def recurrent(head: Any = None, hidden: Callable[[], list[Any]] | None = None, **compiled: Any) -> Trial:
    """Returns a recurrent network on tokens."""
    keras.utils.set_random_seed(0)
    x, y, validation = split(*tokens())
    layers = hidden() if hidden else [keras.layers.Embedding(TOKENS, 16), keras.layers.GRU(24)]
    model = finish([*layers, head or keras.layers.Dense(CLASSES)], (LENGTH,), dtype="int32", **compiled)
    return Trial(model, x, y, validation)


def transformer(head: Any = None, hidden: Callable[[], list[Any]] | None = None, **compiled: Any) -> Trial:
    """Returns a small transformer on tokens."""
    keras.utils.set_random_seed(0)
    x, y, validation = split(*tokens())
    layers = (
        hidden() if hidden else [keras.layers.Embedding(TOKENS, 16), *blocks(2), keras.layers.GlobalAveragePooling1D()]
    )
    model = finish([*layers, head or keras.layers.Dense(CLASSES)], (LENGTH,), dtype="int32", **compiled)
    return Trial(model, x, y, validation)


def blocks(count: int) -> list[Any]:
    """Returns residual blocks of attention and gated layers."""
    found = []
    for _ in range(count):
        found += [
            ResidualBlock(CausalSelfAttention(2), normalization="rms"),
            ResidualBlock(SwiGLU(32), normalization="rms"),
        ]
    return [*found, RMSNorm()]
