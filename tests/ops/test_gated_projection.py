"""The fast path of the gate and its product against the reference path: in value, gradients and bytes kept."""

import keras
import numpy as np
import pytest
from arrays import random
from gradients import assert_close, function_and_gradients

from benchmarks._steps import saved_bytes
from kerasblocks.layers import SwiGLU
from kerasblocks.ops import use_fast_paths
from kerasblocks.ops._gated_projection import gated_projection

EPSILONS = {"float32": 2**-23, "bfloat16": 2**-7, "float16": 2**-10}


def results(dtype, beta, arrays):
    """Returns output and gradients in float32 of a computation in `dtype`."""

    def function(gate_up, kernel):
        output = gated_projection(keras.ops.cast(gate_up, dtype), keras.ops.cast(kernel, dtype), beta)
        return keras.ops.cast(output, "float32")

    return function_and_gradients(function, arrays, random((7, 3), seed=2) / 16)


@pytest.mark.parametrize("dtype", EPSILONS)
@pytest.mark.parametrize("beta", [1.0, 1.7, -0.5])
def test_fast_and_reference_path_agree_up_to_rounding(dtype, beta):
    arrays = random((7, 10)), random((5, 3), seed=1)
    fast = results(dtype, beta, arrays)
    with use_fast_paths(False):
        for one, other in zip(fast, results(dtype, beta, arrays), strict=True):
            assert_close(one, other, 4 * EPSILONS[dtype])


@pytest.mark.parametrize(("dtype", "value"), [("float16", 2e4), ("bfloat16", 2e38), ("float32", 2e38)])
@pytest.mark.parametrize("beta", [1.0, 10.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_of_large_gates_are_those_of_the_reference_path(dtype, value, beta, sign):
    gate_up = np.concatenate([np.full((7, 5), sign * value), np.full((7, 5), 1e-30)], axis=1).astype("float32")
    arrays = gate_up, random((5, 3), seed=1)
    fast = results(dtype, beta, arrays)
    with use_fast_paths(False):
        reference = results(dtype, beta, arrays)
    for one, other in zip(fast, reference, strict=True):
        assert np.isfinite(one).all()
        assert_close(one, other, 4 * EPSILONS[dtype])


class Composed(keras.layers.Layer):
    def __init__(self, hidden):
        super().__init__()
        self.gate, self.up = (keras.layers.Dense(hidden, use_bias=False) for _ in range(2))
        self.down = keras.layers.Dense(6, use_bias=False)

    def call(self, inputs):
        return self.down(keras.ops.silu(self.gate(inputs)) * self.up(inputs))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow does not tell what it keeps.")
def test_a_quarter_of_the_composition_s_activations_need_not_be_kept():
    layer, composed = SwiGLU(40), Composed(40)
    x = keras.ops.convert_to_tensor(random((32, 6)))
    if keras.backend.backend() == "torch":
        x.requires_grad_()
    layer(x), composed(x)
    assert 0 < saved_bytes(layer, x) <= 0.75 * saved_bytes(composed, x)
