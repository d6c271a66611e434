"""Looking at a training run and at what came out: as pictures and as numbers."""

from kerasblocks.diagnostics.calibration import expected_calibration_error as expected_calibration_error
from kerasblocks.diagnostics.confusion import plot_confusion as plot_confusion
from kerasblocks.diagnostics.learning_curves import plot_learning_curves as plot_learning_curves
