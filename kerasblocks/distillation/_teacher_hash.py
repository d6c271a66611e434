"""Hashes that tell teachers apart: of models by what they compute, of functions by their code."""

import functools
import json
import re
import types
from typing import Any

import keras

from kerasblocks.data._digest import digest_of

_COUNTED = re.compile(r"_\d+$")
_LEFT_OUT = {"name", "trainable", "build_config", "compile_config", "registered_name"}


def teacher_hash(teacher: Any) -> str:
    """Returns the hash of a model's class, configuration and weights, or that of a function."""
    if not isinstance(teacher, keras.layers.Layer):
        return function_hash(teacher)
    weights = teacher.weights
    # Of a path the last part: those before have numbers that each process counts anew.
    names = [type(teacher).__name__, _configuration(teacher), *(each.path.split("/")[-1] for each in weights)]
    return digest_of([keras.ops.convert_to_numpy(each) for each in weights], *names)


def function_hash(function: Any) -> str:
    """Returns the hash of a function's name and code, and of the models, functions and numbers that it names.

    Of an object that is called, other than a `functools.partial`, and of what is reached through an attribute, only the
    class is known.
    """
    return digest_of([], *_function(function, set()))


def _function(function: Any, seen: set[int]) -> list[str]:
    if id(function) in seen:
        return ["again"]
    seen = seen | {id(function)}
    if isinstance(function, functools.partial):
        parts = [function.func, *function.args, *function.keywords.values()]
        return ["partial", *function.keywords, *(_marked(part, seen) for part in parts)]
    name = getattr(function, "__qualname__", type(function).__qualname__)
    found = [f"{getattr(function, '__module__', '')}.{name}"]
    code = getattr(function, "__code__", None)
    if code is None:
        return found
    enclosed = []
    for cell in getattr(function, "__closure__", None) or ():
        try:
            enclosed.append(cell.cell_contents)
        except ValueError:  # of a variable that has no value yet
            enclosed.append(None)
    globals_ = getattr(function, "__globals__", {})
    named = [globals_.get(name) for part in _codes(code) for name in part.co_names]
    given = [
        *(getattr(function, "__defaults__", None) or ()),
        *(getattr(function, "__kwdefaults__", None) or {}).values(),
    ]
    parts = [*named, *enclosed, *given, getattr(function, "__self__", None)]
    return [*found, *map(_written, _codes(code)), *(_marked(part, seen) for part in parts)]


def _codes(code: types.CodeType) -> list[types.CodeType]:
    """Returns the code and that of the functions inside of it."""
    inside = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return [code, *(part for each in inside for part in _codes(each))]


def _written(code: types.CodeType) -> str:
    constants = [each for each in code.co_consts if isinstance(each, str | int | float | bytes | tuple | None)]
    return f"{code.co_code.hex()} {code.co_names} {code.co_freevars} {constants}"


def _marked(part: Any, seen: set[int]) -> str:
    """Returns what tells a part of a function apart from others of its kind."""
    if isinstance(part, keras.layers.Layer):
        return teacher_hash(part)
    if isinstance(part, str | int | float | bytes | None):
        return repr(part)
    if isinstance(part, types.FunctionType | types.MethodType | functools.partial) and not _is_of_a_package(part):
        return digest_of([], *_function(part, seen))
    return f"{type(part).__module__}.{getattr(part, '__qualname__', type(part).__qualname__)}"


def _is_of_a_package(function: Any) -> bool:
    """Returns whether a function is one of Keras or a backend, whose code is not the teacher's."""
    module = str(getattr(function, "__module__", "")).partition(".")[0]
    return module in ("keras", "tensorflow", "jax", "torch", "numpy", "kerasblocks")


def _configuration(layer: Any) -> str:
    try:
        config = layer.get_config()
    except Exception:  # A subclassed model need not have one.
        config = [_configuration(inner) for inner in layer._flatten_layers(include_self=False, recursive=False)]
    return json.dumps(_plain(config), sort_keys=True, default=_named)


def _plain(value: Any) -> Any:
    """Returns a configuration without names, which each process counts anew, and without what changes no output."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return _COUNTED.sub("", value) if isinstance(value, str) else value


def _named(value: Any) -> str:
    return type(value).__qualname__
