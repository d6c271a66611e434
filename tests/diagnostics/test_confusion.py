import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kerasblocks.diagnostics import plot_confusion


def test_cells_are_counts_of_true_against_predicted(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    y_true, predicted = np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 1])
    plot_confusion(y_true, predicted, ["cat", "dog", "emu", "fox"], tmp_path / "confusion.png")
    (axes,) = figures[0].axes
    assert axes.get_title() == "3 of 5 right"
    cells = np.array([int(text.get_text() or 0) for text in axes.texts]).reshape(4, 4)
    assert cells.tolist() == [[1, 0, 0, 0], [1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "emu", "fox"]
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) > 300


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match="pip install scikit-learn matplotlib"):
        plot_confusion(np.array([0]), np.array([0]), ["cat"], tmp_path / "confusion.png")
