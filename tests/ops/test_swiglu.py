import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close

from kerasblocks.ops import swiglu


def oracle(gate, up, beta):
    return gate / (1 + np.exp(-beta * gate)) * up


def test_the_gate_multiplies():
    gate, up = random((2, 3)), random((2, 3), seed=1)
    assert_close(to_numpy(swiglu(gate, up, beta=2.0)), oracle(gate.astype("float64"), up, 2.0), 1e-6)


def test_integers_are_cast_on_both_sides():
    gate, up = np.array([0, 1, 2]), np.array([3, 4, 5])
    output = swiglu(gate, up)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert_close(to_numpy(output), oracle(gate.astype("float64"), up, 1.0), 1e-6)


@pytest.mark.parametrize("shape", [(3, 2), (3,), (2, 1)], ids=str)
def test_a_gate_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"gate and up must have one shape; got"):
        swiglu(np.ones((2, 3), "float32"), np.ones(shape, "float32"))


def test_a_gate_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r"gate and up must have one dtype; got float32 and float16"):
        swiglu(np.ones(3, "float32"), np.ones(3, "float16"))


@pytest.mark.parametrize("beta", ["1", None, float("inf"), np.float64("nan"), True, 1j, [1.0]], ids=str)
def test_a_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number; got"):
        swiglu(np.ones(3, "float32"), np.ones(3, "float32"), beta=beta)
