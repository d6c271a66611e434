"""The curves of a training run as a picture; Keras returns the numbers only."""

import math
import os
from collections.abc import Mapping, Sequence


def plot_learning_curves(history: Mapping[str, Sequence[float]], path: str | os.PathLike[str]) -> None:
    """Draws one panel per quantity over the epochs, training and validation (`val_NAME`) together.

    The epoch counts from 1; a point stands at the epoch's end. Values that are not finite leave a gap.

    Args:
        history: name → one value an epoch, as `model.fit(...).history` has it.
        path: the picture file; its suffix says the format (PNG, SVG, PDF).

    Raises:
        ValueError: an empty history, or quantities of unequal lengths.
        ImportError: matplotlib is not installed.

    Example:

    >>> import os, tempfile
    >>> from kerasblocks.diagnostics import plot_learning_curves
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "curves.png")
    ...     plot_learning_curves({"loss": [2.0, 1.0], "val_loss": [2.1, 1.3]}, path)
    ...     os.path.getsize(path) > 0
    True
    """
    lengths = {len(values) for values in history.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"history must hold at least one quantity and equally many epochs of each; got "
            f"{ {name: len(values) for name, values in history.items()} }."
        )
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ImportError("Plots need matplotlib. Install it with: pip install matplotlib") from error
    epochs = range(1, lengths.pop() + 1)
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")
    for position, name in enumerate(names, start=1):
        axes = figure.add_subplot(rows, columns, position)
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history:
                axes.plot(epochs, history[key], marker=".", label=label)
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.set_xlim(0.5, len(epochs) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if f"val_{name}" in history:
            axes.legend()
    figure.savefig(path, dpi=120)
