"""Weights, masks and the mean of a loss that gives a number for each sample, as Keras's own losses take them."""

from typing import Any

import keras


class _Mean(keras.losses.Loss):
    """The mean of numbers, weighted; under a TensorFlow strategy the replica's share of it."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_pred


_mean = _Mean(name="mean_loss")


def weighted_mean(values: Any, sample_weight: Any, mask: Any) -> Any:
    """Returns Σ wᵢ·mᵢ·vᵢ over the number of values that the mask leaves, with v of shape `(batch, ...)`.

    Weights and mask have leading axes of the values, or more axes than they have, over which their mean is taken.

    Raises:
        ValueError: there are weights or a mask, and the loss is one number for the whole batch.
    """
    ops = keras.ops
    if len(values.shape) == 0:
        if sample_weight is not None or mask is not None:
            raise ValueError(
                "A loss that is one number for the whole batch takes no sample weights and no masks: return one for "
                "each sample."
            )
        return values
    if mask is not None:
        mask = _fitted(ops.cast(mask, values.dtype), values)
        mask = mask / ops.maximum(ops.mean(mask), keras.config.epsilon())
    weight = None if sample_weight is None else _fitted(ops.cast(sample_weight, values.dtype), values)
    if mask is not None:
        weight = mask if weight is None else weight * mask
    return _mean(values, values, sample_weight=weight)


def _fitted(weight: Any, values: Any) -> Any:
    """Returns the weights with as many axes as the values have."""
    extra = len(weight.shape) - len(values.shape)
    if extra == 1 and weight.shape[-1] == 1:
        return keras.ops.squeeze(weight, axis=-1)
    if extra > 0:
        return keras.ops.mean(weight, axis=tuple(range(len(values.shape), len(weight.shape))))
    return keras.ops.reshape(weight, (*keras.ops.shape(weight), *(1,) * -extra))
