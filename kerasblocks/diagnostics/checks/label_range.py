"""Whether labels lie where the output can reach them: class numbers that have a unit, numbers of a size to predict."""

import numpy as np

from kerasblocks.data._label_figures import LabelFigures
from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics._head import Head
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, wrong

_LARGE, _TOO_LARGE = 100.0, 1000.0  # root mean squares, beside those of the outputs


def check(case: Case) -> Finding:
    """Fails where a class number has no unit: backends read another class then, or nothing."""
    head, y = case.head, case.samples[1]
    if head is None or not isinstance(y, np.ndarray) or len(case.audit.labels) != 1:
        return not_applicable("The check is for one array of labels and one loss.")
    if head.loss == "regression":
        return _size(case, y)
    if head.loss != "sparse" or not case.audit.labels[0].whole:
        return not_applicable("The check is for class numbers and for numbers.")
    found = _classes(head, case.audit.labels[0], y, "")
    validation = None if case.validation is None else case.validation_samples[1]
    if found.verdict == "pass" and isinstance(validation, np.ndarray) and len(case.audit.validation_labels) == 1:
        of_validation = _classes(head, case.audit.validation_labels[0], validation, "of the validation data ")
        return found if of_validation.verdict == "pass" else of_validation
    return found


def _classes(head: Head, labels: LabelFigures, y: np.ndarray, where: str) -> Finding:
    least, largest = int(labels.least or 0), int(labels.largest or 0)
    if head.ignored is not None and head.ignored in (least, largest):
        counted = y[y != head.ignored]
        least, largest = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
    figures = {"least": least, "largest": largest, "units": head.units, "ignored": head.ignored}
    if least == 1 and largest == head.units:
        return failed(
            f"The labels {where}count from 1 to {head.units}, and the output's {head.units} units are the classes 0 to "
            f"{head.units - 1}.",
            "Subtract 1 from the labels.",
            **figures,
        )
    if least < 0 or largest >= head.units:
        return failed(
            f"The labels {where}lie from {least} to {largest}, and the output has units for 0 to {head.units - 1}.",
            f"Give the output {largest + 1} units, number the classes from 0 without gaps, or name the one that does "
            "not count (ignore_class of the loss).",
            **figures,
        )
    return passed(f"Labels from {least} to {largest} for {head.units} units.", **figures)


def _size(case: Case, y: np.ndarray) -> Finding:
    if case.is_trained or y.dtype.kind not in "biuf" or not np.isfinite(y).all():
        return not_applicable("The check is for labels that are finite, and a model that has not been trained.")
    size, output = (float(np.sqrt((each.astype("float64") ** 2).mean())) for each in (y, case.outputs))
    figures = {"root_mean_square": size, "of_the_outputs": output}
    if size > _LARGE * max(1.0, output):
        return wrong(
            size > _TOO_LARGE * max(1.0, output),
            f"The labels' root mean square is {size:,.4g}, and that of the outputs {output:.3g}: it takes the weights "
            "long to get there.",
            "Train on labels less their mean, divided by their deviation (or on their logarithm), and turn the "
            "predictions back.",
            **figures,
        )
    return passed(f"The labels' root mean square is {size:.3g}, that of the outputs {output:.3g}.", **figures)
