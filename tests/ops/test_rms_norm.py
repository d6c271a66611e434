import shutil

import keras
import ml_dtypes
import numpy as np
import pytest
from arrays import to_numpy
from gradients import assert_close, function_and_gradients, second_derivatives
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasblocks.ops import rms_norm, use_fast_paths

EPSILON = 1e-6
TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def oracle(x, scale=None, axes=(-1,), epsilon=EPSILON):
    x = np.asarray(x, "longdouble")
    axes = tuple(sorted(axis % x.ndim for axis in axes))
    y = x / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon)
    if scale is not None:
        y = y * np.asarray(scale, "longdouble").reshape([x.shape[a] if a in axes else 1 for a in range(x.ndim)])
    return y


def oracle_gradients(x, scale, upstream, axes=(-1,), epsilon=EPSILON):
    x, upstream = np.asarray(x, "longdouble"), np.asarray(upstream, "longdouble")
    axes = tuple(sorted(axis % x.ndim for axis in axes))
    wide = np.asarray(scale, "longdouble").reshape([x.shape[a] if a in axes else 1 for a in range(x.ndim)])
    r = 1 / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon)
    normal, inner = x * r, upstream * wide
    by_x = r * (inner - normal * (inner * normal).mean(axes, keepdims=True))
    by_scale = (upstream * normal).sum(tuple(a for a in range(x.ndim) if a not in axes))
    return by_x, by_scale


def arrays(shape, axes, seed=0):
    rng = np.random.default_rng(seed)
    scale_shape = [shape[axis] for axis in sorted(axis % len(shape) for axis in axes)]
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    return x.astype("float32"), rng.uniform(0.5, 2, scale_shape).astype("float32"), upstream.astype("float32")


@pytest.fixture(params=["reference", "fast", "fast, as if it were large"])
def path(request, monkeypatch):
    if request.param == "fast, as if it were large":
        if keras.backend.backend() != "torch":
            pytest.skip("Only PyTorch's path asks for a size.")
        from kerasblocks.ops import _rms_norm_torch

        monkeypatch.setattr(_rms_norm_torch, "_LEAST", 0)
        monkeypatch.setattr(_rms_norm_torch, "_LEAST_WITHOUT_GRADIENT", 0)
        monkeypatch.setattr(_rms_norm_torch, "_BLOCK", 16)
    with use_fast_paths(request.param != "reference"):
        yield request.param


@pytest.mark.parametrize("seen", ["part", "sum"])
def test_upstream_gradients_need_not_lie_in_a_row(path, seen):
    x, scale, _ = arrays((512, 130), (-1,))
    upstream = np.zeros((512, 200), "float32")
    upstream[:, 30:160] = arrays((512, 130), (-1,), seed=1)[2] if seen == "part" else 1.0

    def function(x, scale):
        y = rms_norm(x, scale)
        if seen == "sum":
            return keras.ops.sum(y)
        return keras.ops.concatenate([keras.ops.zeros((512, 30)), y, keras.ops.zeros((512, 40))], axis=1)

    outer = np.array(1.0, "float32") if seen == "sum" else upstream
    _, by_x, by_scale = function_and_gradients(function, [x, scale], outer)
    wanted = oracle_gradients(x, scale, upstream[:, 30:160])
    assert_close(by_x, wanted[0], 2e-5)
    assert_close(by_scale, wanted[1], 2e-5)


SHAPES = [
    ((7,), (-1,)),
    ((1, 1), (-1,)),
    ((3, 7), (0,)),
    ((0, 5), (-1,)),
    ((2, 3, 5), (1, 2)),
    ((2, 3, 5), (0, -1)),
    ((2, 1, 3, 17), (-1,)),
    ((2, 3, 2, 5, 3), (1, 3)),
    ((2, 3, 2, 5, 3), (-2, -1)),
    ((300, 257), (-1,)),
]


@pytest.mark.parametrize(("shape", "axes"), SHAPES, ids=str)
def test_output_and_gradients_equal_the_oracle(shape, axes, path):
    x, scale, upstream = arrays(shape, axes)
    y, by_x, by_scale = function_and_gradients(lambda x, s: rms_norm(x, s, axis=axes), (x, scale), upstream)
    assert_close(y, oracle(x, scale, axes), 1e-6)
    assert_close(to_numpy(rms_norm(x, scale, axis=axes)), oracle(x, scale, axes), 1e-6)
    wanted_x, wanted_scale = oracle_gradients(x, scale, upstream, axes)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_scale, wanted_scale, 1e-5)
    plain, plain_by_x = function_and_gradients(lambda x: rms_norm(x, axis=axes), (x,), upstream)
    assert_close(plain, oracle(x, None, axes), 1e-6)
    assert_close(plain_by_x, oracle_gradients(x, np.ones_like(scale), upstream, axes)[0], 1e-5)


def test_large_tensors_equal_the_oracle(path):
    x, scale, upstream = arrays((9, 16, 1031), (-1,))
    y, by_x, by_scale = function_and_gradients(rms_norm, (x, scale), upstream)
    assert_close(y, oracle(x, scale), 1e-6)
    wanted_x, wanted_scale = oracle_gradients(x, scale, upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_scale, wanted_scale, 1e-5)


