"""A classifier made as sure as it is right, by one number; Keras has nothing that calibrates."""

from typing import Any, Self

import keras
import numpy as np
from keras import ops

from kerasblocks._arguments import as_flag, as_number

_LOW, _HIGH = -10.0, 20.0  # of the logarithm of β times the largest gap: from uniform to 0 and 1
_TINY = 1e-30


@keras.saving.register_keras_serializable("kerasblocks")
class TemperatureScaling(keras.layers.Layer):
    """Divides logits by a temperature: softmax(z / T), with the T that `fit` finds on validation data.

    The predicted class stays what it was; what changes is how sure the model says it is. The temperature is found in
    float64 as the minimum of the mean cross-entropy, which is convex in 1 / T.

    Args:
        temperature: the positive temperature before `fit`.
        from_logits: whether inputs and outputs are logits; otherwise they are probabilities, p^(1/T) / Σ p^(1/T).
        **kwargs: those of `keras.layers.Layer`.

    Call arguments:
        inputs: logits or probabilities of shape `(..., classes)`, or `(..., 1)` for the one output of two classes.

    Returns:
        A tensor of the same shape and kind, in the compute dtype; computed in float32 or better.

    Raises:
        ValueError: a temperature that is not positive and finite.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section 4.2.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.diagnostics import TemperatureScaling
    >>> logits = np.array([[4.0, 0.0]] * 10)  # sure to 98 %, and right in 8 of 10
    >>> scaling = TemperatureScaling().fit(logits, np.array([0] * 8 + [1] * 2))
    >>> round(scaling.temperature, 3)
    2.885
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    >>> calibrated = keras.Sequential([model, scaling])
    """

    def __init__(self, temperature: float = 1.0, *, from_logits: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._first = as_number("temperature", temperature)
        if self._first <= 0:
            raise ValueError(f"temperature must be positive and finite; got {temperature!r}.")
        self.from_logits = as_flag("from_logits", from_logits)
        self._temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self._first),
            dtype="float32",
            trainable=False,
            autocast=False,
            name="temperature",
        )

    @property
    def temperature(self) -> float:
        """The temperature in use; above 1 the model was too sure."""
        return float(ops.convert_to_numpy(self._temperature.value))

    def build(self, input_shape: Any) -> None:
        self.built = True

    def call(self, inputs: Any) -> Any:
        inputs = ops.convert_to_tensor(inputs)
        wide = inputs if keras.backend.standardize_dtype(inputs.dtype) == "float64" else ops.cast(inputs, "float32")
        temperature = ops.cast(self._temperature.value, wide.dtype)
        if self.from_logits:
            scaled = wide / temperature
        elif inputs.shape[-1] == 1:
            scaled = ops.sigmoid((ops.log(wide + _TINY) - ops.log(1 - wide + _TINY)) / temperature)
        else:
            scaled = ops.softmax(ops.log(wide + _TINY) / temperature)
        return ops.cast(scaled, self.compute_dtype)

    def fit(self, outputs: Any, labels: Any, sample_weight: Any = None) -> Self:
        """Sets the temperature to the one that makes the mean cross-entropy of these outputs least.

        Args:
            outputs: what the model says of validation data that it was not trained on, of shape `(..., classes)` or
                `(..., 1)`: logits, or probabilities without `from_logits`.
            labels: integers of that shape without its last axis (or with 1 there), or one-hot labels.
            sample_weight: weights of the samples, 0 or more, of the labels' shape.

        Returns:
            The layer.

        Raises:
            ValueError: shapes that do not fit, labels out of range, numbers that are not finite; or there is no such
                temperature: every prediction is right (no samples with an error, so T would be 0), or predictions are
                no better than chance (T would be infinite). The temperature stays what it was then.
        """
        logits, labels, weights = self._checked(outputs, labels, sample_weight)
        self._temperature.assign(1 / _least_cross_entropy(logits, labels, weights))
        return self

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        return config | {"temperature": self._first, "from_logits": self.from_logits}

    def _checked(self, outputs: Any, labels: Any, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns logits of shape `(n, classes)`, labels and weights of shape `(n,)`, in float64."""
        outputs = np.asarray(ops.convert_to_numpy(outputs), "float64")
        labels = np.asarray(ops.convert_to_numpy(labels))
        if outputs.ndim < 2 or not outputs.size:
            raise ValueError(f"outputs must have the shape (..., classes), with samples; got {outputs.shape}.")
        classes = max(2, outputs.shape[-1])
        if labels.shape == outputs.shape and outputs.shape[-1] > 1:
            labels = labels.argmax(-1)
        if labels.shape == (*outputs.shape[:-1], 1):
            labels = labels[..., 0]
        if labels.shape != outputs.shape[:-1]:
            raise ValueError(f"labels must have the shape {outputs.shape[:-1]}; got {labels.shape}.")
        if not ((labels == np.floor(labels)) & (labels >= 0) & (labels < classes)).all():
            raise ValueError(f"labels must be integers of 0..{classes - 1}.")
        weights = np.ones(labels.shape) if sample_weight is None else np.asarray(sample_weight, "float64")
        if weights.shape != labels.shape or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise ValueError(f"sample_weight must be finite, 0 or more, and of the shape {labels.shape}.")
        if not self.from_logits and not ((outputs >= 0) & (outputs <= 1)).all():
            raise ValueError("outputs must be probabilities of 0..1; for logits use from_logits=True.")
        if outputs.shape[-1] == 1:
            logits = outputs if self.from_logits else np.log(outputs + _TINY) - np.log(1 - outputs + _TINY)
            logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        else:
            logits = outputs if self.from_logits else np.log(outputs + _TINY)
        if not np.isfinite(logits).all():
            raise ValueError("outputs must be finite.")
        return logits.reshape(-1, classes), labels.reshape(-1).astype(int), weights.reshape(-1)


def _least_cross_entropy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Returns the β > 0 for which Σ w · (log Σ exp(β z) − β z_label) is least: where its slope, that rises, is 0."""
    gaps = logits - logits[np.arange(len(labels)), labels][:, None]
    scale = np.abs(gaps).max() or 1.0  # so that the range of β does not depend on the size of the logits
    gaps = gaps / scale

    def slope(log_beta: float) -> float:
        exponents = gaps * np.exp(log_beta)
        shares = np.exp(exponents - exponents.max(1, keepdims=True))
        return float((weights * (shares * gaps).sum(1) / shares.sum(1)).sum())

    low, high = _LOW, _HIGH
    if slope(low) >= 0:
        raise ValueError("No temperature helps: the predictions are no better than chance on these samples.")
    if slope(high) <= 0:
        raise ValueError(
            "No temperature is best: every prediction is right, and the surer the better. Use validation data, and "
            "more of it."
        )
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp(low)) / float(scale)
