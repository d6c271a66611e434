"""Any Keras loss between what student and teacher return; with it a student learns numbers, too."""

from collections.abc import Callable
from typing import Any

import keras

from kerasblocks.distillation.distillation_loss import DistillationLoss


@keras.saving.register_keras_serializable("kerasblocks")
class OutputDistillation(DistillationLoss):
    """Compares outputs, or those of a layer, by a loss of Keras or a function, without softmax and temperature.

    Args:
        loss: name of a loss of Keras, one of its loss objects, or a function of (teacher's output, student's), in the
            order in which losses take what is right and what was said.
        weight: factor of the loss in the sum of all.
        teacher_layer: name of a layer of the teacher, None for its outputs.
        student_layer: name of a layer of the student, None for its outputs.
        output_name: name or place of the one output that is compared, None for all.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: an unknown loss, and what `DistillationLoss` raises.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import OutputDistillation
    >>> loss = OutputDistillation("mae")
    >>> keras.ops.convert_to_numpy(loss(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))).tolist()
    [2.0]
    """

    def __init__(
        self,
        loss: Any = "mse",
        *,
        weight: float = 1.0,
        teacher_layer: str | None = None,
        student_layer: str | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        layers = {"teacher_layer": teacher_layer, "student_layer": student_layer}
        super().__init__(weight=weight, output_name=output_name, **layers, **kwargs)
        self.loss = loss
        self._values = elementwise(loss)

    def call(self, student: Any, teacher: Any) -> Any:
        student, teacher = (keras.ops.cast(each, "float32") for each in (student, teacher))
        check_same_shape(type(self).__name__, student, teacher)
        return self._values(teacher, student)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "loss": serialized(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OutputDistillation":
        return cls(**config | {"loss": deserialized(config["loss"])})


def elementwise(loss: Any) -> Callable[[Any, Any], Any]:
    """Returns the loss as a function of (right, said) that gives a number for each sample or position.

    Raises:
        ValueError: it is none, or a loss object of another reduction than the mean.
    """
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError as error:
            raise ValueError(
                f"loss must be the name of a loss of Keras, a loss object or a function; {error}"
            ) from error
    if isinstance(loss, keras.losses.Loss):
        if loss.reduction not in ("sum_over_batch_size", "mean", "none", None):
            raise ValueError(
                f"The mean over the batch is the Distiller's; got a loss object with reduction={loss.reduction!r}."
            )
        found: Callable[[Any, Any], Any] = loss.call
        return found
    if not callable(loss):
        raise ValueError(f"loss must be the name of a loss of Keras, a loss object or a function; got {loss!r}.")
    function: Callable[[Any, Any], Any] = loss
    return function


def check_same_shape(what: str, student: Any, teacher: Any) -> None:
    """Raises `ValueError` unless the shapes agree."""
    shapes = tuple(student.shape), tuple(teacher.shape)
    differ = any(None not in pair and pair[0] != pair[1] for pair in zip(*shapes, strict=False))
    if len(shapes[0]) != len(shapes[1]) or differ:
        raise ValueError(
            f"{what} compares tensors of one shape; the student's has {shapes[0]}, the teacher's {shapes[1]}."
        )


def serialized(loss: Any) -> Any:
    """Returns a loss for a configuration.

    Raises:
        TypeError: a function that could not be found again.
    """
    if isinstance(loss, str):
        return loss
    if getattr(loss, "__name__", "") == "<lambda>":
        raise TypeError(f"{loss!r} cannot be saved: define it with a name.")
    return keras.saving.serialize_keras_object(loss)


def deserialized(config: Any) -> Any:
    """Returns the loss of a configuration."""
    return keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config
