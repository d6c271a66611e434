"""What a check-up has found, as a table, as data, as one HTML file and as a picture."""

import dataclasses
import html
import io
import json
import os
from pathlib import Path
from typing import Any

from kerasblocks._json_values import json_values
from kerasblocks._whole_file import whole_file
from kerasblocks.diagnostics._new_figure import new_figure
from kerasblocks.diagnostics._panels import panels_of
from kerasblocks.diagnostics.finding import Finding

_ORDER = ("fail", "warn", "pass", "not applicable")
_COLOURS = {"fail": "red", "warn": "yellow", "pass": "green", "not applicable": "bright_black"}


@dataclasses.dataclass(frozen=True)
class CheckupReport:
    """What a check-up has found.

    Attributes:
        findings: those of all checks; failures first, then warnings, and among them those that explain others.
        seconds: how long the check-up took.
        environment: backend, versions and devices.
    """

    findings: list[Finding]
    seconds: float
    environment: dict[str, Any]

    def __getitem__(self, check: str) -> Finding:
        """Returns the finding of one check; raises `KeyError` for one that was not asked for."""
        return {each.check: each for each in self.findings}[check]

    @property
    def failed(self) -> list[Finding]:
        """The checks that failed."""
        return [each for each in self.findings if each.verdict == "fail"]

    @property
    def warned(self) -> list[Finding]:
        """The checks that warn."""
        return [each for each in self.findings if each.verdict == "warn"]

    def __str__(self) -> str:
        lines = [f"{each.verdict:14} {each.check}: {each.message} {each.remedy}".rstrip() for each in self.findings]
        return "\n".join([*lines, self._summary()])

    def print(self) -> None:
        """Prints the findings as a table; as plain lines where rich is not installed."""
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            print(self)  # noqa: T201
            return
        table = Table("verdict", "check", "what was found, and what to do", show_lines=False)
        for each in self.findings:
            told = Text(each.message)
            if each.remedy:
                told.append(f"\n{each.remedy}", style="italic")
            table.add_row(Text(each.verdict, style=_COLOURS[each.verdict]), each.check.replace("_", " "), told)
        console = Console()
        console.print(table)
        console.print(self._summary())

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as strings, numbers and lists that JSON takes."""
        return {
            "seconds": self.seconds,
            "environment": self.environment,
            "findings": [each.as_dict() for each in self.findings],
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it to a JSON file, whole or not at all."""
        with whole_file(Path(path)) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the sweep, the learning of a few samples, gradients, activations, and what else there is, side by side.

        Args:
            path: the picture file; its suffix says the format (PNG, SVG, PDF).

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: none of the checks that were run has anything to draw.
        """
        panels = panels_of(self.findings)
        if not panels:
            raise ValueError("There is nothing to draw: run checks such as learning_rate, gradient_flow, activations.")
        columns = min(3, len(panels))
        rows = -(-len(panels) // columns)
        figure = new_figure(5 * columns, 3.8 * rows)
        for place, (title, draw) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, place)
            draw(axes)
            axes.set_title(title)
        with whole_file(Path(path)) as temporary:
            figure.savefig(temporary, dpi=120)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes one HTML file with the findings, their figures and the pictures; it needs no network.

        Raises:
            ImportError: matplotlib is not installed.
        """
        pictures = []
        for title, draw in panels_of(self.findings):
            figure = new_figure(5, 3.6)
            draw(figure.add_subplot())
            content = io.StringIO()
            figure.savefig(content, format="svg")
            svg = content.getvalue()
            pictures.append(f"<figure><figcaption>{html.escape(title)}</figcaption>{svg[svg.index('<svg') :]}</figure>")
        place = ", ".join(f"{name} {value}" for name, value in self.environment.items() if isinstance(value, str))
        text = _PAGE.format(
            summary=html.escape(self._summary()),
            place=html.escape(place),
            findings="\n".join(map(_as_html, self.findings)),
            pictures="\n".join(pictures),
        )
        with whole_file(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _summary(self) -> str:
        counts = {verdict: sum(each.verdict == verdict for each in self.findings) for verdict in _ORDER}
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; {self.seconds:.1f} s"


def _as_html(finding: Finding) -> str:
    remedy = f"<p class=remedy>{html.escape(finding.remedy)}</p>" if finding.remedy else ""
    numbers = {
        name: value for name, value in json_values(finding.figures).items() if isinstance(value, int | float | str)
    }
    rows = "".join(f"<tr><td>{html.escape(name)}<td>{html.escape(_shown(value))}" for name, value in numbers.items())
    figures = f"<details><summary>figures</summary><table>{rows}</table></details>" if rows else ""
    name = html.escape(finding.check.replace("_", " "))
    kind = finding.verdict.replace(" ", "-")
    return (
        f"<article class={kind}><h2><span>{finding.verdict}</span> {name}</h2>"
        f"<p>{html.escape(finding.message)}</p>{remedy}{figures}</article>"
    )


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Check-up</title><style>
body {{ font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1c1c1c; }}
h1 {{ margin: 0.5rem 0 0; }}
h2 {{ font-size: 1.05rem; margin: 0 0 0.3rem; }}
p {{ margin: 0.2rem 0; overflow-wrap: anywhere; }}
article {{ border-left: 0.4rem solid #bbb; background: #f7f7f7; margin: 0.6rem 0; padding: 0.6rem 0.8rem; }}
article span {{ text-transform: uppercase; font-size: 0.8rem; }}
.fail {{ border-color: #b3261e; }} .fail span {{ color: #b3261e; }}
.warn {{ border-color: #a86400; }} .warn span {{ color: #8a5200; }}
.pass {{ border-color: #1b6e3c; }} .pass span {{ color: #1b6e3c; }}
.not-applicable {{ color: #5f5f5f; padding-block: 0.3rem; }}
.remedy {{ font-style: italic; }}
table {{ border-collapse: collapse; font-size: 0.9rem; }} td {{ padding: 0.1rem 0.8rem 0.1rem 0; vertical-align: top; }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} figcaption {{ font-weight: 600; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>Check-up</h1><p>{summary}</p><p>{place}</p>
{findings}
<section class="pictures">
{pictures}
</section>
</body></html>
"""


def ordered(findings: list[Finding]) -> list[Finding]:
    """Returns failures first, then warnings; among them in the order of the checks."""
    return sorted(findings, key=lambda each: _ORDER.index(each.verdict))
