"""All numbers that the next step of a fit depends on, as NumPy arrays and back; Keras saves no metrics and no seeds."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.random.seed_generator import global_seed_generator

from kerasblocks._backend_module import backend_module

_backend = backend_module("kerasblocks.training._step")


def variables_of(model: Any) -> dict[str, list[Any]]:
    """Returns the variables of a model that has been built and compiled, in groups."""
    return {
        "model": list(model.variables),
        "optimizer": list(model.optimizer.variables),
        "metrics": list(model.metrics_variables),
        "seed": [global_seed_generator().state],
    }


def described(model: Any) -> dict[str, list[list[Any]]]:
    """Returns shapes and paths of the variables, ready for JSON."""
    return {
        group: [[list(variable.shape), variable.path] for variable in variables]
        for group, variables in variables_of(model).items()
    }


def gathered(model: Any) -> dict[str, np.ndarray]:
    """Returns copies of the numbers, between two steps or before the first; waits for the device."""
    if hasattr(model, "jax_state_sync"):  # On JAX the variables have no value while an epoch runs.
        model.jax_state_sync()
    arrays = {
        f"{group}/{index}": np.array(keras.ops.convert_to_numpy(variable.value))
        for group, variables in variables_of(model).items()
        for index, variable in enumerate(variables)
    }
    return arrays | _generators()


def restore(model: Any, read: Callable[[list[str]], Iterator[np.ndarray]], written: dict[str, Any]) -> None:
    """Puts the numbers back that `gathered` has returned; `written` is what `described` has.

    Raises:
        ValueError: they are those of another model, optimizer or set of metrics; nothing is changed then.
    """
    groups = variables_of(model)
    for group, variables in groups.items():
        _compare(group, variables, written[group])
    places = [(f"{group}/{index}", each) for group, part in groups.items() for index, each in enumerate(part)]
    values = list(read([name for name, _ in places]))
    for (name, variable), value in zip(places, values, strict=True):
        if value.shape != tuple(variable.shape):
            raise ValueError(f"The checkpoint's {name} has the shape {value.shape}, not {tuple(variable.shape)}.")
    for (_, variable), value in zip(places, values, strict=True):
        # The backends keep seeds and counts in integers of other widths.
        whole = value.dtype.kind in "iu"
        variable.assign(value.astype(keras.backend.standardize_dtype(variable.dtype)) if whole else value)


def metrics_only(model: Any) -> list[Any]:
    """Returns copies of the metrics' numbers, which Keras resets when an epoch begins."""
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.metrics_variables]


def restore_metrics(model: Any, values: Sequence[Any]) -> None:
    """Puts the metrics' numbers back."""
    for variable, value in zip(model.metrics_variables, values, strict=True):
        variable.assign(value)


def restore_generators(names: Sequence[str], read: Callable[[list[str]], Iterator[np.ndarray]]) -> None:
    """Puts the state of Python's, NumPy's and the backend's own generators back, if the backend is the same."""
    found = dict(zip(names, read(list(names)), strict=True))
    python, words, waiting = (found[f"generator/{name}"] for name in ("python", "numpy", "waiting"))
    spare = None if np.isnan(waiting[0]) else float(waiting[0])
    random.setstate((3, tuple(int(word) for word in python), spare))
    state = "MT19937", words[:-1].astype("uint32"), int(words[-1]), int(waiting[1]), float(waiting[2])
    np.random.set_state(state)  # noqa: NPY002 - Keras uses it
    own = [found[name] for name in names if name.startswith(_own())]
    if own:
        _backend.set_random_state(own)


def _generators() -> dict[str, np.ndarray]:
    """Returns the state of the generators outside of Keras."""
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
