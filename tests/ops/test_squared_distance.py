import keras
import numpy as np
import pytest
from arrays import random
from gradients import assert_close, function_and_gradients, numeric_gradients

from kerasblocks.ops import squared_distance


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7), (0, 7), (1, 1)], ids=str)
def test_equals_the_definition(shape):
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=shape).astype("float32"), rng.normal(size=(5, shape[-1])).astype("float32")
    expected = ((x[..., None, :].astype("float64") - codes) ** 2).sum(-1)
    actual = keras.ops.convert_to_numpy(squared_distance(x, codes))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_is_computed_in_float32(dtype):
    x, codes = keras.ops.cast([[300.0, 400.0]], dtype), keras.ops.cast([[0.0, 0.0]], dtype)
    output = squared_distance(x, codes)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    expected = (np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")), "float64") ** 2).sum()
    assert float(output[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_keeps_the_digits_of_a_small_distance():
    code = np.where(np.random.default_rng(1).random((1, 84)) < 0.5, -1.0, 1.0).astype("float32")
    x = code + np.float32(1e-3)
    expected = ((x.astype("float64") - code) ** 2).sum()
    assert float(keras.ops.convert_to_numpy(squared_distance(x, code)).item()) == pytest.approx(expected, rel=1e-5)


def test_gradients_equal_the_oracle_s():
    x, codes, upstream = random((2, 3)), random((4, 3), seed=1), random((2, 4), seed=2)
    _, *gradients = function_and_gradients(squared_distance, (x, codes), upstream)
    wanted = numeric_gradients(lambda x, codes: ((x[:, None] - codes) ** 2).sum(-1), [x, codes], upstream)
    for gradient, right in zip(gradients, wanted, strict=True):
        assert_close(gradient, right, 1e-5)


@pytest.mark.parametrize(("x", "codes"), [((2, 1), (3, 5)), ((2, 5), (5,)), ((), (3, 5))], ids=str)
def test_vectors_of_other_lengths_are_refused(x, codes):
    with pytest.raises(ValueError, match=r"x must have the shape \(\.\.\., features\) and codes"):
        squared_distance(np.ones(x, "float32"), np.ones(codes, "float32"))
