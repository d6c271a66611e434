"""The teacher's side of a distillation: it is run, asked for layers and checked, and nothing of it changes."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.backend import compute_output_spec

from kerasblocks.distillation._layers import layer_named
from kerasblocks.distillation._teacher_hash import teacher_hash
from kerasblocks.distillation.teacher_cache import TeacherCache, is_of
from kerasblocks.distillation.teacher_ensemble import TeacherEnsemble
from kerasblocks.training._calls import LayerOutputs, without_trace


class Teaching:
    """What is asked of the teacher in a step.

    Args:
        teacher: a Keras model, a function on tensors, or a cache.
        inputs: function that makes its inputs from a batch's, None for the same.
        layers: names of layers whose outputs are asked for.
    """

    def __init__(self, teacher: Any, inputs: Callable[[Any], Any] | None, layers: Sequence[str]) -> None:
        self.teacher, self._inputs = teacher, inputs
        self.is_model = isinstance(teacher, keras.layers.Layer)
        if layers and not self.is_model:
            what = "stored outputs" if isinstance(teacher, TeacherCache) else "a function"
            raise ValueError(f"The teacher is {what}, of which there are no layers; got teacher_layer={layers[0]!r}.")
        if layers and isinstance(teacher, TeacherEnsemble):
            raise ValueError(
                f"The teachers are several, whose layers are not averaged; got teacher_layer={layers[0]!r}. Make a "
                "Distiller with one of them for that loss."
            )
        self._names = list(layers)
        self._watch: LayerOutputs | None = None
        self._hash = teacher.teacher if isinstance(teacher, TeacherCache) else None

    def fingerprint(self) -> str:
        """Returns a hash that tells teachers apart, as it is now; not while a step is traced."""
        if not isinstance(self.teacher, TeacherCache):
            self._hash = teacher_hash(self.teacher)
        assert self._hash is not None  # noqa: S101 - a cache has one
        return self._hash

    def run(self, x: Any, stored: Any, shown: str | None, heads: list[str]) -> tuple[Any, dict[str, Any]]:
        """Returns the teacher's outputs and those of its layers, constants, for the inputs of a batch.

        `stored` are outputs that the batch carries and `shown` is the mark of the teacher that they are of; `heads` are
        those of the outputs.

        Raises:
            ValueError: they are another teacher's, or there are none where they are all that there is.
        """
        if stored is not None:
            self.check_shown(shown)
            return stored, {}
        if isinstance(self.teacher, TeacherCache):
            raise ValueError(
                "The teacher's outputs are stored, and these batches do not carry them: fit cache.join(batches)."
            )
        if self._inputs is not None:
            x = self._inputs(x)
        if not self.is_model:
            with without_trace(()), _inference(self.teacher):
                return keras.tree.map_structure(_constant, self.teacher(x)), {}
        of_heads: Any = contextlib.nullcontext()
        if isinstance(self.teacher, TeacherEnsemble):
            of_heads = self.teacher.with_heads(heads)
        with without_trace(self.teacher.variables), self.watch.watched() as layers, of_heads:
            outputs = self.teacher(x, training=False)
        return keras.tree.map_structure(_constant, outputs), {name: _constant(each) for name, each in layers.items()}

    def check_shown(self, shown: str | None) -> None:
        """Raises `ValueError` unless outputs that carry this mark are the teacher's, by its last `fingerprint`."""
        if self._hash is None:  # The weights cannot be read while a step is traced.
            raise ValueError(
                "The batches carry stored outputs, and whether these are the teacher's could not be seen before: "
                "give the TeacherCache as teacher."
            )
        if shown is None or not is_of(self._hash, shown):
            raise ValueError(
                "The batches carry the outputs of another teacher than the Distiller's (or of the same before its "
                "weights changed): write a cache of this one, or give the cache as teacher."
            )

    @property
    def watch(self) -> LayerOutputs:
        """What sees the layers."""
        if self._watch is None:
            self._watch = LayerOutputs({name: layer_named("teacher", self.teacher, name) for name in self._names})
        return self._watch

    def specs(self, x: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns symbols of what `run` does, None where only a run can tell; makes the teacher's variables."""
        if not self.is_model:
            return None

        def call(x: Any) -> Any:
            return self.teacher(x if self._inputs is None else self._inputs(x), training=False)

        return output_specs(call, x, lambda: self.watch)


@contextlib.contextmanager
def _inference(teacher: Any) -> Iterator[None]:
    """Within, a PyTorch module that is a teacher does not train; others know nothing of it."""
    modules = teacher.modules() if hasattr(teacher, "named_buffers") else ()
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def output_specs(call: Callable[[Any], Any], x: Any, watch: Callable[[], LayerOutputs]) -> tuple[Any, dict[str, Any]]:
    """Returns symbols of what `call(x)` returns and of what the watched layers return in it."""
    compute_output_spec(call, x)  # Layers that are made by the first call are not there to be watched before.

    def watched(x: Any) -> Any:
        with watch().watched() as layers:
            outputs = call(x)
        return outputs, layers

    found: tuple[Any, dict[str, Any]] = compute_output_spec(watched, x)
    return found


def as_teacher(teacher: Any, from_logits: bool) -> Any:
    """Returns the teacher, several as an ensemble.

    Raises:
        ValueError: it can be none.
    """
    if isinstance(teacher, list | tuple):
        return TeacherEnsemble(teacher, from_logits=from_logits)
    if not callable(teacher) and not isinstance(teacher, TeacherCache):
        raise ValueError(
            "teacher must be a Keras model, several in a list, a function on tensors, or a TeacherCache; got "
            f"{teacher!r}."
        )
    if isinstance(teacher, TeacherEnsemble) and teacher.from_logits != from_logits:
        raise ValueError(f"The ensemble has from_logits={teacher.from_logits}, the Distiller {from_logits}.")
    return teacher


def check_apart(student: keras.Model, teacher: Any) -> None:
    """Raises `ValueError` where the models have variables in common: training the one would change the other."""
    if not isinstance(teacher, keras.layers.Layer):
        return
    if student is teacher:
        raise ValueError("student and teacher are the same model: clone it and copy the weights (born-again).")
    of_teacher = set(map(id, teacher.variables))
    shared = [variable.path for variable in student.variables if id(variable) in of_teacher]
    if shared:
        raise ValueError(f"student and teacher share variables, which training would change: {', '.join(shared[:3])}.")


def check_inputs(student: keras.Model, teacher: Any) -> None:
    """Raises `ValueError` where both models tell their inputs, and these differ."""
    if not isinstance(teacher, keras.layers.Layer) or isinstance(teacher, TeacherEnsemble):
        return
    inputs = [inputs_of(model) for model in (student, teacher)]
    if any(found is None for found in inputs):
        return
    named = [{each.name: tuple(each.shape) for each in keras.tree.flatten(found)} for found in inputs]
    if len(named[0]) > 1 and set(named[0]) == set(named[1]):  # Keras finds them by their names.
        shapes = [[found[name] for name in sorted(found)] for found in named]
    else:
        shapes = [[tuple(each.shape) for each in keras.tree.flatten(found)] for found in inputs]
    if len(shapes[0]) != len(shapes[1]) or any(not _alike(*pair) for pair in zip(*shapes, strict=True)):
        raise ValueError(
            f"The student takes inputs of the shapes {shapes[0]}, the teacher {shapes[1]}: give teacher_inputs, a "
            "function of keras.ops that makes the teacher's inputs from the student's."
        )


def inputs_of(model: Any) -> Any:
    """Returns the symbolic inputs of a Functional or built Sequential model, None for others."""
    for name in ("input", "inputs"):  # A Functional model has both, nested as it takes them and as a list.
        with contextlib.suppress(AttributeError, ValueError):
            found = getattr(model, name)
            if found is not None and keras.tree.flatten(found):
                return found[0] if isinstance(found, list) and len(found) == 1 else found
    return None


def _alike(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _constant(tensor: Any) -> Any:
    return keras.ops.stop_gradient(keras.ops.convert_to_tensor(tensor))
