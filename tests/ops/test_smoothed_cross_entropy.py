import keras
import numpy as np
import pytest
from arrays import random
from gradients import assert_close, function_and_gradients, numeric_gradients

from kerasblocks.ops import smoothed_cross_entropy


def oracle(labels, logits, smoothing):
    logits = logits.astype("float64")
    log_p = logits - logits.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    classes = logits.shape[-1]
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return -(target * log_p).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 7), (0, 3)], ids=str)
def test_equals_the_definition(shape, smoothing):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, shape[-1], shape[:-1]), rng.normal(0, 5, shape).astype("float32")
    actual = keras.ops.convert_to_numpy(smoothed_cross_entropy(labels, logits, smoothing))
    np.testing.assert_allclose(actual, oracle(labels, logits, smoothing), rtol=1e-5)


def test_columns_of_labels_are_taken():
    logits = np.array([[1.0, 2.0], [3.0, 1.0]], "float32")
    column = smoothed_cross_entropy(np.array([[1], [0]]), logits)
    vector = smoothed_cross_entropy(np.array([1, 0]), logits)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(column), keras.ops.convert_to_numpy(vector))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_large_logits_in_half_precision_stay_finite(dtype):
    logits = keras.ops.cast([[-40000.0, 40000.0]], dtype)
    loss = smoothed_cross_entropy(np.array([0]), logits, 0.0)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(keras.ops.convert_to_numpy(loss).item()) == pytest.approx(80000, rel=0.01)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(ValueError, match=f"smoothing must lie in 0 <= smoothing < 1; got {smoothing}"):
        smoothed_cross_entropy(np.array([0]), np.zeros((1, 2), "float32"), smoothing)


@pytest.mark.parametrize("labels", [(3,), (1, 2), (2, 2), ()], ids=str)
def test_labels_of_another_shape_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels must have the shape of the logits without the classes, \(2,\)"):
        smoothed_cross_entropy(np.zeros(labels, "int32"), np.zeros((2, 3), "float32"))


def test_the_gradient_equals_the_oracle_s():
    labels, logits, upstream = np.array([0, 2]), random((2, 3)), random(2, seed=1)
    _, by_logits = function_and_gradients(lambda z: smoothed_cross_entropy(labels, z, 0.2), (logits,), upstream)
    (wanted,) = numeric_gradients(lambda z: oracle(labels, z, 0.2), [logits], upstream)
    assert_close(by_logits, wanted, 1e-5)
