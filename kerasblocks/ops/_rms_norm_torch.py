"""RMS normalization for PyTorch: block by block through the cache on a CPU, compiled kernels on a GPU."""

import functools
import importlib.util
import math
from typing import Any

import torch

from kerasblocks.ops._rms_norm_reference import reference
from kerasblocks.ops._torch_modes import by_autograd, forbid_own_gradient

# Elements; below, starting more kernels costs more than the memory traffic that they save.
_LEAST = 1 << 16
_LEAST_WITHOUT_GRADIENT = 1 << 19
_LARGE = 1e10  # the framework's own gradient takes the third power of the inverse of the norm
_BLOCK = 1 << 19  # elements of one block, a few of which fit in the last cache
_TAME = 1e-10, 1e10  # factors whose third power, which the framework's gradient of a layer norm takes, is a number


def rms_norm(x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
    """Returns the normalized tensor, or None where only the reference path will do."""
    if axes != tuple(range(x.ndim - len(axes), x.ndim)) or x.numel() == 0 or forbid_own_gradient(x, scale):
        return None
    gradient = _needs_gradient(x, scale)
    least = _LEAST if gradient else _LEAST_WITHOUT_GRADIENT
    dtype = torch.promote_types(x.dtype, torch.float32)
    frameworks, sizes = torch.nn.functional.rms_norm, x.shape[-len(axes) :]
    if x.device.type == "cuda":
        return _call(_Compiled, x, scale, axes, epsilon, window) if x.numel() >= least and _can_compile() else None
    if x.device.type != "cpu":
        return None
    if x.numel() >= least:
        return _call(_Blockwise, x, scale, axes, epsilon, window)
    if not gradient:
        # The product with a tensor, not with a number, widens half precision in the same pass.
        return frameworks(x * torch.full((1,), window, dtype=dtype), sizes, scale, epsilon * window**2).to(x.dtype)
    if _norm(x) < _LARGE:
        return frameworks(x.to(dtype), sizes, scale, epsilon).to(x.dtype)
    return _call(_Blockwise, x, scale, axes, epsilon, window)


def _call(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


def _norm(x: Any) -> float:
    """Returns the norm of all of x, of which no number is larger; infinite where it overflows."""
    return float(torch.linalg.vector_norm(x.detach(), dtype=torch.promote_types(x.dtype, torch.float32)))


def _needs_gradient(x: Any, scale: Any) -> bool:
    return torch.is_grad_enabled() and (x.requires_grad or (scale is not None and scale.requires_grad))


def _by_autograd(x: Any, scale: Any, settings: tuple[Any, ...], upstream: Any) -> tuple[Any, ...]:
    return by_autograd(lambda *tensors: reference(*tensors, *settings), upstream, x, scale)


class _Blockwise(torch.autograd.Function):
    """Every pass but the first over a block of rows finds it in the cache."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
        width = math.prod(x.shape[axis] for axis in axes)
        rows = x.reshape(-1, width)
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight = None if scale is None else scale.reshape(width)
        y, factors = torch.empty_like(rows), torch.empty((len(rows), 1), dtype=dtype)
        scratch = None if x.dtype == dtype else _scratch(rows, dtype)
        for block, y_block, factor in _blocks(rows, y, factors):
            wide = block if scratch is None else scratch[: len(block)].copy_(block)
            _factor(wide, epsilon, window, factor)
            if weight is None:
                torch.mul(wide, factor, out=y_block)
            else:
                normal = torch.mul(wide, factor, out=y_block if wide is block else wide)
                torch.mul(normal, weight, out=y_block)
        ctx.save_for_backward(x, scale, factors)
        ctx.settings = axes, epsilon, window
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        x, scale, factors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_by_autograd(x, scale, ctx.settings, upstream), None, None, None
        width = math.prod(x.shape[axis] for axis in ctx.settings[0])
        rows, dtype = x.reshape(-1, width).contiguous(), factors.dtype
        weight = torch.ones(width, dtype=dtype) if scale is None else scale.reshape(width)
        if x.dtype == upstream.dtype == dtype and len(rows) <= _rows_of_a_block(rows):
            least, most = torch.aminmax(factors)
            if _TAME[0] < least and most < _TAME[1]:
                by_x, by_scale = _by_layer_norm(
                    rows, weight, factors, upstream.reshape(-1, width).contiguous(), scale is not None
                )
                return by_x.reshape(x.shape), None if scale is None else by_scale.reshape(scale.shape), None, None, None
        by_x, by_weight = torch.empty_like(rows), torch.zeros_like(weight)
        normals, products = _scratch(rows, dtype), _scratch(rows, dtype)
        wides = None if upstream.dtype == dtype else _scratch(rows, dtype)
        ones = torch.ones(len(normals), dtype=dtype)
        for block, by_block, gradient, factor in _blocks(rows, by_x, upstream.reshape(-1, width), factors):
            count = len(block)
            normal = torch.mul(block, factor, out=normals[:count])
            wide = gradient if wides is None else wides[:count].copy_(gradient)
            product = torch.mul(normal, wide, out=products[:count])
            by_weight.addmv_(product.t(), ones[:count])
            along = torch.mv(product, weight).div_(-width).unsqueeze_(1)
            torch.mul(wide, weight, out=product).addcmul_(normal, along)
            torch.mul(product, factor, out=by_block)
        by_scale = None if scale is None else by_weight.reshape(scale.shape)
        return by_x.reshape(x.shape), by_scale, None, None, None


def _by_layer_norm(rows: Any, weight: Any, factors: Any, upstream: Any, with_weight: bool) -> tuple[Any, Any]:
    """Returns the gradients by the framework's kernel for layer norms, of a mean of 0.

    It takes the mean of the gradient along each row away, which is given back here, and reads rows and upstream
    gradient as they lie in memory, so that both must be contiguous.
    """
    width, wanted = rows.shape[1], [True, with_weight, False]
    kernel = torch.ops.aten.native_layer_norm_backward
    by_x, by_weight, _ = kernel(upstream, rows, [width], torch.zeros_like(factors), factors, weight, None, wanted)
    means = torch.mv(upstream, weight).unsqueeze_(1).mul_(factors).div_(width)
    return by_x.add_(means), by_weight


def _blocks(rows: Any, *others: Any) -> Any:
    step = _rows_of_a_block(rows)
    if len(rows) <= step:
        return ((rows, *others),)
    return zip(*(each.split(step) for each in (rows, *others)), strict=True)


def _scratch(rows: Any, dtype: Any) -> Any:
    return torch.empty((min(len(rows), _rows_of_a_block(rows)), rows.shape[1]), dtype=dtype)


def _rows_of_a_block(rows: Any) -> int:
    return max(1, _BLOCK // int(rows.shape[1]))


def _factor(wide: Any, epsilon: float, window: float, out: Any) -> None:
    """Writes 1 / √(mean of squares + ε) of every row to `out`."""
    width = wide.shape[1]
    torch.linalg.vector_norm(wide, dim=1, keepdim=True, out=out)
    if math.isfinite(out.max()):
        out.square_().div_(width).add_(epsilon).rsqrt_()
        return
    torch.linalg.vector_norm(wide * window, dim=1, keepdim=True, out=out)
    out.square_().div_(width).add_(epsilon * window**2).rsqrt_().mul_(window)


class _Compiled(torch.autograd.Function):
    """One kernel forward and two backward, made by inductor."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, axes: tuple[int, ...], epsilon: float, window: float) -> Any:
        width = math.prod(x.shape[axis] for axis in axes)
        y, factors = _compiled(_forward)(x.reshape(-1, width), _flat(scale), epsilon, window)
        ctx.save_for_backward(x, scale, factors)
        ctx.settings = axes, epsilon, window
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        x, scale, factors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_by_autograd(x, scale, ctx.settings, upstream), None, None, None
        width = math.prod(x.shape[axis] for axis in ctx.settings[0])
        by_x, by_scale = _compiled(_backward)(
            x.reshape(-1, width), _flat(scale), factors, upstream.reshape(-1, width), scale is not None
        )
        return by_x.reshape(x.shape), None if scale is None else by_scale.reshape(scale.shape), None, None, None


def _flat(scale: Any) -> Any:
    return None if scale is None else scale.reshape(-1)


def _forward(x: Any, weight: Any, epsilon: float, window: float) -> tuple[Any, Any]:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    factors = window * torch.rsqrt((wide * window).square().mean(1, keepdim=True) + epsilon * window**2)
    normal = wide * factors
    return (normal if weight is None else normal * weight).to(x.dtype), factors


def _backward(x: Any, weight: Any, factors: Any, upstream: Any, with_weight: bool) -> tuple[Any, Any]:
    normal, wide = x.to(factors.dtype) * factors, upstream.to(factors.dtype)
    product = normal * wide
    scaled = wide * weight if with_weight else wide
    along = (normal * scaled).mean(1, keepdim=True)
    return ((scaled - normal * along) * factors).to(x.dtype), product.sum(0) if with_weight else None


@functools.cache
def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=True, fullgraph=True)


@functools.cache
def _can_compile() -> bool:
    return importlib.util.find_spec("triton") is not None
