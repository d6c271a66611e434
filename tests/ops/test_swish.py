import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close

from kerasblocks.ops import swish


def oracle(x, beta):
    return x / (1 + np.exp(-beta * x))


@pytest.mark.parametrize("beta", [2.0, np.float32(2.0), np.full((3,), 2.0, "float32")], ids=["float", "NumPy", "array"])
def test_equals_the_definition(beta):
    x = random((2, 3))
    assert_close(to_numpy(swish(x, beta)), oracle(x.astype("float64"), 2.0), 1e-6)


def test_a_saved_activation_loads(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=swish)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random((2, 3))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("beta", ["1", None, float("inf"), np.float64("nan"), True, 1j, [1.0]], ids=str)
def test_a_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number; got"):
        swish(np.ones(3, "float32"), beta)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Only TensorFlow has tensors of strings.")
def test_strings_are_refused():
    import tensorflow as tf

    with pytest.raises(ValueError, match="must consist of real numbers; got dtype 'string'"):
        swish(tf.constant(["a"]))
