"""A look inside the compiled step of `fit`: what is computed of the gradients leaves it with the logs; Keras has none.

While a fit runs, a few methods of that one model and that one optimizer are replaced on the instances. They act inside
its train step only, and are taken away when the fit ends or, where it raised, before the next use of the model.
"""

import contextlib
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np

Statistic = Callable[[Sequence[Any], Sequence[Any]], Any]
Read = Callable[[Any], Any]

_ROWS = "kerasblocks_rows"  # the log entry in which the numbers of every step leave the compiled step
_NORMS = ("gradient_norm", "weight_norm", "update_norm")
_backend = importlib.import_module(f"kerasblocks.training._step_{keras.backend.backend()}")
_HELD = 1000  # executions whose numbers may wait on the device
_RUNNING = 8  # the newest of them, which the device may still be at
_ATTRIBUTE = "_kerasblocks_instrumentation"  # on the model, while a fit runs


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
    instrumentation: StepInstrumentation | None = model.__dict__.get(_ATTRIBUTE)
    if instrumentation is None:
        instrumentation = StepInstrumentation(model)
        callbacks = _caller(lambda frame: isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList))
        if callbacks is not None:  # It lives as long as fit does, unless it is the user's; also where fit raises.
            weakref.finalize(callbacks.f_locals["self"], instrumentation.end).atexit = False
    return instrumentation


