"""Linear warmup and cosine decay over exactly the steps that `fit` will take; Keras's schedules want them counted."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_number
from kerasblocks.schedules import WarmupCosineDecay
from kerasblocks.training import step_instrumentation


class WarmupCosine(keras.callbacks.Callback):
    """Lets the learning rate rise and fall as `schedules.warmup_cosine` does, over the updates of this fit.

    The rate is computed inside the compiled step, from the optimizer's own count of steps: nothing is assigned from the
    host, and a fit that resumes (`initial_epoch`, or a restored optimizer) goes on where it was. The variable
    `optimizer.learning_rate` keeps its value, which holds again when the fit is over. Where gradients are accumulated,
    an update counts as one step.

    `learning_rate` joins the logs of every step; in those of an epoch it is the rate of its last step.

    Args:
        peak_learning_rate: the rate at the end of the warmup; None for the optimizer's.
        warmup: the warmup as a share of the updates (a float from 0.0 to 1.0), or as a number of updates (an integer).
        initial_learning_rate: where the warmup starts from.
        minimum_learning_rate: where the cosine ends.
        total_steps: number of updates, warmup included; None for all those of the fit: ⌊epochs · batches / batches an
            update⌋.

    Raises:
        ValueError: an argument outside its range; when training begins, a model without an optimizer of Keras, one
            that has a schedule of its own, an unknown number of batches where `total_steps` is None, a warmup longer
            than the fit, or a second callback that sets the rate.

    Source: see `schedules.warmup_cosine`.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import WarmupCosine
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.Adam(1.0), "mse")
    >>> x, y = np.ones((2, 2)), np.ones(2)
    >>> history = model.fit(x, y, epochs=4, verbose=0, callbacks=[WarmupCosine(warmup=2)])
    >>> [round(rate, 4) for rate in history.history["learning_rate"]]
    [0.5, 1.0, 1.0, 0.5]
    """

    async_safe = True  # Nothing is done per batch.

    def __init__(
        self,
        peak_learning_rate: float | None = None,
        *,
        warmup: float = 0.05,
        initial_learning_rate: float = 0.0,
        minimum_learning_rate: float = 0.0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.peak_learning_rate = peak_learning_rate
        self.warmup = _as_warmup(warmup)
        self.initial_learning_rate = initial_learning_rate
        self.minimum_learning_rate = minimum_learning_rate
        self.total_steps = None if total_steps is None else as_integer("total_steps", total_steps, least=1)
        self._make_schedule(1.0 if peak_learning_rate is None else peak_learning_rate, self.total_steps)
        self._begun = False
        self._first_step: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts the updates and puts the schedule into the step."""
        self._step = step_instrumentation(self.model)
        optimizer = self._step.optimizer
        if not isinstance(optimizer._learning_rate, keras.Variable):
            raise ValueError(
                "WarmupCosine needs an optimizer with a number as its learning_rate, for it sets the rate itself; "
                f"got {optimizer._learning_rate!r}. Compile with a number, or leave the callback out."
            )
        peak = self.peak_learning_rate
        if peak is None:
            peak = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        total = self.total_steps
        if total is None:
            epochs, batches = self.params.get("epochs"), self.params.get("steps")
            if not batches:
                raise ValueError(
                    "WarmupCosine cannot count the steps, for the data have no known length. "
                    "Pass steps_per_epoch to fit, or total_steps to WarmupCosine."
                )
            total = max(1, epochs * batches // (optimizer.gradient_accumulation_steps or 1))
        self._schedule = self._make_schedule(peak, total)
        self._step.set_learning_rate(self._schedule)
        self._begun, self._first_step = False, None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Finds out where in the schedule the fit begins."""
        if not self._begun:
            self._begin(self._step.steps() - epoch * (self.params.get("steps") or 0))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the step back to the optimizer's own rate."""
        self._step.end()

    def state_dict(self) -> dict[str, Any]:
        """Returns the schedule and where it begins, for a run that is resumed."""
        return {"first_step": self._first_step, "schedule": self._schedule.get_config()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` has returned.

        Raises:
            ValueError: it is of another schedule, as for another number of epochs.
        """
        now = self._schedule.get_config()
        if state["schedule"] != now:
            raise ValueError(f"The run has the schedule {state['schedule']}; WarmupCosine would go on with {now}.")
        if state["first_step"] is not None:
            self._begin(int(state["first_step"]))

    def _begin(self, first_step: int) -> None:
        self._begun, self._first_step = True, first_step
        self._step.set_first_step(first_step)

    def _make_schedule(self, peak: float, total: int | None) -> WarmupCosineDecay:
        """Returns the schedule, and checks what can be checked of it where the total is not known yet."""
        steps = self.warmup
        if isinstance(steps, float):
            steps = 0 if total is None else round(steps * total)
        if total is not None and steps > total:
            raise ValueError(f"warmup must be at most the number of updates, {total}; got {self.warmup!r}.")
        return WarmupCosineDecay(
            peak_learning_rate=peak,
            warmup_steps=steps,
            total_steps=max(1, steps) if total is None else total,
            initial_learning_rate=self.initial_learning_rate,
            minimum_learning_rate=self.minimum_learning_rate,
        )


def _as_warmup(warmup: Any) -> int | float:
    if isinstance(warmup, float):
        share = as_number("warmup", warmup)
        if not 0 <= share <= 1:
            raise ValueError(
                f"warmup must be a share from 0.0 to 1.0, or a number of updates as an integer; got {warmup!r}."
            )
        return share
    return as_integer("warmup", warmup, least=0)
