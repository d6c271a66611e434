"""Whether a model that predicts the next token sees only those before."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed

_FAR = 2e-3  # of the outputs' size


def check(case: Case) -> Finding:
    """Fails where outputs at earlier positions change with later tokens, which are the labels."""
    x, y = case.batch[:2]
    if not (
        isinstance(x, np.ndarray)
        and isinstance(y, np.ndarray)
        and x.ndim == 2
        and x.shape == y.shape
        and x.shape[1] >= 4
        and (x[:, 1:] == y[:, :-1]).all()
    ):
        return not_applicable("The check is for texts whose labels are the next tokens.")
    half = x.shape[1] // 2
    other = np.concatenate([x[:, :half], np.roll(x[:, half:], 1, axis=0)], 1)
    one, two = (np.asarray(case.forward(each), "float64") for each in (x, other))
    if one.shape[:2] != x.shape or not (np.isfinite(one).all() and np.isfinite(two).all()):
        return not_applicable("The model does not give finite numbers for each position.")
    size = float(np.sqrt((one**2).mean()))
    change = float(abs(one[:, :half] - two[:, :half]).max())
    figures = {"change": change, "size": size}
    if change > _FAR * max(size, 1e-30):
        return failed(
            f"Outputs at earlier positions change by {change:.3g}, of {size:.3g}, with later tokens, which they are to "
            "predict.",
            "Mask what comes later (use_causal_mask=True of attention, padding='causal' of Conv1D), and read in one "
            "direction only.",
            **figures,
        )
    return passed("Outputs do not depend on later tokens.", **figures)
