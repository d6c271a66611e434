"""The instrumented train step of TensorFlow: what it carries from step to step lies in variables of its own."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from kerasblocks.training._build import build
from kerasblocks.training._step_defaults import logs_of as logs_of
from kerasblocks.training._step_defaults import optimizer_methods as optimizer_methods
from kerasblocks.training._step_defaults import random_state as random_state
from kerasblocks.training._step_defaults import random_state_kept as random_state_kept
from kerasblocks.training._step_defaults import set_random_state as set_random_state
from kerasblocks.training._step_defaults import without_gradients as without_gradients
from kerasblocks.training._step_guard import moving_averages


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    return tf.stack([tf.sqrt(tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32)))) for tensor in tensors])


def zero_if_finite(tensors: Sequence[Any]) -> Any:
    """Returns for each of one tensor or more 0 if all its numbers are finite, else NaN."""
    return tf.where(tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in tensors]), 0.0, float("nan"))


def all_finite(tensor: Any) -> Any:
    """Returns whether all numbers of a tensor are finite."""
    return tf.reduce_all(tf.math.is_finite(tensor))


def whole_number(tensor: Any) -> Any:
    """Returns an integer scalar as an int32 tensor."""
    return tf.cast(tensor, tf.int32)


def gradients(loss_of: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Returns the gradients of what `loss_of` returns, by each variable, None for those that it does not depend on."""
    values = [variable.value for variable in variables]
    with tf.GradientTape() as tape:
        loss = loss_of()
    return [None if each is None else dense(each) for each in tape.gradient(loss, values)]


def array_of(variable: Any) -> np.ndarray:
    """Returns the variable's numbers, those of all replicas together; `keras.ops` takes three copies, of one alone."""
    found: np.ndarray = variable.value.numpy()
    return found


def shares_of(variable: Any) -> list[np.ndarray]:
    """Returns what each replica has summed up for itself, if they do; the variable's numbers are the sum."""
    return [share.numpy() for share in _shares(variable)]


def set_shares(variable: Any, values: Sequence[np.ndarray]) -> None:
    """Gives each replica its own; a sum that is assigned would be split evenly, and rounded otherwise later."""
    for share, value in zip(_shares(variable), values, strict=True):
        share.assign(value)


def shuffle_state() -> Any:
    """Returns the state that decides how `fit` shuffles arrays: that of the seeds that operations get."""
    generator = getattr(context.context(), "_rng", None)  # there once a seed is set
    return None if generator is None else generator.getstate()


def set_shuffle_state(state: Any) -> None:
    """Sets what `shuffle_state` has returned."""
    if state is not None:
        context.context()._rng.setstate(state)


def replicas(model: Any) -> int:
    """Returns how many replicas of the model run the step side by side, each seeing its own part of the batch only."""
    return int(model.distribute_strategy.num_replicas_in_sync)


def check_replicas(model: Any) -> None:
    """Refuses what several replicas cannot do.

    Raises:
        ValueError: a model that was made under another strategy; gradient accumulation, or an overwriting moving
            average, in which Keras sets variables where a strategy allows none to be set.
    """
    # Keras's `distribute_strategy` is the one in force for a model that was made under none.
    if tf.distribute.has_strategy() and tf.distribute.get_strategy() is not model._distribute_strategy:
        raise ValueError("The model was made outside of the strategy in force: make it inside data_parallel.")
    count, optimizer = replicas(model), getattr(model.optimizer, "inner_optimizer", model.optimizer)
    for name in ("gradient_accumulation_steps", "ema_overwrite_frequency") if count > 1 else ():
        value = getattr(optimizer, name)
        if value and (optimizer.use_ema or name == "gradient_accumulation_steps"):
            raise ValueError(
                f"On TensorFlow {name} does not work on several devices; got {name}={value} on {count} devices."
            )


def scope_of(model: Any) -> contextlib.AbstractContextManager[Any]:
    """Returns what must be in force where the model's variables are made."""
    return model.distribute_strategy.scope() if replicas(model) > 1 else contextlib.nullcontext()


