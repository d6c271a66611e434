"""Rows of results: one CSV file a benchmark, kept in results/ with device and versions in every row."""

import csv
import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def as_markdown(benchmark: str) -> str:
    """Returns the rows of `results/BENCHMARK.csv` as a Markdown table."""
    with (RESULTS / f"{benchmark}.csv").open(newline="", encoding="utf-8") as file:
        return markdown(list(csv.reader(file)))


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Returns lines, of which the first is the header, as a Markdown table."""
    header, *others = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *others))


def rows(benchmark: str) -> list[dict[str, str]]:
    """Returns the rows of `results/BENCHMARK.csv`."""
    with (RESULTS / f"{benchmark}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_row(benchmark: str, environment: dict[str, Any], row: dict[str, Any]) -> None:
    """Adds `row` to `results/BENCHMARK.csv`, after the date and what `training.environment()` says, and prints it."""
    path = RESULTS / f"{benchmark}.csv"
    path.parent.mkdir(exist_ok=True)
    full = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "backend": environment["backend"],
        "backend_version": environment["backend_version"],
        "keras": environment["keras"],
        "kerasblocks": environment["kerasblocks"],
        "device": f"{environment['devices'][0]}, {os.cpu_count()} CPU cores",
        **row,
    }
    new = not path.exists()
    if not new and path.read_text(encoding="utf-8").splitlines()[0] != ",".join(full):
        raise ValueError(f"{path}: the kept rows have other columns than {', '.join(full)}; start a new file.")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(full), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(full)
    print(", ".join(f"{name} {value}" for name, value in full.items()), flush=True)
