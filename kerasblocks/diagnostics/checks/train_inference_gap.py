"""Whether layers that behave otherwise in training than in inference do so within reason."""

from typing import Any

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._head import expected_loss
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned, wrong

_HIGH, _TOO_HIGH = 0.6, 0.75  # of dropout
_WORSE, _MUCH_WORSE = 2.0, 5.0


def check(case: Case) -> Finding:
    """Fails for batch normalization of single samples, for dropout that leaves too little, and for stale averages.

    The last is seen in a trained model: the same samples have a far larger loss in inference than in training.
    """
    layers = list(case.model._flatten_layers(include_self=False))
    normal = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable]
    drop = [
        layer
        for layer in layers
        if "Dropout" in type(layer).__name__ and isinstance(getattr(layer, "rate", None), int | float)
    ]
    if not normal and not drop:
        return not_applicable("No layer behaves otherwise in training than in inference.")
    highest = max(drop, key=lambda layer: layer.rate, default=None)
    figures = {"batch_size": case.batch_size, "dropout": None if highest is None else highest.rate}
    few = [(layer, count) for layer in normal if (count := _numbers(case, layer)) is not None and count < 4]
    if few:
        layer, count = min(few, key=lambda each: each[1])
        told = (
            f"{layer.path} normalizes over {count} numbers of batches of {case.batch_size}: in training it sees others "
            "than in inference."
        )
        remedy = "Take batches of 16 and more, or LayerNormalization, GroupNormalization or RMSNorm."
        return wrong(count < 3, told, remedy, **figures)
    frozen = [layer for layer in normal if layer.momentum >= 0.9999]
    if frozen:
        return warned(
            f"{frozen[0].path} hardly moves its averages (momentum {frozen[0].momentum}).",
            "Take a momentum of 0.9 to 0.99.",
            **figures,
        )
    if highest is not None and highest.rate > _HIGH:
        told = f"{highest.path} drops {highest.rate:.0%} of its inputs."
        remedy = "Begin without dropout until the model overfits; then 0.1 to 0.5."
        return wrong(highest.rate > _TOO_HIGH, told, remedy, **figures)
    if normal and case.is_trained:
        training, inference = case.gradients[0], case.loss_in_inference
        figures |= {"training": training, "inference": inference}
        nothing = 0.0 if case.head is None else expected_loss(case.head) or 0.0
        if inference > _WORSE * abs(training) + 0.1 * nothing:
            told = f"The loss of the same samples is {training:.4g} in training and {inference:.4g} in inference."
            remedy = (
                "The averages of batch normalization are not those of the data: lower its momentum, train for more "
                "steps, take larger batches, or feed samples in training as they come in inference."
            )
            return wrong(inference > (nothing or _MUCH_WORSE * abs(training)), told, remedy, **figures)
    return passed("Dropout and batch normalization are within reason.", **figures)


def _numbers(case: Case, layer: Any) -> int | None:
    """Returns over how many numbers, of all samples and positions of a batch, a layer takes its means."""
    shape = next((each.shape for each in case.inference.layers if each.path == layer.path), None)
    if shape is None or not isinstance(layer.axis, int):
        return None
    positions = int(np.prod(shape)) // max(1, shape[0] * shape[layer.axis])
    return case.batch_size * positions
