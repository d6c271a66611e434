"""AlexNet as it was published in 2012, and the later one without towers; Keras has no builder of either."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_number, as_rate
from kerasblocks.layers import LocalResponseNormalization
from kerasblocks.models._numpy_weights import draw_weights

_SMALLEST_SIDE = 63


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """One of the five convolutions.

    Attributes:
        filters: its maps at full width.
        size: height and width of its kernel.
        groups: parts of the maps that are convolved apart.
        bias: what its biases start with.
        normalized: whether the responses are normalized.
        pooled: whether they are pooled.
    """

    filters: int
    size: int
    groups: int = 1
    bias: float = 0.0
    normalized: bool = False
    pooled: bool = False


_VARIANTS = {
    "2012": (
        _Convolution(96, 11, normalized=True, pooled=True),
        _Convolution(256, 5, groups=2, bias=1.0, normalized=True, pooled=True),
        _Convolution(384, 3),
        _Convolution(384, 3, groups=2, bias=1.0),
        _Convolution(256, 3, groups=2, bias=1.0, pooled=True),
    ),
    "single": (
        _Convolution(64, 11, pooled=True),
        _Convolution(192, 5, pooled=True),
        _Convolution(384, 3),
        _Convolution(256, 3),
        _Convolution(256, 3, pooled=True),
    ),
}


def alexnet(
    input_shape: tuple[int, int, int] = (227, 227, 3),
    num_classes: int = 1000,
    variant: str = "2012",
    dropout: float = 0.5,
    *,
    width: float = 1.0,
    weight_decay: float = 0.0,
    seed: int | None = None,
    name: str | None = None,
) -> keras.Model:
    """Builds AlexNet: five convolutions, three of them pooled by overlapping windows, and three dense layers.

    `"2012"`, 60,965,224 parameters at the defaults: convolutions 96@11x11/4, 256@5x5, 384@3x3, 384@3x3, 256@3x3, of
    which the second, fourth and fifth see their own tower's half of the maps only (groups of 2);
    `LocalResponseNormalization` after the first two (k = 2, n = 5, the paper's α = 1e-4, β = 0.75); maximum pooling 3x3
    with stride 2 after the first, second and fifth; dense 4096, 4096 and the logits; ReLU after all but these, dropout
    of what the hidden dense layers return. Weights are normal with a standard deviation of 0.01, biases 1 in the
    second, fourth and fifth convolution and the hidden dense layers, else 0.

    `"single"`, 61,100,840 parameters: one tower of 64, 192, 384, 256 and 256 maps, the images padded by 2 pixels, no
    normalization, dropout of what the hidden dense layers are given; weights normal with a standard deviation of
    √(2 / inputs), cut off at two of them (He), biases 0. It trains with any optimizer; the weights of the paper want
    its own.

    At 227 pixels the maps have 55 x 55 places (56 with `"single"`), 27 x 27, 13 x 13, and in the end, where the dense
    layers see them, 6 x 6. With images of another size these are ⌊(side − 35) / 32⌋ a side (`"single"`:
    ⌊(side − 31) / 32⌋), or one where that is less, which is pooled from what there is; see
    `model.get_layer("pool5").output.shape`.

    Args:
        input_shape: `(height, width, channels)` of the images, at least 63 high and wide. The paper's have their mean
            taken away.
        num_classes: number of classes, at least 2.
        variant: `"2012"` or `"single"`.
        dropout: rate of the two dropouts, 0 ≤ dropout < 1.
        width: factor of the numbers of maps and hidden units, which are rounded to multiples of 4.
        weight_decay: λ of a penalty λ/2 · Σ w² on the kernels, whose gradient λw passes through the optimizer's
            momentum as the paper's 0.0005 does; not that of AdamW, which does not.
        seed: None to leave the weights to Keras's global seed, which gives each backend other numbers; a non-negative
            integer to draw them with NumPy from the same distributions, the same bits on every backend.
        name: name of the model; None for `"alexnet_2012"` or `"alexnet_single"`.

    Returns:
        A `keras.Model` from `(batch, height, width, channels)` to logits `(batch, num_classes)`, float32 under
        every precision policy.

    Raises:
        ValueError: an unknown variant, a shape too small or not of rank 3, fewer than 2 classes, a rate outside its
            range, a width that is not above 0, a negative weight decay or seed.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    NeurIPS 2012; Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014 (`"single"`).

    Example:

    >>> from kerasblocks.models import alexnet
    >>> model = alexnet((63, 63, 3), num_classes=10, width=0.125)
    >>> model.get_layer("pool5").output.shape, model.output_shape
    ((None, 1, 1, 32), (None, 10))
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, _VARIANTS))}; got {variant!r}.")
    shape = _as_shape(input_shape)
    num_classes = as_integer("num_classes", num_classes, least=2)
    rate, factor = as_rate("dropout", dropout), as_number("width", width)
    if factor <= 0:
        raise ValueError(f"width must be above 0; got {width!r}.")
    decay = as_number("weight_decay", weight_decay)
    if decay < 0:
        raise ValueError(f"weight_decay must be 0 or more; got {weight_decay!r}.")
    seed = None if seed is None else as_integer("seed", seed, least=0)

    def kernel() -> dict[str, Any]:
        """Returns how a kernel starts and what pulls it to 0, anew for each layer."""
        starts = keras.initializers.RandomNormal(stddev=0.01) if published else "he_normal"
        return {
            "kernel_initializer": starts,
            "kernel_regularizer": keras.regularizers.L2(decay / 2) if decay else None,
        }

    layers, published = keras.layers, variant == "2012"
    images: dict[str, Any] = {"data_format": "channels_last"}
    x = inputs = keras.Input(shape, name="images")
    if not published:
        x = layers.ZeroPadding2D(2, name="padding", **images)(x)
    for number, each in enumerate(_VARIANTS[variant], start=1):
        first = number == 1
        x = layers.Conv2D(
            _scaled(each.filters, factor),
            each.size,
            strides=4 if first else 1,
            padding="valid" if first else "same",
            groups=each.groups,
            activation="relu",
            bias_initializer=keras.initializers.Constant(each.bias),
            name=f"conv{number}",
            **kernel(),
            **images,
        )(x)
        if each.normalized:
            x = LocalResponseNormalization(5, 5 * 1e-4, 0.75, 2.0, name=f"norm{number}")(x)
        if each.pooled:
            window = tuple(min(3, side) for side in x.shape[1:3])
            x = layers.MaxPooling2D(window, 2, name=f"pool{number}", **images)(x)
    x = layers.Flatten(name="flatten", **images)(x)
    for number in (6, 7):
        if rate and not published:
            x = layers.Dropout(rate, name=f"dropout{number}")(x)
        x = layers.Dense(
            _scaled(4096, factor),
            activation="relu",
            bias_initializer=keras.initializers.Constant(1.0 if published else 0.0),
            name=f"dense{number}",
            **kernel(),
        )(x)
        if rate and published:
            x = layers.Dropout(rate, name=f"dropout{number}")(x)
    logits = layers.Dense(num_classes, dtype="float32", name="logits", **kernel())(x)
    model = keras.Model(inputs, logits, name=name or f"alexnet_{variant}")
    if seed is not None:
        draw_weights(model, seed)
    return model


def _as_shape(input_shape: Any) -> tuple[int, ...]:
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str) or len(input_shape) != 3:
        raise ValueError(f"input_shape must be (height, width, channels); got {input_shape!r}.")
    shape = tuple(as_integer("every entry of input_shape", side, least=1) for side in input_shape)
    if min(shape[:2]) < _SMALLEST_SIDE:
        raise ValueError(
            f"input_shape must be at least {_SMALLEST_SIDE} high and wide, whose last map has one place; got {shape}. "
            "Resize the images."
        )
    return shape


def _scaled(number: int, factor: float) -> int:
    return number if factor == 1 else max(4, 4 * math.floor(number * factor / 4 + 0.5))
