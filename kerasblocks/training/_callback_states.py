"""What callbacks remember from epoch to epoch, to be saved with a run; Keras's own forget it when a process ends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._whole_file import whole_file

# By Keras's classes, for these have no method that tells.
_ATTRIBUTES: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    keras.callbacks.History: ("history", "epoch"),
}

# They change nothing in a fit.
_WRITERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


def only_writes(callback: Any) -> bool:
    """Returns whether one process of several is enough for the callback."""
    return isinstance(callback, _WRITERS) or getattr(callback, "only_writes", False)


def state_of(callback: Any) -> Any:
    """Returns what the callback remembers: None, or numbers, strings, arrays, lists and dicts of them.

    Raises:
        TypeError: there is something else in it.
    """
    if not hasattr(callback, "state_dict"):
        names = _attributes(callback)
        return {name: getattr(callback, name, None) for name in names} if names else None
    state = callback.state_dict()
    for leaf in keras.tree.flatten(state):
        plain = leaf is None or isinstance(leaf, bool | int | float | str) or keras.ops.is_tensor(leaf)
        if not plain and not (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "biuf"):
            raise TypeError(
                f"What {type(callback).__name__}.state_dict() returns must be made of numbers, strings, arrays, lists "
                f"and dicts; got {leaf!r}."
            )
    return state


def restore(callback: Any, state: Any) -> None:
    """Gives the callback back what it remembered; to be called after its `on_train_begin`."""
    if state is None:
        return
    if hasattr(callback, "load_state_dict"):
        callback.load_state_dict(state)
    else:
        for name in _attributes(callback):
            setattr(callback, name, state[name])


def continue_csv(callback: keras.callbacks.CSVLogger, epoch: int) -> None:
    """Keeps the callback from emptying its file; rows from this epoch on, which come again, are taken away."""
    callback.append = True
    file = Path(callback.filename)
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            lines = opened.readlines()
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(callback.sep)[0]) < epoch]
        with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
            opened.writelines([*lines[:1], *kept])


def split(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the tree ready for JSON; its arrays are put into `arrays`, under names of their own."""
    if isinstance(tree, dict):
        return {"dict": [[key, split(part, arrays)] for key, part in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [split(part, arrays) for part in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    name = f"state/{len(arrays)}"
    arrays[name] = np.array(keras.ops.convert_to_numpy(tree))
    return {"array": name}


def joined(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Returns the tree that `split` was given."""
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "dict":
        return {key: joined(part, arrays) for key, part in content}
    if kind == "list":
        return [joined(part, arrays) for part in content]
    array = arrays[content]
    return array if array.ndim else array[()]


def names_in(tree: Any) -> list[str]:
    """Returns the names of the arrays of a tree that `split` has made."""
    if not isinstance(tree, dict):
        return []
    ((kind, content),) = tree.items()
    if kind == "array":
        return [content]
    parts: Sequence[Any] = [part for _, part in content] if kind == "dict" else content
    return [name for part in parts for name in names_in(part)]


def _attributes(callback: Any) -> tuple[str, ...]:
    return next((names for known, names in _ATTRIBUTES.items() if isinstance(callback, known)), ())
