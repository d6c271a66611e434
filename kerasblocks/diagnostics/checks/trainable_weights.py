"""Whether the weights that should be trained are trainable."""

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._layer_record import as_numbers
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed


def check(case: Case) -> Finding:
    """Fails where nothing is trainable, or a frozen layer has the weights that it was made with."""
    variables = case.model.trainable_variables
    if not case.model.weights:
        return not_applicable("The model has no weights.")
    if not variables:
        return failed("No variable is trainable.", "Set model.trainable = True, or that of its layers, before compile.")
    fresh = [layer.path for layer in _leaves(case.model) if not layer.trainable_weights and _is_fresh(layer)]
    figures = {"trainable": len(variables), "frozen_at_random": fresh}
    if fresh:
        return failed(
            f"{', '.join(fresh[:3])}{' and others' if len(fresh) > 3 else ''} cannot be trained and has the weights "
            "that it was made with: frozen before it has learned anything.",
            "Set trainable = True, or load the weights that should be kept; compile again.",
            **figures,
        )
    count = sum(int(np.prod(variable.shape)) for variable in variables)
    return passed(f"{len(variables)} variables with {count:,} numbers are trainable.", **figures)


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if not list(layer._flatten_layers(include_self=False))
    ]


def _is_fresh(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer's kernel is as its initializer draws them, and its bias is where it began."""
    kernel, initializer = getattr(layer, "kernel", None), getattr(layer, "kernel_initializer", None)
    if kernel is None or initializer is None or int(np.prod(kernel.shape)) < 32:
        return False
    bias = getattr(layer, "bias", None)
    has_begun_at_0 = isinstance(getattr(layer, "bias_initializer", None), keras.initializers.Zeros)
    if bias is not None and has_begun_at_0 and not np.isin(as_numbers(bias), (0, 1)).all():
        return False  # Trained biases are neither 0 nor the 1 with which an LSTM forgets.
    values = as_numbers(kernel)
    drawn = as_numbers(type(initializer).from_config(initializer.get_config())(kernel.shape))
    near = 0.1 if bias is not None and has_begun_at_0 else 0.05  # Without a bias the kernel alone has to tell.
    alike = abs(values.std() - drawn.std()) <= near * drawn.std()
    return bool(alike and abs(values).max() <= (1 + near) * abs(drawn).max())
