"""All numbers that the next step of a fit depends on, as NumPy arrays and back; Keras saves no metrics and no seeds."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from kerasblocks._backend_module import backend_module
from kerasblocks.training._checkpoint_files import Read
from kerasblocks.training._step_guard import constants_of

_backend = backend_module("kerasblocks.training._step")
SHARE = "share/"  # how the names of what each replica has for itself begin
_STRIDE = 1_000_003  # between the seeds of two processes: far from the small steps by which people choose seeds


def variables_of(model: Any) -> dict[str, list[Any]]:
    """Returns the variables that training may change of a model that has been built and compiled, in groups."""
    constants = constants_of(model)
    return {
        "model": [variable for variable in model.variables if id(variable) not in constants],
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
        "seed": [global_seed()],
    }


def global_seed() -> Any:
    """Returns the state of the seed generator that Keras gives to all that have none of their own."""
    return global_seed_generator().state


def seeds_of(model: Any) -> list[Any]:
    """Returns the states of all seed generators: a seed and a count each."""
    found = [each for part in variables_of(model).values() for each in part if "seed_generator" in each.path]
    return list({id(each): each for each in found}.values())


def own_names(model: Any, arrays: dict[str, np.ndarray]) -> list[str]:
    """Returns the names of those arrays of `gathered` that each process of several has for itself."""
    seeds = set(map(id, seeds_of(model)))
    names = [
        f"{group}/{index}"
        for group, variables in variables_of(model).items()
        for index, variable in enumerate(variables)
        if id(variable) in seeds
    ]
    return [*names, *(name for name in arrays if name.startswith(_own()))]


def take_from_first(model: Any, from_first: Callable[[np.ndarray], np.ndarray]) -> None:
    """Gives all processes the numbers of the first one."""
    for variables in [getattr(model, "constant_variables", ()), *variables_of(model).values()]:
        for variable in variables:
            variable.assign(from_first(_backend.array_of(variable)))


def part_seeds(model: Any, process: int) -> None:
    """Gives one process of several seeds of its own, from the same start as the others."""
    for seed in seeds_of(model):
        value = np.array(_backend.array_of(seed))
        value[0] = (int(value[0]) + process * _STRIDE) % 2**31
        seed.assign(value)


def part_generators(process: int) -> None:
    """Gives one process of several random numbers of its own from the backend's generators."""
    _backend.part_generators(process * _STRIDE)


def described(model: Any) -> dict[str, list[list[Any]]]:
    """Returns shapes and paths of the variables, ready for JSON."""
    return {
        group: [[list(variable.shape), variable.path] for variable in variables]
        for group, variables in variables_of(model).items()
    }


