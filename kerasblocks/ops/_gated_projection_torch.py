"""A SwiGLU gate and the matrix product after it for PyTorch, with a gradient that computes the gate anew."""

from typing import Any

import torch

from kerasblocks.ops._gated_projection_reference import reference
from kerasblocks.ops._torch_modes import by_autograd, forbid_own_gradient


def gated_projection(gate_up: Any, kernel: Any, beta: float) -> Any:
    """Returns the product, or None where only the reference path will do."""
    needed = torch.is_grad_enabled() and (gate_up.requires_grad or kernel.requires_grad)
    # With another slope the reference path widens half precision, which here would take what is saved.
    widens = beta != 1 and gate_up.dtype in (torch.float16, torch.bfloat16)
    if not needed or widens or forbid_own_gradient(gate_up, kernel):
        return None
    apply: Any = _GatedProjection.apply
    return apply(gate_up, kernel, beta)


class _GatedProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Any, kernel: Any, beta: float) -> Any:
        ctx.save_for_backward(gate_up, kernel)
        ctx.beta = beta
        gate, up = gate_up.chunk(2, dim=-1)
        return _swish(gate, beta).mul_(up) @ kernel

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        gate_up, kernel = ctx.saved_tensors
        beta = ctx.beta
        if torch.is_grad_enabled():
            return *by_autograd(
                lambda gate_up, kernel: reference(gate_up, kernel, beta), upstream, gate_up, kernel
            ), None
        gate, up = gate_up.chunk(2, dim=-1)
        swish = _swish(gate, beta)
        by_gate_up = by_kernel = None
        if ctx.needs_input_grad[1]:
            flat = (swish * up).reshape(-1, kernel.shape[0])
            by_kernel = flat.t() @ upstream.reshape(-1, kernel.shape[1])
            del flat
        if ctx.needs_input_grad[0]:
            by_product = upstream @ kernel.t()
            by_gate_up = torch.empty_like(gate_up)
            by_gate, by_up = by_gate_up.chunk(2, dim=-1)
            torch.mul(by_product, swish, out=by_up)
            by_product.mul_(up)
            if beta == 1:
                torch.ops.aten.silu_backward.grad_input(by_product, gate, grad_input=by_gate)
            else:
                argument = gate * beta
                sigmoid = torch.sigmoid(argument)
                # Beyond ±1e4 the sigmoid is 0 or 1, and what may have overflowed is multiplied by 0.
                slope = argument.clamp_(-1e4, 1e4).mul_(1 - sigmoid).add_(1).mul_(sigmoid)
                torch.mul(by_product, slope, out=by_gate)
        return by_gate_up, by_kernel, None


def _swish(gate: Any, beta: float) -> Any:
    return torch.nn.functional.silu(gate) if beta == 1 else torch.sigmoid(gate * beta).mul_(gate)
