"""Whether equal samples have equal labels."""

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_TOO_MANY = 0.01


def check(case: Case) -> Finding:
    """Fails where more than one sample in a hundred equals another one with another label."""
    found = case.audit
    if found.coincidences or not found.labels:
        return not_applicable("There are so few different samples that equal ones are to be expected, or no labels.")
    if case.head is not None and case.head.loss in ("regression", "rate", "distribution"):
        return not_applicable("Numbers that are measured twice differ.")
    if len(found.labels[0].shape) > 0 and found.labels[0].shape == found.inputs[0].shape:
        return not_applicable("Texts that begin alike go on in several ways.")
    share = found.conflicting / found.samples
    if not found.conflicting:
        return passed("No two equal samples have different labels.")
    told = (
        f"{found.conflicting} of {found.samples} samples equal another one that has another label, as "
        f"{found.conflicting_pairs[:3]}."
    )
    remedy = "Look at these pairs and settle their labels; no model can learn both."
    return wrong(share > _TOO_MANY, told, remedy, conflicting=found.conflicting, share=share)
