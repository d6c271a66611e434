"""Which weights decay; Keras's AdamW decays biases and normalization scales too unless each is named."""

from collections.abc import Sequence
from typing import Any

import keras


def exclude_vectors_from_weight_decay(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
    """Keeps `optimizer` from decaying the variables of rank 0 and 1: biases, scales and the like.

    Decay is a preference for small matrices and kernels; pulled towards 0, a normalization scale or a
    bias only loses what it has learned. Keras does not save the exclusion with the model: call this
    again on a loaded model's optimizer before it is built.

    Args:
        optimizer: an optimizer that is not built yet.
        variables: the model's `trainable_variables`.

    Raises:
        ValueError: the optimizer is built already.

    Source: Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, for AdamW; the
    exclusion is common practice.

    Example:

    >>> import keras
    >>> from kerasblocks.training import exclude_vectors_from_weight_decay
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    >>> exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    """
    if optimizer.built:
        raise ValueError("The exclusion from weight decay must come before the optimizer is built; this one is built.")
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
