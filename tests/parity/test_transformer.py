import json
from pathlib import Path

import numpy as np
import pytest
from processes import BACKENDS, run


@pytest.fixture(scope="module")
def steps():
    script = Path(__file__).with_name("transformer_steps.py")
    results = [json.loads(run(script, backend=name).splitlines()[-1]) for name in BACKENDS]
    assert tuple(result["backend"] for result in results) == BACKENDS
    return results


def test_starting_weights_and_batches_are_the_same_bits(steps):
    for what in ("weights", "batches"):
        assert len({str(result[what]) for result in steps}) == 1


def test_losses_agree_over_20_steps(steps):
    losses = np.array([result["losses"] for result in steps])
    assert losses.shape == (3, 20)
    assert losses[:, -1].mean() < losses[:, 0].mean() - 0.5
    np.testing.assert_allclose(losses[1:], losses[:1].repeat(2, 0), rtol=1e-3)
