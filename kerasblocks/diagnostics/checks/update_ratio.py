"""Whether the steps of training are of the size that the weights ask for."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, wrong

_SMALL, _TOO_SMALL = 1e-5, 1e-6  # of the weights, a step
_LARGE, _TOO_LARGE = 0.3, 1.0


def check(case: Case) -> Finding:
    """Fails where a step changes the weights by more than they are, by next to nothing, or not at all.

    The ratio is the root mean square of a step's update of a matrix by that of the matrix, at the compiled rate, of a
    schedule at its largest. About 1e-3 is usual; steps of Adam begin with up to a hundred times as much.

    Source: Karpathy, CS231n lecture notes, "Ratio of weights:updates".
    """
    ratios, whole = case.update_ratios
    if not ratios:
        return not_applicable("No update was made in a few steps, or all matrices begin at 0.")
    middle = float(np.median(list(ratios.values())))
    figures = {"median": middle, "whole": whole, "ratios": ratios}
    still = [path for path, ratio in ratios.items() if ratio == 0 and np.any(case.gradients[1][path])]
    if still:
        return failed(
            f"{still[0]} gets a gradient, and stays the same to the last bit.",
            "The update is lost when it is rounded to the weight's precision: keep weights in float32 (mixed_bfloat16, "
            "mixed_float16), or look at clipping and the rate.",
            **figures,
        )
    told = (
        f"A step changes the weights by {middle:.1e} of themselves (median of {len(ratios)} matrices; all: {whole:.1e})"
    )
    if whole > _LARGE:
        remedy = "Lower the learning rate, or look at starting weights that are far too small."
        return wrong(whole > _TOO_LARGE, f"{told}: too much.", remedy, **figures)
    if middle < _SMALL and not case.is_trained:
        remedy = "Raise the learning rate, and look at clipping and at gradients that vanish."
        return wrong(middle < _TOO_SMALL, f"{told}: they hardly move.", remedy, **figures)
    return passed(f"{told}.", **figures)
