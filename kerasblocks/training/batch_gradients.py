"""The gradient of one batch's loss by every trainable variable; Keras hands none out."""

from typing import Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module
from kerasblocks.training.nonfinite import as_tensor, loss_of_batch, state_kept

_backend = backend_module("kerasblocks.training._step")


def batch_gradients(
    model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None, *, training: bool = True
) -> tuple[float, dict[str, np.ndarray | None]]:
    """Computes the compiled loss of one batch, and its gradients, and changes nothing.

    Args:
        model: a built and compiled model.
        x: inputs of one batch, as `fit` takes them.
        y: labels of the batch.
        sample_weight: weights of its samples.
        training: whether layers behave as in training.

    Returns:
        The loss, and for the path of each trainable variable its gradient: a float array of the variable's shape, None
        where the loss does not depend on it. Not scaled, not clipped. JAX gives zeros in the place of None.

    Raises:
        ValueError: a model without a compiled loss.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.training import batch_gradients
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros", name="head")])
    >>> model.compile("sgd", "mse")
    >>> loss, gradients = batch_gradients(model, np.ones((4, 2)), np.ones((4, 1)))
    >>> loss, gradients[model.layers[0].kernel.path].ravel().tolist()
    (1.0, [-2.0, -2.0])
    """
    x, y, sample_weight = (keras.tree.map_structure(as_tensor, part) for part in (x, y, sample_weight))
    arguments = {"training": training} if model._call_has_training_arg else {}
    variables, kept = model.trainable_variables, []

    def loss_of() -> Any:
        loss = loss_of_batch(model, x, y, model(x, **arguments), sample_weight, training)
        if loss is None:
            raise ValueError("The model must be compiled with a loss, and there must be labels for it.")
        return loss

    with state_kept(model, None):
        kept.append(float(keras.ops.convert_to_numpy(loss_of())))
    with state_kept(model, None):
        found = _backend.gradients(loss_of, variables) if variables else []
    arrays = [None if each is None else _as_float(each) for each in found]
    return kept[0], {variable.path: each for variable, each in zip(variables, arrays, strict=True)}


def _as_float(gradient: Any) -> np.ndarray:
    if keras.backend.standardize_dtype(gradient.dtype) in ("bfloat16", "float16"):
        gradient = keras.ops.cast(gradient, "float32")
    array: np.ndarray = np.array(keras.ops.convert_to_numpy(gradient))
    return array
