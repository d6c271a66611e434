"""CONTRIBUTING.md lists what is used of Keras beyond its public interface: all of it, and nothing else."""

import ast
import functools
import re
from pathlib import Path

import keras
import pytest

PACKAGE = Path(keras.__file__).parent
ROOT = Path(__file__).parents[1]
# Private names of Python, TensorFlow and PyTorch.
OF_OTHERS = {"_getframe", "_rng", "_C", "_are_functorch_transforms_active", "_is_tracing", "_len_torch_dispatch_stack"}
OF_OTHERS |= {"_foreach_copy_", "_foreach_norm", "_foreach_sub"}

pytestmark = pytest.mark.once


def listed():
    """Returns the names in the second column of the last table."""
    table = (ROOT / "CONTRIBUTING.md").read_text().rpartition("\n| Of |")[2]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[2])}


def nodes(paths):
    for path in paths:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


@functools.cache
def private_names_of_keras():
    """Returns the private methods and attributes of Keras's classes."""
    sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / "src").rglob("*.py")]
    patterns = r"\n    def (_[a-z]\w*)\(", r"\w\.(_[a-z]\w*)"
    return {name for source in sources for pattern in patterns for name in re.findall(pattern, source)}


def own_names(paths):
    """Returns the names of functions, attributes of `self` and fields that are given in these files."""
    found = set()
    for node in nodes(paths):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id in ("self", "cls") else set()
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def used_names(paths):
    """Returns what is imported of keras.src, and private attributes that are read, by name or by getattr."""
    found, in_texts = set(), set()
    for node in nodes(paths):
        if isinstance(node, ast.JoinedStr):
            in_texts |= set(node.values)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras.src"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_private(node.value):
            found |= {node.value} if node.value.isidentifier() and node not in in_texts else set()
    return found


def test_all_that_is_used_is_listed_and_nothing_else():
    paths = sorted((ROOT / "kerasblocks").rglob("*.py"))
    used = used_names(paths)
    foreign = {name for name in used if not is_private(name)}
    foreign |= {name for name in used if name in private_names_of_keras()} - own_names(paths)
    # A class of its own has an attribute of this name, too; that of get_device is reached through keras.src.
    foreign |= {"_learning_rate", "get_device", "CompileLoss", "CompileMetrics"}
    assert listed() == foreign - OF_OTHERS - {"compile_utils"}


@pytest.mark.parametrize("name", sorted(name for name in listed() if is_private(name)))
def test_keras_has_it(name):
    assert name in private_names_of_keras()
