"""Weights, masks and the mean of a loss that gives a number for each sample, as Keras's own losses take them."""

import math
from typing import Any

import keras
from keras.src.backend import get_keras_mask
from keras.src.losses.loss import scale_loss_for_distribution

from kerasblocks.ops._floating import accumulation_dtype, cast_to


def weighted_mean(values: Any, sample_weight: Any, mask: Any) -> Any:
    """Returns Σ wᵢ·mᵢ·vᵢ over the number of values that the mask leaves, with v of shape `(batch, ...)`.

    Weights and mask have leading axes of the values, or more axes than they have, over which their mean is taken.
    The mean is in float32, or float64 where that is `floatx`; under a TensorFlow strategy it is the replica's share.

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
        return scale_loss_for_distribution(values)
    values = cast_to(values, accumulation_dtype(keras.config.floatx()))
    if sample_weight is not None:
        sample_weight = _fitted(ops.cast(sample_weight, values.dtype), values)
    if mask is not None:
        mask = _fitted(ops.cast(mask, values.dtype), values)
        mask = mask / ops.maximum(ops.mean(mask), keras.config.epsilon())
        # A product of its own: Keras's losses multiply the weights in place by the mask, on PyTorch.
        sample_weight = mask if sample_weight is None else sample_weight * mask
    if sample_weight is not None:
        values = values * sample_weight
    count = math.prod(ops.shape(values))
    if isinstance(count, int) and count > 0:
        mean = ops.sum(values) / count
    else:  # A replica may be given no samples.
        mean = ops.divide_no_nan(ops.sum(values), ops.cast(count, values.dtype))
    return scale_loss_for_distribution(mean)


def weights_of_outputs(sample_weight: Any, count: int) -> list[Any]:
    """Returns the weights of each output."""
    if sample_weight is None:
        return [None] * count
    flat: list[Any] = keras.tree.flatten(sample_weight)
    return flat * count if len(flat) == 1 else flat


def mean_weight(weights: list[Any]) -> Any:
    """Returns the weights of the samples where those of the outputs may differ."""
    first, *others = weights
    if all(each is first for each in others):
        return first
    known = [keras.ops.reshape(each, (keras.ops.shape(each)[0], -1)) for each in weights if each is not None]
    return sum(keras.ops.mean(each, axis=-1) for each in known) / len(known)


def weight_for(values: Any, weight: Any, outputs: list[Any]) -> Any:
    """Returns the weights of positions where those of a layer are those of the output, else the samples' means."""
    if weight is None or len(weight.shape) < 2:
        return weight
    positions = tuple(values.shape[1:])
    for each in outputs:
        sizes = tuple(each.shape[1:-1])
        if len(sizes) == len(positions) and all(None in pair or pair[0] == pair[1] for pair in zip(sizes, positions)):  # noqa: B905
            return weight
    return keras.ops.mean(weight, axis=tuple(range(1, len(weight.shape))))


def mask_for(values: Any, features: Any, masks: list[Any]) -> Any:
    """Returns the mask of positions in a layer's output, where it has one or that of the model's output fits."""
    for mask in (get_keras_mask(features), masks[0] if len(masks) == 1 else None):
        if mask is not None and tuple(mask.shape) == tuple(values.shape):
            return mask
    return None


def _fitted(weight: Any, values: Any) -> Any:
    """Returns the weights with as many axes as the values have."""
    extra = len(weight.shape) - len(values.shape)
    if extra == 1 and weight.shape[-1] == 1:
        return keras.ops.squeeze(weight, axis=-1)
    if extra > 0:
        return keras.ops.mean(weight, axis=tuple(range(len(values.shape), len(weight.shape))))
    return keras.ops.reshape(weight, (*keras.ops.shape(weight), *(1,) * -extra))
