"""A learning rate that is multiplied by a factor every so many steps; Keras has it as a smooth decay's `staircase`."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer
from kerasblocks.schedules._step import as_floating, as_learning_rate, as_result, namespace_and_step


def step_decay(step: Any, *, initial_learning_rate: float, factor: float, every: int) -> Any:
    """Computes initial · factor^⌊s / every⌋ of a step s.

    Args:
        step: s, from 0: a number, a NumPy array, a tensor or a variable, of any shape.
        initial_learning_rate: the rate of the first steps, 0 or more.
        factor: what it is multiplied by, 0 or more.
        every: number of steps between two changes, 1 or more.

    Returns:
        A float for a number, a float64 array for an array, a float32 tensor for a tensor.

    Raises:
        ValueError: a rate or factor that is negative or no finite number, an `every` that is no integer of 1 or more, a
            step that is no number.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, section 3.4.

    Example:

    >>> from kerasblocks.schedules import step_decay
    >>> [step_decay(s, initial_learning_rate=1.0, factor=0.5, every=2) for s in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return StepDecay(initial_learning_rate=initial_learning_rate, factor=factor, every=every)(step)


@keras.saving.register_keras_serializable(package="kerasblocks")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Is `step_decay` as a schedule that an optimizer takes as its `learning_rate`, with the same arguments.

    Raises:
        ValueError: as `step_decay`.

    Example:

    >>> import keras
    >>> from kerasblocks.schedules import StepDecay
    >>> optimizer = keras.optimizers.SGD(StepDecay(initial_learning_rate=0.5, factor=0.1, every=30))
    >>> float(optimizer.learning_rate)
    0.5
    """

    def __init__(self, *, initial_learning_rate: float, factor: float, every: int) -> None:
        self.initial_learning_rate = as_learning_rate("initial_learning_rate", initial_learning_rate)
        self.factor = as_learning_rate("factor", factor)
        self.every = as_integer("every", every, least=1)

    def __call__(self, step: Any) -> Any:
        xp, steps = namespace_and_step(step)
        return as_result(step, self.initial_learning_rate * self.factor ** as_floating(xp, steps // self.every))

    def get_config(self) -> dict[str, Any]:
        return {"initial_learning_rate": self.initial_learning_rate, "factor": self.factor, "every": self.every}
