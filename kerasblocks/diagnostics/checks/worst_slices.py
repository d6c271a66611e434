"""On which part of the validation data a trained model is worst."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, warned

_LEAST = 30  # samples of a slice
_WORSE = 0.25  # of accuracy, beside what chance does


def check(case: Case) -> Finding:
    """Warns where a quarter of the samples, by one feature, brightness or contrast, is much worse than the others."""
    found = case.validation_predictions
    if not case.is_trained or found is None or not isinstance(case.validation_samples[0], np.ndarray):
        return not_applicable("The check is for a trained classifier, validation data, and one array of inputs.")
    probabilities, labels = found
    x, right = case.validation_samples[0][: len(labels)], probabilities.argmax(1) == labels
    rows = np.nan_to_num(x.reshape(len(x), -1).astype("float64"))
    quantities = {"mean": rows.mean(1), "deviation": rows.std(1)}
    if x.ndim == 2:
        quantities |= {f"feature {place}": rows[:, place] for place in range(min(64, rows.shape[1]))}
    worst: tuple[float, str, float] = (1.0, "", 0.0)
    for name, values in quantities.items():
        for quarter, part in enumerate(np.array_split(np.argsort(values, kind="stable"), 4)):
            if len(part) >= _LEAST and right[part].mean() < worst[0]:
                worst = (float(right[part].mean()), f"{name}, quarter {quarter + 1} of 4", float(len(part)))
    if not worst[1]:
        return not_applicable("There are too few samples for slices.")
    accuracy, name, count = worst
    figures = {"slice": name, "accuracy": accuracy, "of_all": float(right.mean()), "samples": count}
    told = f"The worst slice is {name}, with an accuracy of {accuracy:.1%}, {right.mean():.1%} of all."
    if right.mean() - accuracy > _WORSE + 3 * np.sqrt(right.mean() * (1 - right.mean()) / count):
        return warned(
            told, "Look at samples of this slice, and add more of their kind to the training data.", **figures
        )
    return passed(told, **figures)
