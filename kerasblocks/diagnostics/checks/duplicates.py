"""Whether samples are there more than once, and with one label."""

import keras
import numpy as np

from kerasblocks.data._row_keys import row_keys
from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_MANY, _TOO_MANY = 0.02, 0.1
_EVEN, _UNEVEN = 1.5, 2.0  # of the largest class by the smallest


def check(case: Case) -> Finding:
    """Fails where more than a tenth of the samples are copies."""
    found = case.audit
    if found.coincidences:
        return not_applicable("There are so few different samples that equal ones are to be expected.")
    share = found.duplicates / found.samples
    told = f"{found.duplicates} of {found.samples} samples are copies of earlier ones, as {found.duplicate_pairs[:3]}."
    remedy = "Leave copies out (numpy.unique with axis=0), before the data are split."
    figures = {"duplicates": found.duplicates, "share": share, "pairs": found.duplicate_pairs}
    if share > _MANY and _balance(case):
        return passed(f"{told} They make rare classes as frequent as the others.", **figures)
    if share > _MANY:
        return wrong(share > _TOO_MANY, told, remedy, **figures)
    return passed(told if found.duplicates else "No sample is there twice.", **figures)


def _balance(case: Case) -> bool:
    """Returns whether the classes are about equally frequent with the copies, and not without them."""
    classes = case.classes
    if classes is None:
        return False
    _, first = np.unique(np.array(row_keys(keras.tree.flatten(case.samples[0]))), return_index=True)
    every, different = (np.unique(each, return_counts=True)[1] for each in (classes, classes[first]))
    return bool(every.max() < _EVEN * every.min() and different.max() > _UNEVEN * different.min())
