"""Whether the units of a layer begin differently."""

from typing import Any

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._layer_record import as_numbers
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed

_NO_KERNELS = ("gamma", "beta", "alpha", "bias", "scale", "slope", "lora")


def check(case: Case) -> Finding:
    """Fails where all units of a layer have the same weights, for then they learn the same."""
    if case.is_trained:
        return not_applicable("The model has been trained.")
    kernels = [variable for variable in case.model.trainable_variables if _is_kernel(variable)]
    alike = []
    for variable in kernels[:-1]:  # A last layer of 0 is a good start.
        values = as_numbers(variable).astype("float64")
        rows = values.reshape(-1, values.shape[-1])
        if rows.shape[1] > 1 and not (rows - rows[:, :1]).any():
            alike.append((variable.path, bool(rows.any())))
    # One branch of a residual block, or of an adapter, may begin at 0; a constant breaks no symmetry anywhere.
    constant = [path for path, is_constant in alike if is_constant]
    zeros = [path for path, is_constant in alike if not is_constant]
    figures = {"constant": constant, "zero": zeros, "kernels": len(kernels)}
    if constant or len(zeros) > len(kernels) / 2:
        path = (constant or zeros)[0]
        return failed(
            f"All units of {path} begin with the same weights{'' if constant else ', 0'}: they will stay the same.",
            "Draw starting weights at random (glorot_uniform, he_normal); zeros are for biases.",
            **figures,
        )
    return passed("The units of each layer begin differently.", **figures)


def _is_kernel(variable: Any) -> bool:
    """Returns whether a variable has two axes, and is no scale or slope, which begin alike for all units."""
    return sum(size > 1 for size in variable.shape) >= 2 and not any(part in variable.name for part in _NO_KERNELS)