class StepInstrumentation:
    """What the callbacks of one fit ask of its train step; `step_instrumentation` gives it to them.

    Attributes:
        paths: the paths of the model's trainable variables, in the order of the norms of each; empty before the first
            step, which is what builds some models.
    """

    def __init__(self, model: Any) -> None:
        optimizer: Any = getattr(model, "optimizer", None)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(f"The model must be compiled with a Keras optimizer; got {optimizer!r}.")
        self.optimizer = optimizer
        if model.steps_per_execution > 1 and not model.built:
            raise ValueError(
                "With steps_per_execution > 1 the model must be built before fit: call it on a batch first."
            )
        self.paths: list[str] = []
        self._places: dict[int, int] = {}
        self._model = weakref.ref(model)
        self._thread = threading.get_ident()
        self._steps_per_execution = model.steps_per_execution
        self._statistics: dict[str, Statistic] = {}
        self._norms: list[str] = []
        self._schedule: Callable[[Any], Any] | None = None
        self._first_step = 0
        self._carry: Any = None
        self._rows: list[Any] = []
        self._reported = 0
        self._listeners: list[Callable[[list[dict[str, Any]]], None]] = []
        self._step: _Step | None = None  # while a train step is computed or traced
        self._put_back: list[Callable[[], None]] = []
        self._install(model)

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
            if name not in _NORMS:
                raise ValueError(f"Norms must be of {', '.join(_NORMS)}; got {name!r}.")
            if name not in self._norms:
                self._norms.append(name)

    def set_learning_rate(self, schedule: Callable[[Any], Any]) -> None:
        """Updates with the rate `schedule(step)`, and adds it to the logs as `learning_rate`.

        Args:
            schedule: gives the rate of an update, a scalar integer tensor that counts updates (not batches, where
                gradients are accumulated) from `set_first_step` on.

        Raises:
            ValueError: another callback of the same fit has set the rate.
        """
        if self._schedule is not None and self._schedule is not schedule:
            raise ValueError("Two callbacks set the learning rate of one fit; keep one of them.")
        self._schedule = schedule

    def set_first_step(self, step: int) -> None:
        """Says at which of the optimizer's `steps` the schedule is at 0; may be called between two steps."""
        self._first_step = step
        if self._carry is not None:
            self._carry.set("first_step", np.int32(step))

    def steps(self) -> int:
        """Returns how many steps the optimizer has taken in its life; where gradients are accumulated, each batch's.

        `optimizer.iterations` counts the updates.
        """
        return int(keras.ops.convert_to_numpy(_updated_by(self.optimizer)._iterations))

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
        found = []
        for block in blocks:
            for row in keras.ops.convert_to_numpy(block):
                if row[0] >= self._reported:  # others are of earlier executions
                    self._reported = int(row[0]) + 1
                    found.append(self._as_dict(row))
        for listener in self._listeners if found else ():
            listener(found)

    def end(self) -> None:
        """Puts the model and its optimizer back as they were; what has been computed can still be had by `flush`."""
        while self._put_back:
            self._put_back.pop()()

    @property
    def carry(self) -> Any:
        """The numbers that go from step to step on the device; made at the first step, when all has been asked for."""
        if self._carry is None:
            zeros = np.zeros(len(self._statistics), "float32")
            numbers = {"step": np.int32(0), "first_step": np.int32(self._first_step), "sums": zeros, "counts": zeros}
            if self._steps_per_execution > 1:
                self._learn_variables()
                numbers["rows"] = np.full((self._steps_per_execution, self._width()), -1.0, "float32")
            self._carry = _backend.Carry(numbers)
        return self._carry

    @contextlib.contextmanager
    def inside(self, read: Read, carried: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
        """Holds while a train step is computed or traced; gives the function that completes its logs."""
        step = self._step = _Step(carried)
        try:
            if self._schedule is not None:
                done = keras.ops.cast(read(_updated_by(self.optimizer)._iterations), "int32") - carried["first_step"]
                accumulated = _updated_by(self.optimizer).gradient_accumulation_steps or 1
                step.learning_rate = keras.ops.cast(self._schedule(done // accumulated), "float32")
            yield lambda logs: self._finish(step, logs)
        finally:
            self._step = None

    def update(
        self,
        variables: Sequence[Any],
        gradients: Sequence[Any],
        values: Sequence[Any],
        read: Read,
        run: Callable[[], tuple[Any, Callable[[], Sequence[Any]]]],
    ) -> Any:
        """Returns the result of `run`, an optimizer's update, after a look at its gradients.

        `values` are those of the variables before it; `run` also gives a function that tells those after it.
        """
        step = self._step
        if step is None or step.updating:
            return run()[0]
        step.updating = True
        self._learn_variables()
        try:
            places = [self._places.get(id(variable)) for variable in variables]
            scale = _loss_scale(self.optimizer, read)
            for place, gradient, value in zip(places, gradients, values, strict=True):
                if place is not None and gradient is not None:
                    gradient = _backend.dense(gradient)
                    step.gradients[place] = gradient if scale is None else keras.ops.cast(gradient, "float32") / scale
                    step.variables[place] = value
            self._look(step)
            before = _backend.copies(values) if "update_norm" in self._norms else []
            result, after = run()
            if before:
                changes = [new - old for new, old in zip(after(), before, strict=True)]
                for place, change in zip(places, changes, strict=True):
                    if place is not None:
                        step.changes[place] = change
                step.norms["update_norm"] = self._vector(step.changes)
        finally:
            step.updating = False
        return result

    def _learn_variables(self) -> None:
        model = self._model()
        if model is not None and not self.paths:
            self.paths = [variable.path for variable in model.trainable_variables]
            self._places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}

    def _look(self, step: "_Step") -> None:
        order = sorted(step.gradients)
        gradients, variables = ([each[place] for place in order] for each in (step.gradients, step.variables))
        norms = None
        if "gradient_norm" in self._norms or global_gradient_norm in self._statistics.values():
            norms = _backend.norms(gradients)
        for name, function in self._statistics.items():
            number = _root_of_squares(norms) if function is global_gradient_norm else function(gradients, variables)
            step.statistics[name] = keras.ops.cast(keras.ops.reshape(number, ()), "float32")
        if "gradient_norm" in self._norms:
            step.norms["gradient_norm"] = self._spread(order, norms)
        if "weight_norm" in self._norms:
            step.norms["weight_norm"] = self._vector(step.variables)

    def _vector(self, tensors: dict[int, Any]) -> Any:
        order = sorted(tensors)
        return self._spread(order, _backend.norms([tensors[place] for place in order]))

    def _spread(self, order: list[int], numbers: Any) -> Any:
        if len(order) == len(self.paths):
            return numbers
        missing = keras.ops.full((1,), np.nan, dtype="float32")
        index = [order.index(place) if place in order else len(order) for place in range(len(self.paths))]
        return keras.ops.take(keras.ops.concatenate([numbers, missing]), np.array(index, "int32"))

    def _finish(self, step: "_Step", logs: Any) -> tuple[Any, dict[str, Any]]:
        if not isinstance(logs, dict):
            raise TypeError(f"train_step must return a dict of logs for numbers to be added to them; got {logs!r}.")
        if self._statistics and not step.statistics:
            raise RuntimeError("train_step did not call the optimizer that the model was compiled with.")
        ops, carried = keras.ops, step.carried
        numbers = dict(step.statistics)
        row = [ops.reshape(ops.cast(carried["step"], "float32"), (1,))]
        carried = {**carried, "step": carried["step"] + 1}
        if numbers:
            each = ops.stack(list(numbers.values()))
            finite = ops.isfinite(each)
            carried["sums"] = carried["sums"] + ops.where(finite, each, 0.0)
            carried["counts"] = carried["counts"] + ops.cast(finite, "float32")
            row.append(each)
        if step.learning_rate is not None:
            numbers["learning_rate"] = step.learning_rate
            row.append(ops.reshape(step.learning_rate, (1,)))
        row += [step.norms[name] for name in self._norms]
        newest = ops.expand_dims(ops.concatenate(row), 0)
        if self._steps_per_execution > 1:
            carried["rows"] = newest = ops.concatenate([carried["rows"][1:], newest])
        return {**logs, **numbers, _ROWS: newest}, carried

    def _width(self) -> int:
        return 1 + len(self._statistics) + (self._schedule is not None) + len(self._norms) * len(self.paths)

    def _as_dict(self, row: np.ndarray) -> dict[str, Any]:
        names = [*self._statistics, *(["learning_rate"] if self._schedule is not None else [])]
        found: dict[str, Any] = {"step": int(row[0])}
        found |= {name: float(number) for name, number in zip(names, row[1:], strict=False)}
        norms = row[1 + len(names) :].reshape(len(self._norms), len(self.paths))
        return found | dict(zip(self._norms, norms, strict=True))

    def _epoch_logs(self, logs: Any, original: Callable[[Any], Any]) -> Any:
        """Returns Keras's logs of an epoch or an evaluation, with the means of ours where the logs are a step's."""
        ours = [*self._statistics, *(["learning_rate"] if self._schedule is not None else [])]
        if not ours or not isinstance(logs, dict) or not set(ours) <= set(logs):
            return original(logs)
        result = dict(original({name: value for name, value in logs.items() if name not in ours}))
        values = self._carry.values
        sums, counts = (keras.ops.convert_to_numpy(values[name]) for name in ("sums", "counts"))
        for name, total, count in zip(self._statistics, sums, counts, strict=True):
            result[name] = float(total / count) if count else float("nan")
        self._carry.set("sums", np.zeros_like(sums))
        self._carry.set("counts", np.zeros_like(counts))
        if self._schedule is not None:
            result["learning_rate"] = logs["learning_rate"]
        return result

    def _install(self, model: Any) -> None:
        optimizer = self.optimizer
        self._replace(model, _ATTRIBUTE, self)
        plain = model.train_function
        self._put_back.append(lambda: model.__dict__.__setitem__("train_function", plain))
        original_step = model.train_step
        self._replace(model, "train_step", _backend.train_step(self, original_step))
        original_logs = model._get_metrics_result_or_logs
        self._replace(model, "_get_metrics_result_or_logs", lambda logs: self._epoch_logs(logs, original_logs))
        for name, method in _backend.optimizer_methods(self, optimizer).items():
            self._replace(optimizer, name, method)
        original_apply = optimizer.apply

        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            if self._step is None or self._step.updating:
                return original_apply(grads, trainable_variables)
            variables = list(optimizer._trainable_variables if trainable_variables is None else trainable_variables)

            def run() -> Any:
                return original_apply(grads, trainable_variables), lambda: [each.value for each in variables]

            return self.update(variables, grads, [each.value for each in variables], lambda each: each.value, run)

        self._replace(optimizer, "apply", apply)
        inner = _updated_by(optimizer)
        original_rate = inner._get_current_learning_rate

        def learning_rate() -> Any:
            step = self._step
            return original_rate() if step is None or step.learning_rate is None else step.learning_rate

        self._replace(inner, "_get_current_learning_rate", learning_rate)
        self._make_train_function(model)
        for name in ("make_train_function", "compile", "get_config"):
            self._replace(model, name, self._ending(model, name))

    def _make_train_function(self, model: Any) -> None:
        model.train_function = None
        sharding = getattr(model, "_get_state_sharding_spec", None)
        if sharding is not None:  # The carried numbers are on every device.
            model.__dict__["_get_state_sharding_spec"] = lambda: (*sharding(), None)
        try:
            model.make_train_function()
        finally:
            model.__dict__.pop("_get_state_sharding_spec", None)
        compiled = _backend.train_function(self, model.train_function)

        def function(*arguments: Any) -> Any:
            self.carry  # noqa: B018 - is made before anything is traced
            try:
                logs, put = _backend.logs_of(compiled(*arguments))
            except StopIteration:  # the end of the data
                raise
            except BaseException:
                self.end()  # for Keras calls no callback then
                raise
            logs = dict(logs)
            rows = logs.pop(_ROWS)
            if self._listeners:
                self._rows.append(rows)
            if len(self._rows) >= _HELD:
                self.flush(but_the_last=_RUNNING)
            return put(logs)

        model.train_function = function

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


class _Step:
    """What is known of one step while it is computed or traced."""

    def __init__(self, carried: dict[str, Any]) -> None:
        self.carried = carried
        self.learning_rate: Any = None
        self.updating = False
        self.gradients: dict[int, Any] = {}
        self.variables: dict[int, Any] = {}
        self.changes: dict[int, Any] = {}
        self.statistics: dict[str, Any] = {}
        self.norms: dict[str, Any] = {}


def global_gradient_norm(gradients: Sequence[Any], variables: Sequence[Any]) -> Any:
    """Computes the L2 norm of all gradients together, a statistic for `StepInstrumentation.add_statistic`.

    ‖g‖ = √(Σᵢ ‖gᵢ‖²), in float32.

    Args:
        gradients: list of tensors of any shapes.
        variables: not looked at.

    Returns:
        A float32 scalar.

    Example:

    >>> import keras
    >>> from kerasblocks.training import global_gradient_norm
    >>> round(float(global_gradient_norm([keras.ops.ones((2,)), keras.ops.ones((1, 2))], [])), 4)
    2.0
    """
    return _root_of_squares(_backend.norms(gradients))


def _root_of_squares(norms: Any) -> Any:
    return keras.ops.sqrt(keras.ops.sum(keras.ops.square(norms)))


def _caller(is_wanted: Callable[[FrameType], bool]) -> FrameType | None:
    """Returns the innermost wanted frame of those that have called this function."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not is_wanted(frame):
        frame = frame.f_back
    return frame


def _updated_by(optimizer: Any) -> Any:
    """Returns the optimizer whose rate and iterations count: the one inside where a loss scale is around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _loss_scale(optimizer: Any, read: Read) -> Any:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return read(optimizer.dynamic_scale) if optimizer.built else optimizer.initial_scale
    return optimizer.loss_scale_factor
