import csv
import json
from pathlib import Path

import numpy as np
import pytest
from processes import BACKENDS, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["modern", "1998"])
def steps(request):
    script = Path(__file__).with_name("lenet_steps.py")
    results = [json.loads(run(script, request.param, backend=name).splitlines()[-1]) for name in BACKENDS]
    assert tuple(result["backend"] for result in results) == BACKENDS
    return results


def test_starting_weights_are_the_same_bits(steps):
    assert len({result["weights"] for result in steps}) == 1


def test_batches_are_the_same_bits(steps):
    assert len({result["batches"] for result in steps}) == 1


def test_losses_agree_over_20_steps(steps):
    losses = np.array([result["losses"] for result in steps])
    assert losses.shape == (3, 20)
    assert losses[:, -1].mean() < losses[:, 0].mean()
    np.testing.assert_allclose(losses[1:], losses[:1].repeat(2, 0), rtol=1e-4)


def test_fit_takes_the_same_steps(steps):
    epoch_losses = np.array([result["epoch_losses"] for result in steps])
    means = [np.reshape(result["losses"], (2, 10)).mean(1) for result in steps]
    np.testing.assert_allclose(epoch_losses, means, rtol=1e-5)
    np.testing.assert_allclose(epoch_losses[1:], epoch_losses[:1].repeat(2, 0), rtol=1e-4)


def test_the_app_trains_alike_on_every_backend(tmp_path):
    losses = []
    for backend in BACKENDS:
        folder = tmp_path / backend
        run(ROOT / "apps" / "lenet.py", "--epochs", 2, "--limit", 320, "--run-directory", folder, backend=backend)
        with (folder / "history.csv").open() as file:
            losses.append([float(row["loss"]) for row in csv.DictReader(file)])
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-4)