@pytest.mark.parametrize("size", [1e-20, 1e-10, 1e-3, 1.0, 1e10, 1e18, 1e21])
def test_sizes_do_not_matter(size, path):
    x, scale, upstream = arrays((30, 1500), (-1,))
    x = (x * np.float32(size)).astype("float32")
    y, by_x, by_scale = function_and_gradients(rms_norm, (x, scale), upstream)
    assert_close(y, oracle(x, scale), 1e-5)
    assert_close(to_numpy(rms_norm(x, scale)), oracle(x, scale), 1e-5)
    wanted_x, wanted_scale = oracle_gradients(x, scale, upstream)
    assert_close(by_x, wanted_x, 1e-5)
    assert_close(by_scale, wanted_scale, 1e-5)


def test_rows_of_very_different_sizes_do_not_disturb_each_other(path):
    x, scale, _ = arrays((5, 700), (-1,))
    x *= np.array([[1e-20], [1e-3], [1.0], [1e18], [1e21]], "float32")
    y = to_numpy(rms_norm(x, scale))
    for row, wanted in zip(y, oracle(x, scale), strict=True):
        assert_close(row, wanted, 1e-5)


@pytest.mark.parametrize("epsilon", [EPSILON, 1e-24])
@pytest.mark.parametrize("value", [0.0, 1e20, 1e30, 3.4e38, -3.4e38])
def test_zeros_and_the_largest_numbers_give_finite_results_and_gradients(value, epsilon, path):
    x, scale, upstream = arrays((30, 1500), (-1,))
    x = np.full_like(x, value)
    results = function_and_gradients(lambda x, s: rms_norm(x, s, epsilon=epsilon), (x, scale), upstream)
    for result in [*results, to_numpy(rms_norm(x, scale, epsilon=epsilon))]:
        assert np.isfinite(result).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 6e4])
def test_half_precision_is_rounded_once(dtype, size, path):
    x, scale, _ = arrays((5, 331), (-1,))
    x = np.clip(x, -1, 1) * np.float32(size)
    half = x.astype(TYPES[dtype])
    y = rms_norm(keras.ops.cast(half.astype("float32"), dtype), scale)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))
    right = oracle(half.astype("float32"), scale).astype("float32").astype(TYPES[dtype])
    neighbours = [np.nextafter(right, TYPES[dtype](sign * np.inf)).astype("float32") for sign in (-1, 1)]
    assert ((y >= neighbours[0]) & (y <= neighbours[1])).all()
    assert (y == right.astype("float32")).mean() > 0.98


@pytest.mark.parametrize("dtype", TYPES)
def test_half_precision_gradients(dtype, path):
    x, scale, upstream = (np.round(each * 64) / 64 for each in arrays((5, 331), (-1,)))
    x, upstream = (each.astype(TYPES[dtype]).astype("float32") for each in (x, upstream))

    def function(x, scale):
        return keras.ops.cast(rms_norm(keras.ops.cast(x, dtype), scale), "float32")

    _, by_x, by_scale = function_and_gradients(function, (x, scale), upstream)
    wanted_x, wanted_scale = oracle_gradients(x, scale, upstream)
    assert_close(by_x, wanted_x, float(ml_dtypes.finfo(TYPES[dtype]).eps))
    assert_close(by_scale, wanted_scale, 1e-5)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX computes in float64 only if told at its start.")
def test_float64_keeps_its_digits(path):
    x, scale, upstream = (each.astype("float64") for each in arrays((5, 33), (-1,)))
    y, by_x, by_scale = function_and_gradients(rms_norm, (x, scale), upstream)
    assert y.dtype == by_x.dtype == by_scale.dtype == np.float64
    assert_close(y, oracle(x, scale), 1e-14)
    wanted_x, wanted_scale = oracle_gradients(x, scale, upstream)
    assert_close(by_x, wanted_x, 1e-13)
    assert_close(by_scale, wanted_scale, 1e-13)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "bool"])
def test_integers_are_cast_and_not_truncated(dtype, path):
    x = np.array([[0, 1, 2, 3], [1, 1, 0, 1]]).astype(dtype)
    y = rms_norm(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert_close(keras.ops.convert_to_numpy(y), oracle(x.astype("float32")), 1e-6)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1.0, 1e4])
def test_every_epsilon_counts(epsilon, path):
    x, scale, upstream = arrays((4, 33), (-1,))
    x *= np.float32(epsilon**0.5)
    y, by_x, _ = function_and_gradients(lambda x, s: rms_norm(x, s, epsilon=epsilon), (x, scale), upstream)
    assert_close(y, oracle(x, scale, epsilon=epsilon), 1e-6)
    assert_close(by_x, oracle_gradients(x, scale, upstream, epsilon=epsilon)[0], 1e-5)


