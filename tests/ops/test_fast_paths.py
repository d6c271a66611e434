import os
import subprocess
import sys

import numpy as np
import pytest

from kerasblocks.ops import fast_paths_enabled, rms_norm, use_fast_paths


def test_the_block_turns_them_off_and_on_again():
    assert fast_paths_enabled()
    with use_fast_paths(False):
        assert not fast_paths_enabled()
        with use_fast_paths(True):
            assert fast_paths_enabled()
        assert not fast_paths_enabled()
    assert fast_paths_enabled()


def test_the_reference_path_is_taken_when_they_are_off(monkeypatch):
    module = sys.modules["kerasblocks.ops.rms_norm"]

    def refuse(*_):
        raise AssertionError("the fast path was taken")

    monkeypatch.setattr(module._fast, "rms_norm", refuse)
    x = np.ones((2, 3), "float32")
    with use_fast_paths(False):
        rms_norm(x)
    with pytest.raises(AssertionError, match="the fast path was taken"):
        rms_norm(x)


@pytest.mark.parametrize(("value", "printed"), [("0", "False"), ("1", "True")])
def test_the_environment_decides_at_import(value, printed):
    program = "from kerasblocks.ops import fast_paths_enabled; print(fast_paths_enabled())"
    environment = os.environ | {"KERASBLOCKS_FAST_PATHS": value}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [printed]


def test_other_values_are_refused():
    environment = os.environ | {"KERASBLOCKS_FAST_PATHS": "no"}
    command = [sys.executable, "-c", "import kerasblocks"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "KERASBLOCKS_FAST_PATHS must be 1 (on, the default) or 0 (off); got 'no'" in result.stderr
    with pytest.raises(ValueError, match="enabled must be True or False; got 0"), use_fast_paths(0):
        pass
