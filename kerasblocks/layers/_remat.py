"""A layer's function that keeps nothing for the gradient; Keras's remat loses what the function assigns and adds."""

from collections.abc import Callable
from typing import Any

import keras


def rematerialized(layer: Any, function: Callable[[Any], Any], inputs: Any) -> Any:
    """Returns `function(inputs)`, which the backward pass computes anew with the same random numbers.

    What the function assigns to the layer's variables, as seeds and moving averages, is assigned once, and the losses
    that it adds are the layer's.

    Args:
        layer: the one whose variables the function reads and assigns.
        function: of one tensor, to one.
        inputs: the tensor.
    """
    variables = list(layer.variables)
    assigned = _assigned(layer)
    ids = set(map(id, assigned))

    def run(tensor: Any, *values: Any) -> Any:
        scope = keras.StatelessScope(list(zip(variables, values, strict=True)), collect_losses=True)
        with scope:
            outputs = function(tensor)
        return outputs, *map(scope.get_current_value, assigned), *scope.losses

    # Copies of what is assigned, for PyTorch assigns in place.
    values = (keras.ops.copy(each.value) if id(each) in ids else each.value for each in variables)
    outputs, *rest = keras.remat(run)(inputs, *values)
    for variable, value in zip(assigned, rest, strict=False):
        variable.assign(value)
    for loss in rest[len(assigned) :]:
        layer.add_loss(loss)
    return outputs


def _assigned(layer: Any) -> list[Any]:
    """Returns the variables that a call may assign: seeds, and weights that no optimizer is meant for."""
    found = []
    for inner in layer._flatten_layers():
        frozen = {id(variable) for variable in inner._trainable_variables}
        found += [each for each in inner.variables if not each.trainable and id(each) not in frozen]
    return list({id(each): each for each in found}.values())
