import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import function_and_gradients, second_derivatives

from kerasblocks.ops import distillation_loss, use_fast_paths

DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon")
DTYPE = np.longdouble  # 64 bits of mantissa: float64 itself loses the digits of a small divergence


def log_softmax(logits, temperature):
    logits = np.asarray(logits, DTYPE) / temperature
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def oracle(student, teacher, temperature, divergence):
    s, t = log_softmax(student, temperature), log_softmax(teacher, temperature)
    if divergence == "forward_kl":
        found = (np.exp(t) * (t - s)).sum(-1)
    elif divergence == "reverse_kl":
        found = (np.exp(s) * (s - t)).sum(-1)
    else:
        middle = np.log((np.exp(s) + np.exp(t)) / 2)
        found = ((np.exp(t) * (t - middle)).sum(-1) + (np.exp(s) * (s - middle)).sum(-1)) / 2
    return temperature**2 * found


def oracle_gradient(student, teacher, temperature, divergence, step=1e-4):
    student, found = np.asarray(student, DTYPE), []
    for place in range(student.shape[-1]):
        shift = np.zeros(student.shape[-1], DTYPE)
        shift[place] = step
        ends = [oracle(student + sign * shift, teacher, temperature, divergence) for sign in (-2, -1, 1, 2)]
        found.append((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * step))
    return np.stack(found, -1)


def loss_and_gradient(student, teacher, **options):
    student, teacher = np.asarray(student, "float32"), np.asarray(teacher, "float32")
    upstream = np.ones(student.shape[:-1], "float32")
    return function_and_gradients(lambda s, t: distillation_loss(s, t, **options), [student, teacher], upstream)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.5, 2.0, 100.0])
@pytest.mark.parametrize("apart", [None, 0.1, 0.001])
def test_every_row_keeps_its_digits(divergence, temperature, apart):
    teacher = 3 * random((50, 10))
    student = 3 * random((50, 10), seed=1)
    if apart is not None:
        student = teacher + np.random.default_rng(1).uniform(-apart, apart, teacher.shape).astype("float32")
    loss, by_student, by_teacher = loss_and_gradient(student, teacher, temperature=temperature, divergence=divergence)
    np.testing.assert_allclose(loss, oracle(student, teacher, temperature, divergence).astype("float64"), rtol=2e-5)
    expected = oracle_gradient(student, teacher, temperature, divergence).astype("float64")
    # float32 cannot tell more than this of terms T · log(p_t / p_s) that cancel where a softmax is saturated.
    ratios = abs(log_softmax(student, temperature) - log_softmax(teacher, temperature)).max(-1, keepdims=True)
    allowed = 1e-4 * abs(expected).max(-1, keepdims=True) + 4 * np.finfo("float32").eps * temperature * ratios
    assert (abs(by_student - expected) <= allowed).all()
    assert np.isfinite(by_teacher).all()


def test_the_numbers_of_the_formula():
    loss, gradient, _ = loss_and_gradient([[3, 2, 1]], [[1, 2, 3]], temperature=2.0)
    np.testing.assert_allclose(loss, [1.280627], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.6403135, 0, -0.6403135]], atol=1e-6)
    loss, gradient, _ = loss_and_gradient([[20, 0, -20]], [[-20, 0, 20]], temperature=2.0)
    np.testing.assert_allclose(loss, [79.99637], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[2, 0, -2]], atol=1e-3)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_huge_logits_give_finite_numbers(divergence):
    loss, *gradients = loss_and_gradient([[1e4, 0, -1e4]], [[-1e4, 0, 1e4]], temperature=2.0, divergence=divergence)
    expected = 4 * np.log(2) if divergence == "jensen_shannon" else 40000.0
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
    assert all(np.isfinite(each).all() for each in gradients)
    if divergence == "forward_kl":
        np.testing.assert_allclose(gradients[0], [[2, 0, -2]], atol=1e-6)


@pytest.mark.parametrize("mask", [-1e4, -65504.0, -1e9, np.finfo("float32").min, -np.inf])
@pytest.mark.parametrize("temperature", [0.5, 4.0])
@pytest.mark.parametrize(
    ("divergence", "masked"),
    [
        ("forward_kl", "teacher"),
        ("reverse_kl", "student"),
        ("jensen_shannon", "teacher"),
        ("jensen_shannon", "student"),
    ],
)
def test_a_class_that_one_of_the_two_masks_takes_no_digits(divergence, masked, temperature, mask):
    student, teacher = random((50, 7)), random((50, 7), seed=1)
    (student if masked == "student" else teacher)[:, 0] = mask
    found, *gradients = loss_and_gradient(student, teacher, temperature=temperature, divergence=divergence)
    finite = [np.maximum(each, -1e12).astype(DTYPE) for each in (student, teacher)]
    expected = oracle(*finite, temperature, divergence).astype("float64")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    expected = oracle_gradient(*finite, temperature, divergence).astype("float64")
    np.testing.assert_allclose(gradients[0], expected, atol=1e-4)
    assert np.isfinite(gradients[1]).all()


def test_a_class_that_both_mask_does_not_count():
    student, teacher = random((50, 7)), random((50, 7), seed=1)
    expected = to_numpy(distillation_loss(student[:, 1:], teacher[:, 1:]))
    student[:, 0] = teacher[:, 0] = -np.inf
    loss, *gradients = loss_and_gradient(student, teacher)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert all(np.isfinite(each).all() for each in gradients)


def test_equal_logits_have_no_loss_and_no_gradient():
    logits = random((4, 7))
    for divergence in DIVERGENCES:
        for found in loss_and_gradient(logits, logits, divergence=divergence):
            np.testing.assert_array_equal(found, np.zeros_like(found))


