"""Whether a classifier is as sure as it is right; Keras has no measure of calibration."""

import numpy as np

from kerasblocks._arguments import as_integer


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
