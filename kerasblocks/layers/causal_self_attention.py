"""Self-attention for language models: rotary, grouped, windowed, fused where it can be; Keras's has none of that."""

from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_integer, as_rate
from kerasblocks.layers import _decoding
from kerasblocks.layers._joined_weights import (
    JoinedConstraint,
    JoinedInitializer,
    JoinedRegularizer,
    separate,
    serialized,
)
from kerasblocks.layers.rms_norm import RMSNorm
from kerasblocks.ops._floating import accumulation_dtype, as_floating, cast_to
from kerasblocks.ops.causal_attention import attend, check_of_keys, mask_of
from kerasblocks.ops.rms_norm import check_epsilon, normalize
from kerasblocks.ops.rotary_embedding import check_base, check_positions, turned


@keras.saving.register_keras_serializable(package="kerasblocks")
class CausalSelfAttention(keras.layers.Layer):
    """Attends from each position to itself and to those before it: softmax(R(q) · R(k)ᵀ / √d) · v · W_o.

    q, k and v are projections of the input, computed at once from one matrix in which they lie side by side; R turns
    queries and keys by their positions (`kerasblocks.ops.rotary_embedding`). Masks pass through.

    Args:
        num_heads: heads of queries.
        num_key_value_heads: heads of keys and values, of which each serves a group of queries; None for `num_heads`.
        head_dim: d, the features of a head; None for the width of the input divided by `num_heads`.
        rotary_base: base of the rotary embedding's wavelengths; None for attention that knows no positions.
        normalize_query_key: whether queries and keys are normalized over their features, with a scale each, before
            they are turned.
        window: how many positions each sees at most, itself included; None for all before it.
        use_bias: whether the projections have biases.
        dropout: rate at which attention weights are dropped while training, 0 ≤ dropout < 1. It takes the reference
            path, which keeps all weights.
        epsilon: ε of the normalization of queries and keys.
        kernel_initializer: initializer of the projections; an integer seed in it is that of the queries', the others
            take the numbers that follow.
        output_initializer: initializer of W_o; None for `kernel_initializer`.
        bias_initializer: initializer of the biases.
        kernel_regularizer: regularizer of the four matrices.
        bias_regularizer: regularizer of the biases.
        kernel_constraint: constraint of the four matrices.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, length, width)`.
        mask: of padding, shape `(batch, length)`, True where there is a token: the others are seen by none but
            themselves.
        segment_ids: whole numbers of shape `(batch, length)` that tell the texts of a packed sequence apart: each
            position sees its own text only.
        positions: None for 0, 1, …, length − 1; a tensor of shape `(length,)` or `(batch, length)` of others, for the
            rotary embedding.
        training: whether to drop.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: numbers out of their ranges, heads that are no multiple of the key-value heads, a width that is no
            multiple of the heads, an odd number of features to be turned; inputs of another rank than 3 or of unknown
            width.

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017; Su et al., "RoFormer", 2021; Ainslie et al.,
    "GQA", EMNLP 2023; Henry et al., "Query-key normalization for transformers", 2020.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import CausalSelfAttention
    >>> layer = CausalSelfAttention(num_heads=4, num_key_value_heads=2)
    >>> layer(keras.ops.ones((2, 5, 32))).shape == (2, 5, 32), layer.count_params()
    (True, 3072)
    """

    def __init__(
        self,
        num_heads: int,
        num_key_value_heads: int | None = None,
        head_dim: int | None = None,
        *,
        rotary_base: float | None = 10_000.0,
        normalize_query_key: bool = False,
        window: int | None = None,
        use_bias: bool = False,
        dropout: float = 0.0,
        epsilon: float = 1e-6,
        kernel_initializer: Any = "glorot_uniform",
        output_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = as_integer("num_heads", num_heads, least=1)
        self.num_key_value_heads = (
            None if num_key_value_heads is None else as_integer("num_key_value_heads", num_key_value_heads, least=1)
        )
        if self.num_heads % self._key_value_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_key_value_heads; got {num_heads} and {num_key_value_heads}."
            )
        self.head_dim = None if head_dim is None else as_integer("head_dim", head_dim, least=1)
        self.rotary_base = None if rotary_base is None else check_base(rotary_base, "rotary_base")
        self.normalize_query_key = as_flag("normalize_query_key", normalize_query_key)
        self.window = None if window is None else as_integer("window", window, least=1)
        self.use_bias = as_flag("use_bias", use_bias)
        self.dropout = as_rate("dropout", dropout)
        self.epsilon = check_epsilon(epsilon)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.supports_masking = True
        self._seeds = keras.random.SeedGenerator() if self.dropout else None
        if self.head_dim is not None:
            self._check_features(self.head_dim)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                f"CausalSelfAttention takes inputs of shape (batch, length, width) of known width; got {input_shape}."
            )
        width, features = input_shape[-1], self._features(input_shape[-1])
        heads = self.num_heads, self._key_value_heads, self._key_value_heads
        columns = tuple(number * features for number in heads)
        *initializers, last = separate(self.kernel_initializer, 4)
        constraint, regularizer = self.kernel_constraint, self.kernel_regularizer
        common = {
            "use_bias": self.use_bias,
            "bias_initializer": self.bias_initializer,
            "bias_regularizer": self.bias_regularizer,
            "dtype": self.dtype_policy,
        }
        self.query_key_value = keras.layers.Dense(
            sum(columns),
            name="query_key_value",
            kernel_initializer=JoinedInitializer(initializers, columns),
            kernel_regularizer=None if regularizer is None else JoinedRegularizer(regularizer, columns),
            kernel_constraint=None if constraint is None else JoinedConstraint(constraint, columns),
            **common,
        )
        self.output_projection = keras.layers.Dense(
            width,
            name="output",
            kernel_initializer=last if self.output_initializer is None else self.output_initializer,
            kernel_regularizer=regularizer,
            kernel_constraint=constraint,
            **common,
        )
        self.query_key_value.build(input_shape)
        self.output_projection.build((*input_shape[:-1], columns[0]))
        self._norms = []
        if self.normalize_query_key:
            for name in ("query_norm", "key_norm"):
                norm = RMSNorm(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)
                norm.build((None, None, None, features))
                self._norms.append(norm)
        self._head_features = features
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: width})

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        segment_ids: Any = None,
        positions: Any = None,
        training: bool = False,
    ) -> Any:
        ops, features = keras.ops, self._head_features
        joined = self.query_key_value(cast_to(as_floating(inputs), self.compute_dtype))
        joined = cast_to(joined, self.compute_dtype)  # which PyTorch's products of float64 have not
        batch, length, _ = ops.shape(joined)
        check_of_keys("mask", mask, tuple(joined.shape))
        check_of_keys("segment_ids", segment_ids, tuple(joined.shape))
        if positions is not None:
            check_positions(tuple(joined.shape), tuple(positions.shape))
        heads = self.num_heads, self._key_value_heads
        joined = ops.reshape(joined, (batch, length, heads[0] + 2 * heads[1], features))
        query_key, value = joined[:, :, : sum(heads)], joined[:, :, sum(heads) :]
        decoding = _decoding.current()
        if decoding is None:
            query, key = self._placed(query_key, positions)
            seen = mask_of(query, key, None, mask, segment_ids, self.window)
        else:
            if mask is not None or positions is not None:
                raise ValueError(
                    f"{self.name} was given a mask or positions, which are not known of single tokens: generate with "
                    "cache=False."
                )
            query, key = self._placed(query_key, decoding.positions(length))
            key, value = decoding.extended(key, value)
            seen = decoding.mask(query, key, self.window)  # of one segment, for each text is one
        outputs = attend(query, key, value, seen, self.dropout if training else 0.0, self._seeds)
        outputs = self.output_projection(ops.reshape(outputs, (batch, length, heads[0] * features)))
        return cast_to(outputs, self.compute_dtype)

    def _placed(self, query_key: Any, positions: Any) -> tuple[Any, Any]:
        """Returns queries and keys normalized and turned: both at once, for operations on small tensors take time."""
        ops, wide = keras.ops, accumulation_dtype(self.compute_dtype)
        if self._norms:
            query_key = normalize(cast_to(query_key, wide), None, (3,), self.epsilon)
            query_scale, key_scale = (cast_to(norm.scale.value, wide) for norm in self._norms)
            scales = [query_scale] * self.num_heads + [key_scale] * self._key_value_heads
            query_key = query_key * ops.stack(scales)
        if self.rotary_base is not None:
            query_key = turned(query_key, positions, self.rotary_base)
        query_key = cast_to(query_key, self.compute_dtype)
        return query_key[:, :, : self.num_heads], query_key[:, :, self.num_heads :]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = ["num_heads", "num_key_value_heads", "head_dim", "rotary_base", "normalize_query_key", "window"]
        names += ["use_bias", "dropout", "epsilon"]
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": serialized(self.output_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
        }

    @property
    def _key_value_heads(self) -> int:
        return self.num_heads if self.num_key_value_heads is None else self.num_key_value_heads

    def _features(self, width: int) -> int:
        """Returns the number of features of a head for inputs of this width."""
        if self.head_dim is not None:
            return self.head_dim
        if width % self.num_heads:
            raise ValueError(
                f"The width of the inputs must be a multiple of num_heads, or head_dim be given; got a width of "
                f"{width} and num_heads={self.num_heads}."
            )
        self._check_features(width // self.num_heads)
        return width // self.num_heads

    def _check_features(self, features: int) -> None:
        if self.rotary_base is not None and features % 2:
            raise ValueError(
                f"The features of a head must be even, for they are turned in pairs; got {features}. Give another "
                "head_dim, or rotary_base=None."
            )
