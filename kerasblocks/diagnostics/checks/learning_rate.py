"""Whether the learning rate is one that trains."""

from kerasblocks.diagnostics._case import LATER, Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, wrong

_HIGH, _TOO_HIGH = 10.0, 30.0  # times the suggestion
_LOW, _TOO_LOW = 30.0, 100.0
_OVER = 1e-2  # of the largest rate


def check(case: Case) -> Finding:
    """Fails where the compiled rate is far from what a sweep suggests; warns where no rate makes the loss fall."""
    if case.is_trained:
        return not_applicable("The model has been trained; the sweep is for its start.")
    if case.rate_later < _OVER:
        return failed(
            f"After {LATER} steps the schedule's rate is {case.rate_later:.1e} of its largest: training is over then.",
            "A schedule counts steps, not epochs: give it the number of all of them, or take WarmupCosine.",
            after=LATER,
            part=case.rate_later,
        )
    sweep = case.sweep
    figures = {"compiled": sweep.compiled, "suggestion": sweep.suggestion, "sweep": sweep.as_dict()}
    if sweep.suggestion is None:
        high = sweep.diverged and sweep.compiled > sweep.rates[-1] / 3
        return wrong(
            high,
            f"In {len(sweep.rates)} steps no learning rate from {sweep.rates[0]:.1g} to {sweep.rates[-1]:.1g} makes "
            f"the loss fall; it is {sweep.compiled:.3g}.",
            "Look at the gradients and at the data first. Some models begin with a plateau, which starting weights, "
            "normalization and residual connections shorten; learning_rate_sweep takes more steps and may see its end.",
            **figures,
        )
    told = f"The learning rate is {sweep.compiled:.3g}; a sweep suggests {sweep.suggestion:.2g}"
    if sweep.compiled > _HIGH * sweep.suggestion:
        return wrong(
            sweep.compiled > _TOO_HIGH * sweep.suggestion,
            f"{told}: it is too high.",
            f"Begin with {sweep.suggestion:.1g}.",
            **figures,
        )
    if sweep.compiled < sweep.suggestion / _LOW and not case.begins_trained:  # Fine-tuning wants low rates.
        return wrong(
            sweep.compiled < sweep.suggestion / _TOO_LOW,
            f"{told}: it is too low.",
            f"Begin with {sweep.suggestion:.1g}.",
            **figures,
        )
    return passed(f"{told}.", **figures)
