"""The documentation builds, with its pictures and a reference of every name, and needs no network to be read."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kerasblocks

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with the pages; a link that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.parametrize("package", [name for name in kerasblocks.__all__ if not name.startswith("_")])
def test_the_reference_has_every_public_name(site, package):
    page = (site / "reference" / f"{package}.html").read_text(encoding="utf-8")
    module = getattr(kerasblocks, package)
    names = [name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)]
    assert names
    assert [name for name in names if f'id="kerasblocks.{package}.{name}' not in page] == []


def test_no_page_needs_the_network(site):
    for page in site.rglob("*.html"):
        found = re.findall(r"<(?:script|img|iframe)[^>]*src=\"(https?:[^\"]*)", page.read_text(encoding="utf-8"))
        found += re.findall(r"<link[^>]*stylesheet[^>]*href=\"(https?:[^\"]*)", page.read_text(encoding="utf-8"))
        assert found == [], page


@pytest.mark.parametrize("name", ["sweep", "checkup", "curves"])
def test_the_pictures_are_drawn(site, name):
    assert (site / "pictures" / f"{name}.png").stat().st_size > 10_000
