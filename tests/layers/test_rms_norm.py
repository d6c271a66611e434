import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, output_and_gradients
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import RMSNorm
from kerasblocks.ops import rms_norm

OPTIONS = [
    {},
    {"axis": (1, -1), "epsilon": 1e-3},
    {"use_scale": False},
    {"zero_centered": True, "scale_initializer": keras.initializers.Constant(0.5)},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_keeps_the_layer_contract(options, tmp_path):
    check_layer_contract(lambda **kwargs: RMSNorm(**options, **kwargs), random((2, 5, 3)), tmp_path)


@pytest.mark.parametrize("options", [{}, {"zero_centered": True}], ids=str)
def test_in_models_of_every_kind(options, tmp_path):
    check_models(lambda: RMSNorm(**options), random((4, 5, 3)), tmp_path)


@pytest.mark.parametrize("zero_centered", [False, True])
def test_the_weight_scales_or_is_one_less(zero_centered):
    layer, x, scale = RMSNorm(zero_centered=zero_centered), random((3, 7)), random(7, seed=1)
    layer.build(x.shape)
    assert layer.get_weights()[0].tolist() == [0.0 if zero_centered else 1.0] * 7
    layer.set_weights([scale - 1 if zero_centered else scale])
    upstream = random((3, 7), seed=2)
    output, by_x, (by_scale,) = output_and_gradients(layer, x, upstream)
    assert_close(output, to_numpy(rms_norm(x, scale)), 1e-6)
    plain = RMSNorm()
    plain.build(x.shape)
    plain.set_weights([scale])
    _, wanted_x, (wanted_scale,) = output_and_gradients(plain, x, upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_scale, wanted_scale, 1e-5)


@pytest.mark.parametrize("zero_centered", [False, True])
def test_the_initializer_describes_the_scale(zero_centered):
    layer = RMSNorm(scale_initializer=keras.initializers.Constant(3.0), zero_centered=zero_centered, epsilon=1e-12)
    assert_close(to_numpy(layer(np.ones((1, 4), "float32"))), np.full((1, 4), 3.0), 1e-6)


def test_the_scale_is_applied_in_float32():
    layer, x = RMSNorm(dtype="mixed_bfloat16"), random((1, 500))
    layer.build(x.shape)
    scale = np.random.default_rng(1).uniform(1, 1.003, 500).astype("float32")  # all of it rounds to 1 in bfloat16
    layer.set_weights([scale])
    x = to_numpy(keras.ops.cast(x, "bfloat16"))
    exact = x / np.sqrt((x.astype("float64") ** 2).mean() + 1e-6)
    right, rounded = (to_numpy(keras.ops.cast(exact * each, "bfloat16")) for each in (scale, 1.0))
    output = to_numpy(layer(x))
    assert (output == right).mean() > 0.98
    assert (output == rounded).mean() < 0.9


def test_masks_pass_through():
    layer, x = RMSNorm(), random((2, 3, 4))
    masked = keras.layers.Masking()(x)
    assert keras.ops.convert_to_numpy(layer(masked)._keras_mask).tolist() == [[True] * 3] * 2


@pytest.mark.parametrize("epsilon", [0, -1e-6, float("nan"), "1e-6"])
def test_a_bad_epsilon_is_refused_at_construction(epsilon):
    with pytest.raises(ValueError, match="epsilon must be"):
        RMSNorm(epsilon=epsilon)


@pytest.mark.parametrize("axis", [(1, 1), (), "1", 1.5, None, True])
def test_a_bad_axis_is_refused_at_construction(axis):
    with pytest.raises(ValueError, match="axis must"):
        RMSNorm(axis=axis)


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (3, (2, 3, 4), "axis 3 is out of range for an input of rank 3"),
        ((-1, 2), (2, 3, 4), "names axis 2 twice"),
        (-1, (2, None), "sizes of the normalized axes must be known"),
        (-1, (), "rank 1 or more"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_input_is_refused_at_build(axis, shape, message):
    with pytest.raises(ValueError, match=message):
        RMSNorm(axis=axis).build(shape)


@pytest.mark.parametrize(
    ("use_scale", "shape", "message"),
    [
        (True, (2, 4), r"rank 2 with \{1: 3\} along its axes; got the shape \(2, 4\). Make another layer for it"),
        (True, (2, 2, 3), r"rank 2 with \{1: 3\} along its axes; got the shape \(2, 2, 3\)"),
        (False, (2, 2, 3), r"rank 2 with any sizes along its axes; got the shape \(2, 2, 3\)"),
    ],
    ids=["width", "rank", "rank without a scale"],
)
def test_inputs_of_another_shape_are_refused(use_scale, shape, message):
    layer = RMSNorm(use_scale=use_scale)
    layer(random((2, 3)))
    with pytest.raises(ValueError, match=message):
        layer(random(shape))
    with pytest.raises(ValueError, match=message):
        layer(keras.KerasTensor(shape))


def test_equals_a_llama_norm():
    x, scale = random((2, 5, 8)), random(8, seed=1)
    layer = RMSNorm(epsilon=1e-5)
    layer.build(x.shape)
    layer.set_weights([scale])
    ops = keras.ops
    # What the Llama models compute: the reciprocal root of the variance about zero, then the weight.
    variance = ops.mean(ops.power(ops.convert_to_tensor(x), 2), axis=-1, keepdims=True)
    wanted = to_numpy(ops.convert_to_tensor(x) * ops.rsqrt(variance + 1e-5) * ops.convert_to_tensor(scale))
    assert_close(to_numpy(layer(x)), wanted, 1e-6)


@pytest.mark.parametrize("option", ["use_scale", "zero_centered"])
def test_a_flag_that_is_no_bool_is_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be True or False; got 'yes'"):
        RMSNorm(**{option: "yes"})
