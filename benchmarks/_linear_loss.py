"""One loss with its gradients in a process of its own: how much memory it takes at most, and what it gives.

Arguments: `chunked` or `whole`, the folder for the results, tokens, width, classes.
"""

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks.ops import linear_distillation_loss
from kerasblocks.training import peak_memory

_TEMPERATURE = 2.0


def main(name: str, folder: str, tokens: int, width: int, classes: int) -> None:
    """Runs the loss on a small problem, for what is loaded once, then on the whole one."""
    rng = np.random.default_rng(0)
    hidden = [rng.normal(size=(tokens, width)).astype("float32") for _ in range(2)]
    kernels = [(rng.normal(size=(width, classes)) / width**0.5).astype("float32") for _ in range(2)]
    function = _chunked if name == "chunked" else _whole
    _loss_and_gradients(function, [each[:8] for each in hidden], [each[:, :64] for each in kernels])
    tensors = [keras.ops.convert_to_tensor(each) for each in (*hidden, *kernels)]
    before = _resident()
    loss, *gradients = _loss_and_gradients(function, tensors[:2], tensors[2:])
    peak = (peak_memory()["process"] or 0) / 2**20
    np.savez(Path(folder) / f"{name}.npz", loss=loss, by_hidden=gradients[0], by_kernel=gradients[1])
    (Path(folder) / f"{name}.json").write_text(json.dumps({"megabytes": peak - before}))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _chunked(student: Any, kernel: Any, teacher: Any, teacher_kernel: Any) -> Any:
    loss = linear_distillation_loss(student, kernel, teacher, teacher_kernel, temperature=_TEMPERATURE)
    return keras.ops.mean(loss)


def _whole(student: Any, kernel: Any, teacher: Any, teacher_kernel: Any) -> Any:
    """The formula as it is usually written."""
    ops = keras.ops
    log_q = ops.log_softmax(ops.matmul(student, kernel) / _TEMPERATURE)
    log_p = ops.stop_gradient(ops.log_softmax(ops.matmul(teacher, teacher_kernel) / _TEMPERATURE))
    return ops.mean(ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)) * _TEMPERATURE**2


def _loss_and_gradients(function: Callable[..., Any], hidden: list[Any], kernels: list[Any]) -> list[np.ndarray]:
    student, teacher, kernel, teacher_kernel = (keras.ops.convert_to_tensor(each) for each in (*hidden, *kernels))
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def of(student: Any, kernel: Any) -> Any:
            return function(student, kernel, teacher, teacher_kernel)

        loss, gradients = jax.jit(jax.value_and_grad(of, (0, 1)))(student, kernel)
    elif backend == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False)
        def compute(student: Any, kernel: Any, teacher: Any, teacher_kernel: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch([student, kernel])
                loss = function(student, kernel, teacher, teacher_kernel)
            return loss, tape.gradient(loss, [student, kernel])

        loss, gradients = compute(student, kernel, teacher, teacher_kernel)
    else:
        import torch

        student, kernel = student.clone().requires_grad_(), kernel.clone().requires_grad_()
        loss = function(student, kernel, teacher, teacher_kernel)
        gradients = torch.autograd.grad(loss, [student, kernel])
    return [np.array(keras.ops.convert_to_numpy(each)) for each in (loss, *gradients)]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
