import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import LocalResponseNormalization
from kerasblocks.ops import local_response_normalization


def oracle(x, size, alpha, beta, k):
    outputs, channels = np.empty_like(x), x.shape[-1]
    for place in range(channels):
        around = x[..., max(0, place - size // 2) : place + (size - 1) // 2 + 1]
        outputs[..., place] = x[..., place] / (k + alpha / size * (around**2).sum(-1)) ** beta
    return outputs


def test_keeps_the_layer_contract(tmp_path):
    check_layer_contract(lambda **kwargs: LocalResponseNormalization(3, 2.0, **kwargs), random((2, 4, 3, 7)), tmp_path)


def test_in_models_of_every_kind(tmp_path):
    check_models(lambda: LocalResponseNormalization(3, 2.0), random((4, 5, 3, 6)), tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 20, 10_000_000])
@pytest.mark.parametrize("shape", [(2, 7), (0, 3), (1, 3, 1, 5), (2, 2, 3, 2, 1)], ids=str)
def test_output_and_gradients_equal_the_oracle(size, shape):
    settings = (size, 3.0, 0.75, 1.5)
    x, upstream = random(shape), random(shape, seed=1)
    output, by_x, _ = output_and_gradients(LocalResponseNormalization(*settings), x, upstream)
    assert_close(output, oracle(x.astype("float64"), *settings), 1e-6)
    wanted = numeric_gradients(lambda each: oracle(each, *settings), [x], upstream)[0]
    assert_close(by_x, wanted, 1e-5)


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 1.0), (5, 5e-4, 0.75, 2.0), (4, 2.0, 0.5, 0.1)]
)
def test_equals_that_of_pytorch(size, alpha, beta, k):
    import torch

    x = 10 * random((2, 5, 6, 9))
    wanted = torch.nn.LocalResponseNorm(size, alpha, beta, k)(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert_close(to_numpy(LocalResponseNormalization(size, alpha, beta, k)(x)), wanted.numpy(), 1e-5)


def test_defaults_are_those_of_pytorch():
    import torch

    ours, theirs = LocalResponseNormalization(), torch.nn.LocalResponseNorm(5)
    assert {name: getattr(ours, name) for name in ("size", "alpha", "beta", "k")} == {
        name: getattr(theirs, name) for name in ("size", "alpha", "beta", "k")
    }


def test_channels_may_be_any_axis_but_the_first():
    x = random((2, 6, 4, 3))
    first = to_numpy(LocalResponseNormalization(3, 2.0, axis=1)(x))
    last = to_numpy(LocalResponseNormalization(3, 2.0)(np.moveaxis(x, 1, -1)))
    np.testing.assert_allclose(first, np.moveaxis(last, -1, 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_numbers_in_half_precision(dtype):
    x = keras.ops.cast(np.full((1, 2, 5), 3e4, "float32"), dtype)
    y = local_response_normalization(x, 5, 5.0, 0.75, 2.0)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    wide = to_numpy(keras.ops.cast(x, "float32"))
    assert_close(to_numpy(keras.ops.cast(y, "float32")), oracle(wide.astype("float64"), 5, 5.0, 0.75, 2.0), 2**-7)


def test_alpha_or_beta_of_0_leave_a_factor():
    x = random((2, 3))
    assert_close(to_numpy(local_response_normalization(x, 5, 0.0, 0.75, 16.0)), x / 8, 1e-6)
    assert_close(to_numpy(local_response_normalization(x, 5, 1.0, 0.0, 16.0)), x, 1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be an integer of at least 1; got 0"),
        ({"size": 2.5}, "size must be an integer of at least 1; got 2.5"),
        ({"alpha": -1}, "alpha must be 0 or more; got -1"),
        ({"k": 0}, "k must be above 0, or zeros would be divided by 0; got 0"),
        ({"beta": float("nan")}, "beta must be a finite number; got nan"),
        ({"axis": "last"}, "axis must be an integer of at least .*; got 'last'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalResponseNormalization(**arguments)
    with pytest.raises(ValueError, match=message):
        local_response_normalization(random((2, 3)), **arguments)


@pytest.mark.parametrize("axis", [0, -2, 2, -3])
def test_axes_that_are_none_of_channels_are_refused(axis):
    message = f"axis must be one of the axes after the first, of an input of rank 2; got {axis}"
    for use in (LocalResponseNormalization(axis=axis), lambda x: local_response_normalization(x, axis=axis)):
        with pytest.raises(ValueError, match=message):
            use(random((2, 3)))
