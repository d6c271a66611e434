import keras
import ml_dtypes
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, function_and_gradients, numeric_gradients

from kerasblocks.ops import rotary_embedding


def oracle(x, positions=None, base=10_000.0):
    """Turns by complex numbers, in float64."""
    x = np.asarray(x, "float64")
    n = x.shape[-1] // 2
    positions = np.arange(x.shape[1]) if positions is None else np.asarray(positions, "float64")
    positions = np.broadcast_to(positions, x.shape[:2])
    angles = positions[..., None] * base ** (-np.arange(n) / n)
    angles = angles.reshape(*angles.shape[:2], *(1,) * (x.ndim - 3), n)
    turned = (x[..., :n] + 1j * x[..., n:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], -1)


@pytest.mark.parametrize("shape", [(2, 5, 8), (1, 1, 2), (3, 7, 2, 6), (2, 3, 2, 2, 4), (0, 3, 4), (2, 0, 4)], ids=str)
@pytest.mark.parametrize("base", [10_000.0, 500.0])
def test_equals_the_oracle(shape, base):
    x, upstream = random(shape), random(shape, seed=1)
    output, gradient = function_and_gradients(lambda x: rotary_embedding(x, base=base), [x], upstream)
    assert_close(output, oracle(x, base=base), 1e-5)
    wanted = numeric_gradients(lambda x: oracle(x, base=base), [x], upstream)
    assert_close(gradient, wanted[0], 1e-5)


@pytest.mark.parametrize("positions", [[3, 1, 4, 1, 5], [[0, 1, 2, 0, 1], [7, 8, 9, 1000, 1001]]], ids=["row", "batch"])
def test_positions_of_ones_own(positions):
    x = random((2, 5, 3, 4))
    assert_close(to_numpy(rotary_embedding(x, np.array(positions))), oracle(x, positions), 1e-4)


def test_products_depend_on_distances_alone():
    q, k = random((1, 1, 16)), random((1, 1, 16), seed=1)

    def product(at, other):
        turned = [to_numpy(rotary_embedding(each, np.array([p]))) for each, p in ((q, at), (k, other))]
        return float((turned[0] * turned[1]).sum())

    assert product(3, 10) == pytest.approx(product(103, 110), abs=1e-4)
    assert abs(product(3, 10) - product(3, 11)) > 1e-3


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 2**-10), ("bfloat16", 2**-7)])
def test_halves_are_rounded_once(dtype, digits):
    x = random((2, 300, 4)).astype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    output = rotary_embedding(keras.ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    wanted = oracle(x.astype("float64"))
    assert (abs(to_numpy(output) - wanted) <= digits * abs(wanted) + 1e-4).all()


def test_integers_are_cast():
    x = np.arange(12).reshape(1, 3, 4)
    assert_close(to_numpy(rotary_embedding(x)), oracle(x), 1e-6)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((2, 4)), {}, r"x must have the shape \(batch, length, ..., features\); got \(2, 4\)"),
        (np.ones((2, 4, 3)), {}, r"even, for they are turned in pairs; got the shape \(2, 4, 3\)"),
        (np.ones((2, 4, 2)), {"base": 1}, "base must be above 1; got 1"),
        (np.ones((2, 4, 2)), {"base": "big"}, "base must be a finite number; got 'big'"),
        (np.ones((2, 4, 2)), {"positions": np.arange(3)}, r"positions must have the shape .*; got \(3,\)"),
        (np.ones((2, 4, 2)), {"positions": np.ones((3, 4))}, r"positions must have the shape .*; got \(3, 4\)"),
        (np.ones((2, 4, 2)), {"positions": np.ones((2, 4, 1))}, r"positions must have the shape .*; got \(2, 4, 1\)"),
        (keras.KerasTensor((2, 4, 2)), {}, "rotary_embedding takes tensors, no symbols"),
    ],
    ids=range(8),
)
def test_bad_arguments_are_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        rotary_embedding(x, **options)
