"""The loop that adds tokens to texts, compiled once for each shape, with keys and values kept or not."""

import collections
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module
from kerasblocks.layers._decoding import Decoding
from kerasblocks.models._next_token import Sampling
from kerasblocks.ops import fast_paths_enabled

NO_TOKEN = -1

_backend = backend_module("kerasblocks.ops._decoding")
_programs: "weakref.WeakKeyDictionary[Any, tuple[Any, collections.OrderedDict[Any, Any]]]"
_programs = weakref.WeakKeyDictionary()
_MOST_PROGRAMS = 16  # of a model; the one that was used longest ago is forgotten
_LEAST_SIZE = 16  # Lengths are rounded up to powers of two from here on.


def added_tokens(
    model: Any,
    texts: Sequence[np.ndarray],
    uniforms: np.ndarray,
    ended: np.ndarray,
    stops: tuple[int, ...],
    sampling: Sampling,
    numbers: np.ndarray,
    cache: bool,
) -> np.ndarray:
    """Returns the tokens that are added to the texts, `(texts, new)`, NO_TOKEN where a text is over.

    Args:
        model: from tokens to logits.
        texts: arrays of tokens.
        uniforms: numbers from 0 to below 1, `(new, texts)`.
        ended: which texts are over.
        stops: tokens after which a text is.
        sampling: how tokens are drawn.
        numbers: by which numbers.
        cache: whether keys and values are kept.
    """
    new, length, room = len(uniforms), _rounded(max(len(text) for text in texts)), _rounded(len(uniforms))
    tokens, present = np.zeros((len(texts), length), "int32"), np.zeros((len(texts), length), bool)
    for row, text in enumerate(texts):
        # With keys and values kept the texts end together, so that what is added has one place for all.
        place = slice(length - len(text), length) if cache else slice(0, len(text))
        tokens[row, place], present[row, place] = text, True
    drawn = np.zeros((room, len(texts)), "float32")
    drawn[:new] = uniforms
    known = _programs_of(model)
    modes = fast_paths_enabled(), model.jit_compile, _backend.surroundings()
    key = (length, room, len(texts), stops, sampling, cache, *modes)
    if key not in known:
        writing = (_WritingWithCache if cache else _Writing)(model, stops, sampling, room)
        known[key] = _backend.compiled(writing.run, weakref.ref(model))
        if len(known) > _MOST_PROGRAMS:
            known.popitem(last=False)
    known.move_to_end(key)
    found = known[key](tokens, present, drawn, ended, np.asarray(new, "int32"), numbers)
    return np.asarray(keras.ops.convert_to_numpy(found))[:, :new]


def _programs_of(model: Any) -> "collections.OrderedDict[Any, Any]":
    """Returns what is compiled for the model as it is; with other layers or variables nothing is."""
    parts = [*model._flatten_layers(include_self=False), *model.variables]
    kind = [(weakref.ref(each), str(getattr(each, "dtype_policy", ""))) for each in parts]
    if model not in _programs or _programs[model][0] != kind:
        _programs[model] = kind, collections.OrderedDict()
    return _programs[model][1]


class _Writing:
    """The loop, in which the model is called on the whole text for every token."""

    def __init__(self, model: Any, stops: tuple[int, ...], sampling: Sampling, room: int) -> None:
        self._model = weakref.ref(model)  # What is compiled for a model must not keep it alive.
        self._stops, self._sampling, self._room = stops, sampling, room
        self._compiled_step = _backend.compiled_step(self.step, self._model, model.jit_compile)

    def run(self, tokens: Any, present: Any, uniforms: Any, ended: Any, new: Any, numbers: Any) -> Any:
        """Returns the tokens that are added."""
        ops = keras.ops

        def goes_on(count: Any, logits: Any, ended: Any, *_: Any) -> Any:
            return ops.logical_and(count < new, ops.logical_not(ops.all(ended)))

        def step(*loop: Any) -> Any:
            return self._compiled_step(present, uniforms, numbers, *loop)

        logits, state = self.first(tokens, present)
        written = ops.full((tokens.shape[0], self._room), NO_TOKEN, "int32")
        start = ops.convert_to_tensor(0, "int32"), logits, ended, written, state
        return ops.while_loop(goes_on, step, start)[3]

    def step(
        self, present: Any, uniforms: Any, numbers: Any, count: Any, logits: Any, ended: Any, written: Any, state: Any
    ) -> Any:
        """Returns what changes from one token to the next, after token number `count` has been drawn and read."""
        ops = keras.ops
        token = self._sampling.token(logits, ops.take(uniforms, count, axis=0), numbers)
        column = (ops.arange(self._room, dtype="int32") == count)[None, :]
        written = ops.where(column, ops.where(ended, NO_TOKEN, token)[:, None], written)
        for stop in self._stops:
            ended = ops.logical_or(ended, token == stop)
        logits, state = self.next(token, count, present, state)
        return count + 1, logits, ended, written, state

    def first(self, tokens: Any, present: Any) -> tuple[Any, Any]:
        """Returns the logits of the first new token, and what `next` needs of the text."""
        ops = keras.ops
        text = ops.pad(tokens, ((0, 0), (0, self._room)))
        return self._last_logits(text, _length(present) - 1), text

    def next(self, token: Any, count: Any, present: Any, state: Any) -> tuple[Any, Any]:
        """Returns the logits of the token after this one, and the state."""
        ops = keras.ops
        place = _length(present) + count
        here = ops.arange(ops.shape(state)[1], dtype="int32")[None, :] == place[:, None]
        text = ops.where(here, token[:, None], state)
        return self._last_logits(text, place), text

    def _last_logits(self, text: Any, place: Any) -> Any:
        return keras.ops.take_along_axis(self._logits(text), place[:, None, None], axis=1)[:, 0]

    def _logits(self, tokens: Any) -> Any:
        model: Any = self._model()
        inputs = tokens
        if isinstance(getattr(model, "_inputs_struct", None), dict):  # that of packed texts: one text is one segment
            inputs = {name: keras.ops.zeros_like(tokens) for name in model.input} | {"tokens": tokens}
        return keras.ops.cast(model(inputs, training=False), "float32")


class _WritingWithCache(_Writing):
    """The loop, in which the model reads every token once."""

    def first(self, tokens: Any, present: Any) -> tuple[Any, Any]:
        with Decoding(0, present).active() as decoding:
            logits = self._logits(tokens)[:, -1]
        room = (0, 0), (0, self._room), (0, 0), (0, 0)
        return logits, [tuple(keras.ops.pad(each, room) for each in pair) for pair in decoding.caches]

    def next(self, token: Any, count: Any, present: Any, state: Any) -> tuple[Any, Any]:
        present = keras.ops.pad(present, ((0, 0), (0, self._room)), constant_values=True)
        length = present.shape[1] - self._room
        with Decoding(count + length, present, state).active() as decoding:
            logits = self._logits(token[:, None])[:, -1]
        return logits, decoding.caches


def _length(present: Any) -> Any:
    return keras.ops.sum(keras.ops.cast(present, "int32"), axis=1)


def _rounded(size: int) -> int:
    return max(_LEAST_SIZE, 1 << (size - 1).bit_length())
