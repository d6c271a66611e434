import os
import subprocess
import sys
from pathlib import Path

import pytest

APPS = Path(__file__).parents[2] / "apps"


def choose(requested, environment, hidden=()):
    """Runs choose_backend in a process of its own in which the `hidden` packages are not installed."""
    code = f"""
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {tuple(hidden)!r} else find_spec(name, *rest)
from _launch import choose_backend
chosen = choose_backend({requested!r})
import os
assert os.environ["KERAS_BACKEND"] == chosen and "keras" not in sys.modules
print("chosen", chosen)
"""
    others = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=APPS, env=others | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("requested", "environment", "hidden", "expected"),
    [
        (None, {"KERAS_BACKEND": "torch"}, (), "torch"),
        ("tensorflow", {"KERAS_BACKEND": "torch"}, (), "tensorflow"),
        (None, {}, (), "jax"),
        (None, {}, ("jax",), "tensorflow"),
        (None, {}, ("jax", "tensorflow"), "torch"),
    ],
    ids=["environment", "option over environment", "first", "second", "third"],
)
def test_option_then_environment_then_first_installed(requested, environment, hidden, expected):
    result = choose(requested, environment, hidden)
    assert result.stdout.splitlines()[-1] == f"chosen {expected}"
    assert ("the first one installed" in result.stdout) == (not environment)


@pytest.mark.parametrize(
    ("requested", "environment", "hidden", "message"),
    [
        (
            "torch",
            {},
            ("torch",),
            "the backend torch is not installed. Install it with: pip install torch",
        ),
        (None, {"KERAS_BACKEND": "jax"}, ("jax",), "pip install jax"),
        (None, {"KERAS_BACKEND": "theano"}, (), "must be one of jax, tensorflow, torch; KERAS_BACKEND is 'theano'"),
        (None, {}, ("jax", "tensorflow", "torch"), "no backend is installed"),
    ],
    ids=["option", "environment", "unknown", "none"],
)
def test_a_missing_backend_ends_with_what_to_install(requested, environment, hidden, message):
    result = choose(requested, environment, hidden)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_command_line_library_ends_with_what_to_install():
    code = "import runpy, sys; sys.modules['tyro'] = None; runpy.run_path('lenet.py', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code], cwd=APPS, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "tyro" in result.stderr
    assert "The apps need: pip install '.[apps]'" in result.stderr
    assert "Traceback" not in result.stderr
