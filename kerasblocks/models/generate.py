"""Text from a language model, with keys and values kept and the loop compiled; Keras has neither."""

import random
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras.src.backend import compute_output_spec

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks.layers import CausalSelfAttention
from kerasblocks.models._next_token import Sampling
from kerasblocks.models._writing import NO_TOKEN, added_tokens

_layers = keras.layers
# Layers besides ours in which positions meet.
_MIXING = (
    *(_layers.RNN, _layers.Bidirectional, _layers.MultiHeadAttention, _layers.GroupQueryAttention, _layers.Attention),
    *(_layers.AdditiveAttention, _layers.Conv1D, _layers.SeparableConv1D, _layers.DepthwiseConv1D),
    *(_layers.AveragePooling1D, _layers.MaxPooling1D),
)


def generate(
    model: keras.Model,
    prompt_ids: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_ids: Iterable[int] = (),
    context: int | None = None,
    cache: bool | None = None,
) -> Any:
    """Continues prompts token by token: each is drawn from softmax(logits / T) given all before it.

    The prompts are read at once, then each new token alone, for the keys and values of those before it are kept. The
    loop is compiled on JAX and TensorFlow; on PyTorch its step is, if the model was compiled with `jit_compile=True`.
    Shapes are rounded up, so that few are compiled.

    With `top_k` and `top_p` both, a token must be among both. The random numbers are NumPy's (PCG64): one for each
    token, whose place in the cumulated probabilities is the token.

    Args:
        model: a causal Keras model from tokens `(batch, length)` to logits `(batch, length, vocabulary)`, as
            `transformer_lm` makes.
        prompt_ids: the tokens of a prompt, or of several: a list of such, of unequal lengths if need be. At least one
            token each.
        max_new_tokens: how many tokens are added at most.
        temperature: T; 0 takes the likeliest token always.
        top_k: draw among so many of the likeliest tokens; None for all.
        top_p: draw among the fewest tokens whose probabilities have a sum of at least so much, in 0 < top_p ≤ 1; None
            for all.
        seed: of the random numbers; None for one that Python's `random` draws.
        stop_ids: tokens after which a text ends; they are its last.
        context: how many tokens the model sees at most. When there are more, the older half is forgotten and the rest
            read anew; None for no such limit.
        cache: whether keys and values are kept, which needs that positions meet in `CausalSelfAttention` only; False to
            call the model on the whole text for every token; None for True where the model has such layers and none of
            Keras's in which positions meet, too.

    Returns:
        Prompt and new tokens as an int32 array; for several prompts, a list of such arrays.

    Raises:
        ValueError: no tokens, ones that are no whole numbers or not in the vocabulary, numbers out of their ranges, a
            model of another shape.

    Source: Holtzman et al., "The curious case of neural text degeneration", ICLR 2020 (top-p); Fan et al.,
    "Hierarchical neural story generation", ACL 2018 (top-k).

    Example:

    >>> from kerasblocks.models import generate, transformer_lm
    >>> model = transformer_lm("tiny", num_layers=1, vocabulary_size=5, seed=0)
    >>> text = generate(model, [1, 2, 3], 4, seed=0)
    >>> text[:3].tolist(), len(text), bool((text == generate(model, [1, 2, 3], 4, seed=0)).all())
    ([1, 2, 3], 7, True)
    """
    vocabulary = _vocabulary_of(model)
    prompts, several = _prompts(prompt_ids, vocabulary)
    max_new_tokens = as_integer("max_new_tokens", max_new_tokens, least=0)
    sampling = Sampling(temperature, None if top_k is None else as_integer("top_k", top_k, least=1), top_p, vocabulary)
    seed = random.getrandbits(63) if seed is None else as_integer("seed", seed, least=0)
    stops = tuple(as_integer("every entry of stop_ids", each, least=0) for each in stop_ids)
    if stops and max(stops) >= vocabulary:
        raise ValueError(f"stop_ids must be below {vocabulary}, the size of the vocabulary; got {stops}.")
    context = None if context is None else as_integer("context", context, least=2)
    cache = _keeps(model, cache)

    uniforms = np.random.Generator(np.random.PCG64(seed)).random((max_new_tokens, len(prompts)), "float32")
    texts, ended, done = prompts, np.zeros(len(prompts), bool), 0
    while done < max_new_tokens and not ended.all():
        read, new = texts, max_new_tokens - done
        if context is not None:
            longest = max(len(text) for text in texts)
            kept = longest if longest < context else context // 2
            read, new = [text[-kept:] for text in texts], min(new, context - kept)
        added = added_tokens(model, read, uniforms[done : done + new], ended, stops, sampling, cache)
        texts = [np.concatenate([text, row[row != NO_TOKEN]]) for text, row in zip(texts, added, strict=True)]
        ended = ended | np.isin(added, stops).any(axis=1)
        done += new
    return texts if several else texts[0]


def _vocabulary_of(model: Any) -> int:
    """Returns the number of tokens between which a model decides."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a Keras model; got {model!r}.")
    try:
        shape = model.output_shape
    except (AttributeError, ValueError):  # of one that does not tell
        shape = compute_output_spec(model, keras.KerasTensor((1, 2), "int32")).shape
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[-1] is None:
        raise ValueError(f"model must return logits of shape (batch, length, vocabulary); its output is {shape}.")
    return int(shape[-1])


def _prompts(prompt_ids: Any, vocabulary: int) -> tuple[list[np.ndarray], bool]:
    """Returns the prompts as arrays, and whether there were several."""
    if keras.ops.is_tensor(prompt_ids):
        prompt_ids = keras.ops.convert_to_numpy(prompt_ids)
    if isinstance(prompt_ids, str) or not isinstance(prompt_ids, np.ndarray | list | tuple):
        raise ValueError(f"prompt_ids must be the tokens of a prompt, or a list of such; got {prompt_ids!r}.")
    several = len(prompt_ids) > 0 and np.ndim(prompt_ids[0]) == 1
    prompts = []
    for prompt in prompt_ids if several else [prompt_ids]:
        tokens = np.asarray(prompt)
        if tokens.ndim != 1 or tokens.size == 0 or tokens.dtype.kind not in "iu":
            raise ValueError(f"A prompt must be at least one token, whole numbers in a row; got {prompt!r}.")
        if tokens.min() < 0 or tokens.max() >= vocabulary:
            raise ValueError(
                f"Tokens must lie in 0..{vocabulary - 1}, the vocabulary; got {tokens.min()}..{tokens.max()}."
            )
        prompts.append(tokens.astype("int32"))
    return prompts, several


def _keeps(model: Any, cache: bool | None) -> bool:
    """Returns whether keys and values are kept."""
    layers = list(model._flatten_layers())
    can = any(isinstance(layer, CausalSelfAttention) for layer in layers)
    if cache is None:
        return can and not any(isinstance(layer, _MIXING) for layer in layers)
    if as_flag("cache", cache) and not can:
        raise ValueError(f"cache=True needs a model with CausalSelfAttention layers; {model.name!r} has none.")
    return cache
