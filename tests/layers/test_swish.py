import keras
import numpy as np
import pytest
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import Swish
from kerasblocks.ops import swiglu, swish


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def oracle(x, beta):
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-beta * x))


@pytest.mark.parametrize("trainable_beta", [False, True])
def test_keeps_the_layer_contract(trainable_beta, tmp_path):
    check_layer_contract(lambda **kwargs: Swish(1.5, trainable_beta, **kwargs), random((2, 5, 3)), tmp_path)


def test_in_models_of_every_kind(tmp_path):
    check_models(lambda: Swish(trainable_beta=True), random((4, 5, 3)), tmp_path)


@pytest.mark.parametrize("beta", [1.0, -2.0, 0.0, 3.5])
@pytest.mark.parametrize("shape", [(1,), (0, 3), (2, 3, 1, 5)], ids=str)
def test_output_and_gradients_equal_the_oracle(beta, shape):
    x, upstream = random(shape), random(shape, seed=1)
    output, by_x, (by_beta,) = output_and_gradients(Swish(beta, trainable_beta=True), x, upstream)
    assert_close(output, oracle(x.astype("float64"), beta), 1e-6)
    wanted_x, wanted_beta = numeric_gradients(oracle, [x, np.array(beta)], upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_beta, wanted_beta, 1e-5)
    fixed, by_x, _ = output_and_gradients(Swish(beta), x, upstream)
    assert_close(fixed, output, 1e-6)
    assert_close(by_x, wanted_x, 1e-5)


@pytest.mark.parametrize("value", [-3.4e38, -1e18, -1e-20, 0.0, 1e-20, 1e18, 3.4e38])
def test_any_size_gives_finite_results_and_gradients(value):
    x = np.full((2, 2), value, "float32")
    output, by_x, _ = output_and_gradients(Swish(), x, np.ones_like(x))
    assert_close(output, oracle(x.astype("float64"), 1.0), 1e-6)
    assert np.isfinite(by_x).all()


def test_a_saved_activation_loads(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation=swish)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = random((2, 3))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("beta", ["1", None, float("nan"), float("inf"), True])
def test_a_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number; got"):
        Swish(beta)


def test_the_gate_multiplies():
    gate, up = random((2, 3)), random((2, 3), seed=1)
    wanted = oracle(gate.astype("float64"), 2.0) * up
    assert_close(keras.ops.convert_to_numpy(swiglu(gate, up, beta=2.0)), wanted, 1e-6)


@pytest.mark.parametrize("shape", [(3, 2), (3,), (2, 1)], ids=str)
def test_a_gate_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"gate and up must have one shape; got"):
        swiglu(np.ones((2, 3), "float32"), np.ones(shape, "float32"))


def test_a_gate_of_another_dtype_is_refused():
    with pytest.raises(ValueError, match=r"gate and up must have one dtype; got float32 and float16"):
        swiglu(np.ones(3, "float32"), np.ones(3, "float16"))


def test_integers_are_cast_on_both_sides():
    gate, up = np.array([0, 1, 2]), np.array([3, 4, 5])
    assert_close(keras.ops.convert_to_numpy(swiglu(gate, up)), oracle(gate.astype("float64"), 1.0) * up, 1e-6)


@pytest.mark.parametrize("beta", ["1", None, float("inf"), True, 1j, [1.0]], ids=str)
def test_a_bad_beta_of_the_functions_is_refused(beta):
    for function in (lambda x: swish(x, beta), lambda x: swiglu(x, x, beta=beta)):
        with pytest.raises(ValueError, match="beta must be a finite number; got"):
            function(np.ones(3, "float32"))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no strings.")
def test_strings_are_refused():
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX has no strings.")
    with pytest.raises(ValueError, match="must consist of real numbers; got dtype 'string'"):
        swish(tf.constant(["a"]))
