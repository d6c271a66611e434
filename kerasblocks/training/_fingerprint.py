"""What a run is of, as plain data that can be compared: a checkpoint of another one is refused with the difference."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks.data._digest import digest_of

_NUMBERED = re.compile(r"(.+?)(_\d+)?")


def fingerprint(model: Any, batches: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Returns what decides the course of a fit, as far as it can be told, ready for JSON."""
    return {
        "model": {
            "class": type(model).__name__,
            "config": _config(model),
            "dtype": str(_plain(model.dtype_policy)),
            **_plain(getattr(model, "fingerprint", {})),
        },
        "optimizer": _plain(model.optimizer),
        "loss": _plain(model.loss),
        "steps_per_execution": model.steps_per_execution,
        "data": _of_data(batches),
        "callbacks": [type(callback).__name__ for callback in callbacks],
    }


def difference(written: Any, now: Any) -> str | None:
    """Returns the first difference in words, None if there is none.

    Names that Keras has numbered ("dense_3") count as equal where the same ones are equal on both sides: a model that
    is built twice in one process gets other ones.
    """
    pairs: dict[str, str] = {}
    return _difference(written, now, "", pairs)


def refuse_another(written: Any, identity: dict[str, Any], where: Path) -> None:
    """Raises `ValueError` with the first difference where what is written at `where` is of another run."""
    found = difference(written, identity)
    if found is not None:
        raise ValueError(
            f"{where}: holds a run of something else: {found}. Start it as it was, or choose another folder."
        )


def _difference(written: Any, now: Any, where: str, pairs: dict[str, str]) -> str | None:
    if isinstance(written, dict) and isinstance(now, dict):
        for key in [*written, *(key for key in now if key not in written)]:
            place = f"{where}.{key}" if where else str(key)
            if key not in now or key not in written:
                return f"{place}: {_shown(written.get(key))} there, {_shown(now.get(key))} here"
            found = _difference(written[key], now[key], place, pairs)
            if found:
                return found
        return None
    if isinstance(written, list) and isinstance(now, list) and len(written) == len(now):
        each = (_difference(*both, f"{where}[{index}]", pairs) for index, both in enumerate(zip(written, now)))  # noqa: B905
        return next((found for found in each if found), None)
    if isinstance(written, str) and isinstance(now, str) and _numbered_alike(written, now, pairs):
        return None
    same = written == now and type(written) is type(now)
    return None if same else f"{where}: {_shown(written)} there, {_shown(now)} here"


def _numbered_alike(written: str, now: str, pairs: dict[str, str]) -> bool:
    one, other = (_NUMBERED.fullmatch(text) for text in (written, now))
    if not one or not other or one[1] != other[1]:
        return written == now
    return pairs.setdefault(written, now) == now


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:97]}..."


def _config(model: Any) -> Any:
    try:
        return _plain(model.get_config())
    except Exception:  # A subclassed model need not have one; its variables are compared in any case.
        return None


def _of_data(batches: Any) -> Any:
    known = getattr(batches, "fingerprint", None)
    if known is not None:
        return _plain(known() if callable(known) else known)
    ends = [batches.batch(0, 0), batches.batch(0, len(batches) - 1)]
    return {"class": type(batches).__name__, "batches": len(batches), "first and last": digest_of(ends)}


def _plain(value: Any) -> Any:
    """Returns the value as JSON has it; of what JSON has not, the name of its class or function."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        # An optimizer's module is another one on each backend.
        left_out = {"module", "registered_name"} if "class_name" in value else set()
        return {str(key): _plain(part) for key, part in value.items() if key not in left_out}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if hasattr(value, "get_config"):
        return {"class": type(value).__name__, "config": _config(value)}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__name__
