"""Whether labels have the form that loss and output ask for."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed


def check(case: Case) -> Finding:
    """Fails where the loss takes class numbers and gets vectors, or the other way round, or shapes that broadcast."""
    text = [each for each in case.audit.labels if each.least is None and not each.missing]
    if text:
        return failed(
            f"{text[0].path} is of dtype {text[0].dtype}, of which a loss can make nothing.",
            "Number the classes from 0: names, y = numpy.unique(words, return_inverse=True).",
            dtype=text[0].dtype,
        )
    head, y = case.head, case.batch[1]
    if head is None or not isinstance(y, np.ndarray) or len(case.audit.labels) != 1:
        return not_applicable("The check is for one array of labels and one loss.")
    labels, shape = case.audit.labels[0], case.outputs.shape
    figures = {"loss": head.loss_name, "labels": labels.kind, "label_shape": list(y.shape), "output_shape": list(shape)}
    if head.loss == "sparse":
        if head.units == 1:
            return failed(
                f"{head.loss_name} chooses among the classes of the last axis, and the output has one unit.",
                "Give the output a unit for each class, or take BinaryCrossentropy for two classes.",
                **figures,
            )
        if labels.kind == "one-hot" and y.shape == shape:
            return failed(
                f"{head.loss_name} takes class numbers, and the labels are one-hot vectors of {head.units}.",
                "Take CategoricalCrossentropy, or labels.argmax(-1).",
                **figures,
            )
        if labels.least is not None and not labels.whole:
            return failed(
                f"{head.loss_name} takes class numbers, and the labels are other numbers.",
                "Take MeanSquaredError and an output without softmax to predict numbers, or number the classes from 0.",
                **figures,
            )
    if head.loss in ("categorical", "distribution") and labels.kind == "classes" and y.shape != shape:
        return failed(
            f"{head.loss_name} takes a vector of {head.units} probabilities for each sample, and the labels are class "
            "numbers.",
            "Take SparseCategoricalCrossentropy, or keras.utils.to_categorical(labels).",
            **figures,
        )
    if head.loss == "categorical" and labels.kind == "flags":
        return failed(
            f"{head.loss_name} takes one class a sample, and rows of the labels have several, or none.",
            "Take BinaryCrossentropy and a sigmoid for each class, or labels that add up to 1.",
            **figures,
        )
    if head.loss == "categorical" and head.units == 1:
        return failed(
            f"{head.loss_name} chooses among the classes of the last axis, and the output has one unit: its loss is 0.",
            "Take BinaryCrossentropy, or give the output a unit for each class.",
            **figures,
        )
    if head.loss == "binary":
        if labels.kind == "classes" and head.units == 1 and len(labels.counts) > 2:
            return failed(
                f"{head.loss_name} takes labels of 0 and 1, and there are {len(labels.counts)} classes.",
                "Take SparseCategoricalCrossentropy and an output with a unit for each class.",
                **figures,
            )
        if labels.least is not None and (labels.least < 0 or (labels.largest or 0) > 1):
            return failed(
                f"{head.loss_name} takes labels from 0 to 1, and they lie from {labels.least:g} to {labels.largest:g}.",
                "Give the two classes the numbers 0 and 1.",
                **figures,
            )
    if head.loss in ("regression", "binary", "rate") and not _alike(y.shape, shape):
        return failed(
            f"Labels of shape {y.shape} and outputs of shape {shape} are compared by broadcasting: every output with "
            "labels that are not its own.",
            "Give the output as many units as a label has numbers, and labels the output's shape.",
            **figures,
        )
    copied = _copied(case, y) if head.loss == "sparse" else ""
    if copied:
        return failed(
            f"The labels are {copied}: there is nothing to predict.",
            "Give position t the token t + 1 as its label: x = tokens[:, :-1], y = tokens[:, 1:].",
            **figures,
        )
    if head.loss == "regression" and head.gives == "probabilities" and labels.kind in ("classes", "one-hot"):
        return failed(
            f"{head.loss_name} on the output of a softmax: its gradient vanishes where the model is surely wrong.",
            "Take SparseCategoricalCrossentropy for class numbers, CategoricalCrossentropy for one-hot labels.",
            **figures,
        )
    return passed(f"The labels ({labels.kind}) fit {head.loss_name} and an output of {head.units}.", **figures)


def _copied(case: Case, y: np.ndarray) -> str:
    """Returns which tokens the labels are, where a model of texts is asked for those that it sees."""
    x = case.batch[0]
    if (
        not isinstance(x, np.ndarray)
        or x.shape != y.shape
        or x.ndim != 2
        or x.shape[1] < 3
        or not (x == x[:, :1]).any()
    ):
        return ""
    if (x == y).all():
        return "the inputs themselves"
    return "the tokens before the inputs" if (x[:, :-1] == y[:, 1:]).all() and not (x[:, 1:] == y[:, :-1]).all() else ""


def _alike(labels: tuple[int, ...], outputs: tuple[int, ...]) -> bool:
    """Returns whether the shapes are the same but for a last axis of 1, which Keras adds or takes away."""
    shorter = [shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape for shape in (labels, outputs)]
    return labels == outputs or shorter[0] == shorter[1]