def test_the_teacher_has_the_gradient_of_the_same_formula():
    student, teacher = random((3, 5)), random((3, 5), seed=1)
    _, _, by_teacher = loss_and_gradient(student, teacher, temperature=3.0)
    _, by_other, _ = loss_and_gradient(teacher, student, temperature=3.0, divergence="reverse_kl")
    np.testing.assert_allclose(by_teacher, by_other, atol=1e-6)


@pytest.mark.parametrize("classes", [5, 2000])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_the_fast_path_is_the_reference(classes, divergence):
    rows = 1200 if classes > 1000 else 6  # more than a million logits, and few
    arrays = [random((rows, classes), seed=seed) for seed in (0, 1)]
    upstream = random((rows,), seed=2)

    def loss(student, teacher):
        return distillation_loss(student, teacher, temperature=3.0, divergence=divergence)

    fast = function_and_gradients(loss, arrays, upstream)
    with use_fast_paths(False):
        reference = function_and_gradients(loss, arrays, upstream)
    for one, other in zip(fast, reference, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6 * abs(other).max())


def test_second_derivatives_are_those_of_the_reference():
    teacher = keras.ops.convert_to_tensor(random((4, 5), seed=1))

    def loss(student):
        return distillation_loss(student, teacher, temperature=3.0)

    fast = second_derivatives(loss, random((4, 5)), random((4,), seed=2))
    with use_fast_paths(False):
        reference = second_derivatives(loss, random((4, 5)), random((4,), seed=2))
    np.testing.assert_allclose(fast, reference, rtol=1e-4, atol=1e-6)
    assert abs(fast).max() > 0


def test_at_a_high_temperature_the_gradient_is_that_of_matching_logits():
    student, teacher = random((6, 10)), random((6, 10), seed=1)
    _, gradient, _ = loss_and_gradient(student, teacher, temperature=1000.0)
    difference = student - teacher
    np.testing.assert_allclose(gradient, (difference - difference.mean(-1, keepdims=True)) / 10, rtol=5e-3, atol=5e-4)


def test_a_sigmoid_head_has_classes_of_their_own():
    student, teacher = random((6, 3)), random((6, 3), seed=1)
    pairs = [np.stack([each, np.zeros_like(each)], -1) for each in (student, teacher)]
    expected = oracle(*pairs, 3.0, "forward_kl").mean(-1)
    found = distillation_loss(student, teacher, temperature=3.0, head="sigmoid")
    np.testing.assert_allclose(to_numpy(found), expected.astype("float64"), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (1, 1), (0, 4), (2, 3, 5), (7, 1000)], ids=str)
def test_odd_shapes(shape):
    student, teacher = random(shape), random(shape, seed=1)
    found = distillation_loss(student, teacher, temperature=2)
    assert tuple(found.shape) == shape[:-1]
    expected = oracle(student, teacher, 2, "forward_kl").astype("float64")
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "float64"])
def test_dtypes(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to.")
    student, teacher = (keras.ops.cast(np.round(4 * random((5, 6), seed=seed)), dtype) for seed in (0, 1))
    found = distillation_loss(student, teacher)
    assert keras.backend.standardize_dtype(found.dtype) == ("float64" if dtype == "float64" else "float32")
    expected = oracle(to_numpy(student), to_numpy(teacher), 2, "forward_kl").astype("float64")
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5)


def test_a_temperature_may_be_a_tensor():
    student, teacher = random((5, 6)), random((5, 6), seed=1)
    expected = to_numpy(distillation_loss(student, teacher, temperature=3.0))
    for temperature in (keras.ops.convert_to_tensor(3.0), keras.ops.convert_to_tensor(3), keras.Variable(3.0)):
        found = to_numpy(distillation_loss(student, teacher, temperature=temperature))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_symbols_have_the_shape_of_the_result():
    symbols = keras.KerasTensor((None, 4, 9)), keras.KerasTensor((None, 4, 9))
    for options in ({}, {"divergence": "jensen_shannon"}, {"head": "sigmoid"}):
        assert distillation_loss(*symbols, **options).shape == ((None, 4))


@pytest.mark.parametrize(
    ("student", "options", "message"),
    [
        ((2, 3), {"temperature": 0}, r"temperature must be above 0; got 0\."),
        ((2, 3), {"temperature": "warm"}, "temperature must be a finite number"),
        ((2, 3), {"temperature": np.array([1.0, 2.0])}, "temperature must be"),
        ((2, 3), {"divergence": "kl"}, r"divergence must be one of 'forward_kl', 'reverse_kl', .*got 'kl'"),
        ((2, 3), {"head": "linear"}, r"head must be one of 'softmax', 'sigmoid'; got 'linear'"),
        ((2, 4), {}, r"The student has 4 classes and the teacher 3 \(shapes \(2, 4\) and \(2, 3\)\)"),
        ((5, 3), {}, r"logits of one shape; got \(5, 3\) and \(2, 3\)"),
        ((2, 2, 3), {}, r"logits of one shape; got \(2, 2, 3\) and \(2, 3\)"),
        ((), {}, r"must have a last axis of classes; got the shapes \(\) and \(2, 3\)"),
    ],
    ids=["zero", "text", "vector", "divergence", "head", "classes", "samples", "rank", "scalar"],
)
def test_bad_arguments_are_refused(student, options, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(np.zeros(student, "float32"), np.zeros((2, 3), "float32"), **options)


def test_a_temperature_whose_square_is_no_float32_is_refused():
    with pytest.raises(ValueError, match=r"temperature must be 1e\+18 at most, .*; got 1e\+20"):
        distillation_loss(np.zeros((1, 3)), np.ones((1, 3)), temperature=1e20)
