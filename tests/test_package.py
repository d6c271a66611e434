import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasblocks
from kerasblocks.training import environment

ROOT = Path(__file__).parents[1]


STATEMENTS = ("import keras", "import kerasblocks", "kerasblocks.callbacks.TensorBoardScalars('unused')")


@pytest.fixture(scope="module")
def modules():
    """Returns the packages that are there after each of the statements."""
    told = "print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    code = "import json, sys\n" + "\n".join(f"{statement}\n{told}" for statement in STATEMENTS)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in result.stdout.splitlines() if line.startswith("[")]


def test_importing_imports_nothing_but_keras_and_the_library(modules):
    assert modules[1] - modules[0] == {"kerasblocks"}


def test_the_event_writer_does_not_import_tensorflow(modules):
    added = modules[2] - modules[0]
    assert "tensorboardX" in added
    assert "tensorflow" not in added


def test_importing_registers_every_layer():
    layers = {name: value for name, value in vars(kerasblocks.layers).items() if isinstance(value, type)}
    assert "Subsampling2D" in layers
    registered = {name: keras.saving.get_registered_object(f"kerasblocks>{name}") for name in layers}
    assert registered == layers


def test_the_package_is_typed():
    assert (Path(kerasblocks.__file__).parent / "py.typed").is_file()


def test_every_requirement_is_pinned_for_the_tests():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = (ROOT / "pyproject.toml").read_text()
    wanted = {name.lower() for name in re.findall(r'^  ?"?([A-Za-z-]+)>=', project.replace('"', "\n  "), re.MULTILINE)}
    assert {"keras", "numpy", "tyro", "ruff"} <= wanted
    assert wanted - pinned - {"hatchling"} == set()


@pytest.mark.once
@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (["tensorflow"], "Keras's backend is tensorflow, which is not installed: set KERAS_BACKEND to jax or torch."),
        (
            ["tensorflow", "jax", "torch"],
            "Keras's backend is tensorflow, which is not installed: install one of jax, tensorflow, torch.",
        ),
    ],
    ids=["another", "none"],
)
def test_a_missing_backend_is_told_with_what_to_do(hidden, message, tmp_path):
    code = f"""
import sys, importlib.abc, importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {hidden} else found(name, *rest)
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {hidden}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import kerasblocks
"""
    variables = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    variables["KERAS_HOME"] = str(tmp_path)  # where no configuration names another
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert result.stderr.splitlines()[-1] == f"ImportError: {message}"


def test_the_package_tells_versions_backends_devices_and_precisions(capsys):
    runpy.run_module("kerasblocks", run_name="__main__", alter_sys=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"kerasblocks {kerasblocks.__version__}, Keras {keras.__version__}, NumPy {np.__version__}"
    assert lines[2].endswith(f"in use: {keras.backend.backend()} (KERAS_BACKEND chooses)")
    assert "not installed" not in lines[2]
    assert lines[3] == f"devices of {keras.backend.backend()}: {', '.join(environment()['devices'])}"
    assert lines[4] == "a training step: float32 works, mixed_bfloat16 works, mixed_float16 works"
    assert lines[5] == "extras: apps installed, text installed, cv installed"
