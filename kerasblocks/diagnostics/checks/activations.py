"""Whether activations keep their size and are not at the ends of their range."""

import dataclasses

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, not_applicable, passed, wrong

_SATURATED, _TOO_SATURATED = 0.35, 0.6
# Layers that are linear without an activation.
_AFFINE = (
    *("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D", "SeparableConv2D", "BatchNormalization", "Rescaling"),
    *("Normalization", "Flatten", "Reshape", "Permute", "Dropout", "SpatialDropout2D", "ZeroPadding2D", "InputLayer"),
    *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "Identity"),
    *("Add", "Average", "Subtract", "Concatenate"),
)
_FAR, _TOO_FAR = 1e3, 1e4  # how much the size may change from the first to any layer


def check(case: Case) -> Finding:
    """Fails where tanh or sigmoid are saturated, or sizes grow or shrink from layer to layer."""
    layers = case.inference.layers
    linear = _linear(case)
    if linear:
        return wrong(
            not linear.is_bottleneck,
            f"{linear.first} and {linear.second} follow each other without an activation, and no hidden layer has one: "
            "together they are one linear layer.",
            "Give the hidden layers an activation (relu, gelu).",
            layers=linear.count,
        )
    # Behind the last kernel comes the head, whose activation may be at its ends.
    kernels = [place for place, each in enumerate(layers) if each.has_kernel]
    hidden = [each for each in layers[: kernels[-1] if kernels else -1] if each.saturated is not None]
    worst = max(hidden, key=lambda each: each.saturated or 0.0, default=None)
    told_of = ("mean", "deviation", "saturated")
    figures = {"layers": {each.path: {name: getattr(each, name) for name in told_of} for each in layers}}
    if worst is not None and (worst.saturated or 0) > _SATURATED:
        told = (
            f"{worst.saturated:.0%} of the outputs of {worst.path} ({worst.activation}) are at the ends of its range, "
            "where it is flat."
        )
        remedy = "Scale the inputs to about 1, lower the starting weights, or normalize before the activation."
        return wrong((worst.saturated or 0) > _TOO_SATURATED, told, remedy, **figures)
    sizes = [(each.path, each.deviation) for each in layers[:-1] if each.has_kernel and each.deviation > 0]
    if len(sizes) < 2:
        return (
            not_applicable("There are too few layers to compare.")
            if worst is None
            else passed("No layer is saturated.", **figures)
        )
    first = sizes[0][1]
    path, size = max(sizes, key=lambda each: max(each[1] / first, first / each[1]))
    change = size / first
    if max(change, 1 / change) > _FAR:
        told = f"The spread of the outputs changes {change:.2g}-fold from {sizes[0][0]} to {path}."
        remedy = (
            "Draw starting weights by fan-in (He for ReLU, Glorot for tanh), normalize, or add residual connections."
        )
        return wrong(max(change, 1 / change) > _TOO_FAR, told, remedy, **figures)
    return passed("Activations keep their size from layer to layer.", **figures)


@dataclasses.dataclass(frozen=True)
class _Linear:
    """Hidden layers without an activation: two of them, how many there are, and whether they narrow on purpose."""

    first: str
    second: str
    count: int
    is_bottleneck: bool


def _linear(case: Case) -> _Linear | None:
    """Returns what follows without an activation in a model of known layers that is linear up to its last one.

    Branches that are added or joined stay linear; a subclassed model may do what no layer tells.
    """
    layers, model = case.inference.layers, case.model
    known = all(each.kind in _AFFINE and each.activation is None for each in layers[:-1])
    kernels = [each for each in layers if each.has_kernel and each.kind != "BatchNormalization"]
    ends = layers[-1].kind in (*_AFFINE, "Activation", "Softmax") if layers else False
    operations = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", [])
    are_layers = all(isinstance(each, keras.Layer) and not isinstance(each, keras.Model) for each in operations)
    if not (known and ends and operations and are_layers) or len(kernels) < 2:
        return None
    sizes = [each.shape[-1] for each in kernels]
    first = int(np.prod(keras.tree.flatten(case.batch[0])[0].shape[1:]))
    is_bottleneck = min(sizes[:-1]) < min(first, sizes[-1])
    return _Linear(kernels[0].path, kernels[1].path, len(kernels), is_bottleneck)
