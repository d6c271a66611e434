"""Several teachers as one, their probabilities averaged in log space; Keras's `Average` averages logits."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_number
from kerasblocks.ops.distillation_loss import HEADS, check_choice


@keras.saving.register_keras_serializable("kerasblocks")
class TeacherEnsemble(keras.Model):
    """The logarithm of the mean of the members' probabilities, log Σ wᵢ·pᵢ, as logits (or the mean, as probabilities).

    With a sigmoid head the logits are log p̄ − log(1 − p̄). The probabilities are those at temperature 1; a loss
    tempers their mean.

    Args:
        models: two models or more that take the same inputs and return outputs of the same shapes.
        weights: a number above 0 for each, divided by their sum; None for equal ones.
        from_logits: whether the members return logits, and the ensemble then does.
        head: `"softmax"`, `"sigmoid"`, or None for sigmoid where an output has a single number, and else softmax. In
            a `Distiller` None stands for what the compiled loss tells.
        name: name of the model.
        **kwargs: of `keras.Model`.

    Raises:
        ValueError: fewer than two models, what is none, weights that are not as many numbers above 0.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import TeacherEnsemble
    >>> def constant(*logits):
    ...     bias = keras.initializers.Constant(np.array(logits))
    ...     return keras.Sequential([keras.Input((1,)), keras.layers.Dense(len(logits), bias_initializer=bias)])
    >>> ensemble = TeacherEnsemble([constant(0.0, 0.0), constant(0.0, np.log(3.0))])
    >>> mean = keras.ops.softmax(ensemble(np.zeros((1, 1))))
    >>> keras.ops.convert_to_numpy(mean).round(4).tolist()
    [[0.375, 0.625]]
    """

    def __init__(
        self,
        models: Sequence[keras.Model],
        weights: Sequence[float] | None = None,
        *,
        from_logits: bool = True,
        head: str | None = None,
        name: str = "teacher_ensemble",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not isinstance(models, list | tuple) or len(models) < 2:
            raise ValueError(f"models must be two models or more in a list; got {models!r}.")
        for model in models:
            if not isinstance(model, keras.Model):
                raise ValueError(f"The members of an ensemble must be Keras models; got {model!r}.")
        shares = [1.0] * len(models) if weights is None else [as_number("weights", each) for each in weights]
        if len(shares) != len(models) or min(shares) <= 0:
            raise ValueError(f"weights must be a number above 0 for each of {len(models)} models; got {weights!r}.")
        if head is not None:
            check_choice("head", head, HEADS)
        self.models = list(models)
        self._given = None if weights is None else shares
        self.shares = [each / sum(shares) for each in shares]
        self.from_logits, self.head = as_flag("from_logits", from_logits), head
        self._heads: list[str] | None = None  # of the outputs, while a Distiller asks that knows them

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = [model(inputs, training=training) for model in self.models]
        members = [keras.tree.flatten(output) for output in outputs]
        found = []
        for place, parts in enumerate(zip(*members, strict=True)):
            shapes = [tuple(part.shape) for part in parts]
            if len(set(shapes)) > 1:
                raise ValueError(f"The members of an ensemble must return outputs of one shape; got {shapes}.")
            head = self.head or ("sigmoid" if parts[0].shape[-1] == 1 else "softmax")
            if self.head is None and self._heads is not None:
                head = self._heads[place]
            found.append(self._mean(parts, head))
        return keras.tree.pack_sequence_as(outputs[0], found)

    @contextlib.contextmanager
    def with_heads(self, heads: list[str]) -> Iterator[None]:
        """Within, the outputs have these heads, where none was given."""
        before, self._heads = self._heads, heads
        try:
            yield
        finally:
            self._heads = before

    def _mean(self, parts: Sequence[Any], head: str) -> Any:
        ops = keras.ops
        if not self.from_logits:
            return sum(share * ops.cast(part, "float32") for share, part in zip(self.shares, parts, strict=True))
        wide = [ops.cast(part, "float32") for part in parts]
        logs = ops.log(ops.convert_to_tensor(self.shares, "float32"))
        logs = ops.reshape(logs, (-1,) + (1,) * len(parts[0].shape))
        if head == "softmax":
            return ops.logsumexp(ops.stack([ops.log_softmax(each) for each in wide]) + logs, axis=0)
        on, off = (ops.stack([ops.log_sigmoid(sign * each) for each in wide]) + logs for sign in (1, -1))
        return ops.logsumexp(on, axis=0) - ops.logsumexp(off, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "models": [keras.saving.serialize_keras_object(model) for model in self.models],
            "weights": self._given,
            "from_logits": self.from_logits,
            "head": self.head,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "TeacherEnsemble":
        models = [keras.saving.deserialize_keras_object(each, custom_objects) for each in config["models"]]
        return cls(**config | {"models": models})