def test_second_derivatives(path):
    x, scale, upstream = arrays((3, 5), (-1,))

    def gradient(x):
        return oracle_gradients(x, scale, upstream)[0].astype("float64")

    step = 1e-5
    wanted = np.zeros_like(x, "float64")
    for index in np.ndindex(x.shape):
        shift = np.zeros_like(wanted)
        shift[index] = step
        wanted[index] = ((gradient(x + shift) ** 2).sum() - (gradient(x - shift) ** 2).sum()) / (2 * step)
    actual = second_derivatives(lambda x: rms_norm(x, scale), x, upstream)
    assert_close(actual, wanted, 1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_shape_and_axes(data):
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=5), label="shape")
    axes = data.draw(
        st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, unique_by=lambda a: a % len(shape)), label="axes"
    )
    dtype = data.draw(st.sampled_from(["float32", "float16", "bfloat16", "int32"]), label="dtype")
    x, scale, _ = arrays(shape, axes, seed=len(shape))
    x = keras.ops.cast(x * 3, dtype)
    seen = keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
    with use_fast_paths(data.draw(st.booleans(), label="fast")):
        y = rms_norm(x, scale, axis=axes[0] if len(axes) == 1 else axes)
    tolerance = {"float16": 2**-10, "bfloat16": 2**-7}.get(dtype, 1e-5)
    if 0 not in shape:
        assert_close(keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")), oracle(seen, scale, axes), tolerance)
    assert tuple(y.shape) == tuple(shape)


def test_equals_the_frameworks_own():
    torch = pytest.importorskip("torch")
    if keras.backend.backend() != "torch":
        pytest.skip("Compared where the tensors are.")
    x, scale, _ = arrays((4, 9, 33), (-1,))
    own = torch.nn.RMSNorm(33, eps=EPSILON)
    own.weight.data = torch.from_numpy(scale)
    with torch.no_grad():
        wanted = own(torch.from_numpy(x)).numpy()
    assert_close(keras.ops.convert_to_numpy(rms_norm(x, scale)), wanted, 1e-6)


def test_symbolic_inputs_become_part_of_a_functional_model():
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, rms_norm(inputs, np.full(6, 2.0, "float32")))
    x, _, _ = arrays((2, 3, 6), (-1,))
    assert_close(model.predict(x, verbose=0), 2 * oracle(x), 1e-6)
    unknown = keras.Input((None, None))
    model = keras.Model(unknown, rms_norm(unknown, axis=(1, 2)))
    assert_close(model.predict(x, verbose=0), oracle(x, None, (1, 2)), 1e-6)


@pytest.mark.parametrize(
    ("epsilon", "rule"),
    [
        (0, "above 0"),
        (-1e-6, "above 0"),
        (1e-25, "1e-24 or more, for float32 to hold gradients"),
        *((value, "a finite number") for value in (float("nan"), float("inf"), "1e-6", b"1", None, True, np.True_)),
        (10**400, "a finite number"),
    ],
)
def test_a_bad_epsilon_is_refused(epsilon, rule):
    with pytest.raises(ValueError, match=f"epsilon must be {rule}; got"):
        rms_norm(np.ones(3, "float32"), epsilon=epsilon)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (2, "axis 2 is out of range for an input of rank 2"),
        (-3, "axis -3 is out of range for an input of rank 2"),
        ((1, -1), r"axis names axis 1 twice for an input of rank 2; got axis=\(1, -1\)"),
        ((0, 0), r"several different ones; got \(0, 0\)"),
        ((), "axis must name one axis"),
        (1.0, "axis must be an integer or several in a tuple or list; got 1.0"),
        ("1", "axis must be an integer or several in a tuple or list; got '1'"),
        (True, "axis must be an integer or several in a tuple or list; got True"),
    ],
)
def test_a_bad_axis_is_refused(axis, message):
    with pytest.raises(ValueError, match=message):
        rms_norm(np.ones((2, 3), "float32"), axis=axis)


def test_a_scalar_is_refused():
    with pytest.raises(ValueError, match="rank 1 or more; got a scalar"):
        rms_norm(np.float32(1.0))


@pytest.mark.parametrize("shape", [(2,), (3, 1), ()], ids=str)
def test_a_scale_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"scale must have the shape of the normalized axes, \(3,\); got"):
        rms_norm(np.ones((2, 3), "float32"), np.ones(shape, "float32"))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="The kernels are PyTorch's.")
@pytest.mark.skipif(shutil.which("g++") is None, reason="On a CPU inductor needs a C++ compiler.")
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
@pytest.mark.parametrize("with_scale", [True, False])
def test_the_kernels_for_gpus_equal_the_oracle(with_scale):
    from kerasblocks.ops import _rms_norm_torch

    x, scale, upstream = arrays((6, 7, 65), (-1,))
    x[:2] *= 1e18
    wanted_x, wanted_scale = oracle_gradients(x, scale if with_scale else np.ones_like(scale), upstream)

    def compiled(x, scale=None):
        return _rms_norm_torch._Compiled.apply(x, scale, (2,), EPSILON, 2.0**-14)

    y, by_x, *by_scale = function_and_gradients(compiled, (x, scale) if with_scale else (x,), upstream)
    assert_close(y, oracle(x, scale if with_scale else None), 1e-5)
    assert_close(by_x, wanted_x, 1e-5)
    if with_scale:
        assert_close(by_scale[0], wanted_scale, 1e-5)
