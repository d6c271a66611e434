"""The student's predictions against its teacher's, tempered, in log space; Keras clips them as probabilities."""

from typing import Any

import keras

from kerasblocks.distillation._heads import as_logits
from kerasblocks.distillation._schedules import as_schedule, deserialized, serialized, value_at
from kerasblocks.distillation.distillation_loss import DistillationLoss
from kerasblocks.ops.distillation_loss import DIVERGENCES, HEADS, as_temperature, check_choice, distillation_loss


@keras.saving.register_keras_serializable("kerasblocks")
class LogitsDistillation(DistillationLoss):
    """T² · D(p_t ‖ p_s) with p_t = softmax(t / T) and p_s = softmax(s / T), `kerasblocks.ops.distillation_loss`.

    Args:
        temperature: T, a number above 0, or a schedule of the step: a `LearningRateSchedule` or a function.
        divergence: `"forward_kl"`, Σ p_t · log(p_t / p_s); `"reverse_kl"`, Σ p_s · log(p_s / p_t), which keeps the
            student to what the teacher finds likely; `"jensen_shannon"`, the mean of both against (p_t + p_s) / 2.
        head: `"softmax"` for one class of many; `"sigmoid"` for classes that are on or off each for itself, whose
            losses are averaged; None for what the compiled loss tells: sigmoid for binary ones, and without one for
            outputs of a single number.
        weight: factor of the loss in the sum of all.
        output_name: name or place of the one output that is compared, None for all.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: a temperature that is not above 0, an unknown divergence or head.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015; the reverse divergence:
    Gu et al., "MiniLLM: knowledge distillation of large language models", 2024.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import LogitsDistillation
    >>> loss = LogitsDistillation(temperature=2.0)
    >>> found = loss(np.array([[3.0, 2.0, 1.0]]), np.array([[1.0, 2.0, 3.0]]))
    >>> round(float(keras.ops.convert_to_numpy(found)[0]), 5)
    1.28063
    """

    def __init__(
        self,
        *,
        temperature: Any = 2.0,
        divergence: str = "forward_kl",
        head: str | None = None,
        weight: float = 1.0,
        output_name: str | int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight=weight, output_name=output_name, **kwargs)
        self.temperature = as_schedule("temperature", temperature, as_temperature)
        check_choice("divergence", divergence, DIVERGENCES)
        if head is not None:
            check_choice("head", head, HEADS)
        self.divergence, self.head = divergence, head

    def call(self, student: Any, teacher: Any) -> Any:
        return self.compare(student, teacher, head="softmax", from_logits=True, step=0)

    def compare(self, student: Any, teacher: Any, *, head: str, from_logits: bool, step: Any) -> Any:
        head = self.head or head
        if not from_logits:
            student, teacher = (as_logits(each, head) for each in (student, teacher))
        temperature = value_at(self.temperature, step)
        return distillation_loss(student, teacher, temperature=temperature, divergence=self.divergence, head=head)

    def get_config(self) -> dict[str, Any]:
        own = {"temperature": serialized(self.temperature), "divergence": self.divergence, "head": self.head}
        config = super().get_config()
        for name in ("teacher_layer", "student_layer"):
            if config[name] is None:
                del config[name]
        return {**config, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LogitsDistillation":
        return cls(**config | {"temperature": deserialized(config["temperature"])})
