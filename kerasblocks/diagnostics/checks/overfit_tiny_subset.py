"""Whether the model can learn a handful of samples by heart."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._head import entropy_of
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned, wrong

_SAMPLES, _STEPS = 16, 200
_SECOND_RATE = 2e-2  # of Adam, where the first one has not been enough
_LEARNED, _NEARLY = 0.15, 0.4  # of the loss at the start
_FALLING = 0.9  # of the loss a quarter of the steps before, at the end


def check(case: Case) -> Finding:
    """Fails where the loss of 16 samples does not fall to two fifths of what it was in 200 steps of Adam.

    What has not learned at the first rate is tried at a larger one. Models of which a part is frozen, and such whose
    loss still falls at the end, are only warned of.
    """
    floor = _unavoidable(case)
    losses = case.overfitted(_SAMPLES, _STEPS)
    first = losses[0] - floor
    if first <= 0:
        return not_applicable(f"The loss begins at {losses[0]:.3g}: it is none that ends at 0.")
    if not _share(losses, floor) <= _LEARNED and case.seconds_left() > 0:
        again = case.overfitted(_SAMPLES, _STEPS, _SECOND_RATE)
        losses = min(losses, again, key=lambda each: np.nan_to_num(_share(each, floor), nan=np.inf))
    share = _share(losses, floor)
    figures = {"first": losses[0], "last": losses[-1], "share": share, "losses": losses}
    told = (
        f"The loss of {_SAMPLES} samples fell from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses)} steps of Adam"
    )
    if not np.isfinite(share) or share > _NEARLY:
        quarter = losses[-len(losses) // 4 :]
        still_falls = len(losses) == _STEPS and quarter[-1] - floor < _FALLING * (quarter[0] - floor)
        was_cut_off = len(losses) < _STEPS and np.isfinite(losses[-1])
        is_frozen = len(case.model.trainable_variables) < len(case.model.weights) / 2
        return wrong(
            not (still_falls or was_cut_off or is_frozen),
            f"{told}: the model cannot learn them by heart.",
            "Look at what stands between loss and weights: gradients, activations, dropout, labels.",
            **figures,
        )
    if share > _LEARNED:
        return warned(f"{told}.", "It learns slowly: look at the rate, dropout, penalties and depth.", **figures)
    return passed(f"{told}.", **figures)


def _share(losses: list[float], floor: float) -> float:
    """Returns what is left of the loss at the start."""
    return (min(losses[-5:]) - floor) / (losses[0] - floor)


def _unavoidable(case: Case) -> float:
    """Returns what stays of the loss where all is learned: the entropy of soft labels, and about the first penalty."""
    y = case.batch[1]
    if case.head is None or not isinstance(y, np.ndarray) or y.dtype.kind not in "biuf":
        return case.penalty
    return case.penalty + entropy_of(case.head, y[:_SAMPLES])
