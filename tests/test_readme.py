import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import layers
from benchmarks._results import as_markdown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
EXTRAS = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in README.split("| Extra |")[1].splitlines()[1:6]))


def test_results_are_the_kept_rows():
    assert as_markdown("lenet_accuracy") in README
    assert layers.summary() in README


@pytest.mark.parametrize("target", sorted({line.split()[1] for line in COMMANDS if line.startswith("make")}))
def test_make_knows_the_target(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(("app", "one"), [("lenet.py", "--predict"), ("distill.py", "--labelled")])
def test_the_app_knows_every_option(app, one):
    named = {word for line in COMMANDS if f"apps/{app}" in line for word in line.split() if word.startswith("--")}
    script = ROOT / "apps" / app
    help_text = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    assert one in named
    assert {option for option in named if option not in help_text} == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_package_has_the_extra(extra):
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()
