"""What the checks see of the steps of a short fit, one step an epoch."""

import time
from typing import Any

import keras
import numpy as np

from kerasblocks.diagnostics._layer_record import as_numbers


class Losses(keras.callbacks.Callback):
    """Remembers the loss of each step, and stops where it is a part of the first one, or time is over."""

    def __init__(self, stops_at: float, deadline: float) -> None:
        super().__init__()
        self.stops_at, self.deadline, self.losses = stops_at, deadline, []  # type: tuple[float, float, list[float]]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.losses.append(float((logs or {}).get("loss", np.nan)))
        learned = self.losses[-1] <= self.stops_at * self.losses[0]
        if learned or not np.isfinite(self.losses[-1]) or time.monotonic() > self.deadline:
            self.model.stop_training = True


class Updates(keras.callbacks.Callback):
    """Remembers how far each step moves each matrix."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._first = self._before = self._matrices()
        self._moved: list[dict[str, float]] = []  # root mean squares

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = self._matrices()
        self._moved.append({path: _size(now[path] - each) for path, each in self._before.items()})
        self._before = now

    def ratios(self) -> tuple[dict[str, float], float]:
        """Returns the ratio of update and weights of each matrix that did not begin at 0, and of all these as one."""
        begun = {path: each for path, each in self._first.items() if each.any()}
        moved = {path: float(np.mean([step[path] for step in self._moved])) for path in begun}
        ratios = {path: moved[path] / _size(each) for path, each in begun.items()}
        squares = [(each.size * moved[path] ** 2, each.size * _size(each) ** 2) for path, each in begun.items()]
        update, weights = np.sum(squares, axis=0) if squares else (0.0, 1.0)
        return ratios, float(np.sqrt(update / weights))

    def _matrices(self) -> dict[str, np.ndarray]:
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        return {
            each.path: as_numbers(each).astype("float64")
            for each in self.model.trainable_variables
            if len(each.shape) >= 2
        }


def _size(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
