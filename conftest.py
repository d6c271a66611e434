"""Which backend the tests run on, and the README's code as tests."""

import os
import tempfile
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

_BACKENDS = ("tensorflow", "jax", "torch")

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What one test or process has compiled with JAX serves the others, unless it took no time.
_compiled = tempfile.TemporaryDirectory(prefix="kerasblocks-tests-", ignore_cleanup_errors=True)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], pattern="README.md").pytest()


def pytest_configure(config: pytest.Config) -> None:
    """Ends the run at once when no backend is named: Keras would silently fall back on one."""
    parity = Path(__file__).parent / "tests" / "parity"
    paths = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if all(path.is_relative_to(parity) for path in paths):
        return  # These tests start a process for every backend.
    backend = os.environ.get("KERAS_BACKEND")
    if backend not in _BACKENDS:
        raise pytest.UsageError(f"Name the backend to test: KERAS_BACKEND={'|'.join(_BACKENDS)}; got {backend!r}.")
    import keras

    if keras.backend.backend() != backend:
        raise pytest.UsageError(f"KERAS_BACKEND is {backend}, but Keras uses {keras.backend.backend()}.")


def pytest_report_header() -> str:
    """Names the backend in the log."""
    return f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND')}"
