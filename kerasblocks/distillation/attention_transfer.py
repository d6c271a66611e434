"""Where a convolutional student looks against where its teacher looks; Keras has none."""

from typing import Any

import keras

from kerasblocks._arguments import as_number
from kerasblocks.distillation.distillation_loss import DistillationLoss
from kerasblocks.distillation.output_distillation import check_same_shape


@keras.saving.register_keras_serializable("kerasblocks")
class AttentionTransfer(DistillationLoss):
    """‖Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖‖² with the attention maps Q = Σ |A|^p over the channels of a layer's output A.

    The maps are vectors over the positions, the norms Euclidean. The two layers need the same positions, not the same
    channels: no projection is learned. A map that is zero everywhere stays zero.

    Args:
        teacher_layer: name of the teacher's layer.
        student_layer: name of the student's layer.
        power: p, above 0.
        axis: the axis of channels, in both.
        weight: factor of the loss in the sum of all.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: a power that is not above 0; outputs without positions, or with other ones.

    Source: Zagoruyko and Komodakis, "Paying more attention to attention", ICLR 2017, equation 2, with the norm
    squared, as the authors' code has it.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import AttentionTransfer
    >>> loss = AttentionTransfer(teacher_layer="conv", student_layer="conv")
    >>> left, right = np.zeros((1, 1, 2, 3)), np.zeros((1, 1, 2, 5))
    >>> left[:, :, 0], right[:, :, 1] = 1, 1
    >>> keras.ops.convert_to_numpy(loss(left, right)).round(4).tolist()
    [2.0]
    """

    def __init__(
        self,
        *,
        teacher_layer: str,
        student_layer: str,
        power: float = 2.0,
        axis: int = -1,
        weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, teacher_layer=teacher_layer, student_layer=student_layer, **kwargs)
        self.power = as_number("power", power)
        if self.power <= 0:
            raise ValueError(f"power must be above 0; got {power!r}.")
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ValueError(f"axis must be that of the channels, an integer other than 0; got {axis!r}.")
        self.axis = axis

    def call(self, student: Any, teacher: Any) -> Any:
        maps = [self._map(each) for each in (student, teacher)]
        check_same_shape(type(self).__name__, *maps)
        student, teacher = (self._normalized(each) for each in maps)
        return keras.ops.sum(keras.ops.square(student - teacher), axis=-1)

    def _map(self, features: Any) -> Any:
        ops = keras.ops
        if len(features.shape) < 3:
            raise ValueError(
                f"AttentionTransfer compares layers with positions, (batch, ..., channels); got {features.shape}."
            )
        features = ops.abs(ops.cast(features, self.compute_dtype))
        # By the largest number first: powers of large ones overflow, those of small ones vanish.
        largest = ops.stop_gradient(ops.max(features, axis=tuple(range(1, len(features.shape))), keepdims=True))
        features = features / ops.where(largest > 0, largest, 1.0)
        return ops.sum(features * features if self.power == 2 else self._powers(features), axis=self.axis)

    def _normalized(self, attention: Any) -> Any:
        """Returns the maps as vectors of length 1, or 0 where there is nothing."""
        ops = keras.ops
        vectors = ops.reshape(attention, (ops.shape(attention)[0], -1))
        squares = ops.sum(vectors * vectors, axis=-1, keepdims=True)
        return vectors / ops.sqrt(ops.where(squares > 0, squares, 1.0))

    def _powers(self, features: Any) -> Any:
        """Returns |A|^p, whose gradient at 0 would be infinite for p < 1."""
        return keras.ops.where(features > 0, keras.ops.where(features > 0, features, 1.0) ** self.power, 0.0)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["output_name"]
        return {**config, "power": self.power, "axis": self.axis}
