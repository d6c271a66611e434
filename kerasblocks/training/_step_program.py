"""An instrumented train step, compiled: what it computes of each step leaves it with the logs."""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module

Statistic = Callable[[Sequence[Any], Sequence[Any]], Any]
Read = Callable[[Any], Any]

NORMS = ("gradient_norm", "weight_norm", "update_norm")
_ROWS = "kerasblocks_rows"  # the log entry in which the numbers of every step leave the compiled step
_backend = backend_module("kerasblocks.training._step")


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


def updated_by(optimizer: Any) -> Any:
    """Returns the optimizer whose rate and steps count: the one inside where a loss scale is around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


class StepProgram:
    """A train step of one model that computes what was asked for; the same request finds it compiled.

    Args:
        model: the model.
        statistics: functions of (gradients, variables) by their names in the logs.
        norms: which of `NORMS` are computed for each trainable variable.
        schedule: learning rate of an update, None for the optimizer's.

    Attributes:
        paths: the paths of the trainable variables, in the order of their norms; empty before the first step.
    """

    def __init__(
        self, model: Any, statistics: dict[str, Statistic], norms: Sequence[str], schedule: Callable[[Any], Any] | None
    ) -> None:
        self.request = _request(model, statistics, norms, schedule)
        self.optimizer = model.optimizer
        self.paths: list[str] = []
        self._places: dict[int, int] = {}
        self._model = weakref.ref(model)
        self._steps_per_execution = model.steps_per_execution
        self._statistics, self._norms, self._schedule = dict(statistics), list(norms), schedule
        self._step: _Step | None = None  # while a train step is computed or traced
        self.carry: Any = None
        self.model_methods = {"train_step": _backend.train_step(self, model.train_step)}
        self.optimizer_methods = {
            **_backend.optimizer_methods(self, self.optimizer),
            "apply": self._apply(self.optimizer),
        }
        self.rate_methods = {"_get_current_learning_rate": self._learning_rate(updated_by(self.optimizer))}
        self._compiled: Callable[..., Any] | None = None

    @staticmethod
    def matching(
        program: "StepProgram | None",
        model: Any,
        statistics: dict[str, Statistic],
        norms: Sequence[str],
        schedule: Callable[[Any], Any] | None,
    ) -> "StepProgram":
        """Returns the program if it computes just what is asked for, else a new one."""
        if program is not None and program.request == _request(model, statistics, norms, schedule):
            return program
        return StepProgram(model, statistics, norms, schedule)

    @property
    def names(self) -> list[str]:
        """The entries that a step's logs have from here."""
        return [*self._statistics, *(["learning_rate"] if self._schedule is not None else [])]

    def begin(self, first_step: int) -> None:
        """Sets what goes from step to step to its start, on the device."""
        zeros = np.zeros(len(self._statistics), "float32")
        numbers = {"step": np.int32(0), "first_step": np.int32(first_step), "sums": zeros, "counts": zeros}
        if self._steps_per_execution > 1:
            self._learn_variables()
            width = 1 + len(self.names) + len(self._norms) * len(self.paths)
            numbers["rows"] = np.full((self._steps_per_execution, width), -1.0, "float32")
        if self.carry is None:
            self.carry = _backend.Carry(numbers)
        for name, number in numbers.items():
            self.carry.set(name, number)

    def compile(self, model: Any, sharding: tuple[Any, ...] | None) -> None:
        """Makes the train function, once; the methods of this program must be the model's while it is made.

        `sharding` is Keras's of the model's state, where a distribution is set on JAX.
        """
        if self._compiled is not None:
            return
        model.train_function = None
        if sharding is not None:  # The carried numbers are on every device.
            model.__dict__["_get_state_sharding_spec"] = lambda: (*sharding, None)
        try:
            type(model).make_train_function(model)
        finally:
            model.__dict__.pop("_get_state_sharding_spec", None)
        self._compiled = _backend.train_function(self, model.train_function)

    def run(self, *arguments: Any) -> tuple[Any, Any]:
        """Returns what Keras's train function returns, and the numbers of the steps, on the device."""
        assert self._compiled is not None  # noqa: S101 - compile() comes first
        logs, put = _backend.logs_of(self._compiled(*arguments))
        logs = dict(logs)
        rows = logs.pop(_ROWS)
        return put(logs), rows

    def as_dicts(self, block: Any, reported: int) -> list[dict[str, Any]]:
        """Returns the rows of the steps from `reported` on as dicts of NumPy's numbers; waits for the device."""
        found = []
        for row in keras.ops.convert_to_numpy(block):
            if row[0] >= reported:  # others are of earlier executions
                names = self.names
                numbers = {name: float(number) for name, number in zip(names, row[1:], strict=False)}
                norms = row[1 + len(names) :].reshape(len(self._norms), len(self.paths))
                found.append({"step": int(row[0]), **numbers, **dict(zip(self._norms, norms, strict=True))})
        return found

    def epoch_means(self) -> dict[str, float]:
        """Returns the means of the statistics over the steps since the last call; waits for the device."""
        sums, counts = (keras.ops.convert_to_numpy(self.carry.values[name]) for name in ("sums", "counts"))
        for name in ("sums", "counts"):
            self.carry.set(name, np.zeros(len(self._statistics), "float32"))
        means = {}
        for name, total, count in zip(self._statistics, sums, counts, strict=True):
            means[name] = float(total / count) if count else float("nan")
        return means

    @contextlib.contextmanager
    def inside(self, read: Read, carried: dict[str, Any]) -> Iterator[Callable[[Any], Any]]:
        """Holds while a train step is computed or traced; gives the function that completes its logs."""
        step = self._step = _Step(carried)
        try:
            if self._schedule is not None:
                optimizer = updated_by(self.optimizer)
                done = keras.ops.cast(read(optimizer._iterations), "int32") - carried["first_step"]
                accumulated = optimizer.gradient_accumulation_steps or 1
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
                for place, new, old in zip(places, after(), before, strict=True):
                    if place is not None:
                        step.changes[place] = new - old
                step.norms["update_norm"] = self._vector(step.changes)
        finally:
            step.updating = False
        return result

    def _apply(self, optimizer: Any) -> Callable[..., Any]:
        original = optimizer.apply

        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            if self._step is None or self._step.updating:
                return original(grads, trainable_variables)
            variables = list(optimizer._trainable_variables if trainable_variables is None else trainable_variables)

            def run() -> Any:
                return original(grads, trainable_variables), lambda: [each.value for each in variables]

            return self.update(variables, grads, [each.value for each in variables], lambda each: each.value, run)

        return apply

    def _learning_rate(self, optimizer: Any) -> Callable[[], Any]:
        original = optimizer._get_current_learning_rate

        def learning_rate() -> Any:
            step = self._step
            return original() if step is None or step.learning_rate is None else step.learning_rate

        return learning_rate

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
        """Returns a number for every variable: NaN for those that are not in `order`."""
        if len(order) == len(self.paths):
            return numbers
        missing = keras.ops.full((1,), np.nan, dtype="float32")
        index = [order.index(place) if place in order else len(order) for place in range(len(self.paths))]
        return keras.ops.take(keras.ops.concatenate([numbers, missing]), np.array(index, "int32"))

    def _finish(self, step: "_Step", logs: Any) -> tuple[Any, dict[str, Any]]:
        if not isinstance(logs, dict):
            raise TypeError(f"train_step must return a dict of logs for numbers to be added to them; got {logs!r}.")
        if (self._statistics and not step.statistics) or (self._norms and not step.norms):
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


def _request(model: Any, statistics: dict[str, Statistic], norms: Sequence[str], schedule: Any) -> tuple[Any, ...]:
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        schedule = type(schedule), schedule.get_config()
    return model.optimizer, model.steps_per_execution, dict(statistics), list(norms), schedule


def _loss_scale(optimizer: Any, read: Read) -> Any:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return read(optimizer.dynamic_scale) if optimizer.built else optimizer.initial_scale
    return optimizer.loss_scale_factor
