"""Where on a batch a model's numbers stop being finite, and why; Keras tells that the loss is NaN."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module
from kerasblocks._replaced_calls import calls_replaced
from kerasblocks.training._step_guard import all_finite, is_floating, not_finite

_LARGEST = 5  # weights that are named
_FLOAT16_MAX = 65504.0
_backend = backend_module("kerasblocks.training._step")


@dataclasses.dataclass(frozen=True)
class NonFinite:
    """What of one training step on one batch is NaN or infinite.

    Attributes:
        inputs, labels, sample_weight: what is not finite in the batch, a line for each array.
        weights: paths of the model's variables that are not finite, before any update.
        layer: path of the first layer, in the order in which they finish, whose output is not finite; None if there is
            none.
        layer_type: its class.
        layer_dtype: its compute dtype.
        layer_input: least and largest number of its inputs.
        outputs: least and largest number of the model's outputs, NaN where one of them is.
        loss: None for a model without a compiled loss.
        gradients: paths of the trainable variables whose gradient of the loss is not finite.
        largest_weights: the largest absolute value of the variables that have the largest ones, by their paths.
        cause: the likely cause, in words.
        remedy: what to do about it.
    """

    inputs: list[str]
    labels: list[str]
    sample_weight: list[str]
    weights: list[str]
    layer: str | None
    layer_type: str | None
    layer_dtype: str | None
    layer_input: tuple[float, float] | None
    outputs: tuple[float, float] | None
    loss: float | None
    gradients: list[str]
    largest_weights: dict[str, float]
    cause: str = ""
    remedy: str = ""

    @property
    def found(self) -> bool:
        """Whether anything is not finite."""
        batch = self.inputs or self.labels or self.sample_weight
        loss = self.loss is not None and not np.isfinite(self.loss)
        return bool(batch or self.weights or self.layer or loss or self.gradients)

    def __str__(self) -> str:
        return "\n".join([f"Likely cause: {self.cause}", f"Remedy: {self.remedy}"] if self.found else [self.cause])


def locate_nonfinite(
    model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None, *, training: bool = True
) -> NonFinite:
    """Runs one batch forward and backward and finds the first number that is NaN or infinite.

    Every layer and operation is watched while the model is called eagerly; the gradients are those of the compiled
    loss. Nothing is updated, and the state that a call changes (moving averages, seeds, metrics) is put back.

    Args:
        model: a built model, or one that builds itself on its inputs.
        x: inputs of one batch, as `fit` takes them.
        y: labels of the batch; without them, a compiled loss and its gradients are left out.
        sample_weight: weights of its samples.
        training: whether layers behave as in training.

    Returns:
        What is not finite, with the likely cause and a remedy; `.found` is False where all is finite.

    Raises:
        TypeError: no Keras model.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.training import locate_nonfinite
    >>> x = keras.Input((2,))
    >>> model = keras.Model(x, keras.layers.Lambda(keras.ops.log, name="logarithm")(x))
    >>> model.compile(loss="mse")
    >>> locate_nonfinite(model, np.zeros((1, 2)), np.zeros((1, 2))).layer
    'logarithm'
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a Keras model; got {model!r}.")
    return located(model, (x, y, sample_weight), training)


def located(model: keras.Model, batch: tuple[Any, Any, Any], training: bool, random_state: Any = None) -> NonFinite:
    """Returns what `locate_nonfinite` does, with the state that the backend's own random numbers had at the time."""
    x, y, sample_weight = (keras.tree.map_structure(as_tensor, part) for part in batch)
    arguments = {"training": training} if model._call_has_training_arg else {}
    watch = _Watch()
    with state_kept(model, random_state):
        with watch.on(model):
            outputs = model(x, **arguments)
        loss = loss_of_batch(model, x, y, outputs, sample_weight, training)
        loss = None if loss is None else float(keras.ops.convert_to_numpy(loss))
    gradients: list[str] = []
    if loss is not None and model.trainable_variables:
        with state_kept(model, random_state):
            variables = model.trainable_variables
            found = _backend.gradients(
                lambda: loss_of_batch(model, x, y, model(x, **arguments), sample_weight, training), variables
            )
            pairs = zip(variables, found, strict=True)
            gradients = [variable.path for variable, each in pairs if each is not None and not all_finite(each)]
    weights = [*model.trainable_variables, *model.non_trainable_variables]
    located = NonFinite(
        inputs=not_finite_in("x", x),
        labels=not_finite_in("y", y),
        sample_weight=not_finite_in("sample_weight", sample_weight),
        weights=[variable.path for variable in not_finite(weights)],
        layer=watch.path,
        layer_type=watch.type,
        layer_dtype=watch.dtype,
        layer_input=watch.input_range,
        outputs=_range(outputs),
        loss=loss,
        gradients=gradients,
        largest_weights=largest_weights(model),
    )
    return explained(located)


