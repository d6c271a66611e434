"""Looking at a training run: what it did, as pictures."""

from kerasblocks.diagnostics.learning_curves import plot_learning_curves as plot_learning_curves
