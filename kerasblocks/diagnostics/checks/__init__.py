"""The checks of the check-up, in the order in which a fault explains those that follow."""

from collections.abc import Callable

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.checks import (
    activations,
    calibration,
    causality,
    class_imbalance,
    conflicting_labels,
    confusion,
    dead_units,
    distribution_shift,
    duplicates,
    finite_data,
    finite_outputs,
    generalization,
    gradient_flow,
    gradient_noise,
    gradients,
    initial_loss,
    input_ignored,
    input_scale,
    input_values,
    label_format,
    label_range,
    label_signal,
    leakage,
    learning_rate,
    missing_classes,
    mixed_precision,
    output_activation,
    overfit_tiny_subset,
    regularization,
    sample_mixing,
    sample_order,
    starting_weights,
    train_inference_gap,
    trainable_weights,
    update_ratio,
    worst_slices,
)
from kerasblocks.diagnostics.finding import Finding

# A check stands before those whose failures it can explain.
_ALL = (
    *(finite_data, input_values, label_format, label_range, output_activation, sample_mixing, causality),
    *(trainable_weights, starting_weights, mixed_precision, input_scale),
    *(leakage, label_signal, conflicting_labels, duplicates, missing_classes, class_imbalance, sample_order),
    *(train_inference_gap, regularization, finite_outputs, dead_units, input_ignored, activations),
    *(gradients, gradient_flow, initial_loss, learning_rate, update_ratio, overfit_tiny_subset, distribution_shift),
    *(generalization, confusion, calibration, worst_slices, gradient_noise),
)
CHECKS: dict[str, Callable[[Case], Finding]] = {module.__name__.rpartition(".")[2]: module.check for module in _ALL}
