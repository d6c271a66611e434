"""Claim: what the layers take and keep, as a ratio to Keras's own or a composition, and to the framework's own.

Each case compares a layer of the library with Keras's own or a composition of Keras's layers, and with the same
arithmetic in the framework's functions, with equal weights; outputs and all gradients are compared before the times.
"""

import math
import operator
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._paired import paired
from benchmarks._results import append_row, rows
from benchmarks._steps import Execution, copy_ms, saved_bytes, step
from kerasblocks.layers import ResidualBlock, RMSNorm, SwiGLU, Swish
from kerasblocks.training import environment

Case = Literal["rms_norm", "swiglu", "swish", "residual_block"]
Size = Literal["small", "medium", "large"]
Precision = Literal["float32", "bfloat16"]
Against = Literal["keras", "native"]
Mode = Literal["forward", "forward+backward"]

_NATIVE = "the framework's functions"
_SHAPES: dict[Size, tuple[int, int, int]] = {"small": (8, 16, 64), "medium": (8, 128, 512), "large": (8, 512, 1024)}
_SWIGLU_SHAPES: dict[Size, tuple[int, int, int]] = {
    "small": (8, 16, 64),
    "medium": (4, 64, 256),
    "large": (4, 256, 512),
}


def main(
    cases: Sequence[Case] = ("rms_norm", "swiglu", "swish", "residual_block"),
    sizes: Sequence[Size] = ("small", "medium", "large"),
    precisions: Sequence[Precision] = ("float32", "bfloat16"),
    against: Sequence[Against] = ("keras", "native"),
    modes: Sequence[Mode] = ("forward", "forward+backward"),
    execution: Execution | None = None,
    blocks: int = 15,
    width: int | None = None,
) -> None:
    """Measures the layers, forward and forward with backward.

    Args:
        cases: which layers.
        sizes: which shapes.
        precisions: float32, or bfloat16 under the policy mixed_bfloat16.
        against: Keras's own layers, the framework's functions, or both.
        modes: forward, or forward and backward.
        execution: None for that of `fit` on a CPU: eager on PyTorch, else compiled. See `_steps.step`.
        blocks: how many paired blocks.
        width: another width than that of the sizes.
    """
    if blocks < 15:
        sys.exit(f"error: blocks must be at least 15; got {blocks}.")
    if execution is None:
        execution = "eager" if keras.backend.backend() == "torch" else "compiled"
    for case in cases:
        for size in sizes:
            shape = (_SWIGLU_SHAPES if case == "swiglu" else _SHAPES)[size]
            if width is not None:
                shape = (*shape[:-1], width)
            for precision in precisions:
                policy = "float32" if precision == "float32" else "mixed_bfloat16"
                keras.config.set_dtype_policy(policy)
                for name, ours, other in _pairs(case, shape):
                    if ("native" if name == _NATIVE else "keras") in against:
                        _measure(case, name, ours, other, shape, precision, modes, execution, blocks)


def _measure(
    case: str,
    against: str,
    ours: Any,
    other: Any,
    shape: tuple[int, ...],
    precision: str,
    modes: Sequence[Mode],
    execution: Execution,
    blocks: int,
) -> None:
    rng = np.random.default_rng(0)
    x, upstream = (keras.ops.cast(rng.normal(size=shape), precision) for _ in range(2))
    for layer in (ours, other):
        layer(x)
    _set_equal_weights(case, ours, other, rng)
    copied = copy_ms(x)
    saved = [saved_bytes(layer, _leaf(x)) for layer in (ours, other)]
    for mode in modes:
        backward = mode == "forward+backward"
        start = time.perf_counter()
        function = step(ours, _leaf(x), upstream, backward=backward, execution=execution)
        results = function()
        first = time.perf_counter() - start
        compared = step(other, _leaf(x), upstream, backward=backward, execution=execution)
        _check_equal(case, results, compared(), precision)
        append_row(
            "layers",
            environment(),
            {
                "case": case,
                "against": against,
                "mode": mode,
                "execution": execution,
                "dtype": precision,
                "shape": "x".join(map(str, shape)),
                **paired(function, compared, blocks),
                "copy_ms": copied,
                "kept_mb_ours": "" if saved[0] is None or not backward else round(saved[0] / 1e6, 3),
                "kept_mb_other": "" if saved[1] is None or not backward else round(saved[1] / 1e6, 3),
                "first_call_s": round(first, 3),
            },
        )


