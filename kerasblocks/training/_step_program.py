"""An instrumented train step, compiled: what it computes of each step leaves it with the logs."""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module
from kerasblocks.training._step_guard import Read, StepGuard, Verdict, constants_of, is_floating

Statistic = Callable[[Sequence[Any], Sequence[Any]], Any]

NORMS = ("gradient_norm", "weight_norm", "update_norm")
_ROWS = "kerasblocks_rows"  # the log entry in which the numbers of every step leave the compiled step
_backend = backend_module("kerasblocks.training._step")
random_state = _backend.random_state
check_replicas = _backend.check_replicas
replicas_of = _backend.replicas
scope_of = _backend.scope_of
whole_batch = _backend.whole_batch


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
    return _norm_of_all(_backend.norms(gradients))


def _norm_of_all(norms: Any) -> Any:
    return _backend.norms([norms])[0]


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
        guard: what must be finite for a step to stand, None where nothing is looked at.

    Attributes:
        paths: the paths of the trainable variables, in the order of their norms; empty before the first step.
    """

    def __init__(
        self,
        model: Any,
        statistics: dict[str, Statistic],
        norms: Sequence[str],
        schedule: Callable[[Any], Any] | None,
        guard: StepGuard | None,
    ) -> None:
        self.request = _request(model, statistics, norms, schedule, guard)
        self.optimizer = model.optimizer
        self.replicas = _backend.replicas(model)
        self.paths: list[str] = []
        self._guard = guard
        self._has_loss = True  # in the logs of a step
        self.stood = False  # whether the host knows that nothing was wrong with the last step
        self.shares: Any = None  # what a backend with processes needs to make their metrics one
        self.before_step: Any = None  # what a backend that changes the state in place needs to put it back
        self._known_columns: dict[str, int | None] = {}
        self._guarded: list[Any] = []  # variables that must be finite after a step
        self._places: dict[int, int] = {}
        self._model = weakref.ref(model)
        self._steps_per_execution = model.steps_per_execution
        self._statistics, self._norms, self._schedule = dict(statistics), list(norms), schedule
        self._steps: dict[int, _Step] = {}  # by thread, in which the replicas of TensorFlow's strategies run
        self.carry: Any = None
        self.model_methods = {"train_step": _backend.train_step(self, model.train_step)}
        self.optimizer_methods = {
            **_backend.optimizer_methods(self, self.optimizer),
            "apply": self._apply(self.optimizer),
        }
        inner = updated_by(self.optimizer)
        self.inner_methods = {
            **_backend.inner_methods(self, inner),
            "_get_current_learning_rate": self._learning_rate(inner),
        }
        self._compiled: Callable[..., Any] | None = None

    @staticmethod
    def matching(
        program: "StepProgram | None",
        model: Any,
        statistics: dict[str, Statistic],
        norms: Sequence[str],
        schedule: Callable[[Any], Any] | None,
        guard: StepGuard | None,
    ) -> "StepProgram":
        """Returns the program if it computes just what is asked for, else a new one."""
        asked = statistics, norms, schedule, guard
        if program is not None and program.request == _request(model, *asked):
            return program
        return StepProgram(model, *asked)

    @property
    def model(self) -> Any:
        """The model, which holds this program and not the other way round."""
        return self._model()

    @property
    def guarded_paths(self) -> list[str]:
        """The paths of the variables that the guard looks at after a step."""
        return [variable.path for variable in self._guarded]

    @property
    def _step(self) -> "_Step | None":
        """The step while it is computed or traced."""
        return self._steps.get(threading.get_ident())

    @property
    def in_step(self) -> bool:
        """Whether a train step is being computed or traced, in whichever thread: TensorFlow has several for one."""
        return bool(self._steps)

    @property
    def undoes(self) -> bool:
        """Whether a step may have to be put back."""
        return self._guard is not None and self._guard.skip_update

    @property
    def names(self) -> list[str]:
        """The entries that a step's logs have from here."""
        return [*self._statistics, *(["learning_rate"] if self._schedule is not None else [])]

    def state(self) -> tuple[list[Any], ...]:
        """Returns the variables that a step changes, as Keras groups them on JAX."""
        model = self.model
        return (
            model.trainable_variables,
            model.non_trainable_variables,
            self.optimizer.variables,
            model.metrics_variables,
        )

    def changing(self) -> list[Any]:
        """Returns those of these variables that a step may change."""
        constants = constants_of(self.model)
        return [variable for part in self.state() for variable in part if id(variable) not in constants]

    def is_seed(self, variable: Any) -> bool:
        """Returns whether the variable is the state of a seed, which no step poisons."""
        return not is_floating(variable) and "seed_generator" in variable.path

    def metrics_in(self, logs: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
        """Returns the names of the logs that metrics tell."""
        return [name for name in logs if name in metrics]

    def release(self) -> None:
        """Frees what is held from step to step."""
        self.before_step = self.shares = None

    def begin(self, first_step: int, steps: int, carried: dict[str, Any]) -> None:
        """Sets what goes from step to step to its start, or to what `carried` has returned after so many steps."""
        numbers: dict[str, Any] = {"step": np.int32(steps), "first_step": np.int32(first_step)}
        if self._guard is not None:
            numbers |= self._guard.start()
            numbers |= {name: np.asarray(carried[name], numbers[name].dtype) for name in carried if name in numbers}
        if self._steps_per_execution > 1:
            self._learn_variables()
            width = sum(1 if size is None else size for size in self._columns().values())
            numbers["rows"] = np.full((self._steps_per_execution, width), -1.0, "float32")
        if self.carry is None:
            self.carry = _backend.Carry(numbers, self.model)
        for name, number in numbers.items():
            self.carry.set(name, number)

    def carried(self) -> dict[str, Any]:
        """Returns what the guard takes from step to step, as Python's numbers; waits for the device."""
        names = [] if self._guard is None else list(self._guard.start())
        return {name: keras.ops.convert_to_numpy(self.carry.values[name]).item() for name in names}

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

    def run(self, keep: Callable[[Any], object], *arguments: Any) -> tuple[Any, Any]:
        """Returns what Keras's train function returns, and the numbers of the steps, on the device.

        Where there is a guard, `keep` is called with each batch.
        """
        assert self._compiled is not None  # noqa: S101 - compile() comes first
        if self._guard is not None:
            arguments = _backend.watched(arguments, self._steps_per_execution, keep)
        logs, put = _backend.logs_of(self._compiled(*arguments))
        logs = dict(logs)
        rows = logs.pop(_ROWS)
        return put(logs), rows

    def as_dicts(self, block: Any, reported: int) -> list[dict[str, Any]]:
        """Returns the rows of the steps from `reported` on as dicts of NumPy's numbers; waits for the device."""
        columns = self._columns()
        ends = np.cumsum([1 if size is None else size for size in columns.values()])[:-1]
        found = []
        for row in keras.ops.convert_to_numpy(block):
            if row[0] >= reported:  # others are of earlier executions
                parts = zip(columns.items(), np.split(row, ends), strict=True)
                numbers = {name: float(part[0]) if size is None else part for (name, size), part in parts}
                if not self._has_loss:
                    numbers.pop("loss", None)
                found.append({**numbers, "step": int(row[0])})
        return found

    @contextlib.contextmanager
    def inside(self, read: Read, carried: dict[str, Any], samples: Any = None) -> Iterator[Callable[[Any, Read], Any]]:
        """Holds while a train step is computed or traced; gives the function that completes its logs.

        `samples` tells, where there are several replicas, how many of the batch this one sees. The function takes the
        logs, and a function that reads a variable after the step. It returns the logs, what is carried to the next
        step, and the guard's verdict, None without a guard.
        """
        step = self._steps[threading.get_ident()] = _Step(carried, samples)
        try:
            if self._guard is not None:
                step.loss_scale = self._dynamic_scale(read)
            if self._schedule is not None:
                optimizer = updated_by(self.optimizer)
                done = _backend.whole_number(read(optimizer._iterations))
                done = done - _backend.whole_number(carried["first_step"])
                if optimizer.gradient_accumulation_steps:
                    done = done // optimizer.gradient_accumulation_steps
                step.learning_rate = keras.ops.cast(self._schedule(done), "float32")
            yield lambda logs, read_new: self._finish(step, logs, read_new)
        finally:
            del self._steps[threading.get_ident()]

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
            before = self._before(variables, values) if "update_norm" in self._norms else []
            result, after = run()
            if before:
                changes = _backend.norms(_backend.differences(after(), before))
                order = [place for place in places if place is not None]
                if len(order) < len(places):  # The optimizer has variables that are not the model's.
                    changes = keras.ops.take(changes, np.flatnonzero([place is not None for place in places]))
                step.norms["update_norm"] = self._spread(order, changes)
        finally:
            step.updating = False
        return result

    def _before(self, variables: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """Returns values of the variables that an update leaves as they are."""
        if self.before_step is None:
            return list(_backend.copies(values))
        kept, pairs = self.before_step.of, zip(variables, values, strict=True)
        return [kept[id(each)] if id(each) in kept else _backend.copies([value])[0] for each, value in pairs]

    def _apply(self, optimizer: Any) -> Callable[..., Any]:
        original = optimizer.apply

        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            if self._step is None or self._step.updating:
                return original(grads, trainable_variables)
            if self.replicas > 1:
                grads = _backend.averaged(grads, self._step.samples)
            variables = list(optimizer._trainable_variables if trainable_variables is None else trainable_variables)

            def run() -> Any:
                return original(grads, trainable_variables), lambda: [each.value for each in variables]

            return self.update(variables, grads, [each.value for each in variables], lambda each: each.value, run)

        return apply

    def _learning_rate(self, optimizer: Any) -> Callable[[], Any]:
        original = optimizer._get_current_learning_rate

        def learning_rate() -> Any:
            step = next(iter(self._steps.values()), None)  # TensorFlow lets weights decay outside of the replicas.
            return original() if step is None or step.learning_rate is None else step.learning_rate

        return learning_rate

    def _learn_variables(self) -> None:
        model = self._model()
        if model is not None and not self.paths:
            self.paths = [variable.path for variable in model.trainable_variables]
            self._places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
            if self._guard is not None and "weights" in self._guard.check:
                variables = [*model.trainable_variables, *model.non_trainable_variables]
                left_out = self._guard.unchecked | constants_of(model)
                checked = (each for each in variables if id(each) not in left_out)
                self._guarded = [each for each in checked if is_floating(each)]

    def _columns(self) -> dict[str, int | None]:
        """Returns the names of what a row holds, and the sizes of its vectors."""
        if self._known_columns:
            return self._known_columns
        columns: dict[str, int | None] = dict.fromkeys(["step", *self.names])
        columns |= dict.fromkeys(self._norms, len(self.paths))
        if self._guard is not None:
            scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
            columns |= dict.fromkeys(["bad", "stopped", "loss", "global_norm", *(["overflow", "loss_scale"] * scaled)])
            columns |= {"gradients": len(self.paths), "weights": len(self._guarded)}
        self._known_columns = columns
        return columns

    def _dynamic_scale(self, read: Read) -> Any:
        """Returns the loss scale where the optimizer changes it, else None."""
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return _loss_scale(self.optimizer, read)
        return None

    def _look(self, step: "_Step") -> None:
        step.looked = True
        order = sorted(step.gradients)
        gradients, variables = ([each[place] for place in order] for each in (step.gradients, step.variables))
        whole = global_gradient_norm in self._statistics.values() or self._guard is not None
        asked = gradients if whole or "gradient_norm" in self._norms else []
        asked = asked + (variables if "weight_norm" in self._norms else [])
        norms: Any = _backend.norms(asked) if asked else keras.ops.zeros((0,))
        if whole or "gradient_norm" in self._norms:
            step.gradient_norms = norms if len(asked) == len(order) else norms[: len(order)]
        if whole:
            step.global_norm = _norm_of_all(step.gradient_norms)
        for name, function in self._statistics.items():
            if function is global_gradient_norm:
                step.statistics[name] = step.global_norm
            else:
                number = keras.ops.reshape(function(gradients, variables), ())
                step.statistics[name] = keras.ops.cast(number, "float32")
        if "gradient_norm" in self._norms:
            step.norms["gradient_norm"] = self._spread(order, step.gradient_norms)
        if "weight_norm" in self._norms:
            step.norms["weight_norm"] = self._spread(order, norms[len(asked) - len(order) :])

    def _spread(self, order: list[int], numbers: Any, missing: float = np.nan) -> Any:
        """Returns a number for every variable: `missing` for those that are not in `order`."""
        if order == list(range(len(self.paths))):
            return numbers
        missing = keras.ops.full((1,), missing, dtype="float32")
        index = [order.index(place) if place in order else len(order) for place in range(len(self.paths))]
        return keras.ops.take(keras.ops.concatenate([numbers, missing]), np.array(index, "int32"))

    def _finish(self, step: "_Step", logs: Any, read_new: Read) -> tuple[Any, dict[str, Any], Verdict | None]:
        if not isinstance(logs, dict):
            raise TypeError(f"train_step must return a dict of logs for numbers to be added to them; got {logs!r}.")
        self._learn_variables()
        if not self.paths and not step.looked:
            self._look(step)  # Without trainable variables Keras calls no optimizer.
        if not step.looked and (self._statistics or self._norms or self._guard):
            raise RuntimeError("train_step did not call the optimizer that the model was compiled with.")
        carried = {**step.carried, "step": step.carried["step"] + 1}
        numbers = dict(step.statistics)
        if step.learning_rate is not None:
            numbers["learning_rate"] = step.learning_rate
        row, verdict = {"step": step.carried["step"], **numbers, **step.norms}, None
        if self._guard is not None:
            judged, new, verdict = self._judge(self._guard, step, logs, read_new)
            row |= judged
            carried |= new
        newest = _backend.row([row[name] for name, size in self._columns().items() if size != 0])
        if self._steps_per_execution > 1:
            carried["rows"] = newest = keras.ops.concatenate([carried["rows"][1:], newest])
        return {**logs, **numbers, _ROWS: newest}, carried, verdict

    def _judge(
        self, guard: StepGuard, step: "_Step", logs: dict[str, Any], read_new: Read
    ) -> tuple[dict[str, Any], dict[str, Any], Verdict]:
        """Returns numbers for the row, what goes on to the next step, and the verdict."""
        norms = self._spread(sorted(step.gradients), step.gradient_norms, 0.0)
        self._has_loss = "loss" in logs
        if not self._has_loss and guard.check == ("loss",):
            raise ValueError(f"check is 'loss', but the logs of train_step have no loss: {list(logs)}.")
        loss = logs["loss"] if self._has_loss else keras.ops.full((), np.nan)
        after = _backend.zero_if_finite([read_new(variable) for variable in self._guarded]) if self._guarded else None
        if self.replicas > 1:
            loss = _backend.mean_over_replicas(loss)
            after = None if after is None else _backend.mean_over_replicas(after)
        scales = None if step.loss_scale is None else (step.loss_scale, self._dynamic_scale(read_new))
        scaled = norms if scales is not None and "gradients" in guard.check else None
        asked = [norms] if "gradients" in guard.check and scales is None else []
        asked += [loss] if "loss" in guard.check and self._has_loss else []
        asked += [] if after is None else [after]
        finite = _backend.all_finite(_backend.row(asked)) if asked else True
        told, new, verdict = guard.judge(finite, scaled, scales, step.carried)
        vectors = {"gradients": norms, "weights": after}
        return told | vectors | {"loss": loss, "global_norm": step.global_norm}, new, verdict


class _Step:
    """What is known of one step while it is computed or traced."""

    def __init__(self, carried: dict[str, Any], samples: Any) -> None:
        self.carried, self.samples = carried, samples
        self.learning_rate: Any = None
        self.loss_scale: Any = None
        self.updating = False
        self.looked = False
        self.gradient_norms: Any = None
        self.global_norm: Any = None
        self.gradients: dict[int, Any] = {}
        self.variables: dict[int, Any] = {}
        self.statistics: dict[str, Any] = {}
        self.norms: dict[str, Any] = {}


def _request(
    model: Any, statistics: dict[str, Statistic], norms: Sequence[str], schedule: Any, guard: StepGuard | None
) -> tuple[Any, ...]:
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        with contextlib.suppress(NotImplementedError):  # One without a configuration is only itself.
            schedule = type(schedule), schedule.get_config()
    owned = model.optimizer, model.steps_per_execution, _backend.replicas(model)
    return *owned, dict(statistics), list(norms), schedule, guard


def _loss_scale(optimizer: Any, read: Read) -> Any:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return read(optimizer.dynamic_scale) if optimizer.built else optimizer.initial_scale
    return optimizer.loss_scale_factor
