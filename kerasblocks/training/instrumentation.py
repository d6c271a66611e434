"""A look inside the compiled step of `fit`: what is computed of the gradients leaves it with the logs; Keras has none.

While a fit runs, a few methods of that one model and that one optimizer are replaced on the instances. They act inside
its train step only, and are taken away when the fit ends or, where it raised, before the next use of the model.
"""

import collections
import math
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np

from kerasblocks.training._step_guard import CHECKS, StepGuard, not_finite
from kerasblocks.training._step_program import (
    NORMS,
    Statistic,
    StepProgram,
    check_replicas,
    random_state,
    replicas_of,
    updated_by,
    whole_batch,
)
from kerasblocks.training.nonfinite import NonFinite, located

_HELD = 1000  # executions whose numbers may wait on the device
_RUNNING = 8  # the newest of them, which the device may still be at
_KEPT_BATCHES = 64  # at most, where a guard may want one again
_KEPT_BYTES = 2**29  # of batches, at most
_KEPT_SHARES = 16  # of batches that several replicas share
_RUNNING_FIT = "_kerasblocks_instrumentation"  # on the model, while a fit runs
_PROGRAM = "kerasblocks_program"  # on Keras's own train function, which `compile` drops and this with it


def step_instrumentation(model: Any) -> "StepInstrumentation":
    """Returns the instrumentation of the fit that is about to run on this model, the same for all its callbacks.

    To be called in `Callback.on_train_begin`, before the first step.

    Args:
        model: the model.

    Raises:
        ValueError: a model that has not been compiled with an optimizer of Keras.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.training import step_instrumentation
    >>> def largest(gradients, variables):
    ...     return keras.ops.max(keras.ops.stack([keras.ops.max(keras.ops.abs(g)) for g in gradients]))
    >>> class LargestGradient(keras.callbacks.Callback):
    ...     def on_train_begin(self, logs=None):
    ...         self.step = step_instrumentation(self.model)
    ...         self.step.add_statistic("largest_gradient", largest)
    ...     def on_train_end(self, logs=None):
    ...         self.step.end()
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[LargestGradient()])
    >>> history.history["largest_gradient"]
    [2.0]
    """
    instrumentation = running_instrumentation(model)
    if instrumentation is None:
        instrumentation = StepInstrumentation(model)
        callbacks = _caller(lambda frame: isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList))
        if callbacks is not None:  # It lives as long as fit does, unless it is the user's; also where fit raises.
            instrumentation.begun_by(callbacks.f_locals["self"])
    return instrumentation


def running_instrumentation(model: Any) -> "StepInstrumentation | None":
    """Returns the instrumentation of the fit that runs on this model, None where no callback has asked for one."""
    instrumentation: StepInstrumentation | None = model.__dict__.get(_RUNNING_FIT)
    return instrumentation


