"""Whether some classes are so rare that never naming them costs little."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_UNEQUAL, _TOO_UNEQUAL = 7.0, 15.0


def check(case: Case) -> Finding:
    """Fails where the largest class is more than 15 times the smallest, and nothing weighs the samples.

    What `class_weight` of `fit` weighs is not known here: give `checkup` the weights as `sample_weight`.
    """
    classes, weights = case.classes, case.samples[2]
    if classes is None or len(np.unique(classes)) < 2 or len(np.unique(classes)) > max(2, len(classes) // 5):
        return not_applicable("The check is for one class a sample.")
    if isinstance(weights, np.ndarray) and weights.shape[:1] == classes.shape:
        return not_applicable("Samples are weighted.")
    numbers, counts = np.unique(classes, return_counts=True)
    ratio = float(counts.max() / counts.min())
    figures = {"ratio": ratio, "largest": int(counts.max()), "smallest": int(counts.min())}
    share = counts.max() / counts.sum()
    told = (
        f"Class {numbers[counts.argmax()]} has {ratio:.3g} times as many samples as class {numbers[counts.argmin()]}: "
        f"always naming it is right in {share:.1%}."
    )
    remedy = "Weigh classes (class_weight of fit) or draw the rare ones more often, and look at more than accuracy."
    if ratio > _UNEQUAL and counts.min() >= 1 and len(classes) >= 50:
        return wrong(ratio > _TOO_UNEQUAL, told, remedy, **figures)
    return passed(f"The largest class has {ratio:.3g} times the samples of the smallest.", **figures)
