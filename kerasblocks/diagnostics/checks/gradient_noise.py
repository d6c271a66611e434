"""How much the gradient differs from batch to batch, and what another batch size would do."""

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned


def check(case: Case) -> Finding:
    """Tells the simple noise scale tr(Σ) / |G|², the batch size at which noise and gradient are equally large.

    With a noise scale N, batches of B samples want a number of steps in proportion to 1 + N / B for the same loss, at
    a rate that suits each; the figures have it for a quarter to four times the batch size, as a part of the present
    number.

    Source: McCandlish, Kaplan and Amodei, "An empirical model of large-batch training", 2018, appendix A.1.
    """
    found = case.batch_gradient_squares()
    if found is None:
        return not_applicable("There are too few samples for two sizes of batches.")
    (small, small_square), (large, large_square) = found
    gradient = (large * large_square - small * small_square) / (large - small)
    noise = (small_square - large_square) / (1 / small - 1 / large)
    figures = {"batch_size": case.batch_size, "gradient_square": gradient, "noise": noise}
    if gradient <= 0 or noise <= 0:
        return passed(
            "The gradient of a batch is mostly noise at the sizes that were tried."
            if gradient <= 0
            else "The gradient hardly varies from batch to batch.",
            **figures,
        )
    scale = float(noise / gradient)
    size = case.batch_size
    steps = {str(each): (1 + scale / each) / (1 + scale / size) for each in _sizes(size)}
    told = (
        f"The noise scale is {scale:.0f} samples; batches have {size}, of {2 * size} it would take about "
        f"{steps[str(2 * size)]:.0%} of the steps."
    )
    if case.batch_size == 1 and scale > 20:
        return warned(
            told, "Take larger batches, or a lower rate and averaged weights.", **figures, scale=scale, steps=steps
        )
    return passed(told, **figures, scale=scale, steps=steps)


def _sizes(size: int) -> list[int]:
    return sorted({max(1, size // 4), max(1, size // 2), size, 2 * size, 4 * size})
