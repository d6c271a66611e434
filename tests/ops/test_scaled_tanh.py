import keras
import numpy as np
import pytest

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
