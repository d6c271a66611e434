"""Which learning rate a model wants, from one short run over all of them; Keras has no such sweep."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer, as_number
from kerasblocks._json_values import json_values
from kerasblocks._progress import progress
from kerasblocks._whole_file import whole_file
from kerasblocks.data._batch_source import BatchSource
from kerasblocks.diagnostics._new_figure import new_figure
from kerasblocks.diagnostics._step_batches import StepBatches
from kerasblocks.training import left_as_it_was, step_instrumentation
from kerasblocks.training.left_as_it_was import compiled_optimizer

_STEPS, _MORE_STEPS = 120, 480  # the others where the first have seen no fall
_WIDTH = 0.12  # decades: the standard deviation by which the losses are smoothed
_DIVERGED = 3.0  # the sweep ends where the smoothed loss has lost its gain, and so many times the gain above that
_LEAST_GAIN = 1e-3  # of the loss, that it must fall by for a rate to be suggested
_ERRORS = 3.0  # standard errors of the smoothed loss, that it must fall by too
_VALLEY = 2 / 3  # of the whole fall


@dataclasses.dataclass(frozen=True)
class LearningRateSweep:
    """What a sweep has seen.

    Attributes:
        rates: the learning rate of each step, rising by a constant factor.
        losses: the loss of each step's own batch, before its update; no running mean.
        untrained: the loss of the same batch with the weights of the start, and the same dropout.
        smoothed: the mean of `untrained` plus the difference of the two, smoothed by a Gaussian over the logarithm of
            the rate, of a tenth of a decade; what varies from batch to batch is gone from it.
        slopes: d(smoothed) / d(log10 rate).
        steepest: the rate at which the smoothed loss falls fastest, None where it never falls.
        valley: the rate at which the smoothed loss has fallen by two thirds of all that it falls, which the slow
            beginning of a fall and a plateau before it hardly move.
        before_divergence: a tenth of the rate at which the smoothed loss is least.
        suggestion: the rate to take, None where no rate made the loss fall beyond its noise: the geometric mean of
            `valley` and `before_divergence`, but no lower than the first rate. After a plateau the loss falls late, and
            `valley` alone is too high; where it goes on falling slowly, `valley` alone is too low.
        compiled: the rate that the model is compiled with: of a schedule its largest in the first 1,000 steps.
        diverged: whether the sweep ended before its last rate, because the loss rose or was not finite.
    """

    rates: list[float]
    losses: list[float]
    untrained: list[float]
    smoothed: list[float]
    slopes: list[float]
    steepest: float | None
    valley: float | None
    before_divergence: float | None
    suggestion: float | None
    compiled: float
    diverged: bool

    def __str__(self) -> str:
        names = ("steepest", "valley", "before_divergence", "suggestion", "compiled")
        values = {name: getattr(self, name) for name in names}
        parts = [
            f"{name.replace('_', ' ')} {'none' if value is None else f'{value:.2g}'}" for name, value in values.items()
        ]
        return "learning rate: " + ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as numbers and lists that JSON takes; what is not finite becomes None."""
        return dict(json_values(dataclasses.asdict(self)))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the losses against the rate, on logarithmic scales, with the suggestion and the compiled rate.

        Args:
            path: the picture file; its suffix says the format (PNG, SVG, PDF).

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure = new_figure(7, 4.2)
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, ".", alpha=0.35, label="loss of a batch")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="tab:green", label=f"suggestion {self.suggestion:.2g}")
        axes.axvline(self.compiled, color="tab:gray", linestyle=":", label=f"compiled {self.compiled:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if min(self.smoothed) > 0:
            axes.set_yscale("log")
        low, high = min(self.smoothed), max(self.smoothed[: max(1, len(self.smoothed) // 3)])
        if high > low > 0:
            axes.set_ylim(low / (high / low) ** 0.2, high * (high / low) ** 0.4)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
        with whole_file(Path(path)) as temporary:
            figure.savefig(temporary, dpi=120)


def learning_rate_sweep(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> LearningRateSweep:
    """Trains a model for a few steps with a rising learning rate, and suggests one by how its loss falls.

    The rate of step i is low · (high / low)^(i / (steps − 1)). The loss of every step is that of its own batch before
    the update; `fit`'s own is a running mean and lags behind. The optimizer is a fresh copy of the model's, without
    schedule and accumulation. The sweep ends early where the loss has clearly diverged. Afterwards the model, its
    optimizer, the seeds and the compiled functions are what they were, bit for bit.

    Args:
        model: a compiled model.
        x: arrays; or batches as `fit` takes them: a `PyDataset`, a `tf.data.Dataset`, a `DataLoader`, or a function
            that returns an iterator over batches.
        y: labels, where x is arrays.
        sample_weight: weights, where x is arrays.
        low: first learning rate.
        high: last learning rate.
        steps: number of steps, at least 20; None for 120, and for another sweep of 480 where in these no rate made the
            loss fall: some models begin on a plateau. Each step is taken twice, so these are 240 or 1,200 in all.
        batch_size: samples in a step, where x is arrays; take the one that you train with.
        seed: of the order of arrays.

    Returns:
        The rates, the losses, and what they suggest.

    Raises:
        ValueError: a model that is not compiled, rates that do not rise, a generator that can be run through once only.

    Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3, for the sweep; the
    steepest point and a tenth of the best rate are common practice, the valley and the suggestion are this package's.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.diagnostics import learning_rate_sweep
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(256, 8)).astype("float32")
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile(keras.optimizers.SGD(1e-5), "mse")
    >>> sweep = learning_rate_sweep(model, x, x.sum(1, keepdims=True), high=10.0)
    >>> 0.01 < sweep.suggestion < 1, sweep.compiled
    (True, 1e-05)
    """
    low, high = as_number("low", low), as_number("high", high)
    counts = (_STEPS, _MORE_STEPS) if steps is None else (as_integer("steps", steps, least=20),)
    if not 0 < low < high:
        raise ValueError(f"low and high must be positive and rise; got {low!r} and {high!r}.")
    source = BatchSource(x, y, sample_weight, batch_size=batch_size, seed=seed)
    compiled = compiled_rate(compiled_optimizer(model))
    with left_as_it_was(model, next(source.batches()), learning_rate=low, accumulates=False) as go_back:
        model.steps_per_execution = 1
        for count in counts:
            go_back()
            sweep = _Sweep([low * (high / low) ** (step / (count - 1)) for step in range(count)])
            found = sweep.result(model, source, compiled, go_back)
            if found.suggestion is not None:
                break
    return found


def compiled_rate(optimizer: Any) -> float:
    """Returns the rate of an optimizer, of a schedule its largest in the first 1,000 steps."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        found = max(float(keras.ops.convert_to_numpy(rate(step))) for step in (*range(100), *range(100, 1001, 50)))
    else:
        found = float(keras.ops.convert_to_numpy(inner.learning_rate))
    return float(f"{found:.7g}")  # as it was written, before it was rounded to float32


def rate_after(optimizer: Any, steps: int) -> float:
    """Returns the rate of an optimizer after so many steps, as a part of its largest."""
    rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return 1.0
    return float(keras.ops.convert_to_numpy(rate(steps))) / max(compiled_rate(optimizer), 1e-30)


def judged(
    rates: list[float], losses: list[float], untrained: list[float], compiled: float, diverged: bool
) -> LearningRateSweep:
    """Returns what the losses suggest."""
    position = np.log10(rates)
    gains = np.subtract(losses, untrained)
    smooth, error = _smoothed(position, gains)
    curve = smooth + np.mean(untrained)
    slopes = np.gradient(curve, position) if len(curve) > 1 else np.zeros(1)
    least = int(curve.argmin())
    fall = float(np.mean(untrained) - curve[least])
    fell = least > 0 and fall > max(_LEAST_GAIN * float(np.mean(np.abs(untrained))), _ERRORS * float(error[least]))
    steepest = float(rates[int(slopes[: least + 1].argmin())]) if fell else None
    above = np.flatnonzero(curve[:least] > np.mean(untrained) - _VALLEY * fall)
    valley = float(rates[above[-1] + 1 if len(above) else 0]) if fell else None
    before = rates[least] / 10 if fell else None
    return LearningRateSweep(
        rates=rates,
        losses=losses,
        untrained=untrained,
        smoothed=curve.tolist(),
        slopes=slopes.tolist(),
        steepest=steepest,
        valley=valley,
        before_divergence=before,
        suggestion=None if valley is None or before is None else max(rates[0], math.sqrt(valley * before)),
        compiled=compiled,
        diverged=diverged,
    )


class _Sweep(keras.callbacks.Callback):
    """Sets the rates, remembers the losses, and ends the fit where they diverge."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__()
        self._low, self._factor = math.log(rates[0]), math.log(rates[1] / rates[0])
        self._rates = rates

    def result(
        self, model: keras.Model, source: BatchSource, compiled: float, go_back: Callable[[], None]
    ) -> LearningRateSweep:
        """Returns what the losses suggest, of a model that is put back between its two fits."""
        losses = self.run(model, source)
        go_back()
        untrained = self.run(model, source, trains=False)
        count = min(len(losses), len(untrained))
        return judged(
            self._rates[:count], losses[:count], untrained[:count], compiled, diverged=count < len(self._rates)
        )

    def run(self, model: keras.Model, source: BatchSource, *, trains: bool = True) -> list[float]:
        """Returns the losses of the steps, up to where they diverge; all of them where nothing is trained."""
        self._trains, self._losses = trains, []  # type: tuple[bool, list[float]]
        # One step an epoch, for at its end Keras begins its running means anew.
        steps = len(self._rates)
        batches = StepBatches(source.batches(), steps)
        with progress(steps, "step") as self._advance:
            model.fit(batches, epochs=steps, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[self])
        if len(self._losses) < 2:
            raise ValueError(
                f"The loss was not finite at the rate {self._rates[len(self._losses)]:g}: look at the data and the "
                "model first, or begin at a lower rate."
            )
        return self._losses

    def on_train_begin(self, logs: Any = None) -> None:
        self._step = step_instrumentation(self.model)
        self._step.set_learning_rate(self._rate)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:  # Steps before the first one have the rate 0.
            self._step.set_first_step(self._step.steps() + (0 if self._trains else len(self._rates)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._advance()
        loss = float((logs or {}).get("loss", math.nan))
        if math.isfinite(loss):
            self._losses.append(loss)
        if not math.isfinite(loss) or (self._trains and _diverges(self._losses)):
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        self._step.end()

    def _rate(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        return keras.ops.where(step < 0, 0.0, keras.ops.exp(self._low + self._factor * step))


def _diverges(losses: list[float]) -> bool:
    """Returns whether all of the last losses lie far above the first ones: by the gain in between, spread, or size."""
    if len(losses) < 14:
        return False
    newest, before = np.min(losses[-4:]), losses[:-4]
    first, least, spread = np.median(losses[:10]), np.min(losses), np.std(losses[:10])
    far = newest > first + max(_DIVERGED * (first - least), 5 * spread, 0.5 * abs(first))
    return bool(far and newest > np.max(before[: len(before) // 2]))


def _smoothed(position: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means of a Gaussian's width, and their standard errors by what the values differ from them."""
    kernel = np.exp(-0.5 * ((position[:, None] - position) / _WIDTH) ** 2)
    kernel /= kernel.sum(1, keepdims=True)
    smooth: np.ndarray = kernel @ values
    return smooth, np.sqrt(kernel**2 @ (values - smooth) ** 2)
