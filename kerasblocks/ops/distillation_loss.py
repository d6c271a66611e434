"""Divergences between the tempered predictions of a teacher and a student, in log space; Keras clips probabilities."""

import math
from typing import Any

import keras

from kerasblocks._arguments import as_number
from kerasblocks.ops._dispatch import with_fast_path
from kerasblocks.ops._floating import accumulation_dtype, as_floating, cast_to
from kerasblocks.ops._kl_divergence_reference import kl_divergence
from kerasblocks.ops._log_ratio import log_ratio
from kerasblocks.ops._plain import plain

_kl_divergence = with_fast_path("kl_divergence", kl_divergence)

_LARGEST_TEMPERATURE = 1e18
DIVERGENCES = ("forward_kl", "reverse_kl", "jensen_shannon")
HEADS = ("softmax", "sigmoid")
_LOG_2 = math.log(2)


def distillation_loss(
    student_logits: Any,
    teacher_logits: Any,
    *,
    temperature: Any = 2.0,
    divergence: str = "forward_kl",
    head: str = "softmax",
) -> Any:
    """Computes T² · D(p_t ‖ p_s) with p_t = softmax(t / T) and p_s = softmax(s / T), in log space.

    D is Σ p_t · (log p_t − log p_s), the forward Kullback-Leibler divergence, whose gradient by s is
    T · (p_s − p_t) and tends to (s − t) / classes, with the means taken off, as T grows; Σ p_s · (log p_s − log p_t),
    the reverse one; or the Jensen-Shannon divergence, half the sum of both against m = (p_t + p_s) / 2. With
    `head="sigmoid"` every logit z is a class of its own, of the probabilities sigmoid(z / T) and sigmoid(−z / T), and
    the loss is the mean over these.

    Where teacher and student nearly agree, or T is large, the loss keeps its digits: in float32 a row is right within
    1e-3 of itself for T from 0.5 to 100. Both arguments have gradients; Keras's `stop_gradient` makes a constant.

    Args:
        student_logits: s, tensor of shape `(..., classes)`.
        teacher_logits: t, tensor of the same shape, of whichever floating or integer dtype.
        temperature: T, a number or a scalar tensor above 0.
        divergence: `"forward_kl"`, `"reverse_kl"` or `"jensen_shannon"`.
        head: `"softmax"` or `"sigmoid"`.

    Returns:
        A tensor of shape `(...,)`: float64 if one of the arguments is, else float32.

    Raises:
        ValueError: logits of unequal shapes or without an axis of classes, a `temperature` that is not above 0, an
            unknown `divergence` or `head`.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2; Lin,
    "Divergence measures based on the Shannon entropy", 1991.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.ops import distillation_loss
    >>> loss = distillation_loss(np.array([[3.0, 2.0, 1.0]], "float32"), np.array([[1.0, 2.0, 3.0]], "float32"))
    >>> round(float(keras.ops.convert_to_numpy(loss)[0]), 5)
    1.28063
    """
    check_choice("divergence", divergence, DIVERGENCES)
    check_choice("head", head, HEADS)
    student, teacher, temperature = prepared(student_logits, teacher_logits, temperature)
    if head == "sigmoid":
        student, teacher = _of_two_classes(student), _of_two_classes(teacher)
    if divergence == "forward_kl":
        loss = _kl_divergence(teacher, student, temperature)
    elif divergence == "reverse_kl":
        loss = _kl_divergence(student, teacher, temperature)
    else:
        loss = _jensen_shannon(student, teacher, temperature)[..., 0] * (temperature * temperature)
    return keras.ops.mean(loss, axis=-1) if head == "sigmoid" else loss


def prepared(student: Any, teacher: Any, temperature: Any) -> tuple[Any, Any, Any]:
    """Returns logits and temperature in the dtype of the sums; raises `ValueError` where they do not fit."""
    student, teacher = (as_floating(_as_tensor(each)) for each in (student, teacher))
    check_shapes(tuple(student.shape), tuple(teacher.shape))
    dtype = accumulation_dtype(student.dtype, teacher.dtype)
    temperature = as_temperature(temperature)
    if not isinstance(temperature, float):
        temperature = keras.ops.cast(temperature, dtype)
    return cast_to(student, dtype), cast_to(teacher, dtype), temperature


def as_temperature(temperature: Any) -> Any:
    """Returns the temperature as a float, or a tensor as it is; raises `ValueError` unless 0 < T ≤ 1e18."""
    if keras.ops.is_tensor(temperature) or isinstance(temperature, keras.KerasTensor | keras.Variable):
        if tuple(temperature.shape) not in ((), (1,)):
            raise ValueError(f"temperature must be a scalar; got the shape {tuple(temperature.shape)}.")
        return keras.ops.reshape(temperature, ())
    number = as_number("temperature", temperature)
    if number <= 0:
        raise ValueError(f"temperature must be above 0; got {temperature!r}.")
    if number > _LARGEST_TEMPERATURE:
        raise ValueError(
            f"temperature must be {_LARGEST_TEMPERATURE:g} at most, for its square is taken in float32; "
            f"got {temperature!r}."
        )
    return number


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raises `ValueError` unless the value is one of those known."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")


def check_shapes(student: tuple[int | None, ...], teacher: tuple[int | None, ...]) -> None:
    """Raises `ValueError` unless these are the shapes of logits of the same classes."""
    if not student or not teacher:
        raise ValueError(f"Logits must have a last axis of classes; got the shapes {student} and {teacher}.")
    if None not in (student[-1], teacher[-1]) and student[-1] != teacher[-1]:
        raise ValueError(
            f"The student has {student[-1]} classes and the teacher {teacher[-1]} (shapes {student} and {teacher}): "
            "both must have the same."
        )
    pairs = zip(student, teacher, strict=False)
    if len(student) != len(teacher) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise ValueError(f"Student and teacher must have logits of one shape; got {student} and {teacher}.")


def _as_tensor(x: Any) -> Any:
    return x if isinstance(x, keras.KerasTensor) else keras.ops.convert_to_tensor(x)


def _of_two_classes(logits: Any) -> Any:
    """Returns logits whose softmax has sigmoid(z) and sigmoid(−z)."""
    return keras.ops.stack([logits, keras.ops.zeros_like(logits)], axis=-1)


def _jensen_shannon(student: Any, teacher: Any, temperature: Any) -> Any:
    """Computes ½ Σ (p_t + p_s) · (x·tanh x − log cosh x) with x = (log p_s − log p_t) / 2, a sum of positive terms."""
    of = plain(student, teacher)
    ratio = log_ratio(teacher, student, temperature)
    x = ratio.log_ratios / 2
    size, near = of.abs(x), of.clip(x, -1.0, 1.0)
    # Far out x·tanh x and log cosh x are large and nearly alike: their difference, with e = exp(−2·|x|).
    e = of.exp(-2 * size)
    far = _LOG_2 - of.log1p(e) - 2 * size * e / (1 + e)
    differences = of.where(size < 1, near * of.tanh(near) - of.log1p(2 * of.sinh(near / 2) * of.sinh(near / 2)), far)
    both = ratio.p + ratio.q
    return 0.5 * of.sum(both * differences)
