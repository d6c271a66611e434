"""A decoder-only language model of the current kind; Keras has no builder of one."""

import dataclasses
import math
from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_integer, as_number, as_rate
from kerasblocks.layers import CausalSelfAttention, ResidualBlock, RMSNorm, SwiGLU
from kerasblocks.models._numpy_weights import draw_weights


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The sizes of a `transformer_lm`.

    Attributes:
        vocabulary_size: number of tokens.
        num_layers: number of blocks of attention and feed-forward layer.
        num_heads: heads of attention.
        width: size of the hidden states.
        context: tokens that it is meant to be trained on at a time; the model itself takes any number.
        num_key_value_heads: heads of keys and values; None for as many as of queries.
        hidden_dim: hidden dimension of SwiGLU; None for 8/3 of the width, rounded up to a multiple of 8.
        dropout: rate of dropout after the embedding and each branch.
    """

    vocabulary_size: int
    num_layers: int
    num_heads: int
    width: int
    context: int
    num_key_value_heads: int | None = None
    hidden_dim: int | None = None
    dropout: float = 0.0


CONFIGURATIONS = {
    "tiny": TransformerConfig(
        256, num_layers=4, num_heads=4, width=128, context=64, num_key_value_heads=2, hidden_dim=288
    ),
    "small": TransformerConfig(256, num_layers=6, num_heads=6, width=384, context=256, dropout=0.2),
    "gpt2": TransformerConfig(50_304, num_layers=12, num_heads=12, width=768, context=1024),
}
"""Configurations by name: the sizes of nanoGPT's settings for a CPU and for a GPU, and of GPT-2's smallest."""


def transformer_layout(device_mesh: Any, axis: str = "model") -> Any:
    """Returns how the weights of a `transformer_lm` are split among devices: projections and embeddings.

    The matrix of queries, keys and values, and that of gate and up, are split by columns, those after them by rows, the
    embedding by tokens. (Columns are split as they lie, not head by head, so that devices exchange activations within
    a layer, too.) The vocabulary and the widths must be multiples of the number of devices.

    Args:
        device_mesh: a `keras.distribution.DeviceMesh`.
        axis: name of its axis along which weights are split.

    Returns:
        A `keras.distribution.LayoutMap`, for `keras.distribution.ModelParallel`, which Keras has on JAX.

    Source: Shoeybi et al., "Megatron-LM: training multi-billion parameter language models using model parallelism",
    2019.

    Example:

    >>> import keras
    >>> from kerasblocks.models import transformer_layout
    >>> mesh = keras.distribution.DeviceMesh((1, 1), ["batch", "model"], ["cpu:0"])
    >>> transformer_layout(mesh)["attention_block_0/attention_0/output/kernel"].axes
    ('model', None)
    """
    layout = keras.distribution.LayoutMap(device_mesh)
    for path in ("query_key_value/kernel", "gate_up/kernel", "embedding/reverse_embeddings"):
        layout[f".*{path}"] = (None, axis)
    for path in ("attention_[0-9]+/output/kernel", "down/kernel", "embedding/embeddings"):
        layout[f".*{path}"] = (axis, None)
    return layout


def transformer_lm(
    configuration: str | TransformerConfig = "tiny",
    *,
    vocabulary_size: int | None = None,
    num_layers: int | None = None,
    num_heads: int | None = None,
    num_key_value_heads: int | None = None,
    width: int | None = None,
    hidden_dim: int | None = None,
    dropout: float | None = None,
    tie_embeddings: bool = True,
    normalize_query_key: bool = True,
    rotary_base: float | None = 10_000.0,
    window: int | None = None,
    epsilon: float = 1e-6,
    initial_stddev: float = 0.02,
    segments: bool = False,
    remat: bool = False,
    seed: int | None = None,
    name: str = "transformer_lm",
) -> keras.Model:
    """Builds a language model: token embedding, blocks of attention and SwiGLU, RMSNorm, logits.

    x = E[tokens]; for each block x = x + attention(RMSNorm(x)), x = x + SwiGLU(RMSNorm(x)); logits = RMSNorm(x) · W.

    `CausalSelfAttention` and `SwiGLU` stand in a `ResidualBlock` each. Nothing has a bias. The weights are drawn from
    N(0, `initial_stddev`), the last projection of each branch from that over √(2 · layers), so that the sum of the
    branches does not grow with the depth. Logits are computed in float32 under every precision policy.

    Args:
        configuration: `"tiny"` (4 layers, 4 heads in 2 groups, width 128), `"small"` (6, 6, 384, dropout 0.2),
            `"gpt2"` (12, 12, 768, 50,304 tokens), or a `TransformerConfig`; what is given beside it counts instead.
        vocabulary_size: number of tokens, 256 (bytes) for `"tiny"` and `"small"`.
        num_layers: number of blocks.
        num_heads: heads of attention.
        num_key_value_heads: heads of keys and values; None for those of the configuration, or as many as `num_heads`
            where these are given.
        width: size of the hidden states.
        hidden_dim: hidden dimension of SwiGLU; None for that of the configuration, or 8/3 of the width, rounded up to a
            multiple of 8, where that is given.
        dropout: rate of dropout after the embedding and each branch.
        tie_embeddings: whether W is the transpose of E.
        normalize_query_key: whether attention normalizes queries and keys.
        rotary_base: base of the rotary embedding; None for attention that knows no positions.
        window: how many tokens attention sees at most; None for all before it.
        epsilon: ε of the normalizations.
        initial_stddev: standard deviation of the starting weights, above 0.
        segments: whether the model takes a second input that tells packed texts apart: `{"tokens", "segment_ids"}`.
        remat: whether what lies inside the blocks is computed anew in the backward pass instead of kept.
        seed: None to leave the weights to Keras's global seed, which gives each backend other numbers; a non-negative
            integer to draw them with NumPy from the same distributions, the same bits on every backend.
        name: name of the model.

    Returns:
        A `keras.Model` from whole numbers of shape `(batch, length)`, any length, to logits
        `(batch, length, vocabulary_size)`; `kerasblocks.models.generate` writes text with it.

    Raises:
        ValueError: an unknown configuration, a number out of its range, heads that do not divide the width.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2); Touvron et al.,
    "LLaMA: open and efficient foundation language models", 2023.

    Example:

    >>> from kerasblocks.models import transformer_lm
    >>> model = transformer_lm("tiny", vocabulary_size=65, seed=0)
    >>> model.count_params(), model.output_shape
    (648704, (None, None, 65))
    """
    if isinstance(configuration, str):
        if configuration not in CONFIGURATIONS:
            known = ", ".join(map(repr, CONFIGURATIONS))
            raise ValueError(f"configuration must be one of {known}, or a TransformerConfig; got {configuration!r}.")
        configuration = CONFIGURATIONS[configuration]
    if not isinstance(configuration, TransformerConfig):
        raise ValueError(f"configuration must be the name of one or a TransformerConfig; got {configuration!r}.")

    def size(option: str, value: int | None) -> int:
        return as_integer(option, getattr(configuration, option) if value is None else value, least=1)

    if num_heads is None and num_key_value_heads is None:
        num_key_value_heads = configuration.num_key_value_heads
    if width is None and hidden_dim is None:
        hidden_dim = configuration.hidden_dim
    vocabulary_size = size("vocabulary_size", vocabulary_size)
    layers_wanted, heads, width = size("num_layers", num_layers), size("num_heads", num_heads), size("width", width)
    if width % heads:
        raise ValueError(f"width must be a multiple of num_heads; got {width} and {heads}.")
    rate = as_rate("dropout", configuration.dropout if dropout is None else dropout)
    stddev = as_number("initial_stddev", initial_stddev)
    if stddev <= 0:
        raise ValueError(f"initial_stddev must be above 0; got {initial_stddev!r}.")
    segments, remat = as_flag("segments", segments), as_flag("remat", remat)
    tie_embeddings = as_flag("tie_embeddings", tie_embeddings)
    seed = None if seed is None else as_integer("seed", seed, least=0)

    def normal(deviation: float) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=deviation)

    def block(layer: keras.layers.Layer, label: str) -> ResidualBlock:
        body = [layer, keras.layers.Dropout(rate, name=f"{label}_dropout")] if rate else layer
        norm = RMSNorm(epsilon=epsilon, name=f"{label}_norm")
        return ResidualBlock(body, normalization=norm, projection=False, remat=remat, name=label)

    tokens = keras.Input((None,), dtype="int32", name="tokens")
    given: dict[str, Any] = {}
    inputs: Any = tokens
    if segments:
        given["segment_ids"] = keras.Input((None,), dtype="int32", name="segment_ids")
        inputs = {"tokens": tokens, **given}
    embedding = keras.layers.ReversibleEmbedding(
        vocabulary_size,
        width,
        tie_embeddings,
        embeddings_initializer=normal(stddev),
        reverse_dtype="float32",
        name="embedding",
    )
    x = embedding(tokens)
    if rate:
        x = keras.layers.Dropout(rate, name="embedding_dropout")(x)
    last = stddev / math.sqrt(2 * layers_wanted)
    for number in range(layers_wanted):
        attention = CausalSelfAttention(
            heads,
            num_key_value_heads,
            rotary_base=rotary_base,
            normalize_query_key=normalize_query_key,
            window=window,
            epsilon=epsilon,
            kernel_initializer=normal(stddev),
            output_initializer=normal(last),
            name=f"attention_{number}",
        )
        x = block(attention, f"attention_block_{number}")(x, **given)
        feed_forward = SwiGLU(
            hidden_dim,
            kernel_initializer=normal(stddev),
            output_initializer=normal(last),
            name=f"feed_forward_{number}",
        )
        x = block(feed_forward, f"feed_forward_block_{number}")(x)
    x = RMSNorm(epsilon=epsilon, name="final_norm")(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(embedding(x, reverse=True))
    model = keras.Model(inputs, logits, name=name)
    if seed is not None:
        draw_weights(model, seed)
    return model
