"""Rotary position embedding as a layer; Keras has none."""

from typing import Any

import keras

from kerasblocks.ops._floating import as_floating, cast_to
from kerasblocks.ops.rotary_embedding import check_base, check_features, rotary_embedding


@keras.saving.register_keras_serializable(package="kerasblocks")
class RotaryEmbedding(keras.layers.Layer):
    """Turns each pair (xᵢ, xᵢ₊ₙ), n half the features, by the angle p · base^(−i/n), with p the position.

    For queries and keys of attention, whose products then depend on distances alone. Masks pass through.

    Args:
        base: base of the wavelengths, above 1.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, length, ..., features)`, with an even number of features.
        positions: None for 0, 1, …, length − 1; a tensor of shape `(length,)` or `(batch, length)` of others.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: a `base` that is not a number above 1; inputs of rank below 3 or with an odd number of features.

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021, section 3.2.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import RotaryEmbedding
    >>> queries = keras.ops.ones((2, 5, 4, 8))  # batch, length, heads, features
    >>> turned = RotaryEmbedding()(queries)
    >>> bool(keras.ops.all(turned[:, 0] == 1)), turned.shape == (2, 5, 4, 8)
    (True, True)
    """

    def __init__(self, base: float = 10_000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = check_base(base)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_features(tuple(input_shape))

    def call(self, inputs: Any, positions: Any = None) -> Any:
        return rotary_embedding(cast_to(as_floating(inputs), self.compute_dtype), positions, base=self.base)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        check_features(tuple(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "base": self.base}
