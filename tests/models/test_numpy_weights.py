import math

import keras
import numpy as np
import pytest

from kerasblocks.models._numpy_weights import draw_weights

INIT = keras.initializers
UNIFORM = [0.2536037564277649, -0.4262721836566925, -0.8499518632888794]
TRUNCATED = [0.1257302165031433, -0.13210485875606537, 0.6404226422309875]


def drawn(initializer, shape):
    layer = keras.layers.Dense(shape[1], kernel_initializer=initializer)
    model = keras.Sequential([keras.Input((shape[0],)), layer])
    draw_weights(model, 0)
    return keras.ops.convert_to_numpy(layer.kernel)


@pytest.mark.parametrize(
    ("initializer", "stddev", "bound"),
    [
        (INIT.GlorotUniform(), math.sqrt(2 / 500), math.sqrt(6 / 500)),
        (INIT.HeUniform(), math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (INIT.HeNormal(), math.sqrt(2 / 300), 2 * math.sqrt(2 / 300) / 0.87962566),
        (INIT.VarianceScaling(3.0, "fan_out", "untruncated_normal"), math.sqrt(3 / 200), math.inf),
        (INIT.RandomUniform(-0.3, 0.3), 0.3 / math.sqrt(3), 0.3),
        (INIT.RandomNormal(0.0, 0.7), 0.7, math.inf),
        (INIT.TruncatedNormal(0.0, 0.7), 0.7 * 0.87962566, 1.4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, INIT.Initializer) else "",
)
def test_draws_follow_the_initializers_distribution(initializer, stddev, bound):
    values = drawn(initializer, (300, 200))
    keras_values = keras.ops.convert_to_numpy(initializer((300, 200)))
    assert values.std() == pytest.approx(stddev, rel=0.02)
    assert values.std() == pytest.approx(keras_values.std(), rel=0.02)
    assert abs(values.mean()) < 4 * stddev / math.sqrt(values.size)
    assert np.abs(values).max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize(
    ("initializer", "value"),
    [("zeros", 0.0), ("ones", 1.0), (INIT.Constant(0.25), 0.25)],
    ids=["zeros", "ones", "0.25"],
)
def test_constants_stay_what_they_are(initializer, value):
    np.testing.assert_array_equal(drawn(initializer, (3, 2)), np.full((3, 2), value, "float32"))


def test_convolutions_count_their_receptive_field():
    layer = keras.layers.Conv2D(64, 5, kernel_initializer="he_normal")
    draw_weights(keras.Sequential([keras.Input((8, 8, 32)), layer]), 0)
    assert keras.ops.convert_to_numpy(layer.kernel).std() == pytest.approx(math.sqrt(2 / (25 * 32)), rel=0.02)


@pytest.mark.parametrize(
    ("initializer", "values"),
    [(INIT.GlorotUniform(), UNIFORM), (INIT.TruncatedNormal(0.0, 1.0), TRUNCATED)],
    ids=["uniform", "truncated normal"],
)
def test_the_bits_do_not_change_between_versions(initializer, values):
    assert drawn(initializer, (4, 3)).ravel()[:3].tolist() == values


def test_an_unknown_distribution_is_named():
    with pytest.raises(ValueError, match=r"kernel.*kernel_initializer is .*whose distribution is not known here"):
        drawn(lambda shape, dtype=None: keras.ops.ones(shape, dtype), (3, 2))


def test_fans_that_keras_keeps_to_itself_are_not_guessed():
    layer = keras.layers.EinsumDense("abc,cde->abde", (None, 8, 16))
    with pytest.raises(ValueError, match="kernel_initializer is None, whose distribution is not known here"):
        draw_weights(keras.Sequential([keras.Input((5, 64)), layer]), 0)
