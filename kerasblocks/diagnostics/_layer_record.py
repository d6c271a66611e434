"""What each layer takes in and gives out on one batch, in numbers; Keras has no hooks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from kerasblocks._replaced_calls import calls_replaced
from kerasblocks.training.nonfinite import floats_in

_UNITS = 4096  # of a layer, at most, that are looked at one by one
_NUMBERS = 2**24  # of a layer, at most, that are looked at


@dataclasses.dataclass(frozen=True)
class LayerNumbers:
    """What one layer has done on a batch.

    Attributes:
        path: the layer's.
        kind: its class.
        activation: name of its activation, None where it has none.
        has_kernel: whether it has a matrix or a convolution kernel.
        is_trainable: whether it has a weight that is trained.
        shape: of its output.
        input_rms: root mean square of its floating inputs, None where there are none.
        input_rms_of_others: the same of the inputs that are not 0.
        input_zeros: the share of inputs that are 0.
        input_feature_rms: of each feature of an input of rank 2, None otherwise.
        mean, deviation: of its output.
        zero_units: the share of units (last axis) that are 0 in all samples and positions.
        saturated: of tanh and sigmoid, the share of numbers within 2 % of an end of the range.
    """

    path: str
    kind: str
    activation: str | None
    has_kernel: bool
    is_trainable: bool
    shape: tuple[int, ...]
    input_rms: float | None
    input_rms_of_others: float | None
    input_zeros: float | None
    input_feature_rms: np.ndarray | None
    mean: float
    deviation: float
    zero_units: float
    saturated: float | None


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """What the layers have done, in the order in which they finished, the model's outputs, and their dtypes."""

    layers: list[LayerNumbers]
    outputs: Any
    dtypes: list[str]


def recorded(model: Any, x: Any, *, training: bool) -> LayerRecord:
    """Calls the model on a batch and returns what its layers have done; the caller puts back what that changes."""
    found: list[LayerNumbers] = []

    def watching(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = original(*args, **kwargs)
            numbers = _numbers_of(layer, args, outputs)
            if numbers is not None:
                found.append(numbers)
            return outputs

        return call

    layers = [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]
    arguments = {"training": training} if model._call_has_training_arg else {}
    with calls_replaced(list({id(layer): layer for layer in layers}.values()), watching):
        outputs = model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), **arguments)
    dtypes = [keras.backend.standardize_dtype(each.dtype) for each in keras.tree.flatten(outputs)]
    return LayerRecord(found, keras.tree.map_structure(as_numbers, outputs), dtypes)


def as_numbers(tensor: Any) -> np.ndarray:
    """Returns a tensor as a NumPy array, half precision as float32."""
    if keras.backend.standardize_dtype(tensor.dtype) in ("bfloat16", "float16"):
        tensor = keras.ops.cast(tensor, "float32")
    array: np.ndarray = np.asarray(keras.ops.convert_to_numpy(tensor))
    return array


def _numbers_of(layer: Any, inputs: Any, outputs: Any) -> LayerNumbers | None:
    made, taken = floats_in(outputs), floats_in(inputs)
    if not made:
        return None
    output = _some(made[0])
    first = _some(taken[0]) if taken else None
    others = None if first is None else first[first != 0]
    name = _activation_of(layer)
    rows = output.reshape(-1, output.shape[-1])[:, :_UNITS] if output.ndim > 1 else output.reshape(-1, 1)
    with np.errstate(all="ignore"):
        return LayerNumbers(
            path=layer.path or layer.name,  # none where it is not built
            kind=type(layer).__name__,
            activation=name,
            has_kernel=any(len(weight.shape) >= 2 for weight in layer.weights),
            is_trainable=bool(layer.trainable_weights),
            shape=tuple(made[0].shape),
            input_rms=None if first is None else float(np.sqrt((first**2).mean())),
            input_rms_of_others=None if others is None else float(np.sqrt((others**2).mean())) if others.size else 0.0,
            input_zeros=None if first is None else float((first == 0).mean()),
            input_feature_rms=np.sqrt((first**2).mean(0)) if first is not None and first.ndim == 2 else None,
            mean=float(output.mean()),
            deviation=float(output.std()),
            zero_units=float((rows == 0).all(0).mean()),
            saturated=_saturated(name, output),
        )


def _some(tensor: Any) -> np.ndarray:
    """Returns the numbers of the first samples, at most as many as are quickly looked at."""
    size = int(np.prod(tensor.shape[1:])) if len(tensor.shape) > 1 else 1
    part = tensor[: max(1, _NUMBERS // max(1, size))] if len(tensor.shape) else tensor
    return as_numbers(part).astype("float64")


def _activation_of(layer: Any) -> str | None:
    if isinstance(layer, keras.layers.ReLU):
        return "relu"
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return None if name == "linear" else name


def _saturated(name: str | None, output: np.ndarray) -> float | None:
    if name == "tanh":
        return float((abs(output) > 0.98).mean())
    if name in ("sigmoid", "hard_sigmoid"):
        return float((abs(output - 0.5) > 0.49).mean())
    return None
