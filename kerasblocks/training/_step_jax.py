"""The instrumented train step of JAX: what it carries from step to step rides beside Keras's state."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras

from kerasblocks.training._step_defaults import array_of as array_of
from kerasblocks.training._step_defaults import check_replicas as check_replicas
from kerasblocks.training._step_defaults import inner_methods as inner_methods
from kerasblocks.training._step_defaults import random_state as random_state
from kerasblocks.training._step_defaults import random_state_kept as random_state_kept
from kerasblocks.training._step_defaults import replicas as replicas
from kerasblocks.training._step_defaults import scope_of as scope_of
from kerasblocks.training._step_defaults import set_random_state as set_random_state
from kerasblocks.training._step_defaults import set_shares as set_shares
from kerasblocks.training._step_defaults import set_shuffle_state as set_shuffle_state
from kerasblocks.training._step_defaults import shares_of as shares_of
from kerasblocks.training._step_defaults import shuffle_state as shuffle_state
from kerasblocks.training._step_defaults import whole_batch as whole_batch
from kerasblocks.training._step_defaults import without_gradients as without_gradients
from kerasblocks.training._step_guard import constants_of


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    return jnp.stack([jnp.sqrt(jnp.sum(jnp.square(tensor.astype("float32")))) for tensor in tensors])


def zero_if_finite(tensors: Sequence[Any]) -> Any:
    """Returns for each of one tensor or more 0 if all its numbers are finite, else NaN."""
    return jnp.where(jnp.stack([jnp.all(jnp.isfinite(tensor)) for tensor in tensors]), 0.0, jnp.nan)


def all_finite(tensor: Any) -> Any:
    """Returns whether all numbers of a tensor are finite."""
    return jnp.all(jnp.isfinite(tensor))


def whole_number(tensor: Any) -> Any:
    """Returns an integer scalar as an int32 tensor."""
    return tensor.astype("int32")


def gradients(loss_of: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Returns the gradients of what `loss_of` returns, by each variable."""

    def loss(values: Sequence[Any]) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True)), collect_losses=True):
            return loss_of()

    # Compiled as a whole, which takes less time than each of its operations for itself.
    return list(jax.jit(jax.grad(loss))([variable.value for variable in variables]))


def has_value(tensor: Any) -> bool:
    """Returns whether the tensor's numbers are there, which they are not while a function is traced."""
    return not isinstance(tensor, jax.core.Tracer)


def row(parts: Sequence[Any]) -> Any:
    """Returns scalars and vectors one after another as a float32 matrix of one row."""
    return jnp.concatenate([jnp.ravel(part).astype("float32") for part in parts])[None]


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor."""
    return gradient


def differences(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """Returns the tensors less the other ones."""
    return [one - another for one, another in zip(first, second, strict=True)]


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return list(tensors)


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any], model: Any) -> None:
        self.values = {name: jnp.asarray(number) for name, number in numbers.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers, between two steps."""
        self.values[name] = jnp.asarray(number)


def train_step(program: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step whose state has the carried numbers as its fifth part."""

    def step(state: Any, data: Any) -> Any:
        *old, carried = state
        known = dict(zip(map(id, program.optimizer.variables), old[2], strict=True))
        with program.inside(lambda variable: known[id(variable)], carried) as finish:
            logs, new = original(tuple(old), data)
            after = {
                id(variable): value
                for variables, values in zip(program.state(), new, strict=True)
                for variable, value in zip(variables, values, strict=True)
            }
            logs, carried, verdict = finish(logs, lambda variable: after[id(variable)])
        if program.undoes:
            logs, new = _undone(program, verdict, logs, old, new)
        return logs, (*new, carried)

    return step


def _undone(program: Any, verdict: Any, logs: dict[str, Any], old: Any, new: Any) -> tuple[dict[str, Any], list[Any]]:
    """Returns logs and state after the step, or those before it where it is undone."""
    constants = constants_of(program.model)
    kept = [
        [
            after
            if id(variable) in constants
            else jnp.where(verdict.stopped if program.is_seed(variable) else verdict.undone, before, after)
            for variable, before, after in zip(variables, *values, strict=True)
        ]
        for variables, *values in zip(program.state(), old, new, strict=True)
    ]
    with keras.StatelessScope(list(zip(program.model.metrics_variables, kept[3], strict=True))):
        metrics = program.model.get_metrics_result()
    changed = {name: jnp.where(verdict.undone, metrics[name], logs[name]) for name in program.metrics_in(logs, metrics)}
    return logs | changed, kept


def train_function(program: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train function of Keras's signature around one whose state has a fifth part."""

    def function(state: Any, iterator: Any) -> Any:
        carry = program.carry
        logs, (*state, carry.values) = compiled((*state, carry.values), iterator)
        return logs, tuple(state)

    return function


def watched(arguments: tuple[Any, ...], steps: int, keep: Callable[[Any], object]) -> tuple[Any, ...]:
    """Returns the arguments of a train function of so many steps, so that `keep` is called with each batch."""
    state, iterator = arguments

    def batches() -> Iterator[Any]:
        for batch in iterator:
            keep(batch)
            yield batch

    return state, batches()


def logs_of(result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the logs in what a train function returned, and a function that puts others in their place."""
    logs, state = result
    return logs, lambda others: (others, state)


def optimizer_methods(program: Any, optimizer: Any) -> dict[str, Callable[..., Any]]:
    """Returns the optimizer's methods, beside `apply`, that see the gradients."""
    original = optimizer.stateless_apply

    def stateless_apply(optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
        known = dict(zip(map(id, optimizer.variables), optimizer_variables, strict=True))

        def run() -> Any:
            result = original(optimizer_variables, grads, trainable_variables)
            return result, lambda: result[0]

        return program.update(
            optimizer._trainable_variables, grads, trainable_variables, lambda variable: known[id(variable)], run
        )

    return {"stateless_apply": stateless_apply}
