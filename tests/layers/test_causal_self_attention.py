import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import CausalSelfAttention
from kerasblocks.ops import use_fast_paths

X = random((2, 6, 8))


@pytest.fixture(params=["reference", "fast"])
def path(request):
    with use_fast_paths(request.param == "fast"):
        yield


def layer_of(**options):
    layer = CausalSelfAttention(**{"num_heads": 4} | options)
    layer.build(X.shape)
    layer.set_weights([random(each.shape, seed=20 + n) for n, each in enumerate(layer.get_weights())])
    return layer


def oracle(x, layer, mask=None, segment_ids=None):
    """In float64, a head and a query at a time."""
    x = np.asarray(x, "float64")
    weights = {each.path.split("/", 1)[1]: np.asarray(to_numpy(each), "float64") for each in layer.weights}
    joined = x @ weights["query_key_value/kernel"] + weights.get("query_key_value/bias", 0)
    groups = layer.num_key_value_heads or layer.num_heads
    joined = joined.reshape(*x.shape[:2], layer.num_heads + 2 * groups, -1)
    query, key, value = np.split(joined, [layer.num_heads, layer.num_heads + groups], axis=2)
    if layer.normalize_query_key:
        query, key = (
            each / np.sqrt((each**2).mean(-1, keepdims=True) + layer.epsilon) * weights[f"{name}_norm/scale"]
            for name, each in (("query", query), ("key", key))
        )
    n, features = joined.shape[-1] // 2, joined.shape[-1]
    if layer.rotary_base is not None:
        turn = np.exp(1j * np.arange(x.shape[1])[:, None] * layer.rotary_base ** (-np.arange(n) / n))[None, :, None]
        query, key = ((each[..., :n] + 1j * each[..., n:]) * turn for each in (query, key))
        query, key = (np.concatenate([each.real, each.imag], -1) for each in (query, key))
    output = np.zeros((*x.shape[:2], layer.num_heads, features))
    for b, i, h in np.ndindex(output.shape[:3]):
        seen = [
            j
            for j in range(i + 1)
            if j == i
            or (
                (layer.window is None or j > i - layer.window)
                and (mask is None or mask[b, j])
                and (segment_ids is None or segment_ids[b, j] == segment_ids[b, i])
            )
        ]
        shared = h // (layer.num_heads // groups)
        logits = key[b, seen, shared] @ query[b, i, h] / np.sqrt(features)
        p = np.exp(logits - logits.max())
        output[b, i, h] = p / p.sum() @ value[b, seen, shared]
    return output.reshape(*x.shape[:2], -1) @ weights["output/kernel"] + weights.get("output/bias", 0)


