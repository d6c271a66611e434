import importlib
import os
import subprocess
import sys

import keras
import pytest
from arrays import random

from kerasblocks.layers import RMSNorm, SwiGLU
from kerasblocks.ops import fast_paths_enabled, use_fast_paths


def test_the_block_turns_them_off_and_on_again():
    assert fast_paths_enabled()
    with use_fast_paths(False):
        assert not fast_paths_enabled()
        with use_fast_paths(True):
            assert fast_paths_enabled()
        assert not fast_paths_enabled()
    assert fast_paths_enabled()


@pytest.mark.parametrize(("operation", "make"), [("rms_norm", RMSNorm), ("gated_projection", SwiGLU)])
def test_the_reference_path_is_taken_when_they_are_off(operation, make, monkeypatch):
    module = importlib.import_module(f"kerasblocks.ops._{operation}_{keras.backend.backend()}")
    layer, x = make(), random((2, 3))
    layer.build(x.shape)

    def refuse(*_):
        raise AssertionError("the fast path was taken")

    monkeypatch.setattr(module, operation, refuse)
    with use_fast_paths(False):
        layer(x)
    with pytest.raises(AssertionError, match="the fast path was taken"):
        layer(x)


@pytest.mark.once
def test_a_backend_that_is_not_known_is_refused():
    command = [sys.executable, "-c", "import kerasblocks"]
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wanted = "kerasblocks runs on the backends jax, tensorflow, torch; got 'numpy'. Set KERAS_BACKEND to one of them."
    assert wanted in result.stderr


@pytest.mark.once
@pytest.mark.parametrize(("value", "printed"), [("0", "False"), ("1", "True")])
def test_the_environment_decides_at_import(value, printed):
    program = "from kerasblocks.ops import fast_paths_enabled; print(fast_paths_enabled())"
    environment = os.environ | {"KERASBLOCKS_FAST_PATHS": value}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [printed]


@pytest.mark.once
def test_other_values_are_refused():
    environment = os.environ | {"KERASBLOCKS_FAST_PATHS": "no"}
    command = [sys.executable, "-c", "import kerasblocks"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "KERASBLOCKS_FAST_PATHS must be 1 (on, the default) or 0 (off); got 'no'" in result.stderr
    with pytest.raises(ValueError, match="enabled must be True or False; got 0"), use_fast_paths(0):
        pass
