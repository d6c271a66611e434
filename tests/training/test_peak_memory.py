import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasblocks.training import environment, peak_memory


def test_the_peak_grows_with_what_is_held_and_stays():
    before = peak_memory()["process"]
    # More than the process has had: what is resident may lie far below the peak.
    held = np.ones(before // 8 + 2**24)
    during = peak_memory()["process"]
    assert during >= held.nbytes
    del held
    assert peak_memory()["process"] >= during > before


@pytest.mark.once
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Elsewhere the system counts otherwise.")
def test_what_the_process_had_that_started_this_one_does_not_count():
    code = "from kerasblocks.training import peak_memory; print(peak_memory()['process'])"
    held = np.ones(2**28, "uint8") * np.ones(8, "uint8")[:, None]  # 2 GiB, more than the child needs
    assert peak_memory()["process"] > held.nbytes
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) < held.nbytes


def test_an_accelerator_has_a_peak_and_a_cpu_none():
    weights = keras.ops.ones((2**20,))
    found = peak_memory()["device"]
    if environment()["devices"][0] == "cpu":
        assert found is None
    else:
        assert found >= 2**22
    del weights
