"""Looking at a training run: what it did, as pictures."""

from kerasblocks.diagnostics.confusion import plot_confusion as plot_confusion
from kerasblocks.diagnostics.learning_curves import plot_learning_curves as plot_learning_curves
