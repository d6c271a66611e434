"""Text from a language model, with keys and values kept and the loop compiled; Keras has neither."""

import random
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras.src.backend import compute_output_spec

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks.layers import CausalSelfAttention, DropPath, ResidualBlock, RMSNorm, SwiGLU, Swish
from kerasblocks.models._next_token import sampling_of
from kerasblocks.models._writing import NO_TOKEN, added_tokens

_layers = keras.layers
# Layers in which no positions meet, and whose outputs do not depend on the position.
_APART = (
    *(
        _layers.InputLayer,
        _layers.Embedding,
        _layers.ReversibleEmbedding,
        _layers.Dense,
        _layers.Dropout,
        _layers.Activation,
        _layers.Add,
    ),
    *(_layers.LeakyReLU, _layers.PReLU, _layers.ELU, _layers.ReLU, _layers.Multiply, _layers.Rescaling),
    *(CausalSelfAttention, SwiGLU, Swish, DropPath),
)
_NORMS = (RMSNorm, _layers.LayerNormalization, _layers.RMSNormalization)


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
    loop is compiled on JAX and TensorFlow. On PyTorch its step is compiled if the model was with `jit_compile=True`;
    else, after 64 tokens, its operations are recorded and run without the layers' Python. Shapes are rounded up, so
    that few are compiled. What has been compiled or recorded knows new weights and other layers, but no attribute of a
    layer that is changed later.

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
        context: how many tokens the model sees at most. Of a text that has more, all but the last half of a context are
            forgotten, and these read anew; None for no such limit.
        cache: whether keys and values are kept, which needs that positions meet in `CausalSelfAttention` only and have
            no embedding of their own, and that masks, segments and positions are left to it; False to call the model on
            the whole text for every token; None for True where all layers are known to be so, as those of
            `transformer_lm`.

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
    sampling, numbers = sampling_of(temperature, top_k, top_p, vocabulary)
    seed = random.getrandbits(63) if seed is None else as_integer("seed", seed, least=0)
    if not isinstance(stop_ids, Iterable):
        raise ValueError(f"stop_ids must be tokens in a list or the like; got {stop_ids!r}.")
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
            read = [text if len(text) <= context else text[-(context // 2) :] for text in texts]
            new = min(new, context - max(len(text) for text in read) + 1)
        added = added_tokens(model, read, uniforms[done : done + new], ended, stops, sampling, numbers, cache)
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
    inputs = getattr(model, "_inputs_struct", None)
    several = isinstance(inputs, dict | list | tuple) and len(keras.tree.flatten(inputs)) > 1
    if isinstance(inputs, dict) and set(inputs) not in ({"tokens"}, {"tokens", "segment_ids"}):
        raise ValueError(f"model must take tokens, or {{'tokens', 'segment_ids'}}; its inputs are {sorted(inputs)}.")
    if several and not isinstance(inputs, dict):
        raise ValueError(f"model must take tokens alone; it has {len(keras.tree.flatten(inputs))} inputs.")
    if not isinstance(shape, tuple) or len(shape) != 3 or shape[-1] is None:
        raise ValueError(f"model must return logits of shape (batch, length, vocabulary); its output is {shape}.")
    return int(shape[-1])


def _prompts(prompt_ids: Any, vocabulary: int) -> tuple[list[np.ndarray], bool]:
    """Returns the prompts as arrays, and whether there were several."""
    if keras.ops.is_tensor(prompt_ids):
        prompt_ids = keras.ops.convert_to_numpy(prompt_ids)
    if isinstance(prompt_ids, list | tuple):
        prompt_ids = [keras.ops.convert_to_numpy(each) if keras.ops.is_tensor(each) else each for each in prompt_ids]
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
    layers = list(model._flatten_layers(include_self=False))
    can = any(isinstance(layer, CausalSelfAttention) for layer in layers)
    if cache is None:
        return can and _is_functional(model) and all(_is_apart(layer) for layer in layers)
    if as_flag("cache", cache) and not can:
        raise ValueError(f"cache=True needs a model with CausalSelfAttention layers; {model.name!r} has none.")
    return cache


def _is_functional(model: Any) -> bool:
    """Returns whether a model is nothing but its layers."""
    operations = getattr(model, "operations", [None])
    return all(isinstance(each, keras.layers.Layer) for each in operations)


def _is_apart(layer: Any) -> bool:
    """Returns whether a layer is known to compute each position apart from the others."""
    if isinstance(layer, ResidualBlock):
        return True  # if its body is
    if isinstance(layer, keras.Model):
        return _is_functional(layer)
    if isinstance(layer, _NORMS):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return all(axis in (-1, 2) for axis in axes)
    masks = isinstance(layer, keras.layers.Embedding) and layer.mask_zero
    return type(layer) in _APART and not masks
