"""Whether outputs depend on the input."""

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed

_ALIKE = 1e-5


def check(case: Case) -> Finding:
    """Fails where different samples give the same output, and still do after a few steps.

    A last layer that begins at 0 gives the same output to all at first, and is none the worse for it.
    """
    outputs = [each.astype("float64") for each in keras.tree.flatten(case.outputs) if each.ndim > 0 and len(each) > 1]
    if not outputs:
        return not_applicable("There is one sample only.")
    spread, size = _spread(outputs[0])
    figures = {"spread": spread, "size": size}
    if not np.isfinite(spread):
        return not_applicable("Outputs are not finite.")
    if spread <= _ALIKE * max(size, 1e-30):
        later, its_size = _spread(keras.tree.flatten(case.outputs_after_some_steps)[0].astype("float64"))
        figures |= {"spread_after_some_steps": later}
        if not later > _ALIKE * its_size:
            return failed(
                f"All samples have the same output: they differ by {spread:.2g} where outputs are of size {size:.2g}, "
                "after a few steps too.",
                "Look for a layer that is multiplied by 0, for units that are all dead, for softmax over an axis of 1, "
                "and for an input that is not connected.",
                **figures,
            )
        return passed(
            f"All samples have the same output at first; after a few steps they differ by {later:.2g}.", **figures
        )
    return passed(f"Outputs of different samples differ by {spread:.3g}, where they are of size {size:.3g}.", **figures)


def _spread(outputs: np.ndarray) -> tuple[float, float]:
    return float(np.sqrt(((outputs - outputs.mean(0)) ** 2).mean())), float(np.sqrt((outputs**2).mean()))
