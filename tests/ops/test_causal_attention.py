import keras
import ml_dtypes
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, function_and_gradients, numeric_gradients

from kerasblocks.ops import causal_attention, use_fast_paths


@pytest.fixture(params=["reference", "fast"])
def path(request):
    with use_fast_paths(request.param == "fast"):
        yield


def oracle(query, key, value, start=0, key_mask=None, segment_ids=None, window=None):
    """One query at a time, in float64."""
    query, key, value = (np.asarray(each, "float64") for each in (query, key, value))
    group = query.shape[2] // key.shape[2]
    output = np.zeros_like(query)
    for b, i, h in np.ndindex(query.shape[:3]):
        at = start + i
        seen = [
            j
            for j in range(key.shape[1])
            if j == at
            or (
                j < at
                and (window is None or j > at - window)
                and (key_mask is None or key_mask[b, j])
                and (segment_ids is None or segment_ids[b, j] == segment_ids[b, at])
            )
        ]
        logits = key[b, seen, h // group] @ query[b, i, h] / np.sqrt(query.shape[3])
        weights = np.exp(logits - logits.max())
        output[b, i, h] = (weights / weights.sum()) @ value[b, seen, h // group]
    return output


def tensors(batch=2, queries=5, keys=None, heads=4, groups=4, features=3):
    keys = queries if keys is None else keys
    shapes = (batch, queries, heads, features), (batch, keys, groups, features), (batch, keys, groups, features)
    return [random(shape, seed=n) for n, shape in enumerate(shapes)]


PADDED = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
CASES = {
    "plain": {},
    "window": {"window": 2},
    "window of one": {"window": 1},
    "padding": {"key_mask": PADDED},
    "nothing to see": {"key_mask": np.zeros((2, 5), bool)},
    "packed": {"segment_ids": np.array([[1, 1, 2, 2, 2], [0, 0, 0, 7, 0]])},
    "all": {"window": 3, "key_mask": PADDED, "segment_ids": np.array([[1, 1, 1, 2, 2], [1, 1, 1, 1, 1]])},
}


@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_output_and_gradients_equal_the_oracle(options, groups, path):
    given = tensors(groups=groups)
    upstream = random(given[0].shape, seed=9)
    output, *gradients = function_and_gradients(lambda *qkv: causal_attention(*qkv, **options), given, upstream)
    assert_close(output, oracle(*given, **options), 1e-5)
    wanted = numeric_gradients(lambda *qkv: oracle(*qkv, **options), given, upstream)
    for gradient, right in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, right, atol=1e-5 * max(1, abs(right).max()))


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 17, 2, 5), (0, 4, 2, 3)], ids=str)
def test_odd_shapes(shape, path):
    given = [random(shape, seed=n) for n in range(3)]
    assert_close(to_numpy(causal_attention(*given)), oracle(*given), 1e-5)


@pytest.mark.parametrize("start", [0, 3, 6])
def test_queries_may_stand_among_the_keys(start, path):
    given = tensors(queries=2, keys=8, groups=2)
    for place in (start, keras.ops.convert_to_tensor(start, "int32")):
        assert_close(to_numpy(causal_attention(*given, start=place)), oracle(*given, start=start), 1e-5)


def test_large_logits_are_exact(path):
    query, key, value = tensors(features=4)
    given = [query * 1e3, key * 1e3, value]
    assert_close(to_numpy(causal_attention(*given)), oracle(*given), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-9), ("bfloat16", 2**-6)])
def test_halves(dtype, tolerance, path):
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    given = [each.astype(kind) for each in tensors(queries=33, features=16)]
    output = causal_attention(*map(keras.ops.convert_to_tensor, given))
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    assert_close(to_numpy(output), oracle(*(each.astype("float64") for each in given)), tolerance)


def test_dropped_weights_keep_the_mean():
    query, key, value = tensors(batch=1, queries=64, heads=1, groups=1, features=2)
    outputs = causal_attention(query * 0, key, np.ones_like(value), dropout=0.5, seed=1)
    again = causal_attention(query * 0, key, np.ones_like(value), dropout=0.5, seed=1)
    found = to_numpy(outputs)[0, 20:, 0, 0]
    assert found.std() > 0.05
    assert found.mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(to_numpy(outputs), to_numpy(again))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"window": 0}, "window must be an integer of at least 1; got 0"),
        ({}, {"dropout": 1.0}, "dropout must lie in 0 <= dropout < 1; got 1.0"),
        ({}, {"dropout": 0.5}, "dropout needs a seed"),
        ({}, {"segment_ids": np.ones((2, 5), int), "start": 0}, "do not go with start"),
        ({}, {"segment_ids": np.ones((2, 5))}, "segment_ids must be whole numbers; got dtype float"),
        ({}, {"key_mask": np.ones((2, 1), bool)}, r"key_mask must have the shape .*\(2, 5\); got \(2, 1\)"),
        (
            {},
            {"start": 1},
            "start must leave room for the queries among the keys; got start=1 for 5 queries and 5 keys",
        ),
        ({}, {"start": -1}, "start must leave room"),
        ({"heads": 4, "groups": 3}, {}, "heads must be a multiple of the key-value heads"),
        ({"keys": 6}, {}, "as many queries as keys"),
    ],
    ids=range(10),
)
def test_bad_arguments_are_refused(change, options, message):
    with pytest.raises(ValueError, match=message):
        causal_attention(*tensors(**change), **options)


def test_shapes_and_dtypes_that_do_not_fit_are_refused():
    query, key, value = tensors()
    with pytest.raises(ValueError, match="query must have the shape"):
        causal_attention(query[0], key, value)
    with pytest.raises(ValueError, match="query must have the shape"):
        causal_attention(query, key, value[:, :, :, :2])
    with pytest.raises(ValueError, match="same batch and features"):
        causal_attention(query[:1], key, value)
    with pytest.raises(ValueError, match="must have one dtype; got float32, float32, float16"):
        causal_attention(query, key, value.astype("float16"))
    with pytest.raises(ValueError, match="causal_attention takes tensors, no symbols"):
        causal_attention(keras.KerasTensor((2, 5, 4, 3)), key, value)
