"""Whether the last activation is the one that the loss expects."""

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned, wrong

_ENDS = {"rates": (0.0, 1.0), "bounded": (-1.0, 1.0), "rectified": (0.0, np.inf), "probabilities": (0.0, 1.0)}
_NAMES = {
    "probabilities": "softmax",
    "rates": "sigmoid",
    "other axis": "softmax",
    "unknown": "an activation that is not known",
    "bounded": "tanh",
    "rectified": "ReLU",
    "logits": "no activation",
}


def check(case: Case) -> Finding:
    """Fails for softmax twice, probabilities where logits are taken and the other way round, and outputs cut off."""
    head = case.head
    if head is None:
        return not_applicable("The check is for one output and one loss.")
    given = head.activation or _NAMES[head.gives]
    figures = {
        "activation": head.activation,
        "gives": head.gives,
        "loss": head.loss_name,
        "from_logits": head.from_logits,
    }
    if head.units == 1 and head.activation == "softmax":
        return failed(
            "Softmax over one unit is 1 whatever the input: the model can learn nothing.",
            "Take a sigmoid for two classes, or a unit for each class.",
            **figures,
        )
    if head.gives == "other axis":
        return failed(
            f"The softmax does not run over the last axis, of {head.units}: its numbers do not add up to 1 there.",
            "Give it axis=-1, or move the classes to the last axis first (Permute).",
            **figures,
        )
    if head.gives == "unknown":
        return not_applicable("The model does not tell its last activation, and its outputs fit several of them.")
    if head.from_logits and head.gives != "logits":
        return failed(
            f"The loss takes logits (from_logits=True) and gets the output of {given}: squashed twice.",
            "Take the activation away, or from_logits=True.",
            **figures,
        )
    if head.from_logits is False and head.gives == "logits":
        return failed(
            f"{head.loss_name} takes probabilities, and the output has {given}: it is clipped to 0 and 1.",
            "Add the activation (softmax for classes, sigmoid for two), or say from_logits=True.",
            **figures,
        )
    if head.from_logits is False and head.gives in ("bounded", "rectified"):
        return failed(
            f"{head.loss_name} takes probabilities, and {given} gives none.",
            "Take softmax for classes or a sigmoid for two, or no activation and from_logits=True.",
            **figures,
        )
    if head.loss in ("sparse", "categorical") and head.gives == "rates":
        return failed(
            f"{head.loss_name} chooses one of {head.units} classes, and the output has {given}: each unit for itself.",
            "Take softmax, or BinaryCrossentropy where several classes can be there at once.",
            **figures,
        )
    if head.loss == "binary" and head.gives == "probabilities" and head.units > 1:
        return wrong(
            case.audit.labels[0].kind == "classes",
            f"{head.loss_name} looks at each unit for itself, and softmax lets {head.units} share 1.",
            "Take CategoricalCrossentropy for one class of several, or a sigmoid.",
            **figures,
        )
    if head.from_logits and head.units == 1 and case.compares_logits_with_half():
        return warned(
            "The metric accuracy compares logits with 0.5, where 0 parts the classes.",
            "Take keras.metrics.BinaryAccuracy(threshold=0), or a sigmoid and from_logits=False.",
            **figures,
        )
    if head.loss == "regression" and head.gives in _ENDS and case.audit.labels:
        labels, (low, high) = case.audit.labels[0], _ENDS[head.gives]
        least, largest = labels.least or 0.0, labels.largest or 0.0
        if least < low - 1e-6 or largest > high + 1e-6:
            return failed(
                f"Labels lie from {least:.4g} to {largest:.4g}, and {given} gives numbers from {low:g} to {high:g}.",
                "Take the last activation away, or scale the labels to its range.",
                **figures,
            )
    return passed(f"{head.loss_name} gets what it takes, from {given}.", **figures)
