"""Claim: an MLP of 1,000 residual layers trains; it brings the loss to a tenth of what its head alone can reach."""

import time
from typing import Any

import keras
import numpy as np

from benchmarks._results import append_row
from kerasblocks.layers import ResidualBlock
from kerasblocks.training import environment

WIDTH = 16


def main(depth: int = 1000, steps: int = 30) -> None:
    """Trains the deep network on a product of two numbers, which no linear head fits.

    Args:
        depth: number of residual layers.
        steps: number of steps.
    """
    keras.utils.set_random_seed(0)
    x, y, of_the_head_alone = product_of_two()
    model = Deep(depth)
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
            "case": f"residual MLP of {depth} layers, width {WIDTH}, Adam 3e-3",
            "steps": steps,
            "loss_of_the_head_alone": round(of_the_head_alone, 4),
            "first_loss": round(losses[0], 4),
            "last_loss": round(losses[-1], 4),
            "steps_to_a_tenth": next((n for n, loss in enumerate(losses) if loss < 0.1 * of_the_head_alone), ""),
            "first_step_s": round(seconds[0], 1),
            "step_s": round(float(np.median(seconds[1:])), 3),
        },
    )


def product_of_two() -> tuple[np.ndarray, np.ndarray, float]:
    """Returns pairs of numbers, three times their products, and the least mean square error of a linear head."""
    x = np.random.default_rng(0).uniform(-1, 1, (64, 2)).astype("float32")
    y = 3 * x[:, :1] * x[:, 1:]
    design = np.concatenate([x, np.ones_like(y)], axis=1)
    return x, y, np.linalg.lstsq(design, y)[1].item() / len(y)


class Deep(keras.Model):
    """A linear layer, residual blocks and a linear head; what is not linear is in the blocks."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = keras.layers.Dense(WIDTH)
        self.blocks = [
            ResidualBlock(keras.layers.Dense(WIDTH, activation="tanh"), normalization="rms", scale=depth**-0.5)
            for _ in range(depth)
        ]
        self.head = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        h = self.stem(inputs)
        for block in self.blocks:
            h = block(h)
        return self.head(h)
