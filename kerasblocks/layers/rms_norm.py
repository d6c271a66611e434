"""RMS normalization with a float32 scale under mixed precision and a constant config; Keras's changes both."""

from collections.abc import Sequence
from typing import Any

import keras

from kerasblocks._arguments import as_flag
from kerasblocks.ops._floating import accumulation_dtype, cast_to
from kerasblocks.ops.rms_norm import as_axes, check_axes, check_epsilon, normalize


@keras.saving.register_keras_serializable(package="kerasblocks")
class RMSNorm(keras.layers.Layer):
    """Divides by the root of the mean of squares and multiplies by a trained scale.

    y = x / √(mean(x², axis) + ε) · scale

    All of it is computed in float32 or better and rounded once, to the compute dtype. Under a mixed precision
    policy the scale is kept and applied in float32. Masks pass through.

    Args:
        axis: the axis or axes of the mean, positive or negative.
        epsilon: ε, 1e-24 or more.
        use_scale: whether there is a scale.
        scale_initializer: initializer of the scale, whatever `zero_centered` says.
        zero_centered: keeps scale − 1 as the weight, and multiplies by 1 + weight, so that weight decay pulls
            the scale to 1.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of any shape of rank 1 or more. Integers are cast to `floatx`, not truncated.

    Returns:
        A tensor of the shape of `inputs` in the compute dtype.

    Raises:
        ValueError: an `epsilon` below 1e-24, an axis that is not an integer, is repeated, or that the
            inputs have not; an unknown size of a normalized axis when there is a scale; inputs that are not
            numbers, or of another rank or width than those with which the layer was built.

    Source: Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019, equation 4.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import RMSNorm
    >>> layer = RMSNorm()
    >>> outputs = keras.ops.convert_to_numpy(layer(keras.ops.full((2, 3), 5.0)))
    >>> outputs.round(3).tolist(), layer.count_params()
    ([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], 3)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-6,
        use_scale: bool = True,
        scale_initializer: Any = "ones",
        zero_centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = as_axes(axis)
        self.epsilon = check_epsilon(epsilon)
        self.use_scale = as_flag("use_scale", use_scale)
        self.scale_initializer = keras.initializers.get(scale_initializer)
        self.zero_centered = as_flag("zero_centered", zero_centered)
        self.supports_masking = True
        self.scale: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._axes = check_axes(self.axis, len(input_shape))
        sizes = tuple(input_shape[axis] for axis in self._axes)
        if self.use_scale:
            if None in sizes:
                raise ValueError(
                    f"The sizes of the normalized axes must be known; got input shape {tuple(input_shape)} and "
                    f"axis={self.axis!r}. Set them, or use_scale=False."
                )
            self.scale = self.add_weight(name="scale", shape=sizes, initializer=self._initial_scale, autocast=False)
        self._rank, self._sizes = len(input_shape), sizes

    def call(self, inputs: Any) -> Any:
        self._check_shape(inputs.shape)
        scale = self.scale
        if scale is not None:
            wide = accumulation_dtype(self.compute_dtype)
            scale = scale.value if scale.dtype == wide else keras.ops.cast(scale, wide)
            if self.zero_centered:
                scale = 1 + scale
        outputs = normalize(inputs, scale, self._axes, self.epsilon)
        return cast_to(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if self.built:
            self._check_shape(input_shape)
        else:
            check_axes(self.axis, len(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": list(self.axis) if isinstance(self.axis, list) else self.axis,  # Keras keeps a list of its own
            "epsilon": self.epsilon,
            "use_scale": self.use_scale,
            "scale_initializer": keras.initializers.serialize(self.scale_initializer),
            "zero_centered": self.zero_centered,
        }

    def _check_shape(self, shape: Sequence[int | None]) -> None:
        # By hand: Keras's own check of an `input_spec` takes as long as the rest of the work on a small tensor.
        fits = len(shape) == self._rank and (
            not self.use_scale
            or all(shape[axis] in (size, None) for axis, size in zip(self._axes, self._sizes, strict=True))
        )
        if not fits:
            wanted = dict(zip(self._axes, self._sizes, strict=True)) if self.use_scale else "any sizes"
            raise ValueError(
                f"{self.name} was built for inputs of rank {self._rank} with {wanted} along its axes; "
                f"got the shape {tuple(shape)}. Make another layer for it."
            )

    def _initial_scale(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        value = self.scale_initializer(shape, dtype=dtype)
        return value - 1 if self.zero_centered else value