def inner_methods(program: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns methods of the optimizer that makes the updates: its gradients are summed over replicas already."""
    if program.replicas == 1:
        return {}
    original = optimizer._all_reduce_sum_gradients

    def all_reduce(pairs: Any) -> Any:
        return list(pairs) if program.in_step else original(pairs)

    return {"_all_reduce_sum_gradients": all_reduce}


def averaged(gradients: Sequence[Any], samples: Any) -> list[Any]:
    """Returns the gradients of the whole batch's loss, None where there is none.

    Keras has divided a replica's loss by their number; the mean over the batch weighs it by its number of samples.
    """
    context = tf.distribute.get_replica_context()
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(samples, tf.float32))
    share = tf.cast(samples, tf.float32) * context.num_replicas_in_sync / total
    found: list[Any] = [None if each is None else _times(each, share) for each in gradients]
    places = [place for place, each in enumerate(found) if each is not None]
    for place, summed in zip(
        places, _all_reduced(tf.distribute.ReduceOp.SUM, [found[each] for each in places]), strict=True
    ):
        found[place] = summed
    return found


def _times(gradient: Any, share: Any) -> Any:
    """Returns the gradient times a number; an embedding's stays slices, which optimizers treat in their own way."""
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(share, gradient.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(share, gradient.dtype)


def _all_reduced(operation: Any, tensors: Sequence[Any]) -> list[Any]:
    """Returns the sums or means over the replicas; TensorFlow packs the tensors of one call, so each kind has one."""
    found, kinds = list(tensors), [(tensor.dtype, isinstance(tensor, tf.IndexedSlices)) for tensor in tensors]
    for kind in dict.fromkeys(kinds):
        places = [place for place, each in enumerate(kinds) if each == kind]
        parts = tf.distribute.get_replica_context().all_reduce(operation, [tensors[place] for place in places])
        for place, part in zip(places, parts, strict=True):
            found[place] = part
    return found


def mean_over_replicas(tensor: Any) -> Any:
    """Returns the mean of what the replicas have, not finite where one of them is not."""
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tensor)


def whole_batch(model: Any, batch: Any) -> Any:
    """Returns the batch of all replicas."""
    if replicas(model) == 1:
        return batch
    strategy = model.distribute_strategy
    return keras.tree.map_structure(lambda part: tf.concat(strategy.experimental_local_results(part), 0), batch)


def has_value(tensor: Any) -> bool:
    """Returns whether the tensor's numbers are there, which they are not while a function is traced."""
    return not tf.is_symbolic_tensor(tensor)


def row(parts: Sequence[Any]) -> Any:
    """Returns scalars and vectors one after another as a float32 matrix of one row."""
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], 0)[None]


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor; that of an embedding comes as slices."""
    return tf.convert_to_tensor(gradient)


def differences(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """Returns the tensors less the other ones."""
    return [one - another for one, another in zip(first, second, strict=True)]


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return [tf.identity(tensor) for tensor in tensors]


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any], model: Any) -> None:
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA  # All replicas have the same.
        with scope_of(model):
            self.variables = {
                name: tf.Variable(number, trainable=False, aggregation=first) for name, number in numbers.items()
            }

    @property
    def values(self) -> dict[str, Any]:
        """The numbers as tensors."""
        return {name: variable.read_value() for name, variable in self.variables.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers."""
        self.variables[name].assign(number)