OPTIONS = [
    {},
    {"num_key_value_heads": 2, "use_bias": True},
    {"normalize_query_key": True, "window": 3},
    {"rotary_base": None, "head_dim": 3},
    {"rotary_base": 100.0, "head_dim": 6, "num_key_value_heads": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_oracle(options, path):
    layer = layer_of(**options)
    assert_close(to_numpy(layer(X)), oracle(X, layer), 1e-5)


def test_masks_and_packed_texts(path):
    layer = layer_of(num_key_value_heads=2)
    mask = np.array([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
    assert_close(to_numpy(layer(X, mask=keras.ops.convert_to_tensor(mask))), oracle(X, layer, mask=mask), 1e-5)
    segment_ids = np.array([[1, 1, 1, 2, 2, 2], [5, 5, 6, 6, 6, 6]])
    packed = to_numpy(layer(X, segment_ids=keras.ops.convert_to_tensor(segment_ids)))
    assert_close(packed, oracle(X, layer, segment_ids=segment_ids), 1e-5)
    alone = to_numpy(layer(X[:1, 3:]))
    assert_close(packed[:1, 3:], alone, 1e-5)  # Positions matter by their distances only.


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_output_depends_on_what_comes_later(options, path):
    layer, changed = layer_of(**options), X.copy()
    changed[:, 4:] += 1
    before, after = to_numpy(layer(X)), to_numpy(layer(changed))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (abs(before[:, 4:] - after[:, 4:]).max(-1) > 1e-3).all()


def test_as_many_groups_as_heads_are_multi_head_attention(path):
    plain, grouped = layer_of(), layer_of(num_key_value_heads=4)
    np.testing.assert_array_equal(to_numpy(plain(X)), to_numpy(grouped(X)))
    shared = layer_of(num_key_value_heads=1)
    query, key, value = np.split(shared.get_weights()[0], [8, 10], axis=1)
    repeated = np.concatenate([query, np.tile(key, 4), np.tile(value, 4)], axis=1)
    plain.set_weights([repeated, shared.get_weights()[1]])
    assert_close(to_numpy(plain(X)), to_numpy(shared(X)), 1e-5)


def test_shifted_positions_change_nothing(path):
    layer = layer_of()
    moved = layer(X, positions=keras.ops.arange(100, 106))
    assert_close(to_numpy(moved), to_numpy(layer(X)), 1e-4)
    assert abs(to_numpy(layer(X, positions=2 * keras.ops.arange(6))) - to_numpy(layer(X))).max() > 0.01


@pytest.mark.parametrize(
    ("options", "seeds"),
    [({}, 0), ({"num_key_value_heads": 2, "normalize_query_key": True, "use_bias": True}, 0), ({"dropout": 0.3}, 1)],
    ids=str,
)
def test_keeps_the_layer_contract(options, seeds, tmp_path):
    def make(**kwargs):
        return CausalSelfAttention(4, **options, **kwargs)

    check_layer_contract(make, X, tmp_path, seeds=seeds)


def test_in_models_of_every_kind(tmp_path):
    check_models(lambda: CausalSelfAttention(2, normalize_query_key=True), X, tmp_path)


def test_dropout_drops_while_training_only():
    layer = layer_of(dropout=0.5)
    np.testing.assert_array_equal(to_numpy(layer(X)), to_numpy(layer_of()(X)))
    assert abs(to_numpy(layer(X, training=True)) - to_numpy(layer(X))).max() > 0.01


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless it is told so.")
def test_float64():
    outputs = CausalSelfAttention(2, dtype="float64")(random((1, 3, 8)).astype("float64"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float64"


def test_each_projection_is_initialized_for_itself():
    layer = CausalSelfAttention(2, num_key_value_heads=1, kernel_initializer=keras.initializers.GlorotUniform(seed=3))
    layer.build((None, None, 8))
    query, key, value = np.split(layer.get_weights()[0], [8, 12], axis=1)
    for number, (part, width) in enumerate(((query, 8), (key, 4), (value, 4))):
        wanted = keras.initializers.GlorotUniform(seed=3 + number)((8, width))
        np.testing.assert_array_equal(part, to_numpy(wanted))


def test_its_projections_can_be_adapted_and_quantized(tmp_path):
    layer = layer_of()
    model = keras.Sequential([keras.Input((None, 8)), layer])
    expected = to_numpy(layer(X))
    layer.query_key_value.enable_lora(2)
    assert_close(to_numpy(layer(X)), expected, 1e-6)
    with pytest.warns(UserWarning, match="InputLayer does not have a `quantize` method"):
        model.quantize("int8")
    assert_close(to_numpy(layer(X)), expected, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads must be an integer of at least 1; got 0"),
        ({"num_key_value_heads": 3}, "num_heads must be a multiple of num_key_value_heads; got 4 and 3"),
        ({"head_dim": 3}, "must be even, for they are turned in pairs; got 3"),
        (
            {"num_heads": 3, "rotary_base": None},
            "must be a multiple of num_heads, .*; got a width of 8 and num_heads=3",
        ),
        ({"num_heads": 8}, "must be even, for they are turned in pairs; got 1"),
        ({"rotary_base": 0}, "rotary_base must be above 1; got 0"),
        ({"window": 0}, "window must be an integer of at least 1; got 0"),
        ({"dropout": 1}, "dropout must lie in 0 <= dropout < 1; got 1"),
        ({"use_bias": 1}, "use_bias must be True or False; got 1"),
        ({"epsilon": 0}, "epsilon must be above 0; got 0"),
    ],
    ids=range(10),
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CausalSelfAttention(**{"num_heads": 4} | options)(X)


@pytest.mark.parametrize("shape", [(2, 8), (2, 3, None), (2, 3, 4, 8)], ids=str)
def test_inputs_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes inputs of shape .batch, length, width. of known width; got"):
        CausalSelfAttention(2)(keras.KerasTensor(shape))
