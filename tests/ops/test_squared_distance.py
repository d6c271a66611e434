import keras
import numpy as np
import pytest

from kerasblocks.ops import squared_distance


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7), (0, 7), (1, 1)], ids=str)
def test_equals_the_definition(shape):
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=shape).astype("float32"), rng.normal(size=(5, shape[-1])).astype("float32")
    expected = ((x[..., None, :].astype("float64") - codes) ** 2).sum(-1)
    actual = keras.ops.convert_to_numpy(squared_distance(x, codes))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32"])
def test_is_computed_in_float32(dtype):
    x, codes = keras.ops.cast([[300.0, 400.0]], dtype), keras.ops.cast([[0.0, 0.0]], dtype)
    output = squared_distance(x, codes)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    expected = (np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")), "float64") ** 2).sum()
    assert float(output[0, 0]) == pytest.approx(expected, rel=1e-6)


def test_is_never_negative():
    x = np.full((1, 84), 1.1, "float32")
    assert float(keras.ops.min(squared_distance(x, x))) >= 0.0
