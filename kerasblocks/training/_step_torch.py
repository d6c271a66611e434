"""The instrumented train step of PyTorch: what it carries from step to step lies in tensors of its own."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import torch

from kerasblocks.training._step_defaults import has_value as has_value
from kerasblocks.training._step_defaults import logs_of as logs_of
from kerasblocks.training._step_defaults import optimizer_methods as optimizer_methods
from kerasblocks.training._step_defaults import train_function as train_function


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


class Carry:
    """Numbers that go from step to step on the device."""

    def __init__(self, numbers: dict[str, Any]) -> None:
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
                program.before_step = _Before([variable for part in program.state() for variable in part])
            program.before_step.take()
        carry = program.carry
        with program.inside(lambda variable: variable.value.detach().clone(), carry.values) as finish:
            logs = original(data)
            with torch.no_grad():
                logs, carry.values, verdict = finish(logs, lambda variable: variable.value)
                if verdict is None:
                    return logs
                program.stood = _at_hand(verdict.undone) == 0
                return _undone(program, verdict, logs) if program.undoes and not program.stood else logs

    return step


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


@contextlib.contextmanager
def random_state_kept(state: list[Any] | None = None) -> Iterator[None]:
    """Puts the state of PyTorch's own generators back in the end; begins with `state` if there is one."""
    on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng([torch.cuda.current_device()] if on_gpu else []):
        if state is not None:
            set_random_state(state)
        yield
