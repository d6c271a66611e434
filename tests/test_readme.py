import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import claims, layers
from kerasblocks.diagnostics import CHECKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
EXTRAS = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in README.split("| Extra |")[1].splitlines()[1:7]))
PRELUDE = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
LINES = re.findall(r"^\| `(.+?)` \|", README.split("| A line |")[1].split("## Quick start")[0], re.MULTILINE)


def test_results_are_the_kept_rows():
    assert claims.results() in README
    assert claims.results() in PAGES["measured.md"]
    assert layers.summary() in PAGES["measured.md"]


@pytest.fixture
def names():
    found = {}
    exec(PRELUDE, found)  # noqa: S102 - the page's own
    return found


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_table_runs(line, names, tmp_path):
    assert len(LINES) > 30
    exec(line.replace("FOLDER", str(tmp_path)), dict(names))  # noqa: S102


def test_the_number_of_checks_is_told():
    assert f" {len(CHECKS)} checks of data, model, loss" in README


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


LINKED = {name: ROOT if name == "README.md" else ROOT / "docs" for name in PAGES}
LINKS = sorted({(name, link) for name, text in PAGES.items() for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)})


@pytest.mark.parametrize(("page", "link"), [each for each in LINKS if not each[1].startswith("pictures/")])
def test_links_lead_somewhere(page, link):
    assert (LINKED[page] / link).exists()
