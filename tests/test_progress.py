import sys

import keras
import numpy as np
import pytest

from kerasblocks._progress import progress
from kerasblocks.data import ArrayBatches, load_text
from kerasblocks.diagnostics import checkup, learning_rate_sweep
from kerasblocks.distillation import TeacherCache

pytestmark = pytest.mark.once  # What is printed does not depend on the backend.


def compiled():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def x(count=32):
    return np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


WORKS = {
    "check-up": (lambda path: checkup(compiled(), x(), x()[:, :1], checks=["finite_data", "gradients"]), "2/2"),
    "sweep": (lambda path: learning_rate_sweep(compiled(), x(), x()[:, :1], steps=20), "20/20"),
    "teacher cache": (lambda path: TeacherCache.write(compiled(), ArrayBatches(x(), batch_size=8), path), "4/4"),
    "tokens": (lambda path: load_text("topics", tokenizer="bytes"), "/piece"),
}


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "file"])
def test_what_takes_long_shows_how_far_it_is_on_a_terminal_alone(name, terminal, tmp_path, capsys, monkeypatch):
    work, shown = WORKS[name]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    work(tmp_path / "there")
    assert (shown in capsys.readouterr().out) == terminal


def test_a_check_up_that_prints_nothing_shows_nothing(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    checkup(compiled(), x(), x()[:, :1], checks=["finite_data"], verbose=0)
    assert capsys.readouterr().out == ""


def test_a_work_within_a_work_shows_nothing_and_the_next_one_does(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress(2, "part") as advance:
        for _ in range(2):
            with progress(7, "piece") as other:
                other()
            advance()
    printed = capsys.readouterr().out
    assert "2/2" in printed
    assert "/7" not in printed


def test_after_a_work_that_failed_the_next_one_is_shown(capsys, monkeypatch):
    def fail(advance):
        advance()
        raise RuntimeError("boom")

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(RuntimeError, match="boom"), progress(3, "part") as advance:
        fail(advance)
    with progress(5, "part") as advance:
        advance()
    assert "1/5" in capsys.readouterr().out
