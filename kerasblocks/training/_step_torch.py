"""The instrumented train step of PyTorch: what it carries from step to step lies in tensors of its own."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import torch

from kerasblocks.training._replicas_torch import rows_of_all
from kerasblocks.training._step_defaults import array_of as array_of
from kerasblocks.training._step_defaults import check_replicas as check_replicas
from kerasblocks.training._step_defaults import has_value as has_value
from kerasblocks.training._step_defaults import inner_methods as inner_methods
from kerasblocks.training._step_defaults import logs_of as logs_of
from kerasblocks.training._step_defaults import optimizer_methods as optimizer_methods
from kerasblocks.training._step_defaults import scope_of as scope_of
from kerasblocks.training._step_defaults import set_shares as set_shares
from kerasblocks.training._step_defaults import set_shuffle_state as set_shuffle_state
from kerasblocks.training._step_defaults import shares_of as shares_of
from kerasblocks.training._step_defaults import shuffle_state as shuffle_state
from kerasblocks.training._step_defaults import train_function as train_function
from kerasblocks.training._step_guard import moving_averages
from kerasblocks.training.data_parallel import current_replicas


def norms(tensors: Sequence[Any]) -> Any:
    """Returns the L2 norms of one tensor or more as a float32 vector."""
    with torch.no_grad():
        wide = [tensor if tensor.dtype == torch.float32 else tensor.float() for tensor in tensors]
        return torch.stack(torch._foreach_norm(wide))  # one kernel for many tensors


def zero_if_finite(tensors: Sequence[Any]) -> Any:
    """Returns for each of one tensor or more 0 if all its numbers are finite, else NaN."""
    if tensors[0].is_cpu:  # The norm below is slow there.
        found = norms(tensors)
        if all_finite(found) is not True:  # Squares may overflow where the numbers do not.
            ends = [end.float() for tensor in tensors for end in torch.aminmax(tensor.detach())]
            found = (torch.stack(ends).view(-1, 2) * 0).sum(1)
        return found * 0
    return torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors), math.inf)]) * 0


class _Shared(threading.local):
    """A number in memory that PyTorch and NumPy share, of each thread's own."""

    def __init__(self) -> None:
        self.tensor = torch.zeros((), dtype=torch.float64, device="cpu")
        self.number = self.tensor.numpy()


_shared = _Shared()


def _at_hand(tensor: Any) -> float | None:
    """Returns a scalar that the CPU has computed, so that no device need be asked for it; else None."""
    if not tensor.is_cpu or torch.compiler.is_compiling():
        return None
    _shared.tensor.copy_(tensor)
    return float(_shared.number)


def all_finite(tensor: Any) -> Any:
    """Returns whether all numbers of a tensor are finite: a bool where it can be had without waiting."""
    found = (tensor * 0).sum()  # 0 or NaN, in fewer kernels than isfinite
    known = _at_hand(found)
    return found == 0 if known is None else known == 0


def whole_number(tensor: Any) -> Any:
    """Returns an integer scalar: as an int where it can be had without waiting, else as an int32 tensor."""
    known = _at_hand(tensor)
    return tensor.int() if known is None else int(known)


def gradients(loss_of: Callable[[], Any], variables: Sequence[Any]) -> list[Any]:
    """Returns the gradients of what `loss_of` returns, by each variable, None for those that it does not depend on."""
    return list(torch.autograd.grad(loss_of(), [variable.value for variable in variables], allow_unused=True))


def row(parts: Sequence[Any]) -> Any:
    """Returns scalars and vectors one after another as a float32 matrix of one row."""
    return torch.cat([part.reshape(-1).float() for part in parts])[None]


def dense(gradient: Any) -> Any:
    """Returns the gradient as a tensor."""
    return gradient


def differences(first: Sequence[Any], second: Sequence[Any]) -> Sequence[Any]:
    """Returns the tensors less the other ones."""
    with torch.no_grad():
        return torch._foreach_sub(list(first), list(second))


def copies(tensors: Sequence[Any]) -> list[Any]:
    """Returns values that an update leaves as they are."""
    return [tensor.detach().clone() for tensor in tensors]


def replicas(model: Any) -> int:
    """Returns how many replicas of the model run the step side by side, each seeing its own part of the batch only."""
    return current_replicas().processes


def averaged(gradients: Sequence[Any], samples: int) -> list[Any]:
    """Returns the gradients of the whole batch's loss, None where there is none."""
    parts = [each.detach() for each in gradients if each is not None]
    wide = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
    count = torch.tensor([float(samples)], dtype=wide, device=parts[0].device)
    flat = torch.cat([*(part.reshape(-1).to(wide) * samples for part in parts), count])
    torch.distributed.all_reduce(flat)
    whole = torch.split(flat[:-1] / flat[-1], [part.numel() for part in parts])
    means = iter([mean.view(part.shape).to(part.dtype) for mean, part in zip(whole, parts, strict=True)])
    return [None if each is None else next(means) for each in gradients]


def mean_over_replicas(tensor: Any) -> Any:
    """Returns the mean of what the replicas have, not finite where one of them is not."""
    mean = tensor.detach().float() / torch.distributed.get_world_size()
    torch.distributed.all_reduce(mean)
    return mean


