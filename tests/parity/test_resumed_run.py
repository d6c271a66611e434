import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from processes import BACKENDS, run

SCRIPT = Path(__file__).with_name("run_steps.py")


def losses(folder):
    with (folder / "history.csv").open() as file:
        return [(float(row["loss"]), float(row["grad_norm"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folders = {backend: tmp_path_factory.mktemp(backend) for backend in BACKENDS}
    for backend, folder in folders.items():
        run(SCRIPT, folder / "cut", "crash", backend=backend)
        assert len(losses(folder / "cut")) == 3
    run(SCRIPT, folders["jax"] / "whole", backend="jax")
    return folders


@pytest.mark.parametrize(("one", "other"), [("jax", "torch"), ("torch", "tensorflow"), ("tensorflow", "jax")])
def test_a_checkpoint_of_one_backend_is_resumed_on_another(started, tmp_path, one, other):
    shutil.copytree(started[one] / "cut", tmp_path / "run")
    run(SCRIPT, tmp_path / "run", backend=other)
    expected, found = losses(started["jax"] / "whole"), losses(tmp_path / "run")
    assert len(found) == 14  # 20 steps and more after the cut
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[:3] == losses(started[one] / "cut")