def located_in_data(model: keras.Model, batch: Any, loss: float) -> NonFinite:
    """Returns what can be told where a step cannot be run again: what in its batch, if known, is not finite."""
    x, y, sample_weight = (None, None, None) if batch is None else batch
    return NonFinite(
        inputs=not_finite_in("x", x),
        labels=not_finite_in("y", y),
        sample_weight=not_finite_in("sample_weight", sample_weight),
        weights=[],
        layer=None,
        layer_type=None,
        layer_dtype=None,
        layer_input=None,
        outputs=None,
        loss=loss,
        gradients=[],
        largest_weights=largest_weights(model),
    )


def explained(found: NonFinite, weights_after: list[str] | None = None, loss_scale: float | None = None) -> NonFinite:
    """Returns what was found, with the likely cause and a remedy.

    Args:
        found: what was found on the batch before its update.
        weights_after: paths of the variables that the update made not finite.
        loss_scale: the loss scale where it is what stopped the fit.
    """
    if not found.found and weights_after:
        cause = f"the gradients are finite, but their update makes {', '.join(weights_after)} not finite."
        remedy = "lower the learning rate, clip gradients, or look at the optimizer's epsilon."
    elif loss_scale is not None and (not found.found or found.layer_dtype == "float16"):
        cause = f"gradients overflow at every loss scale; it has fallen to {loss_scale:g}."
        remedy = "use mixed_bfloat16, or float32 for the layers with large numbers; lower the learning rate."
    else:
        cause, remedy = _cause(found)
    return dataclasses.replace(found, cause=cause, remedy=remedy)


def not_finite_in(name: str, data: Any) -> list[str]:
    """Returns a line for each array of a batch's part that is not finite; waits for the device."""
    lines = []
    for path, tensor in _leaves(name, data):
        if not _is_float(tensor) or all_finite(tensor):
            continue
        bad = ~np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1)) if bad.ndim else np.array([], int)
        where = f", in {len(rows)} of {len(bad)} samples, first sample {rows[0]}" if rows.size else ""
        lines.append(f"{path}: {bad.sum()} of {bad.size} numbers{where}")
    return lines


def largest_weights(model: keras.Model) -> dict[str, float]:
    """Returns the largest absolute value of the trainable variables that have the largest, by their paths."""
    largest = {
        variable.path: float(keras.ops.convert_to_numpy(keras.ops.max(keras.ops.abs(variable.value))))
        for variable in model.trainable_variables
        if is_floating(variable)
    }
    order = sorted(largest, key=lambda path: np.nan_to_num(largest[path], nan=np.inf), reverse=True)
    return {path: largest[path] for path in order[:_LARGEST]}


class _Watch:
    """Remembers the first layer or operation whose output is not finite."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.type: str | None = None
        self.dtype: str | None = None
        self.input_range: tuple[float, float] | None = None

    @contextlib.contextmanager
    def on(self, model: keras.Model) -> Iterator[None]:
        """Watches all that the model calls."""
        with calls_replaced(_operations(model), self._watching):
            yield

    def _watching(self, operation: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            if self.path is None and not _all_finite(outputs):
                self.path = getattr(operation, "path", None) or operation.name
                self.type = type(operation).__name__
                self.dtype = getattr(operation, "compute_dtype", None)
                self.input_range = _range((args, kwargs))
            return outputs

        return call


def _operations(model: keras.Model) -> list[Any]:
    """Returns all layers, and the operations between them in Functional models, each once."""
    layers = list(model._flatten_layers())
    operations = [each for layer in layers for each in getattr(layer, "operations", [])]
    return list({id(each): each for each in [*layers, *operations]}.values())


@contextlib.contextmanager
def state_kept(model: keras.Model, random_state: Any) -> Iterator[None]:
    """Puts back what a call of the model changes: moving averages, seeds, metrics, the backend's random state."""
    variables = [*model.non_trainable_variables, *model.metrics_variables] if model.built else []
    values = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        with _backend.random_state_kept(random_state):
            yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def loss_of_batch(model: keras.Model, x: Any, y: Any, outputs: Any, sample_weight: Any, training: bool) -> Any:
    """Returns the compiled loss of outputs, None where there is none or there are no labels for it."""
    compiled = getattr(model, "compiled", False)
    if not compiled or (not model.losses if model._compile_loss is None else y is None):
        return None
    return model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=sample_weight, training=training)


