from pathlib import Path

import numpy as np
import pytest
from processes import BACKENDS, run


@pytest.mark.parametrize("origin", BACKENDS)
def test_a_model_saved_on_one_backend_computes_the_same_on_the_others(origin, tmp_path):
    script = Path(__file__).with_name("moved_layers.py")
    run(script, "save", tmp_path, backend=origin)
    for backend in BACKENDS:
        if backend != origin:
            run(script, "load", tmp_path, backend=backend)
    outputs = [np.load(tmp_path / f"{backend}.npy") for backend in BACKENDS]
    assert np.abs(outputs[0]).max() > 0
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], rtol=1e-5, atol=1e-5 * np.abs(outputs[0]).max())
