"""Saves a model made of the library's layers and its outputs, or loads the model that another backend has saved."""

import sys
from pathlib import Path

import keras
import numpy as np

from kerasblocks.layers import DropPath, ResidualBlock, RMSNorm, SwiGLU, Swish


def made():
    images = keras.Input((9, 7, 3))
    strided = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")
    h = ResidualBlock([strided], normalization="batch", scale="layerscale", drop_path=0.1)(images)
    h = keras.layers.Reshape((20, 8))(h)
    h = ResidualBlock(SwiGLU(use_bias=True, dropout=0.1), normalization="rms")(h)
    h = Swish(trainable_beta=True)(RMSNorm(axis=(1, 2), zero_centered=True)(h))
    return keras.Model(images, keras.layers.Dense(4)(DropPath(0.2)(h)))


def main(action, folder):
    folder = Path(folder)
    x = np.random.default_rng(0).normal(size=(5, 9, 7, 3)).astype("float32")
    if action == "save":
        model = made()
        rng = np.random.default_rng(1)
        model.set_weights([rng.uniform(0.1, 0.5, weight.shape) for weight in model.get_weights()])
        model.save(folder / "model.keras")
    model = keras.saving.load_model(folder / "model.keras")
    np.save(folder / f"{keras.backend.backend()}.npy", keras.ops.convert_to_numpy(model(x)))


if __name__ == "__main__":
    main(*sys.argv[1:])
