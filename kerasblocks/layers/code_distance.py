"""Class scores as negative distances to fixed codes, as LeNet-5 had them; Keras has no such output layer."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from kerasblocks.ops.squared_distance import squared_distance


@keras.saving.register_keras_serializable(package="kerasblocks")
class CodeDistance(keras.layers.Layer):
    """Scores every class by the negative squared distance to its code; there is nothing to train.

    out[..., k] = −Σⱼ (in[..., j] − code[k, j])², with code[k, j] = ±1

    The paper's Euclidean radial basis function units give the distance; its negative is a logit:
    `softmax(out)` is the posterior of equally likely Gaussians of covariance I/2 around the codes.

    Args:
        codes: one string per class, all different and of one length, with `#` for +1 and `.` for −1.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(..., code length)`.

    Returns:
        A tensor of shape `(..., classes)` in the compute dtype, computed in float32.

    Raises:
        ValueError: fewer than one code, codes of unequal length, equal codes, other characters, or
            inputs whose last axis is not the code length.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE
    86(11), 1998, section II.B.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import CodeDistance
    >>> layer = CodeDistance(["##", "#.", ".."])
    >>> keras.ops.convert_to_numpy(layer(keras.ops.full((1, 2), 2.0))).tolist()
    [[-2.0, -10.0, -18.0]]
    """

    def __init__(self, codes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes = _check_codes(codes)
        self._signs = np.array([[1.0 if bit == "#" else -1.0 for bit in code] for code in self.codes], "float32")
        self.input_spec = keras.layers.InputSpec(min_ndim=1, axes={-1: len(self.codes[0])})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """There are no weights to make; Keras wants to be told that nothing is missing."""

    def call(self, inputs: Any) -> Any:
        distances = squared_distance(inputs, keras.ops.convert_to_tensor(self._signs))
        return keras.ops.cast(-distances, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], len(self.codes))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "codes": list(self.codes)}


def _check_codes(codes: Sequence[str]) -> tuple[str, ...]:
    found = tuple(codes) if isinstance(codes, Iterable) and not isinstance(codes, str) else ()
    if not found or not all(isinstance(code, str) and code and set(code) <= {"#", "."} for code in found):
        raise ValueError(f"codes must be one or more strings of '#' (+1) and '.' (-1); got {str(codes)[:80]}.")
    if len({len(code) for code in found}) != 1:
        raise ValueError(f"codes must have one length; got lengths {sorted({len(code) for code in found})}.")
    if len(set(found)) != len(found):
        raise ValueError("codes must differ from each other; two classes have the same code.")
    return found
