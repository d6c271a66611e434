"""Claim: an MLP of 1,000 residual layers trains; it brings the loss to a tenth of what its head alone can reach."""

import os
import sys
import time
from typing import Any

import keras
import numpy as np

from benchmarks._results import append_row
from kerasblocks.layers import ResidualBlock
from kerasblocks.training import environment

_WIDTH = 16


def main(depth: int = 1000, steps: int = 30) -> None:
    """Trains the deep network on a product of two numbers, which no linear head fits.

    Args:
        depth: number of residual layers.
        steps: number of steps.
    """
    if "KERAS_BACKEND" not in os.environ:
        sys.exit("error: name the backend to measure: KERAS_BACKEND=jax|tensorflow|torch.")
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(-1, 1, (64, 2)).astype("float32")
    y = 3 * x[:, :1] * x[:, 1:]
    design = np.concatenate([x, np.ones_like(y)], axis=1)
    of_the_head_alone = np.linalg.lstsq(design, y)[1].item() / len(y)
    model = _Deep(depth)
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    losses, seconds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y)))
        seconds.append(time.perf_counter() - start)
    append_row(
        "depth",
        environment(),
        {
            "case": f"residual MLP of {depth} layers, width {_WIDTH}, Adam 3e-3",
            "steps": steps,
            "loss_of_the_head_alone": round(of_the_head_alone, 4),
            "first_loss": round(losses[0], 4),
            "last_loss": round(losses[-1], 4),
            "steps_to_a_tenth": next((n for n, loss in enumerate(losses) if loss < 0.1 * of_the_head_alone), ""),
            "first_step_s": round(seconds[0], 1),
            "step_s": round(float(np.median(seconds[1:])), 3),
        },
    )


class _Deep(keras.Model):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = keras.layers.Dense(_WIDTH)
        self.blocks = [
            ResidualBlock(keras.layers.Dense(_WIDTH, activation="tanh"), normalization="rms", scale=depth**-0.5)
            for _ in range(depth)
        ]
        self.head = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        h = self.stem(inputs)
        for block in self.blocks:
            h = block(h)
        return self.head(h)