def train_step(program: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step that computes what was asked for."""

    def step(data: Any) -> Any:
        variables: list[Any] = []
        if program.undoes:
            variables = program.changing()
        before = copies([variable.value for variable in variables])
        carry = program.carry
        samples = tf.shape(keras.tree.flatten(data)[0])[0] if program.replicas > 1 else None
        with program.inside(lambda variable: tf.identity(variable.value), carry.values, samples) as finish:
            logs = original(data)
            if program.replicas > 1:
                _share_moving_averages(program.model)
                logs = {**logs, **_metrics_of_all(program, logs)}
            logs, carried, verdict = finish(logs, lambda variable: variable.value)
        for name, number in carried.items():
            carry.set(name, number)
        if not program.undoes:
            return logs
        undone = _undone if program.replicas == 1 else _undone_on_replicas
        return undone(program, verdict, logs, variables, before)

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(step)
    return converted


def train_function(program: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the train function, which has the variables made before its first step.

    A step that made them itself would have no value of theirs from before, and TensorFlow would trace it twice.
    """
    if program.replicas > 1 or (program.model.run_eagerly and not program.undoes):  # Keras makes them, or needs none.
        return compiled
    is_built = False

    def run(iterator: Any) -> Any:
        nonlocal is_built
        if not is_built:
            if isinstance(iterator, tf.data.Iterator):
                batch = iterator.element_spec
            else:
                batch, *others = iterator
                iterator = iter([batch, *others])
            is_built = True
            try:
                build(program.model, keras.tree.map_structure(_symbol, batch))
            except Exception:  # A model that cannot be built so is left to the step, unless what it makes is put back.
                if program.undoes:
                    raise
        return compiled(iterator)

    return run


def _symbol(part: Any) -> Any:
    """Returns what stands for a batch's tensors like this one, or of this kind; those of unknown rank as of rank 1."""
    if isinstance(part, tf.OptionalSpec | tf.experimental.Optional):  # as which Keras hands down what is None
        return None
    shape = part.shape.as_list() if part.shape.rank is not None else [None]
    is_sparse = isinstance(part, tf.SparseTensorSpec | tf.SparseTensor)
    return keras.KerasTensor(shape, part.dtype.name, sparse=is_sparse)


def _shares(variable: Any) -> Sequence[Any]:
    is_summed = variable.aggregation == "sum" and isinstance(variable.value, tf.distribute.DistributedValues)
    return variable.value.values if is_summed else ()


def _undone(program: Any, verdict: Any, logs: dict[str, Any], variables: list[Any], before: list[Any]) -> Any:
    """Puts the variables back where the step is undone, and returns the logs."""
    metrics = program.model.get_metrics_result()
    names = program.metrics_in(logs, metrics)

    def undo() -> list[Any]:
        if len(variables) < len(program.changing()):  # This step has made the metrics'.
            program.model.reset_metrics()
        for variable, old in zip(variables, before, strict=True):
            seed = program.is_seed(variable)
            variable.assign(tf.where(verdict.stopped, old, variable.value) if seed else old)
        metrics = program.model.get_metrics_result()
        return [tf.cast(metrics[name], logs[name].dtype) for name in names]

    changed = tf.cond(verdict.undone, undo, lambda: [logs[name] for name in names])
    return logs | dict(zip(names, changed, strict=True))


def _share_moving_averages(model: Any) -> None:
    """Makes those of all replicas their mean, for Keras lets each go its own way, and saves the first one's."""
    moving = [variable.value for variable in moving_averages(model)]
    means = _all_reduced(tf.distribute.ReduceOp.MEAN, [tf.convert_to_tensor(variable) for variable in moving])
    for variable, mean in zip(moving, means, strict=True):
        variable.assign(mean)


def _metrics_of_all(program: Any, logs: Any) -> dict[str, Any]:
    """Returns the entries of the logs that metrics tell, of all replicas' samples; Keras means those of each."""
    summed = [variable.aggregation == "sum" for variable in program.model.metrics_variables]
    values = [tf.convert_to_tensor(variable.value) for variable in program.model.metrics_variables]
    sums = _all_reduced(tf.distribute.ReduceOp.SUM, values)
    means = [part if is_sum else part / program.replicas for part, is_sum in zip(sums, summed, strict=True)]
    with keras.StatelessScope(list(zip(program.model.metrics_variables, means, strict=True))):
        metrics = program.model.get_metrics_result()
    return {name: metrics[name] for name in program.metrics_in(logs, metrics)}


def _undone_on_replicas(
    program: Any, verdict: Any, logs: dict[str, Any], variables: list[Any], before: list[Any]
) -> Any:
    """Does as `_undone` does where several replicas agree; their variables cannot be set within a condition."""
    values = [
        tf.where(verdict.stopped if program.is_seed(variable) else verdict.undone, old, variable.value)
        for variable, old in zip(variables, before, strict=True)
    ]
    shared = []
    for variable, value in zip(variables, values, strict=True):
        if variable.synchronization == "on_read":  # each replica's own
            variable.assign(value)
        else:
            shared.append((variable.value, value))

    def put_back(strategy: Any, pairs: Any) -> None:
        for variable, value in pairs:
            strategy.extended.update(variable, lambda one, new: one.assign(new), args=(value,), group=False)

    tf.distribute.get_replica_context().merge_call(put_back, args=(shared,))
    metrics = _metrics_of_all(program, logs)
    return logs | {name: tf.where(verdict.undone, value, logs[name]) for name, value in metrics.items()}


def watched(arguments: tuple[Any, ...], steps: int, keep: Callable[[Any], object]) -> tuple[Any, ...]:
    """Returns the arguments of a train function of so many steps, so that `keep` is called with each batch."""
    (iterator,) = arguments
    batches = list(itertools.islice(iterator, steps))
    if not batches:
        raise StopIteration
    for batch in batches:
        keep(batch)
    return (iter(batches),)
