"""Whether a trained classifier is as sure as it is right."""

from typing import Any

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.calibration import expected_calibration_error
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong
from kerasblocks.diagnostics.temperature_scaling import TemperatureScaling

_FAR, _TOO_FAR = 0.1, 0.25
_BINS = 15


def check(case: Case) -> Finding:
    """Warns where confidence and accuracy are 10 % apart on validation data; tells the temperature that mends it."""
    found = case.validation_predictions
    if not case.is_trained or found is None:
        return not_applicable("The check is for a trained classifier with validation data.")
    probabilities, labels = found
    error = expected_calibration_error(probabilities, labels, _BINS)
    by_chance = float(np.sqrt(min(_BINS, len(labels)) / len(labels)) / 2)  # about, of a model that is calibrated
    figures: dict[str, Any] = {"error": error, "by_chance": by_chance, "diagram": reliability(probabilities, labels)}
    told = f"The expected calibration error is {error:.1%} on {len(labels)} validation samples"
    if error <= max(_FAR, 2 * by_chance):
        return passed(f"{told}.", **figures)
    sure = "too sure" if probabilities.max(1).mean() > (probabilities.argmax(1) == labels).mean() else "not sure enough"
    try:
        figures["temperature"] = TemperatureScaling(from_logits=False).fit(probabilities, labels).temperature
        remedy = f"Divide its logits by {figures['temperature']:.2f} (TemperatureScaling)."
    except ValueError as reason:
        remedy = str(reason)
    return wrong(error > max(_TOO_FAR, 3 * by_chance), f"{told}: it is {sure}.", remedy, **figures)


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Returns for each bin that holds samples: its confidence, its accuracy and its share."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    return [
        {
            "confidence": float(confidence[place == number].mean()),
            "accuracy": float(right[place == number].mean()),
            "share": float((place == number).mean()),
        }
        for number in range(_BINS)
        if (place == number).any()
    ]
