"""Whether the output of a sample depends on that sample alone."""

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed

_FAR = 2e-3  # of the outputs' size


def check(case: Case) -> Finding:
    """Fails where other samples in the batch change a sample's output in inference."""
    x = case.batch[0]
    count = len(keras.tree.flatten(x)[0])
    if count < 4:
        return not_applicable("There are too few samples.")
    half = count // 2
    # One half stays, and the other becomes samples of that, for a layer may go through the batch in one direction.
    later = keras.tree.map_structure(lambda leaf: np.concatenate([leaf[:half], leaf[: count - half][::-1]]), x)
    earlier = keras.tree.map_structure(lambda leaf: np.concatenate([leaf[-half:][::-1], leaf[half:]]), x)
    one, two, three = (keras.tree.flatten(case.forward(each))[0].astype("float64") for each in (x, later, earlier))
    if len(one) != count:
        return failed(
            f"{count} samples give {len(one)} outputs: a reshape has mixed them, or taken them for something else.",
            "Keep the first axis: Reshape leaves it alone, and keras.ops.reshape wants the batch size there.",
            samples=count,
            outputs=len(one),
        )
    size = float(np.sqrt((one**2).mean()))
    change = float(max(abs(one[:half] - two[:half]).max(), abs(one[half:] - three[half:]).max()))
    figures = {"change": change, "size": size}
    if not np.isfinite(change):
        return not_applicable("Outputs are not finite.")
    if change > _FAR * max(size, 1e-30):
        return failed(
            f"The output of a sample changes by {change:.3g}, of {size:.3g}, with the other samples of the batch.",
            "Look for softmax, a mean, a reshape, a transposition or a normalization over the first axis.",
            **figures,
        )
    return passed("A sample's output does not depend on the other samples.", **figures)