class StepInstrumentation:
    """What the callbacks of one fit ask of its train step; `step_instrumentation` gives it to them."""

    def __init__(self, model: Any) -> None:
        optimizer: Any = getattr(model, "optimizer", None)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"The model must be compiled with a Keras optimizer; got {optimizer!r}.")
        if model.steps_per_execution > 1 and not model.built:
            raise ValueError(
                "With steps_per_execution > 1 the model must be built before fit: call it on a batch first."
            )
        check_replicas(model)
        self._model, self._optimizer = model, optimizer
        self._thread = threading.get_ident()
        self._statistics: dict[str, Statistic] = {}
        self._norms: list[str] = []
        self._schedule: Callable[[Any], Any] | None = None
        self._guard: StepGuard | None = None
        self._on_stop: Callable[[], None] = lambda: None
        self._at_once = self._stopped = self._closed = False
        self._batches: collections.deque[Any] = collections.deque(maxlen=_KEPT_BATCHES)
        self._batches_seen = self._looked_at = 0
        self._first_step = 0
        self._carried: dict[str, Any] = {}  # what a run that is resumed brings along
        self._program: StepProgram | None = None
        self._rows: list[Any] = []
        self._reported = 0
        self._means: dict[str, tuple[float, int]] = {}  # of the epoch: sum and number of what is finite
        self._listeners: list[Callable[[list[dict[str, Any]]], None]] = []
        self._put_back: list[Callable[[], object]] = []
        self._callbacks: Callable[[], Any] = lambda: None
        self._install(model)

    @property
    def paths(self) -> list[str]:
        """The paths of the trainable variables, in the order of the norms of each; empty before the first step."""
        return [] if self._program is None else self._program.paths

    @property
    def guarded_paths(self) -> list[str]:
        """The paths of the variables that a guard looks at after a step; empty before the first step."""
        return [] if self._program is None else self._program.guarded_paths

    @property
    def batches_seen(self) -> int:
        """How many batches of this fit a guard has seen, which is the number of the next step."""
        return self._batches_seen

    @property
    def optimizer(self) -> Any:
        """The optimizer whose rate and steps count: the one inside where a loss scale is around it."""
        return updated_by(self._optimizer)

    @property
    def callbacks(self) -> list[Any]:
        """The callbacks of the fit."""
        callbacks = self._callbacks()
        return [] if callbacks is None else list(callbacks.callbacks)

    def when_fit_is_over(self, function: Callable[[], object]) -> None:
        """Calls `function` when the fit's list of callbacks is no more, which is so where `fit` has raised, too."""
        callbacks = self._callbacks()
        if callbacks is not None:
            weakref.finalize(callbacks, function).atexit = False

    def add_statistic(self, name: str, function: Statistic) -> None:
        """Computes `function(gradients, variables)` in every step, and adds it to the logs as `name`.

        The gradients are those of the trainable variables that have one, unscaled and before clipping; the variables
        are their values before the update. In the logs of an epoch stands the mean over its steps, without those
        where the number is not finite.

        Args:
            name: name of the log entry.
            function: takes two lists of tensors and returns a scalar, written in `keras.ops`. Callbacks that give
                one name the same function share one computation.

        Raises:
            ValueError: another function has the name.
        """
        known = self._statistics.setdefault(name, function)
        if known is not function:
            raise ValueError(f"The statistic {name!r} is asked for with two functions: {known!r} and {function!r}.")

    def add_norms(self, *names: str) -> None:
        """Computes in every step the L2 norm of each trainable variable's gradient, weight or update.

        Args:
            names: of `"gradient_norm"`, `"weight_norm"` (before the update), `"update_norm"` (of the difference that
                the update made).

        Raises:
            ValueError: another name.
        """
        for name in names:
            if name not in NORMS:
                raise ValueError(f"Norms must be of {', '.join(NORMS)}; got {name!r}.")
            if name not in self._norms:
                self._norms.append(name)

    def set_learning_rate(self, schedule: Callable[[Any], Any]) -> None:
        """Updates with the rate `schedule(step)`, and adds it to the logs as `learning_rate`.

        Args:
            schedule: gives the rate of an update by its number, which counts updates (not batches, where gradients
                are accumulated) from `set_first_step` on: a scalar integer tensor, or an int on PyTorch's CPU.

        Raises:
            ValueError: another callback of the same fit has set the rate.
        """
        if self._schedule is not None and self._schedule is not schedule:
            raise ValueError("Two callbacks set the learning rate of one fit; keep one of them.")
        self._schedule = schedule

    def set_first_step(self, step: int) -> None:
        """Says at which of the optimizer's `steps` the schedule is at 0; may be called between two steps."""
        self._first_step = step
        if self._program is not None:
            self._program.carry.set("first_step", np.int32(step))

    def set_guard(
        self,
        check: Sequence[str],
        *,
        skip_update: bool,
        patience: int,
        min_loss_scale: float,
        on_stop: Callable[[], None],
        at_once: bool,
    ) -> None:
        """Looks in every step for numbers that are not finite, and stops the fit after more than `patience` such steps.

        The decision falls inside the compiled step: from the one on that stops the fit nothing changes any more, where
        `skip_update` is set, until the host has noticed, a few dozen steps later at most. The rows that listeners get
        then hold, too: `bad` and `stopped`, 0 or 1; `loss` and `global_norm`; under a `LossScaleOptimizer` `overflow`,
        0 or 1, and `loss_scale`; and the vectors `gradients`, norms in the order of `paths`, and `weights`, in that of
        `guarded_paths`, which are not finite where the gradient or the variable after the step is not.

        Args:
            check: of `"loss"`, `"gradients"` and `"weights"`.
            skip_update: whether a step with such a number leaves the model, its optimizer and its metrics as they were.
            patience: number of such steps after which the fit still goes on.
            min_loss_scale: the fit stops, too, where the optimizer's dynamic loss scale falls below it.
            on_stop: called once, between two steps, with the model's variables in place.
            at_once: whether `on_stop` is called as soon as the host has noticed; otherwise at the end of the epoch,
                which is cut short.

        Raises:
            ValueError: another check, or another callback of the same fit that has set a guard.
        """
        if not check or not set(check) <= set(CHECKS):
            raise ValueError(f"check must be one or more of {', '.join(CHECKS)}; got {check!r}.")
        if self._guard is not None:
            raise ValueError("Two callbacks guard the steps of one fit; keep one of them.")
        variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
        infinite = frozenset(map(id, not_finite(variables)))
        self._guard = StepGuard(tuple(check), skip_update, patience, min_loss_scale, infinite)
        self._on_stop, self._at_once = on_stop, at_once

    def batch(self, step: int) -> tuple[Any, Any, Any] | None:
        """Returns inputs, labels and sample weights of a step, None unless a guard has kept them."""
        kept = self._kept(step)
        return None if kept is None else keras.utils.unpack_x_y_sample_weight(whole_batch(self._model, kept[0]))

    def replay(self, step: int) -> NonFinite | None:
        """Returns what `locate_nonfinite` finds on the batch of a step, None if it is no longer kept.

        The weights and seeds are those of the step if a guard that skips updates has stopped the fit there.
        """
        kept, batch = self._kept(step), self.batch(step)
        return None if kept is None or batch is None else located(self._model, batch, True, kept[1])

    def steps(self) -> int:
        """Returns how many steps the optimizer has taken in its life; where gradients are accumulated, each batch's.

        `optimizer.iterations` counts the updates.
        """
        return int(keras.ops.convert_to_numpy(updated_by(self._optimizer)._iterations))

    def add_listener(self, listener: Callable[[list[dict[str, Any]]], None]) -> None:
        """Hands on to `listener` what was computed in each step, when `flush` is called and after a thousand steps.

        It gets a list of dicts, one for every step: `step`, counted from 0 in this fit, each statistic as a float,
        `learning_rate` where a schedule is set, and each kind of norms as a float32 array in the order of `paths`, NaN
        for a variable without a gradient.
        """
        self._listeners.append(listener)

    def flush(self, but_the_last: int = 0) -> None:
        """Hands on what was computed up to now, but for the last executions; waits for the device."""
        kept = len(self._rows) - but_the_last
        blocks, self._rows = self._rows[:kept], self._rows[kept:]
        found: list[dict[str, Any]] = []
        for block in blocks:
            for row in self._running().as_dicts(block, self._reported):
                self._reported = row["step"] + 1
                if not self._closed:  # What the device has computed after the stop counts as no step.
                    found.append(row)
                self._closed |= bool(row.get("stopped"))
        for row in found:
            self._count(row)
        self._stopped |= self._closed
        for listener in self._listeners if found else ():
            listener(found)

    def state_dict(self) -> dict[str, Any]:
        """Returns what goes from step to step, for a run that is resumed; waits for the device."""
        self.flush()
        carried = {} if self._program is None else self._program.carried()
        return {"steps": self._reported, "carried": carried, "means": dict(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` has returned; to be called before the first step."""
        self._reported = self._batches_seen = self._looked_at = int(state["steps"])
        self._carried = dict(state["carried"])
        self._means = {name: (float(total), int(count)) for name, (total, count) in state["means"].items()}

    def end(self) -> None:
        """Puts the model and its optimizer back as they were; what has been computed can still be had by `flush`."""
        while self._put_back:
            self._put_back.pop()()
        self._batches.clear()
        if self._program is not None:
            self._program.release()

    def begun_by(self, callbacks: Any) -> None:
        """Ends where this list of callbacks is no more, unless it has ended before."""
        self._callbacks = weakref.ref(callbacks)
        finalizer = weakref.finalize(callbacks, self.end)
        finalizer.atexit = False
        self._put_back.append(finalizer.detach)

    def _count(self, row: dict[str, Any]) -> None:
        for name in self._statistics:
            total, count = self._means.get(name, (0.0, 0))
            finite = math.isfinite(row[name])
            self._means[name] = (total + row[name], count + 1) if finite else (total, count)

    def _running(self) -> StepProgram:
        assert self._program is not None  # noqa: S101 - there are rows only when it runs
        return self._program

    def _install(self, model: Any) -> None:
        self._replace(model, _RUNNING_FIT, self)
        plain = model.train_function
        self._put_back.append(lambda: model.__dict__.__setitem__("train_function", plain))
        sharding = getattr(model, "_get_state_sharding_spec", None)
        # Asked for now: at the first step Keras has taken the state out of the model.
        self._sharding = sharding() if sharding and keras.distribution.distribution() is not None else None
        original_logs = model._get_metrics_result_or_logs
        self._replace(model, "_get_metrics_result_or_logs", lambda logs: self._epoch_logs(logs, original_logs))
        for name in ("make_train_function", "compile", "get_config"):
            self._replace(model, name, self._ending(model, name))

        def train_function(*arguments: Any) -> Any:
            try:
                if self._program is None:  # All has been asked for now.
                    self._start(model, plain)
                if self._guard is not None:
                    self._look_for_a_stop(model)
                result, rows = self._running().run(self._keep, *arguments)
                if self._running().stood and not self._stopped:
                    self._batches[-1] = None  # Nobody will ask for the batch; its memory serves the next one.
            except StopIteration:  # the end of the data
                raise
            except BaseException:
                self.end()  # for Keras calls no callback then
                raise
            self._rows.append(rows)
            if len(self._rows) >= _HELD:
                self.flush(but_the_last=_RUNNING)
            return result

        model.train_function = train_function

    def _start(self, model: Any, plain: Any) -> None:
        """Puts the step that computes what was asked for in place, compiled before if the last fit asked the same."""
        asked = self._statistics, self._norms, self._schedule, self._guard
        program = StepProgram.matching(getattr(plain, _PROGRAM, None), model, *asked)
        setattr(plain, _PROGRAM, program)
        for owner, methods in (
            (model, program.model_methods),
            (self._optimizer, program.optimizer_methods),
            (updated_by(self._optimizer), program.inner_methods),
        ):
            for name, method in methods.items():
                self._replace(owner, name, method)
        ours = model.train_function
        program.compile(model, self._sharding)
        model.train_function = ours
        program.begin(self._first_step, self._reported, self._carried)
        self._program = program

    def _kept(self, step: int) -> tuple[Any, Any] | None:
        back = self._batches_seen - step
        kept: tuple[Any, Any] | None = self._batches[-back] if 0 < back <= len(self._batches) else None
        return kept

    def _keep(self, batch: Any) -> None:
        if self._stopped:
            return  # The step changes nothing, and the batch of the one that has stopped the fit must not be lost.
        self._batches_seen += 1
        self._batches.append((batch, random_state()))
        if len(self._batches) == 1:
            size = sum(_bytes(each) for each in keras.tree.flatten(batch))
            kept = max(2, min(_KEPT_BATCHES, _KEPT_BYTES // max(1, size)))
            if replicas_of(self._model) > 1:  # All must stop at the same step, and their shares may differ in size.
                kept = _KEPT_SHARES
            self._batches = collections.deque(self._batches, max(kept, 2 * self._model.steps_per_execution))

    def _look_for_a_stop(self, model: Any) -> None:
        """Asks now and then an earlier step, which the device has done by now, whether it has stopped the fit."""
        kept = (self._batches.maxlen or 2) // model.steps_per_execution  # executions
        behind = min(_RUNNING, kept // 2)
        due = self._looked_at + (kept - behind) * model.steps_per_execution
        if len(self._rows) > behind and self._batches_seen >= due:
            self._looked_at = self._batches_seen
            self._stopped |= bool(self._running().as_dicts(self._rows[-1 - behind], 0)[-1]["stopped"])
        if self._stopped:
            model.stop_training = True
            if self._at_once:
                if hasattr(model, "jax_state_sync"):
                    model.jax_state_sync()
                self._stop()

    def _stop(self) -> None:
        self._model.stop_training = True
        on_stop, self._on_stop = self._on_stop, lambda: None
        try:
            on_stop()
        except BaseException:
            self.end()  # for Keras calls no callback then
            raise

    def _epoch_logs(self, logs: Any, original: Callable[[Any], Any]) -> Any:
        """Returns Keras's logs of an epoch or an evaluation, with the means of ours where the logs are a step's."""
        if self._guard is not None and self._rows:
            self.flush()
            if self._stopped:
                self._stop()
        ours = [] if self._program is None else self._program.names
        if not ours or not isinstance(logs, dict) or not set(ours) <= set(logs):
            return original(logs)
        result = dict(original({name: value for name, value in logs.items() if name not in ours}))
        self.flush()
        means = {name: total / count if count else math.nan for name, (total, count) in self._means.items()}
        self._means = {}
        return result | {name: logs[name] for name in ours} | means

    def _ending(self, model: Any, name: str) -> Callable[..., Any]:
        """Returns the method of the model, before which what a fit that raised has left is taken away."""
        original = getattr(model, name)

        def method(*args: Any, **kwargs: Any) -> Any:
            # A callback may save the model while the fit runs; a new fit or compile ends what is here in any case.
            if name != "get_config" or not self._is_running(model):
                self.end()
            return original(*args, **kwargs)

        return method

    def _is_running(self, model: Any) -> bool:
        if threading.get_ident() != self._thread:
            return True
        fit = _caller(lambda frame: frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model)
        return fit is not None

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute past what Keras and PyTorch do on setting one, to be put back later."""
        attributes = owner.__dict__
        if name in attributes:
            before = attributes[name]
            self._put_back.append(lambda: attributes.__setitem__(name, before))
        else:
            self._put_back.append(lambda: attributes.pop(name, None))
        attributes[name] = value


def _bytes(tensor: Any) -> int:
    """Returns the bytes of a tensor of known shape, else of none."""
    try:
        size = np.dtype(keras.backend.standardize_dtype(tensor.dtype)).itemsize
        return int(np.prod(tensor.shape)) * int(size)
    except (AttributeError, TypeError, ValueError):
        return 0


def _caller(is_wanted: Callable[[FrameType], bool]) -> FrameType | None:
    """Returns the innermost wanted frame of those that have called this function."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not is_wanted(frame):
        frame = frame.f_back
    return frame
