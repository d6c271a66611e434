"""Which class is taken for which, as a picture; Keras has no confusion matrix."""

import os
from collections.abc import Sequence

import numpy as np


def plot_confusion(
    y_true: np.ndarray, y_predicted: np.ndarray, class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Draws the confusion matrix: rows are true classes, columns predicted ones, cells counts.

    Args:
        y_true: true labels, integers of shape `(n,)`.
        y_predicted: predicted labels, likewise.
        class_names: one name a class, in the order of the labels.
        path: the picture file; its suffix says the format (PNG, SVG, PDF).

    Raises:
        ImportError: scikit-learn or matplotlib is not installed.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> from kerasblocks.diagnostics import plot_confusion
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "confusion.png")
    ...     plot_confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), ["cat", "dog"], path)
    ...     os.path.getsize(path) > 0
    True
    """
    try:
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
    except ImportError as error:
        raise ImportError("The confusion matrix needs: pip install scikit-learn matplotlib") from error
    counts = confusion_matrix(y_true, y_predicted, labels=range(len(class_names)))
    side = max(4.0, 0.5 * len(class_names) + 1.5)
    figure = Figure(figsize=(side, side), layout="constrained")
    display = ConfusionMatrixDisplay(counts, display_labels=class_names)
    display.plot(ax=figure.add_subplot(), xticks_rotation="vertical", colorbar=False, cmap="Blues")
    for cell in display.text_.flat:
        if cell.get_text() == "0":
            cell.set_text("")  # so that the errors stand out
    display.ax_.set_title(f"{np.trace(counts)} of {counts.sum()} right")
    figure.savefig(path, dpi=120)
