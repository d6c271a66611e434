import keras
import numpy as np
import pytest
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract

from kerasblocks.layers import ConnectionTableConv2D
from kerasblocks.ops import scaled_tanh

TABLE = ((0, 2), (1,), (2, 1, 0))


def oracle(table, side):
    def convolve(x, kernel, bias):
        batch, height, width, _ = x.shape
        out = np.zeros((batch, height - side + 1, width - side + 1, len(table)))
        position = 0
        for output, inputs in enumerate(table):
            for channel in inputs:
                for row in range(side):
                    for column in range(side):
                        window = x[:, row : row + out.shape[1], column : column + out.shape[2], channel]
                        out[..., output] += window * kernel[row, column, position]
                position += 1
        return np.tanh(out + bias)

    return convolve


@pytest.mark.parametrize(
    ("shape", "table", "side"),
    [
        ((2, 5, 4, 3), TABLE, 3),
        ((1, 3, 3, 1), ((0,),), 3),
        ((1, 2, 5, 4), ((3,), (0,)), 1),
        ((0, 5, 5, 3), TABLE, 2),
    ],
    ids=["table", "one map", "unused maps", "empty batch"],
)
@pytest.mark.usefixtures("optimized")
def test_output_and_gradients_equal_the_oracle(shape, table, side):
    if shape[0] == 0 and keras.backend.backend() == "tensorflow":
        pytest.skip("tf.nn.conv2d gives an empty batch the input's shape.")
    rng = np.random.default_rng(7)
    x = rng.normal(size=shape).astype("float32")
    layer = ConnectionTableConv2D(table, side, activation="tanh", data_format="channels_last")
    layer.build(shape)
    count = sum(len(inputs) for inputs in table)
    weights = [
        rng.normal(size=(side, side, count)).astype("float32"),
        rng.normal(size=len(table)).astype("float32"),
    ]
    layer.set_weights(weights)
    expected = oracle(table, side)(x.astype("float64"), *[weight.astype("float64") for weight in weights])
    upstream = rng.normal(size=expected.shape).astype("float32")
    output, by_x, by_weights = output_and_gradients(layer, x, upstream)
    assert_close(output, expected, 1e-5)
    wanted_x, *wanted_weights = numeric_gradients(oracle(table, side), [x, *weights], upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_weights[0], wanted_weights[0], 1e-5)
    assert_close(by_weights[1], wanted_weights[1], 1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_full_table_is_a_convolution(padding):
    rng = np.random.default_rng(8)
    x, kernel = rng.normal(size=(2, 6, 7, 3)).astype("float32"), rng.normal(size=(3, 5, 3, 4)).astype("float32")
    ours = ConnectionTableConv2D([[0, 1, 2]] * 4, (3, 5), padding=padding, use_bias=False, data_format="channels_last")
    theirs = keras.layers.Conv2D(4, (3, 5), padding=padding, use_bias=False, data_format="channels_last")
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights([kernel])
    ours.set_weights([kernel.transpose(0, 1, 3, 2).reshape(3, 5, 12)])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours(x)), keras.ops.convert_to_numpy(theirs(x)), rtol=1e-5, atol=1e-5
    )
    assert ours.compute_output_shape(x.shape) == theirs.compute_output_shape(x.shape)


def test_starts_with_the_spread_of_the_convolution_with_as_many_inputs():
    ours = ConnectionTableConv2D([list(range(64))] * 64, 3)
    theirs = keras.layers.Conv2D(64, 3)
    ours.build((None, 8, 8, 64))
    theirs.build((None, 8, 8, 64))
    spread = keras.ops.convert_to_numpy(ours.kernel).std()
    assert spread == pytest.approx(keras.ops.convert_to_numpy(theirs.kernel).std(), rel=0.02)


def test_channels_first_is_the_transposed_layer():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels_first images on a GPU only.")
    x = np.random.default_rng(9).normal(size=(2, 6, 5, 3)).astype("float32")
    last = ConnectionTableConv2D(TABLE, 3, data_format="channels_last")
    first = ConnectionTableConv2D(TABLE, 3, data_format="channels_first")
    expected = keras.ops.convert_to_numpy(last(x))
    first.build((2, 3, 6, 5))
    first.set_weights(last.get_weights())
    actual = keras.ops.convert_to_numpy(first(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(actual.transpose(0, 2, 3, 1), expected, rtol=1e-5, atol=1e-6)
    assert first.compute_output_shape((2, 3, 6, 5)) == actual.shape


@pytest.mark.parametrize("options", [{}, {"use_bias": False, "padding": "same"}], ids=str)
def test_keeps_the_layer_contract(tmp_path, options):
    x = np.random.default_rng(10).normal(size=(2, 6, 5, 3)).astype("float32")
    check_layer_contract(
        lambda **kwargs: ConnectionTableConv2D(TABLE, 3, activation=scaled_tanh, **options, **kwargs), x, tmp_path
    )


@pytest.mark.parametrize(
    ("connections", "message"),
    [
        ([], "at least one output map"),
        ([[0], []], r"connections\[1\] must list different input maps"),
        ([[0, 0]], r"connections\[0\] must list different input maps"),
        ([[-1]], r"every entry of connections\[0\] must be an integer of at least 0; got -1"),
        ([["0"]], r"every entry of connections\[0\] must be an integer of at least 0; got '0'"),
        ([[True]], r"every entry of connections\[0\] must be an integer of at least 0; got True"),
        ([0, 1], r"connections\[0\] must list different input maps; got 0"),
        (3, "at least one output map; got 3"),
    ],
    ids=["empty", "no inputs", "twice", "negative", "string", "bool", "flat", "number"],
)
def test_bad_tables_are_refused(connections, message):
    with pytest.raises(ValueError, match=message):
        ConnectionTableConv2D(connections, 3)


@pytest.mark.parametrize("kernel_size", [0, (3,), (3, 0), "3", True])
def test_bad_kernel_sizes_are_refused(kernel_size):
    with pytest.raises(ValueError, match="kernel_size must be an integer of at least 1"):
        ConnectionTableConv2D(TABLE, kernel_size)


@pytest.mark.parametrize(("option", "value"), [("padding", "full"), ("data_format", "NHWC")])
def test_unknown_options_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .* got '{value}'"):
        ConnectionTableConv2D(TABLE, 3, **{option: value})


@pytest.mark.parametrize("channels", [2, None])
def test_too_few_channels_are_refused(channels):
    with pytest.raises(ValueError, match="name input map 2, so the input needs at least 3 channels"):
        ConnectionTableConv2D(TABLE, 3).build((None, 8, 8, channels))


def test_arrays_are_tables():
    assert ConnectionTableConv2D(np.array([[0, 1], [1, 2]]), 3).connections == ((0, 1), (1, 2))


def test_inputs_smaller_than_the_patch_are_refused():
    layer = ConnectionTableConv2D([[0]], 3, data_format="channels_last")
    with pytest.raises(ValueError, match=r"at least as high and wide as kernel_size=\(3, 3\)"):
        layer(keras.Input((2, 5, 1)))
    layer.build((None, None, None, 1))
    with pytest.raises(ValueError, match=r"got input shape \(1, 5, 2, 1\)"):
        layer(keras.ops.ones((1, 5, 2, 1)))


def test_inputs_of_another_rank_are_refused():
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=2"):
        ConnectionTableConv2D(TABLE, 3)(keras.ops.ones((4, 3)))
