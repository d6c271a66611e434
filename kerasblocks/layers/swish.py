"""Swish with a slope that may be trained; Keras has the activation with β = 1 only."""

from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_number
from kerasblocks.ops._floating import cast_to
from kerasblocks.ops.swish import swish


@keras.saving.register_keras_serializable(package="kerasblocks")
class Swish(keras.layers.Layer):
    """Computes x · σ(βx), with σ the logistic function and β fixed or one trained number. Masks pass through.

    Args:
        beta: β, or where it starts.
        trainable_beta: whether β is a weight.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of any shape. Integers are cast to `floatx`, not truncated.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: a `beta` that is not a finite number; inputs that are not numbers.

    Source: Ramachandran, Zoph and Le, "Searching for activation functions", 2017.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import Swish
    >>> layer = Swish(beta=0.0, trainable_beta=True)
    >>> keras.ops.convert_to_numpy(layer(keras.ops.full((1,), 3.0))).tolist(), layer.count_params()
    ([1.5], 1)
    """

    def __init__(self, beta: float = 1.0, trainable_beta: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.beta = as_number("beta", beta)
        self.trainable_beta = as_flag("trainable_beta", trainable_beta)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.trainable_beta:
            self.trained_beta = self.add_weight(
                name="beta", shape=(), initializer=keras.initializers.Constant(self.beta), autocast=False
            )

    def call(self, inputs: Any) -> Any:
        return cast_to(swish(inputs, self.trained_beta if self.trainable_beta else self.beta), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta, "trainable_beta": self.trainable_beta}
