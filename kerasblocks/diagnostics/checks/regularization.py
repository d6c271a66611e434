"""Whether weight decay and clipping leave the loss a say."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, passed, wrong

_DECAY, _TOO_MUCH_DECAY = 3e-3, 1e-2  # of the weights, a step
_CLIPPED, _TOO_CLIPPED = 30.0, 300.0  # times the norm that is let through


def check(case: Case) -> Finding:
    """Fails where a step takes more than 1 % of the weights away, or clipping more than 99.6 % of a gradient."""
    optimizer = getattr(case.model.optimizer, "inner_optimizer", case.model.optimizer)
    decay = float(optimizer.weight_decay or 0) * case.rate
    _, gradients = case.gradients
    norms = [float(np.sqrt((each.astype("float64") ** 2).sum())) for each in gradients.values() if each is not None]
    whole = float(np.sqrt(np.square(norms).sum()))
    figures = {"decay_a_step": decay, "gradient_norm": whole}
    if decay > _DECAY:
        told = (
            f"Weight decay takes {decay:.2%} of the weights away in each step: the rate {case.rate:.3g} times "
            f"{optimizer.weight_decay:g}."
        )
        remedy = "Lower weight_decay: 0.01 to 0.1 at a rate of 1e-3."
        return wrong(decay > _TOO_MUCH_DECAY, told, remedy, **figures)
    clips = [
        ("global_clipnorm", optimizer.global_clipnorm, whole),
        ("clipnorm", optimizer.clipnorm, max(norms, default=0.0)),
        (
            "clipvalue",
            optimizer.clipvalue,
            max((float(abs(each).max()) for each in gradients.values() if each is not None), default=0.0),
        ),
    ]
    for name, limit, size in clips:
        if limit and np.isfinite(size) and size > _CLIPPED * limit:
            told = f"{name}={limit:g} cuts gradients of {size:.3g} down to {limit / size:.1e} of themselves."
            remedy = f"Clip at about the norm that the gradient has, {size:.2g}, or a little above."
            return wrong(size > _TOO_CLIPPED * limit, told, remedy, **figures | {name: limit})
    return passed("Weight decay and clipping leave the gradient its say.", **figures)
