"""A figure of Matplotlib's, which is imported when a picture is asked for."""

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of this size in inches; raises `ImportError` where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib. Install it with: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")
