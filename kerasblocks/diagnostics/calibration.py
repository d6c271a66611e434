"""Whether a classifier is as sure as it is right; Keras has no measure of calibration."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerasblocks._arguments import as_flag, as_integer


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Computes Σ |B| / n · |accuracy(B) − confidence(B)| over bins B of equal width of the confidence.

    The confidence of a prediction is its largest probability; a bin holds those above its lower end up to its upper
    one. 0 is perfect: of the predictions made with 80 %, 80 % are right.

    Args:
        probabilities: array of shape `(n, classes)`, rows of which add up to 1.
        labels: integers of shape `(n,)`.
        bins: number of bins.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: no samples, other shapes, numbers that are no probabilities, labels out of range, fewer than 1 bin.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.diagnostics import expected_calibration_error
    >>> sure = np.array([[0.9, 0.1]] * 10)
    >>> round(expected_calibration_error(sure, np.array([0] * 9 + [1])), 6)
    0.0
    >>> round(expected_calibration_error(sure, np.array([0] * 5 + [1] * 5)), 6)
    0.4
    """
    bins = as_integer("bins", bins, least=1)
    probabilities, labels = np.asarray(probabilities, "float64"), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not probabilities.size:
        raise ValueError(
            "probabilities must have the shape (samples, classes) and labels (samples,), with one sample or more; got "
            f"{probabilities.shape} and {labels.shape}."
        )
    if not ((probabilities >= 0).all() and (abs(probabilities.sum(1) - 1) < 1e-3).all()):
        raise ValueError("probabilities must be 0 or more, and add up to 1 in each row; apply softmax to logits.")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels must be integers of 0..{probabilities.shape[1] - 1}.")
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, right - confidence, bins)
    return float(abs(gaps).sum() / len(labels))


@keras.saving.register_keras_serializable("kerasblocks")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Computes Σ |Σ w · (right − confidence)| over bins of equal width of the confidence, divided by Σ w.

    The confidence of a prediction is its largest probability; a bin holds those above its lower end up to its upper
    one. 0 is perfect: of the predictions made with 80 %, 80 % are right. The sums run over all samples since the last
    reset, so that the result of an epoch is that of all its samples and not a mean over batches.

    The number has a bias upwards that falls with the samples: of a perfectly calibrated model, about
    Σ √(2/π · n(B) · p(1 − p)) / n.

    Args:
        bins: number of bins.
        from_logits: whether predictions are logits; otherwise they are probabilities.
        name: name in the logs.
        dtype: ignored below float32: the sums are taken in float32.

    Call arguments:
        y_true: integers of the shape of the predictions without the last axis, or with 1 there, or one-hot labels of
            the predictions' shape, whose largest entry is the class. For one output: 0 or 1, of its shape.
        y_pred: predictions of shape `(..., classes)`; or `(..., 1)`, the probability (or logit) of class 1, whose
            confidence is max(p, 1 − p).
        sample_weight: weights of the samples, of the labels' shape without the last axis or one a sample.

    Raises:
        ValueError: fewer than one bin, or labels and predictions whose shapes do not fit.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, equation 3.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.diagnostics import ExpectedCalibrationError
    >>> metric = ExpectedCalibrationError()
    >>> metric.update_state(np.array([0] * 5 + [1] * 5), np.array([[0.9, 0.1]] * 10))
    >>> round(float(metric.result()), 6)
    0.4
    """

    def __init__(
        self,
        bins: int = 15,
        *,
        from_logits: bool = False,
        name: str = "expected_calibration_error",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.bins, self.from_logits = as_integer("bins", bins, least=1), as_flag("from_logits", from_logits)
        self._gaps = self.add_variable((self.bins,), "zeros", dtype="float32", name="gaps")
        self._weight = self.add_variable((), "zeros", dtype="float32", name="weight")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_pred, y_true = ops.cast(ops.convert_to_tensor(y_pred), "float32"), ops.convert_to_tensor(y_true)
        labels = _labels(y_true, y_pred)
        if y_pred.shape[-1] == 1:
            probability = (ops.sigmoid(y_pred) if self.from_logits else y_pred)[..., 0]
            confidence, predicted = ops.maximum(probability, 1 - probability), ops.cast(probability > 0.5, "int32")
        else:
            probabilities = ops.softmax(y_pred) if self.from_logits else y_pred
            confidence, predicted = ops.max(probabilities, axis=-1), ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        gap = ops.cast(ops.equal(predicted, labels), "float32") - confidence
        weight = ops.ones_like(gap) if sample_weight is None else _weights(sample_weight, gap)
        edges = ops.convert_to_tensor([number / self.bins for number in range(1, self.bins)] or [2.0], "float32")
        place = ops.sum(ops.cast(ops.expand_dims(confidence, -1) > edges, "int32"), axis=-1)
        gaps = ops.segment_sum(ops.reshape(gap * weight, (-1,)), ops.reshape(place, (-1,)), self.bins)
        self._gaps.assign_add(gaps)
        self._weight.assign_add(ops.sum(weight))

    def result(self) -> Any:
        return ops.divide_no_nan(ops.sum(ops.abs(self._gaps)), self._weight.value)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        return config | {"bins": self.bins, "from_logits": self.from_logits}


def _labels(y_true: Any, y_pred: Any) -> Any:
    """Returns the labels as integers of the predictions' shape without its last axis."""
    ranks = len(y_true.shape), len(y_pred.shape)
    classes = y_pred.shape[-1] if ranks[1] > 1 else None
    if classes is not None and ranks[0] == ranks[1] and y_true.shape[-1] == classes > 1:
        return ops.cast(ops.argmax(y_true, axis=-1), "int32")
    if classes is not None and ranks[0] == ranks[1] and y_true.shape[-1] == 1:
        return ops.cast(y_true[..., 0], "int32")
    if classes is not None and ranks[0] == ranks[1] - 1:
        return ops.cast(y_true, "int32")
    raise ValueError(
        "y_pred must have the shape (..., classes), and y_true that shape, or it without the last axis or with 1 "
        f"there; got {tuple(y_pred.shape)} and {tuple(y_true.shape)}."
    )


def _weights(sample_weight: Any, gap: Any) -> Any:
    weight = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
    if len(weight.shape) == len(gap.shape) + 1 and weight.shape[-1] == 1:
        weight = weight[..., 0]
    if len(weight.shape) > len(gap.shape):
        raise ValueError(
            f"sample_weight must have the labels' shape, or one weight a sample; got {tuple(weight.shape)} for "
            f"{tuple(gap.shape)}."
        )
    weight = ops.reshape(weight, (*ops.shape(weight), *[1] * (len(gap.shape) - len(weight.shape))))
    return weight * ops.ones_like(gap)