def whole_batch(model: Any, batch: Any) -> Any:
    """Returns the batch of all replicas."""
    if replicas(model) == 1:
        return batch
    return keras.tree.map_structure(lambda part: rows_of_all(torch.as_tensor(part)), batch)


class _Shares:
    """Metrics and moving averages, of which those before a step tell what they are in all processes after it."""

    def __init__(self, program: Any) -> None:
        metrics, moving = program.model.metrics_variables, moving_averages(program.model)
        sums = [each.aggregation == "sum" for each in metrics] + [False] * len(moving)
        self._factors = [1.0 if is_sum else 1 / program.replicas for is_sum in sums]
        self._values = [each.value.detach() for each in [*metrics, *moving]]
        self._sizes = [value.numel() for value in self._values]

    def take(self) -> None:
        """Copies the values before a step."""
        self._before = self._flat()

    def _flat(self) -> torch.Tensor:
        parts = [value.reshape(-1).double() for value in self._values]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def agree(self) -> None:
        """Sets the variables to what the step of all processes together has made of them."""
        if not self._values:
            return
        change = self._flat() - self._before
        for part, factor in zip(torch.split(change, self._sizes), self._factors, strict=True):
            part *= factor
        torch.distributed.all_reduce(change)
        for value, new in zip(self._values, torch.split(self._before + change, self._sizes), strict=True):
            value.copy_(new.view(value.shape))


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any], model: Any) -> None:
        self.values = {name: keras.ops.convert_to_tensor(number) for name, number in numbers.items()}

    def set(self, name: str, number: Any) -> None:
        """Sets one of the numbers, between two steps."""
        self.values[name] = keras.ops.convert_to_tensor(number)


class _Before:
    """Copies of variables, whose values lie in the same memory during all of a fit."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self.variables = variables
        self.values = [variable.value.detach() for variable in variables]
        self.of = {
            id(variable): torch.empty_like(value) for variable, value in zip(variables, self.values, strict=True)
        }
        self._copies = list(self.of.values())

    def take(self) -> None:
        """Copies the values."""
        torch._foreach_copy_(self._copies, self.values)


def train_step(program: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a train step that computes what was asked for."""

    def step(data: Any) -> Any:
        if program.undoes:
            if program.before_step is None:
                program.before_step = _Before(program.changing())
            program.before_step.take()
        carry = program.carry
        if program.replicas > 1 and program.shares is None:
            program.shares = _Shares(program)
        shares = program.shares
        samples = None
        if shares is not None:
            shares.take()
            samples = len(keras.tree.flatten(data)[0])
        with program.inside(lambda variable: variable.value.detach().clone(), carry.values, samples) as finish:
            logs = original(data)
            with torch.no_grad():
                if shares is not None:
                    shares.agree()
                    logs = _with_metrics_now(program, logs)
                logs, carry.values, verdict = finish(logs, lambda variable: variable.value)
                if verdict is None:
                    return logs
                program.stood = _at_hand(verdict.undone) == 0
                return _undone(program, verdict, logs) if program.undoes and not program.stood else logs

    return step


def _with_metrics_now(program: Any, logs: Any) -> Any:
    metrics = program.model.get_metrics_result()
    return {**logs, **{name: metrics[name] for name in program.metrics_in(logs, metrics)}}


def _undone(program: Any, verdict: Any, logs: dict[str, Any]) -> Any:
    """Puts the variables back where the step is undone, and returns the logs; a GPU is not waited for."""
    before = program.before_step
    for variable, value in zip(before.variables, before.values, strict=True):
        condition = verdict.stopped if program.is_seed(variable) else verdict.undone
        value.copy_(torch.where(condition, before.of[id(variable)], value))
    metrics = program.model.get_metrics_result()
    names = program.metrics_in(logs, metrics)
    return logs | {name: torch.where(verdict.undone, metrics[name], logs[name]) for name in names}


def watched(arguments: tuple[Any, ...], steps: int, keep: Callable[[Any], object]) -> tuple[Any, ...]:
    """Returns the arguments of a train function of so many steps, after `keep` has been called with each batch."""
    for batch in arguments[0]:
        keep(batch)
    return arguments


def without_gradients() -> contextlib.AbstractContextManager[Any]:
    """Within, nothing is kept for a backward pass."""
    return torch.no_grad()


def random_state() -> list[Any]:
    """Returns the state of PyTorch's own generators, which Keras's dropout draws from unless it has a seed."""
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if on_gpu else [])]


def set_random_state(state: Sequence[Any]) -> None:
    """Sets what `random_state` has returned, given as tensors or arrays; that of a GPU where there is one."""
    torch.set_rng_state(torch.as_tensor(state[0]))
    for each in state[1:]:
        if torch.cuda.is_available():
            torch.cuda.set_rng_state(torch.as_tensor(each))


def part_generators(distance: int) -> None:
    """Seeds PyTorch's own generators at a distance from what they were seeded with."""
    torch.manual_seed((torch.initial_seed() + distance) % 2**63)


@contextlib.contextmanager
def random_state_kept(state: list[Any] | None = None) -> Iterator[None]:
    """Puts the state of PyTorch's own generators back in the end; begins with `state` if there is one."""
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng([torch.cuda.current_device()] if on_gpu else []):
        if state is not None:
            set_random_state(state)
        yield
