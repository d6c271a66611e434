import json
import os
from pathlib import Path

import pytest

FILES = [
    "checkpoints",
    "config.json",
    "confusion.png",
    "curves.png",
    "events",
    "history.csv",
    "metrics.json",
    "model.keras",
]


@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_main_job(backend):
    folder = Path(os.environ["MAIN_JOB_RUNS"], backend)
    config, metrics = (json.loads((folder / name).read_text()) for name in ("config.json", "metrics.json"))
    assert sorted(entry.name for entry in folder.iterdir()) == FILES
    assert config["environment"]["backend"] == backend
    assert metrics["test_accuracy"] >= 0.97