def _cause(found: NonFinite) -> tuple[str, str]:
    for name, lines in (("inputs", found.inputs), ("labels", found.labels), ("sample weights", found.sample_weight)):
        if lines:
            return (
                f"the batch's {name} are not finite ({'; '.join(lines)}).",
                "find these samples with numpy.isfinite and repair them or leave them out.",
            )
    if found.weights:
        return (
            f"variables were not finite before the step: {', '.join(found.weights)}.",
            "go back to a checkpoint with finite weights; look at what made them so.",
        )
    if found.layer is not None:
        return _cause_in_a_layer(found)
    if found.loss is not None and not np.isfinite(found.loss):
        return (
            f"the loss is {found.loss} although the model's outputs are finite{_between(found.outputs)}.",
            "let the loss take logits (from_logits=True) or keep log and division away from 0; check that the labels "
            "lie in the range that it asks for.",
        )
    if found.gradients:
        return (
            f"a gradient is not finite although the loss is ({', '.join(found.gradients)}).",
            "√, a norm, a power or a division at 0 has an infinite slope: add an epsilon inside of it. In "
            "mixed_float16 it may be an overflow; mixed_bfloat16 has none.",
        )
    return "Every number of the batch, the layers' outputs, the loss and its gradients is finite.", ""


def _cause_in_a_layer(found: NonFinite) -> tuple[str, str]:
    low, high = found.layer_input or (0.0, 0.0)
    if not np.isfinite([low, high]).all():
        return (
            f"{found.layer} ({found.layer_type}) got inputs that were not finite, though the outputs of all layers "
            "before it were: they were computed between the layers.",
            "look at the arithmetic outside of layers that leads to it: keep logarithm, division and powers away from "
            "0, and exp from large numbers.",
        )
    cause = (
        f"the output of {found.layer} ({found.layer_type}) is not finite, though its inputs"
        f"{_between(found.layer_input)} and weights are."
    )
    if found.layer_dtype == "float16":
        return cause, (
            f"float16 ends at {_FLOAT16_MAX:.0f}: use mixed_bfloat16, or give this layer dtype='float32', or normalize "
            "its inputs."
        )
    if max(abs(low), abs(high)) > 1e12:
        return cause, "its inputs have grown too large: lower the learning rate, clip gradients, or normalize."
    return cause, "keep logarithm, division and powers away from 0 (add an epsilon), and exp from large numbers."


def _between(limits: tuple[float, float] | None) -> str:
    return f" (from {limits[0]:.4g} to {limits[1]:.4g})" if limits else ""


def _leaves(name: str, data: Any) -> list[tuple[str, Any]]:
    if isinstance(data, dict):
        return [leaf for key, part in data.items() for leaf in _leaves(f"{name}[{key!r}]", part)]
    if isinstance(data, list | tuple):
        return [leaf for place, part in enumerate(data) for leaf in _leaves(f"{name}[{place}]", part)]
    return [] if data is None else [(name, data)]


def _is_float(tensor: Any) -> bool:
    try:
        return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)) and 0 not in tensor.shape
    except (AttributeError, TypeError, ValueError):
        return False


def floats_in(data: Any) -> list[Any]:
    """Returns the floating tensors among nested data whose numbers are there, as they are not while code is traced."""
    return [each for each in keras.tree.flatten(data) if _is_float(each) and _backend.has_value(each)]


def _all_finite(data: Any) -> bool:
    return all(all_finite(each) for each in floats_in(data))


def _range(data: Any) -> tuple[float, float] | None:
    ends = [
        float(keras.ops.convert_to_numpy(keras.ops.cast(end(each), "float32")))
        for each in floats_in(data)
        for end in (keras.ops.min, keras.ops.max)
    ]
    return (float(np.min(ends)), float(np.max(ends))) if ends else None


def as_tensor(data: Any) -> Any:
    """Returns data as a tensor of the backend, None as it is."""
    return data if data is None else keras.ops.convert_to_tensor(data)
