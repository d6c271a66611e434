"""Whether every unit of the output has examples to learn from."""

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned

_ENOUGH = 5  # samples a unit, from which on a class would be among them


def check(case: Case) -> Finding:
    """Fails where a class has no example though there are samples enough."""
    head, classes = case.head, case.classes
    if head is None or head.loss not in ("sparse", "categorical") or classes is None or head.units < 2:
        return not_applicable("The check is for one class a sample.")
    there = set(classes.tolist())
    absent = [number for number in range(head.units) if number not in there]
    if not absent:
        return passed(f"All {head.units} classes have examples.")
    told = f"{len(absent)} of {head.units} classes have no example among {len(classes)} samples, as {absent[:5]}."
    remedy = "Add examples, or leave the units out; look whether a split or a sort has taken the class away."
    judged = failed if len(classes) >= _ENOUGH * head.units else warned
    return judged(told, remedy, absent=absent[:20], samples=len(classes))
