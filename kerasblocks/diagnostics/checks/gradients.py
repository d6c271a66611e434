"""Whether every trainable variable gets a gradient."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed


def check(case: Case) -> Finding:
    """Fails where a gradient is missing, or exactly 0 on a whole batch."""
    _, gradients = case.gradients
    if not gradients:
        return not_applicable("No variable is trainable.")
    without = [path for path, each in gradients.items() if each is None or (each.size and not each.any())]
    if without:
        _, later = case.gradients_after_some_steps  # Branches that begin at 0 wake up.
        without = [path for path in without if not np.any(later[path])]
    bad = [path for path, each in gradients.items() if each is not None and not np.isfinite(each).all()]
    figures = {"without": without[:20], "not_finite": bad[:20], "variables": len(gradients)}
    if bad:
        return failed(
            f"The gradient of {', '.join(bad[:3])} is not finite.",
            "Keep square roots, norms, logarithms and divisions away from 0 by an epsilon inside.",
            **figures,
        )
    if without:
        return failed(
            f"{len(without)} of {len(gradients)} trainable variables get no gradient, as {', '.join(without[:3])}.",
            "Look at what comes behind these: stop_gradient, rounding, argmax, units that are all dead, a branch that "
            "is not used, weights of 0.",
            **figures,
        )
    return passed(f"All {len(gradients)} trainable variables get a gradient.", **figures)
