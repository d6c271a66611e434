"""Stochastic depth for inputs of any rank; Keras's Dropout needs a `noise_shape` that spells the rank out."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_rate
from kerasblocks.ops._floating import cast_to


@keras.saving.register_keras_serializable(package="kerasblocks")
class DropPath(keras.layers.Layer):
    """Sets each sample to zero with probability `rate` while training, and divides the others by 1 − rate.

    y[i] = x[i] · bᵢ / (1 − rate), bᵢ ~ Bernoulli(1 − rate)

    Outside training the input is returned as it is. Masks pass through.

    Args:
        rate: probability that a sample is dropped, 0 ≤ rate < 1.
        seed: of the draws, 0 or more; None for a random one.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, ...)`.
        training: whether to drop.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: a `rate` outside its range, a `seed` that is no integer of 0 or more, a scalar input.

    Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import DropPath
    >>> outputs = DropPath(0.5, seed=0)(keras.ops.ones((4, 3)), training=True)
    >>> sorted({float(number) for number in keras.ops.convert_to_numpy(outputs).ravel()} | {0.0, 2.0})
    [0.0, 2.0]
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = as_rate("rate", rate)
        self.seed = None if seed is None else as_integer("seed", seed, least=0)
        self.supports_masking = True
        if self.rate > 0:
            self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.input_spec = keras.layers.InputSpec(min_ndim=1)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        pass

    def call(self, inputs: Any, training: bool = False) -> Any:
        inputs = cast_to(inputs, self.compute_dtype)
        if not training or self.rate == 0:
            return inputs
        ones = keras.ops.ones((keras.ops.shape(inputs)[0], *[1] * (len(inputs.shape) - 1)), dtype=inputs.dtype)
        return inputs * keras.random.dropout(ones, self.rate, seed=self.seed_generator)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
