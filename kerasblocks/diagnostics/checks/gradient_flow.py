"""Whether gradients reach the first layers with the size that they have at the last."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_SMALL, _TOO_SMALL = 1e-3, 1e-4
_LARGE, _TOO_LARGE = 1e2, 1e3  # of the whole gradient, by the loss


def check(case: Case) -> Finding:
    """Fails where gradients vanish or explode on their way."""
    loss, gradients = case.gradients
    # Biases of keys in attention have the gradient 0, for softmax does not see them.
    kernels = {
        path: each
        for path, each in gradients.items()
        if each is not None and each.ndim >= 2 and each.any() and not path.endswith("bias")
    }
    if not kernels or not all(np.isfinite(each).all() for each in kernels.values()):
        return not_applicable("There are no gradients of matrices to compare.")
    sizes = {path: float(np.sqrt((each.astype("float64") ** 2).mean())) for path, each in kernels.items()}
    norm = float(np.sqrt(sum((each.astype("float64") ** 2).sum() for each in kernels.values())))
    largest = max(sizes.values())
    smallest = min(sizes, key=lambda path: sizes[path])
    ratio = sizes[smallest] / largest
    figures = {"norm": norm, "smallest_by_largest": ratio, "smallest": smallest, "sizes": sizes}
    by_loss = norm / max(1.0, abs(loss))  # for a loss ten times as large has a gradient ten times as large
    if by_loss > _LARGE:
        told = f"The norm of the gradient is {norm:.3g}, of a loss of {loss:.3g}: it explodes."
        remedy = "Scale the inputs, lower the starting weights, normalize between layers, clip by norm."
        return wrong(by_loss > _TOO_LARGE, told, remedy, **figures)
    if ratio < _SMALL and len(sizes) > 1:
        told = f"The gradient of {smallest} is {ratio:.2g} times the largest one: it vanishes on the way."
        remedy = (
            "Take ReLU or its kin for saturating activations, residual connections, normalization, starting weights by "
            "fan-in."
        )
        return wrong(ratio < _TOO_SMALL, told, remedy, **figures)
    return passed(
        f"The norm of the gradient is {norm:.3g}; the smallest layer's is {ratio:.2g} times the largest one's.",
        **figures,
    )
