"""A SwiGLU gate and the matrix product after it for PyTorch, with a gradient that computes the gate anew."""

from typing import Any

import torch

from kerasblocks.ops._gated_projection_reference import reference
from kerasblocks.ops._torch_modes import casts_itself, is_traced, is_transformed


def gated_projection(gate_up: Any, kernel: Any, beta: float) -> Any:
    """Returns the product, or None where only the reference path will do."""
    needed = torch.is_grad_enabled() and (gate_up.requires_grad or kernel.requires_grad)
    if not needed or gate_up.device.type == "meta" or is_traced():
        return None
    if casts_itself(gate_up) or is_transformed(gate_up, kernel):
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
            wanted = [each for each in (gate_up, kernel) if each.requires_grad]
            found = iter(torch.autograd.grad(reference(gate_up, kernel, beta), wanted, upstream, create_graph=True))
            return *(next(found) if each.requires_grad else None for each in (gate_up, kernel)), None
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
                sigmoid = torch.sigmoid(gate * beta)
                swish.mul_(beta).addcmul_(swish, sigmoid, value=-1).add_(sigmoid)
                torch.mul(by_product, swish, out=by_gate)
        return by_gate_up, by_kernel, None


def _swish(gate: Any, beta: float) -> Any:
    return torch.nn.functional.silu(gate) if beta == 1 else torch.sigmoid(gate * beta).mul_(gate)
