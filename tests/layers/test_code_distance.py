import keras
import numpy as np
import pytest
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract

from kerasblocks.layers import CodeDistance

CODES = ("##..#", "#.#.#", ".....")
SIGNS = np.array([[1, 1, -1, -1, 1], [1, -1, 1, -1, 1], [-1, -1, -1, -1, -1]], "float64")


def oracle(x):
    return -((x[..., None, :] - SIGNS) ** 2).sum(-1)


@pytest.mark.parametrize("shape", [(4, 5), (1, 5), (2, 3, 5), (0, 5)], ids=str)
def test_output_and_gradient_equal_the_oracle(shape):
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape).astype("float32")
    upstream = rng.normal(size=(*shape[:-1], 3)).astype("float32")
    output, by_x, _ = output_and_gradients(CodeDistance(CODES), x, upstream)
    assert_close(output, oracle(x.astype("float64")), 1e-5)
    assert_close(by_x, numeric_gradients(oracle, [x], upstream)[0], 1e-5)


def test_keeps_the_layer_contract(tmp_path):
    x = np.random.default_rng(2).normal(size=(2, 5)).astype("float32")
    check_layer_contract(lambda **kwargs: CodeDistance(CODES, **kwargs), x, tmp_path)


def test_has_nothing_to_train():
    layer = CodeDistance(CODES)
    layer.build((None, 5))
    assert layer.variables == []


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "one or more strings"),
        (["#1"], "strings of '#'"),
        ([""], "strings of '#'"),
        ([[1, -1]], "strings of '#'"),
        (5, "strings of '#'"),
        ("#.", "strings of '#'"),
        (["##", "#"], r"one length; got lengths \[1, 2\]"),
        (["##", "##"], "differ from each other"),
    ],
    ids=["none", "other character", "empty", "not strings", "number", "one string", "lengths", "equal"],
)
def test_bad_codes_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        CodeDistance(codes)


def test_inputs_of_another_width_are_refused():
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 5"):
        CodeDistance(CODES)(keras.ops.ones((2, 4)))
