"""Knowledge distillation as a Keras model; Keras's own clips probabilities, ignores weights and calls models twice."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend import get_keras_mask

from kerasblocks._arguments import as_flag, as_number
from kerasblocks.data import ArrayBatches
from kerasblocks.distillation import _heads
from kerasblocks.distillation._first_batch import first_batch
from kerasblocks.distillation._layers import layer_named
from kerasblocks.distillation._mean_of_batches import MeanOfBatches
from kerasblocks.distillation._outputs import check_alike, check_order, named_outputs, one_output
from kerasblocks.distillation._schedules import as_config, as_schedule, deserialized, serialized, value_at
from kerasblocks.distillation._teacher import Teaching, as_teacher, check_apart, check_inputs, inputs_of, output_specs
from kerasblocks.distillation._weighted_mean import mask_for, mean_weight, weight_for, weighted_mean, weights_of_outputs
from kerasblocks.distillation.distillation_loss import DistillationLoss
from kerasblocks.distillation.logits_distillation import LogitsDistillation
from kerasblocks.distillation.output_distillation import OutputDistillation, check_same_shape
from kerasblocks.distillation.teacher_cache import TeacherCache, split_inputs
from kerasblocks.distillation.teacher_ensemble import TeacherEnsemble
from kerasblocks.ops.distillation_loss import check_shapes
from kerasblocks.training._calls import LayerOutputs
from kerasblocks.training._resumable_batches import ResumableBatches


@keras.saving.register_keras_serializable("kerasblocks")
class Distiller(keras.Model):
    """Trains a student on labels and on what its teacher says: L = α · L_CE(y, p_s) + (1 − α) · T² · KL(p_t ‖ p_s).

    p_t and p_s are the softmax of teacher's and student's logits by T, and the divergence is computed in log space,
    in float32 or better (`kerasblocks.ops.distillation_loss`). With `losses` it is
    L = α · L_CE + (1 − α) · Σ wᵢ · lᵢ. L_CE stands for the compiled loss, whichever it is; the student's
    regularization is added unweighted.

    `compile`, `fit`, `evaluate` and `predict` are those of the student: metrics, `sample_weight`, `class_weight`,
    masks and several outputs count as they do there, weights and masks in the distillation loss, too. A label that
    is to be left to the teacher alone is one that the compiled loss ignores (`ignore_class`). The logs of `fit` are
    `loss` (L), `student_loss` (L_CE) and `distillation_loss` (the sum); those of `evaluate` are the student's own,
    without a teacher. With α = 0 no label is used, and none need be given; with α = 1 the teacher runs for the logs.

    The teacher runs in inference mode, without gradients, and nothing in it changes: neither weights nor states nor
    `trainable`. Both models are called once a step.

    Args:
        student: the Keras model that is trained.
        teacher: a Keras model; several in a list (`TeacherEnsemble`); a function on tensors, whose values
            depend on these alone (on JAX and TensorFlow it is traced once); or a `TeacherCache`, for batches that
            `TeacherCache.join` has made.
        alpha: α, a number from 0 to 1, or a schedule of the step: a `LearningRateSchedule` or a function.
        temperature: T of the formula, above 0, or a schedule; None for 2.0. Not to be given with `losses`.
        losses: a `DistillationLoss` or several in a list; what is none is taken for a loss between the outputs,
            `OutputDistillation`. None for the formula.
        from_logits: whether both models return logits; False for probabilities.
        teacher_inputs: function of `keras.ops` that makes the teacher's inputs from the student's, None where they
            are the same.
        name: name of the model.
        **kwargs: of `keras.Model`; `dtype` is the student's unless given.

    Attributes:
        student: the student.
        teacher: the teacher.

    Raises:
        ValueError: what the arguments say; models whose inputs or numbers of classes differ, that share variables, or
            that end in softmax while `from_logits=True`, or in no softmax while it is False; layers that are not
            there. Of subclassed models this is known at the first batch.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.distillation import Distiller
    >>> def net(width):
    ...     layers = keras.layers.Dense(width, "relu"), keras.layers.Dense(3)
    ...     return keras.Sequential([keras.Input((4,)), *layers])
    >>> distiller = Distiller(student=net(4), teacher=net(64), alpha=0.1, temperature=4.0)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss, metrics=["accuracy"])
    >>> history = distiller.fit(np.random.rand(32, 4), np.arange(32) % 3, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'distillation_loss', 'loss', 'student_loss']
    """

    def __init__(
        self,
        *,
        student: keras.Model,
        teacher: Any,
        alpha: Any = 0.5,
        temperature: Any = None,
        losses: Any = None,
        from_logits: bool = True,
        teacher_inputs: Callable[[Any], Any] | None = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        if not isinstance(student, keras.Model):
            raise ValueError(f"student must be a Keras model; got {student!r}.")
        if teacher_inputs is not None and not callable(teacher_inputs):
            raise ValueError(f"teacher_inputs must be a function; got {teacher_inputs!r}.")
        from_logits = as_flag("from_logits", from_logits)
        teacher = as_teacher(teacher, from_logits)
        if teacher_inputs is not None and isinstance(teacher, TeacherCache):
            raise ValueError("The teacher's outputs are stored: give teacher_inputs to TeacherCache.write, not here.")
        check_apart(student, teacher)
        alpha = as_schedule("alpha", alpha, _share)
        if losses is not None and temperature is not None:
            raise ValueError(
                f"With losses the temperature is theirs: LogitsDistillation(temperature={temperature!r}), not here."
            )
        found: list[DistillationLoss]
        if losses is None:
            found = [LogitsDistillation(temperature=2.0 if temperature is None else temperature)]
        else:
            found = [_as_loss(each) for each in (losses if isinstance(losses, list | tuple) else [losses])]
        if not found:
            raise ValueError(
                "losses must hold at least one; got none. With alpha=1 the student learns from labels alone."
            )
        teacher_layers = [each.teacher_layer for each in found if each.teacher_layer is not None]
        teaching = Teaching(teacher, teacher_inputs, list(dict.fromkeys(teacher_layers)))
        teachers = teacher.models if isinstance(teacher, TeacherEnsemble) else [teacher] * teaching.is_model
        tempered = any(isinstance(each, LogitsDistillation) for each in found)
        told = [
            _heads.check_activations(who, model, from_logits)
            for who, models in (("student", [student]), ("teacher", teachers))
            for model in (models if tempered else [])
        ]
        if teacher_inputs is None:
            check_inputs(student, teacher)

        super().__init__(name=name, **{"dtype": student.dtype_policy, "autocast": False} | kwargs)
        self.student = student
        if isinstance(teacher, keras.layers.Layer | TeacherCache):
            self.teacher = teacher
        else:  # Keras would make a layer of a PyTorch module, and train it with the others.
            object.__setattr__(self, "teacher", teacher)
        self.alpha, self.from_logits, self.teacher_inputs = alpha, from_logits, teacher_inputs
        self.distillation_losses = found
        self._temperature, self._own_losses = temperature, losses is not None
        self._teaching = teaching
        self._watch: LayerOutputs | None = None
        self._met = False
        self._outputs: list[tuple[Any, int | None]] = []
        self._heads: list[str] = []
        self._seen = threading.local()  # TensorFlow runs its replicas in threads.
        self._evaluating = False
        # Whose outputs a batch has to be looked at for, whether they are logits or probabilities.
        self._unknown = [
            who
            for who, known in (("student", told[:1]), ("teacher", told[1:] if teaching.is_model else [False]))
            if tempered and not all(known)
        ]
        self._compiled_loss: Any = None
        self._student_tracker = MeanOfBatches(name="student_loss")
        self._distillation_tracker = MeanOfBatches(name="distillation_loss")
        self._scheduled = callable(alpha) or any(callable(getattr(each, "temperature", None)) for each in found)
        self._step = self.add_weight(
            name="step", shape=(), initializer="zeros", dtype="int32", trainable=False, aggregation="only_first_replica"
        )
        inputs = inputs_of(student)
        if inputs is not None and all(inputs_of(each) is not None for each in teachers):
            self._meet(inputs)
            self.built = True

    # Which variables there are

    def _of_teacher(self) -> set[int]:
        return set(map(id, self.constant_variables))

    @property
    def constant_variables(self) -> list[Any]:
        """The teacher's variables, which no training changes."""
        return list(self.teacher.variables) if isinstance(self.teacher, keras.layers.Layer) else []

    @property
    def trainable_variables(self) -> list[Any]:
        return _without(super().trainable_variables, self._of_teacher())

    @property
    def non_trainable_variables(self) -> list[Any]:
        trainable = set(map(id, self.trainable_variables))
        return _without(self.variables, trainable)

    @property
    def trainable_weights(self) -> list[Any]:
        return _without(super().trainable_weights, self._of_teacher())

    @property
    def non_trainable_weights(self) -> list[Any]:
        trainable = set(map(id, self.trainable_weights))
        return _without(self.weights, trainable)

    @property
    def metrics(self) -> list[Any]:
        found: list[Any] = super().metrics
        hidden = []
        if self._evaluating:
            hidden = [self._student_tracker, self._distillation_tracker]
            if self._compiled_loss is None and not self.losses:
                hidden.append(self._loss_tracker)
        elif not self._uses_labels:
            hidden = [self._student_tracker]
        return [each for each in found if not any(each is other for other in hidden)]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, by which losses, metrics and labels may be given; only of a student that has them."""
        names: list[str] = self.student.output_names
        return names

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What `kerasblocks.training.Run` knows the distiller by, beside its configuration: a hash of the teacher."""
        return {"teacher": self._teaching.fingerprint()}

    @property
    def _uses_labels(self) -> bool:
        return callable(self.alpha) or self.alpha > 0

    # Training

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any) -> None:
        """Compiles as `keras.Model.compile` does; the loss is the student's, on the labels.

        Raises:
            ValueError: no loss while alpha is above 0, or one that does not take what `from_logits` says.
        """
        if loss is None and self._uses_labels:
            raise ValueError(
                "The student's own loss is missing: give compile(loss=...), or alpha=0 to learn from the teacher alone."
            )
        for each in keras.tree.flatten(loss):
            _heads.check_loss(each, self.from_logits)
        self._heads = self._heads_for(loss) if self._met else []
        self._compiled_loss = loss
        super().compile(optimizer, loss, *args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        x = self._look_at(x)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        self._look_at(x)
        return super().train_on_batch(x, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with self._in_evaluation():
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._in_evaluation():
            return super().test_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def _in_evaluation(self) -> Iterator[None]:
        before, self._evaluating = self._evaluating, True
        try:
            yield
        finally:
            self._evaluating = before

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x, _, _ = split_inputs(inputs)
        if not self.built and not self._met:
            self._meet(x)
        if not training or not self._student_layers:
            return self.student(x, training=training)
        with self._student_watch().watched() as layers:
            outputs = self.student(x, training=training)
        self._seen.layers = layers
        return outputs

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        if not training:
            return self._student_loss(y, y_pred, sample_weight) + self._regularization()
        layers, self._seen.layers = getattr(self._seen, "layers", None), None
        step: Any = self._step.value if self._scheduled else None
        distillation = self._distillation_loss(x, y_pred, layers, sample_weight, step)
        count = keras.ops.shape(keras.tree.flatten(x)[0])[0]
        self._distillation_tracker.update_state(distillation, count)
        alpha = value_at(self.alpha, step)
        if self._uses_labels:
            if y is None:
                raise ValueError(
                    f"There are no labels, and alpha is {self.alpha!r}: give y, or alpha=0 to learn without."
                )
            student = self._student_loss(y, y_pred, sample_weight)
            self._student_tracker.update_state(student, count)
            if callable(self.alpha):
                total = alpha * student + (1 - alpha) * distillation
            else:  # What counts for nothing must not count by being infinite.
                total = student if alpha == 1 else alpha * student + (1 - alpha) * distillation
        else:
            total = distillation
        if self._scheduled:
            self._step.assign(step + 1)
        return total + self._regularization()

    def _student_loss(self, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        if self._compile_loss is None or y is None:
            return keras.ops.zeros(())
        return self._compile_loss(y, y_pred, sample_weight)

    def _regularization(self) -> Any:
        added = [self._aggregate_additional_loss(each) for each in self.losses]
        return keras.ops.sum(keras.ops.stack(added)) if added else 0.0

    def _distillation_loss(self, x: Any, y_pred: Any, layers: Any, sample_weight: Any, step: Any) -> Any:
        x, stored, shown = split_inputs(x)
        self._outputs = self._outputs or named_outputs(self.student, y_pred)
        self._heads = heads = self._heads or self._heads_for(self._compiled_loss)
        teacher_outputs, teacher_layers = self._teaching.run(x, stored, shown, heads)
        check_alike(y_pred, teacher_outputs)
        outputs, said = keras.tree.flatten(y_pred), keras.tree.flatten(teacher_outputs)
        self._check_outputs(outputs, said)
        masks = [get_keras_mask(each) for each in outputs]
        weights = weights_of_outputs(sample_weight, len(outputs))
        total = 0.0
        for loss in self.distillation_losses:
            compare = {"from_logits": self.from_logits, "step": step}
            if loss.student_layer is None or loss.teacher_layer is None:
                found = [
                    weighted_mean(
                        loss.compare(outputs[place], said[place], head=heads[place], **compare),
                        weights[place],
                        masks[place],
                    )
                    for place in self._places_of(loss)
                ]
            else:
                if layers is None or loss.student_layer not in layers:
                    raise ValueError(
                        f"Layer {loss.student_layer!r} of the student was not called: call the distiller on the batch "
                        "before its loss is computed."
                    )
                student, teacher = layers[loss.student_layer], teacher_layers[loss.teacher_layer]
                values = loss.compare(student, teacher, head="softmax", **compare)
                weight = weight_for(values, mean_weight(weights), outputs)
                found = [weighted_mean(values, weight, mask_for(values, student, masks))]
            for each in found:
                total = total + each * loss.weight
        return total

    # What is known of the models

    @property
    def _student_layers(self) -> list[str]:
        names = (each.student_layer for each in self.distillation_losses)
        return list(dict.fromkeys(name for name in names if name is not None))

    def _student_watch(self) -> LayerOutputs:
        if self._watch is None:
            self._watch = LayerOutputs(
                {name: layer_named("student", self.student, name) for name in self._student_layers}
            )
        return self._watch

    def _meet(self, x: Any) -> None:
        """Makes what variables are missing, and checks the models against each other, by inputs of these shapes."""
        x = keras.tree.map_structure(lambda each: keras.KerasTensor(each.shape, _dtype(each)), x)
        outputs, layers = output_specs(lambda x: self.student(x, training=False), x, self._student_watch)
        self._outputs = named_outputs(self.student, outputs)
        teacher = self._teaching.specs(x)
        check_apart(self.student, self.teacher)
        check_order(self.student, self.teacher)
        flat, said = keras.tree.flatten(outputs), []
        if teacher is not None:
            check_alike(outputs, teacher[0])
            said = keras.tree.flatten(teacher[0])
        elif isinstance(self.teacher, TeacherCache):
            check_alike(outputs, self.teacher.outputs)
            said = [keras.KerasTensor((None, *each.shape[1:])) for each in keras.tree.flatten(self.teacher.outputs)]
        if said:
            self._check_outputs(flat, said)
        for loss in self.distillation_losses:
            if loss.built:
                continue
            if loss.student_layer is None or loss.teacher_layer is None:
                places = self._places_of(loss)
                shapes = [[tuple(each[place].shape) for place in places] for each in (flat, said or flat)]
                loss.build(*(each[0] if len(each) == 1 else each for each in shapes))
            else:
                assert teacher is not None  # noqa: S101 - what has layers is a model
                compared = ("student", loss.student_layer, layers), ("teacher", loss.teacher_layer, teacher[1])
                loss.build(*(one_output(*each) for each in compared))
        self._met = True
        if self.compiled:
            self._heads = self._heads_for(self._compiled_loss)

    def _check_outputs(self, outputs: list[Any], said: list[Any]) -> None:
        if len(outputs) != len(said):
            raise ValueError(
                f"The student has {len(outputs)} outputs and the teacher {len(said)}: they must be the same."
            )
        for loss in self.distillation_losses:
            for place in self._places_of(loss) if loss.student_layer is None else ():
                if isinstance(loss, LogitsDistillation):
                    check_shapes(tuple(outputs[place].shape), tuple(said[place].shape))
                elif isinstance(loss, OutputDistillation):
                    check_same_shape(type(loss).__name__, outputs[place], said[place])

    def _places_of(self, loss: DistillationLoss) -> list[int]:
        """Returns which of the outputs a loss compares."""
        names = [name for name, _ in self._outputs]
        if loss.output_name is None:
            return list(range(len(names)))
        if loss.output_name in names:
            return [names.index(loss.output_name)]
        if isinstance(loss.output_name, int) and loss.output_name < len(names):
            return [loss.output_name]
        raise ValueError(f"The student has no output {loss.output_name!r}; its outputs: {', '.join(map(repr, names))}.")

    def _heads_for(self, compiled_loss: Any) -> list[str]:
        losses = _heads.losses_of(compiled_loss, [name for name, _ in self._outputs])
        for each in self.distillation_losses:
            tempered = isinstance(each, LogitsDistillation) and self.alpha != 1
            for place in self._places_of(each) if tempered else ():
                _heads.check_predicts_classes(losses[place])
        return [_heads.head_of(loss, classes) for loss, (_, classes) in zip(losses, self._outputs, strict=True)]

    def _look_at(self, x: Any) -> Any:
        """Looks at the first batch for what cannot be seen while a step is traced; returns the data."""
        # The only ones that may carry stored outputs, and that can be looked at without being changed:
        may_carry = isinstance(x, ArrayBatches | ResumableBatches) or split_inputs(x)[1] is not None
        if not self.compiled or not (self._unknown or may_carry):
            return x
        batch, x = first_batch(x)
        if batch is not None:
            inputs, stored, shown = split_inputs(batch)
            if stored is not None:  # Here, too: a step that is compiled does not look again.
                self._teaching.fingerprint()
                self._teaching.check_shown(shown)
            if self._unknown:
                self._check_numbers(inputs, stored)
                self._unknown = []
        return x

    def _check_numbers(self, batch: Any, stored: Any) -> None:
        if not self._met:
            self._meet(batch)
        said = stored
        if stored is None and not isinstance(self.teacher, TeacherCache):
            said, _ = self._teaching.run(batch, None, None, self._heads)
        outputs = self.student(batch, training=False)
        tempered = [each for each in self.distillation_losses if isinstance(each, LogitsDistillation)]
        places = {place for loss in tempered for place in self._places_of(loss)}
        for who, found in (("student", outputs), ("teacher", said)):
            for place in places if found is not None and who in self._unknown else ():
                _heads.check_numbers(who, keras.tree.flatten(found)[place], self._heads[place], self.from_logits)

    # Saving

    def get_config(self) -> dict[str, Any]:
        teacher = self.teacher
        losses = self.distillation_losses if self._own_losses else None
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "student": keras.saving.serialize_keras_object(self.student),
            "teacher": {"cache": str(teacher.path)} if isinstance(teacher, TeacherCache) else as_config(teacher),
            "alpha": serialized(self.alpha),
            "temperature": serialized(self._temperature),
            "losses": None if losses is None else [keras.saving.serialize_keras_object(each) for each in losses],
            "from_logits": self.from_logits,
            "teacher_inputs": None if self.teacher_inputs is None else as_config(self.teacher_inputs),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Distiller":
        def made(part: Any) -> Any:
            return keras.saving.deserialize_keras_object(part, custom_objects) if isinstance(part, dict) else part

        teacher = config["teacher"]
        losses = config["losses"]
        return cls(
            **config
            | {
                "dtype": made(config["dtype"]),
                "student": made(config["student"]),
                "teacher": TeacherCache(teacher["cache"]) if set(teacher) == {"cache"} else made(teacher),
                "alpha": deserialized(config["alpha"]),
                "temperature": deserialized(config["temperature"]),
                "losses": None if losses is None else [made(each) for each in losses],
                "teacher_inputs": made(config["teacher_inputs"]),
            }
        )

    def get_build_config(self) -> dict[str, Any] | None:
        return {"built": True} if self.built else None  # The parts have what they were built by.

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.built = bool(config["built"])


def _share(alpha: Any) -> float:
    number = as_number("alpha", alpha)
    if not 0 <= number <= 1:
        raise ValueError(f"alpha must lie in 0 <= alpha <= 1; got {alpha!r}.")
    return number


def _as_loss(loss: Any) -> DistillationLoss:
    return loss if isinstance(loss, DistillationLoss) else OutputDistillation(loss)


def _without(variables: list[Any], others: set[int]) -> list[Any]:
    return [variable for variable in variables if id(variable) not in others]


def _dtype(tensor: Any) -> str:
    return str(keras.backend.standardize_dtype(tensor.dtype))
