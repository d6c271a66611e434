"""Whether the numbers that reach the first weights are of the size that starting weights are made for."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_LARGE, _TOO_LARGE = 8.0, 25.0  # root mean squares
_SMALL, _TOO_SMALL = 2e-2, 6e-3
_SPARSE = 0.9  # of the inputs are 0
_UNEQUAL, _TOO_UNEQUAL = 30.0, 100.0  # of the largest feature by the median one


def check(case: Case) -> Finding:
    """Fails where inputs are far from 1 in size when they reach the first layer with a kernel, or features unequal."""
    first = next((each for each in case.inference.layers if each.has_kernel and "Embedding" not in each.kind), None)
    embeds = any("Embedding" in each.kind for each in case.inference.layers)
    if first is None or first.input_rms is None or embeds:
        return not_applicable("No layer with a kernel takes the inputs as numbers.")
    if case.begins_trained or not first.is_trainable:
        return not_applicable("The first weights are trained ones, for inputs of some scale.")
    # Counts and their kin are mostly 0, and few features are as large as others.
    is_sparse = (first.input_zeros or 0.0) > _SPARSE
    size, of_others = first.input_rms, first.input_rms_of_others or 0.0
    figures = {"layer": first.path, "root_mean_square": size, "of_those_not_0": of_others}
    if not is_sparse and first.input_feature_rms is not None and first.input_feature_rms.size > 1:
        each = first.input_feature_rms[first.input_feature_rms > 0]
        ratio = float(each.max() / np.median(each)) if each.size else 1.0
        figures |= {"largest_feature_by_median": ratio, "largest_feature": int(first.input_feature_rms.argmax())}
        if ratio > _UNEQUAL:
            told = (
                f"Feature {figures['largest_feature']} is {ratio:,.0f} times as large as the median one where the "
                f"inputs reach {first.path}: the others hardly count."
            )
            remedy = "Standardize each feature by its own mean and deviation (keras.layers.Normalization)."
            return wrong(ratio > _TOO_UNEQUAL, told, remedy, **figures)
    remedy = (
        "Scale inputs to about 1: divide 8-bit pixels by 255 once (keras.layers.Rescaling), standardize other numbers."
    )
    told = f"The inputs' root mean square is {size:.3g} where they reach {first.path}"
    if size > _LARGE:
        return wrong(size > _TOO_LARGE, f"{told}: they are not scaled.", remedy, **figures)
    if max(size, of_others if is_sparse else 0.0) < _SMALL:
        too_small = max(size, of_others if is_sparse else 0.0) < _TOO_SMALL
        return wrong(too_small, f"{told}: they may be scaled twice.", remedy, **figures)
    return passed(f"{told}.", **figures)
