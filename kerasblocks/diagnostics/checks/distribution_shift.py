"""Whether validation data are of the kind that is trained on."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned, wrong

_MUCH, _TOO_MUCH = 0.25, 0.6  # of the statistic, from 0 to 1


def check(case: Case) -> Finding:
    """Fails where the distributions of an input, or of the classes, hardly overlap."""
    shift = case.audit.shift
    if shift is None:
        return not_applicable("There are no validation data.")
    figures = {"statistic": shift.statistic, "by_chance": shift.threshold, "quantity": shift.quantity}
    remedy = "Prepare both in the same way, and shuffle before splitting where they come from one source."
    if shift.means is not None and shift.statistic > max(shift.threshold, _MUCH):
        told = (
            f"{shift.quantity} differs between training (mean {shift.means[0]:.4g}) and validation "
            f"({shift.means[1]:.4g}): the Kolmogorov-Smirnov statistic is {shift.statistic:.2f}, by chance "
            f"{shift.threshold:.2f} at most."
        )
        if _rises(case, shift.quantity):
            return warned(
                f"{told} It only rises from sample to sample, as time does.",
                "A split by time is right where the model is to tell the future; it should not see the time itself.",
                **figures,
            )
        return wrong(shift.statistic > _TOO_MUCH, told, remedy, **figures)
    if shift.labels is not None and shift.labels_threshold is not None:
        figures |= {"labels": shift.labels, "labels_by_chance": shift.labels_threshold}
        if shift.labels > max(shift.labels_threshold, _MUCH):
            told = f"{shift.labels:.0%} of the classes' shares differ between training and validation."
            return wrong(shift.labels > _TOO_MUCH, told, remedy, **figures)
    return passed(f"The largest difference, of {shift.quantity}, is {shift.statistic:.2f} of 1.", **figures)


def _rises(case: Case, quantity: str) -> bool:
    """Returns whether a feature never falls in the order of the samples, or never rises."""
    x, place = case.samples[0], quantity.removeprefix("x[").removesuffix("]")
    if not isinstance(x, np.ndarray) or x.ndim != 2 or not place.isdigit() or len(x) < 3:
        return False
    steps = np.diff(x[:, int(place)].astype("float64"))
    return bool((steps >= 0).all() or (steps <= 0).all())
