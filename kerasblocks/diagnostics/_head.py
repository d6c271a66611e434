"""What a model's output and its loss make of each other: logits or probabilities, classes or numbers."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

_CROSS_ENTROPIES = {
    "sparse_categorical_crossentropy": "sparse",
    "categorical_crossentropy": "categorical",
    "categorical_focal_crossentropy": "categorical",
    "binary_crossentropy": "binary",
    "binary_focal_crossentropy": "binary",
    "kl_divergence": "distribution",
    "kullback_leibler_divergence": "distribution",
    "poisson": "rate",
}
_REGRESSIONS = (
    *("mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error"),
    *("huber", "log_cosh", "mse", "mae", "mape", "msle"),
)
_GIVES = {
    "softmax": "probabilities",
    "sigmoid": "rates",
    "hard_sigmoid": "rates",
    "hardsigmoid": "rates",
    "tanh": "bounded",
    "relu": "rectified",
    "relu6": "rectified",
    "linear": "logits",
}
_KEEPS = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Permute, keras.layers.Dropout, keras.layers.Identity)
_ROUNDED = 2e-2  # what half precision makes of a sum of 1


@dataclasses.dataclass(frozen=True)
class Head:
    """The one output of a model, and its loss.

    Attributes:
        loss: `"sparse"`, `"categorical"` or `"binary"` (cross-entropies), `"distribution"`, `"rate"`, `"regression"`,
            or `"other"`, which nothing is known of.
        loss_name: the loss as the user knows it.
        from_logits: whether the loss takes logits; None where it takes neither.
        gives: `"probabilities"` (rows add up to 1), `"other axis"` (a softmax whose rows do not), `"rates"` (each from
            0 to 1 by a sigmoid), `"bounded"` (−1 to 1 by tanh), `"rectified"` (0 and more by ReLU), `"logits"`, or
            `"unknown"`, where the model does not tell its last activation and the numbers fit several.
        activation: name of the last activation, None where it is not known.
        units: size of the last axis.
        smoothing: the loss's label smoothing.
        factor: what a focal loss makes of the cross-entropy of a model that knows nothing.
        ignored: the class of labels that do not count, None where all do.
    """

    loss: str
    loss_name: str
    from_logits: bool | None
    gives: str
    activation: str | None
    units: int
    smoothing: float = 0.0
    factor: float = 1.0
    ignored: int | None = None


def head_of(model: keras.Model, outputs: np.ndarray) -> Head | None:
    """Returns what is known of the model's head, None where there are several outputs or losses."""
    loss = model.loss
    if isinstance(loss, dict | list | tuple):
        values = list(loss.values() if isinstance(loss, dict) else loss)
        if len(values) != 1:
            return None
        (loss,) = values
    if loss is None or not isinstance(outputs, np.ndarray) or outputs.ndim < 1:
        return None
    given = keras.losses.get(loss) if isinstance(loss, str | dict) else loss
    function = getattr(given, "fn", given)
    known = getattr(function, "__name__", type(given).__name__)
    kind = _CROSS_ENTROPIES.get(known) or ("regression" if known in _REGRESSIONS else "other")
    options = getattr(given, "_fn_kwargs", {})
    takes_either = kind in ("sparse", "categorical", "binary")
    activation, units = _last_activation(model), outputs.shape[-1] if outputs.ndim > 1 else 1
    return Head(
        loss=kind,
        loss_name=type(given).__name__ if isinstance(given, keras.losses.Loss) else known,
        from_logits=bool(options.get("from_logits", False)) if takes_either else None,
        gives=_given(outputs, activation),
        activation=activation,
        units=units,
        smoothing=float(options.get("label_smoothing") or 0.0),
        factor=_focal_factor(known, options, units),
        ignored=options.get("ignore_class"),
    )


def expected_loss(head: Head) -> float | None:
    """Returns the loss of a head that knows nothing yet: ln C, or ln 2 for each unit of two classes."""
    if head.loss in ("sparse", "categorical"):
        return head.factor * math.log(max(2, head.units))
    return head.factor * math.log(2) if head.loss == "binary" else None


def entropy_of(head: Head, labels: np.ndarray) -> float:
    """Returns the least cross-entropy that these labels allow: their own entropy, more than 0 where they are soft."""
    values = labels.astype("float64")
    if head.loss == "binary" and values.min() >= 0 and values.max() <= 1:
        values = values * (1 - head.smoothing) + head.smoothing / 2
        return float(_plogp(values).mean() + _plogp(1 - values).mean())
    if head.loss == "categorical" and values.ndim > 1 and values.min() >= 0:
        values = values * (1 - head.smoothing) + head.smoothing / values.shape[-1]
        return float(_plogp(values).sum(-1).mean())
    return 0.0


def _plogp(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = -values * np.log(np.maximum(values, 1e-300))
    return found


def _focal_factor(loss: str, options: dict[str, Any], units: int) -> float:
    if "focal" not in loss:
        return 1.0
    gamma, alpha = float(options.get("gamma", 2.0)), float(options.get("alpha", 0.25))
    if loss.startswith("binary"):
        return float(0.5**gamma) * (0.5 if options.get("apply_class_balancing") else 1.0)
    return alpha * float((1 - 1 / max(2, units)) ** gamma)


def _last_activation(model: Any) -> str | None:
    """Returns the name of the activation that makes the output, where the model tells."""
    try:
        operation = keras.tree.flatten(model.outputs)[0]._keras_history.operation
        while isinstance(operation, _KEEPS) or _is_linear(operation):
            operation = operation._inbound_nodes[-1].input_tensors[0]._keras_history.operation
    except (AttributeError, IndexError, ValueError):
        return None
    if isinstance(operation, keras.Model):
        return _last_activation(operation)
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return getattr(activation, "__name__", None)
    name = type(operation).__name__.lower()  # of layers such as Softmax, and of operations of keras.ops
    return name if name in _GIVES else None


def _is_linear(operation: Any) -> bool:
    return type(operation) is keras.layers.Activation and operation.activation is keras.activations.linear


def _given(outputs: np.ndarray, activation: str | None) -> str:
    values = outputs.astype("float64")
    normal = outputs.ndim > 1 and outputs.shape[-1] > 1 and bool((abs(values.sum(-1) - 1) < _ROUNDED).all())
    if activation in _GIVES:
        given = _GIVES[activation]
        is_other_axis = given == "probabilities" and outputs.shape[-1:] != (1,) and not normal and _finite(values)
        return "other axis" if is_other_axis else given
    if not _finite(values) or values.std() == 0:
        return "unknown"
    if values.min() < 0 or values.max() > 1:
        return "logits"
    if normal:
        return "probabilities"
    ends = float(((values < 0.02) | (values > 0.98)).mean())
    in_the_middle = values.min() > 0.02 and abs(float(np.median(values)) - 0.5) < 0.25
    is_sigmoid = in_the_middle or (ends > 0.9 and values.min() < 0.02 and values.max() > 0.98)
    return "rates" if values.size > 8 and is_sigmoid else "unknown"


def _finite(values: np.ndarray) -> bool:
    return bool(values.size) and bool(np.isfinite(values).all())