def summary() -> str:
    """Returns the kept ratios to Keras's own as a Markdown table: of time for float32 and bfloat16, of bytes kept."""
    backends = ("torch", "jax", "tensorflow")
    cells: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for row in rows("layers"):
        if row["against"] == _NATIVE:
            continue
        line = row["case"], row["shape"], row["mode"]
        cells.setdefault(line, {each: [] for each in backends})[row["backend"]].append(row["ratio"])
        if row["kept_mb_ours"] and row["case"] == "swiglu":
            line = row["case"], row["shape"], "bytes kept"
            kept = float(row["kept_mb_ours"]) / float(row["kept_mb_other"])
            cells.setdefault(line, {each: [] for each in backends})[row["backend"]].append(f"{kept:.2f}")
    lines = [["case", "shape", "what", *backends], ["---"] * 6]
    lines += [[*line, *(", ".join(found[each]) or "unknown" for each in backends)] for line, found in cells.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _leaf(x: Any) -> Any:
    """Returns x as a tensor of which a gradient can be asked."""
    return x.detach().clone().requires_grad_() if keras.backend.backend() == "torch" else x


def _pairs(case: str, shape: tuple[int, ...]) -> list[tuple[str, Any, Any]]:
    width, hidden = shape[-1], _hidden(shape[-1])
    dense = keras.layers.Dense
    match case:
        case "rms_norm":
            return [
                ("keras.layers.RMSNormalization", RMSNorm(), keras.layers.RMSNormalization(epsilon=1e-6)),
                (_NATIVE, RMSNorm(), _NativeRMSNorm()),
            ]
        case "swiglu":
            return [
                ("three keras.layers.Dense", SwiGLU(), _Composed(dense, hidden, width)),
                (_NATIVE, SwiGLU(), _NativeSwiGLU(hidden)),
            ]
        case "swish":
            return [("keras.layers.Activation('silu')", Swish(), keras.layers.Activation("silu"))]
        case _:
            block = ResidualBlock(dense(width, use_bias=False), normalization="rms")
            return [("RMSNormalization, Dense and Add of Keras", block, _ComposedResidual(width))]


def _hidden(width: int) -> int:
    return math.ceil(8 * width / 24) * 8


class _Composed(keras.layers.Layer):
    def __init__(self, dense: Any, hidden: int, width: int) -> None:
        super().__init__(name="composed")
        self.gate, self.up = dense(hidden, use_bias=False, activation="silu"), dense(hidden, use_bias=False)
        self.down = dense(width, use_bias=False)

    def call(self, inputs: Any) -> Any:
        return self.down(self.gate(inputs) * self.up(inputs))


class _ComposedResidual(keras.layers.Layer):
    def __init__(self, width: int) -> None:
        super().__init__(name="composed_residual")
        self.body = keras.layers.Dense(width, use_bias=False)
        self.normalization = keras.layers.RMSNormalization(epsilon=1e-6)
        self.add = keras.layers.Add()

    def call(self, inputs: Any) -> Any:
        return self.add([inputs, self.body(self.normalization(inputs))])


class _NativeRMSNorm(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="native_rms_norm")

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", autocast=False)

    def call(self, inputs: Any) -> Any:
        return _native_rms_norm()(inputs, self.scale.value)


class _NativeSwiGLU(keras.layers.Layer):
    def __init__(self, hidden: int) -> None:
        super().__init__(name="native_swiglu")
        self.hidden = hidden

    def build(self, input_shape: tuple[int, ...]) -> None:
        width = input_shape[-1]
        shapes = [(width, self.hidden), (width, self.hidden), (self.hidden, width)]
        self.kernels = [self.add_weight(shape=shape, initializer="glorot_normal") for shape in shapes]

    def call(self, inputs: Any) -> Any:
        gate, up, down = (keras.ops.cast(kernel, inputs.dtype) for kernel in self.kernels)
        silu, project = _native_silu(), _native_projection()
        return project(silu(project(inputs, gate)) * project(inputs, up), down)


def _native_rms_norm() -> Callable[[Any, Any], Any]:
    match keras.backend.backend():
        case "jax":
            import jax.numpy as jnp
            from jax import lax

            def norm(x: Any, scale: Any) -> Any:
                wide = x.astype("float32")
                mean = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
                return (wide * lax.rsqrt(mean + 1e-6) * scale).astype(x.dtype)
        case "tensorflow":
            import tensorflow as tf

            def norm(x: Any, scale: Any) -> Any:
                wide = tf.cast(x, "float32")
                mean = tf.reduce_mean(tf.square(wide), axis=-1, keepdims=True)
                return tf.cast(wide * tf.math.rsqrt(mean + 1e-6) * scale, x.dtype)
        case _:
            from torch.nn.functional import rms_norm

            def norm(x: Any, scale: Any) -> Any:
                return rms_norm(x.float(), x.shape[-1:], scale, 1e-6).to(x.dtype)

    return norm


def _native_silu() -> Callable[[Any], Any]:
    if keras.backend.backend() == "jax":
        import jax

        return jax.nn.silu
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.silu  # type: ignore[no-any-return]
    import torch

    return torch.nn.functional.silu


def _native_projection() -> Callable[[Any, Any], Any]:
    if keras.backend.backend() != "tensorflow":
        return operator.matmul
    import tensorflow as tf

    # TensorFlow's @ of a tensor and a matrix is a batch of products, far slower than one.
    return lambda x, kernel: tf.tensordot(x, kernel, axes=1)


def _set_equal_weights(case: str, ours: Any, other: Any, rng: np.random.Generator) -> None:
    # A scale of ones would hide one that is not multiplied by.
    weights = [each + 0.1 * rng.normal(size=each.shape) if each.ndim == 1 else each for each in other.get_weights()]
    other.set_weights(weights)
    ours.set_weights(_arranged(case, weights))


def _arranged(case: str, weights: list[Any]) -> list[Any]:
    """Returns the weights of the other side, or their gradients, as ours lays them out."""
    if case != "swiglu" or not weights:
        return weights
    gate, up, down = weights
    return [np.concatenate([gate, up], axis=1), down]


def _check_equal(case: str, ours: list[Any], other: list[Any], precision: str) -> None:
    one, two = (
        [keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")) for each in side] for side in (ours, other)
    )
    for a, b in zip(one, [*two[:2], *_arranged(case, two[2:])], strict=True):
        error = np.abs(a - b).max() / np.abs(b).max()
        if not error <= {"float32": 1e-4, "bfloat16": 5e-2}[precision]:  # an error of NaN is one
            raise AssertionError(f"The two sides differ by {error:.1e} of the largest entry.")
