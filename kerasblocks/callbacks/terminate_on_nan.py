"""Stops at the first number that is not finite, before it reaches the weights; Keras's sees the running mean loss."""

import collections
import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_flag, as_integer, as_number
from kerasblocks._whole_file import whole_file
from kerasblocks.training import CHECKS, NonFinite, current_replicas, step_instrumentation
from kerasblocks.training.nonfinite import explained, located_in_data

_RECENT = 10  # steps whose numbers the report tells
_REMEMBERED = ("report", "bad_steps", "_recent", "_first_bad", "_first_overflow", "_last", "_epochs")


class TerminateOnNaN(keras.callbacks.Callback):
    """Ends a fit at the first loss, gradient or weight that is NaN or infinite, and says where it came from.

    What is checked is computed inside the compiled step, where it is decided, too, whether the step stands. With
    `skip_update`, a bad step leaves weights, optimizer, moving averages and metrics as they were before it, so the
    model is finite when `fit` returns; past `patience` nothing changes any more until the host, which looks after a few
    dozen steps and at the end of an epoch, has noticed. Then the batch of that step, which has been kept, is run again
    with the weights and seeds of that step, and a report is printed: the step, which variables' gradients were not
    finite, the first layer whose output is not, whether the data were, the largest weights, recent norms and rates, the
    likely cause and a remedy. `fit` returns as usual, with `model.stop_training` set; the folder of
    `keras.callbacks.BackupAndRestore` is kept then.

    A gradient is finite where its L2 norm in float32 is. Under a `LossScaleOptimizer` a step whose gradients overflow
    is the optimizer's to skip and none of `patience`; such a fit ends where the loss scale falls below
    `min_loss_scale`, or after 64 skipped steps in a row.

    Memory: up to 64 batches are kept, of 512 MiB at most; on PyTorch and where TensorFlow does not compile with XLA,
    `skip_update` holds a second copy of weights, optimizer and other state. Without `skip_update` the weights at the
    time of the report are not those of the bad step, and the report says so in `unknown`; the backup that
    `BackupAndRestore` makes at the end of an epoch is then not written over.

    Args:
        check: what is looked at, one or more of `"loss"` (the entry of that name in the step's logs, which is Keras's
            mean over the epoch so far), `"gradients"`, `"weights"` (all variables of the model after the step, but
            those that were not finite when the fit began).
        raise_error: whether `fit` raises RuntimeError with the report, as soon as the host knows, instead of returning.
        skip_update: whether a bad step is undone.
        patience: number of bad steps of a fit after which it still goes on.
        min_loss_scale: least loss scale of a `LossScaleOptimizer`.
        report_path: None, or a JSON file for the report; numbers that are not finite stand there as strings.

    Attributes:
        report: None, or a dict: `step` (counted from 0 in this fit), `epoch`, `batch` (in the epoch), `stopped_at`
            (the same step, but the last one where a loss scale has skipped all those from `step` on), `found` (the
            checks that failed), `loss` (of the batch), `loss_scale`, `gradients` and `weights_after` (paths of the
            variables that were not finite), `recent` (mean loss of the epoch, gradient norm and learning rate of the
            last steps), `bad_steps`, `learning_rate`, `unknown` (what cannot be known), and the fields of
            `kerasblocks.training.NonFinite`, found on the batch of `stopped_at`.
        bad_steps: steps of the last fit in which a number was not finite.

    Raises:
        ValueError: an argument outside its range; when training begins, a model without an optimizer of Keras, or a
            second callback of this class.
        RuntimeError: during `fit`, with `raise_error`.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import TerminateOnNaN
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    >>> model.compile("sgd", "mse")
    >>> x = np.array([[1.0], [2.0], [np.nan], [3.0]])
    >>> guard = TerminateOnNaN()
    >>> history = model.fit(x, x, batch_size=1, shuffle=False, verbose=0, callbacks=[guard])  # doctest: +ELLIPSIS
    The fit was stopped at step 2 (epoch 0, batch 2): not finite: loss, gradients...
    >>> guard.report["inputs"], model.get_weights()[0].tolist()
    (['x: 1 of 1 numbers, in 1 of 1 samples, first sample 0'], [[1.0]])
    """

    async_safe = True  # Nothing is done per batch.

    def __init__(
        self,
        check: Sequence[str] = CHECKS,
        raise_error: bool = False,
        skip_update: bool = True,
        patience: int = 0,
        min_loss_scale: float = 1.0,
        report_path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        named = [check] if isinstance(check, str) else check
        if not isinstance(named, Sequence | set | frozenset) or not named or any(each not in CHECKS for each in named):
            raise ValueError(f"check must be one or more of {', '.join(CHECKS)}; got {check!r}.")
        self.check = tuple(each for each in CHECKS if each in named)
        self.raise_error = as_flag("raise_error", raise_error)
        self.skip_update = as_flag("skip_update", skip_update)
        self.patience = as_integer("patience", patience, least=0)
        self.min_loss_scale = as_number("min_loss_scale", min_loss_scale)
        if self.min_loss_scale < 0:
            raise ValueError(f"min_loss_scale must be at least 0; got {min_loss_scale!r}.")
        self.report_path = None if report_path is None else Path(report_path).absolute()
        self.report: dict[str, Any] | None = None
        self.bad_steps: list[int] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the guard into the step."""
        self.report, self.bad_steps = None, []
        if self.report_path is not None:
            self.report_path.parent.mkdir(parents=True, exist_ok=True)
        self._recent: collections.deque[dict[str, Any]] = collections.deque(maxlen=_RECENT)
        self._first_bad: dict[str, Any] | None = None
        self._first_overflow: dict[str, Any] | None = None
        self._last: dict[str, Any] | None = None
        self._epochs: list[tuple[int, int]] = []
        self._step = step_instrumentation(self.model)
        self._step.set_guard(
            self.check,
            skip_update=self.skip_update,
            patience=self.patience,
            min_loss_scale=self.min_loss_scale,
            on_stop=self._stop,
            at_once=self.raise_error,
        )
        self._step.add_listener(self._take)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers at which step the epoch begins."""
        if not self._epochs or self._epochs[-1][1] != epoch:  # A run may be resumed in the middle of one.
            self._epochs.append((self._step.batches_seen, epoch))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads what the steps have left on the device."""
        self._step.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the step back."""
        self._step.flush()
        self._step.end()
        if self.bad_steps and self.report is None:
            _say(f"Steps with numbers that are not finite, within patience: {self.bad_steps}.")

    def state_dict(self) -> dict[str, Any]:
        """Returns what the next report would tell of the steps so far, for a run that is resumed."""
        return {name: _listed(getattr(self, name)) for name in _REMEMBERED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` has returned."""
        for name in _REMEMBERED:
            setattr(self, name, state[name])
        self._epochs = [(begin, epoch) for begin, epoch in state["_epochs"]]
        self._recent = collections.deque(state["_recent"], maxlen=_RECENT)

    def _take(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["bad"]:
                self.bad_steps.append(row["step"])
                self._first_bad = self._first_bad or row
            self._first_overflow = (self._first_overflow or row) if row.get("overflow") else None
            self._last = row
            self._recent.append(
                {"step": row["step"]}
                | ({"mean_loss": row["loss"]} if "loss" in row else {})
                | {"gradient_norm": row["global_norm"]}
                | ({"learning_rate": row["learning_rate"]} if "learning_rate" in row else {})
            )

    def _stop(self) -> None:
        """Reports, keeps backups, and stops the fit or raises."""
        self._step.flush()
        assert self._last is not None  # noqa: S101 - it is the row that has stopped the fit
        row = self._last
        if not row["bad"]:
            row = self._first_overflow or row
        elif not self.skip_update:
            row = self._first_bad or row
        self.report = self._report(row)
        text = _text(self.report)
        if not self.raise_error:
            _say(text)
        if self.report_path is not None and current_replicas().is_first:
            with whole_file(self.report_path) as path:
                path.write_text(json.dumps(_in_json(self.report), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        if self.raise_error:
            raise RuntimeError(text)
        for callback in self._step.callbacks:
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                self._step.when_fit_is_over(_keep(callback, poisoned=not self.skip_update))

    def _report(self, row: dict[str, Any]) -> dict[str, Any]:
        begin, epoch = max(each for each in self._epochs if each[0] <= row["step"])
        gradients = _not_finite(self._step.paths, row["gradients"])
        after = _not_finite(self._step.guarded_paths, row["weights"])
        looked_at = {"loss": not math.isfinite(row.get("loss", 0.0)), "gradients": gradients, "weights": after}
        found, unknown = self._replay(row)
        found = dataclasses.replace(found, gradients=gradients or found.gradients)
        found = explained(found, after, None if row["bad"] else self._last_scale())
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return {
            "step": row["step"],
            "epoch": epoch,
            "batch": row["step"] - begin,
            "stopped_at": row["step"] if row["bad"] or self._last is None else self._last["step"],
            "found": [name for name in self.check if looked_at[name]],
            **dataclasses.asdict(found),
            "weights_after": after,
            "loss_scale": self._last_scale(),
            "learning_rate": row.get("learning_rate", rate),
            "recent": list(self._recent),
            "bad_steps": list(self.bad_steps),
            "unknown": unknown,
        }

    def _replay(self, row: dict[str, Any]) -> tuple[NonFinite, list[str]]:
        """Returns what is found on the step's batch, and what cannot be known."""
        step = row["step"] if row["bad"] or self._last is None else self._last["step"]
        unknown = []
        if self._step.batch(step) is None:
            unknown.append("the batch of the step is no longer kept: too many steps have run since.")
        elif not self.skip_update:
            unknown.append("without skip_update the step's weights are gone: in which layer it began cannot be told.")
        else:
            try:
                found = self._step.replay(step)
            except Exception as error:  # A model may take batches in its own way; the report must come all the same.
                unknown.append(f"the batch could not be run again: {type(error).__name__}: {error}")
            else:
                assert found is not None  # noqa: S101 - there is a batch
                return found, unknown
        return located_in_data(self.model, self._step.batch(step), row.get("loss", math.nan)), unknown

    def _last_scale(self) -> float:
        return math.nan if self._last is None else float(self._last.get("loss_scale", math.nan))


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, collections.deque) else value


def _say(text: str) -> None:
    if current_replicas().is_first:
        print(text)  # noqa: T201 - for the person who trains, as Keras's own messages are


def _not_finite(paths: list[str], numbers: np.ndarray) -> list[str]:
    return [path for path, number in zip(paths, numbers, strict=True) if not math.isfinite(number)]


def _keep(backup: keras.callbacks.BackupAndRestore, poisoned: bool) -> Callable[[], None]:
    """Keeps the callback from deleting its folder at the end of this fit, and from saving poisoned weights in it.

    Returns a function that takes this back, which the end of the fit does, too.
    """
    attributes, before = vars(backup), dict(vars(backup))

    def take_back() -> None:
        for name in ("on_train_end", "on_epoch_end"):
            attributes.pop(name, None)
            if name in before:
                attributes[name] = before[name]

    attributes["on_train_end"] = lambda logs=None: take_back()
    if poisoned:
        attributes["on_epoch_end"] = lambda epoch, logs=None: None
    return take_back


def _text(report: dict[str, Any]) -> str:
    """Returns the report as a person reads it."""
    where = f"step {report['step']} (epoch {report['epoch']}, batch {report['batch']})"
    what = f"not finite: {', '.join(report['found'])}."
    lines = [f"The fit was stopped at {where}: {what}"]
    if report["stopped_at"] != report["step"]:
        lines = [
            f"The fit was stopped at step {report['stopped_at']}: the loss scale has fallen to "
            f"{report['loss_scale']:g}, for from {where} on every step's gradients were not finite."
        ]
    layer = report["layer"] and f"{report['layer']} ({report['layer_type']})"
    for title, content in (
        ("Loss", report["loss"]),
        ("Learning rate", f"{report['learning_rate']:.4g}"),
        ("Loss scale", None if math.isnan(report["loss_scale"]) else f"{report['loss_scale']:g}"),
        ("Inputs that are not finite", "; ".join(report["inputs"])),
        ("Labels that are not finite", "; ".join(report["labels"])),
        ("Sample weights that are not finite", "; ".join(report["sample_weight"])),
        ("First layer whose output is not finite", layer),
        ("Gradients that are not finite", ", ".join(report["gradients"])),
        (
            "Variables that the update makes not finite",
            "" if report["gradients"] else ", ".join(report["weights_after"]),
        ),
        ("Largest weights", ", ".join(f"{path} {size:.4g}" for path, size in report["largest_weights"].items())),
        ("Bad steps before it", report["bad_steps"][:-1]),
        ("Likely cause", report["cause"]),
        ("Remedy", report["remedy"]),
        ("Unknown", " ".join(report["unknown"])),
    ):
        if content:
            lines.append(f"  {title}: {content}")
    lines.append("  Last steps:")
    for row in report["recent"]:
        numbers = ", ".join(f"{name} {row[name]:.4g}" for name in row if name != "step")
        lines.append(f"    {row['step']}: {numbers}")
    return "\n".join(lines)


def _in_json(content: Any) -> Any:
    """Returns the content with strings for the numbers that JSON has not."""
    if isinstance(content, dict):
        return {name: _in_json(part) for name, part in content.items()}
    if isinstance(content, list | tuple):
        return [_in_json(part) for part in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content
