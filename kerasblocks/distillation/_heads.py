"""What a model's outputs are: logits or probabilities, of one class of many or of each class for itself."""

from typing import Any

import keras
import numpy as np

_BINARY = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
_CATEGORICAL = (
    *(keras.losses.CategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy),
    *(keras.losses.CategoricalFocalCrossentropy, keras.losses.KLDivergence),
)
_BINARY_FUNCTIONS = (keras.losses.binary_crossentropy, keras.losses.binary_focal_crossentropy)
_CATEGORICAL_FUNCTIONS = (
    *(keras.losses.categorical_crossentropy, keras.losses.sparse_categorical_crossentropy),
    *(keras.losses.categorical_focal_crossentropy, keras.losses.kl_divergence),
)
_OF_NUMBERS = (
    *(keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError, keras.losses.MeanAbsolutePercentageError),
    *(keras.losses.MeanSquaredLogarithmicError, keras.losses.Huber, keras.losses.LogCosh, keras.losses.Poisson),
)
_FUNCTIONS_OF_NUMBERS = (
    *(keras.losses.mean_squared_error, keras.losses.mean_absolute_error, keras.losses.mean_absolute_percentage_error),
    *(keras.losses.mean_squared_logarithmic_error, keras.losses.huber, keras.losses.log_cosh, keras.losses.poisson),
)


def losses_of(loss: Any, names: list[Any]) -> list[Any]:
    """Returns the compiled loss of each output, None where there is none."""
    if isinstance(loss, dict):
        return [loss.get(name) for name in names]
    if isinstance(loss, list | tuple):
        flat = keras.tree.flatten(loss)
        return flat if len(flat) == len(names) else [None] * len(names)
    return [loss] * len(names)


def head_of(loss: Any, classes: int | None) -> str:
    """Returns the head that a compiled loss trains, or that the number of classes suggests."""
    loss = _resolved(loss)
    if isinstance(loss, _BINARY) or loss in _BINARY_FUNCTIONS:
        return "sigmoid"
    if isinstance(loss, _CATEGORICAL) or loss in _CATEGORICAL_FUNCTIONS:
        return "softmax"
    return "sigmoid" if classes == 1 else "softmax"


def check_loss(loss: Any, from_logits: bool) -> None:
    """Raises `ValueError` where a compiled loss takes logits and the outputs are none, or the other way round."""
    loss = _resolved(loss)
    of_classes = isinstance(loss, _BINARY + _CATEGORICAL) or loss in _BINARY_FUNCTIONS + _CATEGORICAL_FUNCTIONS
    if isinstance(loss, keras.losses.KLDivergence) or loss is keras.losses.kl_divergence:
        takes_logits = False
    else:
        takes_logits = bool(getattr(loss, "from_logits", False))
    if of_classes and takes_logits != from_logits:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise ValueError(
            f"The loss {name} takes {_named(takes_logits)}, but with from_logits={from_logits} the models return "
            f"{_named(from_logits)}. Give a loss object with from_logits={from_logits}, or make the Distiller with "
            f"from_logits={takes_logits}."
        )


def check_predicts_classes(loss: Any) -> None:
    """Raises `ValueError` where a compiled loss is of numbers, not of classes."""
    loss = _resolved(loss)
    if isinstance(loss, _OF_NUMBERS) or loss in _FUNCTIONS_OF_NUMBERS:
        raise ValueError(
            f"The loss {getattr(loss, '__name__', type(loss).__name__)} is of numbers, which have no softmax to be "
            "tempered. Distill such outputs with losses=[OutputDistillation('mse')]."
        )


def as_logits(probabilities: Any, head: str) -> Any:
    """Returns logits in float32 that have these probabilities."""
    ops = keras.ops
    wide = "float64" if keras.backend.standardize_dtype(probabilities.dtype) == "float64" else "float32"
    least = float(np.finfo(wide).tiny)
    probabilities = ops.cast(probabilities, wide)
    if head == "softmax":
        return ops.log(ops.maximum(probabilities, least))
    inside = ops.clip(probabilities, least, 1 - float(np.finfo(wide).epsneg))
    return ops.log(inside) - ops.log1p(-inside)


def check_activations(who: str, model: Any, from_logits: bool) -> bool:
    """Looks at the layers that end a Functional or Sequential model; returns whether they tell what it returns.

    Raises:
        ValueError: it ends in softmax or sigmoid although outputs are said to be logits, or the other way round.
    """
    found = [_activation(tensor) for tensor in _symbolic_outputs(model)]
    for activation in found:
        if from_logits and activation in ("softmax", "sigmoid"):
            raise ValueError(
                f"The {who} {model.name!r} ends in {activation}: it returns probabilities. Take that activation away, "
                "or make the Distiller with from_logits=False, and compile with a loss that takes probabilities."
            )
        if not from_logits and activation == "linear":
            raise ValueError(
                f"The {who} {model.name!r} ends in a linear layer: it returns logits. Make the Distiller with "
                "from_logits=True, and compile with a loss that takes logits."
            )
    return bool(found) and None not in found


def check_numbers(who: str, output: Any, head: str, from_logits: bool) -> None:
    """Looks at the numbers of a batch for what they are.

    Raises:
        ValueError: they look like probabilities where they should be logits, or the other way round.
    """
    numbers = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), "float64")
    if numbers.size == 0 or not np.isfinite(numbers).all():
        return
    inside = bool((numbers >= 0).all() and (numbers <= 1).all())
    if head == "softmax":
        inside = inside and numbers.shape[-1] > 1 and bool((abs(numbers.sum(-1) - 1) < 1e-2).all())
    # Logits of one class may well all lie between 0 and 1.
    if from_logits and inside and head == "softmax":
        raise ValueError(
            f"The {who}'s outputs on the first batch are probabilities, not logits. Take the softmax at "
            "its end away, or make the Distiller with from_logits=False, and compile with a loss that takes "
            "probabilities."
        )
    if not from_logits and not inside:
        raise ValueError(
            f"The {who}'s outputs on the first batch are no probabilities (from {numbers.min():.4g} to "
            f"{numbers.max():.4g}), but from_logits is False. Make the Distiller with from_logits=True."
        )


def _resolved(loss: Any) -> Any:
    """Returns the loss of a name, others as they are."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss


def _named(logits: bool) -> str:
    return "logits" if logits else "probabilities"


def _symbolic_outputs(model: Any) -> list[Any]:
    if not isinstance(model, keras.Model):
        return []
    try:
        found = model.outputs
    except (AttributeError, ValueError):
        return []
    return [each for each in keras.tree.flatten(found) if isinstance(each, keras.KerasTensor)] if found else []


def _activation(tensor: Any) -> str | None:
    """Returns "softmax", "sigmoid", "linear", "other", or None for what cannot be known."""
    history: Any = getattr(tensor, "_keras_history", None)
    layer = None if history is None else history.operation
    if isinstance(layer, keras.Model):
        inner = _symbolic_outputs(layer)
        return _activation(inner[history.tensor_index]) if history.tensor_index < len(inner) else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    if not isinstance(layer, keras.layers.Dense | keras.layers.Activation | keras.layers.EinsumDense):
        return None
    if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear:
        return _activation(layer._inbound_nodes[history.node_index].input_tensors[0])  # It is there for its dtype.
    known = {
        keras.activations.softmax: "softmax",
        keras.activations.sigmoid: "sigmoid",
        keras.activations.linear: "linear",
    }
    activation: str = known.get(layer.activation, "other")
    return activation
