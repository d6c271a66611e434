"""The scripts of examples/, run as they are."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize(
    "script",
    [path if path.stem == "own_network" else pytest.param(path, marks=pytest.mark.once) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_an_example_runs_and_learns(script, capsys):
    runpy.run_path(str(script), run_name="__main__")
    accuracies = [float(found) for found in re.findall(r"accuracy:? ([\d.]+)", capsys.readouterr().out)]
    assert accuracies[-1] > 0.8
