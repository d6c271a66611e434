"""Whether the model's outputs, its loss and its gradients are finite on a batch."""

from kerasblocks.diagnostics._case import BudgetError, Case
from kerasblocks.diagnostics.finding import Finding, failed, passed, told_of
from kerasblocks.training import locate_nonfinite


def check(case: Case) -> Finding:
    """Fails where the model, or its loss, cannot be computed, or the first number that is not finite is made there."""
    try:
        case.outputs  # noqa: B018 - computed here first, it may raise
        case.gradients  # noqa: B018
    except BudgetError:
        raise
    except Exception as error:  # of the user's model or loss
        return failed(
            f"The model cannot be called on a batch, or its loss on what comes out: {told_of(error)}",
            "Compare the inputs' shapes and types with the model's (model.summary()), and the labels' with its output.",
        )
    found = locate_nonfinite(case.model, *case.batch)
    figures = {"layer": found.layer, "loss": found.loss, "gradients": found.gradients, "outputs": found.outputs}
    if found.found:
        return failed(
            f"{found.cause[0].upper()}{found.cause[1:]}", f"{found.remedy[0].upper()}{found.remedy[1:]}", **figures
        )
    return passed("Outputs, loss and gradients of a batch are finite.", **figures)
