import math
import sys

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kerasblocks.diagnostics import plot_learning_curves


def test_draws_one_panel_a_quantity_with_its_validation(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    history = {"loss": [2.0, 1.0, math.nan], "val_loss": [2.5, 1.5, 1.0], "learning_rate": [0.1, 0.05, 0.0]}
    plot_learning_curves(history, tmp_path / "curves.png")
    panels = {axes.get_title(): axes.get_lines() for axes in figures[0].axes}
    assert set(panels) == {"loss", "learning rate"}
    training, validation = panels["loss"]
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata())[:2] == [2.0, 1.0]
    assert list(validation.get_ydata()) == [2.5, 1.5, 1.0]
    assert list(panels["learning rate"][0].get_ydata()) == [0.1, 0.05, 0.0]
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] > 500


@pytest.mark.parametrize(
    "history", [{}, {"loss": []}, {"loss": [1.0], "val_loss": [1.0, 2.0]}], ids=["none", "no epochs", "unequal"]
)
def test_bad_histories_are_refused(history, tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one quantity and equally many epochs"):
        plot_learning_curves(history, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"matplotlib\. Install it with: pip install matplotlib"):
        plot_learning_curves({"loss": [1.0]}, tmp_path / "curves.png")