def gathered(model: Any, used: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns copies of the numbers, between two steps or before the first; waits for the device.

    `used` is what an earlier call has returned and nobody reads any more, and is used up: the copies go there where
    they fit, for what is freed and asked for again at every checkpoint slows the steps of PyTorch.
    """
    if hasattr(model, "jax_state_sync"):  # On JAX the variables have no value while an epoch runs.
        model.jax_state_sync()
    arrays = {
        (name := f"{group}/{index}"): _own_copy(_backend.array_of(variable), used.pop(name, None))
        for group, variables in variables_of(model).items()
        for index, variable in enumerate(variables)
    }
    return arrays | _shares(model) | generators()


def restore(model: Any, read: Read, written: dict[str, Any]) -> None:
    """Puts the numbers back that `gathered` has returned; `written` is what `described` has.

    Raises:
        ValueError: they are those of another model, optimizer or set of metrics; nothing is changed then.
    """
    groups = variables_of(model)
    for group, variables in groups.items():
        _compare(group, variables, written[group])
    places = [(f"{group}/{index}", each) for group, part in groups.items() for index, each in enumerate(part)]
    values = read([name for name, _ in places])
    for (name, variable), value in zip(places, values, strict=True):
        if value.shape != tuple(variable.shape):
            raise ValueError(f"The checkpoint's {name} has the shape {value.shape}, not {tuple(variable.shape)}.")
    for (_, variable), value in zip(places, values, strict=True):
        # The backends keep seeds and counts in integers of other widths.
        whole = value.dtype.kind in "iu"
        variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)) if whole else value)


def restore_shares(model: Any, names: Sequence[str], read: Read) -> None:
    """Gives each replica what it has summed up in the metrics for itself, if there are as many replicas as there were.

    Otherwise they keep even shares of the sum, which rounds otherwise.
    """
    here = _shares(model)
    if list(here) == list(names):
        _set_shares(model, dict(zip(names, read(names), strict=True)))


def metrics_only(model: Any) -> tuple[list[Any], dict[str, Any]]:
    """Returns copies of the metrics' numbers, which Keras resets when an epoch begins."""
    return [_own_copy(_backend.array_of(variable)) for variable in model.metrics_variables], _shares(model)


def restore_metrics(model: Any, values: tuple[list[Any], dict[str, Any]]) -> None:
    """Puts the metrics' numbers back."""
    whole, shares = values
    for variable, value in zip(model.metrics_variables, whole, strict=True):
        variable.assign(value)
    _set_shares(model, shares)


def restore_generators(names: Sequence[str], read: Read) -> None:
    """Puts the state of Python's, NumPy's and the backend's own generators back, if the backend is the same."""
    set_generators(dict(zip(names, read(names), strict=True)))


def set_generators(found: dict[str, np.ndarray]) -> None:
    """Puts the state back that `generators` has returned."""
    python, words, waiting = (found[f"generator/{name}"] for name in ("python", "numpy", "waiting"))
    spare = None if np.isnan(waiting[0]) else float(waiting[0])
    random.setstate((3, tuple(int(word) for word in python), spare))
    state = "MT19937", words[:-1].astype("uint32"), int(words[-1]), int(waiting[1]), float(waiting[2])
    np.random.set_state(state)  # noqa: NPY002 - Keras uses it
    own = [state for name, state in found.items() if name.startswith(_own())]
    if own:
        _backend.set_random_state(own)


def generators() -> dict[str, np.ndarray]:
    """Returns the state of Python's, NumPy's and the backend's own generators."""
    _, python, spare = random.getstate()
    _, words, position, has_spare, numpy_spare = np.random.get_state()  # noqa: NPY002 - Keras uses it
    own = _backend.random_state() or []
    return {
        "generator/python": np.array(python, "uint32"),
        "generator/numpy": np.append(np.asarray(words, "uint64"), np.uint64(position)),
        # A normal number that each keeps for the next call.
        "generator/waiting": np.array([np.nan if spare is None else spare, has_spare, numpy_spare]),
        **{f"{_own()}{index}": np.array(each.cpu()) for index, each in enumerate(own)},
    }


def _shares(model: Any) -> dict[str, np.ndarray]:
    """Returns what each of several replicas has summed up in the metrics for itself."""
    return {
        f"{SHARE}{index}/{replica}": share
        for index, variable in enumerate(model.metrics_variables)
        for replica, share in enumerate(_backend.shares_of(variable))
    }


def _set_shares(model: Any, shares: dict[str, Any]) -> None:
    for index, variable in enumerate(model.metrics_variables):
        _backend.set_shares(variable, [each for name, each in shares.items() if name.startswith(f"{SHARE}{index}/")])


def _own_copy(array: np.ndarray, used: np.ndarray | None = None) -> np.ndarray:
    """Returns an array that the next step leaves alone; TensorFlow has made one, the others show their own memory."""
    if array.flags.owndata:
        return array
    if used is None or used.shape != array.shape or used.dtype != array.dtype:
        return array.copy()
    np.copyto(used, array)
    return used


def _own() -> str:
    return f"generator/{keras.backend.backend()}/"


def _compare(group: str, variables: Sequence[Any], written: Sequence[Any]) -> None:
    for variable, (shape, path) in zip(variables, written, strict=False):
        if tuple(shape) != tuple(variable.shape):
            raise ValueError(
                f"The checkpoint is of another {group}: its {path} has the shape {tuple(shape)}, "
                f"{variable.path} here has {tuple(variable.shape)}."
            )
    if len(variables) != len(written):
        raise ValueError(f"The checkpoint is of another {group}: of {len(written)} variables, not {len(variables)}.")
