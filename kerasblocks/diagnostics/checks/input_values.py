"""Whether inputs are numbers of the kind that the first layers take: types, token numbers, something that varies."""

from typing import Any

import keras

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, passed, warned

_OF_TEXT = ("TextVectorization", "StringLookup", "Hashing", "HashedCrossing")


def check(case: Case) -> Finding:
    """Fails for text, for inputs that are all the same, and for tokens outside of the embedding's table."""
    layers = list(case.model._flatten_layers())
    takes_text = any(type(layer).__name__ in _OF_TEXT for layer in layers)
    inputs = [each for each in case.audit.inputs if each.least is not None or each.missing or not takes_text]
    figures = {
        "arrays": {each.path: {"dtype": each.dtype, "least": each.least, "largest": each.largest} for each in inputs}
    }
    for each in inputs:
        if each.least is None and not each.missing:
            return failed(
                f"{each.path} is of dtype {each.dtype}, of which a model can make nothing.",
                "Turn text into numbers first (TextVectorization, a tokenizer; astype for numbers that were read as "
                "text), and objects into arrays of numbers.",
                **figures,
            )
    same = [each for each in inputs if each.constant == each.features > 0 and case.audit.samples > 1]
    if inputs and len(same) == len(inputs):
        return failed(
            f"All samples of {same[0].path} are the same: no feature of {same[0].features} varies.",
            "Look at what loads the data: it may have been overwritten, divided as integers, or filled with zeros.",
            **figures,
        )
    for place, table in _tables(case.model, layers).items():
        each = case.audit.inputs[place]
        low, high = each.least or 0, each.largest or 0
        if low < 0 or high >= table.input_dim:
            return failed(
                f"{each.path} has tokens from {low:g} to {high:g}, but {table.path} has a table of {table.input_dim} "
                "rows.",
                f"Give the Embedding input_dim={int(high) + 1} at least, or map unknown tokens to one that it has.",
                **figures,
            )
        if not each.whole:
            return failed(
                f"{each.path} goes to {table.path}, which takes whole numbers, and has others, as {each.mean:g} on the "
                "mean.",
                "Give the Embedding token numbers; scale only what is no token.",
                **figures,
            )
    if any(each.dtype.startswith("float") for each in same):
        return warned(
            f"All samples of {same[0].path} are the same.", "Leave it out, or look at what fills it.", **figures
        )
    constant = sum(each.constant for each in inputs if len(each.shape) == 1)
    features = sum(each.features for each in inputs if len(each.shape) == 1)
    if constant > 0.5 * features > 0:
        return warned(
            f"{constant} of {features} features have one value in all samples.",
            "Leave them out, or look at what fills them.",
            **figures,
        )
    return passed("Inputs are numbers that vary.", **figures)


def _tables(model: keras.Model, layers: list[Any]) -> dict[int, Any]:
    """Returns the embedding that takes each of the model's inputs, where that can be told."""
    tables = [layer for layer in layers if isinstance(layer, keras.layers.Embedding)]
    if not tables:
        return {}
    try:
        taken = {id(tensor): place for place, tensor in enumerate(keras.tree.flatten(model.inputs))}
        found = {
            taken[id(tensor)]: layer
            for layer in tables
            for node in layer._inbound_nodes
            for tensor in node.input_tensors
            if id(tensor) in taken
        }
    except (AttributeError, ValueError):
        found = {}
    if not found and len(keras.tree.flatten(getattr(model, "inputs", None) or [None])) == 1:
        found = {0: max(tables, key=lambda layer: layer.input_dim)}  # Beside it, positions have the smaller one.
    return found
