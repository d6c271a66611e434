"""Which backend the tests run on, and the README's code as tests."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

_BACKENDS = ("tensorflow", "jax", "torch")
_ONCE = "torch"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:  # Threads of several workers would wait for each other at every operation.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# What one test or process has compiled with JAX serves the others, unless it took no time.
_compiled = tempfile.TemporaryDirectory(prefix="kerasblocks-tests-", ignore_cleanup_errors=True)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
if os.environ.get("KERAS_BACKEND") == "jax":  # Most of its tests' time is compiling; the parity tests run it optimized.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"]).pytest()


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves the guide's code, and tests in which the backend plays no part, to the run on one backend."""
    if os.environ.get("KERAS_BACKEND") in (None, _ONCE):
        return
    guide = Path(__file__).parent / "docs"
    for item in items:
        if item.get_closest_marker("once") is not None or item.path.parent == guide:
            item.add_marker(
                pytest.mark.skip(reason=f"Runs on {_ONCE} alone; what differs between backends is tested elsewhere.")
            )


@pytest.fixture
def optimized() -> Iterator[None]:
    """Has JAX compile a test as users do, where two ways are to give the same bits."""
    if os.environ.get("KERAS_BACKEND") != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1")


def pytest_collection_finish() -> None:
    """Spares the garbage collector the million objects of the frameworks, which it would look through in every test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # Tracing makes many objects at once, few of them garbage.


def pytest_report_header() -> str:
    """Names the backend in the log."""
    return f"KERAS_BACKEND={os.environ.get('KERAS_BACKEND')}"
