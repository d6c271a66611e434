"""Whether all numbers of inputs and labels are finite, those for validation too."""

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, passed


def check(case: Case) -> Finding:
    """Fails where an input or a label is NaN or infinite."""
    found = case.audit
    places = [("", each) for each in (*found.inputs, *found.labels)]
    places += [("validation ", each) for each in (*found.validation_inputs, *found.validation_labels)]
    parts = [(f"{where}{each.path}", each) for where, each in places if each.missing or each.infinite]
    figures = {
        "arrays": {
            path: {"nan": each.missing, "infinite": each.infinite, "samples": each.bad_samples} for path, each in parts
        }
    }
    if not parts:
        return passed("All numbers of inputs and labels are finite.", samples=found.samples)
    told = "; ".join(
        f"{path} has {each.missing} NaN and {each.infinite} infinite numbers, as in samples {each.bad_samples}"
        for path, each in parts
    )
    return failed(f"{told}.", "Find these samples with numpy.isfinite, and repair them or leave them out.", **figures)
