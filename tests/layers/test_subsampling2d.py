import keras
import numpy as np
import pytest
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract

from kerasblocks.layers import Subsampling2D
from kerasblocks.ops import scaled_tanh


def oracle(pool):
    def subsample(x, coefficient, bias):
        batch, height, width, channels = x.shape
        rows, columns = height // pool, width // pool
        patches = x[:, : rows * pool, : columns * pool].reshape(batch, rows, pool, columns, pool, channels)
        return np.tanh(coefficient * patches.sum((2, 4)) + bias)

    return subsample


@pytest.mark.parametrize(
    ("shape", "pool"),
    [((2, 4, 6, 3), 2), ((1, 5, 7, 1), 2), ((2, 7, 3, 2), 3), ((1, 1, 1, 1), 1), ((0, 4, 4, 2), 2)],
    ids=str,
)
def test_output_and_gradients_equal_the_oracle(shape, pool):
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape).astype("float32")
    layer = Subsampling2D(pool, data_format="channels_last", activation="tanh")
    layer.build(shape)
    weights = [rng.uniform(0.1, 0.5, shape[-1]).astype("float32") for _ in range(2)]
    layer.set_weights(weights)
    expected = oracle(pool)(x.astype("float64"), *[weight.astype("float64") for weight in weights])
    upstream = rng.normal(size=expected.shape).astype("float32")
    output, by_x, by_weights = output_and_gradients(layer, x, upstream)
    assert_close(output, expected, 1e-5)
    wanted_x, *wanted_weights = numeric_gradients(oracle(pool), [x, *weights], upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_weights[0], wanted_weights[0], 1e-5)
    assert_close(by_weights[1], wanted_weights[1], 1e-5)


def test_channels_first_is_the_transposed_layer():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow pools channels_first images on a GPU only.")
    x = np.random.default_rng(4).normal(size=(2, 6, 4, 3)).astype("float32")
    last = keras.ops.convert_to_numpy(Subsampling2D(2, data_format="channels_last")(x))
    first = keras.ops.convert_to_numpy(Subsampling2D(2, data_format="channels_first")(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(first.transpose(0, 2, 3, 1), last, rtol=1e-6)


def test_starts_as_average_pooling():
    x = np.random.default_rng(5).normal(size=(2, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(Subsampling2D(3)(x)),
        keras.ops.convert_to_numpy(keras.layers.AveragePooling2D(3)(x)),
        rtol=1e-6,
    )


def test_keeps_the_layer_contract(tmp_path):
    x = np.random.default_rng(6).normal(size=(2, 5, 4, 3)).astype("float32")
    check_layer_contract(lambda **kwargs: Subsampling2D(2, activation=scaled_tanh, **kwargs), x, tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_sums_do_not_overflow(dtype):
    value = {"uint8": 200, "float16": 40000}[dtype]
    output = Subsampling2D(2, dtype="mixed_float16")(np.full((1, 4, 4, 1), value, dtype))
    assert keras.ops.convert_to_numpy(output).ravel().tolist() == [value] * 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_keep_their_digits_under_pure_half_precision(dtype):
    x = keras.ops.full((1, 32, 32, 1), 0.75, dtype=dtype)
    output = keras.ops.cast(Subsampling2D(32, dtype=dtype)(x), "float32")
    assert keras.ops.convert_to_numpy(output).ravel().tolist() == [0.75]


def test_inputs_that_are_too_small_are_refused_after_build_too():
    layer = Subsampling2D(2, data_format="channels_last")
    layer.build((None, None, None, 1))
    with pytest.raises(ValueError, match="at least pool_size=2 high and wide"):
        layer(keras.ops.ones((1, 1, 4, 1)))


def test_weights_are_applied_in_float32():
    layer = Subsampling2D(1, dtype="mixed_bfloat16")
    layer.build((1, 1, 1, 1))
    layer.set_weights([np.array([1.001], "float32"), np.array([0.0], "float32")])
    output = layer(np.full((1, 1, 1, 1), 1000.0, "float32"))
    assert float(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")).item()) == 1000.0
    layer.set_weights([np.array([1.003], "float32"), np.array([0.0], "float32")])
    output = layer(np.full((1, 1, 1, 1), 1000.0, "float32"))
    assert float(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")).item()) == 1004.0


@pytest.mark.parametrize("pool_size", [0, -1, 2.0, "2", True])
def test_bad_pool_sizes_are_refused(pool_size):
    with pytest.raises(ValueError, match="pool_size must be an integer of at least 1"):
        Subsampling2D(pool_size)


def test_an_unknown_data_format_is_refused():
    with pytest.raises(ValueError, match='data_format must be "channels_last" or "channels_first"; got \'NHWC\''):
        Subsampling2D(2, data_format="NHWC")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 1, 4), "at least pool_size=2 high and wide"),
        ((None, 8, 8, None), "number of channels must be known"),
    ],
    ids=["too small", "unknown channels"],
)
def test_bad_input_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        Subsampling2D(2).build(shape)


def test_inputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        Subsampling2D(2)(keras.ops.ones((4, 4, 3)))
