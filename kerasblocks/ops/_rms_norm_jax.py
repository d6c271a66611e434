"""RMS normalization for JAX: derivatives by hand, whose sums over rows are matrix products on a CPU."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def rms_norm(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
    """Returns the normalized tensor; under `jit` the derivatives are those of `custom_jvp` in both directions."""
    trailing = axes == tuple(range(x.ndim - len(axes), x.ndim))
    if not trailing or scale is None or x.size == 0 or jax.default_backend() != "cpu":
        return None  # XLA's own derivatives are as good there.
    return _normalize(x, scale, len(axes), epsilon, window)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _normalize(x: Any, scale: Any, count: int, epsilon: float, window: float) -> Any:
    # XLA's code for a CPU is slower with the window, which only the rare large input needs.
    mean = _mean(x.astype(scale.dtype), count)
    return jax.lax.cond(
        jnp.isfinite(jnp.max(mean)),
        lambda: _scaled(x, scale, jax.lax.rsqrt(mean + epsilon)),
        lambda: _scaled(x, scale, _factor(x.astype(scale.dtype), count, epsilon, window)),
    )


def _scaled(x: Any, scale: Any, factor: Any) -> Any:
    return (x.astype(scale.dtype) * factor * scale).astype(x.dtype)


def _mean(wide: Any, count: int) -> Any:
    return jnp.mean(jnp.square(wide), axis=tuple(range(-count, 0)), keepdims=True)


def _factor(wide: Any, count: int, epsilon: float, window: float) -> Any:
    return window * jax.lax.rsqrt(_mean(wide * window, count) + epsilon * window**2)


@_normalize.defjvp
def _derivative(
    count: int, epsilon: float, window: float, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Any, Any]:
    (x, scale), (dx, dscale) = primals, tangents
    width = math.prod(scale.shape)
    rows = x.size // width
    wide = x.astype(scale.dtype)
    # Without the barrier XLA works the factor out anew in every loop that uses it.
    factor = jax.lax.optimization_barrier(_factor(wide, count, epsilon, window))  # type: ignore[no-untyped-call]
    normal = (wide * factor).reshape(rows, width)
    change = (dx.astype(scale.dtype) * factor).reshape(rows, width)
    along = jnp.sum(normal * change, axis=-1, keepdims=True) / width
    # Outer products, for their transposes, the sums over rows and columns of the gradient, are matrix products.
    ones = jnp.ones((rows, 1), scale.dtype)
    flat, dflat = scale.reshape(1, width), dscale.reshape(1, width)
    product = change * flat + normal * (jnp.matmul(ones, dflat) - jnp.matmul(along, flat))
    return _scaled(x, scale, factor), product.reshape(x.shape).astype(x.dtype)
