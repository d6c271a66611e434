import numpy as np
import pytest
from arrays import random
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import Swish


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


@pytest.mark.parametrize("beta", [1.0, -2.0])
def test_a_fixed_slope_gives_what_a_trained_one_gives(beta):
    x, upstream = random((3, 5)), random((3, 5), seed=1)
    fixed, fixed_by_x, _ = output_and_gradients(Swish(beta), x, upstream)
    trained, trained_by_x, _ = output_and_gradients(Swish(beta, trainable_beta=True), x, upstream)
    assert_close(fixed, trained, 1e-6)
    assert_close(fixed_by_x, trained_by_x, 1e-5)


@pytest.mark.parametrize("value", [-3.4e38, -1e18, -1e-20, 0.0, 1e-20, 1e18, 3.4e38])
def test_any_size_gives_finite_results_and_gradients(value):
    x = np.full((2, 2), value, "float32")
    output, by_x, _ = output_and_gradients(Swish(), x, np.ones_like(x))
    assert_close(output, oracle(x.astype("float64"), 1.0), 1e-6)
    assert np.isfinite(by_x).all()


@pytest.mark.parametrize("beta", ["1", None, float("nan"), float("inf"), True])
def test_a_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number; got"):
        Swish(beta)
