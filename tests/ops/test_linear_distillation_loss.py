import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import function_and_gradients

from kerasblocks.ops import distillation_loss, linear_distillation_loss


def problem(tokens, near=False):
    hidden, kernel = random((tokens, 5)), random((5, 11), seed=1)
    if near:
        return hidden, kernel, hidden, kernel + 1e-3 * random((5, 11), seed=2)
    return hidden, kernel, random((tokens, 4), seed=2), random((4, 11), seed=3)


@pytest.mark.parametrize("near", [False, True], ids=["apart", "near"])
@pytest.mark.parametrize(("tokens", "chunk"), [(7, 3), (7, None), (6, 3), (1, 1), (5, 100), (0, 2)])
def test_losses_and_gradients_are_those_of_whole_logits(tokens, chunk, near):
    hidden, kernel, teacher, teacher_kernel = problem(tokens, near)
    upstream = random((tokens,), seed=4)

    def chunked(hidden, kernel):
        return linear_distillation_loss(hidden, kernel, teacher, teacher_kernel, temperature=3.0, chunk=chunk)

    def whole(hidden, kernel):
        said = keras.ops.matmul(keras.ops.convert_to_tensor(teacher), keras.ops.convert_to_tensor(teacher_kernel))
        return distillation_loss(keras.ops.matmul(hidden, kernel), said, temperature=3.0)

    found = function_and_gradients(chunked, [hidden, kernel], upstream)
    expected = function_and_gradients(whole, [hidden, kernel], upstream)
    # A product of other sizes may round its logits otherwise, by so much of what teacher and student differ by.
    logits, said = hidden @ kernel, teacher @ teacher_kernel
    rounding = 2 * 2.0**-23 * abs(logits).max(initial=0) / max(abs(logits - said).max(initial=0), 1e-3)
    tolerance = max(1e-5, rounding)
    assert tolerance < 1e-3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * abs(other).max(initial=0))


def test_axes_in_front_and_half_precision():
    arguments = [random((2, 3, 5)), random((5, 9), seed=1), random((2, 3, 4), seed=2), random((4, 9), seed=3)]
    arguments = [keras.ops.cast(each, "bfloat16") for each in arguments]
    found = linear_distillation_loss(*arguments, temperature=2.0, chunk=4)
    assert tuple(found.shape) == (2, 3)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    student, teacher = (to_numpy(each) @ to_numpy(kernel) for each, kernel in (arguments[:2], arguments[2:]))
    expected = to_numpy(distillation_loss(student, teacher, temperature=2.0))
    np.testing.assert_allclose(to_numpy(found), expected, atol=0.05 * expected.max())


def test_a_layer_trains_with_it():
    hidden, _, _, teacher_kernel = problem(64, near=True)

    class Head(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(11, use_bias=False)
            self.dense.build((None, 5))

        def call(self, x):
            said = keras.ops.convert_to_tensor(teacher_kernel)
            loss = linear_distillation_loss(x, self.dense.kernel, x, said, temperature=2.0, chunk=7)
            self.add_loss(keras.ops.mean(loss))
            return x

    model = Head()
    model.compile(keras.optimizers.Adam(0.1))
    history = model.fit(hidden, batch_size=20, epochs=15, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < 0.1 * losses[0]


def test_symbols_have_the_shape_of_the_result():
    shapes = (None, 6, 5), (5, 9), (None, 6, 4), (4, 9)
    assert linear_distillation_loss(*map(keras.KerasTensor, shapes), temperature=2.0).shape == (None, 6)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((2, 5), (4, 9), (2, 5), (5, 9)), {}, r"student_hidden has the width 5 and student_kernel 4 rows"),
        (((2, 5), (5, 9), (2, 5), (9,)), {}, r"teacher_hidden must be of shape \(\.\.\., width\) and teacher_kernel"),
        (((2, 5), (5, 8), (2, 5), (5, 9)), {}, r"The student has 8 classes and the teacher 9"),
        (((2, 5), (5, 9), (3, 5), (5, 9)), {}, r"logits of one shape; got \(2, 9\) and \(3, 9\)"),
        (((2, 5), (5, 9), (2, 5), (5, 9)), {"chunk": 0}, "chunk must be an integer of at least 1; got 0"),
        (((2, 5), (5, 9), (2, 5), (5, 9)), {"temperature": -1.0}, r"temperature must be above 0; got -1\.0"),
    ],
    ids=["width", "kernel", "classes", "tokens", "chunk", "temperature"],
)
def test_bad_arguments_are_refused(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        linear_distillation_loss(*(np.zeros(shape, "float32") for shape in shapes), **{"temperature": 1.0} | options)
