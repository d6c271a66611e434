"""Looking at a training run and at what came out: as pictures and as numbers."""

from kerasblocks.diagnostics.calibration import ExpectedCalibrationError as ExpectedCalibrationError
from kerasblocks.diagnostics.calibration import expected_calibration_error as expected_calibration_error
from kerasblocks.diagnostics.checks import CHECKS as CHECKS
from kerasblocks.diagnostics.checkup import checkup as checkup
from kerasblocks.diagnostics.confusion import plot_confusion as plot_confusion
from kerasblocks.diagnostics.finding import Finding as Finding
from kerasblocks.diagnostics.learning_curves import plot_learning_curves as plot_learning_curves
from kerasblocks.diagnostics.learning_rate_sweep import LearningRateSweep as LearningRateSweep
from kerasblocks.diagnostics.learning_rate_sweep import learning_rate_sweep as learning_rate_sweep
from kerasblocks.diagnostics.report import CheckupReport as CheckupReport
from kerasblocks.diagnostics.temperature_scaling import TemperatureScaling as TemperatureScaling
