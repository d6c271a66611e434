"""Whether units that rectify are ever above 0."""

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_MANY, _TOO_MANY = 0.4, 0.6
_RECTIFIERS = ("relu", "relu6")


def check(case: Case) -> Finding:
    """Fails where more than six of ten units of a layer are 0 for every sample of the batch."""
    layers = [each for each in case.inference.layers if each.activation in _RECTIFIERS]
    if not layers:
        return not_applicable("No layer rectifies.")
    worst = max(layers, key=lambda each: each.zero_units)
    figures = {"layers": {each.path: each.zero_units for each in layers}}
    if worst.zero_units > _MANY:
        told = (
            f"{worst.zero_units:.0%} of the units of {worst.path} are 0 for all samples of a batch: they learn nothing."
        )
        remedy = (
            "Look at its bias and the rate of training that led here; begin with biases of 0, or take a leaky ReLU."
        )
        return wrong(worst.zero_units > _TOO_MANY, told, remedy, **figures)
    return passed(f"At most {worst.zero_units:.0%} of the units of a layer are never above 0.", **figures)
