"""The distillation loss of two linear heads without their logits in memory: large vocabularies; Keras has none."""

from typing import Any

import keras

from kerasblocks._arguments import as_integer
from kerasblocks.ops._floating import accumulation_dtype, as_floating
from kerasblocks.ops._log_ratio import gradient_by_b, log_ratio
from kerasblocks.ops.distillation_loss import as_temperature, check_shapes, distillation_loss

_LOGITS = 2**21  # of one chunk


def linear_distillation_loss(
    student_hidden: Any,
    student_kernel: Any,
    teacher_hidden: Any,
    teacher_kernel: Any,
    *,
    temperature: Any,
    chunk: int | None = None,
) -> Any:
    """Computes T² · KL(softmax(t / T) ‖ softmax(s / T)) with s = h_s · W_s and t = h_t · W_t, chunk by chunk.

    The logits exist for a few tokens at a time only; the backward pass computes them anew, which costs one more
    product for each model. The teacher's tensors are constants: only the student's have gradients, and these cannot
    be differentiated again.

    Args:
        student_hidden: h_s, tensor of shape `(..., width)`.
        student_kernel: W_s, tensor of shape `(width, classes)`.
        teacher_hidden: h_t, tensor of shape `(..., teacher's width)`, the leading sizes those of h_s.
        teacher_kernel: W_t, tensor of shape `(teacher's width, classes)`.
        temperature: T, a number above 0.
        chunk: tokens whose logits exist at a time; None for two million logits.

    Returns:
        A tensor of shape `(...,)`: float64 if one of the arguments is, else float32. Products are computed in the
        dtypes of hidden state and kernel, all else in that of the result.

    Raises:
        ValueError: shapes that do not fit, a `temperature` that is not a number above 0, a `chunk` below 1.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2; in chunks as
    Hsu et al., "Liger kernel: efficient Triton kernels for LLM training", 2024, section 3.2.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import linear_distillation_loss
    >>> hidden = np.array([[1.0, 0.0]], "float32")
    >>> student, teacher = np.array([[3.0, 2.0, 1.0]] * 2, "float32"), np.array([[1.0, 2.0, 3.0]] * 2, "float32")
    >>> loss = linear_distillation_loss(hidden, student, hidden, teacher, temperature=2.0)
    >>> round(float(keras.ops.convert_to_numpy(loss)[0]), 5)
    1.28063
    """
    temperature = as_temperature(temperature)
    if not isinstance(temperature, float):
        raise ValueError(f"temperature must be a number; got {temperature!r}.")
    given = student_hidden, student_kernel, teacher_hidden, teacher_kernel
    if any(isinstance(each, keras.KerasTensor) for each in given):
        _check_shapes(*(tuple(each.shape) for each in given))
        logits = (keras.ops.matmul(*pair) for pair in (given[:2], given[2:]))
        return distillation_loss(*logits, temperature=temperature)
    tensors = [as_floating(keras.ops.convert_to_tensor(each)) for each in given]
    _check_shapes(*(tuple(each.shape) for each in tensors))
    classes, sizes = tensors[1].shape[-1], keras.ops.shape(tensors[0])[:-1]
    chunk = max(1, _LOGITS // classes) if chunk is None else as_integer("chunk", chunk, least=1)
    student, teacher = (keras.ops.reshape(each, (-1, each.shape[-1])) for each in tensors[::2])
    if student.shape[0] is not None:
        chunk = max(1, min(chunk, student.shape[0]))
    loss = _Chunks(teacher, tensors[3], temperature, chunk)
    return keras.ops.reshape(keras.ops.custom_gradient(loss.with_gradient)(student, tensors[1]), sizes)


class _Chunks:
    """The losses of rows, as a function of the student's hidden states and kernel that brings its own gradient.

    Rows of zeros fill the last chunk: their logits are all alike, so that they have neither loss nor gradient.
    """

    def __init__(self, teacher: Any, kernel: Any, temperature: float, chunk: int) -> None:
        self._teacher, self._kernel = keras.ops.stop_gradient(teacher), keras.ops.stop_gradient(kernel)
        self._temperature, self._chunk = temperature, chunk

    def with_gradient(self, hidden: Any, kernel: Any) -> tuple[Any, Any]:
        """Returns the losses, and the function that gives their gradients, as Keras's `custom_gradient` asks."""
        dtype = accumulation_dtype(hidden.dtype, kernel.dtype, self._teacher.dtype, self._kernel.dtype)

        def gradient(*upstreams: Any, upstream: Any = None) -> tuple[Any, Any]:
            return self._gradient(hidden, kernel, upstreams[0] if upstream is None else upstream, dtype)

        return self._losses(hidden, kernel, dtype), gradient

    def _losses(self, hidden: Any, kernel: Any, dtype: str) -> Any:
        ops = keras.ops
        students, teachers = self._in_chunks(hidden), self._in_chunks(self._teacher)

        def body(index: Any, losses: Any) -> Any:
            logits = self._logits(students[index], teachers[index], kernel, dtype)
            found = log_ratio(*logits, self._temperature).divergence
            return ops.slice_update(losses, (index, 0), ops.transpose(found) * self._temperature**2)

        count = ops.shape(students)[0]
        losses = ops.fori_loop(0, count, body, ops.zeros((count, self._chunk), dtype))
        return ops.reshape(losses, (-1,))[: ops.shape(hidden)[0]]

    def _gradient(self, hidden: Any, kernel: Any, upstream: Any, dtype: str) -> tuple[Any, Any]:
        ops = keras.ops
        students, teachers = self._in_chunks(hidden), self._in_chunks(self._teacher)
        upstreams = self._in_chunks(upstream[:, None])

        def body(index: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
            by_hidden, by_kernel = state
            logits = self._logits(students[index], teachers[index], kernel, dtype)
            ratio = log_ratio(*logits, self._temperature)
            change = gradient_by_b(ratio, self._temperature)
            change = ops.cast(change * upstreams[index], kernel.dtype)
            part = ops.cast(ops.matmul(change, ops.transpose(kernel)), dtype)
            by_hidden = ops.slice_update(by_hidden, (index, 0, 0), part[None])
            part = ops.matmul(ops.transpose(students[index]), ops.cast(change, hidden.dtype))
            return by_hidden, by_kernel + ops.cast(part, dtype)

        start = ops.zeros(ops.shape(students), dtype), ops.zeros(kernel.shape, dtype)
        by_hidden, by_kernel = ops.fori_loop(0, ops.shape(students)[0], body, start)
        by_hidden = ops.reshape(by_hidden, (-1, hidden.shape[-1]))[: ops.shape(hidden)[0]]
        return ops.cast(by_hidden, hidden.dtype), ops.cast(by_kernel, kernel.dtype)

    def _logits(self, student: Any, teacher: Any, kernel: Any, dtype: str) -> tuple[Any, Any]:
        """Returns the logits of teacher and student."""
        pairs = (teacher, self._kernel), (student, kernel)
        teacher_logits, student_logits = (keras.ops.cast(keras.ops.matmul(*pair), dtype) for pair in pairs)
        return teacher_logits, student_logits

    def _in_chunks(self, rows: Any) -> Any:
        """Returns the rows as (chunks, rows of a chunk, width)."""
        count = keras.ops.shape(rows)[0]
        missing = self._chunk if rows.shape[0] == 0 else -count % self._chunk  # JAX takes nothing from no chunks.
        if not isinstance(missing, int) or missing:
            rows = keras.ops.pad(rows, ((0, missing), (0, 0)))
        return keras.ops.reshape(rows, (-1, self._chunk, rows.shape[-1]))


def _check_shapes(
    student: tuple[int | None, ...],
    student_kernel: tuple[int | None, ...],
    teacher: tuple[int | None, ...],
    teacher_kernel: tuple[int | None, ...],
) -> None:
    for name, hidden, kernel in (("student", student, student_kernel), ("teacher", teacher, teacher_kernel)):
        if len(kernel) != 2 or not hidden:
            raise ValueError(
                f"{name}_hidden must be of shape (..., width) and {name}_kernel of shape (width, classes); got "
                f"{hidden} and {kernel}."
            )
        if None not in (hidden[-1], kernel[0]) and hidden[-1] != kernel[0]:
            raise ValueError(
                f"{name}_hidden has the width {hidden[-1]} and {name}_kernel {kernel[0]} rows (shapes {hidden} and "
                f"{kernel}): these must be equal."
            )
    check_shapes((*student[:-1], student_kernel[-1]), (*teacher[:-1], teacher_kernel[-1]))
