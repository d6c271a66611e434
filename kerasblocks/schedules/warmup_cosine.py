"""Linear warmup, then a cosine down to a minimum, whose first update has a rate above 0; Keras's starts at 0."""

import math
from typing import Any

import keras

from kerasblocks._arguments import as_integer
from kerasblocks.schedules._step import as_floating, as_learning_rate, as_result, namespace_and_step


def warmup_cosine(
    step: Any,
    *,
    peak_learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    initial_learning_rate: float = 0.0,
    minimum_learning_rate: float = 0.0,
) -> Any:
    """Computes the learning rate of a step s, of w warmup steps and t steps in all, warmup included.

    For s < w it is initial + (peak − initial) · (s + 1) / w, so that the step w − 1 has the peak and the first one
    more than the initial rate; then minimum + ½ (peak − minimum) (1 + cos(π (s − w) / (t − w))); from t on, the
    minimum.

    Args:
        step: s, from 0: a number, a NumPy array, a tensor or a variable, of any shape.
        peak_learning_rate: the rate at the end of the warmup, 0 or more.
        warmup_steps: w, 0 ≤ w ≤ t.
        total_steps: t, 1 or more.
        initial_learning_rate: where the warmup starts from, 0 or more.
        minimum_learning_rate: where the cosine ends, 0 or more.

    Returns:
        A float for a number, a float64 array for an array, a float32 tensor for a tensor.

    Raises:
        ValueError: a rate that is negative or no finite number, a number of steps that is no integer in its range,
            a step that is no number.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5; Goyal
    et al., "Accurate, large minibatch SGD", 2017, section 2.2 (warmup).

    Example:

    >>> from kerasblocks.schedules import warmup_cosine
    >>> [warmup_cosine(s, peak_learning_rate=1.0, warmup_steps=2, total_steps=4) for s in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    schedule = WarmupCosineDecay(
        peak_learning_rate=peak_learning_rate,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        initial_learning_rate=initial_learning_rate,
        minimum_learning_rate=minimum_learning_rate,
    )
    return schedule(step)


@keras.saving.register_keras_serializable(package="kerasblocks")
class WarmupCosineDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Is `warmup_cosine` as a schedule that an optimizer takes as its `learning_rate`, with the same arguments.

    Raises:
        ValueError: as `warmup_cosine`.

    Example:

    >>> import keras
    >>> from kerasblocks.schedules import WarmupCosineDecay
    >>> schedule = WarmupCosineDecay(peak_learning_rate=1e-3, warmup_steps=10, total_steps=100)
    >>> optimizer = keras.optimizers.AdamW(schedule)
    >>> round(float(optimizer.learning_rate), 6)
    0.0001
    """

    def __init__(
        self,
        *,
        peak_learning_rate: float,
        warmup_steps: int,
        total_steps: int,
        initial_learning_rate: float = 0.0,
        minimum_learning_rate: float = 0.0,
    ) -> None:
        self.peak_learning_rate = as_learning_rate("peak_learning_rate", peak_learning_rate)
        self.warmup_steps = as_integer("warmup_steps", warmup_steps, least=0)
        self.total_steps = as_integer("total_steps", total_steps, least=1)
        self.initial_learning_rate = as_learning_rate("initial_learning_rate", initial_learning_rate)
        self.minimum_learning_rate = as_learning_rate("minimum_learning_rate", minimum_learning_rate)
        if self.warmup_steps > self.total_steps:
            raise ValueError(
                f"total_steps includes the warmup: warmup_steps must be at most total_steps, {self.total_steps}; "
                f"got {self.warmup_steps}."
            )

    def __call__(self, step: Any) -> Any:
        xp, steps = namespace_and_step(step)
        # Differences of whole numbers first: float32 holds a step itself to 2²⁴ only.
        warm = as_floating(xp, steps + 1) / max(1, self.warmup_steps)
        done = as_floating(xp, steps - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        rising = self.initial_learning_rate + (self.peak_learning_rate - self.initial_learning_rate) * warm
        half = (self.peak_learning_rate - self.minimum_learning_rate) / 2
        falling = self.minimum_learning_rate + half * (1 + xp.cos(math.pi * done))
        rate = xp.where(steps < self.warmup_steps, rising, falling)
        return as_result(step, xp.where(steps >= self.total_steps, self.minimum_learning_rate, rate))

    def get_config(self) -> dict[str, Any]:
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "initial_learning_rate": self.initial_learning_rate,
            "minimum_learning_rate": self.minimum_learning_rate,
        }
