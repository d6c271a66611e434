"""Local response normalization, as AlexNet has it; Keras has none."""

from typing import Any

import keras

from kerasblocks.ops._floating import as_floating, cast_to
from kerasblocks.ops.local_response_normalization import check_channels, check_settings, normalized


@keras.saving.register_keras_serializable(package="kerasblocks")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each channel by the strength of the channels around it: yᵢ = xᵢ / (k + (α / size) · Σⱼ xⱼ²)^β.

    j runs over the `size` channels from i − ⌊size / 2⌋ to i + ⌊(size − 1) / 2⌋. As in `torch.nn.LocalResponseNorm` α
    multiplies the mean of the squares; the paper's α multiplies their sum, so that its k = 2, n = 5, α = 1e-4,
    β = 0.75 is `LocalResponseNormalization(5, 5e-4, 0.75, 2.0)`. Computed in float32 or better and rounded once.
    Masks pass through.

    Args:
        size: channels in the sum, 1 or more.
        alpha: α, 0 or more.
        beta: β, a finite number.
        k: k, above 0.
        axis: axis of the channels, not that of the batch.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of rank 2 or more, `(batch, ..., channels)` with the default axis. Integers are cast to `floatx`,
            not truncated.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: a `size` below 1, an `alpha` below 0, a `k` that is not above 0, what are no finite numbers, an axis
            that the inputs have not or that is their first.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    NeurIPS 2012, section 3.3.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import LocalResponseNormalization
    >>> layer = LocalResponseNormalization(size=3, alpha=3.0, beta=1.0)
    >>> y = keras.ops.convert_to_numpy(layer(keras.ops.ones((1, 3))))
    >>> [round(float(each), 4) for each in y[0]]
    [0.3333, 0.25, 0.3333]
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        axis: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.k, self.axis = check_settings(size, alpha, beta, k, axis)
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_channels(self.axis, len(input_shape))

    def call(self, inputs: Any) -> Any:
        axis = check_channels(self.axis, len(inputs.shape))
        outputs = normalized(as_floating(inputs), self.size, self.alpha, self.beta, self.k, axis)
        return cast_to(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        check_channels(self.axis, len(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = ("size", "alpha", "beta", "k", "axis")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
