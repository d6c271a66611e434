"""What all checks look at: the model, some of its data, and what has been measured of both once."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks.data import DataAudit, audit
from kerasblocks.data._batch_source import BatchSource
from kerasblocks.diagnostics._head import Head, head_of
from kerasblocks.diagnostics._layer_record import LayerRecord, as_numbers, recorded
from kerasblocks.diagnostics._step_batches import StepBatches
from kerasblocks.diagnostics._step_callbacks import Losses, Updates
from kerasblocks.diagnostics.learning_rate_sweep import LearningRateSweep, compiled_rate, learning_rate_sweep
from kerasblocks.training import batch_gradients

_SAMPLES = 20_000  # that are audited
_BATCH, _LEAST_BATCH = 128, 16  # samples of the batch that is looked at in the model
_READING = 0.2  # of the time that is left, for batches to be read
_SWEEP, _LEAST_SWEEP = 100, 20  # steps
LATER = 50  # steps, after which a schedule should not have come to its end
_FIT = 150  # steps of a short fit
_FEW = 5  # steps after which what begins at 0 has woken up
_ADAM = 3e-3  # rate
_LEARNED = 0.05  # of the first loss, where samples are known by heart


class BudgetError(Exception):
    """There is no time left for what was to be measured."""


class Case:
    """A model and its data, and what the checks share.

    What costs time is measured when the first check asks for it.
    """

    def __init__(
        self,
        model: Any,
        source: BatchSource,
        validation: BatchSource | None,
        *,
        seed: int,
        batch_size: int,
        is_trained: bool,
        deadline: float,
        rate_later: float,
        go_back: Callable[[], None],
    ) -> None:
        self.model, self.source, self.validation = model, source, validation
        self.seed, self.batch_size, self.is_trained = seed, batch_size, is_trained
        self.deadline, self.rate_later, self.go_back = deadline, rate_later, go_back
        self._tries: dict[str, Any] = {}

    def seconds_left(self) -> float:
        """Returns how many seconds of the budget are left."""
        return self.deadline - time.monotonic()

    def check_budget(self) -> None:
        """Raises `BudgetError` where no time is left."""
        if self.seconds_left() <= 0:
            raise BudgetError

    @functools.cached_property
    def samples(self) -> tuple[Any, Any, Any]:
        """Samples, `(x, y, sample_weight)`; as many as are read in a part of the time."""
        return self.source.samples(_SAMPLES, seconds=_READING * self.seconds_left())

    @functools.cached_property
    def audit(self) -> DataAudit:
        """What the data audit finds."""
        x, y, _ = self.samples
        validation = None if self.validation is None else self.validation_samples[:2]
        self.check_budget()
        if self.source.are_arrays:  # all of which it looks through for what is not finite
            x, y = self.source.arrays[:2]
            validation = self.validation.arrays[:2] if self.validation and self.validation.are_arrays else validation
        return audit(x, y, validation_data=validation, max_samples=_SAMPLES, seed=self.seed)

    @functools.cached_property
    def classes(self) -> np.ndarray | None:
        """The class of each sample, None where labels are no classes of whole samples, or the loss takes numbers."""
        return self.classes_of(self.samples[1])

    def classes_of(self, y: Any) -> np.ndarray | None:
        """Returns the class of each of these labels, None where they are none."""
        takes_numbers = self.head is not None and self.head.loss in ("regression", "rate", "distribution")
        found = None if takes_numbers else classes_of(y)
        is_ignored = found is not None and self.head is not None and (found == self.head.ignored).any()
        return None if is_ignored else found

    def compares_logits_with_half(self) -> bool:
        """Returns whether the metric "accuracy" was asked for by name, which is a BinaryAccuracy with threshold 0.5."""
        metrics = getattr(self.model._compile_metrics, "_user_metrics", None)
        return any(each in ("accuracy", "acc", "binary_accuracy") for each in keras.tree.flatten(metrics or []))

    @functools.cached_property
    def batch(self) -> tuple[Any, Any, Any]:
        """Samples drawn from the first ones at random."""
        count = len(keras.tree.flatten(self.samples[0])[0])
        most = min(_BATCH, max(_LEAST_BATCH, 4 * self.batch_size))  # A larger one may not fit into memory.
        chosen = np.random.default_rng(self.seed).permutation(count)[:most]
        batch: tuple[Any, Any, Any] = keras.tree.map_structure(
            lambda leaf: None if leaf is None else leaf[chosen], self.samples
        )
        return batch

    @functools.cached_property
    def inference(self) -> LayerRecord:
        """What the layers make of the batch in inference."""
        return recorded(self.model, self.batch[0], training=False)

    @functools.cached_property
    def begins_trained(self) -> bool:
        """Whether the weights have been trained before the model was compiled, by biases that are no longer 0."""
        biases = [
            as_numbers(layer.bias)
            for layer in self.model._flatten_layers()
            if isinstance(getattr(layer, "bias_initializer", None), keras.initializers.Zeros)
            and getattr(layer, "bias", None) is not None
        ]
        moved = [bool(each.any()) for each in biases if each.size > 1]
        return self.is_trained or (len(moved) > 0 and sum(moved) > len(moved) / 2)

    @property
    def outputs(self) -> Any:
        """What the model makes of the batch in inference, as NumPy arrays."""
        return self.inference.outputs

    @functools.cached_property
    def head(self) -> Head | None:
        """What is known of the one output and its loss, None where there are several."""
        return head_of(self.model, self.outputs)

    @functools.cached_property
    def gradients(self) -> tuple[float, dict[str, np.ndarray | None]]:
        """The loss of the batch, and its gradient by each trainable variable's path."""
        return batch_gradients(self.model, *self.batch)

    @functools.cached_property
    def penalty(self) -> float:
        """What regularizers add to the loss of the batch."""
        self.forward(self.batch[0], training=True)
        return float(sum(float(keras.ops.convert_to_numpy(each)) for each in self.model.losses))

    def forward(self, x: Any, *, training: bool = False) -> Any:
        """Returns what the model makes of inputs, with the random numbers of the start, as NumPy arrays."""
        self.go_back()
        arguments = {"training": training} if self.model._call_has_training_arg else {}
        outputs = self.model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), **arguments)
        return keras.tree.map_structure(as_numbers, outputs)

    @functools.cached_property
    def rate(self) -> float:
        """The learning rate that the model is compiled with."""
        return compiled_rate(self.model.optimizer)

    @functools.cached_property
    def sweep(self) -> LearningRateSweep:
        """A sweep of the learning rate on the data, of as many steps as there is time for."""
        begin, seconds = self.step_seconds
        # Each step is taken twice, and the step is compiled anew.
        steps = int(min(_SWEEP, (0.6 * self.seconds_left() - begin) / (2 * max(seconds, 1e-6))))
        if steps < _LEAST_SWEEP:
            raise BudgetError
        return learning_rate_sweep(self.model, self.source.batches, steps=steps)

    @functools.cached_property
    def gradients_after_some_steps(self) -> tuple[float, dict[str, np.ndarray | None]]:
        """As `gradients`, after a few steps on other samples."""
        self._fit(self.source.batches(), _FEW)
        try:
            return batch_gradients(self.model, *self.batch)
        finally:
            self.go_back()

    @functools.cached_property
    def outputs_after_some_steps(self) -> Any:
        """As `outputs`, after a few steps on other samples."""
        self._fit(self.source.batches(), _FEW)
        try:
            return keras.tree.map_structure(np.asarray, self.model.predict(self.batch[0], batch_size=_BATCH, verbose=0))
        finally:
            self.go_back()

    @functools.cached_property
    def update_ratios(self) -> tuple[dict[str, float], float]:
        """What a step changes each matrix by, and all of them as one, as a part of what they were; of a few steps."""
        seen = Updates()
        self._fit(self.source.batches(), _FEW, callbacks=[seen])
        self.go_back()
        return seen.ratios()

    @functools.cached_property
    def step_seconds(self) -> tuple[float, float]:
        """How long it takes until a first step is made, and how long a step takes."""
        self.check_budget()
        start = time.monotonic()
        self._fit(self.source.batches(), 2)
        begun = time.monotonic()
        self._fit(self.source.batches(), 3)
        self.go_back()
        return begun - start, (time.monotonic() - begun) / 3

    @functools.cached_property
    def sample_seconds(self) -> float:
        """How long a sample takes in inference."""
        self.check_budget()
        self.model.predict(self.batch[0], batch_size=_BATCH, verbose=0)
        start = time.monotonic()
        self.model.predict(self.batch[0], batch_size=_BATCH, verbose=0)
        return (time.monotonic() - start) / len(keras.tree.flatten(self.batch[0])[0])

    def overfitted(self, samples: int, steps: int, rate: float = _ADAM) -> list[float]:
        """Returns the losses of training on a few samples with Adam, up to where they are learned or time is over."""
        few = keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[:samples], self.batch)
        with self._adam(rate):
            return self._fit(itertools.repeat(few), steps, stops_at=_LEARNED)

    def predicted_after_a_fit(self, train: np.ndarray, test: np.ndarray) -> np.ndarray | None:
        """Returns what the model says of some samples after a short fit to others: classes, or numbers."""
        rng, x = np.random.default_rng(self.seed), keras.tree.map_structure(lambda leaf: leaf[test], self.samples[0])
        steps = int(min(_FIT, _READING * self.seconds_left() / max(self.step_seconds[1], 1e-6)))
        if steps < _LEAST_SWEEP:
            raise BudgetError

        def batches() -> Iterator[Any]:
            while True:
                rows = rng.choice(train, min(len(train), max(self.batch_size, _LEAST_BATCH)), replace=False)
                yield keras.tree.map_structure(
                    lambda leaf, rows=rows: None if leaf is None else leaf[rows], self.samples
                )

        with self._adam():
            self._fit(batches(), steps)
            outputs = np.asarray(self.model.predict(x, batch_size=_BATCH, verbose=0), "float64").reshape(len(test), -1)
        if not np.isfinite(outputs).all():
            return None
        told: np.ndarray = outputs.mean(1)
        if self.classes is not None and outputs.shape[1] > 1:
            told = np.searchsorted(np.unique(self.classes), outputs.argmax(1))
        elif self.classes is not None:
            told = (told > np.median(told)).astype("int64")
        return told

    @contextlib.contextmanager
    def _adam(self, rate: float = _ADAM) -> Iterator[None]:
        """Has the model trained by Adam for a while, and put back afterwards; its step is compiled once."""
        own = {name: self.model.__dict__.get(name) for name in ("optimizer", "train_function")}
        if not self._tries:
            adam: Any = keras.optimizers.Adam(rate)
            if isinstance(own["optimizer"], keras.optimizers.LossScaleOptimizer):
                adam = keras.optimizers.LossScaleOptimizer(adam, initial_scale=2.0**10)
            adam.build(self.model.trainable_variables)
            self._tries = {"optimizer": adam, "train_function": None}
        adam = self._tries["optimizer"]
        starts = [keras.ops.convert_to_numpy(variable).copy() for variable in adam.variables]
        adam.learning_rate = rate
        self.model.__dict__.update(self._tries)
        try:
            yield
        finally:
            self._tries["train_function"] = self.model.__dict__.get("train_function")
            self.model.__dict__.update(own)
            self.go_back()
            for variable, start in zip(adam.variables, starts, strict=True):
                variable.assign(start)

    def batch_gradient_squares(self) -> tuple[tuple[int, float], tuple[int, float]] | None:
        """Returns sizes of a small and a large batch, with the mean square of the gradient's norm of each."""
        count = len(keras.tree.flatten(self.batch[0])[0])
        small = max(1, count // 8)
        if count < 16:
            return None
        found = []
        for start in range(0, 8 * small, small):
            self.check_budget()
            part = keras.tree.map_structure(
                lambda leaf, start=start: None if leaf is None else leaf[start : start + small], self.batch
            )
            found.append(_square(batch_gradients(self.model, *part)[1]))
        return (small, float(np.mean(found))), (count, _square(self.gradients[1]))

    @functools.cached_property
    def validation_samples(self) -> tuple[Any, Any, Any]:
        """The first samples of the validation data."""
        assert self.validation is not None  # noqa: S101 - asked for where there are some
        return self.validation.samples(_SAMPLES, seconds=_READING * self.seconds_left())

    @functools.cached_property
    def losses_of_samples(self) -> tuple[float, float]:
        """The loss of the training and of the validation samples, in inference."""
        parts = [self._within_time(part) for part in (self.samples, self.validation_samples)]
        return self._evaluated(*parts[0]), self._evaluated(*parts[1])

    @functools.cached_property
    def loss_in_inference(self) -> float:
        """The loss of the batch, in inference."""
        return self._evaluated(*self.batch)

    @functools.cached_property
    def validation_predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Probabilities and classes of the validation samples, None for a model that is no classifier of samples."""
        head = self.head
        if self.validation is None or head is None or head.loss not in ("sparse", "categorical", "binary"):
            return None
        x, y, _ = self._within_time(self.validation_samples)
        labels = classes_of(y)
        if labels is None or labels.min() < 0 or labels.max() >= max(2, head.units):
            return None
        outputs = np.asarray(self.model.predict(x, batch_size=_BATCH, verbose=0), "float64")
        if outputs.ndim != 2 or (head.loss == "binary" and outputs.shape[1] > 1) or not np.isfinite(outputs).all():
            return None
        if outputs.shape[1] == 1:
            one = 1 / (1 + np.exp(-outputs)) if head.from_logits else np.clip(outputs, 0, 1)
            return np.concatenate([1 - one, one], 1), labels
        if head.from_logits:
            outputs = np.exp(outputs - outputs.max(1, keepdims=True))
        return outputs / np.maximum(outputs.sum(1, keepdims=True), 1e-30), labels

    def _within_time(self, samples: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """Returns as many of the samples as the model can be asked for in a part of the time, and at least a batch."""
        most = max(_BATCH, int(_READING * self.seconds_left() / max(self.sample_seconds, 1e-9)))
        part: tuple[Any, Any, Any] = keras.tree.map_structure(
            lambda leaf: None if leaf is None else leaf[:most], samples
        )
        return part

    def _evaluated(self, x: Any, y: Any, weight: Any) -> float:
        self.check_budget()
        options = {"sample_weight": weight, "batch_size": _BATCH, "verbose": 0, "return_dict": True}
        return float(self.model.evaluate(x, y, **options)["loss"])

    def _fit(
        self,
        batches: Iterator[Any],
        steps: int,
        stops_at: float = 0.0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> list[float]:
        """Trains, and returns the loss of each step before it."""
        seen = Losses(stops_at, self.deadline)
        steps_of = StepBatches(batches, steps)
        self.model.fit(
            steps_of, epochs=steps, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[*callbacks, seen]
        )
        return seen.losses


def _square(gradients: dict[str, np.ndarray | None]) -> float:
    return float(sum((each.astype("float64") ** 2).sum() for each in gradients.values() if each is not None))


def classes_of(y: Any) -> np.ndarray | None:
    """Returns the class of each sample, None where labels are no classes of whole samples."""
    if not isinstance(y, np.ndarray) or not y.size:
        return None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 1 and y.dtype.kind in "biuf" and (y.dtype.kind == "b" or (y == np.floor(y)).all()):
        whole: np.ndarray = y.astype("int64")
        return whole
    if y.ndim == 2 and y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(1) == 1).all():
        chosen: np.ndarray = y.argmax(1)
        return chosen
    return None
