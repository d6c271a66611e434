"""A layer of the student against one of its teacher, of whatever width; Keras compares equal ones only."""

from typing import Any

import keras

from kerasblocks.distillation.distillation_loss import DistillationLoss
from kerasblocks.distillation.output_distillation import check_same_shape, deserialized, elementwise, serialized
from kerasblocks.ops.distillation_loss import check_choice


@keras.saving.register_keras_serializable("kerasblocks")
class FeatureDistillation(DistillationLoss):
    """The loss between the outputs of two layers, the student's led to the teacher's width by a learned projection.

    The mean over all numbers of a sample of loss(f_t, W · f_s + b). The projection acts on the channels of each
    position alone, like a 1×1 convolution; it is trained with the student, and is no part of it.

    Args:
        teacher_layer: name of the teacher's layer.
        student_layer: name of the student's layer.
        loss: name of a loss of Keras, one of its loss objects, or a function of (teacher's output, student's).
        projection: `"auto"` for one where the widths differ, True for one in any case, False for none.
        axis: the axis of channels, in both.
        weight: factor of the loss in the sum of all.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: an unknown loss or projection; shapes that differ in more than the width, or in it without a
            projection.

    Source: Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, section 2.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import Distiller, FeatureDistillation
    >>> def net(width):
    ...     layers = keras.layers.Dense(width, "relu", name="hidden"), keras.layers.Dense(3)
    ...     return keras.Sequential([keras.Input((4,)), *layers])
    >>> hint = FeatureDistillation(teacher_layer="hidden", student_layer="hidden")
    >>> distiller = Distiller(student=net(2), teacher=net(16), losses=[hint])
    >>> hint.count_params(), distiller.student.count_params()
    (48, 19)
    """

    def __init__(
        self,
        *,
        teacher_layer: str,
        student_layer: str,
        loss: Any = "mse",
        projection: str | bool = "auto",
        axis: int = -1,
        weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, teacher_layer=teacher_layer, student_layer=student_layer, **kwargs)
        if not isinstance(projection, bool):
            check_choice("projection", projection, ("auto",))
        if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0:
            raise ValueError(f"axis must be that of the channels, an integer other than 0; got {axis!r}.")
        self.loss, self.projection, self.axis = loss, projection, axis
        self._values = elementwise(loss)
        self._projection: Any = None

    def build(self, student_shape: Any, teacher_shape: Any) -> None:
        student, teacher = tuple(student_shape), tuple(teacher_shape)
        where = f"{self.student_layer!r} of the student has {student}, {self.teacher_layer!r} of the teacher {teacher}"
        if len(student) < 2 or len(student) != len(teacher):
            raise ValueError(f"Features must have a batch axis and one of channels, and equally many axes: {where}.")
        if not -len(student) < self.axis < len(student):
            raise ValueError(f"axis={self.axis} is no axis of channels: {where}.")
        axis = self.axis % len(student)
        for place, sizes in enumerate(zip(student, teacher, strict=True)):
            if place not in (0, axis) and None not in sizes and sizes[0] != sizes[1]:
                raise ValueError(
                    f"Features must have the same sizes but for the batch and the width: {where}. Choose layers at "
                    "the same resolution."
                )
        width, wanted = student[axis], teacher[axis]
        if width is None or wanted is None:
            raise ValueError(f"The width of the features must be known: {where}.")
        if width != wanted and self.projection is False:
            raise ValueError(f"Without a projection the widths must be equal: {where}.")
        if self.projection is True or width != wanted:
            self._projection = keras.layers.Dense(wanted, dtype=self.dtype_policy, name="projection")
            self._projection.build((None, width))
        super().build(student_shape, teacher_shape)

    def call(self, student: Any, teacher: Any) -> Any:
        ops = keras.ops
        student, teacher = (ops.cast(each, self.compute_dtype) for each in (student, teacher))
        if self.axis != -1:
            student, teacher = (ops.moveaxis(each, self.axis, -1) for each in (student, teacher))
        if self._projection is not None:
            if student.shape[-1] != self._projection.kernel.shape[0]:
                raise ValueError(
                    f"The projection was made for a width of {self._projection.kernel.shape[0]}, the student's "
                    f"features have {student.shape[-1]}: give each Distiller losses of its own."
                )
            student = ops.matmul(student, self._projection.kernel) + self._projection.bias
        check_same_shape(type(self).__name__, student, teacher)
        return self._values(teacher, student)

    def get_config(self) -> dict[str, Any]:
        own = {"loss": serialized(self.loss), "projection": self.projection, "axis": self.axis}
        config = super().get_config()
        del config["output_name"]
        return {**config, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureDistillation":
        return cls(**config | {"loss": deserialized(config["loss"])})
