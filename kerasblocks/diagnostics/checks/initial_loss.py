"""Whether the loss at the start is that of a model that knows nothing."""

from typing import Any

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._head import expected_loss
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned, wrong

_HIGH, _TOO_HIGH, _LOW = 1.8, 3.0, 0.3
_PENALTY, _TOO_MUCH_PENALTY = 1.0, 3.0  # of the loss of the data


def check(case: Case) -> Finding:
    """Fails where the loss is more than three times ln C, or a penalty drowns it; warns where it is far below.

    Below ln C lies the entropy of the classes' shares, with which a bias may begin; weights of samples scale both.
    """
    if case.begins_trained:
        return not_applicable("The model has been trained.")
    loss, _ = case.gradients
    penalty = case.penalty
    data = loss - penalty
    figures = {"loss": data, "penalty": penalty}
    if penalty > _PENALTY * abs(data):
        told = (
            f"The penalty on weights or activities is {penalty:.3g}, and the loss of the data {data:.3g}: it is "
            "learned first."
        )
        remedy = "Lower the factor of the regularizers; 1e-4 is usual for L2."
        return wrong(penalty > _TOO_MUCH_PENALTY * abs(data), told, remedy, **figures)
    expected = None if case.head is None else expected_loss(case.head)
    if case.head is None or expected is None or not np.isfinite(data):
        return not_applicable("Nothing is known of what this loss should be at the start.")
    weight = _mean_weight(case.batch[2])
    expected *= weight
    figures["expected"] = expected
    told = f"The loss at the start is {data:.4g}; a model that knows nothing has {expected:.4g}."
    if data > _HIGH * expected + 0.3 * weight:
        remedy = "The model is sure and wrong: look at the scale of inputs, the starting weights, the last activation."
        return wrong(data > _TOO_HIGH * expected + weight, told, remedy, **figures)
    if data < _LOW * expected * _entropy(case, expected / weight):
        return warned(
            told,
            "Look whether labels or the loss reach the model: it knows too much, or the loss is of another kind.",
            **figures,
        )
    return passed(told, **figures)


def _mean_weight(weights: Any) -> float:
    known = isinstance(weights, np.ndarray) and weights.size > 0 and bool(np.isfinite(weights).all())
    return float(weights.mean()) or 1.0 if known else 1.0


def _entropy(case: Case, expected: float) -> float:
    """Returns the entropy of the classes' shares, as a part of what a model has that does not know these."""
    if case.classes is None or expected <= 0:
        return 1.0
    shares = np.unique(case.classes, return_counts=True)[1] / len(case.classes)
    units = max(2, case.head.units) if case.head is not None else 2
    return float(-(shares * np.log(shares)).sum() / np.log(units))
