"""Whether a trained model does on validation data as it does on what it was trained on."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._head import expected_loss
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned

_WORSE, _MUCH_WORSE = 2.0, 5.0
_LEARNED = 0.7  # of the loss of a model that knows nothing


def check(case: Case) -> Finding:
    """Warns where a trained model over- or underfits, and fails where validation is many times worse."""
    if not case.is_trained or case.validation is None:
        return not_applicable("The model has not been trained, or there are no validation data.")
    train, validation = case.losses_of_samples
    figures = {"training": train, "validation": validation}
    nothing = None if case.head is None else expected_loss(case.head)
    told = f"The loss is {train:.4g} in training and {validation:.4g} in validation"
    if nothing is not None and train > _LEARNED * nothing:
        return warned(
            f"{told}, {nothing:.3g} for a model that knows nothing: it underfits.",
            "Train longer, at a better rate, or take a larger model.",
            **figures,
        )
    if np.isfinite(validation) and validation > _WORSE * train + 0.05:
        judged = failed if nothing is not None and validation > max(nothing, _MUCH_WORSE * train) else warned
        return judged(
            f"{told}: it overfits.",
            "Stop earlier, take more data, augmentation, dropout or weight decay, or a smaller model.",
            **figures,
        )
    return passed(f"{told}.", **figures)
