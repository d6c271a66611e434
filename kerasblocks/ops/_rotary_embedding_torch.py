"""Rotary embedding for PyTorch: one node of autograd and half the passes: the gradient of a turn is a turn back."""

import functools
from typing import Any

import torch

from kerasblocks.ops._rotary_embedding_reference import tables_of
from kerasblocks.ops._torch_modes import forbid_own_gradient


def rotary_embedding(x: Any, positions: Any, base: float) -> Any:
    """Returns the turned tensor, or None where only the reference path will do."""
    if positions is not None or x.dtype not in (torch.float32, torch.float64) or forbid_own_gradient(x):
        return None
    return _turn(x, base, 1)


def _turn(x: Any, base: float, sign: int) -> Any:
    function: Any = _Turn.apply
    return function(x, base, sign)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any, base: float, sign: int) -> Any:
        ctx.settings = base, sign
        return _turned(x, base, sign)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        base, sign = ctx.settings
        return _turn(upstream, base, -sign), None, None


def _turned(x: Any, base: float, sign: int) -> Any:
    cosines, sines = _tables(x.shape[1], x.shape[-1], base, x.dtype, x.device)
    shape = (x.shape[1], *(1,) * (x.ndim - 3), x.shape[-1] // 2)
    cosines, sines = cosines.view(shape), sines.view(shape)
    outputs = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    for (one, other), output, side in zip(
        (x.chunk(2, -1), x.chunk(2, -1)[::-1]), outputs.chunk(2, -1), (-sign, sign), strict=True
    ):
        torch.mul(one, cosines, out=output).addcmul_(other, sines, value=side)
    return outputs


@functools.lru_cache(maxsize=32)
def _tables(length: int, features: int, base: float, dtype: Any, device: Any) -> tuple[Any, Any]:
    name = str(dtype).removeprefix("torch.")
    cosines, sines = tables_of(length, features, base, name)
    half = features // 2
    return torch.tensor(cosines[:, half:], device=device), torch.tensor(sines[:, half:], device=device)
