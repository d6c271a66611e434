"""LeNet-5 as it is taught today and as it was in 1998; Keras has no builder of either."""

import math
from typing import Any

import keras

from kerasblocks._arguments import as_integer
from kerasblocks.layers import CodeDistance, ConnectionTableConv2D, Subsampling2D
from kerasblocks.models._lenet5_codes import CODE_LENGTH, code_book
from kerasblocks.models._numpy_weights import draw_weights
from kerasblocks.ops import scaled_tanh

_SMALLEST_SIDE = 16
_C3_INPUTS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)


def lenet5(
    input_shape: tuple[int, int, int] = (32, 32, 1),
    num_classes: int = 10,
    variant: str = "modern",
    seed: int | None = None,
) -> keras.Model:
    """Builds LeNet-5, a convolutional network of seven layers whose outputs are logits.

    `"modern"`, 61,706 parameters at the default shape: convolution 6@5x5, average pooling, full
    convolution 16@5x5, average pooling, dense 120, dense 84, dense logits, ReLU after the others.

    `"1998"`, exactly 60,000 trainable parameters: sub-sampling with trained coefficients
    (`Subsampling2D`), partial connections in C3 (`ConnectionTableConv2D`), 1.7159·tanh(2a/3) after
    every layer, weights from U(−√(3/F), √(3/F)) with F the inputs of a unit (in C3 their mean; the
    paper's narrower U(−2.4/F, 2.4/F) suits its own optimizer and generalizes less well with
    AdamW), and an output layer without weights (`CodeDistance`): the negative squared distance to a fixed code of
    84 bits a class, pictures of the digits for up to ten classes and seeded random codes beyond.

    Layer by layer at the default shape, `"1998"` has 156 (C1), 12 (S2), 1,516 (C3), 32 (S4),
    48,120 (C5), 10,164 (F6) parameters. The outputs are float32 under every precision policy.

    Args:
        input_shape: `(height, width, channels)` of the images, at least 16 high and wide. Pixels of
            mean 0 and spread 1 train best.
        num_classes: number of classes, at least 2.
        variant: `"modern"` or `"1998"`.
        seed: None to leave the weights to Keras's global seed, which gives each backend other
            numbers; a non-negative integer to draw them with NumPy from the same distributions,
            the same bits on every backend.

    Returns:
        A `keras.Sequential` from `(batch, height, width, channels)` to logits `(batch, num_classes)`,
        named `"lenet5"` or `"lenet5_1998"`.

    Raises:
        ValueError: an unknown variant, a shape too small or not of rank 3, fewer than 2 classes, or
            a negative seed.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
    recognition", Proc. IEEE 86(11), 1998; starting weights: LeCun, Bottou, Orr, Müller, "Efficient
    BackProp", 1998.

    Example:

    >>> from kerasblocks.models import lenet5
    >>> lenet5(seed=0).count_params(), lenet5(variant="1998", seed=0).count_params()
    (61706, 60000)
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(map(repr, _VARIANTS))}; got {variant!r}.")
    if not isinstance(input_shape, list | tuple) or len(input_shape) != 3:
        raise ValueError(f"input_shape must be (height, width, channels); got {input_shape!r}.")
    shape = tuple(as_integer("every entry of input_shape", side, least=1) for side in input_shape)
    if min(shape[:2]) < _SMALLEST_SIDE:
        raise ValueError(
            f"input_shape must be at least {_SMALLEST_SIDE} high and wide, or nothing is left after the second "
            f"pooling; got {shape}. Resize the images, to 32 for instance."
        )
    num_classes = as_integer("num_classes", num_classes, least=2)
    seed = None if seed is None else as_integer("seed", seed, least=0)
    model = _VARIANTS[variant](shape, num_classes)
    if seed is not None:
        draw_weights(model, seed)
    return model


def _modern(shape: tuple[int, ...], num_classes: int) -> keras.Sequential:
    layers = keras.layers
    images = {"data_format": "channels_last"}
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(6, 5, activation="relu", name="c1", **images),
            layers.AveragePooling2D(2, name="s2", **images),
            layers.Conv2D(16, 5, activation="relu", name="c3", **images),
            layers.AveragePooling2D(2, name="s4", **images),
            layers.Flatten(name="flatten", **images),
            layers.Dense(120, activation="relu", name="c5"),
            layers.Dense(84, activation="relu", name="f6"),
            layers.Dense(num_classes, dtype="float32", name="logits"),
        ],
        name="lenet5",
    )


def _as_in_1998(shape: tuple[int, ...], num_classes: int) -> keras.Sequential:
    layers = keras.layers
    images: dict[str, Any] = {"data_format": "channels_last"}
    squashed = {"activation": scaled_tanh, "kernel_initializer": "lecun_uniform"}
    c3_fan_in = 25 * sum(len(inputs) for inputs in _C3_INPUTS) / len(_C3_INPUTS)
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(6, 5, name="c1", **squashed, **images),
            Subsampling2D(2, activation=scaled_tanh, coefficient_initializer=_uniform(4), name="s2", **images),
            ConnectionTableConv2D(
                _C3_INPUTS, 5, activation=scaled_tanh, kernel_initializer=_uniform(c3_fan_in), name="c3", **images
            ),
            Subsampling2D(2, activation=scaled_tanh, coefficient_initializer=_uniform(4), name="s4", **images),
            layers.Flatten(name="flatten", **images),
            layers.Dense(120, name="c5", **squashed),
            layers.Dense(CODE_LENGTH, name="f6", **squashed),
            CodeDistance(code_book(num_classes), dtype="float32", name="logits"),
        ],
        name="lenet5_1998",
    )


def _uniform(fan_in: float) -> keras.initializers.Initializer:
    limit = math.sqrt(3 / fan_in)
    return keras.initializers.RandomUniform(-limit, limit)


_VARIANTS = {"modern": _modern, "1998": _as_in_1998}
