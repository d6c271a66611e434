import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, function_and_gradients

from kerasblocks.ops import scaled_tanh


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2), ("float16", 2e-3)], ids=lambda value: str(value)
)
def test_equals_the_formula(dtype, tolerance):
    x = np.linspace(-6, 6, 101)
    output = scaled_tanh(keras.ops.cast(x, dtype))
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    actual = keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))
    np.testing.assert_allclose(actual, 1.7159 * np.tanh(2 * x / 3), atol=1.7159 * tolerance)


def test_a_saved_model_names_it_without_custom_objects(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation(scaled_tanh)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].activation is scaled_tanh


def test_the_gradient_equals_the_oracle_s():
    x, upstream = random((2, 3)), random((2, 3), seed=1)
    _, by_x = function_and_gradients(scaled_tanh, (x,), upstream)
    assert_close(by_x, upstream * 1.7159 * 2 / 3 / np.cosh(2 * x.astype("float64") / 3) ** 2, 1e-6)


@pytest.mark.parametrize("x", [np.array([1, 2]), [1, 2]], ids=["array", "list"])
def test_integers_are_cast(x):
    output = scaled_tanh(x)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    np.testing.assert_allclose(to_numpy(output), 1.7159 * np.tanh([2 / 3, 4 / 3]), rtol=1e-6)
