"""Whether validation samples are among the training samples."""

import math

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, wrong

_TOO_MANY = 0.01
_CHOICES = 6.0  # times log₂(samples): samples with fewer bits may recur
_TOO_MANY_NEAR = 0.03


def check(case: Case) -> Finding:
    """Fails where more than 1 % of the validation samples were trained on, or 3 % nearly."""
    found = case.audit
    if not found.validation_samples:
        return not_applicable("There are no validation data.")
    if found.coincidences:
        return not_applicable("There are so few different samples that equal ones are to be expected.")
    share, near = found.shared / found.validation_samples, found.near / found.validation_samples
    figures = {"shared": found.shared, "share": share, "shared_expected": found.shared_expected}
    figures |= {"near": found.near, "near_expected": found.near_expected}
    remedy = "Split before samples are copied, augmented or cut up, and by their source: person, document, day."
    # In tables of choices, samples that recur among those for training recur in validation.
    recurs = found.bits < _CHOICES * math.log2(max(2, found.samples))
    if found.shared and not (recurs and share <= 3 * found.shared_expected):
        told = (
            f"{found.shared} of {found.validation_samples} validation samples are in the training data, as "
            f"{found.shared_pairs[:3]} (validation, training)."
        )
        return wrong(share > _TOO_MANY, told, remedy, **figures)
    overlap = found.overlapping / found.validation_samples
    if overlap > _TOO_MANY_NEAR:
        return failed(
            f"{found.overlapping} of {found.validation_samples} validation samples share half or more with a training "
            f"sample, as {found.overlapping_pairs[:3]} (validation, training): windows that overlap.",
            "Split the series by time, or by its source, before windows are cut from it.",
            **figures,
            overlapping=found.overlapping,
        )
    if near > max(_TOO_MANY_NEAR, 3 * found.near_expected):
        return failed(
            f"{found.near} of {found.validation_samples} validation samples are nearly training samples, as "
            f"{found.near_pairs[:3]} (validation, training).",
            remedy,
            **figures,
        )
    told = f"{found.shared or 'None'} of {found.validation_samples} validation samples are in the training data"
    return passed(f"{told}{', as samples recur' if found.shared else ''}.", **figures)
