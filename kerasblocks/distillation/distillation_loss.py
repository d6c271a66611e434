"""What a student is compared with its teacher by, the base of one's own comparisons; Keras's has no weights in it."""

from typing import Any

import keras

from kerasblocks._arguments import as_number


@keras.saving.register_keras_serializable("kerasblocks")
class DistillationLoss(keras.layers.Layer):
    """Base of the losses between what a student and its teacher return, or what a layer of each does.

    A loss of your own overrides `call(student, teacher)`, which returns one number a sample, of shape `(batch,)`, or
    one for each of its positions, `(batch, time)`; `Distiller` applies sample weights and masks, and takes the mean.
    It is a layer: weights that it makes in `build(student_shape, teacher_shape)` are trained with the student, and
    are no part of it.

    Without layers, the outputs of the two models are compared, each with its like where there are several, and the
    losses of these are added.

    Args:
        weight: factor of the loss in the sum of all, 0 or more.
        teacher_layer: name of a layer of the teacher whose output is compared, None for the model's own. A layer
            inside of another model or layer is found by its name, too; of equal names, by `"outer/inner"`.
        student_layer: likewise of the student.
        output_name: name or place of the one output that is compared, None for all.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: a weight that is not a number of 0 or more, one layer without the other.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import DistillationLoss, Distiller
    >>> class Distance(DistillationLoss):
    ...     def call(self, student, teacher):
    ...         return keras.ops.mean(keras.ops.abs(student - teacher), axis=-1)
    >>> student, teacher = (keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for _ in range(2))
    >>> distiller = Distiller(student=student, teacher=teacher, alpha=0.0, losses=[Distance(weight=2.0)])
    >>> distiller.compile("adam")
    >>> history = distiller.fit(np.ones((8, 4)), verbose=0)
    >>> sorted(history.history)
    ['distillation_loss', 'loss']
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        teacher_layer: str | None = None,
        student_layer: str | None = None,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False} | kwargs)
        self.weight = as_number("weight", weight)
        if self.weight < 0:
            raise ValueError(f"weight must be 0 or more; got {weight!r}.")
        for name, layer in (("teacher_layer", teacher_layer), ("student_layer", student_layer)):
            if layer is not None and not isinstance(layer, str):
                raise ValueError(f"{name} must be the name of a layer; got {layer!r}.")
        if (teacher_layer is None) != (student_layer is None):
            raise ValueError(
                f"Give a layer of each model, or of none: teacher_layer={teacher_layer!r}, "
                f"student_layer={student_layer!r}."
            )
        if output_name is not None and (isinstance(output_name, bool) or not isinstance(output_name, str | int)):
            raise ValueError(f"output_name must be the name or the place of an output; got {output_name!r}.")
        if output_name is not None and teacher_layer is not None:
            raise ValueError("A loss compares layers or outputs: give teacher_layer and student_layer, or output_name.")
        self.teacher_layer, self.student_layer, self.output_name = teacher_layer, student_layer, output_name

    def build(self, student_shape: Any, teacher_shape: Any) -> None:
        """Makes the loss's own weights, from the shapes of what it compares: nested ones where there are several."""
        self.built = True

    def call(self, student: Any, teacher: Any) -> Any:
        """Returns one number a sample, or one for each of its positions."""
        raise NotImplementedError(f"{type(self).__name__} must override call(student, teacher).")

    def compare(self, student: Any, teacher: Any, *, head: str, from_logits: bool, step: Any) -> Any:
        """Returns what `call` does, for an output of this head, logits or not, at this step of the training."""
        return self.call(student, teacher)

    def get_config(self) -> dict[str, Any]:
        names = ("weight", "teacher_layer", "student_layer", "output_name")
        config = super().get_config()
        config.pop("autocast", None)
        return {**config, **{name: getattr(self, name) for name in names}}
