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
