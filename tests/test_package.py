import json
import re
import subprocess
import sys
from pathlib import Path

import keras

import kerasblocks

ROOT = Path(__file__).parents[1]


def modules_after(statement):
    code = f"import json, sys; {statement}; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_importing_imports_nothing_but_keras_and_the_library():
    assert modules_after("import keras, kerasblocks") - modules_after("import keras") == {"kerasblocks"}


def test_the_event_writer_does_not_import_tensorflow():
    statement = "import kerasblocks; kerasblocks.callbacks.TensorBoardScalars('unused')"
    added = modules_after(statement) - modules_after("import keras")
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
