"""The pictures of a check-up, each of the figures of one finding."""

from collections.abc import Callable
from typing import Any

from kerasblocks.diagnostics.finding import Finding

Draw = Callable[[Any], None]


def panels_of(findings: list[Finding]) -> list[tuple[str, Draw]]:
    """Returns a title, and what draws on Matplotlib's axes, for each finding that has figures for a picture."""
    makers: dict[str, tuple[str, Callable[[dict[str, Any]], Draw | None]]] = {
        "learning_rate": ("Loss at a rising learning rate", _sweep),
        "overfit_tiny_subset": ("Learning a few samples by heart", _learned),
        "gradient_flow": ("Size of the gradient, by matrix", _sizes),
        "activations": ("Spread of the outputs, by layer", _spreads),
        "calibration": ("Accuracy at each confidence", _reliability),
        "confusion": ("Predicted class, by true class", _matrix),
    }
    found = []
    for each in findings:
        title, maker = makers.get(each.check, ("", lambda figures: None))
        draw = maker(each.figures) if each.figures else None
        if draw is not None:
            found.append((title, draw))
    return found


def _sweep(figures: dict[str, Any]) -> Draw | None:
    sweep = figures["sweep"]

    def draw(axes: Any) -> None:
        low, high = min(sweep["smoothed"]), sweep["smoothed"][0]
        axes.plot(sweep["rates"], sweep["smoothed"])
        if sweep["suggestion"] is not None:
            axes.axvline(sweep["suggestion"], color="tab:green", label=f"suggestion {sweep['suggestion']:.2g}")
        axes.axvline(sweep["compiled"], color="tab:gray", linestyle=":", label=f"compiled {sweep['compiled']:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        if high > low:
            axes.set_ylim(low - 0.1 * (high - low), high + 0.4 * (high - low))
        axes.legend(fontsize="small")

    return draw


def _learned(figures: dict[str, Any]) -> Draw | None:
    def draw(axes: Any) -> None:
        axes.plot(figures["losses"])
        axes.set(xlabel="step", ylabel="loss")
        axes.set_ylim(bottom=min(0, *figures["losses"]))

    return draw


def _sizes(figures: dict[str, Any]) -> Draw | None:
    return _bars(figures["sizes"], "root mean square") if figures.get("sizes") else None


def _spreads(figures: dict[str, Any]) -> Draw | None:
    values = {path: each["deviation"] for path, each in figures["layers"].items()}
    return _bars(values, "standard deviation") if values else None


def _bars(values: dict[str, float], label: str) -> Draw:
    def draw(axes: Any) -> None:
        names = [path.removeprefix("sequential/")[-28:] for path in values]
        axes.barh(range(len(names)), list(values.values()))
        if len(names) <= 24:
            axes.set_yticks(range(len(names)), names, fontsize="x-small")
        axes.invert_yaxis()
        if min(values.values()) > 0:
            axes.set_xscale("log")
        axes.set_xlabel(label)

    return draw


def _reliability(figures: dict[str, Any]) -> Draw | None:
    def draw(axes: Any) -> None:
        rows = figures["diagram"]
        axes.plot([0, 1], [0, 1], color="tab:gray", linestyle=":")
        axes.scatter(
            [row["confidence"] for row in rows],
            [row["accuracy"] for row in rows],
            [400 * row["share"] + 8 for row in rows],
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.02))

    return draw


def _matrix(figures: dict[str, Any]) -> Draw | None:
    def draw(axes: Any) -> None:
        axes.imshow(figures["matrix"], cmap="Blues")
        axes.set(xlabel="predicted", ylabel="true")

    return draw
