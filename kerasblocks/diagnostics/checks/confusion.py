"""Which classes a trained classifier takes for which: errors of type 1 and 2 of each class."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned

_SHOWN = 50  # classes


def check(case: Case) -> Finding:
    """Fails where a class is never recognized; tells the rates of false positives and false negatives."""
    found = case.validation_predictions
    if not case.is_trained or found is None:
        return not_applicable("The check is for a trained classifier with validation data.")
    probabilities, labels = found
    predicted, classes = probabilities.argmax(1), probabilities.shape[1]
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (labels, predicted), 1)
    there = np.flatnonzero(matrix.sum(1))
    missed = 1 - matrix.diagonal()[there] / matrix.sum(1)[there]
    others = matrix.sum() - matrix.sum(1)[there]
    taken = (matrix.sum(0)[there] - matrix.diagonal()[there]) / np.maximum(1, others)
    figures = {
        "accuracy": float(matrix.diagonal().sum() / matrix.sum()),
        "false_positive_rate": dict(zip(there.tolist(), taken.tolist(), strict=True)),
        "false_negative_rate": dict(zip(there.tolist(), missed.tolist(), strict=True)),
        "matrix": matrix[:_SHOWN, :_SHOWN].tolist(),
    }
    worst = there[missed.argmax()]
    told = f"Accuracy {figures['accuracy']:.1%}; class {worst} is missed in {missed.max():.0%} (type 2 error)"
    told += f", class {there[taken.argmax()]} named wrongly in {taken.max():.1%} of the others (type 1)."
    never = [int(number) for number, rate in zip(there, missed, strict=True) if rate == 1 and matrix[number].sum() >= 5]
    if never:
        judged = failed if figures["accuracy"] < 0.9 else warned
        return judged(
            f"Class {never[0]} is never recognized. {told}",
            "Look at its examples: how many, and of which kind.",
            **figures,
        )
    return passed(told, **figures)
