"""The scaled tanh of LeNet-5 as an activation that a saved model can name; Keras has the plain tanh only."""

from typing import Any

import keras

from kerasblocks.ops._floating import as_floating


@keras.saving.register_keras_serializable(package="kerasblocks")
def scaled_tanh(x: Any) -> Any:
    """Computes 1.7159 · tanh(2x / 3), whose value at ±1 is ±1 and whose second derivative is largest there.

    Args:
        x: tensor of any shape; integers are cast to Keras's `floatx`.

    Returns:
        A tensor of the shape of `x` and of its floating dtype.

    Raises:
        ValueError: an `x` that does not consist of real numbers.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
    recognition", Proc. IEEE 86(11), 1998, appendix A.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import scaled_tanh
    >>> keras.ops.convert_to_numpy(scaled_tanh(np.array([-1.0, 0.0, 1.0], "float32"))).round(4).tolist()
    [-1.0, 0.0, 1.0]
    """
    if not isinstance(x, keras.KerasTensor):
        x = keras.ops.convert_to_tensor(x)
    return 1.7159 * keras.ops.tanh(as_floating(x) * (2 / 3))
